"""Batch normalisation and dropout in training as they will be used: at the end of a run, or all along.

In training, batch normalisation takes mean and variance from the batch, so that a sound unlike all others is
brought into line by its own presence; afterwards, it meets the running statistics. In a distilled DyMN-S, two
recordings of 814 came out with hundreds of classes at once for that reason.
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dymn_cli.train.lanes import DrawnDropout

__all__ = ["settle", "switch_dropout_off"]


def settle(network: nn.Module, settled: bool) -> None:
    """Let batch normalisation use its running statistics, and leave them as they are; or go back to batches.

    Its weights are trained either way.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.train(not settled)


def switch_dropout_off(network: nn.Module) -> None:
    """Let a network in training keep all units: mixes never come twice, so none is learned by heart."""
    for module in network.modules():
        if isinstance(module, (nn.Dropout, DrawnDropout)):
            module.eval()
