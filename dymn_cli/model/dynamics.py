"""What the dynamic parts of a network make of an input: the coefficients that the paper lets it choose.

    from dymn_cli.hear import load_model

    model = load_model("dymn10_as")
    blocks = dynamics_of(model.network, model.log_mel(audio))
    blocks[14].kernel_attention["project"]                       # (n, K)

The audio is a tensor (n, n_samples) at 32 kHz.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dymn_cli.errors import UsageError
from dymn_cli.model.backbone import Backbone
from dymn_cli.model.blocks import (
    Context,
    CoordinateAttention,
    DyConv,
    DynamicInvertedResidual,
    DyReLUB,
)
from dymn_cli.model.config import POSITIONS, Position
from dymn_cli.model.layout import ROLES

__all__ = ["BlockDynamics", "dynamics_of"]


@dataclass(slots=True, eq=False)
class BlockDynamics:
    """The coefficients of one dynamic block, for n inputs.

    Args:
        index: of the block, from 0.
        kernel_attention: of each Dy-Conv, (n, K): the shares of its kernels (eq. 5).
        slopes: of each Dy-ReLU, (n, C, M).
        intercepts: likewise.
        frequency: (n, C, f) weights of Coordinate Attention, or None where it leaves frequency out.
        time: (n, C, t), likewise.
    """

    index: int
    kernel_attention: dict[Position, Tensor] = field(default_factory=dict)
    slopes: dict[Position, Tensor] = field(default_factory=dict)
    intercepts: dict[Position, Tensor] = field(default_factory=dict)
    frequency: Tensor | None = None
    time: Tensor | None = None


@torch.inference_mode()
def dynamics_of(network: Backbone, mel: Tensor) -> tuple[BlockDynamics, ...]:
    """Run a network in evaluation mode, and keep what its dynamic blocks choose for each input.

    Args:
        network: a DyMN; it goes back to the mode that it was in.
        mel: log-mels (n, 1, n_mels, n_frames).

    Returns:
        One entry for each dynamic block, in order.

    Raises:
        UsageError: no block of the network is dynamic, or `mel` is no batch of finite log-mels.
    """
    if not (isinstance(mel, Tensor) and mel.is_floating_point()):
        raise UsageError(f"{type(mel).__name__}: log-mels are a tensor of floats")
    if mel.ndim != 4 or mel.shape[1] != 1 or 0 in mel.shape:
        raise UsageError(f"log-mels of shape {tuple(mel.shape)}, not (n, 1, n_mels, n_frames)")
    if not torch.isfinite(mel).all():
        raise UsageError("log-mels hold NaN or infinity")
    blocks = [
        (n, block)
        for n, block in enumerate(network.stages[1:-1])
        if isinstance(block, DynamicInvertedResidual)
    ]
    if not blocks:
        raise UsageError("no block of this network is dynamic", hint="take a DyMN")
    found, handles = [], []
    was_training = network.training
    for index, block in blocks:
        kept = BlockDynamics(index)
        found.append(kept)
        for position in POSITIONS:
            hook, role = _coefficients(kept, position), ROLES[position]
            handles += [
                getattr(block, f"{role}_{part}").register_forward_hook(hook) for part in ("conv", "act")
            ]
        handles.append(block.ca.register_forward_hook(_gates(kept)))
    try:
        network.eval()(mel)
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    return tuple(found)


Hook = Callable[[nn.Module, tuple[Any, ...], Any], None]


def _coefficients(kept: BlockDynamics, position: Position) -> Hook:
    def hook(module: nn.Module, inputs: tuple[Any, ...], _output: Any) -> None:
        if not isinstance(module, DyConv | DyReLUB):
            return
        x, context = inputs
        h = context.h if module.own_context is None else module.own_context(x)
        if isinstance(module, DyConv):
            kept.kernel_attention[position] = module.attention(h)
        else:
            kept.slopes[position], kept.intercepts[position] = module.coefficients(h)

    return hook


def _gates(kept: BlockDynamics) -> Hook:
    def hook(module: nn.Module, inputs: tuple[Tensor, Context], _output: Any) -> None:
        if not isinstance(module, CoordinateAttention):
            return
        _, context = inputs
        if context.frequency is not None:
            kept.frequency = torch.sigmoid(context.frequency[..., 0])
        if context.time is not None:
            kept.time = torch.sigmoid(context.time[:, :, 0])

    return hook
