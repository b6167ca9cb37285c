"""Batch normalisation as the published models have it."""

from __future__ import annotations

from torch import nn

__all__ = ["norm"]

NORM_EPS = 1e-3
NORM_MOMENTUM = 0.01


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation with the constants of the published models."""
    return nn.BatchNorm2d(channels, eps=NORM_EPS, momentum=NORM_MOMENTUM)
