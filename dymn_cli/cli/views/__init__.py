"""How results are shown, by command."""
