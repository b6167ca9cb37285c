"""The parts of DyMN and MN, one class each: Section III of the paper, arXiv 2310.15648.

Feature maps are (batch, channels, frequency, time). A block has C_in input channels, C expanded and
C_out output channels; its context vector h has H values. Submodules carry the published names, so
that a published state dict fits as it is. A component that is switched off is a `Static` layer: it
takes the context and ignores it.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dymn_cli.model.attention import attention
from dymn_cli.model.config import Activation, Block, ModelConfig, Position
from dymn_cli.model.max_of_lines import max_of_lines
from dymn_cli.model.normalisation import norm

__all__ = [
    "Context",
    "ContextGeneration",
    "ConvNormActivation",
    "CoordinateAttention",
    "DyConv",
    "DyReLUB",
    "DynamicInvertedResidual",
    "InvertedResidual",
    "Static",
]

LINEAR_STD = 0.01


class Context(NamedTuple):
    """What a block learns from its input before it works on it.

    Args:
        h: (batch, H) context vector, from which Dy-Conv and Dy-ReLU take their coefficients.
        frequency: (batch, C, frequency, 1) attention logits, or None where attention leaves it out.
        time: (batch, C, 1, time) attention logits, or None likewise.
    """

    h: Tensor
    frequency: Tensor | None
    time: Tensor | None


def activation(kind: Activation) -> nn.Module:
    """The fixed non-linearity that Table I names for a block."""
    return nn.Hardswish(inplace=True) if kind == "hardswish" else nn.ReLU(inplace=True)


def initialise_conv(conv: nn.Conv2d, generator: torch.Generator | None) -> None:
    """Draw weights from N(0, 2 / fan-out) after He et al. 2015; biases are zero."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", generator=generator)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def initialise_linear(linear: nn.Linear, generator: torch.Generator | None) -> None:
    """Draw weights from N(0, 0.01²), so that every kernel starts with nearly the same share."""
    nn.init.normal_(linear.weight, 0.0, LINEAR_STD, generator=generator)
    nn.init.zeros_(linear.bias)


class ConvNormActivation(nn.Sequential):
    """Convolution, batch normalisation and, where one is named, a non-linearity.

        y = act(BN(W * x))

    The convolution has no bias (the normalisation brings one) and pads (kernel − 1) / 2 on all sides.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int | tuple[int, int] = 1,
        groups: int = 1,
        act: Activation | None,
    ) -> None:
        padding = (kernel - 1) // 2
        conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False)
        layers: list[nn.Module] = [conv, norm(out_channels)]
        if act is not None:
            layers.append(activation(act))
        super().__init__(*layers)


class InvertedResidual(nn.Module):
    """Static inverted residual block of MobileNetV3 (Table I; Howard et al. 2019).

    z = act(BN(W_exp * x))         1×1, left out where C = C_in
    z = act(BN(W_depth * z))       k×k, one filter a channel, strided
    z = attention(z)               in MN and FMN: SE where Table I has it; in MN also one of Table VIII
    z = BN(W_proj * z)             1×1
    y = x + z                      where shapes agree, else y = z
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        expanded, act = block.expanded, block.activation
        stages: list[nn.Module] = []
        if block.has_expansion:
            stages.append(ConvNormActivation(block.in_channels, expanded, 1, act=act))
        strides = block.stride, block.time_stride
        depthwise = ConvNormActivation(
            expanded, expanded, block.kernel, stride=strides, groups=expanded, act=act
        )
        stages.append(depthwise)
        weighting = attention(block)
        if weighting is not None:
            stages.append(weighting)
        stages.append(ConvNormActivation(expanded, block.out_channels, 1, act=None))
        self.block = nn.Sequential(*stages)
        self.has_residual = block.has_residual

    def forward(self, x: Tensor) -> Tensor:
        """(batch, C_in, frequency, time) → (batch, C_out, frequency / stride, time / stride)."""
        y: Tensor = self.block(x)
        return x + y if self.has_residual else y


