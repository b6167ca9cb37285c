"""Divide a data set into what a model learns from and what it is evaluated on: folds or a held-out part.

The data's own folds or split are used if there are any. Otherwise folds are made: seeded and stratified, each
with about the same share of each class, and never with parts of one group in two folds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.audio.discover import natural_key
from dymn_cli.errors import UsageError
from dymn_cli.values import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.datasets.dataset import Dataset

__all__ = ["Plan", "groups_of", "make_folds", "plan_of"]

DEFAULT_FOLDS = 5
MAX_HELD_OUT = 0.5
MAX_PARTS = 20  # that the data is divided into to hold out a share


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """How a data set is divided.

    Args:
        part: (n_examples,) the fold of each example, from 0. Each fold is held out once; examples in none
            (-1) are always learned from.
        n_folds: number of folds; a single one is held out of the final model, too.
        validation: (n_examples,) which of the examples to learn from choose the settings; if none is marked,
            they are chosen by folds.
        words: the plan in words.
    """

    part: NDArray[np.intp]
    n_folds: int
    validation: NDArray[np.bool_]
    words: str

    def learned(self, fold: int) -> NDArray[np.intp]:
        """The examples to learn from while a fold is held out."""
        return np.flatnonzero(self.part != fold)

    def held_out(self, fold: int) -> NDArray[np.intp]:
        """The examples of a fold."""
        return np.flatnonzero(self.part == fold)

    def learnable(self, targets: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(n_classes,) which classes of (n_examples, n_classes) each fold that holds them out learns from."""
        folds = range(self.n_folds)
        learned = np.stack([targets[self.learned(fold)].any(axis=0) for fold in folds])
        held = np.stack([targets[self.held_out(fold)].any(axis=0) for fold in folds])
        return np.asarray((learned | ~held).all(axis=0))

    @property
    def final(self) -> NDArray[np.intp]:
        """The examples that the final model learns from: all but a single held-out part."""
        return np.arange(len(self.part)) if self.n_folds > 1 else self.learned(0)


def plan_of(
    dataset: Dataset, *, folds: int | None = None, holdout: float | None = None, seed: int = 0
) -> Plan:
    """Plan how to divide a data set.

    Args:
        dataset: what to divide.
        folds: make this many folds, ignoring those of the data.
        holdout: hold out this share instead, ignoring the split of the data.
        seed: of the random draw.

    Raises:
        UsageError: both options, a value out of range, too little data, or no class is both learned from and
            held out.
    """
    plan = _divided(dataset, folds, holdout, seed)
    targets = dataset.targets()
    if (plan.learnable(targets) & targets[plan.part >= 0].any(axis=0)).any():
        return plan
    groups = np.array(groups_of(dataset))
    if all(len(set(groups[column])) < 2 for column in targets.T):
        raise UsageError(
            f"{dataset.name}: every class is of one recording or group alone, so none can be held out",
            hint="a class needs two: one to learn from, and one to evaluate on",
        )
    raise UsageError(
        f"{dataset.name}: no class is both learned from and held out, with {plan.words}",
        hint="--folds N divides the recordings anew",
    )


def _divided(dataset: Dataset, folds: int | None, holdout: float | None, seed: int) -> Plan:
    n = len(dataset.examples)
    no_validation = np.zeros(n, bool)
    if folds is not None and holdout is not None:
        raise UsageError("--folds and --holdout exclude each other", hint="give one of them")
    if holdout is not None:
        return _part_held_out(dataset, holdout, seed)
    if folds is not None:
        if folds < 2:
            raise UsageError(f"--folds {folds}: must be at least 2")
        n_groups = len(set(groups_of(dataset)))
        if n_groups < folds and n_groups > 1:
            raise UsageError(f"--folds {folds}: only {n_groups} recordings, or groups of them")
        return _made(dataset, folds, seed)
    own = sorted({e.fold for e in dataset.examples} - {""}, key=natural_key)
    if len(own) > 1:
        index = {name: number for number, name in enumerate(own)}
        part = np.array([index.get(e.fold, -1) for e in dataset.examples])
        return Plan(part, len(own), no_validation, f"the {len(own)} folds of the data")
    split = np.array([e.split for e in dataset.examples])
    if (split == "train").any() and (split != "train").any():
        held_name = "test" if (split == "test").any() else "val"
        n_held = int(np.sum(split == held_name))
        words = f"its own split: {n - n_held} to learn from, {n_held} held out"
        validation = split == "val" if held_name == "test" else no_validation
        return Plan(np.where(split == held_name, 0, -1), 1, validation, words)
    return _made(dataset, DEFAULT_FOLDS, seed)


