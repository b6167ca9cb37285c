"""Fold published tensors into the initialisers of the inference graph. NumPy only.

A published state dict is made for training. For inference, the convolution before a BatchNorm absorbs
it, the temperature becomes a constant factor of the attention logits, and all linear layers that read the
same context become one. `fold` does that and names the results as `dymn_cli.export.graph` names its
initialisers:

    stem.{weight,bias}                    (C, 1, 3, 3), (C,)
    layers.N.expand.{weight,bias}         Dy-Conv: (K, C_exp · C_in); static: (C_exp, C_in, 1, 1)
    layers.N.depthwise.{weight,bias}      Dy-Conv: (K, C_exp · k · k); static: (C_exp, 1, k, k)
    layers.N.project.{weight,bias}        Dy-Conv: (K, C_out · C_exp); static: (C_out, C_exp, 1, 1)
    layers.N.context.{weight,bias}        (H, C_in, 1), (H,)
    layers.N.coefficients.{weight,bias}   (n, H), (n,): attention logits of the Dy-Convs in order, then for
                                          each Dy-ReLU its slopes (M, C) and its intercepts (M, C), flat
    layers.N.dy_relu_P.{scale,start}      (2MC,): λ and the initial values of a Dy-ReLU after P, in that order
    layers.N.attention_{f,t}.{weight,bias}  (C_exp, H, 1), (C_exp,)
    layers.N.time_context.{weight,bias}   the same as `context`, for the time sequence, if it has its own
    layers.N.P.own_context.{weight,bias}, layers.N.dy_relu_P.own_context.{weight,bias}
                                          (H, C), (H,): where a component makes its own context, and
                                          `.coefficients` beside it in place of its rows in the one above
    layers.N.excite_{1,2}.{weight,bias}   squeeze-and-excitation as 1×1 convolutions
    layers.N.attention.…                  any other attention of a static block (`attention`)
    last.{weight,bias}                    (D, C, 1, 1), (D,)
    head.{1,2}.{weight,bias}              (C, D), (C,); (n_classes, C), (n_classes,)
    head.{weight,bias}                    (n_classes, D), (n_classes,): of an FMN, in place of them
    frame_head.{1,2}.{weight,bias}        the same, if the model has a frame head

BatchNorm folds into a mixture of kernels because it is linear: s·(Σ a_k W_k ∗ x) = (Σ a_k (s W_k)) ∗ x.
Its scale and shift are computed in float64; everything else is at most one float32 product.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from dymn_cli.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.model.config import Block, ModelConfig, Position

__all__ = ["ATTENTION_AXES", "BATCH_NORM_EPS", "Shape", "convolutions", "fold"]

Shape: TypeAlias = tuple[int, int, int, int]
"""Of a static kernel: (C_out, C_in / groups, k, k)."""

BATCH_NORM_EPS = 1e-3
GRN = ("gamma", "beta")
ATTENTION_AXES = {"both": "ft", "frequency": "f", "time": "t", "none": ""}
"""The axes that Coordinate Attention covers: f(requency) and t(ime)."""


def fold(config: ModelConfig, tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Fold a state dict with published key names into the initialisers of the inference graph.

    Args:
        config: the architecture that the tensors belong to.
        tensors: published key → float32 array.

    Returns:
        Initialiser name → C-contiguous float32 array, shapes as the module docstring lists them.

    Raises:
        ModelError: a tensor is missing, or its shape is not the architecture's.
    """
    folding = _Folding(config, tensors)
    return {name: np.ascontiguousarray(value) for name, value in folding.all()}


