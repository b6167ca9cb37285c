"""Metrics of event detection, in NumPy.

    event-based F1         a detection is right if both of its ends are near those of a true one of its class:
                           the onset within 200 ms, the offset within 200 ms or a fifth of the true length
                           (Mesaros, Heittola and Virtanen, Applied Sciences 6, 2016)
    intersection-based F1  a detection is right if enough of it lies in true events of its class (DTC); a true
                           event is found if right detections cover enough of it (GTC)
    PSDS                   area under the curve of found events over false alarms an hour, up to 100, for all
                           thresholds (Bilen et al., ICASSP 2020; the exact curve of Ebbers, Serizel and
                           Haeb-Umbach, ICASSP 2022; settings of DCASE 2021, task 4)

PSDS needs the detections at every threshold. A ladder lists them: one rung for each score, with what changes
when the threshold falls to it. `ladder_of_scores` is exact for a curve of scores, in which events appear,
grow and merge; `ladder_of_events` takes finished events, among which the threshold only chooses.

Times are compared as whole microseconds, so that an end right on a collar counts on every machine.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "INTERSECTION",
    "PSDS1",
    "PSDS2",
    "Collar",
    "Counts",
    "PsdsSettings",
    "Roc",
    "Rung",
    "event_counts",
    "intersection_counts",
    "ladder_of_events",
    "ladder_of_scores",
    "psds",
    "rocs_of",
]

US = 1_000_000  # microseconds in a second
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Collar:
    """How far the ends of a detection may be from those of the true event.

    Args:
        onset_s: seconds before or after.
        offset_s: seconds before or after.
        offset_share: or this share of the true event's length, if that is more.
    """

    onset_s: float = 0.2
    offset_s: float = 0.2
    offset_share: float = 0.2


@dataclass(frozen=True, slots=True)
class PsdsSettings:
    """Settings of a polyphonic sound detection score.

    Args:
        dtc: share of a detection that must lie in true events of its class.
        gtc: share of a true event that such detections must cover.
        cttc: a false detection with this share in true events of another class is a cross trigger.
        alpha_ct: weight of cross triggers beside false alarms.
        alpha_st: weight of the spread between classes.
        max_fpr: false alarms an hour up to which the area counts.
    """

    dtc: float
    gtc: float
    cttc: float | None = None
    alpha_ct: float = 0.0
    alpha_st: float = 1.0
    max_fpr: float = 100.0


PSDS1 = PsdsSettings(dtc=0.7, gtc=0.7)
"""Scenario 1 of DCASE: precise localisation counts."""

PSDS2 = PsdsSettings(dtc=0.1, gtc=0.1, cttc=0.3, alpha_ct=0.5)
"""Scenario 2 of DCASE: the right class counts more than precise ends."""

INTERSECTION = (0.5, 0.5)
"""DTC and GTC of the intersection-based F1."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of one class, or of all.

    Args:
        n_true: true events.
        n_found: true events that are found.
        n_false: detections that are wrong.
    """

    n_true: int = 0
    n_found: int = 0
    n_false: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.n_true + other.n_true, self.n_found + other.n_found, self.n_false + other.n_false)

    @property
    def precision(self) -> float:
        """Share of the detections that are right; NaN without any."""
        n_reported = self.n_found + self.n_false
        return self.n_found / n_reported if n_reported else math.nan

    @property
    def recall(self) -> float:
        """Share of the true events that are found; NaN without any."""
        return self.n_found / self.n_true if self.n_true else math.nan

    @property
    def f1(self) -> float:
        """The harmonic mean of both; NaN without true events and detections."""
        total = self.n_found + self.n_false + self.n_true
        return 2 * self.n_found / total if total else math.nan


Spans = Sequence[tuple[float, float]]


def event_counts(true: Spans, reported: Spans, collar: Collar | None = None) -> Counts:
    """Compare the events of one class in one recording by their ends.

    Each detection finds one true event at most, and as many as possible are found.

    Args:
        true: (onset, offset) in seconds.
        reported: likewise.
        collar: how far ends may be off.
    """
    collar = collar or Collar()
    wanted, given = _whole(true), _whole(reported)
    wanted = wanted[np.argsort(wanted[:, 0], kind="stable")]
    lengths = wanted[:, 1] - wanted[:, 0]
    onset = round(collar.onset_s * US)
    offset = np.maximum(round(collar.offset_s * US), np.round(collar.offset_share * lengths))
    choices = []
    for start, end in given.tolist():
        first = int(np.searchsorted(wanted[:, 0], start - onset, side="left"))
        last = int(np.searchsorted(wanted[:, 0], start + onset, side="right"))
        near = np.abs(wanted[first:last, 1] - end) <= offset[first:last]
        choices.append((first + np.flatnonzero(near)).tolist())
    n_found = _most_pairs(choices)
    return Counts(len(wanted), n_found, len(given) - n_found)


def _most_pairs(choices: Sequence[Sequence[int]]) -> int:
    """The size of the largest matching of a bipartite graph, by augmenting paths (breadth first)."""
    holder: dict[int, int] = {}  # right: its left
    held: dict[int, int] = {}  # left: its right
    for first in range(len(choices)):
        came_by: dict[int, int] = {}  # right: the left that it was reached from
        waiting = deque([first])
        free = None
        while waiting and free is None:
            left = waiting.popleft()
            for right in choices[left]:
                if right in came_by:
                    continue
                came_by[right] = left
                if right not in holder:
                    free = right
                    break
                waiting.append(holder[right])
        while free is not None:
            left = came_by[free]
            before = held.get(left)
            holder[free], held[left] = left, free
            free = before
    return len(holder)


def intersection_counts(
    true: Spans, reported: Spans, *, dtc: float = INTERSECTION[0], gtc: float = INTERSECTION[1]
) -> Counts:
    """Compare the events of one class in one recording by their overlap.

    Args:
        true: (onset, offset) in seconds.
        reported: likewise.
        dtc: see `PsdsSettings`.
        gtc: likewise.
    """
    tally = _Tally(_Truth({0: true}), 0, PsdsSettings(dtc, gtc))
    for start, end in _whole(reported).tolist():
        tally.put(start, end, 1)
    return Counts(len(true), tally.n_found, tally.n_false)


# ---------------------------------------------------------------------- all thresholds


class Rung(NamedTuple):
    """What changes when the threshold falls to a score: events in whole microseconds.

    Args:
        score: the threshold.
        gone: events that have grown into others.
        come: events that are detected from here on.
    """

    score: float
    gone: tuple[tuple[int, int], ...]
    come: tuple[tuple[int, int], ...]


def ladder_of_scores(scores: NDArray[np.floating], edges_s: NDArray[np.floating]) -> Iterator[Rung]:
    """The ladder of a curve of scores: at each threshold, an event is a run of steps that reach it.

    Args:
        scores: (n,) of one class in one recording.
        edges_s: (n + 1,) where the steps begin, and where the last one ends.
    """
    edges = np.round(np.asarray(edges_s, np.float64) * US).astype(np.int64).tolist()
    order = np.argsort(-scores, kind="stable").tolist()
    values = np.asarray(scores, np.float64).tolist()
    end_of: dict[int, int] = {}  # runs by their first step, and by the step after their last
    start_of: dict[int, int] = {}
    gone: set[tuple[int, int]] = set()
    come: set[tuple[int, int]] = set()

    def drop(start: int, end: int) -> None:
        if (start, end) in come:
            come.remove((start, end))
        else:
            gone.add((start, end))

    def times(runs: set[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        return tuple((edges[start], edges[end]) for start, end in sorted(runs))

    for place, n in enumerate(order):
        start, end = n, n + 1
        if start in start_of:
            start = start_of.pop(n)
            drop(start, n)
        if end in end_of:
            end = end_of.pop(n + 1)
            drop(n + 1, end)
        end_of[start], start_of[end] = end, start
        come.add((start, end))
        if place + 1 == len(order) or values[order[place + 1]] < values[n]:
            yield Rung(values[n], times(gone), times(come))
            gone.clear()
            come.clear()


def ladder_of_events(spans: Spans, scores: Sequence[float]) -> Iterator[Rung]:
    """The ladder of finished events: at each threshold, those whose score reaches it.

    Args:
        spans: (onset, offset) in seconds, of one class in one recording.
        scores: of each.
    """
    whole = _whole(spans).tolist()
    for score in sorted(set(scores), reverse=True):
        yield Rung(
            score, (), tuple((a, b) for (a, b), own in zip(whole, scores, strict=True) if own == score)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Roc:
    """The operating curve of one class over all thresholds, the fewest false alarms first.

    Args:
        fpr: (k,) effective false alarms an hour.
        tpr: (k,) share of the true events that are found, never decreasing.
    """

    fpr: NDArray[np.float64]
    tpr: NDArray[np.float64]

    def area(self, max_fpr: float) -> float:
        """Area under the staircase up to `max_fpr`, as a share of the whole."""
        kept = self.fpr <= max_fpr
        edges = np.append(self.fpr[kept], max_fpr)
        return float(np.sum(self.tpr[kept] * np.diff(edges)) / max_fpr)


def rocs_of(
    recordings: Sequence[tuple[Mapping[int, Spans], Mapping[int, Sequence[Rung]]]],
    classes: Sequence[int],
    duration_s: float,
    settings: PsdsSettings,
) -> dict[int, Roc]:
    """The curve of each class over all recordings.

    Args:
        recordings: the true events and the ladders of each, by class; a class may be missing.
        classes: to evaluate.
        duration_s: of all recordings together.
        settings: of PSDS.
    """
    truths = [_Truth({n: true[n] for n in classes if n in true}) for true, _ in recordings]
    lengths = {n: sum(truth.length_us(n) for truth in truths) / US for n in classes}
    counts = {n: sum(truth.count(n) for truth in truths) for n in classes}
    rocs = {}
    for n in classes:
        others = [other for other in classes if other != n]
        changes: list[tuple[float, int, int, float]] = []  # score; change of found, false, cross rate
        for truth, (_, ladders) in zip(truths, recordings, strict=True):
            tally = _Tally(truth, n, settings)
            for rung in ladders.get(n, ()):
                before = tally.n_found, tally.n_false, tally.cross.copy()
                for start, end in rung.gone:
                    tally.put(start, end, -1)
                for start, end in rung.come:
                    tally.put(start, end, 1)
                crossed = sum(
                    (tally.cross[other] - before[2][other]) / max(lengths[other], 1e-12)
                    for other in others
                    if tally.cross[other] != before[2][other]
                )
                rate = crossed / len(others) if others else 0.0
                changes.append((rung.score, tally.n_found - before[0], tally.n_false - before[1], rate))
        rocs[n] = _roc(changes, counts[n], duration_s, settings)
    return rocs


def psds(rocs: Mapping[int, Roc], settings: PsdsSettings) -> float:
    """PSDS over all classes: the area under the mean of their curves less their spread.

    Args:
        rocs: from `rocs_of`; at least one.
        settings: with which the curves were made.
    """
    fpr = np.unique(np.concatenate([roc.fpr for roc in rocs.values()]))
    steps = [np.searchsorted(roc.fpr, fpr, side="right") - 1 for roc in rocs.values()]
    tpr = np.array(
        [np.where(at >= 0, roc.tpr[at], 0.0) for roc, at in zip(rocs.values(), steps, strict=True)]
    )
    mean = np.maximum(tpr.mean(axis=0) - settings.alpha_st * tpr.std(axis=0), 0.0)
    return Roc(fpr, mean).area(settings.max_fpr)


def _roc(
    changes: list[tuple[float, int, int, float]], n_true: int, duration_s: float, settings: PsdsSettings
) -> Roc:
    if not changes:
        return Roc(np.zeros(1), np.zeros(1))
    table = np.array(sorted(changes, key=lambda change: -change[0]))
    last = np.append(np.flatnonzero(np.diff(table[:, 0])), len(table) - 1)  # of each run of equal scores
    found, false, crossed = np.vstack([np.zeros(3), np.cumsum(table[:, 1:], axis=0)[last]]).T
    fpr = (false / duration_s + settings.alpha_ct * np.maximum(crossed, 0.0)) * HOUR_S
    tpr = found / max(n_true, 1)
    order = np.lexsort((tpr, fpr))
    fpr, tpr = fpr[order], np.maximum.accumulate(tpr[order])
    last = np.append(np.flatnonzero(np.diff(fpr)), len(fpr) - 1)
    fpr, tpr = fpr[last], tpr[last]
    kept = fpr <= settings.max_fpr
    return Roc(fpr[kept], tpr[kept])


# ---------------------------------------------------------------------- counting


class _Truth:
    """The true events of one recording, those of all classes in the order of their onsets."""

    def __init__(self, true: Mapping[int, Spans]) -> None:
        rows = sorted((start, end, n) for n, spans in true.items() for start, end in _whole(spans).tolist())
        self.start = np.array([row[0] for row in rows], np.int64)
        self.end = np.array([row[1] for row in rows], np.int64)
        self.of = np.array([row[2] for row in rows], np.int64)
        self.last_end = np.maximum.accumulate(self.end)  # of this one and all before

    def near(self, start: int, end: int) -> slice:
        """The events that may overlap a stretch of time."""
        return slice(
            int(np.searchsorted(self.last_end, start, side="right")),
            int(np.searchsorted(self.start, end, side="left")),
        )

    def count(self, n: int) -> int:
        return int((self.of == n).sum())

    def length_us(self, n: int) -> int:
        own = self.of == n
        return int((self.end[own] - self.start[own]).sum())


class _Tally:
    """Counts what the detections of one class find; a detection may be taken back.

    Attributes:
        n_found: true events that are covered.
        n_false: detections that lie elsewhere.
        cross: false detections that lie in events of another class, by class.
    """

    def __init__(self, truth: _Truth, n: int, settings: PsdsSettings) -> None:
        self._truth, self._n, self._settings = truth, n, settings
        lengths = truth.end - truth.start
        self._needed = np.where(truth.of == n, np.round(settings.gtc * lengths), np.inf)
        self._covered = np.zeros(len(lengths), np.int64)
        self.n_found = 0
        self.n_false = 0
        self.cross: Counter[int] = Counter()

    def put(self, start: int, end: int, sign: int) -> None:
        """Count a detection (1), or take it back (-1)."""
        near = self._truth.near(start, end)
        if near.start >= near.stop:
            self.n_false += sign
            return
        of = self._truth.of[near]
        common = np.minimum(self._truth.end[near], end) - np.maximum(self._truth.start[near], start)
        common = np.maximum(common, 0)
        own = np.where(of == self._n, common, 0)
        if own.sum() >= max(round(self._settings.dtc * (end - start)), 1):
            covered, needed = self._covered[near], self._needed[near]
            before = np.count_nonzero(covered >= needed)
            covered += sign * own
            self.n_found += int(np.count_nonzero(covered >= needed) - before)
            return
        self.n_false += sign
        if self._settings.cttc is not None:
            needed_us = max(round(self._settings.cttc * (end - start)), 1)
            for other in np.unique(of[common > 0]).tolist():
                if other != self._n and common[of == other].sum() >= needed_us:
                    self.cross[other] += sign


def _whole(spans: Spans) -> NDArray[np.int64]:
    """(n, 2) in whole microseconds."""
    return np.round(np.array(spans, np.float64).reshape(-1, 2) * US).astype(np.int64)
