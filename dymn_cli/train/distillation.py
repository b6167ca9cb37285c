"""Knowledge distillation as a task of the training loop (Section IV of the paper).

clips ──▶ mixes of log-mels ─────────────────┬──▶ teacher ──▶ scores, feature maps
      └─▶ samples ──▶ log-mel, mixup ────────┴──▶ student ──▶ loss
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from dymn_cli.audio.resample import RATE_HZ
from dymn_cli.errors import InputError
from dymn_cli.frontend.torch_logmel import TorchLogMel
from dymn_cli.model.backbone import Backbone
from dymn_cli.model.config import TemperatureSchedule
from dymn_cli.train.augment import band_limits, mix_scores, mix_spectrograms, mixing_partners
from dymn_cli.train.corpus import Corpus, cut_or_repeat
from dymn_cli.train.lanes import Losses, lanes_for
from dymn_cli.train.losses import cross_entropy, distillation_loss, entropy, hint_loss
from dymn_cli.train.mixing import mix_log_mels
from dymn_cli.train.sampling import Sampler, step_generator
from dymn_cli.train.settling import settle
from dymn_cli.train.start import fit_classifier, fit_stages
from dymn_cli.train.teachers import LiveTeacher, LoadedModel, matching_maps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.frontend import FrontEndConfig
    from dymn_cli.train.checkpoint import TrainState
    from dymn_cli.train.heldout import HeldOut
    from dymn_cli.train.logits import StoredLogits
    from dymn_cli.train.recipe import Recipe, Stage

__all__ = ["Batch", "Distillation", "Lesson", "make_optimizer"]

FITTING = 103  # a purpose of `step_generator`
CLASSIFIER_RATE = 0.5  # of the blocks' rate, which is too high for it
TRIES = 20  # clips drawn in place of a damaged one before the data is given up


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What is taught, by whom and from what; the same for all stages of a run.

    Args:
        corpus: the clips.
        sampler: draws from those that are not held out.
        teacher: live teachers, or None where logits are stored.
        stored: stored logits, one or more files.
        rows: for each of them, the row of each clip.
        front_end: of the student.
        recipe: how.
        held_out: what is measured on, or None.
        seed: of all draws.
        device: where networks compute.
    """

    corpus: Corpus
    sampler: Sampler
    teacher: LiveTeacher | None
    stored: tuple[StoredLogits, ...]
    rows: tuple[NDArray[np.int64], ...]
    front_end: FrontEndConfig
    recipe: Recipe
    held_out: HeldOut | None
    seed: int
    device: torch.device

    @property
    def front_ends(self) -> tuple[FrontEndConfig, ...]:
        """What student and teachers hear through, each once, the student's first."""
        others = () if self.teacher is None else self.teacher.front_ends
        return tuple(dict.fromkeys((self.front_end, *others)))


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The data of a step, on the CPU.

    Args:
        mels: mixes (n, 1, n_mels, n_frames), or None.
        samples: (n, n_samples) where log-mels are still to be made, or None.
        partners: who is mixed with whom, or None.
        share: what each keeps of itself, or None.
        limits_hz: edges of the mel bank, or None for the usual ones.
        labels: (n, n_classes), or None.
        known: (n, n_classes) which of them are known, or None for all.
        scores: (n, n_classes) of stored logits, or None.
    """

    mels: Tensor | None = None
    samples: Tensor | None = None
    partners: NDArray[np.int64] | None = None
    share: NDArray[np.float32] | None = None
    limits_hz: tuple[float, float] | None = None
    labels: Tensor | None = None
    known: Tensor | None = None
    scores: Tensor | None = None


class Distillation:
    """A stage of a distillation.

    Args:
        lesson: what is taught.
        student: the network.
        stage: how, in this stage.
        number: of the stage, from 0.
        n_steps: of the stage.
        done_before: share of the run that earlier stages have done, for the temperature.
        share: share of the run that this stage is.
    """

    def __init__(
        self,
        lesson: Lesson,
        student: Backbone,
        stage: Stage,
        *,
        number: int,
        n_steps: int,
        done_before: float = 0.0,
        share: float = 1.0,
    ) -> None:
        self.lesson, self.student, self.stage = lesson, student, stage
        self._number, self._n_steps = number, n_steps
        self._done_before, self._share = done_before, share
        self._front_ends = nn.ModuleList(TorchLogMel(one) for one in lesson.front_ends).to(lesson.device)
        self._hinting: LoadedModel | None = None
        self._matching: tuple[int, ...] = ()
        if (stage.hints or stage.mode == "blockwise") and lesson.teacher is not None:
            self._hinting = lesson.teacher.hinting(student.config, lesson.front_end)
        if self._hinting is not None:
            self._matching = matching_maps(student.config, self._hinting.header.config)
        recipe = lesson.recipe
        self._temperature = TemperatureSchedule(recipe.temperature, 1.0, 1)
        self._probe: Backbone | None = None

    @property
    def lanes(self) -> int:
        """Parts of a batch; one where its clips are mixed with each other."""
        recipe = self.lesson.recipe
        if recipe.mixes is None:
            return 1
        return lanes_for(self.stage.batch, recipe.lanes, self.lesson.device)

    # ------------------------------------------------------------------ data

    def batch(self, step: int) -> Batch:
        """The data of a step: drawn from the seed, the stage and the step alone."""
        generator = step_generator(self.lesson.seed, self._number, step)
        return self._mixes(generator) if self.lesson.recipe.mixes is not None else self._samples(generator)

    def _mixes(self, generator: np.random.Generator) -> Batch:
        lesson, options = self.lesson, self.lesson.recipe.mixes
        assert options is not None
        n_frames = lesson.front_end.n_frames(round(self.stage.window_s * RATE_HZ))
        made = []
        for _ in range(self.stage.batch):
            n_clips = 1 + int(generator.choice(len(options.n_clips), p=options.n_clips))
            clips = [
                self._readable(generator, lambda index: lesson.corpus.log_mel(index, lesson.front_end))[1]
                for _ in range(n_clips)
            ]
            made.append(mix_log_mels(clips, n_frames, lesson.front_end, options, generator))
        return Batch(mels=torch.from_numpy(np.stack(made)[:, np.newaxis]))

    def _samples(self, generator: np.random.Generator) -> Batch:
        lesson, recipe, n = self.lesson, self.lesson.recipe, self.stage.batch
        n_samples = round(self.stage.window_s * RATE_HZ)
        indices, windows = [], []
        for _ in range(n):
            index, samples = self._readable(generator, lesson.corpus.samples)
            indices.append(index)
            windows.append(cut_or_repeat(samples, n_samples, generator))
        chosen = np.array(indices, dtype=np.int64)
        partners, share = mixing_partners(generator, n, alpha=recipe.mixup) if recipe.mixup else (None, None)
        labels = known = scores = None
        if lesson.corpus.labels is not None and recipe.label_share > 0:
            labels = torch.from_numpy(np.asarray(lesson.corpus.labels[chosen], np.float32))
            if lesson.corpus.known is not None:
                known = torch.from_numpy(np.asarray(lesson.corpus.known[chosen], np.bool_))
        if lesson.stored:
            logits = [one.logits(rows[chosen]) for one, rows in zip(lesson.stored, lesson.rows, strict=True)]
            scores = torch.sigmoid(torch.from_numpy(np.mean(logits, axis=0, dtype=np.float32)))
        if partners is not None and share is not None:
            labels = None if labels is None else mix_scores(labels, partners, share)
            known = None if known is None else known & known[torch.from_numpy(partners)]
            scores = None if scores is None else mix_scores(scores, partners, share)
        limits_hz = band_limits(generator) if recipe.perturb_bands else None
        return Batch(
            samples=torch.from_numpy(np.stack(windows)),
            partners=partners,
            share=share,
            limits_hz=limits_hz,
            labels=labels,
            known=known,
            scores=scores,
        )

    def _readable(
        self, generator: np.random.Generator, read: Callable[[int], NDArray[Any]]
    ) -> tuple[int, NDArray[Any]]:
        """Draw a clip and read it; a damaged one is replaced by another draw, always the same one."""
        problem: InputError | None = None
        for _ in range(TRIES):
            index = int(self.lesson.sampler.draw(generator, 1)[0])
            try:
                return index, read(index)
            except InputError as exc:
                problem = exc
        raise InputError(f"{TRIES} damaged clips one after the other; the last: {problem}")

    def fit_start(self) -> None:
        """Give a random student the teacher's means and spreads (`dymn_cli.train.start`)."""
        generator = step_generator(self.lesson.seed, FITTING, 0)
        mixes = self.lesson.recipe.mixes is not None
        scores, mel, maps = self._taught(self._mixes(generator) if mixes else self._samples(generator))
        fit_classifier(self.student, scores)
        if maps is not None and len(self._matching) == len(maps):
            fit_stages(self.student, mel, maps)

    # ------------------------------------------------------------------ loss

    def parts(self, batch: Batch) -> tuple[Batch, ...]:
        """The clips of a batch, shared out to the lanes."""
        if self.lanes == 1:
            return (batch,)
        assert batch.mels is not None
        return tuple(Batch(mels=mels) for mels in batch.mels.chunk(self.lanes))

    def loss(self, batch: Batch, step: int, network: nn.Module) -> Losses:
        """Loss of a network on a batch, in nats per clip (see `dymn_cli.train.losses`)."""
        student = cast(Backbone, network)
        done = self._done_before + self._share * step / self._n_steps
        student.set_temperature(self._temperature.at(done / self.lesson.recipe.temperature_share))
        if self.stage.settled:
            settle(student, step >= (1 - self.stage.settled) * self._n_steps)
        scores, mel, maps = self._taught(batch)
        if self.stage.mode == "blockwise":
            assert maps is not None
            return _blockwise(student, mel, maps, scores)
        return self._whole(student, mel, maps, scores, batch)

    def _taught(self, batch: Batch) -> tuple[Tensor, Tensor, list[Tensor] | None]:
        """The teacher's scores, what the student hears, and the teacher's maps where it gives hints."""
        mels = self._log_mels(batch)
        mel = mels[self.lesson.front_end]
        if self.lesson.teacher is None:
            assert batch.scores is not None
            return batch.scores.to(self.lesson.device), mel, None
        answer = self.lesson.teacher.answer(mels, hinting=self._hinting)
        return torch.sigmoid(answer.logits), mel, answer.maps

    def _log_mels(self, batch: Batch) -> dict[FrontEndConfig, Tensor]:
        device = self.lesson.device
        if batch.mels is not None:
            return {self.lesson.front_end: batch.mels.to(device, non_blocking=True)}
        assert batch.samples is not None
        samples = batch.samples.to(device, non_blocking=True)
        fmin_hz, fmax_hz = batch.limits_hz or (None, None)
        made = {}
        for front_end, module in zip(self.lesson.front_ends, self._front_ends, strict=True):
            with torch.no_grad():
                mel = module(samples, fmin_hz=fmin_hz, fmax_hz=fmax_hz)
                if batch.partners is not None and batch.share is not None:
                    mel = mix_spectrograms(mel, batch.partners, batch.share)
            made[front_end] = mel
        return made

    def _whole(
        self, student: Backbone, mel: Tensor, maps: Sequence[Tensor] | None, scores: Tensor, batch: Batch
    ) -> Losses:
        parts: dict[str, Tensor] = {}
        labels = None if batch.labels is None else batch.labels.to(self.lesson.device)
        if labels is not None and batch.known is not None:
            labels = torch.where(batch.known.to(self.lesson.device), labels, scores)
        if maps is not None and self._matching:
            own = student.feature_maps(mel)
            logits, _ = student.forward_head(own[-1])
            hints = torch.stack([hint_loss(own[number], maps[number]) for number in self._matching])
            parts["hints"] = hints.detach().mean()
            total = self.stage.hints * hints.sum()
        else:
            logits, _ = student(mel)
            total = logits.new_zeros(())
        total = total + distillation_loss(logits, scores, labels, self.lesson.recipe.label_share)
        parts["kl"] = cross_entropy(logits.detach(), scores) - entropy(scores)
        return Losses(total, parts)

    # ------------------------------------------------------------------ measures

    def evaluate(self, state: TrainState) -> tuple[dict[str, float], bool]:
        """Agreement of the student, as it would be saved now, with the teacher on what is held out."""
        if self.lesson.held_out is None:
            return {}, False
        if self._probe is None:
            self._probe = copy.deepcopy(self.student)
        self._probe.load_state_dict(state.weights)
        self._probe.eval()
        return self.lesson.held_out.agreement(self._probe, self.lesson.front_end).measures(), False


