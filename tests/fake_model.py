"""A model whose answers are known: it hears the loudest mel band, and says the label of that number."""

from __future__ import annotations

import numpy as np

from dymn_cli.frontend.melbank import FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.model.config import ARCHITECTURES
from dymn_cli.results import ModelInfo
from dymn_cli.runtime.base import Answer
from dymn_cli.store.header import ModelHeader

N_MELS = 128


class FakeBackend:
    """0.9 for the label of the loudest band, 0.5 for the next label, 0.01 for all others.

    The embedding is 1 at the number of the loudest band and 0 elsewhere.
    """

    on_cpu = has_frames = True

    def __init__(self) -> None:
        config = ARCHITECTURES["dymn04"]
        self.header = ModelHeader("fake", config, FrontEndConfig(), Vocabulary.audioset())
        self.info = ModelInfo("fake", "0" * 64, "fake", "none")
        self.n_frames: list[int] = []
        self.batches: list[int] = []

    def run(self, mels: np.ndarray, *, frames: bool = False) -> Answer:
        assert mels.dtype == np.float32
        assert mels.shape[1:3] == (1, N_MELS)
        self.batches.append(len(mels))
        self.n_frames.append(mels.shape[3])
        scores = np.full((len(mels), len(self.header.vocabulary)), 0.01)
        embedding = np.zeros((len(mels), self.header.config.embedding_size), np.float32)
        for row, band in enumerate(mels.mean(axis=(1, 3)).argmax(axis=1)):
            scores[row, band], scores[row, band + 1], embedding[row, band] = 0.9, 0.5, 1.0
        return Answer(_logits(scores), embedding, self._steps(mels) if frames else None)

    def _steps(self, mels: np.ndarray) -> np.ndarray:
        """0.9 in each step of 32 frames for its own loudest band, 0.01 for all others."""
        parts = np.array_split(mels, range(32, mels.shape[3], 32), axis=3)
        bands = np.stack([part.mean(axis=(1, 3)).argmax(axis=1) for part in parts], axis=1)
        return _logits(np.where(bands[..., np.newaxis] == np.arange(len(self.header.vocabulary)), 0.9, 0.01))


def _logits(scores: np.ndarray) -> np.ndarray:
    return np.log(scores / (1 - scores)).astype(np.float32)
