"""Recordings that are kept out of training, and how well a model agrees with teacher or labels on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from dymn_cli.errors import InputError
from dymn_cli.evaluation.agreement import Agreement, agreement
from dymn_cli.evaluation.label_fit import fit_to_labels
from dymn_cli.train.distill.clips import Corpus, first_log_mel
from dymn_cli.train.distill.levels import at_level

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.frontend import FrontEndConfig
    from dymn_cli.model.backbone import Backbone
    from dymn_cli.train.distill.stored_logits import StoredLogits
    from dymn_cli.train.distill.teachers import LiveTeacher

__all__ = ["ValidationSet", "choose_clips"]

WINDOW_S = 10.0
BATCH = 8


def choose_clips(indices: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """At most so many of the clips, drawn at random, in order; all of them where `most` is 0."""
    if not most or len(indices) <= most:
        return indices
    drawn = np.random.default_rng([seed, 102]).choice(len(indices), most, replace=False)
    return indices[np.sort(drawn)]


@dataclass(slots=True)
class ValidationSet:
    """Held-out clips: the first seconds of each, repeated where it is shorter.

    Log-mels are kept in half precision, 256 kB a clip.

    Args:
        corpus: where the clips are.
        indices: which of them.
        device: where models compute.
        window_s: seconds of each.
    """

    corpus: Corpus
    indices: NDArray[np.int64]
    device: torch.device
    window_s: float = WINDOW_S
    _mels: dict[FrontEndConfig, NDArray[np.float16]] = field(default_factory=dict, init=False)
    _teacher: NDArray[np.float32] | None = field(default=None, init=False)

    def mels(self, front_end: FrontEndConfig) -> NDArray[np.float16]:
        """(n, 1, n_mels, n_frames) of all clips; damaged ones are dropped at the first call."""
        if front_end not in self._mels:
            made, good = [], []
            for index in self.indices:
                try:
                    made.append(
                        first_log_mel(self.corpus, int(index), front_end, self.window_s).astype(np.float16)
                    )
                    good.append(index)
                except InputError:
                    continue
            if not made:
                raise InputError("none of the clips that are held out can be decoded")
            self.indices = np.array(good, dtype=np.int64)
            self._mels[front_end] = np.stack(made)
        return self._mels[front_end]

    def logits(
        self, network: Backbone, front_end: FrontEndConfig, level_db: float = 0.0
    ) -> NDArray[np.float32]:
        """(n, n_classes) of a network in evaluation mode; it hears each clip at a level, or at 0 as it is."""
        mels = self.mels(front_end)
        logits: list[NDArray[np.float32]] = []
        with torch.inference_mode():
            for start in range(0, len(mels), BATCH):
                part = mels[start : start + BATCH].astype(np.float32)
                if level_db:
                    part[:, 0] = [at_level(one.T, front_end, level_db).T for one in part[:, 0]]
                logits.append(network(torch.from_numpy(part).to(self.device))[0].float().cpu().numpy())
        return np.concatenate(logits)

    def use_teacher(self, teacher: LiveTeacher, level_db: float = 0.0) -> None:
        """Compute the reference logits with live teachers, who hear at the level that they teach at."""
        logits = [self.logits(model.network, model.header.front_end, level_db) for model in teacher.models]
        self._teacher = np.mean(logits, axis=0, dtype=np.float32)

    def use_stored(self, stored: Sequence[StoredLogits], rows: Sequence[NDArray[np.int64]]) -> None:
        """Take the reference logits from files; `rows` are those of all clips."""
        logits = [one.logits(row[self.indices]) for one, row in zip(stored, rows, strict=True)]
        self._teacher = np.mean(logits, axis=0, dtype=np.float32)

    def measures(self, network: Backbone, front_end: FrontEndConfig) -> dict[str, float]:
        """How a network does: its agreement with the teacher, or, where there is none, with the labels."""
        if self._teacher is not None:
            return self.agreement(network, front_end).measures()
        scores = 1 / (1 + np.exp(-self.logits(network, front_end).clip(-80, 80)))
        assert self.corpus.labels is not None
        truth = np.asarray(self.corpus.labels[self.indices], bool)
        known = self.corpus.known
        return fit_to_labels(
            scores, truth, np.ones_like(truth) if known is None else np.asarray(known[self.indices], bool)
        )

    def agreement(self, network: Backbone, front_end: FrontEndConfig) -> Agreement:
        """Agreement of a network with the teacher, whose logits must be there."""
        assert self._teacher is not None
        return agreement(self.logits(network, front_end), self._teacher)
