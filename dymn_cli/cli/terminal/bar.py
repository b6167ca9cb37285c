"""The progress bar on a terminal: files, hours of audio, how many times real time, and what is left."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from dymn_cli.cli.terminal.progress import Tally, span
from dymn_cli.cli.terminal.streams import is_terminal

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Bar"]

APPEARS_AFTER_S = 1.0  # what is done by then needs no bar


class Bar(Tally):
    """A bar on stderr that goes when it is done; use it in a `with` statement.

    Args:
        total: how many files there are, or None.
        color: whether in colours.
    """

    def __init__(self, total: int | None, *, color: bool) -> None:
        super().__init__(total)
        console = Console(stderr=True, no_color=not color, markup=False, highlight=False, emoji=False)
        self._progress = Progress(
            BarColumn(bar_width=24),
            *([] if total == 1 else [MofNCompleteColumn()]),
            TextColumn("{task.fields[text]}", markup=False),
            console=console,
            transient=True,
            redirect_stdout=False,
            # Lines that are written to the terminal meanwhile would tear the bar: they go through it.
            redirect_stderr=is_terminal(sys.stderr),
        )
        self._task = self._progress.add_task("", total=total, text="")
        self._is_shown = False

    def show(self) -> None:
        """Draw it anew."""
        if self.elapsed_s < APPEARS_AFTER_S:
            return
        if not self._is_shown:
            self._is_shown = True
            self._progress.start()
        failed = f", {self.n_failed} failed" if self.n_failed else ""
        left = self.left_s
        time = f"about {span(left)} left" if left else f"{span(self.elapsed_s)} so far"
        self._progress.update(
            self._task, total=self.total, completed=self._completed, text=f"{self.pace}{failed}, {time}"
        )

    @property
    def _completed(self) -> float:
        # Beside a bar that counts files stand whole ones; that of a single file shows how far it is.
        return self.n_files if self.total == 1 else self.n_kept + self.n_done

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_shown:
            self._progress.stop()
