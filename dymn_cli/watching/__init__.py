"""Folders that grow: which of their files are complete and wait to be analysed."""
