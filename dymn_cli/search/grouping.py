"""Groups of near-duplicates: every two rows of a group are at least as alike as the threshold says.

All pairs are compared, block by block, and each row keeps the 64 most similar others. Pairs are then joined
from the most similar on, ties by row; two groups become one only if each row of one is alike to each of the
other (complete linkage), so a chain of small steps never joins what is unlike.

The automatic threshold lies two thirds of the way from the similarity that 1 in 100 random pairs of the
library exceeds to 1, but not above 0.95. One in 100, because a library with many copies has them among
rarer pairs. Of fewer than 200 rows nothing is usual: the threshold is 0.77. All pairs are compared: 100,000
rows take minutes, a million hours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.errors import UsageError
from dymn_cli.search.index import BLOCK_ROWS, Index
from dymn_cli.search.similarity import similarity

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Group", "Grouping", "group_duplicates"]

NEIGHBOURS = 64
SIDE_ROWS = 2_048
SHARE = 0.01
WAY = 2 / 3
HIGHEST = 0.95
FEW_ROWS, OF_FEW = 200, 0.77


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are alike.

    Args:
        rows: their numbers, the first one of the library first.
        similarity: of each to the first.
        least: the similarity of the two that are the least alike.
    """

    rows: tuple[int, ...]
    similarity: tuple[float, ...]
    least: float


@dataclass(frozen=True, slots=True)
class Grouping:
    """All groups of a library, and the threshold that they were found with."""

    threshold: float
    groups: tuple[Group, ...]


def _automatic_threshold(index: Index) -> float:
    """The threshold that fits a library."""
    library = index.library
    if len(index) < FEW_ROWS:
        return OF_FEW
    usual = index.whitening.exceeded_by(library.matrix, SHARE, library.name)
    return round(min(usual + WAY * (1 - usual), HIGHEST), 3)


def group_duplicates(index: Index, threshold: float | None = None) -> Grouping:
    """Find groups of near-duplicates; rows of one recording are never paired with each other.

    Raises:
        UsageError: a threshold that is not above 0 and at most 1.
    """
    if threshold is None:
        threshold = _automatic_threshold(index)
    if not 0 < threshold <= 1:
        raise UsageError(f"--threshold {threshold:g}", hint="more than 0, at most 1; or auto")
    groups: dict[int, list[int]] = {}
    group_of: dict[int, int] = {}
    for one, other in _pairs(index, threshold):
        left, right = group_of.get(one, one), group_of.get(other, other)
        if left == right:
            continue
        members, others = groups.get(left, [left]), groups.get(right, [right])
        if _products(index, members, others).min() < threshold:
            continue
        keep, gone = min(left, right), max(left, right)
        groups[keep] = sorted(members + others)
        groups.pop(gone, None)
        group_of.update(dict.fromkeys(groups[keep], keep))
    found = []
    for rows in groups.values():
        products = _products(index, rows, rows)
        to_first = tuple(round(float(value), 5) for value in products[0])
        found.append(Group(tuple(rows), to_first, round(float(products.min()), 5)))
    return Grouping(threshold, tuple(sorted(found, key=lambda group: group.rows)))


def _white(index: Index, rows: list[int] | slice) -> NDArray[np.float32]:
    return index.whitening(np.asarray(index.library.matrix[rows]), index.library.name)


def _products(index: Index, rows: list[int], others: list[int]) -> NDArray[np.float32]:
    return similarity(_white(index, rows) @ _white(index, others).T)


def _pairs(index: Index, threshold: float) -> list[tuple[int, int]]:
    """Pairs above the threshold, the most similar first."""
    places, n = index.library.places, len(index)
    numbers: dict[str, int] = {}
    source = np.array([numbers.setdefault(place.source, len(numbers)) for place in places])
    found: dict[tuple[int, int], float] = {}
    for start in range(0, n, SIDE_ROWS):
        side = _white(index, slice(start, start + SIDE_ROWS))
        best: list[list[tuple[float, int]]] = [[] for _ in side]
        for at in range(0, n, BLOCK_ROWS):
            scores = similarity(side @ _white(index, slice(at, at + BLOCK_ROWS)).T)
            scores[source[start : start + SIDE_ROWS, None] == source[None, at : at + BLOCK_ROWS]] = -1
            for row, other in zip(*np.nonzero(scores >= threshold), strict=True):
                best[row].append((-float(scores[row, other]), at + int(other)))
            best = [sorted(row)[:NEIGHBOURS] for row in best]
        for number, row_best in enumerate(best, start=start):
            for score, other in row_best:
                found[min(number, other), max(number, other)] = score
    return [pair for pair, _ in sorted(found.items(), key=lambda item: (item[1], item[0]))]
