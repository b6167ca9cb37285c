"""Knowledge distillation as a task of the training loop (Section IV of the paper).

clips ──▶ mixes of log-mels ──────────────────────────────┬──▶ teacher ──▶ scores, feature maps
      └─▶ samples ──▶ gain, mixup, roll ──▶ log-mel, mixup ┴──▶ student ──▶ loss

Without a teacher, the labels are all there is to learn (Section VI-A).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dymn_cli.audio.resample import RATE_HZ
from dymn_cli.datasets.audio_cache import cut_or_repeat
from dymn_cli.datasets.seeding import step_generator
from dymn_cli.errors import InputError
from dymn_cli.frontend.torch_logmel import TorchLogMel
from dymn_cli.model.backbone import Backbone
from dymn_cli.model.config import TemperatureSchedule
from dymn_cli.train.augment import (
    apply_gain,
    band_limits,
    mix_scores,
    mix_spectrograms,
    mix_waveforms,
    mixing_partners,
    roll,
    spec_augment,
)
from dymn_cli.train.distill.clips import Corpus
from dymn_cli.train.distill.frame_targets import KnownLabels, frame_targets, labels_heard
from dymn_cli.train.distill.mixing import mix_log_mels
from dymn_cli.train.distill.student import fit_classifier, fit_stages
from dymn_cli.train.distill.teachers import LiveTeacher, LoadedModel, matching_maps
from dymn_cli.train.losses import (
    cross_entropy,
    distillation_loss,
    entropy,
    frame_loss,
    hint_loss,
    masked_loss,
)
from dymn_cli.train.parallel import DrawnDropout, Losses, shards_for
from dymn_cli.train.sampler import Sampler

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.frontend import FrontEndConfig
    from dymn_cli.train.distill.clip_scores import ClipScores
    from dymn_cli.train.distill.recipe import Recipe, Stage
    from dymn_cli.train.distill.stored_logits import StoredLogits
    from dymn_cli.train.distill.validation import ValidationSet
    from dymn_cli.train.state import TrainState

__all__ = [
    "Batch",
    "DistillContext",
    "DistillTask",
    "freeze_batch_norm",
    "make_optimizer",
    "switch_dropout_off",
]

FITTING, PROBING, STRIPES = 103, 104, 200  # purposes of `step_generator`; stripes are of each stage
N_PROBED, PROBED_AT_ONCE = 64, 8  # mixes of held-out clips that frames are measured on
FIRST_AT_LEVEL = 3  # feature maps before it depend too much on the level to follow a teacher with another one
CLASSIFIER_RATE = 0.5  # of the blocks' rate, which is too high for it
TRIES = 20  # clips drawn in place of a damaged one before the data is given up


@dataclass(frozen=True, slots=True, eq=False)
class DistillContext:
    """Clips, teachers and recipe of a run; the same for all its stages.

    Args:
        corpus: the clips.
        sampler: draws from those that are not held out.
        teacher: live teachers, or None where logits are stored.
        stored: stored logits, one or more files.
        rows: for each of them, the row of each clip.
        front_end: of the student.
        recipe: how.
        held_out: clips to measure on, or None.
        seed: of all draws.
        device: where networks compute.
        clip_scores: the teachers' logits of each single clip, where mixes are made.
    """

    corpus: Corpus
    sampler: Sampler
    teacher: LiveTeacher | None
    stored: tuple[StoredLogits, ...]
    rows: tuple[NDArray[np.int64], ...]
    front_end: FrontEndConfig
    recipe: Recipe
    held_out: ValidationSet | None
    seed: int
    device: torch.device
    clip_scores: ClipScores | None = None

    @property
    def front_ends(self) -> tuple[FrontEndConfig, ...]:
        """Front ends of student and teachers, each once, the student's first."""
        others = () if self.teacher is None else self.teacher.front_ends
        return tuple(dict.fromkeys((self.front_end, *others)))


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The data of a step, on the CPU.

    Args:
        mels: mixes (n, 1, n_mels, n_frames), or None.
        teacher_mels: the same as the teacher hears them, or None where it hears what the student hears.
        frames: (n, n_steps, n_classes) targets of each step of the mixes, or None.
        samples: (n, n_samples) where log-mels are still to be made, or None.
        partners: which clip each is mixed with, or None.
        share: what each keeps of itself, or None.
        limits_hz: edges of the mel bank, or None for the usual ones.
        labels: (n, n_classes) of 0 and 1, or, of mixes, what `labels_heard` gives; or None.
        known: (n, n_classes) which of them are known, or None for all.
        scores: (n, n_classes) of stored logits, or None.
    """

    mels: Tensor | None = None
    teacher_mels: Tensor | None = None
    frames: Tensor | None = None
    samples: Tensor | None = None
    partners: NDArray[np.int64] | None = None
    share: NDArray[np.float32] | None = None
    limits_hz: tuple[float, float] | None = None
    labels: Tensor | None = None
    known: Tensor | None = None
    scores: Tensor | None = None


class DistillTask:
    """A stage of a distillation.

    Args:
        context: of the run.
        student: the network.
        stage: how, in this stage.
        number: of the stage, from 0.
        n_steps: of the stage.
        done_before: share of the run that earlier stages have done, for the temperature.
        share: share of the run that this stage is.
        progress: share of the stage that is done at a step; None where the stage ends by steps.
    """

    def __init__(
        self,
        context: DistillContext,
        student: Backbone,
        stage: Stage,
        *,
        number: int,
        n_steps: int,
        done_before: float = 0.0,
        share: float = 1.0,
        progress: Callable[[int], float] | None = None,
    ) -> None:
        self.context, self.student, self.stage = context, student, stage
        self._number = number
        self._progress = progress or (lambda step: step / n_steps)
        self._done_before, self._share = done_before, share
        self._front_ends = nn.ModuleList(TorchLogMel(one) for one in context.front_ends).to(context.device)
        self._hinting: LoadedModel | None = None
        self._matching: tuple[int, ...] = ()
        if (stage.hint_weight or stage.mode == "blockwise") and context.teacher is not None:
            self._hinting = context.teacher.hinting(student.config, context.front_end)
        if self._hinting is not None:
            self._matching = matching_maps(student.config, self._hinting.header.config)
        recipe = context.recipe
        if stage.mode == "end-to-end" and recipe.teacher_level_db:
            self._matching = tuple(number for number in self._matching if number >= FIRST_AT_LEVEL)
        self._temperature = TemperatureSchedule(recipe.temperature, 1.0, 1)
        self._probe: Backbone | None = None
        self._probed: Batch | None = None

    @property
    def shards(self) -> int:
        """Parts of a batch; one where its clips are mixed with each other."""
        recipe = self.context.recipe
        if recipe.mixes is None:
            return 1
        return shards_for(self.stage.batch, recipe.shards, self.context.device)

    # ------------------------------------------------------------------ data

    def batch(self, step: int) -> Batch:
        """The data of a step: drawn from the seed, the stage and the step alone."""
        generator = step_generator(self.context.seed, self._number, step)
        if self.context.recipe.mixes is None:
            return self._samples(generator)
        return self._mixes(generator, self.context.sampler, self.stage.batch)

    def _mixes(self, generator: np.random.Generator, sampler: Sampler, n: int) -> Batch:
        context, options = self.context, self.context.recipe.mixes
        assert options is not None
        n_frames = context.front_end.n_frames(round(self.stage.window_s * RATE_HZ))
        corpus, share = context.corpus, context.recipe.label_weight
        labels = KnownLabels(corpus.labels, corpus.known) if corpus.labels is not None and share else None
        silence = None if context.teacher is None else context.teacher.vocabulary.silence
        mels, of_teacher, frames, heard = [], [], [], []
        for _ in range(n):
            n_clips = 1 + int(generator.choice(len(options.p_clips), p=options.p_clips))
            drawn = [
                self._readable(generator, sampler, lambda index: corpus.log_mel(index, context.front_end))
                for _ in range(n_clips)
            ]
            mix = mix_log_mels([clip for _, clip in drawn], n_frames, context.front_end, options, generator)
            mels.append(mix.log_mel)
            of_teacher.append(mix.at_level)
            clips, config = [index for index, _ in drawn], self.student.config
            if self.stage.frame_weight and context.clip_scores is not None:
                frames.append(
                    frame_targets(mix, clips, context.clip_scores, config, labels, share, silence=silence)
                )
            if labels is not None:
                heard.append(labels_heard(mix, clips, labels, config))
        return Batch(
            mels=torch.from_numpy(np.stack(mels)[:, np.newaxis]),
            teacher_mels=(
                torch.from_numpy(np.stack(of_teacher)[:, np.newaxis]) if options.teacher_level_db else None
            ),
            frames=torch.from_numpy(np.stack(frames)) if frames else None,
            labels=torch.from_numpy(np.stack(heard)) if heard else None,
        )

    def _samples(self, generator: np.random.Generator) -> Batch:
        context, recipe, n = self.context, self.context.recipe, self.stage.batch
        n_samples = round(self.stage.window_s * RATE_HZ)
        indices, windows = [], []
        for _ in range(n):
            index, clip = self._readable(generator, context.sampler, context.corpus.samples)
            indices.append(index)
            windows.append(cut_or_repeat(clip, n_samples, generator))
        chosen = np.array(indices, dtype=np.int64)
        samples = torch.from_numpy(np.stack(windows))
        partners, share = mixing_partners(generator, n, alpha=recipe.mixup) if recipe.mixup else (None, None)
        labels = known = scores = None
        if context.corpus.labels is not None and recipe.label_weight > 0:
            labels = torch.from_numpy(np.asarray(context.corpus.labels[chosen], np.float32))
            if context.corpus.known is not None:
                known = torch.from_numpy(np.asarray(context.corpus.known[chosen], np.bool_))
        if context.stored:
            logits = [
                one.logits(rows[chosen]) for one, rows in zip(context.stored, context.rows, strict=True)
            ]
            scores = torch.sigmoid(torch.from_numpy(np.mean(logits, axis=0, dtype=np.float32)))
        mixed = [] if partners is None or share is None else [(partners, share)]
        limits_hz = band_limits(generator) if recipe.perturb_bands else None
        if recipe.gain_db:
            samples = apply_gain(samples, generator, most_db=recipe.gain_db)
        if recipe.mix_waves:
            mixed.insert(0, mixing_partners(generator, n, alpha=2.0, rate=recipe.mix_waves))
            samples = mix_waveforms(samples, *mixed[0])
        if recipe.roll_s:
            samples = roll(samples, generator, most=round(recipe.roll_s * RATE_HZ))
        for others, kept in mixed:
            labels = None if labels is None else mix_scores(labels, others, kept)
            if known is not None:
                alone = torch.from_numpy(kept == 1)[:, None]
                known = known & (known[torch.from_numpy(others)] | alone)
            scores = None if scores is None else mix_scores(scores, others, kept)
        return Batch(
            samples=samples,
            partners=partners,
            share=share,
            limits_hz=limits_hz,
            labels=labels,
            known=known,
            scores=scores,
        )

    def _readable(
        self, generator: np.random.Generator, sampler: Sampler, read: Callable[[int], NDArray[Any]]
    ) -> tuple[int, NDArray[Any]]:
        """Draw a clip and read it; a damaged one is replaced by another draw, always the same one."""
        problem: InputError | None = None
        for _ in range(TRIES):
            index = int(sampler.draw(generator, 1)[0])
            try:
                return index, read(index)
            except InputError as exc:
                problem = exc
        raise InputError(f"{TRIES} damaged clips one after the other; the last: {problem}")

    def fit_start(self) -> None:
        """Give a random student the teacher's means and spreads (`dymn_cli.train.distill.student`)."""
        context = self.context
        generator = step_generator(context.seed, FITTING, 0)
        mixes = context.recipe.mixes is not None
        batch = (
            self._mixes(generator, context.sampler, self.stage.batch) if mixes else self._samples(generator)
        )
        scores, mel, maps = self._teacher_targets(batch)
        assert scores is not None
        fit_classifier(self.student.classifier, scores)
        if isinstance(self.student.strong_head, nn.Sequential) and batch.frames is not None:
            fit_classifier(self.student.strong_head, batch.frames.flatten(0, 1).to(context.device))
        if maps is not None and len(self._matching) == len(maps):
            fit_stages(self.student, mel, maps)

    # ------------------------------------------------------------------ loss

    def parts(self, batch: Batch) -> tuple[Batch, ...]:
        """The clips of a batch, shared out to the shards."""
        if self.shards == 1:
            return (batch,)
        assert batch.mels is not None
        parts = (
            [None] * self.shards if tensor is None else tensor.chunk(self.shards)
            for tensor in (batch.mels, batch.teacher_mels, batch.frames, batch.labels)
        )
        return tuple(
            Batch(mels=mels, teacher_mels=of_teacher, frames=frames, labels=labels)
            for mels, of_teacher, frames, labels in zip(*parts, strict=True)
        )

    def loss(self, batch: Batch, step: int, network: nn.Module) -> Losses:
        """Loss of a network on a batch, in nats per clip (see `dymn_cli.train.losses`)."""
        student = cast(Backbone, network)
        done = self._progress(step)
        of_run = self._done_before + self._share * done
        student.set_temperature(self._temperature.at(of_run / self.context.recipe.temperature_share))
        if self.stage.frozen_norm_share:
            freeze_batch_norm(student, done >= 1 - self.stage.frozen_norm_share)
        if not self.stage.dropout:
            switch_dropout_off(student)
        scores, mel, maps = self._teacher_targets(batch)
        if self.context.recipe.spec_augment:
            mel = spec_augment(mel, step_generator(self.context.seed, STRIPES + self._number, step))
        if self.stage.mode == "blockwise":
            assert maps is not None
            assert scores is not None
            return self._blockwise(student, mel, maps, scores, batch)
        return self._whole(student, mel, maps, scores, batch)

    def _teacher_targets(self, batch: Batch) -> tuple[Tensor | None, Tensor, list[Tensor] | None]:
        """The teacher's scores, the student's log-mels, and the teacher's maps where it gives hints."""
        mels = self._log_mels(batch)
        mel = mels[self.context.front_end]
        if self.context.teacher is None:
            return None if batch.scores is None else batch.scores.to(self.context.device), mel, None
        if batch.teacher_mels is not None:
            mels = {self.context.front_end: batch.teacher_mels.to(self.context.device, non_blocking=True)}
            if self.stage.mode == "blockwise":  # each block has the teacher's input
                mel = mels[self.context.front_end]
        answer = self.context.teacher.predict(mels, hinting=self._hinting)
        return torch.sigmoid(answer.logits), mel, answer.maps

    def _log_mels(self, batch: Batch) -> dict[FrontEndConfig, Tensor]:
        device = self.context.device
        if batch.mels is not None:
            return {self.context.front_end: batch.mels.to(device, non_blocking=True)}
        assert batch.samples is not None
        samples = batch.samples.to(device, non_blocking=True)
        fmin_hz, fmax_hz = batch.limits_hz or (None, None)
        made = {}
        for front_end, module in zip(self.context.front_ends, self._front_ends, strict=True):
            with torch.no_grad():
                mel = module(samples, fmin_hz=fmin_hz, fmax_hz=fmax_hz)
                if batch.partners is not None and batch.share is not None:
                    mel = mix_spectrograms(mel, batch.partners, batch.share)
            made[front_end] = mel
        return made

    def _whole(
        self,
        student: Backbone,
        mel: Tensor,
        maps: Sequence[Tensor] | None,
        scores: Tensor | None,
        batch: Batch,
    ) -> Losses:
        if scores is None:
            return self._on_labels(student, mel, batch)
        parts: dict[str, Tensor] = {}
        labels = None if batch.labels is None else batch.labels.to(self.context.device)
        if labels is not None and batch.known is not None:
            labels = torch.where(batch.known.to(self.context.device), labels, scores)
        elif labels is not None and self.context.recipe.mixes is not None:
            # The teacher speaks for the classes that no label is known of; −1 is a label that was rejected.
            labels = torch.where(labels < 0, 0.0, labels + (1 - labels) * scores)
        if maps is not None and self._matching:
            own = student.feature_maps(mel)
            features = own[-1]
            hints = torch.stack([hint_loss(own[number], maps[number]) for number in self._matching])
            parts["hints"] = hints.detach().mean()
            total = self.stage.hint_weight * hints.sum()
        else:
            features = student.forward_features(mel)
            total = features.new_zeros(())
        logits, _ = student.forward_head(features)
        total = total + self._frame_loss(student, features, batch, parts)
        total = total + distillation_loss(logits, scores, labels, self.context.recipe.label_weight)
        parts["kl"] = cross_entropy(logits.detach(), scores) - entropy(scores)
        return Losses(total, parts)

    def _on_labels(self, student: Backbone, mel: Tensor, batch: Batch) -> Losses:
        """Without a teacher."""
        assert batch.labels is not None
        logits, _ = student(mel)
        labels = batch.labels.to(self.context.device)
        if batch.known is None:
            return Losses(cross_entropy(logits, labels), {})
        known = batch.known.to(self.context.device, labels.dtype)
        return Losses(masked_loss(logits, labels * known, known), {})

    def _blockwise(
        self, student: Backbone, mel: Tensor, maps: Sequence[Tensor], scores: Tensor, batch: Batch
    ) -> Losses:
        """Each stage, and the heads, on the output of the teacher's stage before it."""
        inputs = (mel, *maps[:-1])
        stages = zip(student.stages, inputs, maps, strict=True)
        hints = torch.stack([hint_loss(stage(x), wanted) for stage, x, wanted in stages])
        logits, _ = student.forward_head(maps[-1])
        on_scores = cross_entropy(logits, scores)
        parts = {"hints": hints.detach().mean(), "kl": on_scores.detach() - entropy(scores)}
        on_frames = self._frame_loss(student, maps[-1], batch, parts)
        return Losses(hints.sum() + on_scores + on_frames, parts)

    def _frame_loss(
        self, student: Backbone, features: Tensor, batch: Batch, parts: dict[str, Tensor]
    ) -> Tensor:
        """The weighted loss on each step's scores; what it is above its least goes into the parts."""
        if not self.stage.frame_weight or batch.frames is None:
            return features.new_zeros(())
        wanted = batch.frames.to(self.context.device, non_blocking=True)
        on_frames = frame_loss(student.forward_frames(features), wanted)
        parts["frames"] = on_frames.detach() - entropy(wanted.flatten(0, 1))
        return self.stage.frame_weight * on_frames

    # ------------------------------------------------------------------ measures

    def evaluate(self, state: TrainState) -> tuple[dict[str, float], bool]:
        """How the student, as it would be saved now, does on what is held out."""
        if self.context.held_out is None:
            return {}, False
        if self._probe is None:
            self._probe = copy.deepcopy(self.student)
            self._probe.set_temperature(1.0)
        self._probe.load_state_dict(state.weights)
        self._probe.eval()
        measures = self.context.held_out.measures(self._probe, self.context.front_end)
        if self.stage.frame_weight and self.context.clip_scores is not None:
            measures["frames"] = self._frame_divergence(self._probe)
        return measures, False

    @torch.inference_mode()
    def _frame_divergence(self, network: Backbone) -> float:
        """KL divergence of each step's scores from their targets on mixes of held-out clips, nats a step."""
        context = self.context
        assert context.held_out is not None
        if self._probed is None:
            generator = step_generator(context.seed, PROBING, 0)
            self._probed = self._mixes(generator, Sampler(context.held_out.indices), N_PROBED)
        batch = self._probed
        assert batch.mels is not None
        assert batch.frames is not None
        apart = []
        for start in range(0, N_PROBED, PROBED_AT_ONCE):
            part = slice(start, start + PROBED_AT_ONCE)
            mel, wanted = batch.mels[part].to(context.device), batch.frames[part].to(context.device)
            logits = network.forward_frames(network.forward_features(mel))
            apart.append(float(frame_loss(logits, wanted) - entropy(wanted.flatten(0, 1))))
        return float(np.mean(apart))


