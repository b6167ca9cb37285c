"""MN, the static sibling: MobileNetV3-Large on log-mels (Table I; Schmid et al., ICASSP 2023)."""

from __future__ import annotations

import torch
from torch import nn

from dymn_cli.errors import UsageError
from dymn_cli.model.backbone import Backbone, classifier, frame_head, last_convolution, stem
from dymn_cli.model.blocks import InvertedResidual
from dymn_cli.model.config import ModelConfig

__all__ = ["MN"]


class MN(Backbone):
    """MobileNetV3-Large with squeeze-and-excitation in blocks 4–6 and 11–15 (Table I).

        x_0 = hardswish(BN(W_in * log-mel))
        x_n = block_n(x_{n-1}),  n = 1 … 15
        embedding = mean over f, t of hardswish(BN(W_out * x_15))
        logits = W_5 · dropout(hardswish(W_2 · embedding + b_2)) + b_5
        frame logits: the same, or a head of their own, for the mean over f alone

    Args:
        config: the architecture.
        generator: draws the initial weights; torch's global one where None.

    Raises:
        UsageError: a config of the other family.
    """

    def __init__(self, config: ModelConfig, *, generator: torch.Generator | None = None) -> None:
        if config.family != "mn":
            raise UsageError(f"MN cannot be made from a config of family {config.family!r}")
        super().__init__()
        self.config = config
        blocks = (InvertedResidual(block) for block in config.blocks)
        self.features = nn.Sequential(stem(config), *blocks, last_convolution(config))
        self.classifier = classifier(config)
        self.strong_head = frame_head(config)
        self.initialise(generator)

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """Stem, the 15 blocks and the last convolution, in the order of use."""
        return tuple(self.features)
