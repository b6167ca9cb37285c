"""From windows to a clip."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dymn_cli.results import WindowScores
from dymn_cli.tagging.aggregate import Aggregator, sigmoid


def window(scores: list[float], embedding: list[float]) -> WindowScores:
    values = np.array(scores, np.float32)
    return WindowScores(0.0, 10.0, values, values, np.array(embedding, np.float32))


def test_sigmoid_keeps_the_digits_of_small_scores_and_never_overflows() -> None:
    logits = np.array([0.0, math.log(3), -20.0, -200.0, 200.0, -1e6], np.float32)
    with np.errstate(all="raise", under="ignore"):
        scores = sigmoid(logits)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores[:3], [0.5, 0.75, 2.061153618e-9], rtol=1e-6)
    assert list(scores[3:]) == [0.0, 1.0, 0.0]


@pytest.mark.parametrize(("how", "scores"), [("max", [0.75, 0.5]), ("mean", [0.5, 0.375])])
def test_scores_are_joined_as_asked_and_embeddings_always_by_their_mean(
    how: str, scores: list[float]
) -> None:
    aggregator = Aggregator(how)  # type: ignore[arg-type]
    for one in (
        window([0.25, 0.5], [1, 0, 3]),
        window([0.5, 0.25], [2, 0, 0]),
        window([0.75, 0.375], [3, 3, 0]),
    ):
        aggregator.add(one)
    joined, embedding = aggregator.result()
    assert aggregator.n_windows == 3
    assert (joined.tolist(), embedding.tolist()) == (scores, [2.0, 1.0, 1.0])
    assert (joined.dtype, embedding.dtype) == (np.float32, np.float32)


@pytest.mark.parametrize("how", ["max", "mean"])
def test_one_window_is_its_own_clip_to_the_last_bit_and_is_left_as_it_is(how: str) -> None:
    one = window([0.1, 0.7], [0.3])
    aggregator = Aggregator(how)  # type: ignore[arg-type]
    aggregator.add(one)
    scores, embedding = aggregator.result()
    assert np.array_equal(scores, one.scores)
    assert np.array_equal(embedding, one.embedding)
    aggregator.add(window([1.0, 1.0], [1.0]))
    assert one.scores.tolist() == pytest.approx([0.1, 0.7])


def test_a_mean_over_a_day_of_windows_keeps_its_digits() -> None:
    aggregator = Aggregator("mean")
    one = window([0.1], [1000.1])
    for _ in range(100_000):
        aggregator.add(one)
    scores, embedding = aggregator.result()
    assert scores[0] == np.float32(0.1)
    assert embedding[0] == np.float32(1000.1)


def test_nothing_is_no_clip() -> None:
    with pytest.raises(ValueError, match="no window"):
        Aggregator("max").result()
