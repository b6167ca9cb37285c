"""The panels of the help, by name."""

from __future__ import annotations

__all__ = ["BATCH", "INPUT", "MESSAGES", "MODEL", "OUTPUT", "SELECT", "TIME"]

INPUT = "Input"
MODEL = "Model"
TIME = "Windows"
SELECT = "What to keep"
OUTPUT = "Output"
BATCH = "Many files"
MESSAGES = "Messages"
