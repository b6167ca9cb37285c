"""The measures are those of the field: as scikit-learn computes them, ties and all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dymn_cli.evaluation.metrics import average_precision, curve_of, d_prime, reliability, roc_auc


def scored(seed: int, *, n: int = 60, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Scores, of few different values if wanted, and a truth that they are somewhat right about."""
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.3
    truth[:2] = (True, False)
    scores = np.clip(rng.normal(0.4 + 0.2 * truth, 0.2), 0, 1)
    return (scores if levels is None else np.round(scores * levels) / levels), truth


@pytest.mark.parametrize("levels", [None, 10, 2])
@pytest.mark.parametrize("seed", range(5))
def test_figures_are_those_of_scikit_learn(seed: int, levels: int | None) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    scores, truth = scored(seed, levels=levels)
    curve = curve_of(scores, truth)
    assert average_precision(curve) == pytest.approx(
        metrics.average_precision_score(truth, scores), abs=1e-12
    )
    assert roc_auc(curve) == pytest.approx(metrics.roc_auc_score(truth, scores), abs=1e-12)
    precision, recall, limits = metrics.precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert curve.f1.max() == pytest.approx(f1.max(), abs=1e-12)
    at = curve.thresholds.tolist().index(limits[np.argmax(f1[:-1])])
    assert curve.precision[at] == pytest.approx(precision[np.argmax(f1[:-1])])


@given(st.integers(0, 1000))
def test_the_order_of_files_does_not_matter(seed: int) -> None:
    scores, truth = scored(seed, n=20, levels=4)
    order = np.random.default_rng(seed).permutation(len(scores))
    one, other = curve_of(scores, truth), curve_of(scores[order], truth[order])
    assert average_precision(one) == average_precision(other)
    assert roc_auc(one) == roc_auc(other)


def test_perfect_and_worst_scores() -> None:
    truth = np.array([True, True, False, False])
    best = curve_of(np.array([0.9, 0.8, 0.2, 0.1]), truth)
    assert (average_precision(best), roc_auc(best)) == (1.0, 1.0)
    assert roc_auc(curve_of(np.array([0.1, 0.2, 0.8, 0.9]), truth)) == 0.0
    assert roc_auc(curve_of(np.full(4, 0.5), truth)) == 0.5


def test_a_class_that_every_recording_has_has_no_auc() -> None:
    curve = curve_of(np.array([0.3, 0.4]), np.array([True, True]))
    assert average_precision(curve) == 1.0
    assert math.isnan(roc_auc(curve))
    assert math.isnan(d_prime(math.nan))


@pytest.mark.parametrize(
    ("auc", "distance"), [(0.5, 0.0), (0.967, 2.6), (0.25, -0.954), (1.0, math.inf), (0.0, -math.inf)]
)
def test_d_prime_is_the_distance_of_two_normal_distributions(auc: float, distance: float) -> None:
    assert d_prime(auc) == pytest.approx(distance, abs=2e-3)


def test_reliability_compares_scores_with_how_often_they_are_right() -> None:
    scores = np.array([0.05, 0.05, 0.95, 0.95, 1.0, 0.1])
    truth = np.array([False, True, True, True, True, False])
    bins, error = reliability(scores, truth)
    assert [(one.low, one.count, one.share) for one in bins] == [(0.0, 2, 0.5), (0.1, 1, 0.0), (0.9, 3, 1.0)]
    assert bins[2].mean_score == pytest.approx((0.95 + 0.95 + 1.0) / 3)
    assert error == pytest.approx((2 * 0.45 + 0.1 + 3 * (1 - 2.9 / 3)) / 6)


def test_scores_that_are_probabilities_are_reliable() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(50_000)
    assert reliability(scores, rng.random(50_000) < scores)[1] < 0.01
    assert reliability(scores, rng.random(50_000) < scores**2)[1] > 0.1
