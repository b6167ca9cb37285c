"""Check an installation: its libraries, devices and models."""
