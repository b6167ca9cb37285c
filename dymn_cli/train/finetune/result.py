"""The result of fine-tuning: a model, and scores of recordings by models that had not seen them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dymn_cli.errors import InputError
from dymn_cli.evaluation.evaluate import Evaluation, evaluate, finite

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.datasets.dataset import Dataset
    from dymn_cli.datasets.folds import Plan
    from dymn_cli.store.header import ModelHeader

__all__ = ["Trained"]

SCHEMA = "dymn.finetune/1"


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A model that was trained on a data set.

    Args:
        header: what it is.
        tensors: its numbers, by published key.
        dataset: the recordings that could be used.
        plan: what was held out when.
        held_out: (n_examples, n_classes) float32 scores of examples by a model that had not learned from
            them; NaN where an example always was learned from.
        log: how it came about, for the JSON log: settings, choices, what each epoch gave.
    """

    header: ModelHeader
    tensors: dict[str, NDArray[np.float32]]
    dataset: Dataset
    plan: Plan
    held_out: NDArray[np.float32]
    log: dict[str, Any]

    def evaluate(self, precision: float | None = None, *, fold: int | None = None) -> Evaluation:
        """Judge what was held out: all of it, or one fold.

        Args:
            precision: choose thresholds that reach it; None for those with the best F1.
            fold: only this one.

        Raises:
            InputError: none of it has any of the classes.
        """
        rows = np.isfinite(self.held_out).all(axis=1)
        if fold is not None:
            rows &= self.plan.part == fold
        names = list(zip(self.dataset.mids, self.dataset.classes, strict=True))
        targets, known = self.dataset.targets(), self.dataset.known()
        return evaluate(
            self.held_out[rows],
            targets[rows],
            names,
            known=known[rows],
            judged=self.plan.learnable(targets),
            precision=precision,
        )

    def document(self, evaluation: Evaluation, *, version: str, sha256: str) -> dict[str, Any]:
        """The JSON log: where the model comes from, and how good it is.

        Args:
            evaluation: of all that was held out.
            version: of dymn.
            sha256: of the file of the model.
        """
        counts = self.dataset.targets().sum(axis=0).tolist()
        return {
            "schema": SCHEMA,
            "dymn": version,
            "model": {"name": self.header.name, "sha256": sha256},
            "data": {
                "n_recordings": len(self.dataset.examples),
                "task": "many" if self.dataset.is_multilabel else "one",
                "classes": dict(zip(self.dataset.classes, counts, strict=True)),
                "missing": len(self.dataset.missing),
                "notes": [*self.dataset.notes, *self.dataset.warnings],
            },
            "plan": self.plan.words,
            "training": self.log,
            "folds": [self._of_fold(fold) for fold in range(self.plan.n_folds)],
            "evaluation": evaluation.document(),
        }

    def _of_fold(self, fold: int) -> dict[str, Any]:
        try:
            judged = self.evaluate(fold=fold)
        except InputError:  # nothing in this fold has any of the classes
            return {"fold": fold, "n_recordings": len(self.plan.held_out(fold))}
        return {
            "fold": fold,
            "n_recordings": judged.n_clips,
            "mean_average_precision": finite(judged.mean_average_precision),
            "accuracy": finite(judged.accuracy),
        }
