"""A start for a random student: its outputs get the teacher's means and spreads, measured on one batch.

An optimizer of Adam's kind moves a number by its learning rate at most, so that a bias which has to come from
0 to −8 (a rare class) or a scale from 1 to 0.1 takes thousands of steps that teach nothing. Set once, they
leave the steps to the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from dymn_cli.model.backbone import Backbone

__all__ = ["fit_classifier", "fit_stages"]

LEAST_SCORE = 1e-6
LEAST_SPREAD = 1e-3


@torch.no_grad()
def fit_classifier(head: nn.Sequential, scores: Tensor) -> None:
    """Let a classifier begin at the teacher's mean score of each class.

    Args:
        head: with small random weights in the last layer, whose logits are close to its biases.
        scores: (n, n_classes) of the teacher.
    """
    last = cast(nn.Linear, head[-1])
    last.bias.copy_(torch.logit(scores.mean(dim=0).clamp(LEAST_SCORE, 1 - LEAST_SCORE)))


@torch.no_grad()
def fit_stages(student: Backbone, mel: Tensor, maps: Sequence[Tensor]) -> None:
    """Let each of the 17 stages begin with the mean and spread of the teacher's channels.

    The last normalisation of a stage gives its output (after a non-linearity: about), or what is added to the
    input where there is a residual; its scale and shift are set.

    Args:
        student: with the teacher's channels in every stage.
        mel: (n, 1, n_mels, n_frames) that the teacher heard.
        maps: the teacher's 17 feature maps of it.
    """
    for stage, x, wanted in zip(student.stages, (mel, *maps[:-1]), maps, strict=True):
        norm = [module for module in stage.modules() if isinstance(module, nn.BatchNorm2d)][-1]
        given = wanted - x if getattr(stage, "has_residual", False) else wanted
        norm.weight.copy_(given.std(dim=(0, 2, 3)).clamp(min=LEAST_SPREAD))
        norm.bias.copy_(given.mean(dim=(0, 2, 3)))
