"""The panels of the help, by name."""

from __future__ import annotations

__all__ = ["BATCH", "INPUT", "MESSAGES", "MODEL", "OUTPUT", "SELECT", "TIME"]

INPUT, MODEL, TIME, SELECT, OUTPUT, BATCH, MESSAGES = (
    "What to read",
    "Model",
    "Windows",
    "Which tags",
    "Output",
    "Many files",
    "Messages",
)
