"""From windows to a clip, and from scores to tags."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dymn_cli.errors import UsageError
from dymn_cli.labels import Vocabulary
from dymn_cli.results import WindowScores
from dymn_cli.tagging.aggregate import Aggregator, Selection, sigmoid
from dymn_cli.tagging.options import TagOptions

COLOURS = Vocabulary.from_names(["red", "green", "blue", "sea, deep", "black"])


def window(scores: list[float], embedding: list[float]) -> WindowScores:
    values = np.array(scores, np.float32)
    return WindowScores(0.0, 10.0, values, values, np.array(embedding, np.float32))


def picked(scores: list[float], **options: object) -> list[tuple[int, str, float]]:
    selection = Selection(TagOptions(**options), COLOURS)  # type: ignore[arg-type]
    tags = selection.tags(np.array(scores, np.float32))
    return [(tag.rank, tag.label, round(tag.score, 4)) for tag in tags]


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


def test_the_best_come_first_and_rank_counts_from_one() -> None:
    assert picked([0.1, 0.5, 0.3, 0.9, 0.2], top=3) == [
        (1, "sea, deep", 0.9),
        (2, "green", 0.5),
        (3, "blue", 0.3),
    ]


def test_equal_scores_come_in_the_order_of_the_model() -> None:
    assert [label for _, label, _ in picked([0.5, 0.7, 0.5, 0.7, 0.5], top=0)] == [
        "green",
        "sea, deep",
        "red",
        "blue",
        "black",
    ]


def test_zero_means_all_and_so_does_more_than_there_are() -> None:
    assert len(picked([0.0] * 5, top=0)) == len(picked([0.0] * 5, top=99)) == 5


def test_a_score_at_the_threshold_is_kept() -> None:
    assert [label for _, label, _ in picked([0.3, 0.2999, 0.31, 0.0, 0.0], min_score=0.3)] == ["blue", "red"]


def test_thresholds_filter_before_the_number_of_tags_is_cut() -> None:
    kept = picked([0.9, 0.8, 0.7, 0.6, 0.5], top=2, thresholds=(("red", 0.95), ("green", 0.85)))
    assert kept == [(1, "blue", 0.7), (2, "sea, deep", 0.6)]


def test_a_threshold_of_a_label_goes_before_the_general_one_in_both_directions() -> None:
    kept = picked([0.2, 0.4, 0.4, 0.0, 0.0], min_score=0.3, thresholds=(("red", 0.1), ("blue", 0.5)))
    assert [label for _, label, _ in kept] == ["green", "red"]


def test_a_choice_of_labels_hides_all_others_and_keeps_their_thresholds() -> None:
    scores = [0.9, 0.8, 0.1, 0.2, 0.7]
    assert [label for _, label, _ in picked(scores, labels=("BLUE", "sea-deep"))] == ["sea, deep", "blue"]
    kept = picked(scores, labels=("red", "blue"), thresholds=(("blue", 0.5), ("black", 0.0)))
    assert [label for _, label, _ in kept] == ["red"]


def test_a_label_with_a_comma_is_one_label() -> None:
    assert picked([0.1] * 5, labels=("sea, deep",)) == [(1, "sea, deep", 0.1)]
    with pytest.raises(UsageError):
        picked([0.1] * 5, labels=("red, green",))


def test_tags_know_their_place_and_id() -> None:
    audioset = Vocabulary.audioset()
    scores = np.zeros(527, np.float32)
    scores[[74, 441]] = 0.5, 0.25
    tags = Selection(TagOptions(top=2), audioset).tags(scores)
    assert [(tag.rank, tag.index, tag.label, tag.mid, tag.score) for tag in tags] == [
        (1, 74, "Dog", "/m/0bt9lr", 0.5),
        (2, 441, audioset[441].name, audioset[441].mid, 0.25),
    ]


@pytest.mark.parametrize("options", [{"labels": ("purple",)}, {"thresholds": (("purple", 0.5),)}])
def test_an_unknown_label_is_an_error_with_the_nearest(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="purple") as caught:
        Selection(TagOptions(**options), COLOURS)  # type: ignore[arg-type]
    assert (caught.value.hint or "").startswith("nearest: ")


@given(
    scores=st.lists(st.floats(0, 1, width=32), min_size=5, max_size=5),
    top=st.integers(0, 6),
    lowest=st.floats(0, 1, width=32),
)
def test_a_selection_is_the_sorted_filtered_cut_list(scores: list[float], top: int, lowest: float) -> None:
    tags = Selection(TagOptions(top=top, min_score=lowest), COLOURS).tags(np.array(scores, np.float32))
    above = sorted((score for score in scores if score >= lowest), reverse=True)
    assert [tag.score for tag in tags] == (above[:top] if top else above)
    assert [tag.rank for tag in tags] == list(range(1, len(tags) + 1))
