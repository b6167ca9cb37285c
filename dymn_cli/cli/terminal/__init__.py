"""Streams, messages, progress and tables on a terminal."""
