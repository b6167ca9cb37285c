"""Folding: each piece of arithmetic against the equations of the paper, written out in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dymn_cli.errors import ModelError
from dymn_cli.model.config import BLOCK_MASKS, ModelConfig
from dymn_cli.model.layout import state_shapes
from dymn_cli.runtime.fold import BATCH_NORM_EPS, fold

DYNAMIC = ModelConfig(width=0.1, n_classes=5, kernels=3, mappings=2, temperature=4.0)
BLOCK = DYNAMIC.blocks[4]  # one with an expansion


def random_tensors(config: ModelConfig) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    return {
        key: (rng.uniform(0.5, 2.0, shape) if "running_var" in key else rng.normal(size=shape)).astype("f4")
        for key, shape in state_shapes(config).items()
    }


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    return random_tensors(DYNAMIC)


@pytest.fixture(scope="module")
def folded(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return fold(DYNAMIC, tensors)


def normalised(x: np.ndarray, tensors: dict[str, np.ndarray], key: str) -> np.ndarray:
    """BatchNorm in evaluation mode of (C, n) values."""
    weight, bias, mean, variance = (
        tensors[f"{key}.{part}"].astype(np.float64)[:, None]
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / np.sqrt(variance + 1e-3) * weight + bias


def test_the_epsilon_is_that_of_the_published_models() -> None:
    assert BATCH_NORM_EPS == 1e-3


def test_a_convolution_absorbs_its_norm(
    tensors: dict[str, np.ndarray], folded: dict[str, np.ndarray]
) -> None:
    x = np.random.default_rng(0).normal(size=(9, 20))
    plain = tensors["in_c.0.weight"].reshape(-1, 9).astype(np.float64) @ x
    got = folded["stem.weight"].reshape(-1, 9) @ x + folded["stem.bias"][:, None]
    np.testing.assert_allclose(got, normalised(plain, tensors, "in_c.1"), rtol=1e-5, atol=1e-5)


def test_a_mixture_of_kernels_absorbs_the_norm_after_it(
    tensors: dict[str, np.ndarray], folded: dict[str, np.ndarray]
) -> None:
    shares = np.array([0.2, 0.5, 0.3])
    x = np.random.default_rng(0).normal(size=(BLOCK.in_channels, 20))
    kernels = tensors["layers.4.exp_conv.weight"][0, 0].astype(np.float64)
    plain = (shares @ kernels).reshape(BLOCK.expanded, BLOCK.in_channels) @ x
    mixed = (shares @ folded["layers.4.expand.weight"]).reshape(BLOCK.expanded, BLOCK.in_channels)
    got = mixed @ x + folded["layers.4.expand.bias"][:, None]
    np.testing.assert_allclose(got, normalised(plain, tensors, "layers.4.exp_norm"), rtol=1e-5, atol=1e-5)


def test_one_linear_layer_gives_attention_and_lines(
    tensors: dict[str, np.ndarray], folded: dict[str, np.ndarray]
) -> None:
    h = np.random.default_rng(0).normal(size=BLOCK.context)
    values = folded["layers.4.coefficients.weight"] @ h + folded["layers.4.coefficients.bias"]

    for n, role in enumerate(("exp", "depth", "proj")):  # equations 5 and 6
        key = f"layers.4.{role}_conv.residuals.0"
        z = tensors[f"{key}.weight"].astype(np.float64) @ h + tensors[f"{key}.bias"]
        np.testing.assert_allclose(values[3 * n : 3 * n + 3], z / 4.0, rtol=1e-5, atol=1e-6)

    key = "layers.4.depth_act"  # equation 4: the 2M values of a channel are adjacent, slopes first
    z = tensors[f"{key}.coef_net.0.weight"].astype(np.float64) @ h + tensors[f"{key}.coef_net.0.bias"]
    theta = 2.0 / (1.0 + np.exp(-z)) - 1.0
    lines = theta.reshape(-1, 4) * tensors[f"{key}.lambdas"] + tensors[f"{key}.init_v"]
    name = "layers.4.dy_relu_depthwise"
    got = np.tanh(values[9:]) * folded[f"{name}.scale"] + folded[f"{name}.start"]
    np.testing.assert_allclose(got.reshape(4, -1).T, lines, rtol=1e-5, atol=1e-6)


def test_all_initialisers_are_float32_and_contiguous(folded: dict[str, np.ndarray]) -> None:
    assert all(value.dtype == np.float32 and value.flags.c_contiguous for value in folded.values())
    assert folded["head.1.weight"].shape == (DYNAMIC.head_channels, DYNAMIC.embedding_size)
    assert folded["head.2.weight"].shape == (5, DYNAMIC.head_channels)


def test_squeeze_and_excitation_becomes_two_convolutions() -> None:
    config = ModelConfig("mn", 0.4, n_classes=5)
    block = config.blocks[3]
    tensors = random_tensors(config)
    folded = fold(config, tensors)
    weight = tensors["features.4.block.2.conc_se_layers.0.fc1.weight"]
    np.testing.assert_array_equal(folded["layers.3.excite_1.weight"][..., 0, 0], weight)
    assert folded["layers.3.excite_2.weight"].shape == (block.expanded, block.squeeze, 1, 1)


def test_what_is_switched_off_leaves_no_initialiser() -> None:
    config = replace(DYNAMIC, dy_conv=(), dy_relu=(), coordinate_attention="none")
    names = fold(config, random_tensors(config))
    assert not any("coefficients" in name or "context" in name or "attention" in name for name in names)
    static = replace(DYNAMIC, dynamic_blocks=BLOCK_MASKS["none"])
    assert fold(static, random_tensors(static)).keys() == names.keys()


def test_the_weights_given_are_left_as_they_are(tensors: dict[str, np.ndarray]) -> None:
    before = {key: value.copy() for key, value in tensors.items()}
    fold(DYNAMIC, tensors)
    assert all(np.array_equal(before[key], value) for key, value in tensors.items())


def test_a_missing_tensor_is_named(tensors: dict[str, np.ndarray]) -> None:
    lacking = {key: value for key, value in tensors.items() if key != "layers.7.depth_conv.weight"}
    with pytest.raises(ModelError, match=r"the weights lack layers\.7\.depth_conv\.weight"):
        fold(DYNAMIC, lacking)


def test_a_tensor_of_another_shape_is_named(tensors: dict[str, np.ndarray]) -> None:
    wrong = {**tensors, "classifier.5.bias": np.zeros(6, np.float32)}
    with pytest.raises(ModelError, match=r"classifier\.5\.bias with shape \(6,\).* has \(5,\)"):
        fold(DYNAMIC, wrong)


def test_a_negative_variance_is_refused_before_it_becomes_nan(tensors: dict[str, np.ndarray]) -> None:
    variance = tensors["out_c.1.running_var"].copy()
    variance[3] = -1.0
    with pytest.raises(ModelError, match=r"out_c\.1\.running_var with negative values"):
        fold(DYNAMIC, {**tensors, "out_c.1.running_var": variance})
