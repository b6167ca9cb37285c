"""A distillation.

Besides what every run has (`dymn_cli.train.run`), its working folder holds

WORK/student.safetensors      the student as it was at the last checkpoint, a model like any other
WORK/split.json               which groups are held out
WORK/skipped.csv              recordings that could not be read
WORK/run.json                 all that the run depends on
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from dymn_cli.atomic import atomic_write
from dymn_cli.errors import OutputError, UsageError, os_errors_as
from dymn_cli.store.weights import save_weights
from dymn_cli.train.distill.data import Prepared
from dymn_cli.train.distill.recipe import Budget
from dymn_cli.train.distill.splits import write_split
from dymn_cli.train.distill.student import Student, can_train_blocks
from dymn_cli.train.distill.task import DistillTask, make_optimizer
from dymn_cli.train.loop import LoopPlan
from dymn_cli.train.run import RunOptions, TrainingRun, model_tensors
from dymn_cli.train.state import TrainState

__all__ = ["DistillRun"]


class DistillRun(TrainingRun):
    """A distillation: made from its parts, then `run`.

    Args:
        prepared: data and teachers.
        student: freshly made.
        budget: how long.
        options: how.
        tell: takes lines for people.

    Raises:
        OutputError: the working folder cannot be written, or holds a run with other settings.
        UsageError: block-wise training without a teacher of the student's shape.
    """

    def __init__(
        self,
        prepared: Prepared,
        student: Student,
        budget: Budget,
        options: RunOptions,
        tell: Callable[[str], None],
    ) -> None:
        self.prepared, self.context, self._budget = prepared, prepared.context, budget
        self.recipe, teachers, corpus = self.context.recipe, prepared.teachers, self.context.corpus
        self.header = dataclasses.replace(student.header, name=options.name)
        self._began_as = student.began_as
        modes = tuple(stage.mode for stage in self.recipe.stages)
        if "blockwise" in modes and not can_train_blocks(teachers.live, student.header):
            raise UsageError(
                "block-wise training needs a teacher with the student's channels in every block",
                hint="for example mn04_as for dymn04; or a recipe without this stage",
            )
        self._steps = budget.steps_of(self.recipe.stages)
        fingerprint = {
            "recipe": self.recipe.to_dict(),
            "seed": options.seed,
            "student": json.loads(student.header.config.to_json()),
            "began_as": student.began_as,
            "teachers": list(teachers.identity),
            "data": "-".join(filter(None, (corpus.fingerprint, corpus.labels_fingerprint))),
            "held_out": _digest(prepared.split.held_out),
            "budget": "hours" if budget.hours else list(budget.steps),  # more hours or fewer may follow
        }
        super().__init__(student.network.to(self.context.device), modes, options, fingerprint, tell)

    # ------------------------------------------------------------------ a stage

    def _loop_plan(self, number: int) -> LoopPlan:
        stage = self.recipe.stages[number]
        return LoopPlan(
            n_steps=self._steps[number] if self._steps else 1,
            rates=stage.rates,
            batch_size=stage.batch,
            seed=self.options.seed,
            evaluations=self.recipe.measurements,
            checkpoint_every_s=self.options.checkpoint_every_s,
            data_threads=self._data_threads,
            clip_norm=stage.max_grad_norm,
            half_precision=self._half,
            clock=self._clock(number) if self._budget.hours else None,
        )

    def _clock(self, number: int) -> tuple[float, float]:
        """Seconds of training of the run at which a stage begins and ends."""
        assert self._budget.hours is not None
        shares = [stage.share for stage in self.recipe.stages]
        per_share = 3600 * self._budget.hours / sum(shares)
        return per_share * sum(shares[:number]), per_share * sum(shares[: number + 1])

    def _optimizer(self, number: int) -> torch.optim.Optimizer:
        return make_optimizer(self.recipe.stages[number], self.network)

    def _ema_decay(self, number: int) -> float:
        return self.recipe.stages[number].ema_decay

    def _task(self, number: int, plan: LoopPlan, state: TrainState) -> DistillTask:
        done = None if plan.clock is None else lambda step: plan.done(state)
        return self._task_of(number, done)

    def _task_of(self, number: int, progress: Callable[[int], float] | None) -> DistillTask:
        lengths: tuple[float, ...] = self._steps or tuple(stage.share for stage in self.recipe.stages)
        return DistillTask(
            self.context,
            self.network,
            self.recipe.stages[number],
            number=number,
            n_steps=self._steps[number] if self._steps else 1,
            done_before=sum(lengths[:number]) / sum(lengths),
            share=lengths[number] / sum(lengths),
            progress=progress,
        )

    def _prepare(self, number: int) -> None:
        if number == 0 and self.recipe.fitted_start and self._began_as == "random":
            self._task_of(0, None).fit_start()

    def _finish(self, state: TrainState) -> None:
        self.network.load_state_dict(state.weights)
        self.network.set_temperature(1.0)  # as it is saved
        if self._budget.hours:
            self._tell(f"{self.stages[state.stage]}: {state.step:,} steps")

    # ------------------------------------------------------------------ files

    def _snapshot(self, state: TrainState) -> None:
        self.save_student(self.options.work / "student.safetensors", state.weights)

    def save_student(self, path: Path, weights: Mapping[str, torch.Tensor] | None = None) -> str:
        """Write the student as a model, and return its SHA-256.

        Args:
            path: of the file.
            weights: its state dict; as it is now where None.

        Raises:
            OutputError: it cannot be written.
        """
        state = self.network.state_dict() if weights is None else weights
        return save_weights(path, self.header, model_tensors(state))

    def _begin(self) -> None:
        work, groups = self.options.work, self.context.corpus.groups
        write_split(
            work / "split.json",
            self.prepared.split,
            groups,
            group_by=self.prepared.group_by,
            seed=self.options.seed,
        )
        document = {
            "schema": "dymn.distill/1",
            **self.fingerprint,
            "steps": list(self._steps),
            "hours": self._budget.hours,
            "device": str(self.context.device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        with os_errors_as(OutputError, work):
            with atomic_write(work / "run.json") as described:
                described.write(json.dumps(document, indent=1).encode("utf-8") + b"\n")
            if self.prepared.skipped:
                text = io.StringIO()
                rows = [("recording", "reason"), *self.prepared.skipped]
                csv.writer(text, lineterminator="\n").writerows(rows)
                with atomic_write(work / "skipped.csv") as file:
                    file.write(text.getvalue().encode("utf-8", "backslashreplace"))
            else:
                (work / "skipped.csv").unlink(missing_ok=True)


def _digest(names: tuple[str, ...]) -> str:
    text = "\n".join(names).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:16]