def make_optimizer(stage: Stage, network: Backbone) -> torch.optim.Optimizer:
    """Adam or AdamW over all parameters, as the stage has it.

    Blocks that are trained one by one are a group of their own, beside the classifier.
    """
    if stage.optimizer == "adam":
        return torch.optim.Adam(network.parameters(), lr=stage.rate)
    if stage.mode == "end-to-end":
        return torch.optim.AdamW(network.parameters(), lr=stage.rate, weight_decay=stage.weight_decay)
    blocks = {"params": [value for one in network.stages for value in one.parameters()], "rate_scale": 1.0}
    head = {"params": list(network.classifier.parameters()), "rate_scale": CLASSIFIER_RATE}
    return torch.optim.AdamW([blocks, head], lr=stage.rate, weight_decay=stage.weight_decay)


def _blockwise(student: Backbone, mel: Tensor, maps: Sequence[Tensor], scores: Tensor) -> Losses:
    """Each stage, and the classifier, on what the teacher's stage before it says."""
    inputs = (mel, *maps[:-1])
    stages = zip(student.stages, inputs, maps, strict=True)
    hints = torch.stack([hint_loss(stage(x), wanted) for stage, x, wanted in stages])
    logits = student.classifier(maps[-1].mean(dim=(2, 3)))
    on_scores = cross_entropy(logits, scores)
    return Losses(
        hints.sum() + on_scores,
        {"hints": hints.detach().mean(), "kl": on_scores.detach() - entropy(scores)},
    )
