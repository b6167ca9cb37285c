"""The progress bar: files, hours of audio, how many times real time, and what is left."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Bar"]


class Bar:
    """A bar on stderr; use it in a `with` statement."""

    def __init__(self, total: int | None, *, color: bool) -> None:
        console = Console(stderr=True, no_color=not color, markup=False, highlight=False, emoji=False)
        self._progress = RichProgress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[audio]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=is_same_terminal(),
        )
        self._task = self._progress.add_task("", total=total, audio="")
        self._seconds = 0.0
        self._under_way: dict[str, float] = {}
        self._start = time.monotonic()

    def within(self, name: str, seconds: float) -> None:
        """So many seconds of a source are done, and it goes on."""
        self._under_way[name] = seconds
        self._show(0)

    def advance(self, name: str, seconds: float) -> None:
        """One more source is done, with so many seconds of audio."""
        self._under_way.pop(name, None)
        self._seconds += seconds
        self._show(1)

    def _show(self, n_done: int) -> None:
        elapsed = max(time.monotonic() - self._start, 1e-6)
        total_s = self._seconds + sum(self._under_way.values())
        audio = f"{total_s / 3600:.2f} h of audio, {total_s / elapsed:.0f} × real time"
        self._progress.update(self._task, advance=n_done, audio=audio)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


def is_same_terminal() -> bool:
    """Whether lines that are written to stderr would tear the bar, and must go through it."""
    return sys.stderr.isatty()
