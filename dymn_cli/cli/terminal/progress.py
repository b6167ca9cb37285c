"""How far something is: a bar on a terminal, a line now and then in a log, or nothing.

    Progress   knows how far it is and says it in words: `Tally` of files and audio, `Download` of bytes,
               `Share` of whatever takes long
    Display    shows that: `Display` itself nothing, `Lines` lines, `Bar` a bar

`Messages.display` chooses the display that suits the run.
"""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from dymn_cli.cli.terminal.streams import is_terminal
from dymn_cli.values import bytes_text

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress as RichProgress

__all__ = ["Bar", "Display", "Download", "Lines", "Progress", "Share", "Tally", "span"]

FIRST_LINE_S = 10.0
LINE_EVERY_S = 30.0
LINES_THIN_OUT = 1 / 20  # of the time that has passed: a log of days has a line every few hours
BAR_APPEARS_AFTER_S = 1.0  # what is done by then needs no bar
BAR_WIDTH = 24


class Display:
    """Shows nothing."""

    def show(self, progress: Progress) -> None:
        """Something has changed."""

    def close(self) -> None:
        """It is over."""


class Lines(Display):
    """Says a line after ten seconds, then every half minute, and more rarely the longer it takes.

    Args:
        say: takes a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._next_s = FIRST_LINE_S

    def show(self, progress: Progress) -> None:
        """A line, if it is time for one."""
        elapsed = progress.elapsed_s
        if elapsed >= self._next_s:
            self._say(progress.line())
            self._next_s = elapsed + max(LINE_EVERY_S, elapsed * LINES_THIN_OUT)


class Bar(Display):
    """A bar on stderr that goes when it is done. Loads rich when it appears.

    Args:
        color: whether in colours.
        width: of the bar itself.
    """

    def __init__(self, *, color: bool, width: int = BAR_WIDTH) -> None:
        self._color, self._width = color, width
        self._drawn: RichProgress | None = None

    def show(self, progress: Progress) -> None:
        """Draw it anew."""
        if progress.elapsed_s < BAR_APPEARS_AFTER_S:
            return
        if self._drawn is None:
            self._drawn = self._begin(progress)
        self._drawn.update(
            self._drawn.task_ids[0],
            description=progress.label,
            total=progress.total,
            completed=progress.completed,
            text=progress.short(),
        )

    def _begin(self, progress: Progress) -> RichProgress:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        console = Console(stderr=True, no_color=not self._color, markup=False, highlight=False, emoji=False)
        drawn = RichProgress(
            *([TextColumn("{task.description}", markup=False)] if progress.label else []),
            BarColumn(bar_width=self._width),
            TextColumn("{task.fields[text]}", markup=False),
            console=console,
            transient=True,
            redirect_stdout=False,
            # Lines that are written to the terminal meanwhile would tear the bar: they go through it.
            redirect_stderr=is_terminal(sys.stderr),
        )
        drawn.add_task(progress.label, total=progress.total, text=progress.short())
        drawn.start()
        return drawn

    def close(self) -> None:
        """Take it away."""
        if self._drawn is not None:
            self._drawn.stop()


class Progress(ABC):
    """How far something is; use it in a `with` statement.

    Args:
        display: shows it; None for nothing.
        clock: seconds from anywhere.

    Attributes:
        label: stands before a bar.
        total: how much there is to do, or None where that is not known.
    """

    label: str = ""
    total: float | None = None

    def __init__(self, display: Display | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._display, self._clock = display or Display(), clock
        self._start_s = clock()

    @property
    @abstractmethod
    def completed(self) -> float:
        """How much of the total is done."""

    @abstractmethod
    def line(self) -> str:
        """How far it is, in a line."""

    @abstractmethod
    def short(self) -> str:
        """The same beside a bar: within 50 columns or so."""

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return max(self._clock() - self._start_s, 1e-6)

    def show(self) -> None:
        """Something has changed."""
        self._display.show(self)

    def __enter__(self) -> Self:
        self._start_s = self._clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.close()


class Tally(Progress):
    """Counts files and seconds of audio.

    Args:
        total: how many files there are, or None where that is not known.
        display: see `Progress`.
        clock: see `Progress`.
    """

    def __init__(
        self,
        total: int | None,
        display: Display | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(display, clock)
        self.total = total
        self._is_alone = total == 1
        self.n_kept = 0
        self.n_done = 0
        self.n_failed = 0
        self._seconds = 0.0
        self._under_way: dict[str, tuple[float, float | None]] = {}  # seconds done, and of all if known

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
        if self._is_alone:
            self.total = 1 if of_s else None  # of a pipe nobody knows how much is to come
        self._under_way[name] = (seconds, of_s)
        self.show()

    # ------------------------------------------------------------------ what it knows

    @property
    def completed(self) -> float:
        """Files, whole ones unless there is one only."""
        return self.n_files if self._is_alone else self.n_kept + self.n_done

    @property
    def n_files(self) -> float:
        """Files that are through, those of earlier runs and parts of those under way included."""
        shares = (min(seconds / of_s, 1.0) if of_s else 0.0 for seconds, of_s in self._under_way.values())
        return self.n_kept + self.n_done + sum(shares)

    @property
    def audio_s(self) -> float:
        """Seconds of audio of this run."""
        return self._seconds + sum(seconds for seconds, _ in self._under_way.values())

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest will take if it goes on as it did: other files, or a long one under way."""
        through = self.n_files - self.n_kept
        if self.total is None or not through:
            return None
        by_files = max(self.total - self.n_files, 0.0) * self.elapsed_s / through
        rest_s = sum(max((of_s or 0.0) - seconds, 0.0) for seconds, of_s in self._under_way.values())
        return max(by_files, rest_s * self.elapsed_s / self.audio_s if self.audio_s else 0.0)

    @property
    def _pace(self) -> list[str]:
        """Audio and speed, "0.42 h of audio, 380 × real time", and how many files have failed."""
        pace = f"{self._hours} of audio, {self._speed} × real time"
        return [pace, *([f"{self.n_failed} failed"] if self.n_failed else [])]

    @property
    def _hours(self) -> str:
        hours = self.audio_s / 3600
        return f"{hours:.2f} h" if hours < 10 else f"{hours:.1f} h"

    @property
    def _speed(self) -> str:
        speed = self.audio_s / self.elapsed_s
        return f"{speed:.1f}" if speed < 10 else f"{speed:.0f}"

    def line(self) -> str:
        """How far it is: "120 of 2000 files, 0.41 h of audio, 74 × real time, about 5.2 min left"."""
        of = "" if self.total is None else f" of {self.total}"
        done = [f"{self.n_kept + self.n_done}{of} files"]
        if self._is_alone:
            done = [f"{self.n_files:.0%} done"] if self.total else []
        left = self.left_s
        return ", ".join([*done, *self._pace, *([f"about {span(left)} left"] if left else [])])

    def short(self) -> str:
        """The same beside a bar."""
        of = "?" if self.total is None else self.total
        count = "" if self._is_alone else f"{self.completed:.0f}/{of} "
        left = self.left_s
        time_text = f"about {span(left)} left" if left else f"{span(self.elapsed_s)} so far"
        return count + ", ".join([*self._pace, time_text])

    def summary(self) -> str:
        """How it went: "2000 files, 5.56 h of audio in 3.2 min (103 × real time), 1 failed"."""
        failed = f", {self.n_failed} failed" if self.n_failed else ""
        took = f"in {span(self.elapsed_s)} ({self._speed} × real time)"
        return f"{self.n_done} files, {self._hours} of audio {took}{failed}"


