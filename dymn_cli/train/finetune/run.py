"""A fine-tuning: a network for each fold, then the one that is kept.

Besides what every run has (`dymn_cli.train.run`), its working folder holds

WORK/held_out.N.npy           scores of fold N, by the network that has not learned from it

When the model is written, `tidy` leaves the log alone.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dymn_cli.atomic import atomic_write
from dymn_cli.datasets.folds import groups_of, make_folds
from dymn_cli.errors import OutputError, os_errors_as
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
from dymn_cli.train.finetune.task import FinetuneTask, measures_of
from dymn_cli.train.inference import hidden_features, scores_of
from dymn_cli.train.loop import LoopPlan, make_scaler, train
from dymn_cli.train.run import RunOptions, TrainingRun, model_tensors
from dymn_cli.train.state import TrainState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.datasets.folds import Plan
    from dymn_cli.evaluation.predictions import Embeddings
    from dymn_cli.model.backbone import Backbone
    from dymn_cli.store.header import ModelHeader
    from dymn_cli.train.distill.teachers import LoadedModel
    from dymn_cli.train.finetune.data import LabelledAudio
    from dymn_cli.train.finetune.recipe import FinetuneRecipe

__all__ = ["FinetuneRun"]

FIGURES = {"loss": "loss {:.3f}", "map": "mAP {:.3f}", "accuracy": "accuracy {:.0%}"}
"""Formats of the figures of `measures_of`."""

TRIED_STEPS, TRIED_RECORDINGS = 2, 4  # for the forecast
MEASUREMENTS = 10  # of a training whose end does not depend on them
STOPPING_PARTS = 5  # one of so many parts is held out where the data have no validation split


@dataclass(frozen=True, slots=True, eq=False)
class _Training:
    """A training of the run.

    Args:
        fold: that is held out, or None where the network is the one that is kept.
        learned: the examples to learn from.
        watched: the examples that it is measured on meanwhile.
        n_steps: of its schedule.
    """

    fold: int | None
    learned: NDArray[np.intp]
    watched: NDArray[np.intp]
    n_steps: int


class FinetuneRun(TrainingRun):
    """A fine-tuning: made from its parts, then `run`, then `trained`.

    Args:
        audio: recordings with labels.
        plan: what is held out when.
        base: the model to begin with.
        recipe: how it is trained, with a window.
        options: how the run is done.
        device: where the network computes.
        tell: takes lines for people.
    """

    def __init__(
        self,
        audio: LabelledAudio,
        plan: Plan,
        base: LoadedModel,
        recipe: FinetuneRecipe,
        options: RunOptions,
        device: torch.device,
        tell: Callable[[str], None],
    ) -> None:
        self._audio, self._plan, self._base, self._recipe = audio, plan, base, recipe
        self._trainings = self._plan_trainings(options.seed)
        network = copy.deepcopy(base.network).to(device).requires_grad_(True)
        network.set_temperature(1.0)
        generator = torch.Generator().manual_seed(options.seed)
        network.reset_head(len(audio.dataset.classes), generator=generator)
        self._first = {key: value.clone() for key, value in network.state_dict().items()}
        self._front_end = TorchLogMel(base.header.front_end).to(device)
        self._hidden: Embeddings | None = None
        self._finished: list[dict[str, Any]] = []
        fingerprint = {
            "recipe": recipe.to_dict(),
            "seed": options.seed,
            "model": base.sha256,
            "recordings": audio.fingerprint,
            "labels": _digest(audio.dataset.targets(), audio.dataset.known(), audio.dataset.classes),
            "folds": _digest(plan.part, plan.validation, plan.n_folds),
        }
        n = plan.n_folds
        names = ("training",) if n == 1 else (*(f"fold {fold + 1}/{n}" for fold in range(n)), "all")
        super().__init__(network, names, options, fingerprint, tell)

    @property
    def n_steps(self) -> int:
        """Steps of all trainings, if none ends early."""
        return sum(stage.n_steps for stage in self._trainings)

    def forecast(self) -> Forecast:
        """How long the run will take from where it stands, and `--head-only` would: a step or two, timed.

        Raises:
            OutputError: the working folder holds a run with other settings.
            ModelError: training diverges at once, or the checkpoint is damaged.
        """
        saved = self._saved()
        number, step = (0, 0) if saved is None else (saved.stage, saved.step)
        windows = windows_of(self._audio.n_samples)
        trainings = []
        for n, stage in enumerate(self._trainings):
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
            embedding_size=self.network.config.embedding_size,
            n_folds=self._plan.n_folds,
        )

    def _pace(self, n_steps: int) -> Pace:
        """How fast this machine is, tried on a copy of the network."""
        network = copy.deepcopy(self.network)
        state = TrainState(
            model=network,
            optimizer=torch.optim.Adam(network.parameters(), lr=self._recipe.rate),
            stage=0,
            scaler=make_scaler(self._device, half_precision=self._half),
        )
        nothing = np.empty(0, np.intp)
        task = self._task_on(network, dataclasses.replace(self._trainings[0], watched=nothing), 0)
        times = StepTimes()
        plan = dataclasses.replace(
            self._loop_plan(0), n_steps=min(TRIED_STEPS, max(n_steps, 1)), evaluations=1
        )
        train(task, state, plan, watch=times, save=lambda state: None)
        tried = self._trainings[0].learned[:TRIED_RECORDINGS]
        seconds = timed(lambda: scores_of(network, self._front_end, self._audio, tried))
        return Pace(times.shortest_s, seconds / int(windows_of(self._audio.n_samples[tried]).sum()))

    def _plan_trainings(self, seed: int) -> tuple[_Training, ...]:
        plan, stages = self._plan, []
        for fold in range(plan.n_folds):
            learned, watched = plan.learned(fold), plan.held_out(fold)
            if self._recipe.patience:
                watched = self._validation_set(learned, seed)
                learned = np.setdiff1d(learned, watched)
            stages.append(_Training(fold, learned, watched, self._recipe.n_steps(len(learned))))
        if plan.n_folds > 1:
            final, nothing = plan.final, np.empty(0, np.intp)
            stages.append(_Training(None, final, nothing, self._recipe.n_steps(len(final))))
        return tuple(stages)

    def _validation_set(self, learned: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
        """The validation set for early stopping: that of the data, or a fifth."""
        if self._plan.validation.any():
            return np.intersect1d(learned, np.flatnonzero(self._plan.validation))
        dataset = self._audio.dataset
        groups = groups_of(dataset, learned)
        part = make_folds(dataset.targets()[learned], groups, STOPPING_PARTS, seed)
        return np.asarray(learned[part == 0])

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
            "seed": self.options.seed,
            "settings": self._recipe.to_dict(),
            "trainings": [
                {"name": name, **done} for name, done in zip(self.stages, self._finished, strict=True)
            ],
        }
        tensors = model_tensors(self.network.state_dict())
        return Trained(self._header(), tensors, dataset, plan, held_out, log)

    def tidy(self) -> None:
        """Remove what is only needed to go on, once the model is safe; the log stays."""
        for path in (self._checkpoint, *(self._scores_path(fold) for fold in range(self._plan.n_folds))):
            path.unlink(missing_ok=True)

    def _header(self) -> ModelHeader:
        config = dataclasses.replace(self.network.config, temperature=1.0)
        vocabulary = Vocabulary.from_names(self._audio.dataset.classes)
        name = self.options.name
        return dataclasses.replace(
            self._base.header, name=name, config=config, vocabulary=vocabulary, purpose="tags"
        )

    # ------------------------------------------------------------------ a training

    def _prepare(self, number: int) -> None:
        """Go back to the base model with a new head, and fit that if the recipe says so."""
        self.network.load_state_dict(self._first)
        if not self._recipe.fit_head:
            return
        if self._hidden is None:
            self._tell("fitting the first head")
            self._hidden = hidden_features(self.network, self._front_end, self._audio)
        fit_head(self.network, self._hidden, self._audio, self._trainings[number].learned)

    def _optimizer(self, number: int) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.network.parameters(), lr=self._recipe.rate)

    def _task(self, number: int, plan: LoopPlan, state: TrainState) -> FinetuneTask:
        return self._task_on(self.network, self._trainings[number], number)

    def _task_on(self, network: Backbone, stage: _Training, number: int) -> FinetuneTask:
        return FinetuneTask(
            self._audio,
            network,
            self._base.header.front_end,
            self._recipe,
            learned=stage.learned,
            watched=stage.watched,
            stage=number,
            seed=self.options.seed,
            last_step=self._last_step(stage),
        )

    def _last_step(self, stage: _Training) -> int | None:
        """Where the kept network's training ends: after as many epochs as were best in the folds."""
        if stage.fold is not None or not self._recipe.patience:
            return None
        shares = [done["best_step"] / done["n_steps"] for done in self._finished]
        epochs = max(round(float(np.mean(shares)) * self._recipe.epochs), 1)
        return -(-epochs * stage.n_steps // self._recipe.epochs)

    def _loop_plan(self, number: int) -> LoopPlan:
        recipe = self._recipe
        return LoopPlan(
            n_steps=self._trainings[number].n_steps,
            rates=recipe.rates,
            batch_size=recipe.batch,
            seed=self.options.seed,
            evaluations=recipe.epochs if recipe.patience else min(MEASUREMENTS, recipe.epochs),
            checkpoint_every_s=self.options.checkpoint_every_s,
            data_threads=self._data_threads,
            half_precision=self._half,
        )

    def _finish(self, state: TrainState) -> None:
        """Go back to the best network, and score the held-out fold with it."""
        stage = self._trainings[state.stage]
        if state.kept is not None:
            self.network.load_state_dict(state.kept)
        if stage.fold is not None:
            held_out = self._plan.held_out(stage.fold)
            scores = scores_of(self.network, self._front_end, self._audio, held_out)
            self._write_scores(stage.fold, scores)
            self._tell_figures(self.stages[state.stage], scores, held_out)
        notes = {key: state.notes[key] for key in ("best_step", "history") if state.notes.get(key)}
        self._finished.append(
            {"n_learned": len(stage.learned), "n_steps": stage.n_steps, "steps": state.step, **notes}
        )

    def _tell_figures(self, name: str, scores: NDArray[np.float32], held_out: NDArray[np.intp]) -> None:
        found = measures_of(scores, self._audio.dataset, held_out)
        told = [FIGURES[key].format(value) for key, value in found.items()]
        self._tell(f"{name}: {len(held_out)} recordings held out: {', '.join(told)}")

    # ------------------------------------------------------------------ files

    def _progress(self) -> Mapping[str, Any]:
        return {"finished": self._finished}

    def _go_on(self, fields: Mapping[str, Any]) -> None:
        self._finished = list(fields["finished"])
        for fold in range(len(self._finished)):
            self._read_scores(fold)  # an error now, not after the last training

    def _scores_path(self, fold: int) -> Path:
        return self.options.work / f"held_out.{fold}.npy"

    def _write_scores(self, fold: int, scores: NDArray[np.float32]) -> None:
        path = self._scores_path(fold)
        with os_errors_as(OutputError, path), atomic_write(path) as file:
            np.save(file, scores)

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
