"""How far a run is, how fast it goes and what is left: for those who watch, and for those who read the log.

What is told is the same, how it is shown differs:

Tally   counts, and shows nothing
Lines   a plain line now and then, where stderr is no terminal and that is asked for
Bar     a bar on a terminal (`dymn_cli.cli.terminal.bar`, since drawing it takes another library)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Lines", "Tally", "span"]

FIRST_LINE_S = 10.0
LINE_EVERY_S = 30.0
LINES_THIN_OUT = 1 / 20  # of the time that has passed: a log of days has a line every few hours


class Tally:
    """Counts files and seconds of audio; use it in a `with` statement.

    Args:
        total: how many files there are, or None where that is not known.
        clock: seconds from anywhere.
    """

    def __init__(self, total: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self.n_kept = 0
        self.n_done = 0
        self.n_failed = 0
        self._seconds = 0.0
        self._under_way: dict[str, tuple[float, float]] = {}  # seconds, and share of the file
        self._clock = clock
        self._start = clock()

    # ------------------------------------------------------------------ what it is told

    def kept(self) -> None:
        """One more file was done in an earlier run."""
        self.n_kept += 1
        self.show()

    def advance(self, name: str, seconds: float, *, failed: bool = False) -> None:
        """One more file is done, with so many seconds of audio, or has failed."""
        self._under_way.pop(name, None)
        self._seconds += seconds
        self.n_done += 1
        self.n_failed += failed
        self.show()

    def within(self, name: str, seconds: float, of_s: float | None = None) -> None:
        """So many seconds of a file are done, of so many if that is known, and it goes on."""
        self._under_way[name] = (seconds, min(seconds / of_s, 1.0) if of_s else 0.0)
        self.show()

    def show(self) -> None:
        """Something has changed."""

    # ------------------------------------------------------------------ what it knows

    @property
    def n_files(self) -> float:
        """Files that are through, those of earlier runs and parts of those under way included."""
        return self.n_kept + self.n_done + sum(share for _, share in self._under_way.values())

    @property
    def audio_s(self) -> float:
        """Seconds of audio of this run."""
        return self._seconds + sum(seconds for seconds, _ in self._under_way.values())

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return max(self._clock() - self._start, 1e-6)

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest will take if it goes on as it did."""
        through = self.n_files - self.n_kept
        if self.total is None or not through:
            return None
        return max(self.total - self.n_files, 0.0) * self.elapsed_s / through

    @property
    def pace(self) -> str:
        """Audio and speed: "0.42 h of audio, 380 × real time"."""
        hours = self.audio_s / 3600
        digits = 2 if hours < 10 else 1
        return f"{hours:.{digits}f} h of audio, {self._speed} × real time"

    @property
    def _speed(self) -> str:
        speed = self.audio_s / self.elapsed_s
        return f"{speed:.1f}" if speed < 10 else f"{speed:.0f}"

    def line(self) -> str:
        """How far it is, in a line."""
        of = "" if self.total is None else f" of {self.total}"
        left = self.left_s
        parts = [
            f"{self.n_files:.0%} done" if self.total == 1 else f"{self.n_kept + self.n_done}{of} files",
            self.pace,
            *([f"{self.n_failed} failed"] if self.n_failed else []),
            *([f"about {span(left)} left"] if left else []),
        ]
        return ", ".join(parts)

    def summary(self) -> str:
        """How it went: "2000 files, 5.56 h of audio in 3.2 min (103 × real time), 1 failed"."""
        hours, digits = self.audio_s / 3600, 2 if self.audio_s < 36_000 else 1
        text = f"{self.n_done} files, {hours:.{digits}f} h of audio in {span(self.elapsed_s)}"
        failed = f", {self.n_failed} failed" if self.n_failed else ""
        return f"{text} ({self._speed} × real time){failed}"

    # ------------------------------------------------------------------ while it goes on

    def __enter__(self) -> Self:
        self._start = self._clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to put away."""


class Lines(Tally):
    """Says a line after ten seconds, then every half minute, and more rarely the longer it takes.

    Args:
        total: how many files there are, or None.
        say: takes a line.
        clock: seconds from anywhere.
    """

    def __init__(
        self, total: int | None, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(total, clock)
        self._say = say
        self._next_s = FIRST_LINE_S

    def show(self) -> None:
        """A line, if it is time for one."""
        elapsed = self.elapsed_s
        if elapsed >= self._next_s:
            self._say(self.line())
            self._next_s = elapsed + max(LINE_EVERY_S, elapsed * LINES_THIN_OUT)


def span(seconds: float) -> str:
    """A time for people: "8 s", "3.2 min", "5.6 h", "1.5 days"."""
    for size, unit, most in ((1, "s", 100), (60, "min", 100), (3600, "h", 48)):
        if seconds / size < most:
            value = seconds / size
            return f"{value:.0f} {unit}" if size == 1 and value >= 10 else f"{value:.1f} {unit}"
    return f"{seconds / 86_400:.1f} days"
