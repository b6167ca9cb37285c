"""Metrics of taggers, in NumPy.

    average precision   mean of the precision at each recording that has the class, by descending score
    ROC AUC             chance that a recording with the class scores higher than one without; ties count half
    d′                  √2 · Φ⁻¹(AUC), as for AudioSet (Hershey et al., ICASSP 2017)

Equal scores form one threshold together, so the metrics do not depend on the order of files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Bin", "Curve", "average_precision", "curve_of", "d_prime", "reliability", "roc_auc"]

N_BINS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """What each threshold gives: one entry for each different score, the highest first.

    Args:
        thresholds: (k,) the scores.
        hits: (k,) recordings with the class that score as much or more.
        alarms: (k,) recordings without it that score as much or more.
    """

    thresholds: NDArray[np.float64]
    hits: NDArray[np.float64]
    alarms: NDArray[np.float64]

    @property
    def precision(self) -> NDArray[np.float64]:
        """(k,) share of the reported recordings that have the class."""
        return np.asarray(self.hits / (self.hits + self.alarms))

    @property
    def recall(self) -> NDArray[np.float64]:
        """(k,) share of the recordings with the class that are reported."""
        return np.asarray(self.hits / self.hits[-1])

    @property
    def f1(self) -> NDArray[np.float64]:
        """(k,) the harmonic mean of precision and recall."""
        return np.asarray(2 * self.hits / (self.hits + self.alarms + self.hits[-1]))


def curve_of(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> Curve:
    """The curve of one class.

    Args:
        scores: (n,) finite.
        truth: (n,) which recordings have the class; at least one.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, right = scores[order], truth[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # of each run of equal scores
    hits = np.cumsum(right, dtype=np.float64)[last]
    return Curve(ranked[last].astype(np.float64), hits, last + 1 - hits)


def average_precision(curve: Curve) -> float:
    """Average precision, in (0, 1]."""
    gained = np.diff(curve.recall, prepend=0.0)
    return float(np.sum(gained * curve.precision))


def roc_auc(curve: Curve) -> float:
    """Area under the receiver operating characteristic; NaN where every recording has the class."""
    n_without = curve.alarms[-1]
    if not n_without:
        return math.nan
    hits = np.concatenate([[0.0], curve.hits])
    steps = np.diff(curve.alarms, prepend=0.0)
    return float(np.sum(steps * (hits[1:] + hits[:-1]) / 2) / (n_without * curve.hits[-1]))


def d_prime(auc: float) -> float:
    """The distance between two normal distributions with this AUC, in standard deviations; ±∞ at 0 and 1."""
    if math.isnan(auc):
        return math.nan
    if auc <= 0 or auc >= 1:
        return math.copysign(math.inf, auc - 0.5)
    return math.sqrt(2) * NormalDist().inv_cdf(auc)


@dataclass(frozen=True, slots=True)
class Bin:
    """Scores between two bounds: their mean, and how often they are right.

    Args:
        low: bound, included.
        high: bound, included in the last bin only.
        count: of scores in the bin.
        mean_score: of these.
        share: of these that belong to a class the recording has.
    """

    low: float
    high: float
    count: int
    mean_score: float
    share: float


def reliability(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> tuple[tuple[Bin, ...], float]:
    """Compare scores to probabilities, in ten bins of the same width.

    Args:
        scores: (n,) in [0, 1].
        truth: (n,) whether each is right.

    Returns:
        The bins that are not empty, and the expected calibration error: the mean over all scores of the
        difference between mean score and share of their bin.
    """
    which = np.minimum((np.asarray(scores, np.float64) * N_BINS).astype(int), N_BINS - 1)
    counts = np.bincount(which, minlength=N_BINS)
    sums = np.bincount(which, scores, N_BINS)
    right = np.bincount(which, truth, N_BINS)
    bins = tuple(
        Bin(n / N_BINS, (n + 1) / N_BINS, int(count), float(sums[n] / count), float(right[n] / count))
        for n, count in enumerate(counts)
        if count
    )
    off = sum(one.count * abs(one.mean_score - one.share) for one in bins)
    return bins, float(off / max(len(scores), 1))
