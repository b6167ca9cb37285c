from __future__ import annotations

import numpy as np
import pytest

from dymn_cli.evaluation.agreement import agreement


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 2, (30, 17))


def test_a_copy_agrees_in_everything(logits: np.ndarray) -> None:
    same = agreement(logits, logits)
    assert same.kl == pytest.approx(0, abs=1e-12)
    assert (same.top1, same.top5, same.n_clips) == (1.0, 1.0, 30)
    assert same.rank == pytest.approx(1.0)


def test_kl_is_the_sum_of_binary_divergences() -> None:
    p, q = np.array([0.9, 0.2]), np.array([0.6, 0.5])
    wanted = sum(a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b)) for a, b in zip(p, q, strict=True))
    found = agreement(np.log(q / (1 - q))[None], np.log(p / (1 - p))[None])
    assert found.kl == pytest.approx(wanted)
    assert found.teacher_entropy == pytest.approx(-sum(a * np.log(a) + (1 - a) * np.log(1 - a) for a in p))


def test_top_five_asks_for_the_teachers_best_among_ours() -> None:
    teacher = np.tile(np.arange(10.0), (3, 1))  # class 9 on top
    student = np.array([np.arange(10.0), np.arange(10.0)[::-1], [9, 8, 7, 6, 0, 1, 2, 3, 4, 5.0]])
    found = agreement(student, teacher)
    assert found.top1 == pytest.approx(1 / 3)
    assert found.top5 == pytest.approx(2 / 3)


def test_ranks_do_not_care_for_the_scale(logits: np.ndarray) -> None:
    assert agreement(np.tanh(logits / 9) * 5 - 3, logits).rank == pytest.approx(1.0)
    assert agreement(-logits, logits).rank == pytest.approx(-1.0)


def test_equal_scores_share_their_rank() -> None:
    teacher = np.array([[1.0, 1.0, 3.0, 4.0]])
    # ranks 0.5 0.5 2 3 against 0 1 2 3
    a, b = np.array([0.5, 0.5, 2, 3]) - 1.5, np.array([0, 1, 2, 3]) - 1.5
    wanted = (a @ b) / np.sqrt((a @ a) * (b @ b))
    assert agreement(np.array([[1.0, 2.0, 3.0, 4.0]]), teacher).rank == pytest.approx(wanted)


def test_huge_logits_stay_finite() -> None:
    found = agreement(np.array([[-900.0, 900.0]]), np.array([[900.0, -900.0]]))
    assert np.isfinite(found.kl)
    assert found.kl == pytest.approx(1800)


def test_fewer_classes_than_five() -> None:
    assert agreement(np.zeros((2, 3)), np.zeros((2, 3))).top5 == 1.0
