"""Checkpoints of published architectures, made without torch: small, always the same, of finite answers."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

import numpy as np

from dymn_cli.model.config import ModelConfig
from dymn_cli.model.layout import layers

FUZZ = str(Path(__file__).resolve().parents[1] / "fuzz")
if FUZZ not in sys.path:
    sys.path.insert(0, FUZZ)

from fuzzing.torchfile import checkpoint  # noqa: E402 -- after the path to it


def state_dict(config: ModelConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Key → value of every tensor of a network."""
    return {
        spec.key: _value(spec.key, spec.shape, seed) for layer in layers(config) for spec in layer.tensors
    }


def checkpoint_of(config: ModelConfig, seed: int = 0) -> bytes:
    """The file that `torch.save` would write."""
    return checkpoint(state_dict(config, seed))


def _value(key: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
    last = key.rpartition(".")[2]
    if last == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if last == "lambdas":
        return np.repeat(np.float32([1.0, 0.5]), shape[0] // 2)
    if last == "init_v":
        return np.eye(shape[0], dtype=np.float32)[0]
    if last == "running_var":
        value = rng.uniform(0.5, 1.5, shape)
    elif len(shape) == 1:
        value = rng.uniform(0.7, 1.3, shape) if last == "weight" else rng.normal(0, 0.1, shape)
    else:
        gain = 0.02 if key == "classifier.5.weight" else 2  # scores that are neither 0 nor 1
        value = rng.normal(0, (gain / np.prod(shape[1:])) ** 0.5, shape)
    return value.astype(np.float32)
