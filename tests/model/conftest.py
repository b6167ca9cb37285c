"""Deterministic weights and log-mels for the architecture's tests, and configs of every kind."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
from hypothesis import strategies as st

from dymn_cli.model.config import ATTENTIONS, BLOCK_MASKS, N_BLOCKS, POSITIONS, ContextSharing, ModelConfig

if TYPE_CHECKING:
    from torch import Tensor, nn


@pytest.fixture(scope="session")
def noise_mel() -> Tensor:
    """Two log-mels of noise, (2, 1, 128, 437) float32: the input of the golden answers."""
    import torch

    noise = np.random.default_rng(5).standard_normal((2, 1, 128, 437))
    return torch.from_numpy((0.6 * noise).astype(np.float32))


@pytest.fixture(scope="session")
def filled_weights() -> Callable[[nn.Module], nn.Module]:
    """Give a model the weights of the golden answers: each tensor depends on its published key only."""
    return _fill


def _fill(model: nn.Module) -> nn.Module:
    import torch

    state = model.state_dict()
    channels = {key: tensor.numel() for key, tensor in state.items()}
    for key, tensor in state.items():
        values = _values(key, tuple(tensor.shape), channels)
        if values is not None:
            tensor.copy_(torch.from_numpy(values.astype(np.float32)))
    return model


def _values(key: str, shape: tuple[int, ...], channels: dict[str, int]) -> np.ndarray | None:
    *path, kind = key.split(".")
    rng = np.random.default_rng([0, zlib.crc32(key.encode())])
    is_norm = "norm" in key or path[-1] == "1"
    match kind:
        case "num_batches_tracked" | "lambdas" | "init_v":
            return None
        case "running_var":
            return rng.uniform(0.5, 1.5, shape)
        case "running_mean":
            return rng.normal(0.0, 0.1, shape)
        case "bias":
            return rng.normal(0.0, 0.2, shape)
    if is_norm:
        return rng.uniform(0.7, 1.3, shape)
    if "residuals" in path or "coef_net" in path:
        return rng.normal(0.0, 0.5, shape)
    if shape[:2] == (1, 1) and len(shape) == 4:
        # A bank of K flat kernels: its fan-in shows only with the output channels, those of its norm.
        outputs = channels[key.replace("_conv.weight", "_norm.weight")]
        return rng.normal(0.0, np.sqrt(4.0 / (shape[3] // outputs)), shape)
    return rng.normal(0.0, np.sqrt(2.0 / np.prod(shape[1:])), shape)


@pytest.fixture(scope="session")
def configs() -> st.SearchStrategy[ModelConfig]:
    """Configs of all families with every knob turned."""
    masks = st.one_of(
        st.sampled_from(list(BLOCK_MASKS.values())),
        st.lists(st.booleans(), min_size=N_BLOCKS, max_size=N_BLOCKS).map(tuple),
    )
    positions = st.sets(st.sampled_from(POSITIONS)).map(tuple)
    bounds = st.tuples(st.integers(1, 300), st.integers(1, 300)).map(sorted)
    dynamic = st.builds(
        lambda bounds, **knobs: ModelConfig(context_min=bounds[0], context_max=bounds[1], **knobs),
        bounds=bounds,
        width=st.integers(1, 250).map(lambda percent: percent / 100),
        n_classes=st.integers(1, 600),
        dynamic_blocks=masks,
        dy_conv=positions,
        dy_relu=positions,
        coordinate_attention=st.sampled_from(["both", "time", "frequency", "none"]),
        kernels=st.integers(1, 6),
        mappings=st.integers(1, 4),
        context_ratio=st.integers(1, 20),
        frame_head=st.booleans(),
        context_sharing=st.sampled_from(get_args(ContextSharing)),
    )
    static = st.builds(
        ModelConfig,
        family=st.just("mn"),
        width=st.integers(1, 400).map(lambda percent: percent / 100),
        n_classes=st.integers(1, 600),
        frame_head=st.booleans(),
        static_attention=st.sampled_from(ATTENTIONS),
    )
    framewise = st.builds(
        ModelConfig,
        family=st.just("fmn"),
        width=st.integers(1, 400).map(lambda percent: percent / 100),
        n_classes=st.integers(1, 600),
    )
    return st.one_of(dynamic, dynamic, dynamic, static, framewise)
