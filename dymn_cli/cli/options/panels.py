"""The panels of the help, by name."""

from __future__ import annotations

__all__ = ["BATCH", "INPUT", "MODEL", "OUTPUT", "SELECT", "TALK", "TIME"]

INPUT, MODEL, TIME, SELECT, OUTPUT, BATCH, TALK = (
    "What to read",
    "Model",
    "Windows",
    "Which tags",
    "Output",
    "Many files",
    "Messages",
)
