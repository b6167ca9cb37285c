"""How good events are against true ones: by class, and over all of them.

Classes are those that some recording truly has; events of other labels are counted, but not judged, because
nobody has said where those sounds are. Means are over classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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
    from dymn_cli.datasets.label_tables import LabelRow
    from dymn_cli.evaluation.event_tables import EventTable
    from dymn_cli.evaluation.ground_truth import LabelMap
    from dymn_cli.labels import Label

__all__ = [
    "FROM_EVENTS",
    "FROM_FRAMES",
    "ClassEvents",
    "EventEvaluation",
    "Heard",
    "Pairing",
    "TrueEvents",
    "evaluate_events",
    "heard_of_rows",
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
    """What is really to be heard, in the words of a vocabulary.

    Args:
        name: of the table.
        classes: the labels that occur, as (label, mid).
        events: by recording, then by the number of the class.
        ignored: words that are no label of the vocabulary.
    """

    name: str
    classes: tuple[tuple[str, str], ...]
    events: dict[str, dict[int, list[Span]]]
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """What was reported of one recording.

    Args:
        events: by the number of the class.
        ladders: likewise, what each threshold gives.
        n_other: events of labels that are no class.
    """

    events: dict[int, list[Span]] = field(default_factory=dict)
    ladders: dict[int, list[Rung]] = field(default_factory=dict)
    n_other: int = 0


@dataclass(frozen=True, slots=True)
class Pairing:
    """Which recording of the truth each source is.

    Args:
        of_source: by source.
        without_truth: sources that the truth says nothing of.
        without_source: recordings of the truth that no source is.
    """

    of_source: dict[str, str]
    without_truth: tuple[str, ...]
    without_source: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClassEvents:
    """How well the events of one class are found.

    Args:
        label: its name.
        mid: its AudioSet id, or "".
        by_ends: event-based counts.
        by_intersection: intersection-based counts.
        psds1: area under its own curve, in scenario 1; NaN where nothing is known of lengths.
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
    """The figures.

    Args:
        n_recordings: that were judged.
        duration_s: of them together; NaN where it is not known.
        classes: the results of each.
        psds1: over all classes.
        psds2: likewise.
        curve: what the curves of PSDS were made of.
        n_other: events of labels that are no class.
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
        """The figures as a JSON object; what has no value is null."""
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


# ---------------------------------------------------------------------- bringing both together


def true_events(
    table: EventTable,
    vocabulary: Vocabulary,
    *,
    mapping: LabelMap | None = None,
    ignore_unknown: bool = False,
) -> TrueEvents:
    """The events of a table in the words of a vocabulary.

    Args:
        table: what is to be heard.
        vocabulary: the labels that are reported.
        mapping: from words to labels; a word may stand for several, or for none.
        ignore_unknown: drop events whose label is none of the vocabulary.

    Raises:
        UsageError: labels of the truth are none of the vocabulary.
        InputError: no event is left.
    """
    rows = [row for own in table.rows.values() for row in own]
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
    """The labels that a finished result speaks of: AudioSet's, or else all words that occur."""
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
    """Find out which recording of the truth each source is.

    Raises:
        InputError: none is any, or two are the same.
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


def heard_of_rows(rows: Sequence[LabelRow], truth: TrueEvents, vocabulary: Vocabulary) -> Heard:
    """The reported events of a recording; thresholds choose among them by their scores."""
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
    return Heard(events, ladders, n_other)


# ---------------------------------------------------------------------- figures


def evaluate_events(
    truth: TrueEvents, heard: Mapping[str, Heard], *, duration_s: float = math.nan, curve: str
) -> EventEvaluation:
    """Judge events.

    Args:
        truth: what is to be heard.
        heard: what was reported, by recording of the truth; others are not judged.
        duration_s: of these recordings together; NaN where it is not known.
        curve: what the ladders were made of, in words.

    Raises:
        InputError: none of them has an event.
    """
    true = {name: truth.events[name] for name in heard}
    classes = [n for n in range(len(truth.classes)) if any(n in own for own in true.values())]
    if not classes:
        raise InputError(f"{truth.name}: no event in the recordings that are judged")
    pairs = [(true[name], one.ladders) for name, one in heard.items()]
    known = duration_s > 0
    rocs = [rocs_of(pairs, classes, duration_s, settings) if known else {} for settings in (PSDS1, PSDS2)]
    results = []
    for n in classes:
        spans = [(true[name].get(n, []), one.events.get(n, [])) for name, one in heard.items()]
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
        n_recordings=len(heard),
        duration_s=duration_s,
        classes=tuple(results),
        psds1=psds(rocs[0], PSDS1) if known else math.nan,
        psds2=psds(rocs[1], PSDS2) if known else math.nan,
        curve=curve,
        n_other=sum(one.n_other for one in heard.values()),
    )
