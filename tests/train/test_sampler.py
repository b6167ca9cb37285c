from __future__ import annotations

import numpy as np
import pytest

from dymn_cli.datasets.seeding import step_generator
from dymn_cli.train.sampler import Sampler, label_or_best, label_weights, rarity_weights, source_weights


def test_a_step_draws_the_same_whenever_it_is_computed() -> None:
    sampler = Sampler(np.arange(100))
    later = sampler.draw(step_generator(3, 0, 7), 5)
    sampler.draw(step_generator(3, 0, 8), 5)
    assert (sampler.draw(step_generator(3, 0, 7), 5) == later).all()
    for other in ((4, 0, 7), (3, 1, 7), (3, 0, 8)):
        assert (sampler.draw(step_generator(*other), 5) != later).any()


def test_clips_are_drawn_in_proportion_to_their_weights() -> None:
    sampler = Sampler(np.array([10, 20, 30]), np.array([1.0, 3.0, 0.0]))
    drawn = sampler.draw(np.random.default_rng(0), 4000)
    assert set(drawn) == {10, 20}
    assert (drawn == 20).mean() == pytest.approx(0.75, abs=0.03)


def test_rare_labels_weigh_more() -> None:
    labels = np.zeros((1000, 3), np.uint8)
    labels[:900, 0] = 1
    labels[900:902, 1] = 1
    labels[902, :2] = 1
    weights = label_weights(labels)
    assert weights[0] == pytest.approx(1000 / 1001)
    assert weights[900] == pytest.approx(1000 / 103)
    assert weights[902] == pytest.approx(1000 / 1001 + 1000 / 103)
    assert weights[999] == weights[0]  # no label: as the commonest


def test_sources_are_drawn_by_the_square_root_of_their_size() -> None:
    groups = ["a"] * 100 + ["b"] * 4
    weights = source_weights(groups)
    assert weights[:100].sum() / weights[100:].sum() == pytest.approx(5.0)


def test_a_source_is_as_large_as_its_clips_are_long_up_to_fifteen_seconds_of_each() -> None:
    groups = ["a"] * 16 + ["b"] * 4
    seconds = np.array([1.0] * 16 + [60.0] * 4)
    weights = source_weights(groups, seconds)
    assert weights[16:].sum() / weights[:16].sum() == pytest.approx(np.sqrt(60 / 16))
    assert weights[:16] == pytest.approx(weights[0])


def test_rare_sounds_are_drawn_more_often() -> None:
    best = np.array([3] * 100 + [7] * 4 + [0])
    weights = rarity_weights(best)
    assert weights[100] / weights[0] == pytest.approx(5.0)
    assert weights[104] / weights[0] == pytest.approx(10.0)


def test_a_label_counts_in_place_of_the_best_class() -> None:
    labels = np.zeros((12_000, 3), np.uint8)  # more than are unpacked at a time
    labels[11_000, 1:] = 1
    best = np.zeros(12_000, np.int64)
    found = label_or_best(labels, best)
    assert np.flatnonzero(found).tolist() == [11_000]
    assert found[11_000] == 1
    assert not best.any()
