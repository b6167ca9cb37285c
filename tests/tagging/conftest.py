"""A model whose answers are known, recordings for it, and models with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sounds
from checkpoints import state_dict
from fake_model import FakeBackend

from dymn_cli.frontend.melbank import FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.model.config import ARCHITECTURES
from dymn_cli.store.header import ModelHeader, Purpose
from dymn_cli.store.weights import save_weights
from dymn_cli.tagging import tagger as tagger_module


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