class Static(nn.Module):
    """A layer that takes the context of its block and makes no use of it: y = module(x)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, context: Context | None) -> Tensor:
        """Whatever the wrapped layer does."""
        y: Tensor = self.module(x)
        return y


class ContextGeneration(nn.Module):
    """Context generation module, shared by the dynamic parts of a block (Section III, CGM).

        s_F[f] = mean over t of x[:, f, t]              frequency sequence
        s_T[t] = mean over f of x[:, f, t]              time sequence
        s = hardswish(BN(W · [s_F; s_T]))               C_in → H, shared by both sequences
        h = mean over the F + T places of s             context of Dy-Conv and Dy-ReLU
        a_F = W_F · pool(s_F part of s) + b_F           H → C, for Coordinate Attention
        a_T = W_T · pool(s_T part of s) + b_T           H → C, likewise

    `pool` is an average over 3 neighbours at every second place where the block is strided (zeros
    beyond the ends count), and nothing elsewhere. H is C / r within [H_min, H_max]. Where attention is
    off along an axis, its last convolution does not exist.

    Table XII varies it: with "separate-sequences" s_T has a convolution and a norm of its own, with
    "concatenated" h is [mean of the s_F part; mean of the s_T part], 2 H values.
    """

    def __init__(self, block: Block, config: ModelConfig) -> None:
        super().__init__()
        size, expanded, attention = block.context, block.expanded, config.coordinate_attention
        self.concatenates = config.context_sharing == "concatenated"
        self.joint_conv = nn.Conv2d(block.in_channels, size, 1, bias=False)
        self.joint_norm = norm(size)
        self.joint_act = nn.Hardswish(inplace=True)
        separate = config.context_sharing == "separate-sequences"
        self.time_conv = nn.Conv2d(block.in_channels, size, 1, bias=False) if separate else None
        self.time_norm = norm(size) if separate else None
        self.conv_f = nn.Conv2d(size, expanded, 1) if attention in ("both", "frequency") else None
        self.conv_t = nn.Conv2d(size, expanded, 1) if attention in ("both", "time") else None
        self.pool: nn.Module = nn.Identity()
        if block.stride > 1:
            self.pool = nn.AvgPool2d((3, 1), stride=(block.stride, 1), padding=(1, 0))

    def forward(self, x: Tensor) -> Context:
        """Context of a block's input x (batch, C_in, frequency, time)."""
        sequence_f = x.mean(dim=3, keepdim=True)
        sequence_t = x.mean(dim=2, keepdim=True).transpose(2, 3)
        if self.time_conv is None or self.time_norm is None:
            joint = torch.cat([sequence_f, sequence_t], dim=2)
            joint = self.joint_act(self.joint_norm(self.joint_conv(joint)))
        else:
            own_f = self.joint_norm(self.joint_conv(sequence_f))
            own_t = self.time_norm(self.time_conv(sequence_t))
            joint = self.joint_act(torch.cat([own_f, own_t], dim=2))
        joint_f, joint_t = joint.split([x.shape[2], x.shape[3]], dim=2)
        if self.concatenates:
            h = torch.cat([joint_f.mean(dim=(2, 3)), joint_t.mean(dim=(2, 3))], dim=1)
        else:
            h = joint.mean(dim=(2, 3))
        frequency = None if self.conv_f is None else self.conv_f(self.pool(joint_f))
        time = None if self.conv_t is None else self.conv_t(self.pool(joint_t)).transpose(2, 3)
        return Context(h, frequency, time)


class OwnContext(nn.Linear):
    """The context of one component, from its own input: h = hardswish(W · mean over f, t of x + b).

    Of Table XII, no shared context.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(batch, C, frequency, time) → (batch, H)."""
        return F.hardswish(super().forward(x.mean(dim=(2, 3))))