def make_optimizer(stage: Stage, network: Backbone) -> torch.optim.Optimizer:
    """Adam or AdamW over all parameters, as the stage has it; fused, which takes a quarter of the time.

    Blocks that are trained one by one are a group of their own, beside the classifier.
    """
    if stage.optimizer == "adam":
        return torch.optim.Adam(network.parameters(), lr=stage.rate, fused=True)
    if stage.mode == "end-to-end":
        return torch.optim.AdamW(
            network.parameters(), lr=stage.rate, weight_decay=stage.weight_decay, fused=True
        )
    blocks = {"params": [value for one in network.stages for value in one.parameters()], "rate_scale": 1.0}
    heads = [network.classifier, *([] if network.strong_head is None else [network.strong_head])]
    head = {"params": [value for one in heads for value in one.parameters()], "rate_scale": CLASSIFIER_RATE}
    return torch.optim.AdamW([blocks, head], lr=stage.rate, weight_decay=stage.weight_decay, fused=True)


def freeze_batch_norm(network: nn.Module, frozen: bool) -> None:
    """Let batch normalisation use its running statistics and keep them, or go back to those of the batch.

    Its weights are trained either way.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.train(not frozen)


def switch_dropout_off(network: nn.Module) -> None:
    """Switch dropout off in training: mixes never come twice, so none is learned by heart."""
    for module in network.modules():
        if isinstance(module, (nn.Dropout, DrawnDropout)):
            module.eval()
