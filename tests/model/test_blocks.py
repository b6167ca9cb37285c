"""Each component against its equation, written out once more in plain NumPy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from dymn_cli.model.attention import SqueezeExcitation  # noqa: E402
from dymn_cli.model.blocks import (  # noqa: E402
    Context,
    ContextGeneration,
    CoordinateAttention,
    DyConv,
    DynamicInvertedResidual,
    DyReLUB,
    InvertedResidual,
)
from dymn_cli.model.config import Block, ModelConfig  # noqa: E402

Array = NDArray[np.float64]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def lively(module: nn.Module) -> nn.Module:
    """The module in float64 and evaluation mode, all its parameters and statistics drawn at random."""
    generator = torch.Generator().manual_seed(7)
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.5, generator=generator)
        for name, buffer in module.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.5, 1.5, generator=generator)
    return module


def of(tensor: Tensor) -> Array:
    array: Array = tensor.detach().numpy()
    return array


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def convolved(x: Array, weight: Array, stride: int) -> Array:
    """Convolution of one map (channels, f, t) by its definition; grouped where the weight is narrower."""
    outputs, inputs, k, _ = weight.shape
    groups = x.shape[0] // inputs
    padded = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    sizes = [(n + 2 * (k // 2) - k) // stride + 1 for n in x.shape[1:]]
    y = np.zeros((outputs, *sizes))
    for c in range(outputs):
        first = c // (outputs // groups) * inputs
        for f in range(sizes[0]):
            for t in range(sizes[1]):
                patch = padded[
                    first : first + inputs, f * stride : f * stride + k, t * stride : t * stride + k
                ]
                y[c, f, t] = (patch * weight[c]).sum()
    return y


def context(h: Array) -> Context:
    return Context(torch.from_numpy(h), None, None)


@pytest.mark.parametrize(
    ("outputs", "kernel", "stride", "groups"), [(6, 1, 1, 1), (4, 3, 1, 4), (4, 5, 2, 4), (8, 3, 2, 2)]
)
@pytest.mark.parametrize("temperature", [1.0, 30.0])
def test_dy_conv_mixes_kernels_for_each_sample(
    rng: np.random.Generator, outputs: int, kernel: int, stride: int, groups: int, temperature: float
) -> None:
    conv = lively(
        DyConv(
            4, outputs, kernel, stride=stride, groups=groups, context=5, kernels=3, temperature=temperature
        )
    )
    x, h = rng.normal(size=(3, 4, 7, 6)), rng.normal(size=(3, 5))
    kernels = of(conv.weight).reshape(3, outputs, 4 // groups, kernel, kernel)
    logits = h @ of(conv.residuals[0].weight).T + of(conv.residuals[0].bias)
    shares = np.exp(logits / temperature)
    shares /= shares.sum(axis=1, keepdims=True)
    y = of(conv(torch.from_numpy(x), context(h)))
    for n in range(3):
        expected = convolved(x[n], np.tensordot(shares[n], kernels, axes=1), stride)
        np.testing.assert_allclose(y[n], expected, rtol=1e-10, atol=1e-10)


@pytest.fixture
def three_kernels() -> DyConv:
    return lively(DyConv(4, 6, 1, context=5, kernels=3, temperature=1.0))


def test_a_high_temperature_averages_the_kernels(three_kernels: DyConv, rng: np.random.Generator) -> None:
    three_kernels.temperature = 1e9
    x, h = rng.normal(size=(2, 4, 3, 3)), rng.normal(size=(2, 5))
    average = of(three_kernels.weight).mean(axis=2).reshape(6, 4, 1, 1)
    y = of(three_kernels(torch.from_numpy(x), context(h)))
    np.testing.assert_allclose(y[1], convolved(x[1], average, 1), atol=1e-7)


def test_a_low_temperature_picks_one_kernel(three_kernels: DyConv, rng: np.random.Generator) -> None:
    x, h = rng.normal(size=(2, 4, 3, 3)), rng.normal(size=(2, 5))
    best = of(three_kernels.attention(torch.from_numpy(h))).argmax(axis=1)
    three_kernels.temperature = 1e-4
    y = of(three_kernels(torch.from_numpy(x), context(h)))
    for n in range(2):
        kernel = of(three_kernels.weight)[0, 0, best[n]].reshape(6, 4, 1, 1)
        np.testing.assert_allclose(y[n], convolved(x[n], kernel, 1), atol=1e-9)


def test_temperature_is_no_part_of_the_state_dict(three_kernels: DyConv) -> None:
    assert set(three_kernels.state_dict()) == {"weight", "residuals.0.weight", "residuals.0.bias"}


@pytest.mark.parametrize("groups", [1, 8])
def test_dy_conv_with_one_kernel_is_the_static_convolution(groups: int) -> None:
    torch.manual_seed(0)
    dynamic = lively(DyConv(8, 8, 3, stride=2, groups=groups, context=4, kernels=1, temperature=1.0))
    static = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=groups, bias=False).double()
    static.weight.data = dynamic.weight.data.view_as(static.weight)
    x, h = torch.randn(3, 8, 9, 5).double(), torch.randn(3, 4).double()
    torch.testing.assert_close(dynamic(x, Context(h, None, None)), static(x))


def test_every_kernel_and_its_attention_are_trained() -> None:
    torch.manual_seed(0)
    conv = DyConv(4, 6, 1, context=5, kernels=3, temperature=1.0)
    conv.reset_parameters()
    conv(torch.randn(2, 4, 3, 3), Context(torch.randn(2, 5), None, None)).square().sum().backward()
    for parameter in conv.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("mappings", [1, 2, 3])
def test_dy_relu_is_the_maximum_of_its_linear_mappings(rng: np.random.Generator, mappings: int) -> None:
    relu = lively(DyReLUB(3, context=5, mappings=mappings))
    x, h = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 5))
    theta = 2 * sigmoid(h @ of(relu.coef_net[0].weight).T + of(relu.coef_net[0].bias)) - 1
    y = of(relu(torch.from_numpy(x), context(h)))
    for n in range(2):
        for c in range(3):
            values = theta[n, c * 2 * mappings : (c + 1) * 2 * mappings]
            slopes, intercepts = values[:mappings].copy(), 0.5 * values[mappings:]
            slopes[0] += 1
            lines = [a * x[n, c] + b for a, b in zip(slopes, intercepts, strict=True)]
            np.testing.assert_allclose(y[n, c], np.max(lines, axis=0), rtol=1e-12)


def test_dy_relu_without_a_say_is_the_relu() -> None:
    relu = DyReLUB(3, context=5, mappings=2)
    nn.init.zeros_(relu.coef_net[0].weight)
    nn.init.zeros_(relu.coef_net[0].bias)
    x = torch.linspace(-2, 2, 24).view(1, 3, 4, 2)
    torch.testing.assert_close(relu(x, Context(torch.randn(1, 5), None, None)), x.relu())


def block(**changes: object) -> Block:
    """A block of four inputs, six expanded channels and a context of eight."""
    changes = {"time_stride": changes.get("stride", 1), **changes}
    base = Block(
        index=3,
        in_channels=4,
        kernel=3,
        expanded=6,
        out_channels=4,
        activation="hardswish",
        stride=1,
        time_stride=1,
        attention="none",
        squeeze=0,
        dynamic=True,
        context=8,
        context_values=8,
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def average_of_three(sequence: Array) -> Array:
    """Mean over three neighbours at every second place of (H, places), zeros beyond the ends."""
    padded = np.pad(sequence, ((0, 0), (1, 1)))
    return np.stack([padded[:, n : n + 3].mean(axis=1) for n in range(0, sequence.shape[1], 2)], axis=1)


@pytest.mark.parametrize("stride", [1, 2])
def test_context_generation_and_coordinate_attention(rng: np.random.Generator, stride: int) -> None:
    module = lively(ContextGeneration(block(stride=stride), ModelConfig()))
    x = rng.normal(size=(2, 4, 7, 10))
    found = module(torch.from_numpy(x))
    for n in range(2):
        sequence = np.concatenate([x[n].mean(axis=2), x[n].mean(axis=1)], axis=1)
        joint = of(module.joint_conv.weight)[:, :, 0, 0] @ sequence
        norm = module.joint_norm
        scale = of(norm.weight) / np.sqrt(of(norm.running_var) + 1e-3)
        joint = (joint - of(norm.running_mean)[:, None]) * scale[:, None] + of(norm.bias)[:, None]
        joint = joint * np.clip(joint + 3, 0, 6) / 6
        np.testing.assert_allclose(of(found.h)[n], joint.mean(axis=1), rtol=1e-9)
        parts = [joint[:, :7], joint[:, 7:]]
        if stride == 2:
            parts = [average_of_three(part) for part in parts]
        a_f, a_t = (
            of(conv.weight)[:, :, 0, 0] @ part + of(conv.bias)[:, None]
            for conv, part in zip((module.conv_f, module.conv_t), parts, strict=True)
        )
        np.testing.assert_allclose(of(found.frequency)[n, :, :, 0], a_f, rtol=1e-9)
        np.testing.assert_allclose(of(found.time)[n, :, 0, :], a_t, rtol=1e-9)
        z = rng.normal(size=(2, 6, a_f.shape[1], a_t.shape[1]))
        y = of(CoordinateAttention()(torch.from_numpy(z), found))
        np.testing.assert_allclose(
            y[n], z[n] * sigmoid(a_f)[:, :, None] * sigmoid(a_t)[:, None, :], rtol=1e-9
        )


def test_attention_over_one_axis_leaves_the_other_alone() -> None:
    torch.manual_seed(0)
    ones = torch.ones(1, 6, 7, 10)
    over_time = ContextGeneration(block(), ModelConfig(coordinate_attention="time"))(torch.randn(1, 4, 7, 10))
    weights = CoordinateAttention()(ones, over_time)
    torch.testing.assert_close(weights, weights[:, :, :1].expand_as(weights))
    assert weights.std(dim=3).min() > 0
    over_frequency = ContextGeneration(block(), ModelConfig(coordinate_attention="frequency"))(
        torch.randn(1, 4, 7, 10)
    )
    weights = CoordinateAttention()(ones, over_frequency)
    torch.testing.assert_close(weights, weights[:, :, :, :1].expand_as(weights))
    assert weights.std(dim=2).min() > 0


def test_squeeze_and_excitation_scales_channels_by_their_means(rng: np.random.Generator) -> None:
    module = lively(SqueezeExcitation(6, 2))
    x = rng.normal(size=(2, 6, 3, 4))
    gate = module.conc_se_layers[0]
    hidden = np.maximum(x.mean(axis=(2, 3)) @ of(gate.fc1.weight).T + of(gate.fc1.bias), 0)
    scale = sigmoid(hidden @ of(gate.fc2.weight).T + of(gate.fc2.bias))
    np.testing.assert_allclose(of(module(torch.from_numpy(x))), x * scale[:, :, None, None], rtol=1e-10)


@pytest.mark.parametrize("dynamic", [True, False])
def test_the_input_is_added_only_where_shapes_agree(dynamic: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 8, 8)
    for changes in ({}, {"stride": 2}, {"out_channels": 8}):
        shape = block(**changes)
        module = DynamicInvertedResidual(shape, ModelConfig()) if dynamic else InvertedResidual(shape)
        for name, parameter in module.named_parameters():
            if "proj_norm" in name or name.startswith("block.2.1"):
                nn.init.zeros_(parameter)
        expected = x if shape.has_residual else torch.zeros_like(module(x))
        torch.testing.assert_close(module.eval()(x), expected)


def test_a_block_that_does_not_widen_has_no_expansion() -> None:
    narrow = block(expanded=4)
    keys = DynamicInvertedResidual(narrow, ModelConfig()).state_dict()
    assert not any(key.startswith("exp_") for key in keys)
    assert set(InvertedResidual(narrow).state_dict()) == {
        *(f"block.{n}.0.weight" for n in (0, 1)),
        *(
            f"block.{n}.1.{leaf}"
            for n in (0, 1)
            for leaf in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        ),
    }