def _part_held_out(dataset: Dataset, share: float, seed: int) -> Plan:
    if not 0 < share <= MAX_HELD_OUT:  # written so that NaN fails
        raise UsageError(
            f"--holdout {share:g}: must be above 0 and at most {MAX_HELD_OUT:g}", hint="for example 0.2"
        )
    # Few large folds balance the classes better than many small ones.
    groups = groups_of(dataset)
    most = min(MAX_PARTS, max(len(set(groups)) // 2, 3))
    fraction = Fraction(share).limit_denominator(most) or Fraction(1, round(1 / share))
    part = make_folds(dataset.targets(), groups, fraction.denominator, seed)
    sizes = np.bincount(part, minlength=fraction.denominator)
    held = [(np.arange(fraction.numerator) + first) % len(sizes) for first in range(len(sizes))]
    is_held = np.isin(part, min(held, key=lambda some: abs(sizes[some].sum() - share * len(part))))
    if is_held.all() or not is_held.any():
        raise UsageError(
            f"--holdout {share:g}: {len(groups)} recordings in {counted(len(set(groups)), 'group')}"
            " cannot be divided like that",
            hint="add recordings, or groups of them",
        )
    words = f"{_percent(is_held)} of the recordings are held out (seed {seed})"
    return Plan(np.where(is_held, 0, -1), 1, np.zeros(len(groups), bool), words)


def _made(dataset: Dataset, folds: int, seed: int) -> Plan:
    groups = groups_of(dataset)
    n_groups = len(set(groups))
    if n_groups < 2:
        raise UsageError(f"{dataset.name}: {n_groups} recording cannot be divided", hint="add recordings")
    if dataset.targets().sum(axis=0).max() < 2:
        raise UsageError(
            f"{dataset.name}: no class has two recordings, one to learn from and one to evaluate on",
            hint="add recordings",
        )
    count = min(folds, n_groups)
    part = make_folds(dataset.targets(), groups, count, seed)
    grouped = ", groups kept together" if n_groups < len(groups) else ""
    words = f"{count} folds with about the same share of each class{grouped} (seed {seed})"
    return Plan(part, count, np.zeros(len(groups), bool), words)


def make_folds(targets: NDArray[np.bool_], groups: Sequence[str], count: int, seed: int) -> NDArray[np.intp]:
    """The fold of each row, from 0.

    Each group, the largest first, goes to the fold in which its classes are the rarest so far.

    Args:
        targets: (n, n_classes).
        groups: (n,) rows of one group share a fold.
        count: number of folds.
        seed: of the order of groups of the same size.
    """
    rng = np.random.default_rng(seed)
    names = list(dict.fromkeys(groups))
    number = {name: n for n, name in enumerate(names)}
    of_row = np.array([number[name] for name in groups])
    sizes = np.bincount(of_row, minlength=len(names))
    # A last column of ones spreads rows without any class, too.
    table = np.column_stack([targets, np.ones(len(targets))])
    per_group = np.zeros((len(names), table.shape[1]))
    np.add.at(per_group, of_row, table)
    rarity = per_group / np.square(np.maximum(table.sum(axis=0), 1))
    shuffled = rng.permutation(len(names))
    rarest = rarity.max(axis=1)
    order = shuffled[np.lexsort((-rarest[shuffled], -sizes[shuffled]))]
    filled = np.zeros((count, table.shape[1]))
    fold = np.zeros(len(names), np.intp)
    for group in order:
        fold[group] = np.lexsort((np.arange(count), filled[:, -1], (filled @ rarity[group]).round(12)))[0]
        filled[fold[group]] += per_group[group]
    return np.asarray(fold[of_row])


def groups_of(dataset: Dataset, rows: Iterable[int] | None = None) -> list[str]:
    """The group of each example, or of those in `rows`; one of its own where it has none."""
    groups = [
        f"group {example.group}" if example.group else f"file {n}"
        for n, example in enumerate(dataset.examples)
    ]
    return groups if rows is None else [groups[n] for n in rows]


def _percent(chosen: NDArray[np.bool_]) -> str:
    return f"{chosen.mean():.0%}"
