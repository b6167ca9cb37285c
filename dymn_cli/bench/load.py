"""Measure how busy other programs keep the machine, as they spoil its figures.

On Linux the kernel counts the busy time of all processors and of each process; the difference is the time of
other programs. On other systems it is unknown.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["OtherLoad", "descendants"]

IDLE, IOWAIT = 3, 4  # columns of the line "cpu" in /proc/stat, after user, nice, system
BUSY_COLUMNS = 8  # up to steal; the time of guests after it is part of user
OWN_COLUMNS = slice(11, 15)  # utime, stime, cutime, cstime in /proc/PID/stat, after the name


class OtherLoad:
    """The load of other programs since this object was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._others = _others_s()

    def cores(self) -> float | None:
        """Processor cores that other programs kept busy, on average; None if unknown."""
        now = _others_s()
        elapsed = time.monotonic() - self._start
        if now is None or self._others is None or elapsed <= 0:
            return None
        return max(0.0, (now - self._others) / elapsed)


def descendants(pid: int) -> Iterator[int]:
    """The processes that a process started, directly or not; none on other systems than Linux."""
    with contextlib.suppress(OSError, ValueError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text("ascii").split()):
                yield child
                yield from descendants(child)


def _others_s() -> float | None:
    """Processor seconds of all other programs, since some time in the past."""
    try:
        own = sum(map(_ticks_of, (os.getpid(), *descendants(os.getpid()))))
        ticks = list(map(int, Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()[1:]))
    except (OSError, ValueError):
        return None
    busy = sum(n for column, n in enumerate(ticks[:BUSY_COLUMNS]) if column not in (IDLE, IOWAIT))
    return (busy - own) / float(os.sysconf("SC_CLK_TCK"))


def _ticks_of(pid: int) -> int:
    """Ticks of a process and of its children that have ended; 0 if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return 0
    return sum(map(int, text.rpartition(")")[2].split()[OWN_COLUMNS]))