class DyConv(nn.Module):
    """Dynamic convolution: each input gets its own mixture of K kernels (Section III, eq. 5 and 6).

        z = W_a · h + b_a                                  H → K, eq. 6
        α_k = exp(z_k / τ) / Σ_j exp(z_j / τ)              eq. 5, temperature τ
        W = Σ_k α_k · W_k
        y = W * x

    The K kernels lie flat in `weight`, (1, 1, K, C_out · C_in / groups · k · k). The whole batch is one
    convolution with the samples as groups, each with its own W. `temperature` is no parameter: it
    follows a schedule in training, and a trained model needs the one that it was trained to. With
    `has_own_context`, h is made from x.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        context: int,
        kernels: int,
        temperature: float,
        has_own_context: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_shape = (out_channels, in_channels // groups, kernel, kernel)
        self.stride = stride
        self.padding = (kernel - 1) // 2
        self.groups = groups
        self.is_pointwise = kernel == stride == groups == 1
        self.temperature = temperature
        self.own_context = OwnContext(in_channels, context) if has_own_context else None
        self.residuals = nn.Sequential(nn.Linear(context, kernels))
        self.weight = nn.Parameter(
            torch.empty(1, 1, kernels, out_channels * in_channels // groups * kernel**2)
        )
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw each of the K kernels as a convolution of its own."""
        with torch.no_grad():
            for flat in self.weight[0, 0]:
                nn.init.kaiming_normal_(flat.view(self.kernel_shape), mode="fan_out", generator=generator)

    def attention(self, h: Tensor) -> Tensor:
        """Shares of the K kernels, (batch, K), from the context (batch, H)."""
        return F.softmax(self.residuals(h) / self.temperature, dim=-1)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """(batch, C_in, frequency, time) → (batch, C_out, frequency / stride, time / stride)."""
        n, _, frequency, time = x.shape
        out_channels, *rest = self.kernel_shape
        h = context.h if self.own_context is None else self.own_context(x)
        mixed = self.attention(h) @ self.weight[0, 0]
        if self.is_pointwise and n > 1:  # a product of matrices for each sample: faster than so many groups
            return torch.bmm(mixed.view(n, out_channels, -1), x.flatten(2)).view(n, -1, frequency, time)
        mixed = mixed.reshape(n * out_channels, *rest)
        folded = x.reshape(1, -1, frequency, time)
        y = F.conv2d(folded, mixed, stride=self.stride, padding=self.padding, groups=n * self.groups)
        return y.reshape(n, out_channels, y.shape[2], y.shape[3])


