"""What is minimised: equation 8 of the paper, and hints between feature maps.

Losses are sums over the classes and means over the clips, in nats: so a loss does not depend on the
size of the batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["cross_entropy", "distillation_loss", "entropy", "frame_loss", "hint_loss", "masked_loss"]

LEAST_VARIANCE = 0.02  # of a channel, as a share of the mean over channels: silent ones count for little


def cross_entropy(logits: Tensor, wanted: Tensor) -> Tensor:
    """Binary cross-entropy of logits (n, n_classes) to scores or labels of that shape in [0, 1]."""
    return F.binary_cross_entropy_with_logits(logits.float(), wanted, reduction="sum") / len(logits)


def entropy(scores: Tensor) -> Tensor:
    """Sum of the binary entropies of scores (n, n_classes): the least that `cross_entropy` to them can be."""
    inside = scores.clamp(1e-12, 1 - 1e-7)
    return -(inside * inside.log() + (1 - inside) * (1 - inside).log()).sum() / len(scores)


def distillation_loss(
    logits: Tensor, teacher_scores: Tensor, labels: Tensor | None, label_share: float
) -> Tensor:
    """Loss of the student: λ · BCE(labels) + (1 − λ) · BCE(teacher's scores) (eq. 8).

    Args:
        logits: (n, n_classes) of the student.
        teacher_scores: (n, n_classes) in [0, 1].
        labels: (n, n_classes) in [0, 1], or None: then λ is 0.
        label_share: λ; 0.1 in the paper.
    """
    from_teacher = cross_entropy(logits, teacher_scores)
    if labels is None or label_share == 0:
        return from_teacher
    return label_share * cross_entropy(logits, labels) + (1 - label_share) * from_teacher


def masked_loss(logits: Tensor, present: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy in nats: sum over the classes of what is known, mean over the recordings.

    A mix has the losses of its parts in the shares of the mix: with `known` w and `present` t a class costs
    w·ln(1 + exp z) − t·z, which is w times the cross-entropy to t/w.

    Args:
        logits: (n, n_classes).
        present: (n, n_classes) from 0 to `known`.
        known: (n, n_classes) from 0 to 1.
    """
    z = logits.float()
    return (known * F.softplus(z) - present * z).sum() / len(z)


def frame_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """Binary cross-entropy of frame logits (n, n_steps, n_classes) to targets of that shape in [0, 1].

    The sum over classes, the mean over steps and clips: on the scale of `cross_entropy`.
    """
    return cross_entropy(logits.flatten(0, 1), wanted.flatten(0, 1))


def hint_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error between two feature maps (n, C, f, t), each channel by the teacher's variance.

    0 where they are equal, 1 where the student gives each channel's mean. The variance is that of the
    teacher's channel over the batch.
    """
    with torch.no_grad():
        wanted = teacher.float()
        axes = (0, 2, 3)
        # Not `var`, which takes five times as long along axes that are not neighbours.
        variance = (wanted.square().mean(dim=axes) - wanted.mean(dim=axes).square()).clamp(min=0)
        weight = 1.0 / torch.maximum(variance, LEAST_VARIANCE * variance.mean() + 1e-12)
    error = (student.float() - wanted).square().mean(dim=axes)
    return (error * weight).mean()
