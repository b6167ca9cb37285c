"""Which events are cut: all, or so many of each label."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from dymn_cli.errors import UsageError
from dymn_cli.results import ClipResult, Event, SourceEvents, WindowTags
from dymn_cli.values import require_choice

if TYPE_CHECKING:
    from dymn_cli.readers.result import Item

__all__ = ["choose", "events_of"]

SAMPLES = ("highest", "lowest", "random", "spread")
OLD_NAMES = {"confidence": "highest", "balanced": "spread"}  # a report is balanced by label
N_BINS = 10


def events_of(item: Item) -> Iterator[Event]:
    """The events of a recording in the order of their starts; tags of windows are events of their length."""
    if isinstance(item, SourceEvents):
        yield from sorted(item.events, key=lambda event: event.start_s)
    elif isinstance(item, ClipResult):
        whole = WindowTags(0.0, item.duration_s, item.tags)
        for window in item.windows or (() if math.isnan(item.duration_s) else (whole,)):
            for tag in window.tags:
                yield Event(
                    item.source, item.channel, window.start_s, window.end_s, tag.index, tag.label, tag.mid,
                    tag.score, tag.score, 1,
                )  # fmt: skip


def choose(events: Iterable[Event], number: int, how: str = "highest", *, seed: int = 0) -> list[Event]:
    """So many events of each label.

    Args:
        events: those of a recording together; memory holds the chosen ones only.
        number: at most so many of each label.
        how: "highest" or "lowest" scores, "random" ones, or "spread": random ones, as many of each tenth of
            the range of scores as there are. "confidence" and "balanced" are old names of the first and the
            last.
        seed: of chance; equal seeds choose equally.

    Returns:
        The chosen ones, recordings in their order, by start.

    Raises:
        UsageError: no such way, or no scores to choose by.
    """
    how = OLD_NAMES.get(how, how)
    require_choice("sample", how, SAMPLES)
    chance = random.Random(seed)
    order: dict[str, int] = {}
    heaps: dict[tuple[str, int], list[tuple[float, int, Event]]] = {}
    for n, event in enumerate(events):
        order.setdefault(event.source, len(order))
        if how != "random" and math.isnan(event.score):
            raise UsageError(f"{event.source}: no scores to choose by", hint="--sample random needs none")
        by_score = {"highest": event.score, "lowest": -event.score}
        key = by_score[how] if how in by_score else chance.random()
        tenth = min(N_BINS - 1, int(event.score * N_BINS)) if how == "spread" else 0
        heap = heaps.setdefault((event.label, tenth), [])
        # -n: of equal ones the first stays; a heap of the chosen has the worst at its top.
        entry = (key, -n, event)
        if len(heap) < number:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)
    chosen = _spread(heaps, number) if how == "spread" else [e for heap in heaps.values() for *_, e in heap]
    return sorted(chosen, key=lambda event: (order[event.source], event.start_s, event.end_s, event.label))


def _spread(heaps: dict[tuple[str, int], list[tuple[float, int, Event]]], number: int) -> list[Event]:
    """One of each tenth in turn, for each label, until there are enough."""
    chosen: list[Event] = []
    for label in dict.fromkeys(label for label, _ in heaps):
        tenths = [sorted(heaps[key], reverse=True) for key in sorted(heaps) if key[0] == label]
        turns = (tenth[n] for n in range(number) for tenth in tenths if n < len(tenth))
        chosen += [event for (_, _, event), _ in zip(turns, range(number), strict=False)]
    return chosen