class DyReLUB(nn.Module):
    """Dynamic ReLU with its own M linear mappings for each channel (Section III, eq. 4; variant B).

        θ = 2 · σ(W · h + b) − 1                           H → 2 · M · C, eq. 4
        a_cm = [m = 1] + 1.0 · θ^a_cm,   b_cm = 0.5 · θ^b_cm
        y[c, f, t] = max over m of a_cm · x[c, f, t] + b_cm

    With θ = 0 it is the plain ReLU (for M ≥ 2). With `has_own_context`, h is made from x.
    """

    lambdas: Tensor
    init_v: Tensor

    def __init__(self, channels: int, *, context: int, mappings: int, has_own_context: bool = False) -> None:
        super().__init__()
        self.channels = channels
        self.mappings = mappings
        self.own_context = OwnContext(channels, context) if has_own_context else None
        self.coef_net = nn.Sequential(nn.Linear(context, 2 * mappings * channels))
        self.register_buffer("lambdas", torch.tensor([1.0] * mappings + [0.5] * mappings))
        self.register_buffer("init_v", torch.tensor([1.0] + [0.0] * (2 * mappings - 1)))

    def coefficients(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Slopes and intercepts, each (batch, C, M), from the context (batch, H)."""
        theta = 2 * torch.sigmoid(self.coef_net(h)) - 1
        theta = theta.view(-1, self.channels, 2 * self.mappings) * self.lambdas + self.init_v
        slopes, intercepts = theta.chunk(2, dim=-1)
        return slopes, intercepts

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Shapes stay (batch, C, frequency, time)."""
        h = context.h if self.own_context is None else self.own_context(x)
        slopes, intercepts = self.coefficients(h)
        return max_of_lines(x, slopes, intercepts)


class CoordinateAttention(nn.Module):
    """Coordinate Attention: each channel's frequencies and frames are weighted (Section III).

        y[c, f, t] = x[c, f, t] · σ(a_F[c, f]) · σ(a_T[c, t])

    Both logits come from the context generation module; one is missing where attention runs along the
    other axis only.
    """

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Shapes stay (batch, C, frequency, time)."""
        y = x if context.frequency is None else x * torch.sigmoid(context.frequency)
        return y if context.time is None else y * torch.sigmoid(context.time)


class DynamicInvertedResidual(nn.Module):
    """Dynamic inverted residual block (Section III).

        h, a_F, a_T = CGM(x)
        z = act(BN(DyConv_exp(x, h)))          1×1, left out where C = C_in
        z = DyReLU(BN(DyConv_depth(z, h)), h)  k×k, one filter a channel, strided
        z = CA(z, a_F, a_T)
        z = BN(DyConv_proj(z, h))              1×1
        y = x + z                              where shapes agree, else y = z

    The config says which of the three convolutions are dynamic and which of them a Dy-ReLU follows
    (after the projection there is none by default, and then nothing at all).
    """

    def __init__(self, block: Block, config: ModelConfig) -> None:
        super().__init__()
        expanded = block.expanded
        self.context_gen = ContextGeneration(block, config) if block.context else None

        self.exp_conv: nn.Module = Static(nn.Identity())
        self.exp_norm: nn.Module = nn.Identity()
        self.exp_act: nn.Module = Static(nn.Identity())
        if block.has_expansion:
            self.exp_conv = _convolution("expand", block, config)
            self.exp_norm = norm(expanded)
            self.exp_act = _non_linearity("expand", expanded, activation(block.activation), block, config)

        self.depth_conv = _convolution("depthwise", block, config)
        self.depth_norm = norm(expanded)
        self.depth_act = _non_linearity("depthwise", expanded, activation(block.activation), block, config)
        with_attention = config.coordinate_attention != "none"
        self.ca = CoordinateAttention() if with_attention else Static(nn.Identity())

        self.proj_conv = _convolution("project", block, config)
        self.proj_norm = norm(block.out_channels)
        self.proj_act = _non_linearity("project", block.out_channels, nn.Identity(), block, config)
        self.has_residual = block.has_residual

    def forward(self, x: Tensor) -> Tensor:
        """(batch, C_in, frequency, time) → (batch, C_out, frequency / stride, time / stride)."""
        context = None if self.context_gen is None else self.context_gen(x)
        y = self.exp_conv(x, context)
        y = self.exp_norm(y)
        y = self.exp_act(y, context)
        y = self.depth_conv(y, context)
        y = self.depth_norm(y)
        y = self.depth_act(y, context)
        y = self.ca(y, context)
        y = self.proj_conv(y, context)
        y = self.proj_norm(y)
        y = self.proj_act(y, context)
        return cast(Tensor, x + y if self.has_residual else y)


def _convolution(position: Position, block: Block, config: ModelConfig) -> nn.Module:
    """The block's convolution at a position, dynamic or not."""
    in_channels = block.in_channels if position == "expand" else block.expanded
    out_channels = block.out_channels if position == "project" else block.expanded
    depthwise = position == "depthwise"
    kernel = block.kernel if depthwise else 1
    stride = block.stride if depthwise else 1
    groups = block.expanded if depthwise else 1
    if position in config.dy_conv:
        return DyConv(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            groups=groups,
            context=block.context_values,
            kernels=config.kernels,
            temperature=config.temperature,
            has_own_context=config.has_own_contexts and position != "expand",
        )
    padding = (kernel - 1) // 2
    return Static(
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False),
    )


def _non_linearity(
    position: Position, channels: int, fixed: nn.Module, block: Block, config: ModelConfig
) -> nn.Module:
    """What follows the convolution at a position: a Dy-ReLU, or the block's fixed non-linearity."""
    if position in config.dy_relu:
        return DyReLUB(
            channels,
            context=block.context_values,
            mappings=config.mappings,
            has_own_context=config.has_own_contexts,
        )
    return Static(fixed)
