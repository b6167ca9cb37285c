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
        self._start = time.monotonic()

    def advance(self, name: str, seconds: float) -> None:
        """One more source is done, with so many seconds of audio."""
        self._seconds += seconds
        elapsed = max(time.monotonic() - self._start, 1e-6)
        audio = f"{self._seconds / 3600:.2f} h of audio, {self._seconds / elapsed:.0f} × real time"
        self._progress.update(self._task, advance=1, audio=audio)

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
