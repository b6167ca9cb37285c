"""Signals that end the program, each in order."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["catch_signals"]


def catch_signals() -> None:
    """Let the first Ctrl-C end the run in order, and SIGTERM and SIGHUP leave no temporary file."""
    for name, handler in (("SIGINT", _interrupt), ("SIGTERM", _terminate), ("SIGHUP", _terminate)):
        number = getattr(signal, name, None)
        # What nohup, or a shell that runs us in the background, had us ignore stays ignored.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """First Ctrl-C: end in order. Second: at once."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def _terminate(signum: int, frame: FrameType | None) -> None:
    """Leave through the `with` blocks, so that temporary files go."""
    raise SystemExit(128 + signum)
