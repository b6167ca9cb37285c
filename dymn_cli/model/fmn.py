"""FMN, the MN that scores frames: MobileNetV3-Large with steps of 40 ms (EfficientSED, arXiv 2503.11373)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from dymn_cli.errors import UsageError
from dymn_cli.model.backbone import Backbone, last_convolution, stem
from dymn_cli.model.blocks import InvertedResidual, initialise_linear
from dymn_cli.model.config import ModelConfig

__all__ = ["FMN"]


class FMN(Backbone):
    """The blocks of MN, with other strides: 128 bands end as one, and 4 frames as one step.

        x_0 = hardswish(BN(W_in * log-mel))
        x_n = block_n(x_{n-1}),  n = 1 … 15
        z = mean over f of hardswish(BN(W_out * x_15))
        frame logits = W · z + b
        logits = maximum over steps of the frame logits
        embedding = mean over steps of z

    The published models were trained with labels of frames alone, and have no score for a whole clip. The
    maximum says whether a sound is in the clip, however short it is.

    Args:
        config: the architecture.
        generator: draws the initial weights; torch's global one where None.

    Raises:
        UsageError: a config of another family.
    """

    def __init__(self, config: ModelConfig, *, generator: torch.Generator | None = None) -> None:
        if config.family != "fmn":
            raise UsageError(f"FMN cannot be made from a config of family {config.family!r}")
        super().__init__()
        self.config = config
        blocks = (InvertedResidual(block) for block in config.blocks)
        self.features = nn.Sequential(stem(config), *blocks, last_convolution(config))
        self.strong_head = nn.Linear(config.embedding_size, config.n_classes)
        self.initialise(generator)

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """Stem, the 15 blocks and the last convolution, in the order of use."""
        return tuple(self.features)

    def forward_head(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map the last feature map to logits (n, n_classes) and embeddings (n, embedding_size)."""
        return self.forward_frames(features).amax(dim=1), features.mean(dim=(2, 3))

    def forward_frames(self, features: Tensor) -> Tensor:
        """Map the last feature map to frame logits (n, n_steps, n_classes), `config.n_steps` of them."""
        logits: Tensor = cast(nn.Linear, self.strong_head)(features.mean(dim=2).transpose(1, 2))
        return logits

    def reset_head(self, n_classes: int, *, generator: torch.Generator | None = None) -> None:
        """Replace the linear layer by a new one for another task; all else keeps its weights.

        Raises:
            UsageError: fewer than one class.
        """
        self.config = self.config.with_classes(n_classes)
        old = cast(nn.Linear, self.strong_head)
        new = nn.Linear(old.in_features, n_classes)
        initialise_linear(new, generator)
        self.strong_head = new.to(old.weight)

    def add_frame_head(
        self, *, from_classifier: bool = True, generator: torch.Generator | None = None
    ) -> None:
        """There is one already.

        Raises:
            UsageError: always.
        """
        raise UsageError("an fmn scores nothing but its steps: it needs no other frame head")
