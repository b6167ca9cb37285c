"""Groups of near-duplicates: every two rows of a group are as alike as the threshold says, or the same sound.

Rows that are equal are grouped first, and count as one. All pairs of the others are compared, block by block,
and each row keeps the 32 most similar ones behind it. Pairs are then joined from the most similar on, ties
by row; two groups become one only if each row of one is alike to each of the other (complete linkage), so a
chain of small steps never joins what is unlike. Memory: a block, and at most 1.5 KB a row.

Where recordings can be compared themselves (see `dymn_cli.search.same_sound`), pairs below the threshold
count, too, if they are the same sound: those that are as alike as ten times as many wrong pairs are, one for
each row, or 5,000 pairs in a small library. That finds copies whose embedding a coder has moved away.

100,000 rows take minutes and a million hours, unless the index has a graph (`dymn_cli.search.approximate`):
then only the 32 rows that it finds nearest to each are compared.

The automatic threshold allows one wrong pair for every ten rows, so 1 in 5 n of all pairs. Let u be the
similarity that a share of SHARE of the random pairs of the library exceeds. For a share ten times smaller,
what is left to 1 shrinks by SHRINK, so the threshold is 1 - (1 - u) · SHRINK ^ log10(SHARE · 5 n); but not
above HIGHEST, because in a library of nothing but copies no pair is random. SHRINK was measured by
`python -m dymn_cli.bench.retrieval` on half of 858 recordings of 56 sources, with an earlier model; the one
that ships gives 0.57 there. In the other half, 429 recordings and copies of 149 of them, the threshold was
0.803 with the model that ships (0.792 calibrated for the first half) and found

    MP3 of 32 kbit/s 62 %, a tenth cut off at each end 86 %, +6 dB 98 %, -6 dB and ±1 semitone 100 %

of the copies, and 147 of 844,734 wrong pairs, among them sounds that two sources have from the same hand;
with the sound of likely pairs, 95 %, 98 %, 99 %, 100 % and 165 pairs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.errors import UsageError
from dymn_cli.search.index import Index, best_of
from dymn_cli.search.similarity import BLOCK_ROWS, similarity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.search.matrix import Place

__all__ = ["Group", "Grouping", "automatic_threshold", "group_duplicates", "likely"]

NEIGHBOURS = 32
SIDE_ROWS = 2_048
WRONG_EVERY = 10
SHARE = 0.02
SHRINK = 0.55
COMPARED = 5_000
HIGHEST = 0.95
FEW_ROWS, OF_FEW = 50, 0.85
"""Of fewer rows, nothing is usual."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are alike.

    Args:
        rows: their numbers, the first one of the library first.
        similarity: of each to the first.
        least: the similarity of the two that are the least alike.
        same_sound: whether each is the same sound as the first; None if unknown, empty if none was compared.
    """

    rows: tuple[int, ...]
    similarity: tuple[float, ...]
    least: float
    same_sound: tuple[bool | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Grouping:
    """All groups of a library, and the threshold that they were found with."""

    threshold: float
    groups: tuple[Group, ...]


def automatic_threshold(index: Index) -> float:
    """The threshold that fits a library."""
    if len(index) < FEW_ROWS:
        return OF_FEW
    usual = index.whitening.exceeded_by(index.library.matrix, SHARE, index.library.name)
    decades = math.log10(SHARE * WRONG_EVERY / 2 * len(index))
    return round(min(1 - (1 - usual) * math.pow(SHRINK, decades), HIGHEST), 3)


def likely(index: Index, threshold: float) -> float:
    """The similarity from which on pairs below a threshold are compared by their sound.

    Ten times as many wrong pairs reach it as reach the threshold, but 5,000 pairs of a small library do.
    """
    least = 1 - (1 - threshold) / SHRINK
    n_pairs = len(index) * (len(index) - 1) / 2
    if len(index) < COMPARED:
        share = min(1.0, COMPARED / max(n_pairs, 1))
        least = min(least, index.whitening.exceeded_by(index.library.matrix, share, index.library.name))
    return max(0.0, least)


def group_duplicates(
    index: Index,
    threshold: float | None = None,
    *,
    same: Callable[[Place, Place], bool | None] | None = None,
    progress: Callable[[str, float], None] = lambda doing, share: None,
) -> Grouping:
    """Find groups of near-duplicates; rows of one recording are never paired with each other.

    Args:
        index: of the library.
        threshold: the lowest similarity of two rows of a group; None for one that fits the library.
        same: tells of a likely pair below the threshold if it is the same sound, such as a `SameSound`.
        progress: is told what is done, and which share of it.

    Raises:
        UsageError: a threshold that is not above 0 and at most 1.
    """
    if threshold is None:
        threshold = automatic_threshold(index)
    if not 0 < threshold <= 1:
        raise UsageError(f"--threshold {threshold:g}", hint="more than 0, at most 1; or auto")
    alike = _Alike(index, threshold, same)
    source = _sources(index)
    first, equal = _equal_rows(index, source)
    groups = {row: others for row, others in equal.items() if len(others) > 1}
    group_of = {member: row for row, others in groups.items() for member in others}
    pairs, scores = _pairs(index, alike.least, first, source, progress)
    for left, right in pairs[alike.of(pairs, scores, progress)]:
        left, right = (group_of.get(int(row), int(row)) for row in (left, right))
        if left == right:
            continue
        members, others = groups.get(left, [left]), groups.get(right, [right])
        if not alike.all(members, others):
            continue
        keep, gone = min(left, right), max(left, right)
        groups[keep] = sorted(members + others)
        groups.pop(gone, None)
        group_of.update(dict.fromkeys(groups[keep], keep))
    found = []
    for rows in groups.values():
        products = _products(index, rows, rows)
        to_first = tuple(round(float(value), 5) for value in products[0])
        heard = () if same is None else (True, *(alike.is_same(rows[0], row) for row in rows[1:]))
        found.append(Group(tuple(rows), to_first, round(float(products.min()), 5), heard))
    return Grouping(threshold, tuple(sorted(found, key=lambda group: group.rows)))


class _Alike:
    """What makes two rows near-duplicates.

    Args:
        index: of the library.
        threshold: similar enough.
        same: tells of a likely pair if it is the same sound.

    Attributes:
        least: similarity below which nothing is compared.
    """

    def __init__(
        self, index: Index, threshold: float, same: Callable[[Place, Place], bool | None] | None
    ) -> None:
        self._index, self._threshold, self._same = index, threshold, same
        self.least = threshold if same is None else min(threshold, likely(index, threshold))
        self._known: dict[tuple[int, int], bool | None] = {}

    def of(
        self, pairs: NDArray[np.int64], scores: NDArray[np.float32], progress: Callable[[str, float], None]
    ) -> NDArray[np.bool_]:
        """Which of these pairs are; those of a row are compared one after another."""
        are = scores >= self._threshold
        left = np.flatnonzero(~are)
        left = left[np.lexsort((pairs[left, 1], pairs[left, 0]))]
        for n, pair in enumerate(left):
            progress("comparing the sound of likely copies", n / len(left))
            are[pair] = self.is_same(*map(int, pairs[pair])) is True
        return are

    def all(self, rows: Sequence[int], others: Sequence[int]) -> bool:
        """Whether each of some rows and each of some others are."""
        products = _products(self._index, rows, others)
        if products.min() < self.least:
            return False
        return all(
            self.is_same(rows[n], others[k])
            for n, k in zip(*np.nonzero(products < self._threshold), strict=True)
        )

    def is_same(self, row: int, other: int) -> bool | None:
        """Whether two rows are the same sound; None if that is unknown."""
        if self._same is None:
            return None
        pair = min(row, other), max(row, other)
        if pair not in self._known:
            one, two = (self._index.library.places[n] for n in pair)
            self._known[pair] = self._same(one, two)
        return self._known[pair]


def _products(index: Index, rows: Sequence[int], others: Sequence[int]) -> NDArray[np.float32]:
    return similarity(index.white(rows) @ index.white(others).T)


def _sources(index: Index) -> NDArray[np.int64]:
    """The recording of each row, as a number."""
    numbers: dict[str, int] = {}
    places = index.library.places
    return np.fromiter(
        (numbers.setdefault(place.source, len(numbers)) for place in places), np.int64, len(index)
    )


def _equal_rows(index: Index, source: NDArray[np.int64]) -> tuple[NDArray[np.int64], dict[int, list[int]]]:
    """The first row of each value, and behind it the first equal row of each other recording."""
    digests = np.empty(len(index), np.uint64)
    for start in range(0, len(index), BLOCK_ROWS):
        block = np.asarray(index.library.matrix[start : start + BLOCK_ROWS])
        for n, row in enumerate(block, start=start):
            digests[n] = int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest())
    _, firsts, numbers = np.unique(digests, return_index=True, return_inverse=True)
    equal: dict[int, list[int]] = {}
    is_first = np.zeros(len(index), bool)
    is_first[firsts] = True
    for row in np.flatnonzero(~is_first):
        members = equal.setdefault(first := int(firsts[numbers[row]]), [first])
        if source[row] not in source[members]:
            members.append(int(row))
    return np.sort(firsts), equal


def _pairs(
    index: Index,
    threshold: float,
    rows: NDArray[np.int64],
    source: NDArray[np.int64],
    progress: Callable[[str, float], None],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Pairs (n, 2) of these rows at the threshold or above and their similarities, the most similar first."""
    ones, others, scores = [], [], []
    for start in range(0, len(rows), SIDE_ROWS):
        left = 1 - start / len(rows)
        progress("comparing embeddings", 1 - left if index.graph is not None else 1 - left**2)
        side = rows[start : start + SIDE_ROWS]
        for one, (found, similar) in zip(
            side, _neighbours(index, side, rows[start:], source, threshold), strict=True
        ):
            kept = (similar >= threshold) & (source[found] != source[one]) & (found != one)
            ones.append(np.full(kept.sum(), one))
            others.append(found[kept])
            scores.append(similar[kept])
    both = np.sort(np.stack([np.concatenate(ones), np.concatenate(others)], axis=1), axis=1)
    score = np.concatenate(scores)
    order = np.lexsort((both[:, 1], both[:, 0], -score))
    return both[order], score[order]


def _neighbours(
    index: Index,
    side: NDArray[np.int64],
    rows: NDArray[np.int64],
    source: NDArray[np.int64],
    threshold: float,
) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Of each row of a side, the most similar of these rows that come behind it, or of the graph."""
    white = index.white(side)
    if index.graph is not None:
        return index.nearest(white, NEIGHBOURS + 1)
    found = [(np.zeros(0, np.int64), np.zeros(0, np.float32))] * len(side)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        scores = similarity(white @ index.white(block).T)
        scores[(source[side, np.newaxis] == source[block]) | (side[:, np.newaxis] >= block)] = -1
        for n in np.flatnonzero(scores.max(axis=1) >= threshold):
            known, best = found[n]
            new = np.flatnonzero(scores[n] >= threshold)
            joined = np.concatenate([known, block[new]]), np.concatenate([best, scores[n][new]])
            found[n] = best_of(*joined, NEIGHBOURS)
    return found
