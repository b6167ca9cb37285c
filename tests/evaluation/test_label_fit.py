"""The few figures that a training shows of held-out recordings with labels."""

from __future__ import annotations

import numpy as np
import pytest

from dymn_cli.evaluation.label_fit import fit_to_labels

TRUTH = np.array([[True, False], [False, True], [True, False]])
ALL = np.ones_like(TRUTH)


def test_good_scores_have_a_small_loss_and_a_high_precision() -> None:
    good = np.where(TRUTH, 0.9, 0.1).astype(np.float32)
    found = fit_to_labels(good, TRUTH, ALL, with_accuracy=True)
    assert found["loss"] == pytest.approx(-2 * np.log(0.9), rel=1e-5)
    assert (found["map"], found["accuracy"]) == (1.0, 1.0)
    wrong = fit_to_labels(1 - good, TRUTH, ALL)
    assert wrong["loss"] > found["loss"]
    assert wrong["map"] < 0.6
    assert "accuracy" not in wrong


def test_what_is_unknown_does_not_count() -> None:
    scores = np.where(TRUTH, 0.9, 0.1).astype(np.float32)
    scores[0, 0] = 0.0
    known = ALL.copy()
    known[0, 0] = False
    found = fit_to_labels(scores, TRUTH, known)
    assert found["loss"] == pytest.approx(-5 * np.log(0.9) / 3, rel=1e-5)
    assert found["map"] == 1.0


def test_recordings_without_any_of_the_classes_have_a_loss_alone() -> None:
    found = fit_to_labels(np.full((2, 2), 0.5, np.float32), np.zeros((2, 2), bool), np.ones((2, 2), bool))
    assert found == {"loss": pytest.approx(2 * np.log(2))}
