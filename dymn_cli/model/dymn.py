"""DyMN, the dynamic MobileNet of the paper (arXiv 2310.15648, Table I and Section III)."""

from __future__ import annotations

import torch
from torch import nn

from dymn_cli.errors import UsageError
from dymn_cli.model.backbone import Backbone, classifier, frame_head, last_convolution, stem
from dymn_cli.model.blocks import DynamicInvertedResidual, InvertedResidual
from dymn_cli.model.config import Block, ModelConfig

__all__ = ["DyMN"]


class DyMN(Backbone):
    """Dynamic MobileNet: Table I with dynamic inverted residual blocks where the config has them.

        x_0 = hardswish(BN(W_in * log-mel))
        x_n = block_n(x_{n-1}),  n = 1 … 15
        embedding = mean over f, t of hardswish(BN(W_out * x_15))
        logits = W_5 · dropout(hardswish(W_2 · embedding + b_2)) + b_5
        frame logits: the same, or a head of their own, for the mean over f alone

    Widths 0.4, 1.0 and 2.0 are DyMN-S, DyMN-M and DyMN-L (Table II).

    Args:
        config: the architecture.
        generator: draws the initial weights; torch's global one where None.

    Raises:
        UsageError: a config of the other family.
    """

    def __init__(self, config: ModelConfig, *, generator: torch.Generator | None = None) -> None:
        if config.family != "dymn":
            raise UsageError(f"DyMN cannot be made from a config of family {config.family!r}")
        super().__init__()
        self.config = config
        self.in_c = stem(config)
        self.layers = nn.ModuleList(_block(block, config) for block in config.blocks)
        self.out_c = last_convolution(config)
        self.classifier = classifier(config)
        self.strong_head = frame_head(config)
        self.initialise(generator)

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """Stem, the 15 blocks and the last convolution, in the order of use."""
        return (self.in_c, *self.layers, self.out_c)


def _block(block: Block, config: ModelConfig) -> nn.Module:
    return DynamicInvertedResidual(block, config) if block.dynamic else InvertedResidual(block)
