"""Evaluate scores against ground truth, per class and overall.

Means are over the classes that at least one recording has; the other classes are listed. Where it is
unknown whether a recording has a label, its score does not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dymn_cli.errors import InputError
from dymn_cli.evaluation.metrics import Bin, average_precision, curve_of, d_prime, reliability, roc_auc
from dymn_cli.evaluation.thresholds import Threshold, at_precision, best_f1

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ClassResult", "Confusion", "Evaluation", "evaluate", "finite"]

SCHEMA = "dymn.eval/1"


@dataclass(frozen=True, slots=True)
class ClassResult:
    """The metrics of one class.

    Args:
        label: its name.
        mid: its AudioSet id, or "".
        n_positive: recordings that have it.
        n_known: recordings where it is known.
        average_precision: see `metrics`.
        auc: ROC AUC; NaN if every recording has the class.
        d_prime: from the AUC.
        threshold: the best one by the rule of the evaluation.
    """

    label: str
    mid: str
    n_positive: int
    n_known: int
    average_precision: float
    auc: float
    d_prime: float
    threshold: Threshold


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of recordings: rows are their true class, columns the class with the highest score."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The metrics of a model or a result.

    Args:
        n_clips: recordings.
        n_labels: classes that have scores.
        classes: the results of those that can be evaluated, in the model's order.
        without: names of the other classes: no recording has them, or none could be learned from.
        mean_average_precision: mean over `classes`.
        mean_auc: likewise.
        d_prime: from the mean AUC, as for AudioSet.
        accuracy: share of labelled recordings whose highest score is right; NaN if labels are partly known.
        accuracy_among: likewise among the classes that some recording has.
        bins: over all scores; see `metrics.reliability`.
        calibration_error: likewise.
        threshold_rule: how thresholds are chosen.
        confusion: None unless each recording has one label.
    """

    n_clips: int
    n_labels: int
    classes: tuple[ClassResult, ...]
    without: tuple[str, ...]
    mean_average_precision: float
    mean_auc: float
    d_prime: float
    accuracy: float
    accuracy_among: float
    bins: tuple[Bin, ...]
    calibration_error: float
    threshold_rule: str
    confusion: Confusion | None

    @property
    def thresholds(self) -> list[tuple[str, str, float]]:
        """(mid, label, threshold) of each class."""
        return [(one.mid, one.label, one.threshold.value) for one in self.classes]

    @property
    def never_precise(self) -> list[str]:
        """Classes that reach the wanted precision at no threshold: see `thresholds.NEVER`."""
        return [one.label for one in self.classes if math.isnan(one.threshold.precision)]

    def document(self) -> dict[str, Any]:
        """The metrics as a JSON object; NaN and infinity are null."""
        return {
            "schema": SCHEMA,
            "n_clips": self.n_clips,
            "n_labels": self.n_labels,
            "n_classes": len(self.classes),
            "mean_average_precision": finite(self.mean_average_precision),
            "mean_auc": finite(self.mean_auc),
            "d_prime": finite(self.d_prime),
            "accuracy": finite(self.accuracy),
            "accuracy_among": finite(self.accuracy_among),
            "calibration_error": finite(self.calibration_error),
            "threshold_rule": self.threshold_rule,
            "classes": [
                {
                    "label": one.label,
                    "mid": one.mid,
                    "n_positive": one.n_positive,
                    "n_known": one.n_known,
                    "average_precision": finite(one.average_precision),
                    "auc": finite(one.auc),
                    "d_prime": finite(one.d_prime),
                    "threshold": one.threshold.value,
                    "precision": finite(one.threshold.precision),
                    "recall": finite(one.threshold.recall),
                    "f1": finite(one.threshold.f1),
                }
                for one in self.classes
            ],
            "without": list(self.without),
            "reliability": [
                {
                    "low": one.low,
                    "high": one.high,
                    "count": one.count,
                    "mean_score": finite(one.mean_score),
                    "share": finite(one.share),
                }
                for one in self.bins
            ],
            "confusion": None
            if self.confusion is None
            else {"labels": list(self.confusion.labels), "counts": [list(r) for r in self.confusion.counts]},
        }


