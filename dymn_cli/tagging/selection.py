"""Which labels are wanted, which of their scores pass, and which of a chain of kinds are kept.

AudioSet's ontology puts sounds below sounds: Animal → Domestic animals → Dog → Bark. With `descendants`, a
label that is asked for or excluded stands for all of its kinds; with `specific`, a label is dropped where one
of its kinds is found as well:

    tags     where a kind passes its threshold, too
    events   where events of its kinds, in the same channel, cover half of it or more: what else was heard of
             the sound is not lost

Excluded labels count as not found. Labels that have no AudioSet id have no kinds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.errors import UsageError
from dymn_cli.labels import Ontology
from dymn_cli.results import Tag

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.labels import Label, Vocabulary
    from dymn_cli.results import Event
    from dymn_cli.tagging.event_options import EventOptions
    from dymn_cli.tagging.options import TagOptions

__all__ = [
    "Selection",
    "kinds_by_index",
    "named_labels",
    "require_ontology",
    "specific_events",
    "wanted_labels",
]

COVERED_SHARE = 0.5


def named_labels(
    names: Iterable[str], vocabulary: Vocabulary, *, descendants: bool = False
) -> tuple[Label, ...]:
    """The labels of these names, each once, in the order of the names.

    Args:
        names: names, `/m/…` ids or slugs.
        vocabulary: the labels of the model.
        descendants: also all kinds of each; a name may then be a sound of the ontology that is no label
            itself, such as "Human sounds".

    Raises:
        UsageError: a name that is neither a label nor, with `descendants`, a sound of the ontology that has a
            label of the model among its kinds.
    """
    found = (label for name in names for label in _labels_of(name, vocabulary, descendants=descendants))
    return tuple(dict.fromkeys(found))


def _labels_of(name: str, vocabulary: Vocabulary, *, descendants: bool) -> tuple[Label, ...]:
    try:
        own = vocabulary.find(name)
    except UsageError:
        kinds = _kinds(name, vocabulary)
        if kinds and descendants:
            return kinds
        if kinds:
            raise UsageError(
                f"{name!r} is a sound of the ontology, but no label",
                hint=f"--descendants takes its {len(kinds)} kinds",
            ) from None
        own = vocabulary.match(name)
    return (own, *_kinds(own.mid, vocabulary)) if descendants else (own,)


def _kinds(name: str, vocabulary: Vocabulary) -> tuple[Label, ...]:
    """Labels of the model that are a sound or a kind of it; none where the ontology does not know it."""
    if not name:
        return ()
    ontology = Ontology.audioset()
    try:
        node = ontology.find(name)
    except UsageError:
        return ()
    mids = {kind.mid for kind in (node, *ontology.descendants(node))}
    return tuple(label for label in vocabulary if label.mid in mids)


def wanted_labels(
    options: TagOptions | EventOptions, vocabulary: Vocabulary, *, silence: bool = True
) -> tuple[Label, ...]:
    """The labels that are wanted, in the order of the model's outputs.

    Args:
        options: which are asked for, and which are excluded.
        vocabulary: the labels of the model.
        silence: whether AudioSet's "Silence" is wanted where no label is asked for by name.

    Raises:
        UsageError: see `named_labels`; none is left; or `specific`, and no label has a place in the ontology.
    """
    if options.specific:
        require_ontology(vocabulary)
    if options.labels:
        wanted = named_labels(options.labels, vocabulary, descendants=options.descendants)
    else:
        wanted = tuple(label for label in vocabulary if silence or label.index != vocabulary.silence)
    excluded = set(named_labels(options.exclude, vocabulary, descendants=options.descendants))
    left = sorted(set(wanted) - excluded, key=lambda label: label.index)
    if not left and excluded:
        raise UsageError("every label that is asked for is excluded", hint="exclude fewer of them")
    return tuple(left)


def require_ontology(vocabulary: Vocabulary) -> None:
    """Refuse a model of which no label is a sound of AudioSet's ontology.

    Raises:
        UsageError: it is one.
    """
    known = {node.mid for node in Ontology.audioset().nodes}
    if not any(label.mid in known for label in vocabulary):
        raise UsageError("--specific needs AudioSet's ontology, and this model has labels of its own")


def kinds_by_index(labels: Sequence[Label]) -> dict[int, frozenset[int]]:
    """Of each label that has kinds among the others: their indices, however many levels down."""
    ontology = Ontology.audioset()
    index_of = {label.mid: label.index for label in labels if label.mid}
    kinds = {
        index_of[node.mid]: frozenset(
            index_of[kind.mid] for kind in ontology.descendants(node) if kind.mid in index_of
        )
        for node in ontology.nodes
        if node.mid in index_of
    }
    return {index: of_label for index, of_label in kinds.items() if of_label}


class Selection:
    """Which tags are kept: thresholds filter, then `specific`, then the best `top` of what is left.

    Args:
        options: what is asked for.
        vocabulary: the labels of the scores.

    Raises:
        UsageError: an unknown label in the options; or see `wanted_labels`.
    """

    def __init__(self, options: TagOptions, vocabulary: Vocabulary) -> None:
        self._labels = vocabulary.labels
        self._top = options.top or len(self._labels)
        self._lowest = np.full(len(self._labels), options.min_score, np.float32)
        for label, threshold in options.thresholds:
            try:
                self._lowest[vocabulary.find(label).index] = threshold
            except UsageError as exc:
                raise UsageError(f"thresholds: {exc.message}", hint=exc.hint) from exc
        is_unwanted = np.ones(len(self._labels), np.bool_)
        is_unwanted[[label.index for label in wanted_labels(options, vocabulary)]] = False
        self._lowest[is_unwanted] = np.inf
        self._kinds = kinds_by_index(self._labels) if options.specific else {}

    def tags(self, scores: NDArray[np.float32]) -> tuple[Tag, ...]:
        """The tags to keep of (n_classes,) scores, best first; equal scores in the model's order."""
        best = np.argsort(-scores, kind="stable")
        passing = best[scores[best] >= self._lowest[best]].tolist()
        if self._kinds:
            found = set(passing)
            passing = [index for index in passing if found.isdisjoint(self._kinds.get(index, ()))]
        return tuple(
            Tag(rank, index, self._labels[index].name, self._labels[index].mid, float(scores[index]))
            for rank, index in enumerate(passing[: self._top], start=1)
        )


def specific_events(events: Sequence[Event], vocabulary: Vocabulary) -> list[Event]:
    """The events without those that events of their kinds cover half of or more, in the same channel."""
    kinds = kinds_by_index(vocabulary.labels)
    spans: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for event in events:
        spans[event.channel, event.index].append((event.start_s, event.end_s))
    kept = []
    for event in events:
        of_kinds = (spans.get((event.channel, kind), ()) for kind in kinds.get(event.index, ()))
        covered_s = _covered_s(event, [span for of_kind in of_kinds for span in of_kind])
        if covered_s < COVERED_SHARE * (event.end_s - event.start_s):
            kept.append(event)
    return kept


def _covered_s(event: Event, spans: Iterable[tuple[float, float]]) -> float:
    """Seconds of an event that lie within any of the spans."""
    covered_s, end_s = 0.0, event.start_s
    for start, end in sorted(spans):
        start, end = max(start, end_s), min(end, event.end_s)
        if end > start:
            covered_s += end - start
            end_s = end
    return covered_s
