"""Measuring on a machine that is never quiet: in rounds, everything once a round, ratios within a round.

What else the machine does changes from second to second. Two things are compared by doing them one after the
other, many times, and taking the median of the ratios of neighbours; a figure of its own is the median of the
rounds, and the best and the worst round say how far to trust it. What was disturbed while it ran is done
again, at once and at most twice; the least disturbed counts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from dymn_cli.bench.load import OtherLoad

__all__ = ["Lap", "Spread", "interleaved", "ratio"]

K = TypeVar("K")
T = TypeVar("T")

TRIES = 3
QUIET_CORES = (
    0.15  # that others keep busy; the kernel's clock does not tell less from nothing within a second
)


@dataclass(frozen=True, slots=True)
class Lap(Generic[T]):
    """One contender in one round.

    Args:
        seconds: how long it took.
        value: what it gave.
        other_cores: how many cores other programs kept busy meanwhile; None where it is not known.
    """

    seconds: float
    value: T
    other_cores: float | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """A quantity as the rounds found it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Median and extremes of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def scaled(self, factor: float) -> Spread:
        """In another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)

    def inverse(self, numerator: float = 1.0) -> Spread:
        """From time to rate: `numerator` over each."""
        return Spread(numerator / self.median, numerator / self.high, numerator / self.low)


def interleaved(
    contenders: Mapping[K, Callable[[], T]],
    n_rounds: int,
    *,
    watch: Callable[[], OtherLoad] = OtherLoad,
) -> dict[K, list[Lap[T]]]:
    """The laps of each contender, round by round.

    Every other round goes backwards, so that a machine that slows down evenly favours nobody.

    Args:
        contenders: what to call.
        n_rounds: how often.
        watch: starts to count what others do.
    """
    laps: dict[K, list[Lap[T]]] = {key: [] for key in contenders}
    for n in range(n_rounds):
        keys = list(contenders)
        for key in keys if n % 2 == 0 else reversed(keys):
            laps[key].append(_least_disturbed(contenders[key], watch))
    return laps


def _least_disturbed(contender: Callable[[], T], watch: Callable[[], OtherLoad]) -> Lap[T]:
    tried: list[Lap[T]] = []
    for _ in range(TRIES):
        load = watch()
        start = time.perf_counter()
        value = contender()
        tried.append(Lap(time.perf_counter() - start, value, load.cores()))
        if (tried[-1].other_cores or 0.0) <= QUIET_CORES:
            break
    return min(tried, key=lambda lap: lap.other_cores or 0.0)


def ratio(above: Sequence[float], below: Sequence[float], factor: float = 1.0) -> Spread:
    """`factor` × above / below, as the rounds found it: each round's own ratio counts once."""
    return Spread.of([factor * a / b for a, b in zip(above, below, strict=True)])
