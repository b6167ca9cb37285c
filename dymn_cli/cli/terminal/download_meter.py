"""How far a download is: a bar on a terminal, else a line now and then.

Meter   says nothing
Lines   a plain line after ten seconds, then every half minute
Bar     a bar; drawing it takes rich, which is loaded when it appears
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.progress import span
from dymn_cli.cli.terminal.streams import is_terminal, wants_color
from dymn_cli.values import bytes_text

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress, TaskID

__all__ = ["Bar", "Lines", "Meter", "meter"]

APPEARS_AFTER_S = 0.5
FIRST_LINE_S = 10.0
LINE_EVERY_S = 30.0


class Meter:
    """Passes on what is worth a line, and shows nothing else; use it in a `with` statement.

    Args:
        name: of what is downloaded.
        say: takes a line.
        clock: seconds from anywhere.
    """

    def __init__(
        self, name: str, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self._say = say
        self._clock = clock
        self._start_s = clock()
        self._first: int | None = None

    def note(self, text: str) -> None:
        """Say it."""
        self._say(text if text.startswith(self.name) else f"{self.name}: {text}")

    def at(self, n_bytes: int, total: int | None) -> None:
        """So many bytes are there, of so many if that is known."""
        if (
            self._first is None or n_bytes < self._first
        ):  # an earlier run, or the server, sets where it begins
            self._first = n_bytes
        self.show(n_bytes, total)

    def show(self, n_bytes: int, total: int | None) -> None:
        """Something has changed."""

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return max(self._clock() - self._start_s, 1e-6)

    def line(self, n_bytes: int, total: int | None) -> str:
        """How far it is: "12 MB of 40 MB, 1.2 MB/s, about 23 s left"; what has come whole is then checked."""
        speed = (n_bytes - (self._first or 0)) / self.elapsed_s
        parts = [bytes_text(n_bytes) if total is None else f"{bytes_text(n_bytes)} of {bytes_text(total)}"]
        parts.append(f"{bytes_text(round(speed))}/s")
        if n_bytes == total:
            parts = [bytes_text(n_bytes), "checking it"]
        elif total is not None and speed > 0:
            parts.append(f"about {span((total - n_bytes) / speed)} left")
        return ", ".join(parts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to put away."""


class Lines(Meter):
    """Says a line now and then."""

    _next_s = FIRST_LINE_S

    def show(self, n_bytes: int, total: int | None) -> None:
        """A line, if it is time for one."""
        if self.elapsed_s >= self._next_s:
            self.note(self.line(n_bytes, total))
            self._next_s = self.elapsed_s + LINE_EVERY_S


class Bar(Meter):
    """A bar on stderr that goes when it is done."""

    def __init__(self, name: str, say: Callable[[str], None], *, color: bool) -> None:
        super().__init__(name, say)
        self._color = color
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def show(self, n_bytes: int, total: int | None) -> None:
        """Draw it anew."""
        if self._progress is None:
            if self.elapsed_s < APPEARS_AFTER_S:
                return
            self._progress = self._begin()
        if self._task is None:
            self._task = self._progress.add_task(self.name, total=total)
        self._progress.update(
            self._task, completed=n_bytes, total=total, text=self.line(n_bytes, total), refresh=False
        )

    def _begin(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        console = Console(stderr=True, no_color=not self._color, markup=False, highlight=False, emoji=False)
        progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}", markup=False),
            console=console,
            transient=True,
            redirect_stdout=False,
            # Lines that are written to the terminal meanwhile would tear the bar: they go through it.
            redirect_stderr=is_terminal(sys.stderr),
        )
        self._task = progress.add_task(self.name, total=None, text="")
        progress.start()
        return progress

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()


def meter(name: str, messages: Messages) -> Meter:
    """What suits the run: a bar on a terminal, else lines; nothing with -q or `--progress never`."""
    if messages.quiet or messages.progress_choice == "never":
        return Meter(name, messages.note)
    if not is_terminal(sys.stderr):
        return Lines(name, messages.note)
    return Bar(name, messages.note, color=wants_color(sys.stderr, messages.color))
