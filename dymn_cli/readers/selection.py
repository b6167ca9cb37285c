"""Which rows of a finished result are wanted: by label, by score, and how many."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from heapq import nlargest

from dymn_cli.errors import UsageError
from dymn_cli.labels import Label, Node, Ontology, Vocabulary
from dymn_cli.results import ClipResult, Event, SourceEvents, Tag, WindowTags
from dymn_cli.values import listed_labels, require_score, require_whole

__all__ = ["Selection", "SelectionOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionOptions:
    """What of a result is wanted.

    Args:
        labels: only these: names, ids or slugs; empty for all.
        exclude: none of these.
        descendants: also all kinds of `labels` and `exclude` in AudioSet's ontology.
        min_score: only scores of at least this.
        thresholds: (label, lowest score), which count instead of `min_score`.
        top: at most so many tags of a window or clip, or events of a recording; 0 for all.

    Raises:
        UsageError: a value outside its range, or `descendants` without labels.
    """

    labels: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    descendants: bool = False
    min_score: float = 0.0
    thresholds: tuple[tuple[str, float], ...] = ()
    top: int = 0

    def __post_init__(self) -> None:
        require_score(self.min_score)
        require_whole("top", self.top)
        if self.top < 0:
            raise UsageError(f"top {self.top} is negative", hint="0 keeps all")
        if self.descendants and not (self.labels or self.exclude):
            raise UsageError("--descendants needs --label or --exclude")

    @property
    def is_all(self) -> bool:
        """Whether everything is wanted."""
        return self == SelectionOptions()


@functools.cache
def _slug(label: str) -> str:
    return Label(0, "", label).slug or label


def _kinds(text: str) -> tuple[Node, ...]:
    """A sound and all its kinds; some that only group others in AudioSet are labels of AudioSet Strong."""
    ontology = Ontology.audioset()
    node = ontology.find(text)
    return (node, *ontology.descendants(node))


@dataclass(slots=True)
class _Wanted:
    """Labels that were asked for, by id and by slug, whatever list the result's labels are of."""

    keys: dict[str, str] = field(default_factory=dict)  # id or slug → as it was asked for
    unknown: dict[str, UsageError] = field(default_factory=dict)  # no label of AudioSet, and none met yet

    @classmethod
    def of(cls, texts: Iterable[str], *, descendants: bool) -> _Wanted:
        wanted = cls()
        for text in texts:
            try:
                labels = _kinds(text) if descendants else (Vocabulary.audioset().match(text),)
            except UsageError as exc:
                wanted.unknown[text] = exc
                labels = (Label(0, "", text),)
            wanted.keys[_slug(text)] = text  # perhaps a label of the model's own
            for label in labels:
                wanted.keys |= {key: text for key in (label.mid, _slug(label.name)) if key}
        return wanted

    def find(self, label: str, mid: str) -> str | None:
        """As what a label was asked for; None where it was not."""
        text = self.keys.get(mid) if mid else None
        text = self.keys.get(_slug(label)) if text is None else text
        if text is not None:
            self.unknown.pop(text, None)
        return text


class Selection:
    """Selects from results, and knows afterwards why nothing is left.

    Args:
        options: what is wanted. A label that is none of AudioSet's is taken for one of the model's own;
            `require_known` says afterwards if there was none.

    Attributes:
        n_rows: rows that were looked at.
        n_kept: rows that were kept.
    """

    def __init__(self, options: SelectionOptions) -> None:
        self.options = options
        self._labels = _Wanted.of(options.labels, descendants=options.descendants)
        self._exclude = _Wanted.of(options.exclude, descendants=options.descendants)
        self._thresholds = _Wanted.of((label for label, _ in options.thresholds), descendants=False)
        self._score_of = dict(options.thresholds)
        self.n_rows = 0
        self.n_kept = 0
        self._met: Counter[str] = Counter()
        self._best: tuple[float, str] | None = None  # of those that only a score kept out

    def wants(self, row: Event | Tag) -> bool:
        """Whether a row is wanted.

        Raises:
            UsageError: its score is unknown, and scores count.
        """
        self.n_rows += 1
        self._met[row.label] += 1
        if self.options.labels and self._labels.find(row.label, row.mid) is None:
            return False
        if self._exclude.find(row.label, row.mid) is not None:
            return False
        text = self._thresholds.find(row.label, row.mid)
        lowest = self.options.min_score if text is None else self._score_of[text]
        if lowest > 0 and math.isnan(row.score):
            raise UsageError("this result has no scores that -t could be compared with")
        if row.score < lowest:
            if self._best is None or row.score > self._best[0]:
                self._best = row.score, row.label
            return False
        self.n_kept += 1
        return True

    def events(self, result: SourceEvents) -> SourceEvents:
        """A recording with those of its events that are wanted."""
        kept = [event for event in result.events if self.wants(event)]
        if self.options.is_all:
            return result
        top = self.options.top
        if top and len(kept) > top:
            best = {id(event) for event in nlargest(top, kept, key=lambda event: event.score)}
            kept = [event for event in kept if id(event) in best]
        return replace(result, events=tuple(kept))

    def clip(self, result: ClipResult) -> ClipResult:
        """A clip with those of its tags that are wanted, in each of its windows."""
        windows = tuple(
            WindowTags(window.start_s, window.end_s, self._tags(window.tags)) for window in result.windows
        )
        tags = self._tags(result.tags)
        return result if self.options.is_all else replace(result, tags=tags, windows=windows)

    def _tags(self, tags: Iterable[Tag]) -> tuple[Tag, ...]:
        kept = [tag for tag in tags if self.wants(tag)]
        kept = kept[: self.options.top or None]
        return tuple(replace(tag, rank=n) for n, tag in enumerate(kept, start=1))

    def require_known(self) -> None:
        """See, at the end, that each label that was asked for is one.

        Raises:
            UsageError: one is neither AudioSet's nor in the result.
        """
        for wanted in (self._labels, self._exclude):
            for error in wanted.unknown.values():
                raise error

    def why_nothing(self, what: str = "event") -> str:
        """Why nothing was kept, in one sentence."""
        if not self.n_rows:
            return f"the result has no {what}"
        if self._best is not None:
            score, label = self._best
            asked = f"-t {self.options.min_score:g}" if not self._score_of else "its threshold"
            of = f" of {listed_labels(self.options.labels)}" if self.options.labels else ""
            return f"no {what}{of} passes {asked}; the best is {score:.2g} ({label})"
        shown = listed_labels(label for label, _ in self._met.most_common())
        return f"no {what} has a label that is wanted; the result has {shown}"
