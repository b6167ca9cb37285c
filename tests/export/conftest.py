"""Models with lively weights, and small log-mels for them."""

from __future__ import annotations

import functools
import importlib.util
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from dymn_cli.frontend.melbank import FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.model.config import ARCHITECTURES, ModelConfig
from dymn_cli.store.header import ModelHeader
from dymn_cli.store.weights import Weights

if TYPE_CHECKING:
    import torch
    from torch import nn

N_MELS = 64  # half the usual, for speed
GATING = (".gates.", ".spatial.", ".mask.", ".squeeze.", ".excite.")  # of attention in static blocks


@pytest.fixture(scope="session")
def mels() -> np.ndarray:
    """Three log-mels (3, 1, 64, 77) float32 of nothing in particular, every one of its own colour."""
    return _mels()


@functools.cache
def _mels() -> np.ndarray:
    rng = np.random.default_rng(1)
    shapes = ((3, 1, N_MELS, 77), (3, 1, N_MELS, 1), (3, 1, 1, 77))
    return sum(rng.normal(0.0, 0.6, shape) for shape in shapes).astype(np.float32)


@pytest.fixture(scope="session")
def lively() -> Callable[[ModelConfig], Weights]:
    """Weights of a config in which no branch is idle, whatever the config.

    Values are far from the initial ones and depend on their key and shape only. The statistics of the
    norms are those that `mels` give in this network, so that signals neither die out nor run away in it
    and a wrong branch shows in the answer.
    """
    return _lively


def _lively(config: ModelConfig) -> Weights:
    import torch
    from torch import nn

    from dymn_cli.model.build import build

    module = build(config)
    for key, tensor in module.state_dict().items():
        values = _values(key, tuple(tensor.shape), config)
        if values is not None:
            tensor.copy_(torch.from_numpy(np.asarray(values, np.float32)))
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.register_forward_pre_hook(_measure)
    with torch.no_grad():  # in float64: the same weights however many threads add up
        module.double().eval()(torch.from_numpy(_mels()).double())
    tensors = {key: tensor.numpy().astype(np.float32) for key, tensor in module.state_dict().items()}
    vocabulary = Vocabulary.from_names([f"sound {n}" for n in range(config.n_classes)])
    header = ModelHeader("lively", config, FrontEndConfig(n_mels=N_MELS), vocabulary)
    return Weights(header, "5" * 64, tensors)


def _measure(norm: nn.Module, inputs: tuple[torch.Tensor]) -> None:
    """Take over the mean and variance of what comes; quiet channels are not amplified."""
    import torch

    variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
    norm.running_mean.copy_(mean)
    # The norm of a gate over a plane has one channel, and none to compare it with.
    norm.running_var.copy_(variance.clamp(min=variance.mean() if len(variance) > 1 else 1.0))


def _values(key: str, shape: tuple[int, ...], config: ModelConfig) -> np.ndarray | None:
    rng = np.random.default_rng([10, zlib.crc32(key.encode()), *shape])
    kind, m = key.rpartition(".")[2], config.mappings
    if kind in ("num_batches_tracked", "running_var", "running_mean"):
        return None
    if kind == "lambdas":
        return np.repeat([0.8, 0.4], m)
    if kind == "init_v":
        return np.concatenate([np.linspace(1.0, 0.2, m), np.linspace(0.0, 0.1, m)])
    if kind == "bias":
        return rng.normal(0.0, 0.3, shape)
    if len(shape) == 1:  # the scale of a BatchNorm
        return rng.uniform(0.6, 1.4, shape)
    if "residuals" in key or "coef_net" in key or any(part in key for part in GATING):
        # More makes the network chaotic: rounding would then look like an error.
        return rng.normal(0.0, 0.2 / np.sqrt(np.prod(shape[1:])), shape)
    if len(shape) == 4 and shape[:2] == (1, 1) and "_conv." in key:  # K kernels, flat
        block = config.blocks[int(key.split(".")[1])]
        outputs = block.out_channels if "proj" in key else block.expanded
        return rng.normal(0.0, np.sqrt(2.0 * config.kernels * outputs / shape[3]), shape)
    return rng.normal(0.0, np.sqrt(2.0 / np.prod(shape[1:])), shape)


@pytest.fixture(scope="session")
def golden(shared: Path) -> Callable[[str], Weights]:
    """Weights of an architecture, by name, as they are in the golden answers of the published code."""
    from dymn_cli.model.build import build

    spec = importlib.util.spec_from_file_location("golden_fill", shared / "golden" / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)

    def make(name: str) -> Weights:
        config = ARCHITECTURES[name]
        state = fill.fill(build(config).state_dict())
        tensors = {key: tensor.numpy().astype(np.float32) for key, tensor in state.items()}
        return Weights(ModelHeader(name, config, FrontEndConfig(), Vocabulary.audioset()), "6" * 64, tensors)

    return make
