"""Evaluate events against true events, per class and overall.

Classes are the labels of the true events; detections of other labels are counted but not evaluated, because
nobody has marked where those sounds are. Means are over classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dymn_cli.datasets.label_tables import LabelRow, require_utf8
from dymn_cli.datasets.name_matching import pair_names
from dymn_cli.errors import InputError, UsageError
from dymn_cli.evaluation.evaluate import finite
from dymn_cli.evaluation.event_metrics import (
    PSDS1,
    PSDS2,
    Counts,
    Rung,
    event_counts,
    intersection_counts,
    ladder_of_events,
    psds,
    rocs_of,
)
from dymn_cli.evaluation.ground_truth import labels_meant, unknown_labels
from dymn_cli.labels import Vocabulary

if TYPE_CHECKING:
    from dymn_cli.evaluation.event_tables import EventTable
    from dymn_cli.evaluation.ground_truth import LabelMap
    from dymn_cli.labels import Label

__all__ = [
    "FROM_EVENTS",
    "FROM_FRAMES",
    "ClassEvents",
    "Detections",
    "EventEvaluation",
    "Pairing",
    "TrueEvents",
    "detections_in",
    "evaluate_events",
    "pair",
    "true_events",
    "vocabulary_of",
]

SCHEMA = "dymn.eval-events/1"
FROM_FRAMES = "frame scores"
FROM_EVENTS = "the events' own scores"

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class TrueEvents:
    """The true events of recordings, in the labels of a vocabulary.

    Args:
        name: of the table.
        classes: the labels that occur, as (label, mid).
        events: by recording, then by the number of the class.
        ignored: words that mean no label of the vocabulary.
    """

    name: str
    classes: tuple[tuple[str, str], ...]
    events: dict[str, dict[int, list[Span]]]
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Detections:
    """The detections in one recording.

    Args:
        events: by the number of the class.
        ladders: likewise, the detections at each threshold.
        n_other: detections of labels that are no class.
    """

    events: dict[int, list[Span]] = field(default_factory=dict)
    ladders: dict[int, list[Rung]] = field(default_factory=dict)
    n_other: int = 0


@dataclass(frozen=True, slots=True)
class Pairing:
    """Sources matched to the recordings of the ground truth.

    Args:
        of_source: the recording of each source.
        without_truth: sources that are not in the ground truth.
        without_source: recordings of the ground truth without a source.
    """

    of_source: dict[str, str]
    without_truth: tuple[str, ...]
    without_source: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClassEvents:
    """The metrics of one class.

    Args:
        label: its name.
        mid: its AudioSet id, or "".
        by_ends: event-based counts.
        by_intersection: intersection-based counts.
        psds1: area under its own curve, in scenario 1; NaN if durations are unknown.
        psds2: likewise in scenario 2.
    """

    label: str
    mid: str
    by_ends: Counts
    by_intersection: Counts
    psds1: float
    psds2: float


@dataclass(frozen=True, slots=True)
class EventEvaluation:
    """The metrics of a model or a result.

    Args:
        n_recordings: that were evaluated.
        duration_s: of all recordings together; NaN if unknown.
        classes: the metrics of each.
        psds1: over all classes.
        psds2: likewise.
        curve: what the curves of PSDS are made from, in words.
        n_other: detections of labels that are no class.
    """

    n_recordings: int
    duration_s: float
    classes: tuple[ClassEvents, ...]
    psds1: float
    psds2: float
    curve: str
    n_other: int

    @property
    def event_f1(self) -> float:
        """Mean over the classes of the event-based F1."""
        return _mean([one.by_ends.f1 for one in self.classes])

    @property
    def intersection_f1(self) -> float:
        """Mean over the classes of the intersection-based F1."""
        return _mean([one.by_intersection.f1 for one in self.classes])

    @property
    def event_total(self) -> Counts:
        """Event-based counts over all classes."""
        return sum((one.by_ends for one in self.classes), Counts())

    @property
    def intersection_total(self) -> Counts:
        """Intersection-based counts over all classes."""
        return sum((one.by_intersection for one in self.classes), Counts())

    def document(self) -> dict[str, Any]:
        """The metrics as a JSON object; NaN is null."""
        return {
            "schema": SCHEMA,
            "n_recordings": self.n_recordings,
            "duration_s": finite(self.duration_s),
            "n_classes": len(self.classes),
            "n_events": self.event_total.n_true,
            "event_f1": finite(self.event_f1),
            "event_f1_micro": finite(self.event_total.f1),
            "intersection_f1": finite(self.intersection_f1),
            "intersection_f1_micro": finite(self.intersection_total.f1),
            "psds1": finite(self.psds1),
            "psds2": finite(self.psds2),
            "psds_from": self.curve,
            "n_other": self.n_other,
            "classes": [
                {
                    "label": one.label,
                    "mid": one.mid,
                    "n_events": one.by_ends.n_true,
                    "event": _counts(one.by_ends),
                    "intersection": _counts(one.by_intersection),
                    "psds1": finite(one.psds1),
                    "psds2": finite(one.psds2),
                }
                for one in self.classes
            ],
        }


def _counts(counts: Counts) -> dict[str, Any]:
    return {
        "n_found": counts.n_found,
        "n_false": counts.n_false,
        "precision": finite(counts.precision),
        "recall": finite(counts.recall),
        "f1": finite(counts.f1),
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


# ---------------------------------------------------------------------- matching


def true_events(
    table: EventTable,
    vocabulary: Vocabulary,
    *,
    mapping: LabelMap | None = None,
    ignore_unknown: bool = False,
) -> TrueEvents:
    """The events of a table in the labels of a vocabulary.

    Args:
        table: the true events.
        vocabulary: the labels that may be detected.
        mapping: from words to labels; a word may mean several, or none.
        ignore_unknown: drop events whose word means no label.

    Raises:
        UsageError: a word that means no label.
        InputError: no event is left, or a word is not UTF-8.
    """
    rows = [row for own in table.rows.values() for row in own]
    if not rows:
        raise InputError(f"{table.name}: no events in it, or none that is kept")
    for row in rows:
        require_utf8(row.labels[0], table.name)
    meant, unknown = labels_meant(rows, vocabulary, mapping or {})
    if unknown and not ignore_unknown:
        raise unknown_labels(table.name, unknown, vocabulary)
    classes = dict.fromkeys((label.name, label.mid) for row in rows for label in meant[row.labels[0]])
    if not classes:
        raise InputError(f"{table.name}: no event whose label the model has")
    numbers = {name: n for n, (name, _) in enumerate(classes)}
    events: dict[str, dict[int, list[Span]]] = {source: {} for source in table.rows}
    for source, own in table.rows.items():
        for row in own:
            for label in meant[row.labels[0]]:
                events[source].setdefault(numbers[label.name], []).append((row.start_s, row.end_s))
    return TrueEvents(table.name, tuple(classes), events, tuple(unknown))


def vocabulary_of(reported: EventTable, truth: EventTable) -> Vocabulary:
    """The labels of a finished result: AudioSet's, or the words that occur if one is not AudioSet's."""
    words = {row.labels[0]: None for table in (reported, truth) for own in table.rows.values() for row in own}
    audioset = Vocabulary.audioset()
    try:
        for own in reported.rows.values():
            for row in own:
                _label_of(row, audioset)
    except UsageError:
        return Vocabulary.from_names(words)
    return audioset


def _label_of(row: LabelRow, vocabulary: Vocabulary) -> Label:
    return vocabulary.find(row.mids[0] if row.mids else row.labels[0])


def pair(truth: TrueEvents, sources: Sequence[str]) -> Pairing:
    """Match sources to the recordings of the ground truth.

    Raises:
        InputError: none matches, or two match the same one.
    """
    names = list(truth.events)
    found = pair_names(truth.name, sources, names)
    of_source = {source: names[row] for source, row in zip(sources, found, strict=True) if row is not None}
    paired = set(of_source.values())
    return Pairing(
        of_source,
        tuple(source for source in sources if source not in of_source),
        tuple(name for name in names if name not in paired),
    )


def detections_in(rows: Sequence[LabelRow], truth: TrueEvents, vocabulary: Vocabulary) -> Detections:
    """The detections in a recording from rows of a result; without a score, a row counts at any threshold."""
    numbers = {label: n for n, (label, _) in enumerate(truth.classes)}
    events: dict[int, list[Span]] = {}
    scores: dict[int, list[float]] = {}
    n_other = 0
    for row in rows:
        try:
            name = _label_of(row, vocabulary).name
        except UsageError:
            name = row.labels[0]
        n = numbers.get(name)
        if n is None:
            n_other += 1
            continue
        events.setdefault(n, []).append((row.start_s, row.end_s))
        scores.setdefault(n, []).append(1.0 if row.score is None else row.score)
    ladders = {n: list(ladder_of_events(spans, scores[n])) for n, spans in events.items()}
    return Detections(events, ladders, n_other)


# ---------------------------------------------------------------------- metrics


def evaluate_events(
    truth: TrueEvents, found: Mapping[str, Detections], *, duration_s: float = math.nan, curve: str
) -> EventEvaluation:
    """Evaluate detections.

    Args:
        truth: the true events.
        found: the detections, by recording of the ground truth; other recordings are not evaluated.
        duration_s: of these recordings together; NaN if unknown.
        curve: what the ladders are made from, in words.

    Raises:
        InputError: none of the recordings has a true event.
    """
    true = {name: truth.events[name] for name in found}
    classes = [n for n in range(len(truth.classes)) if any(n in own for own in true.values())]
    if not classes:
        raise InputError(f"{truth.name}: no event in the recordings to evaluate")
    pairs = [(true[name], one.ladders) for name, one in found.items()]
    known = duration_s > 0
    rocs = [rocs_of(pairs, classes, duration_s, settings) if known else {} for settings in (PSDS1, PSDS2)]
    results = []
    for n in classes:
        spans = [(true[name].get(n, []), one.events.get(n, [])) for name, one in found.items()]
        areas = [roc[n].area(PSDS1.max_fpr) if known else math.nan for roc in rocs]
        results.append(
            ClassEvents(
                *truth.classes[n],
                sum((event_counts(*both) for both in spans), Counts()),
                sum((intersection_counts(*both) for both in spans), Counts()),
                *areas,
            )
        )
    return EventEvaluation(
        n_recordings=len(found),
        duration_s=duration_s,
        classes=tuple(results),
        psds1=psds(rocs[0], PSDS1) if known else math.nan,
        psds2=psds(rocs[1], PSDS2) if known else math.nan,
        curve=curve,
        n_other=sum(one.n_other for one in found.values()),
    )
