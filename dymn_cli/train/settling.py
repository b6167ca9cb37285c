"""The end of a training: batch normalisation as it will be used.

In training, batch normalisation takes mean and variance from the batch, so that a sound unlike all others is
brought into line by its own presence; afterwards, it meets the running statistics. In a distilled DyMN-S, two
recordings of 814 came out with hundreds of classes at once for that reason.
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["settle"]


def settle(network: nn.Module, settled: bool) -> None:
    """Let batch normalisation use its running statistics, and leave them as they are; or go back to batches.

    Its weights are trained either way.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.train(not settled)