def finite(value: float) -> float | None:
    """The value to six digits; None for NaN and infinity."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def evaluate(
    scores: NDArray[np.floating],
    truth: NDArray[np.bool_],
    labels: Sequence[tuple[str, str]],
    *,
    known: NDArray[np.bool_] | None = None,
    judged: NDArray[np.bool_] | None = None,
    precision: float | None = None,
) -> Evaluation:
    """Evaluate scores.

    Args:
        scores: (n_clips, n_labels) in [0, 1].
        truth: (n_clips, n_labels) which recording has which class.
        labels: (mid, name) of each class.
        known: (n_clips, n_labels) where the truth is known; None for everywhere.
        judged: (n_labels,) the classes to evaluate; None for all.
        precision: choose thresholds that reach it; None for those with the best F1.

    Raises:
        InputError: no class can be evaluated, or a score is not between 0 and 1.
    """
    if not len(scores):
        raise InputError("no recordings to evaluate")
    if not ((scores >= 0) & (scores <= 1)).all():  # NaN fails here, too
        row, column = np.argwhere(~((scores >= 0) & (scores <= 1)))[0]
        raise InputError(f"the score of {labels[column][1]} is {scores[row, column]}, not between 0 and 1")
    everything = known is None or bool(known.all())
    known = np.ones(truth.shape, bool) if known is None else known
    positives = (truth & known).sum(axis=0)
    among = (positives > 0) & (np.ones(len(labels), bool) if judged is None else judged)
    numbers = np.flatnonzero(among).tolist()
    if not numbers:
        raise InputError("no recording has any of the classes: nothing to evaluate")
    classes = []
    for n in numbers:
        rows = known[:, n]
        curve = curve_of(scores[rows, n], truth[rows, n])
        auc = roc_auc(curve)
        threshold = best_f1(curve) if precision is None else at_precision(curve, precision)
        mid, name = labels[n]
        figures = (average_precision(curve), auc, d_prime(auc))
        classes.append(ClassResult(name, mid, int(positives[n]), int(rows.sum()), *figures, threshold))
    aucs = [one.auc for one in classes if not math.isnan(one.auc)]
    mean_auc = float(np.mean(aucs)) if aucs else math.nan
    bins, error = reliability(scores[known], truth[known])
    labelled = truth.any(axis=1)
    rule = "best F1" if precision is None else f"precision {precision:g}"
    return Evaluation(
        n_clips=len(scores),
        n_labels=len(labels),
        classes=tuple(classes),
        without=tuple(labels[n][1] for n in np.flatnonzero(~among).tolist()),
        mean_average_precision=float(np.mean([one.average_precision for one in classes])),
        mean_auc=mean_auc,
        d_prime=d_prime(mean_auc),
        accuracy=_accuracy(scores[labelled], truth[labelled]) if everything else math.nan,
        accuracy_among=_accuracy(scores[labelled][:, among], truth[labelled][:, among])
        if everything
        else math.nan,
        bins=bins,
        calibration_error=error,
        threshold_rule=rule,
        confusion=_confusion(scores[:, among], truth[:, among], [labels[n][1] for n in numbers])
        if everything
        else None,
    )


def _accuracy(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Share of rows whose highest score is right; scores that tie for it count in equal parts."""
    highest = scores == scores.max(axis=1, keepdims=True)
    return float(np.mean((highest & truth).sum(axis=1) / highest.sum(axis=1)))


def _confusion(
    scores: NDArray[np.floating], truth: NDArray[np.bool_], labels: Sequence[str]
) -> Confusion | None:
    if not (truth.sum(axis=1) == 1).all():
        return None
    counts = np.zeros((len(labels), len(labels)), int)
    np.add.at(counts, (truth.argmax(axis=1), scores.argmax(axis=1)), 1)
    return Confusion(tuple(labels), tuple(tuple(int(cell) for cell in row) for row in counts))
