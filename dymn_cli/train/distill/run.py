"""A whole distillation: stages one after the other, in a working folder that an interrupted run goes on from.

WORK/checkpoint.safetensors   state of the run (`dymn_cli.train.state`)
WORK/student.safetensors      the student as it was at the last checkpoint, a model like any other
WORK/log.jsonl                losses and measures
WORK/split.json               which groups are held out
WORK/skipped.csv              recordings that could not be read
WORK/run.json                 all that the run depends on
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dymn_cli.atomic import atomic_write
from dymn_cli.errors import OutputError, UsageError
from dymn_cli.model.backbone import Backbone
from dymn_cli.store.header import ModelHeader
from dymn_cli.store.weights import save_weights
from dymn_cli.train.distill.data import Prepared, TeacherSet
from dymn_cli.train.distill.recipe import scaled_steps
from dymn_cli.train.distill.splits import write_split
from dymn_cli.train.distill.student import can_teach_blocks
from dymn_cli.train.distill.task import Distillation, make_optimizer
from dymn_cli.train.ema import Average
from dymn_cli.train.loop import Ended, LoopPlan, Watch, make_scaler, train
from dymn_cli.train.run_folder import claimed, require_same
from dymn_cli.train.run_log import Observer, RunLog
from dymn_cli.train.state import Saved, TrainState, read_state, restore_state, save_state

__all__ = ["Budget", "DistillRun", "RunOptions"]

DATA_THREADS = 8  # for a GPU, at most; a CPU has one, beside those that compute


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a run is: hours, or steps.

    With hours, stages end by the clock and rates follow it; interruptions do not count, and a run that goes
    on may be given more hours or fewer. The result depends on the speed of the machine. With steps, it is
    the same bits again, interrupted or not.

    Args:
        hours: or None, where steps are given.
        steps: of the whole run, or of each of its stages.

    Raises:
        UsageError: both or none, or numbers that are no length of a run.
    """

    hours: float | None = None
    steps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if (self.hours is None) == (not self.steps):
            raise UsageError("a run is so many hours or so many steps long", hint="give one of them")
        if self.hours is not None and not 0 < self.hours < 1e5:
            raise UsageError(f"{self.hours:g} hours are no time to train")
        if not all(1 <= n < 1 << 40 for n in self.steps):
            raise UsageError(f"{min(self.steps)} steps are no run: from 1 on")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is done; nothing here changes its result, but for the seed and the budget.

    Args:
        work: the working folder.
        name: of the student.
        budget: how long.
        seed: of weights, draws and dropout.
        group_by: what a group is, for the file of the split.
        evaluations: measurements in a stage.
        checkpoint_every_s: seconds between checkpoints.
        resume: go on where an earlier run with this folder stopped.
    """

    work: Path
    name: str
    budget: Budget
    seed: int = 0
    group_by: str = "folder"
    evaluations: int = 10
    checkpoint_every_s: float = 300.0
    resume: bool = True


class DistillRun:
    """A run: made from its parts, then `run`.

    Args:
        prepared: data and teachers.
        teachers: likewise.
        student: freshly made.
        header: of the student.
        began_as: "random", or the hash of a model.
        options: how.
        tell: takes lines for people.

    Raises:
        OutputError: the working folder cannot be written, or holds a run with other settings.
        UsageError: block-wise training without a teacher of the student's shape.
    """

    def __init__(
        self,
        prepared: Prepared,
        teachers: TeacherSet,
        student: Backbone,
        header: ModelHeader,
        began_as: str,
        options: RunOptions,
        tell: Callable[[str], None],
    ) -> None:
        self.prepared, self.context = prepared, prepared.context
        self.recipe = self.context.recipe
        self.student = student.to(self.context.device)
        self.header = dataclasses.replace(header, name=options.name)
        self.options = options
        self._tell = tell
        self._require_hints(teachers)
        self._half = self.context.device.type == "cuda"
        self.fingerprint = {
            "recipe": self.recipe.to_dict(),
            "seed": options.seed,
            "student": json.loads(header.config.to_json()),
            "began_as": began_as,
            "teachers": list(teachers.identity),
            "data": self.context.corpus.fingerprint,
            "held_out": _digest(prepared.split.held_out),
        }
        self._checkpoint = options.work / "checkpoint.safetensors"
        self._resumed()  # a run with other settings is told of before any work

    def _require_hints(self, teachers: TeacherSet) -> None:
        if not any(stage.mode == "blockwise" for stage in self.recipe.stages):
            return
        if not can_teach_blocks(teachers.live, self.header.config, self.header.front_end):
            raise UsageError(
                "block-wise training needs a teacher with the student's channels in every block",
                hint="for example mn04_as for dymn04; --blockwise 0 leaves this stage out",
            )

    def _resumed(self) -> Saved | None:
        work = self.options.work
        if not self.options.resume or not self._checkpoint.is_file():
            return None
        saved = read_state(self._checkpoint)
        budget, began_with = _described(self.options.budget), saved.fields.get("budget")
        if budget["hours"] and began_with and began_with["hours"]:  # they may change: rates follow the share
            began_with = budget
        then = {**saved.fields.get("fingerprint", {}), "budget": began_with}
        require_same(work, then, {**self.fingerprint, "budget": budget})
        return saved

    # ------------------------------------------------------------------ the run

    def run(self, watch: Watch, should_stop: Callable[[], bool] = lambda: False) -> Ended:
        """Train, or go on training.

        Args:
            watch: is told how it goes.
            should_stop: asked after each step; the run can be continued then.

        Raises:
            ModelError: training diverged.
            OutputError: the working folder cannot be written.
        """
        with claimed(self.options.work):
            return self._run(watch, should_stop)

    def _run(self, watch: Watch, should_stop: Callable[[], bool]) -> Ended:
        saved = self._resumed()
        if saved is None:
            steps = self._plan_steps()
            if self.recipe.fitted_start and self.fingerprint["began_as"] == "random":
                self._task(0, steps).fit_start()
        else:
            steps = tuple(int(n) for n in saved.fields["steps"])
            self._tell(f"going on at stage {saved.stage + 1}, step {saved.fields['step']:,}")
        self._describe(steps)
        number = 0 if saved is None else saved.stage
        reached = (0, 0) if saved is None else (saved.stage, int(saved.fields["step"]))
        ended: Ended = "finished"
        elapsed_s = 0.0
        with RunLog(self.options.work / "log.jsonl", stage=reached[0], step=reached[1]) as log:
            while number < len(self.recipe.stages):
                state = self._state(number, elapsed_s)
                if saved is not None:
                    restore_state(saved, state)
                    saved = None
                elif number == 0:
                    self._save(state, steps)
                plan = self._loop_plan(number, steps)
                task = self._task(number, steps, functools.partial(_done, plan, state))
                observer = Observer(
                    watch,
                    log,
                    plan.n_steps,
                    later=steps[number + 1 :],
                    later_s=0.0 if plan.clock is None else self._clock(-1)[1] - plan.clock[1],
                    measured=functools.partial(self._snapshot, state),
                )
                ended = train(
                    task,
                    state,
                    plan,
                    watch=observer,
                    save=lambda state: self._save(state, steps),
                    should_stop=should_stop,
                )
                elapsed_s = state.elapsed_s
                if ended == "interrupted":
                    return ended
                self.student.load_state_dict(state.weights)
                if plan.clock is not None:
                    self._tell(f"{self.recipe.stages[number].mode}: {state.step:,} steps")
                number += 1
        return ended

    def _state(self, number: int, elapsed_s: float) -> TrainState:
        stage = self.recipe.stages[number]
        return TrainState(
            model=self.student,
            optimizer=make_optimizer(stage, self.student),
            average=Average(self.student, stage.average) if stage.average else None,
            stage=number,
            elapsed_s=elapsed_s,
            scaler=make_scaler(self.context.device, half_precision=self._half),
        )

    def _task(
        self, number: int, steps: tuple[int, ...], progress: Callable[[int], float] | None = None
    ) -> Distillation:
        lengths: tuple[float, ...] = steps or tuple(stage.share for stage in self.recipe.stages)
        return Distillation(
            self.context,
            self.student,
            self.recipe.stages[number],
            number=number,
            n_steps=steps[number] if steps else 1,
            done_before=sum(lengths[:number]) / sum(lengths),
            share=lengths[number] / sum(lengths),
            progress=progress,
        )

    def _clock(self, number: int) -> tuple[float, float]:
        """Seconds of training of the run at which a stage begins and ends."""
        assert self.options.budget.hours is not None
        shares = [stage.share for stage in self.recipe.stages]
        per_share = 3600 * self.options.budget.hours / sum(shares)
        number %= len(shares)
        return per_share * sum(shares[:number]), per_share * sum(shares[: number + 1])

    def _loop_plan(self, number: int, steps: tuple[int, ...]) -> LoopPlan:
        stage, options = self.recipe.stages[number], self.options
        return LoopPlan(
            n_steps=steps[number] if steps else 1,
            rates=stage.rates,
            batch_size=stage.batch,
            seed=options.seed,
            evaluations=options.evaluations,
            checkpoint_every_s=options.checkpoint_every_s,
            data_threads=min(os.cpu_count() or 1, DATA_THREADS) if self._half else 1,
            clip_norm=stage.clip_norm,
            half_precision=self._half,
            clock=None if steps else self._clock(number),
        )

    def _plan_steps(self) -> tuple[int, ...]:
        """Steps of each stage; none where the clock ends them."""
        stages, budget = self.recipe.stages, self.options.budget
        if len(budget.steps) == len(stages):
            return budget.steps
        if len(budget.steps) > 1:
            raise UsageError(
                f"steps for {len(budget.steps)} stages, and the run has {len(stages)}",
                hint="one number for the whole run, or one for each stage",
            )
        if budget.steps:
            return scaled_steps(stages, budget.steps[0])
        return ()

    # ------------------------------------------------------------------ files

    def _save(self, state: TrainState, steps: tuple[int, ...]) -> None:
        fields = {
            "fingerprint": self.fingerprint,
            "budget": _described(self.options.budget),
            "steps": list(steps),
        }
        save_state(self._checkpoint, state, fields)
        self._snapshot(state)

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
        state = self.student.state_dict() if weights is None else weights
        tensors = {
            key: value.detach().cpu().numpy()
            for key, value in state.items()
            if not key.endswith("num_batches_tracked")
        }
        return save_weights(path, self.header, tensors)

    def _describe(self, steps: tuple[int, ...]) -> None:
        """Write what the run is."""
        options, corpus = self.options, self.context.corpus
        write_split(
            options.work / "split.json",
            self.prepared.split,
            corpus.groups,
            group_by=options.group_by,
            seed=options.seed,
        )
        document = {
            "schema": "dymn.distill/1",
            **self.fingerprint,
            "steps": list(steps),
            "hours": options.budget.hours,
            "device": str(self.context.device),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        try:
            with atomic_write(options.work / "run.json") as described:
                described.write(json.dumps(document, indent=1).encode("utf-8") + b"\n")
            skipped = options.work / "skipped.csv"
            if self.prepared.skipped:
                text = io.StringIO()
                csv.writer(text, lineterminator="\n").writerows(
                    [("recording", "reason"), *self.prepared.skipped]
                )
                with atomic_write(skipped) as file:
                    file.write(text.getvalue().encode("utf-8", "backslashreplace"))
            else:
                skipped.unlink(missing_ok=True)
        except OSError as exc:
            raise OutputError(f"{options.work}: {(exc.strerror or str(exc)).lower()}") from exc


def _done(plan: LoopPlan, state: TrainState, step: int) -> float:
    """How much of a stage is done at its step."""
    return step / plan.n_steps if plan.clock is None else plan.done(state)


def _described(budget: Budget) -> dict[str, Any]:
    return {"hours": budget.hours, "steps": list(budget.steps)}


def _digest(names: tuple[str, ...]) -> str:
    text = "\n".join(names).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:16]
