"""From the windows' answers to the clip's, and from scores to tags."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.errors import UsageError
from dymn_cli.results import Tag

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.labels import Vocabulary
    from dymn_cli.results import WindowScores
    from dymn_cli.tagging.options import Aggregate, TagOptions

__all__ = ["Aggregator", "Selection", "sigmoid"]


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(−x)), computed in float64, so that small scores keep their digits."""
    with np.errstate(over="ignore"):  # exp overflows to infinity, and the score is 0
        return (1.0 / (1.0 + np.exp(-logits.astype(np.float64)))).astype(np.float32)


class Aggregator:
    """Joins windows as they come; holds sums, not windows.

    Scores: maximum or mean over windows. Embedding: mean over windows. Sums are float64, so that a day of
    windows loses no digits.
    """

    def __init__(self, how: Aggregate) -> None:
        self._how = how
        self.n_windows = 0
        self._scores: NDArray[np.float64] | None = None
        self._embedding: NDArray[np.float64] | None = None

    def add(self, window: WindowScores) -> None:
        """Take one window in."""
        scores, embedding = window.scores.astype(np.float64), window.embedding.astype(np.float64)
        self.n_windows += 1
        if self._scores is None or self._embedding is None:
            self._scores, self._embedding = scores, embedding
            return
        self._embedding += embedding
        if self._how == "max":
            np.maximum(self._scores, scores, out=self._scores)
        else:
            self._scores += scores

    def result(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores (n_classes,) and embedding (embedding_size,) of all windows so far; at least one."""
        if self._scores is None or self._embedding is None:
            raise ValueError("no window was added")
        scores = self._scores if self._how == "max" else self._scores / self.n_windows
        return scores.astype(np.float32), (self._embedding / self.n_windows).astype(np.float32)


class Selection:
    """Which tags are kept: thresholds filter, then the best `top` of what is left.

    Raises:
        UsageError: an unknown label in the options.
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
        if options.labels:
            wanted = {vocabulary.find(label).index for label in options.labels}
            unwanted = [label.index for label in self._labels if label.index not in wanted]
            self._lowest[unwanted] = np.inf

    def tags(self, scores: NDArray[np.float32]) -> tuple[Tag, ...]:
        """The tags to keep of (n_classes,) scores, best first; equal scores in the model's order."""
        best = np.argsort(-scores, kind="stable")
        kept = best[scores[best] >= self._lowest[best]][: self._top]
        return tuple(
            Tag(rank, int(i), self._labels[i].name, self._labels[i].mid, float(scores[i]))
            for rank, i in enumerate(kept, start=1)
        )
