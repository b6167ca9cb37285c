"""Measure in rounds on a machine that is never quiet: everything once a round, ratios within a round.

The load of a machine changes from second to second. Two things are compared by running one after the other,
many times, and taking the median of their ratios; a single figure is the median of the rounds, and the best
and the worst round tell how far to trust it. A run that other programs disturbed is repeated at once, at most
twice, and the least disturbed one counts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from dymn_cli.bench.load import OtherLoad

__all__ = ["QUIET_CORES", "Lap", "Spread", "interleaved", "ratio"]

K = TypeVar("K")
T = TypeVar("T")

TRIES = 3
QUIET_CORES = 0.15  # busy with other programs; the kernel's clock cannot tell less from none within a second


@dataclass(frozen=True, slots=True)
class Lap(Generic[T]):
    """One contender in one round.

    Args:
        seconds: that it took.
        value: that it returned.
        other_cores: cores that other programs kept busy meanwhile; None if unknown.
    """

    seconds: float
    value: T
    other_cores: float | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """A quantity over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The median and extremes of one or more values."""
        return cls(statistics.median(values), min(values), max(values))

    def scaled(self, factor: float) -> Spread:
        """The quantity in another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)

    def inverse(self, numerator: float = 1.0) -> Spread:
        """A rate from a time: `numerator` over each."""
        return Spread(numerator / self.median, numerator / self.high, numerator / self.low)


def interleaved(
    contenders: Mapping[K, Callable[[], T]],
    n_rounds: int,
    *,
    watch: Callable[[], OtherLoad] = OtherLoad,
) -> dict[K, list[Lap[T]]]:
    """The laps of each contender, round by round.

    Every other round runs backwards, so that a machine that slows down steadily favours nobody.

    Args:
        contenders: what to call.
        n_rounds: how often.
        watch: starts to measure the load of other programs.
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
    """`factor` × above / below over the rounds, from the ratio within each."""
    return Spread.of([factor * a / b for a, b in zip(above, below, strict=True)])