class Download(Progress):
    """Counts bytes of a file that comes, and passes on what is worth a line.

    Args:
        name: of what is downloaded.
        say: takes a line.
        display: see `Progress`.
        clock: see `Progress`.
    """

    def __init__(
        self,
        name: str,
        say: Callable[[str], None],
        display: Display | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(display, clock)
        self.label = name
        self._say = say
        self._n_bytes = 0
        self._first: int | None = None  # an earlier run, or the server, sets where it begins

    def note(self, text: str) -> None:
        """Say it."""
        self._say(text if text.startswith(self.label) else f"{self.label}: {text}")

    def at(self, n_bytes: int, total: int | None) -> None:
        """So many bytes are there, of so many if that is known."""
        self._first = n_bytes if self._first is None else min(self._first, n_bytes)
        self._n_bytes, self.total = n_bytes, total
        self.show()

    @property
    def completed(self) -> float:
        """Bytes that are there."""
        return self._n_bytes

    def line(self) -> str:
        """How far it is: "mn10_as: 12 MB of 40 MB, 1.2 MB/s, about 23 s left"."""
        return f"{self.label}: {self.short()}"

    def short(self) -> str:
        """The same without the name; what has come whole is then checked."""
        here, total = bytes_text(self._n_bytes), self.total
        if self._n_bytes == total:
            return f"{here}, checking it"
        speed = (self._n_bytes - (self._first or 0)) / self.elapsed_s
        of = "" if total is None else f" of {bytes_text(round(total))}"
        parts = [f"{here}{of}", f"{bytes_text(round(speed))}/s"]
        if total is not None and speed > 0:
            parts.append(f"about {span((total - self._n_bytes) / speed)} left")
        return ", ".join(parts)


class Share(Progress):
    """Shows which share is done of one thing after another."""

    total = 1.0

    def __init__(self, display: Display | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(display, clock)
        self._share = self._since_s = 0.0

    def at(self, doing: str, share: float) -> None:
        """So much of it is done, from 0 to 1."""
        if doing != self.label:
            self.label, self._since_s = doing, self.elapsed_s
        self._share = share
        self.show()

    @property
    def completed(self) -> float:
        """The share."""
        return self._share

    def line(self) -> str:
        """How far it is: "comparing embeddings: 45%, about 3.0 min left"."""
        return f"{self.label}: {self.short()}"

    def short(self) -> str:
        """The same without what is done."""
        took_s = self.elapsed_s - self._since_s
        left = f", about {span(took_s * (1 - self._share) / self._share)} left" if self._share else ""
        return f"{self._share:.0%}{left}"


def span(seconds: float) -> str:
    """A time for people: "8 s", "3.2 min", "5.6 h", "1.5 days"."""
    for size, unit, most in ((1, "s", 100), (60, "min", 100), (3600, "h", 48)):
        if seconds / size < most:
            value = seconds / size
            return f"{value:.0f} {unit}" if size == 1 and value >= 10 else f"{value:.1f} {unit}"
    return f"{seconds / 86_400:.1f} days"
