"""What DyMN, MN and FMN have in common: 17 stages in a row, the head, and how they are used.

log-mel ──▶ stem ──▶ 15 blocks ──▶ last convolution ─┬▶ mean over f, t ──▶ classifier ──▶ logits
(n, 1, n_mels, n_frames)           (n, D, f, t)       │  (n, D) embedding                  (n, n_classes)
                                                      └▶ mean over f ──▶ frame head ──▶ frame logits
                                                         (n, n_steps, D)   (n, n_steps, n_classes)

A step is 32 frames of the log-mel, 0.32 s with the usual hop. A model without a frame head asks its
classifier about each step instead. An FMN (`dymn_cli.model.fmn`) has a step for each 4 frames, and no
classifier.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import cast

import torch
from torch import Tensor, nn

from dymn_cli.errors import UsageError
from dymn_cli.model.blocks import ConvNormActivation, DyConv, initialise_conv, initialise_linear
from dymn_cli.model.config import ModelConfig

__all__ = ["Backbone", "classifier", "frame_head", "last_convolution", "stem"]


def stem(config: ModelConfig) -> ConvNormActivation:
    """First convolution: 3×3 over the log-mel, stride 2 along both axes (Table I, first row)."""
    return ConvNormActivation(1, config.stem_channels, 3, stride=2, act="hardswish")


def last_convolution(config: ModelConfig) -> ConvNormActivation:
    """Last 1×1 convolution, to six times the channels of the last block (Table I)."""
    return ConvNormActivation(config.blocks[-1].out_channels, config.embedding_size, 1, act="hardswish")


def classifier(config: ModelConfig) -> nn.Sequential:
    """Two linear layers from the embedding to the logits (Table I, last rows)."""
    return nn.Sequential(
        # The published head pools and flattens at 0 and 1; ours is given the embedding.
        nn.Identity(),
        nn.Identity(),
        nn.Linear(config.embedding_size, config.head_channels),
        nn.Hardswish(inplace=True),
        nn.Dropout(config.dropout),
        nn.Linear(config.head_channels, config.n_classes),
    )


def frame_head(config: ModelConfig) -> nn.Sequential | None:
    """Two linear layers from a step's embedding to its logits, where the config has them."""
    if not config.frame_head:
        return None
    return nn.Sequential(
        nn.Linear(config.embedding_size, config.head_channels),
        nn.Hardswish(),
        nn.Linear(config.head_channels, config.n_classes),
    )


class Backbone(nn.Module):
    """A network of Table I: stem, 15 blocks, last convolution, classifier and perhaps a frame head.

    Attributes:
        config: the architecture; `reset_head` and `add_frame_head` replace it together with the heads.
        strong_head: the frame head, which learns from strong labels; None where the classifier stands in.
    """

    config: ModelConfig
    classifier: nn.Sequential
    strong_head: nn.Sequential | nn.Linear | None

    @property
    @abstractmethod
    def stages(self) -> tuple[nn.Module, ...]:
        """Stem, the 15 blocks and the last convolution, in the order of use."""

    def forward_features(self, mel: Tensor) -> Tensor:
        """Map log-mels (n, 1, n_mels, n_frames) to the last feature map (n, embedding_size, f, t).

        Five strides of 2 take f and t to 1/32 of n_mels and n_frames, rounded up at each.
        """
        x = mel
        for stage in self.stages:
            x = stage(x)
        return x

    def forward_head(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map the last feature map to logits (n, n_classes) and embeddings (n, embedding_size)."""
        embedding = features.mean(dim=(2, 3))
        logits = self.classifier(embedding)
        return logits, embedding

    def forward_frames(self, features: Tensor) -> Tensor:
        """Map the last feature map to frame logits (n, n_steps, n_classes), `config.n_steps` of them."""
        steps = features.mean(dim=2).transpose(1, 2)
        head = self.classifier if self.strong_head is None else self.strong_head
        logits: Tensor = head(steps)
        return logits

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Map log-mels (n, 1, n_mels, n_frames) to logits (n, n_classes) and embeddings (n, D)."""
        features = self.forward_features(mel)
        return self.forward_head(features)

    def feature_maps(self, mel: Tensor) -> list[Tensor]:
        """Outputs of the 17 stages for log-mels (n, 1, n_mels, n_frames), for block-wise distillation.

        The first is the stem's, then come those of the 15 blocks; the last is what `forward_head` takes.
        """
        maps = []
        x = mel
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def set_temperature(self, temperature: float) -> None:
        """Set τ of the softmax over kernels in every Dy-Conv (eq. 5); no effect on a static network.

        Raises:
            UsageError: not a positive number.
        """
        if not temperature > 0:
            raise UsageError(f"Dy-Conv temperature must be positive, not {temperature}")
        for module in self.modules():
            if isinstance(module, DyConv):
                module.temperature = temperature

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights anew: convolutions after He et al. (fan-out), linear layers from N(0, 0.01²)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                initialise_conv(module, generator)
            elif isinstance(module, nn.Linear):
                initialise_linear(module, generator)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
            elif isinstance(module, DyConv):
                module.reset_parameters(generator)

    def reset_head(self, n_classes: int, *, generator: torch.Generator | None = None) -> None:
        """Replace the last linear layer by a new one for another task; all else keeps its weights.

        A frame head goes: it scores the old classes.

        Raises:
            UsageError: fewer than one class.
        """
        self.config = self.config.with_classes(n_classes)
        old = cast(nn.Linear, self.classifier[-1])
        new = nn.Linear(old.in_features, n_classes)
        initialise_linear(new, generator)
        self.classifier[-1] = new.to(old.weight)
        self.strong_head = None

    def add_frame_head(
        self, *, from_classifier: bool = True, generator: torch.Generator | None = None
    ) -> None:
        """Give the network a frame head, in place of the one that it may have.

        Args:
            from_classifier: start as a copy of the classifier, so that frame logits stay what they are; else
                with drawn weights.
            generator: draws them; torch's global one where None.
        """
        first, last = (cast(nn.Linear, self.classifier[n]) for n in (2, -1))
        self.config = dataclasses.replace(self.config, frame_head=True)
        head = cast(nn.Sequential, frame_head(self.config)).to(last.weight)
        for new, old in ((cast(nn.Linear, head[0]), first), (cast(nn.Linear, head[2]), last)):
            if from_classifier:
                new.load_state_dict(old.state_dict())
            else:
                initialise_linear(new, generator)
        self.strong_head = head.train(self.training)
