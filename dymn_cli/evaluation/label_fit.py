"""How well scores fit the labels of held-out recordings, in the few figures that a training shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.errors import InputError
from dymn_cli.evaluation.evaluate import evaluate

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["fit_to_labels"]

CERTAIN = 1e-6


def fit_to_labels(
    scores: NDArray[np.float32],
    truth: NDArray[np.bool_],
    known: NDArray[np.bool_],
    *,
    with_accuracy: bool = False,
) -> dict[str, float]:
    """Measure scores by labels; figures without a value are left out.

    loss        binary cross-entropy, sum over the classes of what is known, mean over the recordings
    map         mean average precision
    accuracy    share of the recordings whose highest score is their label

    Args:
        scores: (n, n_classes) in [0, 1].
        truth: (n, n_classes) which recording has which label.
        known: (n, n_classes) of which labels that is known.
        with_accuracy: whether each recording has one label.
    """
    p = np.clip(scores.astype(np.float64), CERTAIN, 1 - CERTAIN)
    likely = np.where(truth, p, 1 - p)
    measures = {"loss": float(np.sum(known * -np.log(likely)) / len(p))}
    try:
        judged = evaluate(scores, truth, [("", f"{n}") for n in range(scores.shape[1])], known=known)
    except InputError:  # none of them has any of the classes
        return measures
    measures["map"] = judged.mean_average_precision
    if with_accuracy and not np.isnan(judged.accuracy):
        measures["accuracy"] = judged.accuracy
    return measures
