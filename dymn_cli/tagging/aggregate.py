"""From the windows' answers to the clip's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.results import WindowScores
    from dymn_cli.tagging.options import Aggregate

__all__ = ["Aggregator", "sigmoid"]


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
