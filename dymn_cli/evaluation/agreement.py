"""Measure how closely a student follows its teacher, on held-out recordings.

KL        Σ over classes of p ln(p/q) + (1 − p) ln((1 − p)/(1 − q)), mean over clips, nats; p is the teacher's
top-1     share of clips with the same top class for both
top-5     share of clips whose top class for the teacher is among the student's five highest
rank      Spearman's rank correlation of the classes' scores, mean over clips
entropy   of the teacher, Σ over classes of the binary entropy, mean over clips, nats: the scale of KL
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Agreement", "agreement"]

N_TOP = 5


@dataclass(frozen=True, slots=True)
class Agreement:
    """The measures over a number of clips."""

    n_clips: int
    kl: float
    top1: float
    top5: float
    rank: float
    teacher_entropy: float

    def measures(self) -> dict[str, float]:
        """The measures by name, for logs and tables."""
        return {name: value for name, value in asdict(self).items() if name != "n_clips"}


def agreement(student: NDArray[np.floating], teacher: NDArray[np.floating]) -> Agreement:
    """Compare logits, each (n_clips, n_classes)."""
    ours = np.asarray(student, np.float64)
    theirs = np.asarray(teacher, np.float64)
    scores = _sigmoid(theirs)
    # ln p = −ln(1 + e^−x), ln(1 − p) = −ln(1 + e^x): finite for any logit.
    kl = scores * (_softplus(-ours) - _softplus(-theirs)) + (1 - scores) * (
        _softplus(ours) - _softplus(theirs)
    )
    entropy = scores * _softplus(-theirs) + (1 - scores) * _softplus(theirs)
    top = theirs.argmax(axis=1)
    n_top = min(N_TOP, ours.shape[1])
    best = np.argpartition(-ours, n_top - 1, axis=1)[:, :n_top]
    return Agreement(
        n_clips=len(ours),
        kl=float(kl.sum(axis=1).mean()),
        top1=float((ours.argmax(axis=1) == top).mean()),
        top5=float((best == top[:, None]).any(axis=1).mean()),
        rank=float(np.mean([_spearman(a, b) for a, b in zip(ours, theirs, strict=True)])),
        teacher_entropy=float(entropy.sum(axis=1).mean()),
    )


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-_softplus(-x))


def _softplus(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.logaddexp(0.0, x)


def _spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    a, b = _ranks(one), _ranks(other)
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else 0.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0; equal values share the mean of their ranks."""
    _, number, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count + 1) / 2)[number]
