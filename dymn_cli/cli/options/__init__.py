"""The options of the commands: declared once, in groups."""
