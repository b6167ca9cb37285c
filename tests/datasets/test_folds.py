"""What is held out: the data's own folds and splits first, else folds that are fair to every class."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dymn_cli.datasets.dataset import Dataset
from dymn_cli.datasets.folds import make_folds, plan_of
from dymn_cli.datasets.label_tables import LabelRow
from dymn_cli.errors import UsageError


def data(*examples: LabelRow) -> Dataset:
    return Dataset("data", ("a", "b"), ("", ""), examples, is_multilabel=False)


def plain(n: int) -> Dataset:
    return data(*(LabelRow(f"{i}.wav", ("ab"[i % 2],)) for i in range(n)))


def test_each_class_is_spread_over_all_folds() -> None:
    targets = np.eye(5, dtype=bool)[np.repeat(np.arange(5), 10)]
    part = make_folds(targets, [str(n) for n in range(50)], 5, seed=0)
    counts = np.array([targets[part == fold].sum(axis=0) for fold in range(5)])
    assert (counts == 2).all()


def test_rare_labels_of_many_are_spread_too() -> None:
    rng = np.random.default_rng(0)
    targets = rng.random((400, 6)) < [0.5, 0.3, 0.2, 0.1, 0.05, 0.025]
    part = make_folds(targets, [str(n) for n in range(400)], 4, seed=0)
    counts = np.array([targets[part == fold].sum(axis=0) for fold in range(4)])
    assert (np.ptp(counts, axis=0) <= np.maximum(2, 0.2 * counts.mean(axis=0))).all()
    assert np.ptp(np.bincount(part)) <= 8


@given(st.integers(0, 100), st.integers(2, 6))
def test_groups_stay_together_and_seeds_decide(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    groups = [str(n) for n in rng.integers(0, 20, 80)]
    targets = np.eye(3, dtype=bool)[rng.integers(0, 3, 80)]
    part = make_folds(targets, groups, count, seed)
    assert len({(group, fold) for group, fold in zip(groups, part, strict=True)}) == len(set(groups))
    assert set(part) == set(range(count))
    np.testing.assert_array_equal(part, make_folds(targets, groups, count, seed))


def test_other_seeds_make_other_folds() -> None:
    targets = np.eye(2, dtype=bool)[np.arange(40) % 2]
    names = [str(n) for n in range(40)]
    assert (make_folds(targets, names, 4, 0) != make_folds(targets, names, 4, 1)).any()


def test_folds_of_the_data_come_first() -> None:
    plan = plan_of(data(*(LabelRow(f"{n}.wav", ("ab"[n % 2],), fold=str(n % 3 + 9)) for n in range(9))))
    assert (plan.n_folds, plan.words) == (3, "the 3 folds of the data")
    assert list(plan.held_out(0)) == [0, 3, 6]  # fold 9 before 10 and 11
    assert list(plan.learned(0)) == [1, 2, 4, 5, 7, 8]
    assert len(plan.final) == 9


def test_a_split_holds_its_test_part_out_for_good() -> None:
    parts = ["train", "train", "val", "test", "test"]
    plan = plan_of(data(*(LabelRow(f"{n}.wav", ("ab"[n % 2],), split=part) for n, part in enumerate(parts))))
    assert list(plan.held_out(0)) == [3, 4]
    assert list(plan.final) == [0, 1, 2]
    assert list(np.flatnonzero(plan.validation)) == [2]
    without_test = plan_of(data(*(LabelRow(f"{n}.wav", ("ab"[n % 2],), split=parts[n]) for n in range(3))))
    assert list(without_test.held_out(0)) == [2]
    assert not without_test.validation.any()


def test_folds_are_made_where_there_are_none() -> None:
    plan = plan_of(plain(20))
    assert plan.n_folds == 5
    assert plan.words == "5 folds with about the same share of each class (seed 0)"
    assert plan_of(plain(3)).n_folds == 3
    assert plan_of(plain(20), folds=4).n_folds == 4


def test_a_share_is_held_out_if_that_is_asked_for() -> None:
    plan = plan_of(plain(40), holdout=0.25)
    assert len(plan.held_out(0)) == 10
    assert len(plan.final) == 30
    assert plan.words == "25% of the recordings are held out (seed 0)"


@pytest.mark.parametrize("share", [0.5, 0.4, 0.35, 0.3, 0.2, 0.15, 0.1, 0.05, 0.01])
def test_it_is_the_share_that_was_asked_for(share: float) -> None:
    plan = plan_of(plain(200), holdout=share)
    assert len(plan.held_out(0)) == pytest.approx(200 * share, abs=2)
    assert len(plan.held_out(0)) + len(plan.final) == 200


@pytest.mark.parametrize(
    ("n", "share", "n_held"), [(12, 0.3, 4), (12, 0.25, 3), (4, 0.3, 1), (7, 0.5, 3), (9, 0.4, 4)]
)
def test_it_is_about_that_of_few_recordings_too(n: int, share: float, n_held: int) -> None:
    assert len(plan_of(plain(n), holdout=share).held_out(0)) == pytest.approx(n_held, abs=1)


def test_a_share_of_one_group_cannot_be_held_out() -> None:
    with pytest.raises(UsageError, match="4 recordings in 1 group cannot be divided like that"):
        plan_of(data(*(LabelRow(f"{n}.wav", ("ab"[n % 2],), group="all") for n in range(4))), holdout=0.25)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"folds": 3, "holdout": 0.2}, "exclude each other"),
        ({"holdout": 1.5}, "must be above 0 and at most 0.5"),
        ({"holdout": 0.99}, "--holdout 0.99: must be"),
        ({"holdout": 0.51}, "must be above 0"),
        ({"holdout": 0}, "must be above 0"),
        ({"holdout": float("nan")}, "must be above 0"),
        ({"folds": 1}, "at least 2"),
    ],
)
def test_what_makes_no_sense(options: dict[str, float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        plan_of(plain(10), **options)  # type: ignore[arg-type]


def test_one_recording_cannot_be_divided() -> None:
    with pytest.raises(UsageError, match="1 recording cannot be divided"):
        plan_of(plain(1))
    with pytest.raises(UsageError, match="cannot be divided"):
        plan_of(data(*(LabelRow(f"{n}.wav", ("ab"[n % 2],), group="all") for n in range(4))))


def test_more_folds_than_recordings_are_refused() -> None:
    recordings = data(*(LabelRow(f"{n}.wav", ("ab"[n % 2],)) for n in range(6)))
    assert plan_of(recordings, folds=6).n_folds == 6
    with pytest.raises(UsageError, match="--folds 7: only 6 recordings"):
        plan_of(recordings, folds=7)


def test_classes_of_one_recording_each_cannot_be_judged() -> None:
    with pytest.raises(UsageError, match="no class has two recordings"):
        plan_of(data(LabelRow("a.wav", ("a",)), LabelRow("b.wav", ("b",))))


@pytest.mark.parametrize("options", [{}, {"folds": 2}, {"holdout": 0.4}])
def test_a_class_needs_two_groups(options: dict[str, float]) -> None:
    grouped = data(*(LabelRow(f"{n}.wav", ("ab"[n % 2],), group="ab"[n % 2]) for n in range(6)))
    with pytest.raises(UsageError, match="every class is of one recording or group alone") as caught:
        plan_of(grouped, **options)  # type: ignore[arg-type]
    assert caught.value.hint == "a class needs two: one to learn from, and one to evaluate on"


def test_folds_of_the_data_that_are_its_classes_are_refused() -> None:
    with pytest.raises(UsageError, match="no class is both learned from and held out, with the 2 folds"):
        plan_of(data(*(LabelRow(f"{n}.wav", ("ab"[n % 2],), fold="ab"[n % 2]) for n in range(6))))
