"""End-to-end fine-tuning as a task of the training loop (Section V of the paper).

recordings ──▶ excerpts ──▶ gain ──▶ mixup ──▶ roll ──▶ log-mel ──▶ mixup ──▶ network ──▶ loss
               (n, n_samples)                           (n, 1, n_mels, n_frames)

The loss is the binary cross-entropy of each class by itself, also where a recording has exactly one: a score
of dymn is a sigmoid: the confidence in one class, whatever the others are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from dymn_cli.audio.resample import RATE_HZ
from dymn_cli.datasets.seeding import step_generator
from dymn_cli.evaluation.label_fit import fit_to_labels
from dymn_cli.frontend.torch_logmel import TorchLogMel
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
from dymn_cli.train.inference import scores_of
from dymn_cli.train.losses import masked_loss
from dymn_cli.train.parallel import Losses, shards_for
from dymn_cli.train.sampler import EpochSampler

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.datasets.dataset import Dataset
    from dymn_cli.frontend import FrontEndConfig
    from dymn_cli.model.backbone import Backbone
    from dymn_cli.train.finetune.data import LabelledAudio
    from dymn_cli.train.finetune.recipe import FinetuneRecipe
    from dymn_cli.train.state import TrainState

__all__ = ["FinetuneBatch", "FinetuneTask", "measures_of"]

ORDER, BATCH, STRIPES = 0, 1, 2  # what a generator is for
PURPOSES = 10  # numbers of purposes that a stage has for itself


@dataclass(frozen=True, slots=True, eq=False)
class FinetuneBatch:
    """The data of a step, on the CPU.

    Args:
        samples: (n, n_samples) excerpts, waveforms mixed.
        present: (n, n_classes) share of the excerpt that has the class.
        known: (n, n_classes) share of it of which that is known; `present` is never more.
        partners: whose log-mel is mixed with whose, or None.
        share: what each keeps of itself, or None.
        limits_hz: edges of the mel bank, or None for the usual ones.
        number: of the part that it is, of a larger batch.
    """

    samples: Tensor
    present: Tensor
    known: Tensor
    partners: NDArray[np.int64] | None = None
    share: NDArray[np.float32] | None = None
    limits_hz: tuple[float, float] | None = None
    number: int = 0

    def part(self, number: int, size: int) -> FinetuneBatch:
        """Recordings `number * size` and on; log-mels are mixed within a part only."""
        first = number * size
        mine = slice(first, first + size)
        return FinetuneBatch(
            self.samples[mine],
            self.present[mine],
            self.known[mine],
            None if self.partners is None else self.partners[mine] - first,
            None if self.share is None else self.share[mine],
            self.limits_hz,
            number,
        )


class FinetuneTask:
    """A training: all of it, or that of one fold.

    Args:
        audio: recordings with labels.
        network: what is trained.
        front_end: that it hears through.
        recipe: how.
        learned: (n,) the examples to learn from.
        watched: (n,) the examples that it is measured on meanwhile; may be empty.
        stage: number of the training in the run.
        seed: of all draws.
        last_step: end here, at the measurement after that step; None for the whole schedule.
    """

    def __init__(
        self,
        audio: LabelledAudio,
        network: Backbone,
        front_end: FrontEndConfig,
        recipe: FinetuneRecipe,
        *,
        learned: NDArray[np.intp],
        watched: NDArray[np.intp],
        stage: int,
        seed: int,
        last_step: int | None = None,
    ) -> None:
        self._audio, self._network, self._recipe = audio, network, recipe
        self._device = next(network.parameters()).device
        self._front_end = TorchLogMel(front_end).to(self._device)
        self._watched = watched
        self._seed, self._purpose = seed, stage * PURPOSES
        self._last_step = last_step
        self._order = EpochSampler(learned, recipe.batch, seed, self._purpose + ORDER)
        known = audio.dataset.known()
        self._present = torch.from_numpy((audio.dataset.targets() & known).astype(np.float32))
        self._is_known = torch.from_numpy(known.astype(np.float32))

    @property
    def shards(self) -> int:
        """Parts of a batch."""
        return shards_for(self._recipe.batch, self._recipe.shards, self._device)

    # ------------------------------------------------------------------ data

    def batch(self, step: int) -> FinetuneBatch:
        """The data of a step: drawn from the seed, the stage and the step alone."""
        recipe = self._recipe
        generator = step_generator(self._seed, self._purpose + BATCH, step)
        examples = self._order.of_step(step)
        n, n_samples = len(examples), round(recipe.window_s * RATE_HZ)
        excerpts = [self._audio.excerpt(int(example), n_samples, generator) for example in examples]
        samples = torch.from_numpy(np.stack(excerpts))
        present, known = self._present[examples], self._is_known[examples]
        if recipe.gain_db:
            samples = apply_gain(samples, generator, most_db=recipe.gain_db)
        if recipe.mix_waves:
            partners, share = mixing_partners(generator, n, alpha=2.0, rate=recipe.mix_waves)
            samples = mix_waveforms(samples, partners, share)
            present, known = (mix_scores(one, partners, share) for one in (present, known))
        if recipe.roll_s:
            samples = roll(samples, generator, most=round(recipe.roll_s * RATE_HZ))
        partners_of_mels = share_of_mels = None
        if recipe.mixup:
            partners_of_mels, share_of_mels = mixing_partners(
                generator, n, alpha=recipe.mixup, parts=self.shards
            )
            present, known = (mix_scores(one, partners_of_mels, share_of_mels) for one in (present, known))
        limits_hz = band_limits(generator) if recipe.perturb_bands else None
        return FinetuneBatch(samples, present, known, partners_of_mels, share_of_mels, limits_hz)

    # ------------------------------------------------------------------ loss

    def parts(self, batch: FinetuneBatch) -> tuple[FinetuneBatch, ...]:
        """The recordings of a batch, shared out to the shards."""
        size = len(batch.samples) // self.shards
        return tuple(batch.part(number, size) for number in range(self.shards))

    def loss(self, batch: FinetuneBatch, step: int, network: nn.Module) -> Losses:
        """Loss of a network on a batch, in nats per recording."""
        fmin_hz, fmax_hz = batch.limits_hz or (None, None)
        with torch.no_grad():
            samples = batch.samples.to(self._device, non_blocking=True)
            mel = self._front_end(samples, fmin_hz=fmin_hz, fmax_hz=fmax_hz)
            if batch.partners is not None and batch.share is not None:
                mel = mix_spectrograms(mel, batch.partners, batch.share)
            if self._recipe.spec_augment:
                mel = spec_augment(
                    mel,
                    step_generator(self._seed, self._purpose + STRIPES, step * self.shards + batch.number),
                )
        logits, _ = network(mel)
        return Losses(masked_loss(logits, batch.present.to(self._device), batch.known.to(self._device)), {})

    # ------------------------------------------------------------------ measures

    def evaluate(self, state: TrainState) -> tuple[dict[str, float], bool]:
        """Measures on the watched examples, and whether to stop.

        The notes of the state hold what was measured, the step of the best network, how many measurements
        ago that was, and whether the training has ended before its last step.
        """
        measures: dict[str, float] = {}
        if len(self._watched):
            scores = scores_of(self._network, self._front_end, self._audio, self._watched)
            measures = measures_of(scores, self._audio.dataset, self._watched)
        history: list[dict[str, Any]] = state.notes.setdefault("history", [])
        if measures:
            history.append({"step": state.step, **{n: float(f"{v:.5g}") for n, v in measures.items()}})
        ends = self._last_step is not None and state.step >= self._last_step
        if self._recipe.patience and measures:
            if measures["loss"] < state.notes.get("best_loss", np.inf):
                state.notes |= {"best_loss": measures["loss"], "best_step": state.step, "since": 0}
                state.kept = {key: value.clone() for key, value in state.model.state_dict().items()}
            else:
                state.notes["since"] += 1
                ends = ends or state.notes["since"] >= self._recipe.patience
        state.notes["ended"] = ends
        return measures, ends


def measures_of(
    scores: NDArray[np.float32], dataset: Dataset, examples: NDArray[np.intp]
) -> dict[str, float]:
    """How good scores (n, n_classes) of some examples are, in a few figures, those that have a value.

    Besides those of `fit_to_labels`: `accuracy`, where each recording has one label.
    """
    truth, known = dataset.targets()[examples], dataset.known()[examples]
    return fit_to_labels(scores, truth, known, with_accuracy=not dataset.is_multilabel)
