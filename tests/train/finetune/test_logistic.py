"""The solver finds what others find: the weights and biases with the least loss."""

from __future__ import annotations

import numpy as np
import pytest

from dymn_cli.train.finetune.logistic import Linear, Scaling, fit_logistic


def clusters(n: int, n_features: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    which = rng.integers(n_classes, size=n)
    features = rng.normal(size=(n, n_features)) + 0.7 * rng.normal(size=(n_classes, n_features))[which]
    return features, np.eye(n_classes)[which]


@pytest.mark.parametrize("shape", [(200, 12, 3), (30, 60, 4)], ids=["many rows", "few rows"])
@pytest.mark.parametrize("penalty", [1.0, 0.1, 0.01])
def test_it_agrees_with_scikit_learn(shape: tuple[int, int, int], penalty: float) -> None:
    models = pytest.importorskip("sklearn.linear_model")
    features, targets = clusters(*shape)
    weights = np.random.default_rng(1).uniform(0.5, 1.5, targets.shape)
    found = fit_logistic(features, targets, weights, penalty=penalty)
    for n in range(targets.shape[1]):
        model = models.LogisticRegression(C=1 / (penalty * weights[:, n].sum()), tol=1e-8, max_iter=5000)
        model.fit(features, targets[:, n], sample_weight=weights[:, n])
        expected = 1 / (1 + np.exp(-model.decision_function(features)))
        scores = 1 / (1 + np.exp(-found.logits(features)[:, n]))
        np.testing.assert_allclose(scores, expected, atol=3e-3)


def test_targets_without_weight_do_not_matter() -> None:
    features, targets = clusters(100, 8, 2)
    weights = np.ones(targets.shape)
    weights[50:, 0] = 0
    spoilt = targets.copy()
    spoilt[50:, 0] = 1 - spoilt[50:, 0]
    one = fit_logistic(features, targets, weights, penalty=0.1)
    other = fit_logistic(features, spoilt, weights, penalty=0.1)
    np.testing.assert_array_equal(one.weight, other.weight)
    alone = fit_logistic(features[:50], targets[:50], np.ones((50, 2)), penalty=0.1)
    np.testing.assert_allclose(one.logits(features)[:, 0], alone.logits(features)[:, 0], atol=0.02)


def test_where_it_starts_does_not_matter() -> None:
    features, targets = clusters(100, 8, 3)
    weights = np.ones(targets.shape)
    far = Linear(np.full((3, 8), 2.0), np.full(3, -3.0))
    one = fit_logistic(features, targets, weights, penalty=0.1)
    other = fit_logistic(features, targets, weights, penalty=0.1, start=far)
    np.testing.assert_allclose(one.logits(features), other.logits(features), atol=0.02)


def test_a_class_that_nothing_has_gets_low_scores_and_no_error() -> None:
    features, targets = clusters(50, 5, 2)
    found = fit_logistic(features, np.column_stack([targets, np.zeros(50)]), np.ones((50, 3)), penalty=0.1)
    assert np.isfinite(found.weight).all()
    assert (found.logits(features)[:, 2] < -3).all()


def test_scaling_is_undone() -> None:
    rng = np.random.default_rng(2)
    features = rng.normal(5, 3, (40, 4))
    features[:, 3] = 7  # never changes
    scaling = Scaling.of(features, np.ones(40))
    scaled = scaling.apply(features)
    np.testing.assert_allclose(scaled[:, :3].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled[:, :3].std(axis=0), 1, atol=1e-12)
    np.testing.assert_allclose(scaled[:, 3], 0, atol=1e-12)
    linear = Linear(rng.normal(size=(2, 4)), rng.normal(size=2))
    np.testing.assert_allclose(scaling.undone(linear).logits(features), linear.logits(scaled), atol=1e-9)
