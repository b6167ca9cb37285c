"""Figures over classes: what counts, what does not, and what is said of it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from dymn_cli.errors import InputError
from dymn_cli.evaluation.evaluate import evaluate

LABELS = [("/m/1", "Dog"), ("", "Cat"), ("", "Owl")]
SCORES = np.array([[0.9, 0.2, 0.1], [0.3, 0.7, 0.1], [0.6, 0.5, 0.1], [0.2, 0.1, 0.3]], np.float32)
TRUTH = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0], [1, 0, 0]], bool)


def test_means_are_over_the_classes_that_some_recording_has() -> None:
    found = evaluate(SCORES, TRUTH, LABELS)
    assert [one.label for one in found.classes] == ["Dog", "Cat"]
    assert found.without == ("Owl",)
    metrics = pytest.importorskip("sklearn.metrics")
    expected = metrics.average_precision_score(TRUTH[:, :2], SCORES[:, :2], average="macro")
    assert found.mean_average_precision == pytest.approx(expected)
    assert found.mean_auc == pytest.approx(metrics.roc_auc_score(TRUTH[:, :2], SCORES[:, :2]))


def test_accuracy_is_about_the_highest_score_of_all_and_of_the_classes_judged() -> None:
    found = evaluate(SCORES, TRUTH, LABELS)
    assert found.accuracy == 0.5  # the last recording is taken for an owl, the third for a dog
    assert found.accuracy_among == 0.75
    assert found.confusion is not None
    assert found.confusion.labels == ("Dog", "Cat")
    assert found.confusion.counts == ((2, 0), (1, 1))


def test_equal_scores_are_right_in_part() -> None:
    assert evaluate(np.full((4, 3), 0.5), TRUTH, LABELS).accuracy == pytest.approx(1 / 3)


def test_several_labels_have_no_confusion_but_an_accuracy() -> None:
    truth = TRUTH.copy()
    truth[2, 0] = True
    found = evaluate(SCORES, truth, LABELS)
    assert found.confusion is None
    assert found.accuracy == 0.75


def test_what_is_not_known_counts_for_nothing() -> None:
    known = np.ones(TRUTH.shape, bool)
    known[2, 0] = False  # else a false alarm above a hit
    found = evaluate(SCORES, TRUTH, LABELS, known=known)
    assert found.classes[0].average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert found.classes[0].n_known == 3
    assert math.isnan(found.accuracy)
    assert sum(one.count for one in found.bins) == known.sum()


def test_classes_whose_scores_mean_nothing_are_left_out() -> None:
    found = evaluate(SCORES, TRUTH, LABELS, judged=np.array([False, True, True]))
    assert [one.label for one in found.classes] == ["Cat"]
    assert found.without == ("Dog", "Owl")


def test_the_document_is_json_even_where_figures_are_none() -> None:
    found = evaluate(SCORES[:1], TRUTH[:1], LABELS)
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    assert document["schema"] == "dymn.eval/1"
    assert document["classes"][0]["auc"] is None
    assert document["mean_average_precision"] == 1.0


@pytest.mark.parametrize(
    ("scores", "truth", "said"),
    [
        (np.zeros((0, 3)), np.zeros((0, 3), bool), "no recordings to evaluate"),
        (SCORES, np.zeros(TRUTH.shape, bool), "no recording has any of the classes"),
        (np.where(TRUTH, np.nan, SCORES), TRUTH, "the score of Dog is nan"),
        (SCORES * 2, TRUTH, "the score of Dog is 1.79.* not between 0 and 1"),
    ],
)
def test_what_cannot_be_judged_is_said(scores: np.ndarray, truth: np.ndarray, said: str) -> None:
    with pytest.raises(InputError, match=said):
        evaluate(scores, truth, LABELS)
