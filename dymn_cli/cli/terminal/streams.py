"""What a stream is: a terminal or not, with colour or not."""

from __future__ import annotations

import os
from typing import TextIO

__all__ = ["is_terminal", "wants_color"]

DUMB = ("dumb", "unknown")  # values of TERM


def is_terminal(stream: TextIO) -> bool:
    """Whether a person looks at the stream; a closed or missing one nobody looks at."""
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def wants_color(stream: TextIO, choice: str = "auto") -> bool:
    """Whether to colour a stream: by the option, else NO_COLOR, FORCE_COLOR, else if it is a terminal."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") in DUMB:
        return False
    return bool(os.environ.get("FORCE_COLOR")) or is_terminal(stream)
