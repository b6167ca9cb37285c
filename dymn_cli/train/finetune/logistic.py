"""Logistic regression for all classes at once, in NumPy: what a linear head is trained with.

Each class is a problem of its own (one against the rest), so that the sigmoid of a logit is the probability
of its class, which is what dymn calls a score. They are solved together, because then every step is two
matrix products. For targets y and probabilities p = sigmoid(x·v + b), with features at mean 0 and variance 1,

    loss of a class = Σ w·(−y ln p − (1 − y) ln(1 − p)) / n + penalty/2 · |v|²

The second derivative of the first term is nowhere above XᵀWX/4n (Böhning and Lindsay, Annals of the
Institute of Statistical Mathematics 40, 1988), so steps with the inverse of that fixed matrix never go too
far; Nesterov's momentum, dropped where it points uphill (O'Donoghue and Candès, 2015), makes them quick.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Linear", "Scaling", "fit_logistic"]

MAX_STEPS = 2000
TOLERANCE = 1e-7  # of the loss, in nats, that a step still gains


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """Logits from features: `features @ weight.T + bias`.

    Args:
        weight: (n_classes, n_features) float64.
        bias: (n_classes,) float64.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def logits(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Logits (n, n_classes) of features (n, n_features)."""
        return features @ self.weight.T + self.bias


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """Brings features to mean 0 and variance 1.

    Args:
        mean: (n_features,) float64.
        deviation: (n_features,) float64; 1 where a feature never changes.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def of(cls, features: NDArray[np.floating], weights: NDArray[np.float64]) -> Scaling:
        """The scaling of features (n, n_features), whose rows count by weights (n,)."""
        share = weights / weights.sum()
        mean = share @ features
        deviation = np.sqrt(share @ np.square(features - mean))
        return cls(mean, np.where(deviation > 1e-6 * np.maximum(np.abs(mean), 1e-6), deviation, 1.0))

    def apply(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """The scaled features (n, n_features)."""
        return np.asarray((features - self.mean) / self.deviation, np.float64)

    def undone(self, scaled: Linear) -> Linear:
        """The same logits from features as they were before they were scaled."""
        weight = scaled.weight / self.deviation
        return Linear(weight, scaled.bias - weight @ self.mean)


def fit_logistic(
    features: NDArray[np.float64],
    targets: NDArray[np.float64],
    weights: NDArray[np.float64],
    *,
    penalty: float,
    start: Linear | None = None,
) -> Linear:
    """The weights and biases with the least loss.

    Args:
        features: (n, n_features), scaled.
        targets: (n, n_classes) in [0, 1].
        weights: (n, n_classes), how much each target counts; 0 where it is not known.
        penalty: of the squared weights; biases are free.
        start: where to begin, for example the answer to another penalty.
    """
    if len(features) < features.shape[1]:
        # The answer is a sum of rows, so as many directions as there are rows are enough.
        basis = np.linalg.svd(features, full_matrices=False)[2]
        begin = None if start is None else Linear(start.weight @ basis.T, start.bias)
        inner = _solve(features @ basis.T, targets, weights, penalty, begin)
        return Linear(inner.weight @ basis, inner.bias)
    return _solve(features, targets, weights, penalty, start)


def _solve(
    features: NDArray[np.float64],
    targets: NDArray[np.float64],
    weights: NDArray[np.float64],
    penalty: float,
    start: Linear | None,
) -> Linear:
    n, n_features = features.shape
    n_classes = targets.shape[1]
    x = np.column_stack([features, np.ones(n)])
    share = weights / np.maximum(weights.sum(axis=0), 1e-12)
    ridge = np.append(np.full(n_features, penalty), 1e-9)[:, None]
    inverse = np.linalg.inv(x.T @ (x * share.max(axis=1, keepdims=True)) / 4 + np.diagflat(ridge))

    here = np.zeros((n_features + 1, n_classes))
    if start is not None:
        here = np.vstack([start.weight.T, start.bias])
    found, left = here.copy(), np.arange(n_classes)  # classes that are not there yet
    ahead, momentum = here, np.ones(n_classes)
    for _ in range(MAX_STEPS):
        slope = x.T @ (share[:, left] * (_sigmoid(x @ ahead) - targets[:, left])) + ridge * ahead
        step = inverse @ slope
        there = ahead - step
        momentum[np.sum(slope * (there - here), axis=0) > 0] = 1.0
        grown = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = there + (momentum - 1) / grown * (there - here)
        here, momentum = there, grown
        found[:, left] = here
        keep = np.sum(slope * step, axis=0) > 2 * TOLERANCE
        if not keep.any():
            break
        left, here, ahead, momentum = left[keep], here[:, keep], ahead[:, keep], momentum[keep]
    return Linear(found[:-1].T.copy(), found[-1].copy())


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1.0 + np.tanh(0.5 * x))
