"""Models and sessions, made once: a session takes longer to make than to use."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dymn_cli.frontend.melbank import FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.model.config import ARCHITECTURES
from dymn_cli.runtime.onnx import OnnxBackend
from dymn_cli.store.header import ModelHeader
from dymn_cli.store.registry import model_spec
from dymn_cli.store.weights import Weights, read_weights

if TYPE_CHECKING:
    from torch import Tensor

N_FRAMES = 1000  # of the usual window, 10 s


@pytest.fixture(scope="session")
def shipped() -> Weights:
    """The model that comes with the package."""
    return read_weights(model_spec("dymn04_kd"))


@pytest.fixture(scope="session")
def onnx_backend(shipped: Weights) -> OnnxBackend:
    """The shipped model on onnxruntime, as the tagger opens it."""
    return OnnxBackend(shipped, n_frames=N_FRAMES)


@pytest.fixture(scope="session")
def mels() -> np.ndarray:
    """Three log-mels of the usual window (3, 1, 128, 1000): noises of different colour and loudness."""
    rng = np.random.default_rng(11)
    colour = np.stack([np.linspace(a, b, 128) for a, b in ((0.8, -0.8), (0.0, 0.3), (-0.9, -0.9))])
    texture = rng.normal(0.0, 0.3, (3, 1, 128, N_FRAMES))
    return (colour[:, None, :, None] + texture).astype(np.float32)


@pytest.fixture(scope="session")
def golden(shared: Path) -> Callable[[str], Weights]:
    """Weights of an architecture, by name, as they are in the golden answers of the published code."""
    pytest.importorskip("torch")
    from dymn_cli.model.build import build

    spec = importlib.util.spec_from_file_location("golden_fill", shared / "golden" / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)

    def make(name: str) -> Weights:
        state = fill.fill(build(ARCHITECTURES[name]).state_dict())
        return of_state_dict(name, state)

    return make


@pytest.fixture(scope="session")
def published(shared: Path) -> Weights:
    """The published MN checkpoint of width 0.4."""
    torch = pytest.importorskip("torch")
    path = shared / "weights" / "mn04_as_mAP_432.pt"
    return of_state_dict("mn04", torch.load(path, map_location="cpu", weights_only=True))


def of_state_dict(name: str, state: dict[str, Tensor]) -> Weights:
    header = ModelHeader(name, ARCHITECTURES[name], FrontEndConfig(), Vocabulary.audioset())
    tensors = {key: tensor.numpy().astype(np.float32) for key, tensor in state.items()}
    return Weights(header, "3" * 64, tensors)
