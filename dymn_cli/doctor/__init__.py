"""The checks of an installation: self-tests of models, and the devices there are."""
