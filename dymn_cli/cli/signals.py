"""Signals that end the program, each in order."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["catch_signals", "each_signal", "stop_on_signals", "told_to_end"]

_came: list[int] = []  # signals that the handlers of `catch_signals` have answered


def each_signal() -> Iterator[int]:
    """The signals of this system, without those that nohup or a shell in the background had us ignore."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            yield number


def catch_signals() -> None:
    """Let the first Ctrl-C end the run in order, and SIGTERM and SIGHUP leave no temporary file."""
    for number in each_signal():
        signal.signal(number, _interrupt if number == signal.SIGINT else _terminate)


def told_to_end() -> int | None:
    """The signal that began the end of the program, or None.

    Compiled code may run a handler and raise an error of its own in place of the handler's exception: usearch
    does at times.
    """
    return _came[0] if _came else None


@contextmanager
def stop_on_signals(stop: Callable[[], object]) -> Iterator[list[int]]:
    """Let the first Ctrl-C, SIGTERM or SIGHUP call `stop`, and the second end the program at once.

    Gives the signals that came.
    """
    came: list[int] = []
    before = {}

    def end(number: int, frame: FrameType | None) -> None:
        if came:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        came.append(number)
        stop()

    for number in each_signal():
        try:
            before[number] = signal.signal(number, end)
        except ValueError:  # not the main thread: whoever started it handles signals
            break
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """First Ctrl-C: end in order. Second: at once."""
    _came.append(signum)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def _terminate(signum: int, frame: FrameType | None) -> None:
    """Leave through the `with` blocks, so that temporary files go."""
    _came.append(signum)
    raise SystemExit(128 + signum)
