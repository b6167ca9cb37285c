"""Every layer of a config with its tensors and its multiply-accumulates. Needs no torch.

One walk through the architecture serves the counts of `complexity.py`, the reading of shapes in
`infer.py` and the check of a weights file against its config; tests hold it to the PyTorch modules.
Keys are those of the published state dicts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from dymn_cli.model.config import STEM_STRIDE, Block, ModelConfig, Position

__all__ = ["ROLES", "Layer", "TensorSpec", "is_optional", "is_unused", "layers", "state_shapes"]

ROLES: dict[Position, str] = {"expand": "exp", "depthwise": "depth", "project": "proj"}
"""How the published keys abbreviate the three convolutions of a block."""

STEM_KERNEL = 3
PLANE_KERNEL = 7  # of the gates over a plane in static blocks
ATTENTION_CONVOLUTION = re.compile(r"layers\.\d+\.context_gen\.conv_[ft]\.(weight|bias)")
UNTRAINED_HEAD = "weak_head."
CONTEXT_GENERATION = re.compile(r"layers\.\d+\.context_gen\..+")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor of the state dict; buffers such as running means are not `trainable`."""

    key: str
    shape: tuple[int, ...]
    trainable: bool = True


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer by its published name.

    Args:
        name: what the keys of its tensors start with.
        tensors: parameters and buffers.
        macs: multiply-accumulates for one clip, counted as in Table II: convolutions, linear layers
            and the mixing of kernels; no biases, no normalisation, no non-linearities.
    """

    name: str
    tensors: tuple[TensorSpec, ...]
    macs: int

    @property
    def parameters(self) -> int:
        """Number of trainable values."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors if tensor.trainable)


