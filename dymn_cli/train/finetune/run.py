"""A whole fine-tuning: a network for each fold, then the one that is kept, in a working folder.

WORK/checkpoint.safetensors   state of the run (`dymn_cli.train.state`)
WORK/held_out.N.npy           scores of fold N, by the network that has not learned from it
WORK/log.jsonl                losses and measures

An interrupted run goes on from there, and ends with the same model. When the model is written, `tidy` leaves
the log alone.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dymn_cli.atomic import atomic_write
from dymn_cli.datasets.folds import make_folds
from dymn_cli.errors import OutputError, UsageError
from dymn_cli.frontend.torch_logmel import TorchLogMel
from dymn_cli.labels import Vocabulary
from dymn_cli.train.finetune.forecast import (
    Forecast,
    Pace,
    StepTimes,
    Training,
    forecast_of,
    timed,
    windows_of,
)
from dymn_cli.train.finetune.head_init import fit_head
from dymn_cli.train.finetune.result import Trained
from dymn_cli.train.finetune.task import FineTuning, measures_of
from dymn_cli.train.inference import hidden_features, scores_of
from dymn_cli.train.loop import Ended, LoopPlan, Watch, make_scaler, train
from dymn_cli.train.run_folder import claimed, require_same
from dymn_cli.train.run_log import Observer, RunLog
from dymn_cli.train.state import Saved, TrainState, read_state, restore_state, save_state
from dymn_cli.values import require_number, require_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.datasets.folds import Plan
    from dymn_cli.evaluation.predictions import Embeddings
    from dymn_cli.model.backbone import Backbone
    from dymn_cli.store.header import ModelHeader
    from dymn_cli.train.distill.teachers import LoadedModel
    from dymn_cli.train.finetune.data import LabelledAudio
    from dymn_cli.train.finetune.recipe import TuningRecipe

__all__ = ["FIGURES", "FinetuneOptions", "FinetuneRun"]

FIGURES = {"loss": "loss {:.3f}", "map": "mAP {:.3f}", "accuracy": "accuracy {:.0%}"}
"""How the figures of `measures_of` are told."""

TRIED_STEPS, TRIED_RECORDINGS = 2, 4  # to say how long it will take
MEASUREMENTS = 10  # of a training whose end does not depend on them
STOPPING_PARTS = 5  # one of so many parts is held out where the data do not say by what to stop


@dataclass(frozen=True, slots=True)
class FinetuneOptions:
    """How a run is done; nothing here changes its result, but for the seed.

    Args:
        work: the working folder.
        name: of the model.
        seed: of the head's first weights, draws and dropout.
        checkpoint_every_s: seconds between checkpoints.
        data_threads: threads that make batches.
        resume: go on where an earlier run with this folder stopped.

    Raises:
        UsageError: a value out of range.
    """

    work: Path
    name: str
    seed: int = 0
    checkpoint_every_s: float = 300.0
    data_threads: int = 1
    resume: bool = True

    def __post_init__(self) -> None:
        require_whole("seed", self.seed)
        require_whole("data threads", self.data_threads)
        require_number("a checkpoint every", self.checkpoint_every_s)
        if self.seed < 0:
            raise UsageError(f"seed {self.seed} is negative")
        if self.data_threads < 1:
            raise UsageError(f"data threads {self.data_threads}: at least 1")
        if not self.checkpoint_every_s >= 0:  # so put, NaN fails
            raise UsageError(f"a checkpoint every {self.checkpoint_every_s:g} s is no time")


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """A training of the run.

    Args:
        fold: that is held out, or None where the network is the one that is kept.
        learned: the examples to learn from.
        watched: those to be measured on meanwhile.
        n_steps: of its schedule.
    """

    fold: int | None
    learned: NDArray[np.intp]
    watched: NDArray[np.intp]
    n_steps: int


class FinetuneRun:
    """A run: made from its parts, then `run`, then `trained`.

    Args:
        audio: recordings with labels.
        plan: what is held out when.
        base: the model to begin with.
        recipe: how it is trained.
        options: how the run is done.
        device: where the network computes.
        tell: takes lines for people.
    """

    def __init__(
        self,
        audio: LabelledAudio,
        plan: Plan,
        base: LoadedModel,
        recipe: TuningRecipe,
        options: FinetuneOptions,
        device: torch.device,
        tell: Callable[[str], None],
    ) -> None:
        self._audio, self._plan, self._base = audio, plan, base
        self._recipe, self._options, self._tell = recipe, options, tell
        self._network = copy.deepcopy(base.network).to(device).requires_grad_(True)
        self._network.set_temperature(1.0)
        self._network.reset_head(
            len(audio.dataset.classes), generator=torch.Generator().manual_seed(options.seed)
        )
        self._first = {key: value.clone() for key, value in self._network.state_dict().items()}
        self._device = device
        self._half = device.type == "cuda"
        self._stages = self._plan_stages()
        self._hidden: Embeddings | None = None
        self._finished: list[dict[str, Any]] = []
        self.fingerprint = {
            "recipe": recipe.to_dict(),
            "seed": options.seed,
            "model": base.sha256,
            "recordings": audio.fingerprint,
            "labels": _digest(audio.dataset.targets(), audio.dataset.known(), audio.dataset.classes),
            "folds": _digest(plan.part, plan.validation, plan.n_folds),
        }
        self._checkpoint = options.work / "checkpoint.safetensors"

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the trainings, in order."""
        n = self._plan.n_folds
        if n == 1:
            return ("training",)
        return (*(f"fold {stage + 1}/{n}" for stage in range(n)), "all")

    @property
    def n_steps(self) -> int:
        """Steps of all trainings, if none ends early."""
        return sum(stage.n_steps for stage in self._stages)

    def forecast(self) -> Forecast:
        """How long the run will take from where it stands, and `--head-only` would: a step or two, timed.

        Raises:
            OutputError: the working folder holds a run with other settings.
            ModelError: training diverges at once, or the checkpoint is damaged.
        """
        saved = self._resumed()
        number, step = (0, 0) if saved is None else (saved.stage, int(saved.fields["step"]))
        windows = windows_of(self._audio.n_samples)
        trainings = []
        for n, stage in enumerate(self._stages):
            left = 0 if n < number else stage.n_steps - (step if n == number else 0)
            measured = self._loop_plan(n).evaluations * left / stage.n_steps * windows[stage.watched].sum()
            scored = 0 if stage.fold is None or not left else windows[self._plan.held_out(stage.fold)].sum()
            trainings.append(Training(left, round(float(measured)) + int(scored)))
        if self._recipe.fit_head:
            trainings.append(Training(0, int(windows.sum())))
        return forecast_of(
            self._pace(max(one.n_steps for one in trainings)),
            trainings,
            n_windows=int(windows.sum()),
            n_classes=len(self._audio.dataset.classes),
            embedding_size=self._network.config.embedding_size,
            n_folds=self._plan.n_folds,
        )

    def _pace(self, n_steps: int) -> Pace:
        """How fast this machine is, tried on a copy of the network."""
        network = copy.deepcopy(self._network)
        state = TrainState(
            model=network,
            optimizer=torch.optim.Adam(network.parameters(), lr=self._recipe.rate),
            stage=0,
            scaler=make_scaler(self._device, half_precision=self._half),
        )
        nothing = np.empty(0, np.intp)
        task = self._task_on(network, dataclasses.replace(self._stages[0], watched=nothing), 0)
        times = StepTimes()
        plan = dataclasses.replace(
            self._loop_plan(0), n_steps=min(TRIED_STEPS, max(n_steps, 1)), evaluations=1
        )
        train(task, state, plan, watch=times, save=lambda state: None)
        front_end = TorchLogMel(self._base.header.front_end).to(self._device)
        tried = self._stages[0].learned[:TRIED_RECORDINGS]
        seconds = timed(lambda: scores_of(network, front_end, self._audio, tried))
        return Pace(times.shortest_s, seconds / int(windows_of(self._audio.n_samples[tried]).sum()))

    def _plan_stages(self) -> tuple[_Stage, ...]:
        plan, stages = self._plan, []
        for fold in range(plan.n_folds):
            learned, watched = plan.learned(fold), plan.held_out(fold)
            if self._recipe.patience:
                watched = self._to_stop_by(learned)
                learned = np.setdiff1d(learned, watched)
            stages.append(_Stage(fold, learned, watched, self._recipe.n_steps(len(learned))))
        if plan.n_folds > 1:
            final, nothing = plan.final, np.empty(0, np.intp)
            stages.append(_Stage(None, final, nothing, self._recipe.n_steps(len(final))))
        return tuple(stages)

    def _to_stop_by(self, learned: NDArray[np.intp]) -> NDArray[np.intp]:
        """What is kept out of a training to say when it should end: as the data have it, or a fifth."""
        if self._plan.validation.any():
            return np.intersect1d(learned, np.flatnonzero(self._plan.validation))
        dataset = self._audio.dataset
        groups = [dataset.examples[n].group or f"file {n}" for n in learned]
        part = make_folds(dataset.targets()[learned], groups, STOPPING_PARTS, self._options.seed)
        return np.asarray(learned[part == 0])

    def _resumed(self) -> Saved | None:
        work = self._options.work
        if not self._options.resume or not self._checkpoint.is_file():
            return None
        saved = read_state(self._checkpoint)
        require_same(work, saved.fields.get("fingerprint", {}), self.fingerprint)
        return saved

    # ------------------------------------------------------------------ the run

    def run(self, watch: Watch, should_stop: Callable[[], bool] = lambda: False) -> Ended:
        """Train, or go on training.

        Args:
            watch: is told how it goes.
            should_stop: asked after each step; the run can be continued then.

        Raises:
            ModelError: training diverged, or the checkpoint is damaged.
            OutputError: the working folder cannot be written, or holds a run with other settings.
        """
        with claimed(self._options.work):
            return self._run(watch, should_stop)

    def _run(self, watch: Watch, should_stop: Callable[[], bool]) -> Ended:
        saved, number, step = self._resumed(), 0, 0
        if saved is not None:
            number, step = saved.stage, int(saved.fields["step"])
            self._finished = list(saved.fields["finished"])
            self._tell(f"going on at {self.stages[number]}, step {step:,}")
        elapsed_s = 0.0
        with RunLog(self._options.work / "log.jsonl", stage=number, step=step) as log:
            while number < len(self._stages):
                state = self._state(number, elapsed_s)
                if saved is not None:
                    restore_state(saved, state)
                    saved = None
                else:
                    self._fit_head(number)
                    self._save(state)
                if not state.notes.get("ended"):
                    observer = Observer(
                        watch, log, self._stages[number].n_steps, later=self._steps_after(number)
                    )
                    task, plan = self._task(number), self._loop_plan(number)
                    ended = train(task, state, plan, watch=observer, save=self._save, should_stop=should_stop)
                    if ended == "interrupted":
                        return ended
                self._finish(state)
                elapsed_s = state.elapsed_s
                number += 1
        return "finished"

    def trained(self) -> Trained:
        """The model and what is known of it, once the run is finished.

        Raises:
            OutputError: scores of a fold are gone from the working folder.
        """
        dataset, plan = self._audio.dataset, self._plan
        held_out = np.full((len(dataset.examples), len(dataset.classes)), np.nan, np.float32)
        for fold in range(plan.n_folds):
            held_out[plan.held_out(fold)] = self._read_scores(fold)
        log = {
            "recipe": "end to end",
            "base": {"name": self._base.header.name, "sha256": self._base.sha256},
            "seed": self._options.seed,
            "settings": self._recipe.to_dict(),
            "trainings": [
                {"name": name, **done} for name, done in zip(self.stages, self._finished, strict=True)
            ],
        }
        tensors = {
            key: np.asarray(value.detach().cpu().numpy(), np.float32)
            for key, value in self._network.state_dict().items()
            if not key.endswith("num_batches_tracked")
        }
        return Trained(self._header(), tensors, dataset, plan, held_out, log)

    def tidy(self) -> None:
        """Remove what is only needed to go on, once the model is safe; the log stays."""
        for path in (self._checkpoint, *(self._scores_path(fold) for fold in range(self._plan.n_folds))):
            path.unlink(missing_ok=True)

    def _header(self) -> ModelHeader:
        config = dataclasses.replace(self._network.config, temperature=1.0)
        vocabulary = Vocabulary.from_names(self._audio.dataset.classes)
        name = self._options.name
        return dataclasses.replace(
            self._base.header, name=name, config=config, vocabulary=vocabulary, purpose="tags"
        )

    # ------------------------------------------------------------------ a training

    def _state(self, number: int, elapsed_s: float) -> TrainState:
        """A training before its first step: the base model with a new head."""
        self._network.load_state_dict(self._first)
        return TrainState(
            model=self._network,
            optimizer=torch.optim.Adam(self._network.parameters(), lr=self._recipe.rate),
            stage=number,
            elapsed_s=elapsed_s,
            scaler=make_scaler(self._device, half_precision=self._half),
        )

    def _fit_head(self, number: int) -> None:
        if not self._recipe.fit_head:
            return
        if self._hidden is None:  # before anything has been trained
            self._tell("fitting the first head")
            front_end = TorchLogMel(self._base.header.front_end).to(self._device)
            self._hidden = hidden_features(self._network, front_end, self._audio)
        fit_head(self._network, self._hidden, self._audio, self._stages[number].learned)

    def _task(self, number: int) -> FineTuning:
        return self._task_on(self._network, self._stages[number], number)

    def _task_on(self, network: Backbone, stage: _Stage, number: int) -> FineTuning:
        return FineTuning(
            self._audio,
            network,
            self._base.header.front_end,
            self._recipe,
            learned=stage.learned,
            watched=stage.watched,
            stage=number,
            seed=self._options.seed,
            last_step=self._last_step(stage),
        )

    def _last_step(self, stage: _Stage) -> int | None:
        """Where the kept network's training ends: after as many epochs as were best in the folds."""
        if stage.fold is not None or not self._recipe.patience:
            return None
        shares = [done["best_step"] / done["n_steps"] for done in self._finished]
        epochs = max(round(float(np.mean(shares)) * self._recipe.epochs), 1)
        return -(-epochs * stage.n_steps // self._recipe.epochs)

    def _loop_plan(self, number: int) -> LoopPlan:
        stage, recipe, options = self._stages[number], self._recipe, self._options
        return LoopPlan(
            n_steps=stage.n_steps,
            rates=recipe.rates,
            batch_size=recipe.batch,
            seed=options.seed,
            evaluations=recipe.epochs if recipe.patience else min(MEASUREMENTS, recipe.epochs),
            checkpoint_every_s=options.checkpoint_every_s,
            data_threads=options.data_threads,
            half_precision=self._half,
        )

    def _steps_after(self, number: int) -> tuple[int, ...]:
        return tuple(stage.n_steps for stage in self._stages[number + 1 :])

    def _finish(self, state: TrainState) -> None:
        """Come back to the best network, and let it say what is in the fold that is held out."""
        stage = self._stages[state.stage]
        if state.kept is not None:
            self._network.load_state_dict(state.kept)
        if stage.fold is not None:
            front_end = TorchLogMel(self._base.header.front_end).to(self._device)
            held_out = self._plan.held_out(stage.fold)
            scores = scores_of(self._network, front_end, self._audio, held_out)
            self._write_scores(stage.fold, scores)
            self._tell_of(self.stages[state.stage], scores, held_out)
        notes = {key: state.notes[key] for key in ("best_step", "history") if state.notes.get(key)}
        self._finished.append(
            {"n_learned": len(stage.learned), "n_steps": stage.n_steps, "steps": state.step, **notes}
        )

    def _tell_of(self, name: str, scores: NDArray[np.float32], held_out: NDArray[np.intp]) -> None:
        found = measures_of(scores, self._audio.dataset, held_out)
        told = [FIGURES[key].format(value) for key, value in found.items()]
        self._tell(f"{name}: {len(held_out)} recordings held out: {', '.join(told)}")

    # ------------------------------------------------------------------ files

    def _save(self, state: TrainState) -> None:
        save_state(self._checkpoint, state, {"fingerprint": self.fingerprint, "finished": self._finished})

    def _scores_path(self, fold: int) -> Path:
        return self._options.work / f"held_out.{fold}.npy"

    def _write_scores(self, fold: int, scores: NDArray[np.float32]) -> None:
        path = self._scores_path(fold)
        try:
            with atomic_write(path) as file:
                np.save(file, scores)
        except OSError as exc:
            raise OutputError(f"{path}: {(exc.strerror or str(exc)).lower()}") from exc

    def _read_scores(self, fold: int) -> NDArray[np.float32]:
        path = self._scores_path(fold)
        wanted = (len(self._plan.held_out(fold)), len(self._audio.dataset.classes))
        try:
            scores: NDArray[np.float32] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as exc:
            raise OutputError(
                f"{path}: the scores of this fold are gone", hint="--no-resume starts over"
            ) from exc
        if scores.shape != wanted or scores.dtype != np.float32:
            raise OutputError(f"{path}: not the scores of this fold", hint="--no-resume starts over")
        return scores


def _digest(*parts: object) -> str:
    """Sixteen hexadecimal digits that change with arrays, names and numbers."""
    digest = hashlib.sha256()
    for part in parts:
        data = np.ascontiguousarray(part) if isinstance(part, np.ndarray) else None
        digest.update(
            json.dumps(part).encode() if data is None else str(data.shape).encode() + data.tobytes()
        )
    return digest.hexdigest()[:16]