class _Folding:
    """One pass over a state dict; the methods yield (name, float32 array)."""

    def __init__(self, config: ModelConfig, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        self.config = config
        self.tensors = tensors

    def all(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        config = self.config
        stem, last = ("in_c", "out_c") if config.family == "dymn" else ("features.0", "features.16")
        yield from self.convolution("stem", f"{stem}.0", f"{stem}.1", (config.stem_channels, 1, 3, 3))
        for block in config.blocks:
            yield from self.dynamic_block(block) if block.dynamic else self.static_block(block)
        shape = (config.embedding_size, config.blocks[-1].out_channels, 1, 1)
        yield from self.convolution("last", f"{last}.0", f"{last}.1", shape)
        if config.is_framewise:
            yield from self.linear("head", "strong_head", (config.n_classes, config.embedding_size))
            return
        yield from self.linear("head.1", "classifier.2", (config.head_channels, config.embedding_size))
        yield from self.linear("head.2", "classifier.5", (config.n_classes, config.head_channels))
        if config.frame_head:
            hidden = config.head_channels
            yield from self.linear("frame_head.1", "strong_head.0", (hidden, config.embedding_size))
            yield from self.linear("frame_head.2", "strong_head.2", (config.n_classes, hidden))

    def get(self, key: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        if key not in self.tensors:
            raise ModelError(f"the weights lack {key}", hint="they belong to another architecture")
        value = self.tensors[key]
        if value.shape != shape:
            raise ModelError(
                f"the weights hold {key} with shape {value.shape}, the architecture has {shape}",
                hint="they belong to another architecture",
            )
        return value

    def norm(self, key: str, channels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A BatchNorm in evaluation mode as (scale, shift), each (channels,)."""
        parts = ("weight", "bias", "running_mean", "running_var")
        weight, bias, mean, variance = (
            self.get(f"{key}.{part}", (channels,)).astype(np.float64) for part in parts
        )
        if variance.min() < 0:
            raise ModelError(f"the weights hold {key}.running_var with negative values")
        scale = weight / np.sqrt(variance + BATCH_NORM_EPS)
        return scale.astype(np.float32), (bias - mean * scale).astype(np.float32)

    def convolution(
        self, name: str, conv: str, norm: str, shape: tuple[int, ...]
    ) -> Iterator[tuple[str, NDArray[np.float32]]]:
        scale, shift = self.norm(norm, shape[0])
        weight = self.get(f"{conv}.weight", shape)
        yield f"{name}.weight", weight * scale.reshape(-1, *(1,) * (len(shape) - 1))
        yield f"{name}.bias", shift

    def linear(
        self, name: str, key: str, shape: tuple[int, int]
    ) -> Iterator[tuple[str, NDArray[np.float32]]]:
        yield f"{name}.weight", self.get(f"{key}.weight", shape)
        yield f"{name}.bias", self.get(f"{key}.bias", shape[:1])

    def static_block(self, block: Block) -> Iterator[tuple[str, NDArray[np.float32]]]:
        root = f"layers.{block.index}" if self.config.family == "dymn" else f"features.{block.index + 1}"
        name = f"layers.{block.index}"
        stage = 0
        for position, shape in convolutions(block).items():
            if position == "project" and block.attention != "none":
                yield from self.attention(name, f"{root}.block.{stage}", block)
                stage += 1
            part = f"{root}.block.{stage}"
            yield from self.convolution(f"{name}.{position}", f"{part}.0", f"{part}.1", shape)
            stage += 1

    def attention(self, name: str, root: str, block: Block) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """What a static block has before its last convolution (`dymn_cli.model.attention`)."""
        c, s, own = block.expanded, block.squeeze, f"{name}.attention"
        match block.attention:
            case "squeeze-excitation":
                yield from self.squeeze_excite(name, f"{root}.conc_se_layers.0", block)
            case "coordinate":
                scale, shift = self.norm(f"{root}.norm", s)
                weight = self.get(f"{root}.conv.weight", (s, c, 1, 1))
                yield f"{own}.weight", (weight * scale[:, None, None, None])[..., 0]
                yield f"{own}.bias", self.get(f"{root}.conv.bias", (s,)) * scale + shift
                for axis in "ft":
                    yield f"{own}_{axis}.weight", self.get(f"{root}.conv_{axis}.weight", (c, s, 1, 1))[..., 0]
                    yield f"{own}_{axis}.bias", self.get(f"{root}.conv_{axis}.bias", (c,))
            case "triplet":
                for n in range(3):
                    gate = f"{root}.gates.{n}"
                    yield from self.convolution(f"{own}_{n}", f"{gate}.conv", f"{gate}.norm", (1, 2, 7, 7))
            case "srm":
                yield from self.convolution(own, f"{root}.style", f"{root}.norm", (c, 1, 1, 2))
            case "grn":
                yield from ((f"{own}.{part}", self.get(f"{root}.{part}", (1, c, 1, 1))) for part in GRN)
            case "cbam":
                yield f"{own}_1.weight", self.get(f"{root}.squeeze.weight", (s, c, 1, 1))
                yield f"{own}_2.weight", self.get(f"{root}.excite.weight", (c, s, 1, 1))
                gate = f"{root}.spatial"
                yield from self.convolution(f"{own}_places", f"{gate}.conv", f"{gate}.norm", (1, 2, 7, 7))
            case "global-context":
                layers = (("mask", "mask", 1, c), ("1", "squeeze", s, c), ("2", "excite", c, s))
                for part, key, n_out, n_in in layers:
                    yield f"{own}_{part}.weight", self.get(f"{root}.{key}.weight", (n_out, n_in, 1, 1))
                    yield f"{own}_{part}.bias", self.get(f"{root}.{key}.bias", (n_out,))
                for part in ("weight", "bias"):
                    yield f"{own}_norm.{part}", self.get(f"{root}.norm.{part}", (s, 1, 1))

    def squeeze_excite(self, name: str, root: str, block: Block) -> Iterator[tuple[str, NDArray[np.float32]]]:
        shapes = ((block.squeeze, block.expanded), (block.expanded, block.squeeze))
        for number, shape in enumerate(shapes, start=1):
            yield (
                f"{name}.excite_{number}.weight",
                self.get(f"{root}.fc{number}.weight", shape)[..., None, None],
            )
            yield f"{name}.excite_{number}.bias", self.get(f"{root}.fc{number}.bias", shape[:1])

    def dynamic_block(self, block: Block) -> Iterator[tuple[str, NDArray[np.float32]]]:
        root = f"layers.{block.index}"
        short = {"expand": "exp", "depthwise": "depth", "project": "proj"}
        weights: list[NDArray[np.float32]] = []
        biases: list[NDArray[np.float32]] = []
        for position, shape in convolutions(block).items():
            conv, norm = f"{root}.{short[position]}_conv", f"{root}.{short[position]}_norm"
            if position not in self.config.dy_conv:
                yield from self.convolution(f"{root}.{position}", f"{conv}.module", norm, shape)
                continue
            yield from self.kernels(f"{root}.{position}", conv, norm, shape)
            attention = (self.config.kernels, block.context_values)
            weight = self.get(f"{conv}.residuals.0.weight", attention) / self.config.temperature
            bias = self.get(f"{conv}.residuals.0.bias", attention[:1]) / self.config.temperature
            if self.config.has_own_contexts and position != "expand":
                n_in = block.expanded if position == "project" else shape[0]
                yield from self.own_context(f"{root}.{position}", conv, n_in, block, weight, bias)
                continue
            weights.append(weight)
            biases.append(bias)
        for position, shape in convolutions(block).items():
            if position in self.config.dy_relu:
                act = f"{root}.{short[position]}_act"
                weight, bias, scale, start = self.dy_relu(act, shape[0], block.context_values)
                if self.config.has_own_contexts:
                    name = f"{root}.dy_relu_{position}"
                    yield from self.own_context(name, act, shape[0], block, weight, bias)
                else:
                    weights.append(weight)
                    biases.append(bias)
                yield f"{root}.dy_relu_{position}.scale", scale
                yield f"{root}.dy_relu_{position}.start", start
        if block.context:
            yield from self.context(root, block)
        if weights:
            yield f"{root}.coefficients.weight", np.concatenate(weights)
            yield f"{root}.coefficients.bias", np.concatenate(biases)

    def own_context(
        self,
        name: str,
        root: str,
        n_in: int,
        block: Block,
        weight: NDArray[np.float32],
        bias: NDArray[np.float32],
    ) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """The context that a component makes for itself, and the layer that reads it."""
        yield from self.linear(f"{name}.own_context", f"{root}.own_context", (block.context, n_in))
        yield f"{name}.coefficients.weight", weight
        yield f"{name}.coefficients.bias", bias

    def kernels(
        self, name: str, conv: str, norm: str, shape: tuple[int, ...]
    ) -> Iterator[tuple[str, NDArray[np.float32]]]:
        scale, shift = self.norm(norm, shape[0])
        k = self.config.kernels
        flat = self.get(f"{conv}.weight", (1, 1, k, int(np.prod(shape))))
        yield f"{name}.weight", (flat.reshape(k, shape[0], -1) * scale[None, :, None]).reshape(k, -1)
        yield f"{name}.bias", shift

    def dy_relu(self, act: str, channels: int, context: int) -> tuple[NDArray[np.float32], ...]:
        """Weight, bias, λ and initial values of the coefficient layer, slopes first.

        The layer is halved: 2·sigmoid(z) − 1 = tanh(z / 2).
        """
        n_values = 2 * self.config.mappings

        def by_line(values: NDArray[np.float32]) -> NDArray[np.float32]:
            """From (C · [M slopes, M intercepts], ...) to (2M · C, ...)."""
            rest = values.shape[1:]
            return values.reshape(channels, n_values, *rest).swapaxes(0, 1).reshape(-1, *rest)

        half = np.float32(0.5)
        weight = half * self.get(f"{act}.coef_net.0.weight", (n_values * channels, context))
        bias = half * self.get(f"{act}.coef_net.0.bias", (n_values * channels,))
        scale, start = (self.get(f"{act}.{key}", (n_values,)) for key in ("lambdas", "init_v"))
        return by_line(weight), by_line(bias), np.repeat(scale, channels), np.repeat(start, channels)

    def context(self, root: str, block: Block) -> Iterator[tuple[str, NDArray[np.float32]]]:
        generator = f"{root}.context_gen"
        joint = (block.context, block.in_channels, 1, 1)
        parts = {"context": "joint"}
        if self.config.context_sharing == "separate-sequences":
            parts["time_context"] = "time"
        for name, key in parts.items():
            conv, norm = f"{generator}.{key}_conv", f"{generator}.{key}_norm"
            for part, value in self.convolution(f"{root}.{name}", conv, norm, joint):
                yield part, value.reshape(value.shape[:3])
        for axis in ATTENTION_AXES[self.config.coordinate_attention]:
            shape = (block.expanded, block.context, 1, 1)
            for part, size in (("weight", shape), ("bias", shape[:1])):
                value = self.get(f"{generator}.conv_{axis}.{part}", size)
                yield f"{root}.attention_{axis}.{part}", value.reshape(value.shape[:3])


def convolutions(block: Block) -> dict[Position, Shape]:
    """The convolutions of a block, in order, with the shapes of their kernels."""
    shapes: dict[Position, Shape] = {
        "expand": (block.expanded, block.in_channels, 1, 1),
        "depthwise": (block.expanded, 1, block.kernel, block.kernel),
        "project": (block.out_channels, block.expanded, 1, 1),
    }
    if not block.has_expansion:
        del shapes["expand"]
    return shapes
