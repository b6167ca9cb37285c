"""Which clips a step sees: weights of clips, and draws that depend on the seed and the step alone.

No generator lives from step to step. Each step makes its own from (seed, what for, step), so any step can be
computed by itself, by any thread, and a resumed run draws what an uninterrupted one would have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dymn_cli.datasets.seeding import step_generator

if TYPE_CHECKING:
    from numpy.typing import NDArray


__all__ = [
    "EpochSampler",
    "LabelRows",
    "Sampler",
    "label_or_best",
    "label_weights",
    "rarity_weights",
    "source_weights",
]


PART = 10_000  # clips whose labels are unpacked at a time
MAX_S = 15.0  # of a clip that count for the size of its source: more of the same sound is no more to learn


class LabelRows(Protocol):
    """Labels of clips, (n_clips, n_classes) of 0 and 1, read in parts; an array is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, clips: Any, /) -> NDArray[Any]: ...


def label_weights(labels: LabelRows) -> NDArray[np.float64]:
    """Weights that let rare labels be heard: Σ over a clip's labels of 1000 / (100 + clips with the label).

    Returns:
        (n_clips,); a clip without labels has the smallest weight of those with any.
    """
    parts = [slice(start, start + PART) for start in range(0, len(labels), PART)]
    counts = sum(np.asarray(labels[part]).sum(axis=0, dtype=np.int64) for part in parts)
    per_class = 1000.0 / (100.0 + counts)
    weights: NDArray[np.float64] = np.concatenate([np.asarray(labels[part]) @ per_class for part in parts])
    positive = weights[weights > 0]
    return np.where(weights > 0, weights, positive.min() if len(positive) else 1.0)


def source_weights(groups: Sequence[str], seconds: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Weights by which a source is drawn in proportion to the square root of its size.

    Args:
        groups: the source of each clip.
        seconds: (n_clips,) of each; a source is as large as its clips are long, fifteen seconds of each at
            most. Where None, as it has clips.
    """
    _, number, count = np.unique(
        np.asarray(groups, dtype=object).astype(str), return_inverse=True, return_counts=True
    )
    sizes = count if seconds is None else np.bincount(number, np.minimum(seconds, MAX_S))
    weights: NDArray[np.float64] = (np.sqrt(sizes) / count)[number]
    return weights


def rarity_weights(best: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weights that let rare sounds be heard: a clip's is 1 / √(clips with the same best class).

    Args:
        best: (n_clips,) the class that the teachers find most likely in each, or its label.
    """
    weights: NDArray[np.float64] = 1.0 / np.sqrt(np.bincount(best)[best])
    return weights


def label_or_best(labels: LabelRows, best: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n_clips,) the first label of each clip that has one, and of each other the class in `best`."""
    found = best.copy()
    for start in range(0, len(labels), PART):
        part = np.asarray(labels[start : start + PART])
        labelled = part.any(axis=1)
        found[start : start + PART][labelled] = part[labelled].argmax(axis=1)
    return found


class Sampler:
    """Draws clips with replacement, each in proportion to its weight.

    Args:
        indices: (n,) the clips to draw from.
        weights: (n,) positive; equal ones where None.
    """

    def __init__(self, indices: NDArray[np.int64], weights: NDArray[np.float64] | None = None) -> None:
        self._indices = np.asarray(indices, dtype=np.int64)
        parts = np.ones(len(self._indices)) if weights is None else np.asarray(weights, dtype=np.float64)
        self._up_to = np.cumsum(parts)

    def __len__(self) -> int:
        return len(self._indices)

    def draw(self, generator: np.random.Generator, n: int) -> NDArray[np.int64]:
        """(n,) clips."""
        places = generator.random(n) * self._up_to[-1]
        found = np.searchsorted(self._up_to, places, side="right")
        drawn: NDArray[np.int64] = self._indices[np.minimum(found, len(self._indices) - 1)]
        return drawn


class EpochSampler:
    """Each recording once in every epoch, each epoch in an order of its own, in batches without a gap.

    Args:
        examples: (n,) what there is.
        batch: in a step.
        seed: of the orders.
        purpose: see `step_generator`.
    """

    def __init__(self, examples: NDArray[np.intp], batch: int, seed: int, purpose: int) -> None:
        self._examples, self._batch = examples, batch
        self._seed, self._purpose = seed, purpose

    def of_step(self, step: int) -> NDArray[np.intp]:
        """(batch,) examples of a step."""
        n = len(self._examples)
        places = np.arange(step * self._batch, (step + 1) * self._batch)
        drawn = np.empty(self._batch, np.intp)
        for epoch in range(int(places[0]) // n, int(places[-1]) // n + 1):
            order = step_generator(self._seed, self._purpose, epoch).permutation(n)
            here = places // n == epoch
            drawn[here] = order[places[here] % n]
        return self._examples[drawn]