@dataclass(frozen=True, slots=True)
class Extent:
    """Size of a feature map along frequency and time."""

    frequency: int
    time: int

    def strided(self, stride: int, time_stride: int) -> Extent:
        """After a convolution that pads (k − 1) / 2: rounded up."""
        return Extent(-(-self.frequency // stride), -(-self.time // time_stride))

    def after(self, block: Block) -> Extent:
        """After a block."""
        return self.strided(block.stride, block.time_stride)

    @property
    def area(self) -> int:
        return self.frequency * self.time

    @property
    def length(self) -> int:
        """Places of the two sequences that the context is made from."""
        return self.frequency + self.time


def is_optional(key: str) -> bool:
    """Whether a state dict may lack a tensor: how often BatchNorm was updated is of no use to it."""
    return key.endswith(".num_batches_tracked")


def is_unused(key: str, config: ModelConfig) -> bool:
    """Whether a key of a published file belongs to a component that the config has switched off.

    Published files of variants without Coordinate Attention still hold its convolutions, and those
    without any dynamic component a whole context generation. Those of an FMN hold a second head, for whole
    clips, which training on frames leaves as it was drawn.
    """
    if config.is_framewise:
        return key.startswith(UNTRAINED_HEAD)
    if not config.is_dynamic or config.coordinate_attention != "none":
        return False
    pattern = ATTENTION_CONVOLUTION if config.has_context else CONTEXT_GENERATION
    return pattern.fullmatch(key) is not None


def state_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Key and shape of every tensor of the state dict, in the published names."""
    return {t.key: t.shape for layer in layers(config) for t in layer.tensors}


def layers(config: ModelConfig, n_mels: int = 128, n_frames: int = 1000) -> tuple[Layer, ...]:
    """All layers with tensors, from the stem to the heads, for log-mels (n_mels, n_frames)."""
    return tuple(_walk(config, Extent(n_mels, n_frames)))


def _walk(config: ModelConfig, extent: Extent) -> Iterator[Layer]:
    dymn = config.family == "dymn"
    extent = extent.strided(STEM_STRIDE, STEM_STRIDE)
    yield from _conv_norm(
        "in_c" if dymn else "features.0", 1, config.stem_channels, extent.area, kernel=STEM_KERNEL
    )
    for block in config.blocks:
        prefix = f"layers.{block.index}" if dymn else f"features.{block.index + 1}"
        walk = _dynamic_block if block.dynamic else _static_block
        yield from walk(prefix, block, config, extent)
        extent = extent.after(block)
    yield from _conv_norm(
        "out_c" if dymn else "features.16",
        config.blocks[-1].out_channels,
        config.embedding_size,
        extent.area,
    )
    if config.is_framewise:
        yield _linear("strong_head", config.embedding_size, config.n_classes, times=extent.time)
        return
    yield _linear("classifier.2", config.embedding_size, config.head_channels)
    yield _linear("classifier.5", config.head_channels, config.n_classes)
    if config.frame_head:
        yield _linear("strong_head.0", config.embedding_size, config.head_channels, times=extent.time)
        yield _linear("strong_head.2", config.head_channels, config.n_classes, times=extent.time)


def _static_block(prefix: str, block: Block, _config: ModelConfig, extent: Extent) -> Iterator[Layer]:
    names = (f"{prefix}.block.{n}" for n in range(4))
    inner = extent.after(block)
    c = block.expanded
    if block.has_expansion:
        yield from _conv_norm(next(names), block.in_channels, c, extent.area)
    yield from _conv_norm(next(names), c, c, inner.area, kernel=block.kernel, groups=c)
    if block.attention != "none":
        yield from _attention(next(names), block, inner)
    yield from _conv_norm(next(names), c, block.out_channels, inner.area)


def _attention(name: str, block: Block, extent: Extent) -> Iterator[Layer]:
    """Table VIII: see `dymn_cli.model.attention`."""
    c, s = block.expanded, block.squeeze
    match block.attention:
        case "squeeze-excitation":
            yield _linear(f"{name}.conc_se_layers.0.fc1", c, s)
            yield _linear(f"{name}.conc_se_layers.0.fc2", s, c)
        case "coordinate":
            yield _conv(f"{name}.conv", c, s, extent.length, bias=True)
            yield _norm(f"{name}.norm", s)
            yield _conv(f"{name}.conv_f", s, c, extent.frequency, bias=True)
            yield _conv(f"{name}.conv_t", s, c, extent.time, bias=True)
        case "triplet":
            planes = (extent.area, c * extent.time, c * extent.frequency)
            for number, area in enumerate(planes):
                yield from _plane_gate(f"{name}.gates.{number}", area)
        case "srm":
            yield Layer(f"{name}.style", (TensorSpec(f"{name}.style.weight", (c, 1, 1, 2)),), 2 * c)
            yield _norm(f"{name}.norm", c)
        case "grn":
            tensors = tuple(TensorSpec(f"{name}.{part}", (1, c, 1, 1)) for part in ("gamma", "beta"))
            yield Layer(name, tensors, 0)
        case "cbam":
            yield _conv(f"{name}.squeeze", c, s, 2)  # of means and of maxima
            yield _conv(f"{name}.excite", s, c, 2)
            yield from _plane_gate(f"{name}.spatial", extent.area)
        case "global-context":
            mask = _conv(f"{name}.mask", c, 1, extent.area, bias=True)
            yield Layer(mask.name, mask.tensors, 2 * mask.macs)  # and the weighted sum
            yield _conv(f"{name}.squeeze", c, s, 1, bias=True)
            shape = (s, 1, 1)
            tensors = tuple(TensorSpec(f"{name}.norm.{part}", shape) for part in ("weight", "bias"))
            yield Layer(f"{name}.norm", tensors, 0)
            yield _conv(f"{name}.excite", s, c, 1, bias=True)


def _plane_gate(name: str, area: int) -> Iterator[Layer]:
    yield _conv(f"{name}.conv", 2, 1, area, kernel=PLANE_KERNEL)
    yield _norm(f"{name}.norm", 1)


def _dynamic_block(prefix: str, block: Block, config: ModelConfig, extent: Extent) -> Iterator[Layer]:
    inner = extent.after(block)
    c_in, c, c_out = block.in_channels, block.expanded, block.out_channels
    if block.has_expansion:
        yield from _stage(prefix, "expand", block, config, c_in, c, extent.area)
    yield from _stage(prefix, "depthwise", block, config, c, c, inner.area)
    yield from _stage(prefix, "project", block, config, c, c_out, inner.area)
    if block.context:
        yield from _context(f"{prefix}.context_gen", block, config, extent, inner)


def _stage(
    prefix: str,
    position: Position,
    block: Block,
    config: ModelConfig,
    in_channels: int,
    out_channels: int,
    area: int,
) -> Iterator[Layer]:
    """One convolution of a dynamic block with its normalisation and its non-linearity."""
    role = ROLES[position]
    depthwise = position == "depthwise"
    kernel = block.kernel if depthwise else 1
    groups = block.expanded if depthwise else 1
    if position in config.dy_conv:
        weights = out_channels * in_channels // groups * kernel**2
        if config.has_own_contexts and position != "expand":
            yield _linear(f"{prefix}.{role}_conv.own_context", in_channels, block.context)
        yield _dy_conv(f"{prefix}.{role}_conv", weights, block.context_values, config.kernels, area)
    else:
        name = f"{prefix}.{role}_conv.module"
        yield _conv(name, in_channels, out_channels, area, kernel=kernel, groups=groups)
    yield _norm(f"{prefix}.{role}_norm", out_channels)
    if position in config.dy_relu:
        if config.has_own_contexts:
            yield _linear(f"{prefix}.{role}_act.own_context", out_channels, block.context)
        yield _dy_relu(f"{prefix}.{role}_act", out_channels, block.context_values, config.mappings)


def _context(name: str, block: Block, config: ModelConfig, extent: Extent, inner: Extent) -> Iterator[Layer]:
    attention = config.coordinate_attention
    separate = config.context_sharing == "separate-sequences"
    length = extent.frequency if separate else extent.length
    yield _conv(f"{name}.joint_conv", block.in_channels, block.context, length)
    yield _norm(f"{name}.joint_norm", block.context)
    if separate:
        yield _conv(f"{name}.time_conv", block.in_channels, block.context, extent.time)
        yield _norm(f"{name}.time_norm", block.context)
    if attention in ("both", "frequency"):
        yield _conv(f"{name}.conv_f", block.context, block.expanded, inner.frequency, bias=True)
    if attention in ("both", "time"):
        yield _conv(f"{name}.conv_t", block.context, block.expanded, inner.time, bias=True)


def _conv_norm(
    name: str, in_channels: int, out_channels: int, area: int, *, kernel: int = 1, groups: int = 1
) -> Iterator[Layer]:
    yield _conv(f"{name}.0", in_channels, out_channels, area, kernel=kernel, groups=groups)
    yield _norm(f"{name}.1", out_channels)


def _conv(
    name: str,
    in_channels: int,
    out_channels: int,
    area: int,
    *,
    kernel: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> Layer:
    weight = TensorSpec(f"{name}.weight", (out_channels, in_channels // groups, kernel, kernel))
    tensors = (weight, TensorSpec(f"{name}.bias", (out_channels,))) if bias else (weight,)
    return Layer(name, tensors, math.prod(weight.shape) * area)


def _linear(name: str, n_inputs: int, n_outputs: int, *, times: int = 1) -> Layer:
    tensors = (TensorSpec(f"{name}.weight", (n_outputs, n_inputs)), TensorSpec(f"{name}.bias", (n_outputs,)))
    return Layer(name, tensors, n_outputs * n_inputs * times)


def _norm(name: str, channels: int) -> Layer:
    tensors = (
        TensorSpec(f"{name}.weight", (channels,)),
        TensorSpec(f"{name}.bias", (channels,)),
        TensorSpec(f"{name}.running_mean", (channels,), trainable=False),
        TensorSpec(f"{name}.running_var", (channels,), trainable=False),
        TensorSpec(f"{name}.num_batches_tracked", (), trainable=False),
    )
    return Layer(name, tensors, 0)


def _dy_conv(name: str, weights: int, context: int, kernels: int, area: int) -> Layer:
    attention = _linear(f"{name}.residuals.0", context, kernels)
    bank = TensorSpec(f"{name}.weight", (1, 1, kernels, weights))
    return Layer(name, (bank, *attention.tensors), attention.macs + kernels * weights + weights * area)


def _dy_relu(name: str, channels: int, context: int, mappings: int) -> Layer:
    coefficients = _linear(f"{name}.coef_net.0", context, 2 * mappings * channels)
    buffers = (
        TensorSpec(f"{name}.lambdas", (2 * mappings,), trainable=False),
        TensorSpec(f"{name}.init_v", (2 * mappings,), trainable=False),
    )
    return Layer(name, (*buffers, *coefficients.tensors), coefficients.macs)
