"""A run of training: stages one after the other, in a working folder that an interrupted run goes on from.

WORK/checkpoint.safetensors   state of the run (`dymn_cli.train.state`)
WORK/log.jsonl                losses and measures (`dymn_cli.train.run_log`)

What is trained in each stage is up to the kind of run: distillation or fine-tuning.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dymn_cli.cores import usable_cores
from dymn_cli.errors import UsageError
from dymn_cli.train.ema import Average
from dymn_cli.train.loop import Ended, LoopPlan, Task, Watch, make_scaler, train
from dymn_cli.train.run_folder import claimed, require_same
from dymn_cli.train.run_log import Observer, RunLog
from dymn_cli.train.state import Saved, TrainState, read_state, restore_state, save_state
from dymn_cli.values import require_number, require_whole

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from dymn_cli.model.backbone import Backbone

__all__ = ["RunOptions", "TrainingRun", "model_tensors"]

DATA_THREADS = 8  # at most, for a GPU; a CPU has one, beside those that compute


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is done; apart from the seed, nothing here changes its result.

    Args:
        work: the working folder.
        name: of the model.
        seed: of first weights, draws and dropout.
        checkpoint_every_s: seconds between checkpoints.
        resume: go on where an earlier run in this folder stopped.

    Raises:
        UsageError: a value out of range.
    """

    work: Path
    name: str
    seed: int = 0
    checkpoint_every_s: float = 300.0
    resume: bool = True

    def __post_init__(self) -> None:
        require_whole("seed", self.seed)
        require_number("a checkpoint every", self.checkpoint_every_s)
        if self.seed < 0:
            raise UsageError(f"seed {self.seed} is negative")
        if not self.checkpoint_every_s >= 0:  # so put, NaN fails
            raise UsageError(f"a checkpoint every {self.checkpoint_every_s:g} s: at least 0")


class TrainingRun(ABC):
    """A run: made from its parts, then `run`.

    Args:
        network: what is trained, on its device.
        stages: their names, in order.
        options: how the run is done.
        fingerprint: what the result depends on, as JSON values; a run goes on only where it is the same.
        tell: takes lines for people.

    Raises:
        OutputError: the working folder holds a run with another fingerprint.
        ModelError: its checkpoint is damaged.
    """

    def __init__(
        self,
        network: Backbone,
        stages: tuple[str, ...],
        options: RunOptions,
        fingerprint: dict[str, Any],
        tell: Callable[[str], None],
    ) -> None:
        self.network, self.stages, self.options, self.fingerprint = network, stages, options, fingerprint
        self._tell = tell
        self._device = next(network.parameters()).device
        self._half = self._device.type == "cuda"
        self._data_threads = min(usable_cores(), DATA_THREADS) if self._half else 1
        self._checkpoint = options.work / "checkpoint.safetensors"
        self._saved()

    def run(self, watch: Watch, should_stop: Callable[[], bool] = lambda: False) -> Ended:
        """Train, or go on training.

        Args:
            watch: gets a report after each step and measurement.
            should_stop: asked after each step; the run can be continued then.

        Raises:
            ModelError: training diverged, or the checkpoint is damaged.
            OutputError: the working folder cannot be written, or another run trains there.
        """
        with claimed(self.options.work):
            return self._run(watch, should_stop)

    def _run(self, watch: Watch, should_stop: Callable[[], bool]) -> Ended:
        saved, first, step = self._saved(), 0, 0
        if saved is not None:
            first, step = saved.stage, saved.step
            self._go_on(saved.fields)
            self._tell(f"going on at {self.stages[first]}, step {step:,}")
        self._begin()
        elapsed_s = 0.0
        plans = [self._loop_plan(number) for number in range(len(self.stages))]
        with RunLog(self.options.work / "log.jsonl", stage=first, step=step) as log:
            for number in range(first, len(plans)):
                if saved is None:
                    self._prepare(number)
                state = self._state(number, elapsed_s)
                if saved is None:
                    self._save(state)
                else:
                    restore_state(saved, state)
                    saved = None
                if not state.notes.get("ended"):
                    measured = functools.partial(self._snapshot, state)
                    ended = train(
                        self._task(number, plans[number], state),
                        state,
                        plans[number],
                        watch=Observer(watch, log, plans[number:], measured=measured),
                        save=self._save,
                        should_stop=should_stop,
                    )
                    if ended == "interrupted":
                        return ended
                self._finish(state)
                elapsed_s = state.elapsed_s
        return "finished"

    def _saved(self) -> Saved | None:
        """The checkpoint to go on from, if there is one."""
        if not self.options.resume or not self._checkpoint.is_file():
            return None
        saved = read_state(self._checkpoint)
        require_same(self.options.work, saved.fields.get("fingerprint", {}), self.fingerprint)
        return saved

    def _state(self, number: int, elapsed_s: float) -> TrainState:
        """A stage before its first step."""
        decay = self._ema_decay(number)
        return TrainState(
            model=self.network,
            optimizer=self._optimizer(number),
            average=Average(self.network, decay) if decay else None,
            stage=number,
            elapsed_s=elapsed_s,
            scaler=make_scaler(self._device, half_precision=self._half),
        )

    def _save(self, state: TrainState) -> None:
        save_state(self._checkpoint, state, {"fingerprint": self.fingerprint, **self._progress()})
        self._snapshot(state)

    # ------------------------------------------------------------------ what kinds of runs differ in

    @abstractmethod
    def _loop_plan(self, number: int) -> LoopPlan:
        """Length and rates of a stage."""

    @abstractmethod
    def _optimizer(self, number: int) -> torch.optim.Optimizer:
        """The optimizer of a stage."""

    @abstractmethod
    def _task(self, number: int, plan: LoopPlan, state: TrainState) -> Task[Any]:
        """What is trained in a stage."""

    def _ema_decay(self, number: int) -> float:
        """Decay of the moving average of the weights in a stage; 0 for none."""
        return 0.0

    def _begin(self) -> None:  # noqa: B027 - not every kind has one
        """Before the first step of this session: write what the run is."""

    @abstractmethod
    def _prepare(self, number: int) -> None:
        """Before the first step of a stage: set the weights that it begins with."""

    @abstractmethod
    def _finish(self, state: TrainState) -> None:
        """After the last step of a stage: leave the network as it should be."""

    def _snapshot(self, state: TrainState) -> None:  # noqa: B027 - not every kind has one
        """After each measurement and checkpoint: write the model as it is so far."""

    def _progress(self) -> Mapping[str, Any]:
        """What a checkpoint must hold besides, as JSON values."""
        return {}

    def _go_on(self, fields: Mapping[str, Any]) -> None:  # noqa: B027 - not every kind has one
        """Take up what `_progress` gave."""


def model_tensors(state: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """The tensors of a model's file, by published key, of a state dict."""
    return {
        key: value.detach().float().cpu().numpy()
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }
