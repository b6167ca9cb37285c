"""A model whose answers are known: it hears the loudest mel band, and says the label of that number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sounds
from checkpoints import state_dict

from dymn_cli.frontend.melbank import FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.model.config import ARCHITECTURES
from dymn_cli.results import ModelInfo
from dymn_cli.runtime.base import Answer
from dymn_cli.store.header import ModelHeader, Purpose
from dymn_cli.store.weights import save_weights
from dymn_cli.tagging import tagger as tagger_module

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


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> FakeBackend:
    """The fake, in place of every model that a tagger opens."""
    fake = FakeBackend()
    monkeypatch.setattr(tagger_module, "open_backend", lambda *args, **options: fake)
    return fake


@pytest.fixture
def tone() -> Callable[..., np.ndarray]:
    """`tone(band, seconds, rate_hz)`: what the fake hears as the label of that number."""

    def make(band: int, seconds: float, rate_hz: int = 32_000) -> np.ndarray:
        return sounds.sine(sounds.band_hz(band), seconds, rate_hz)

    return make


@pytest.fixture
def animals() -> SimpleNamespace:
    """Numbers of some labels, as AudioSet counts them."""
    return SimpleNamespace(animal=72, pets=73, cat=81, purr=82, horse=87, duck=104, quack=105)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`small_model("hop_5", n_hop=160)`: a file of the smallest MN with random weights and that front end."""

    def make(
        name: str,
        seed: int = 0,
        *,
        architecture: str = "mn01",
        purpose: Purpose = "tags",
        vocabulary: Vocabulary | None = None,
        **numbers: int,
    ) -> Path:
        config = ARCHITECTURES[architecture]
        if vocabulary is not None:
            config = config.with_classes(len(vocabulary))
        labels = vocabulary or Vocabulary.audioset()
        header = ModelHeader(name, config, FrontEndConfig(**numbers), labels, purpose)
        path = tmp_path_factory.mktemp("models") / f"{name}.safetensors"
        save_weights(path, header, state_dict(config, seed))
        return path

    return make
