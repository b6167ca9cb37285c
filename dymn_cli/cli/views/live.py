"""What is heard live, on a terminal: the newest scores, and below them the latest events."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dymn_cli.writers.spelling import visible

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rich.console import Console

    from dymn_cli.live.listener import Heard, LiveEvent
    from dymn_cli.results import Tag

__all__ = ["LiveTable"]

N_EVENTS = 8
BAR = 24


class LiveTable:
    """Draws; to be used in a `with` statement.

    Args:
        console: of standard output.
        precision: decimals of a score.
        hint: the line below, such as how to stop.
    """

    def __init__(self, console: Console, precision: int, hint: str) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=False)
        self._precision, self._hint = precision, hint
        self._events: deque[LiveEvent] = deque(maxlen=N_EVENTS)
        self._tags: tuple[Tag, ...] = ()
        self._clock = ""

    def tags(self, heard: Heard, tags: tuple[Tag, ...]) -> None:
        """Show the scores of the newest window."""
        self._tags = tags
        self._clock = f"{heard.clock.astimezone():%H:%M:%S}  {_length(heard.window.end_s)}"
        self._draw()

    def event(self, live: LiveEvent) -> None:
        """Show an event: it replaces what was known of it."""
        known = [at for at, other in enumerate(self._events) if other.number == live.number]
        if known:
            self._events[known[0]] = live
        else:
            self._events.append(live)

    def _draw(self) -> None:
        table = Table.grid(padding=(0, 2))
        for tag in self._tags:
            bar = "━" * round(tag.score * BAR)
            table.add_row(
                Text(f"  {visible(tag.label)}"),
                Text(bar.ljust(BAR), "cyan"),
                f"{tag.score:.{self._precision}f}",
            )
        events = Table.grid(padding=(0, 2))
        for live in reversed(self._events):
            event, is_over = live.event, live.phase == "end"
            lasts = f"{event.end_s - event.start_s:.1f} s" if is_over else "now"
            events.add_row(
                f"  {live.clock.astimezone():%H:%M:%S}",
                lasts,
                Text(visible(event.label), "" if is_over else "bold"),
                f"{event.score:.{self._precision}f}",
            )
        self._live.update(
            Group(Text(self._clock, "bold"), table, Text(), events, Text(self._hint, "dim")), refresh=True
        )

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)


def _length(seconds_heard: float) -> str:
    minutes, rest = divmod(round(seconds_heard), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} heard"
