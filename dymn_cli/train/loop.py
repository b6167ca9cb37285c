"""The steps of training: batch, loss, gradient, update; checkpoints; going on where a run stopped.

What is trained, on what and by which loss is a `Task`; distillation and fine-tuning are two of them. On one
CPU and with one number of threads, a run of so many steps gives the same bits whether it is interrupted or
not: a step depends on the seed, its number, and the state that checkpoints hold. Another processor or number
of threads adds up in another order; in a run of so many hours, a step depends on the time passed, too.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import torch
from torch import nn

from dymn_cli.errors import ModelError
from dymn_cli.train.parallel import DataParallelCPU, Losses, NotANumberError
from dymn_cli.train.prefetch import prefetched
from dymn_cli.train.schedule import RateSchedule
from dymn_cli.train.state import TrainState

__all__ = ["Ended", "LoopPlan", "Losses", "StepReport", "Task", "Watch", "make_scaler", "train"]

Ended = Literal["finished", "stopped early", "interrupted"]
B = TypeVar("B")

SMOOTHING = 0.98  # of the losses that are shown
SEED_STRIDE = 1_000_003  # seeds of dropout, one for each step
ENDLESS = 1 << 60  # steps of a stage that ends by the clock, at most
LONGEST_STEP_S = 600.0  # that counts: a machine that slept for a night has not trained


class Task(Protocol[B]):
    """What is trained."""

    @property
    def shards(self) -> int:
        """Parts of a batch that are computed side by side (`dymn_cli.train.parallel`)."""
        ...

    def batch(self, step: int) -> B:
        """The data of a step; any thread may ask for it."""
        ...

    def parts(self, batch: B) -> Sequence[B]:
        """The batch in as many parts of one size as there are shards."""
        ...

    def loss(self, batch: B, step: int, network: nn.Module) -> Losses:
        """Loss on a part of a batch; the network is in training mode. Several threads may ask at a time."""
        ...

    def evaluate(self, state: TrainState) -> tuple[dict[str, float], bool]:
        """Measures of the network as it stands, and whether training should stop; may change the notes."""
        ...


@dataclass(frozen=True, slots=True)
class LoopPlan:
    """How long a stage is, and how it goes.

    Args:
        n_steps: steps of the stage; of no meaning where there is a clock.
        rates: learning rate over the stage.
        batch_size: clips in a step, for the speed that is shown.
        seed: of what torch draws by itself (dropout).
        evaluations: how often the network is measured, evenly, the last time at the end.
        checkpoint_every_s: seconds from one checkpoint to the next.
        data_threads: threads that make batches.
        clip_norm: largest norm of a gradient; none where 0.
        half_precision: float16 where it is safe, on GPUs.
        clock: seconds of training of the whole run at which the stage begins and ends, or None. The learning
            rate follows the time, so that it comes to its end however fast the machine is, now or later.
    """

    n_steps: int
    rates: RateSchedule
    batch_size: int
    seed: int
    evaluations: int = 10
    checkpoint_every_s: float = 300.0
    data_threads: int = 1
    clip_norm: float = 0.0
    half_precision: bool = False
    clock: tuple[float, float] | None = None

    def done(self, state: TrainState) -> float:
        """How much of the stage is done, from 0 to 1."""
        if self.clock is None:
            return state.step / self.n_steps
        begin, end = self.clock
        return min(max((state.elapsed_s - begin) / (end - begin), 0.0), 1.0)

    def is_over(self, state: TrainState) -> bool:
        """Whether nothing of the stage is left to do; each has one step at least."""
        return state.step > 0 and self.done(state) >= 1

    def evaluates(self, state: TrainState, before: float) -> bool:
        """Whether the network is measured now, where a share of the stage was done at the last step."""
        if self.clock is None:
            return self.evaluates_after(state.step)
        n = self.evaluations
        return self.is_over(state) or int(self.done(state) * n) > int(before * n)

    def evaluates_after(self, step: int) -> bool:
        """Whether the network is measured once so many steps are done."""
        if step >= self.n_steps:
            return True
        n = self.evaluations
        return step * n // self.n_steps > (step - 1) * n // self.n_steps


@dataclass(frozen=True, slots=True)
class StepReport:
    """How the run stands after a step; losses are smoothed over the last fifty or so.

    `n_steps` is a guess where the stage ends by the clock.
    """

    stage: int
    step: int
    n_steps: int
    done: float
    by_clock: bool
    losses: Mapping[str, float]
    rate: float
    clips_per_s: float
    left_s: float
    elapsed_s: float


class Watch(Protocol):
    """Takes reports of a run."""

    def step(self, report: StepReport) -> None:
        """After each step."""
        ...

    def evaluated(self, report: StepReport, measures: Mapping[str, float]) -> None:
        """After each measurement."""
        ...


class _Pace:
    """Smoothed losses and speed, for reports."""

    def __init__(self, plan: LoopPlan, state: TrainState) -> None:
        self._plan, self._state = plan, state
        self._losses: dict[str, float] = {}
        self._weight = 0.0
        self._seconds = 0.0
        self._n_steps = 0

    def report(self, losses: Losses, rate: float, seconds: float) -> StepReport:
        self._weight = SMOOTHING * self._weight + 1 - SMOOTHING
        for name, value in {"loss": losses.total, **losses.parts}.items():
            held = self._losses.get(name, 0.0)
            self._losses[name] = SMOOTHING * held + (1 - SMOOTHING) * float(value)
        self._seconds += seconds
        self._n_steps += 1
        per_step = self._seconds / self._n_steps
        plan, state = self._plan, self._state
        done = plan.done(state)
        n_steps, left_s = plan.n_steps, (plan.n_steps - state.step) * per_step
        if plan.clock is not None:
            left_s = max(plan.clock[1] - state.elapsed_s, 0.0)
            n_steps = state.step + round(left_s / max(per_step, 1e-9))
        return StepReport(
            stage=state.stage,
            step=state.step,
            n_steps=n_steps,
            done=done,
            by_clock=plan.clock is not None,
            losses={name: value / self._weight for name, value in self._losses.items()},
            rate=rate,
            clips_per_s=self._plan.batch_size / max(per_step, 1e-9),
            left_s=left_s,
            elapsed_s=state.elapsed_s,
        )


def make_scaler(device: torch.device, *, half_precision: bool) -> torch.amp.GradScaler | None:
    """What keeps small gradients from vanishing in float16, where that is used."""
    return torch.amp.GradScaler(device.type) if half_precision else None


def train(
    task: Task[B],
    state: TrainState,
    plan: LoopPlan,
    *,
    watch: Watch,
    save: Callable[[TrainState], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> Ended:
    """Do the steps of a stage that are still to be done.

    Args:
        task: what is trained.
        state: where it stands; changed in place.
        plan: how long and how.
        watch: gets a report after each step and measurement.
        save: writes a checkpoint; called now and then, on interruption and at the end.
        should_stop: asked after each step.

    Raises:
        ModelError: the loss is no number any more.
    """
    saved_at = counted_at = time.monotonic()
    pace = _Pace(plan, state)
    device = next(state.model.parameters()).device
    if plan.is_over(state):
        return "finished"
    last = plan.n_steps if plan.clock is None else ENDLESS
    batches = prefetched(task.batch, state.step, last, threads=plan.data_threads)
    closing = contextlib.closing(batches)  # type: ignore[type-var] # a generator is closed like a file
    state.model.train()
    with closing, DataParallelCPU(state.model, task.shards) as shards:
        begun = time.monotonic()
        for batch in batches:
            before = plan.done(state)
            rate = plan.rates.at(before)
            losses = _step(task, state, plan, shards, batch, rate, device)
            now = time.monotonic()
            state.elapsed_s += min(now - counted_at, LONGEST_STEP_S)
            counted_at = now
            report = pace.report(losses, rate, now - begun)
            watch.step(report)
            stops = False
            if plan.evaluates(state, before):
                measures, stops = task.evaluate(state)
                watch.evaluated(report, measures)
            interrupted, is_over = should_stop(), plan.is_over(state)
            ends = stops or interrupted or is_over
            if ends or time.monotonic() - saved_at >= plan.checkpoint_every_s:
                save(state)
                saved_at = time.monotonic()
            if stops:
                return "stopped early"
            if is_over:
                return "finished"
            if interrupted:
                return "interrupted"
            begun = time.monotonic()
    return "finished"


def _step(
    task: Task[B],
    state: TrainState,
    plan: LoopPlan,
    shards: DataParallelCPU,
    batch: B,
    rate: float,
    device: torch.device,
) -> Losses:
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group.get("rate_scale", 1.0)
    step, scaler = state.step, state.scaler

    def loss(part: B, network: nn.Module) -> Losses:
        with torch.autocast(device.type, torch.float16, enabled=plan.half_precision):
            return task.loss(part, step, network)

    try:
        losses = shards.step(
            task.parts(batch),
            loss,
            seed=plan.seed * SEED_STRIDE + state.stage * 7919 + step,
            scaled=(lambda total: total) if scaler is None else scaler.scale,
        )
    except NotANumberError as exc:
        raise ModelError(
            f"training diverged: the loss at step {step} is {exc}",
            hint="a lower rate, or another --seed; the last checkpoint is from before",
        ) from exc
    if plan.clip_norm:
        if scaler is not None:
            scaler.unscale_(state.optimizer)
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), plan.clip_norm)
    if scaler is None:
        state.optimizer.step()
    else:
        scaler.step(state.optimizer)
        scaler.update()
    state.step += 1
    if state.average is not None:
        state.average.update(state.model)
    return losses
