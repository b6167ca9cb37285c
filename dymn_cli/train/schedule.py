"""How the learning rate goes over a training run: the paper's shape, and a cosine for short runs.

Rates are functions of the share of the run that is done, so that a shorter run is the same run in less time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from dymn_cli.errors import UsageError
from dymn_cli.values import require_choice

__all__ = ["DISTILLATION", "FINE_TUNING", "PaperShape", "RateSchedule", "ShapeName", "peak_rate"]

ShapeName = Literal["distillation", "fine-tuning", "cosine"]

STEEPNESS = 5.0  # of the warm-up: it begins at exp(−5), less than a hundredth
FIRST_EPOCH = 0.5  # the warm-up is never read before it
COSINE_WARM_UP = 0.03  # share of a run


@dataclass(frozen=True, slots=True)
class PaperShape:
    """Exponential warm-up, a plateau, a linear ramp-down, and a rest at a low rate; all in epochs.

        exp(−5 (1 − e / warm_up)²)     up to e = warm_up
        1                              up to e = ramp_start
        1 … last                       linear, over ramp_length
        last                           to the end

    Source: paper, Sections IV-B and V-B; the numbers are in `DISTILLATION` and `FINE_TUNING`.
    """

    epochs: float
    warm_up: float
    ramp_start: float
    ramp_length: float
    last: float = 0.01

    def at(self, epoch: float) -> float:
        """Share of the peak rate at an epoch, counted from 0, fractions allowed."""
        if epoch < self.warm_up:
            missing = 1.0 - max(epoch, FIRST_EPOCH) / self.warm_up
            return math.exp(-STEEPNESS * missing**2)
        ramped = min(max((epoch - self.ramp_start) / self.ramp_length, 0.0), 1.0)
        return 1.0 + (self.last - 1.0) * ramped


DISTILLATION = PaperShape(epochs=200, warm_up=8, ramp_start=80, ramp_length=95)
"""Pre-training on AudioSet: 200 epochs of 100,000 clips; the last 25 at 1 % of the peak."""

FINE_TUNING = PaperShape(epochs=80, warm_up=10, ramp_start=10, ramp_length=65)
"""Downstream tasks: 80 epochs; the last 5 at 1 % of the peak."""


@dataclass(frozen=True, slots=True)
class RateSchedule:
    """Learning rate over a run.

    Args:
        shape: "distillation" and "fine-tuning" are the paper's, "cosine" is for short runs.
        peak: the largest rate.

    Raises:
        UsageError: no such shape, or a peak that is no positive number.
    """

    shape: ShapeName
    peak: float

    def __post_init__(self) -> None:
        require_choice("schedule", self.shape, ShapeName)
        if not (math.isfinite(self.peak) and self.peak > 0):
            raise UsageError(f"a learning rate of {self.peak} is not a positive number")

    def at(self, done: float) -> float:
        """Rate when a share of the run is done, from 0 to 1."""
        if self.shape == "cosine":
            warm = min((done + COSINE_WARM_UP / 20) / COSINE_WARM_UP, 1.0)
            return self.peak * warm * 0.5 * (1.0 + math.cos(math.pi * min(max(done, 0.0), 1.0)))
        paper = DISTILLATION if self.shape == "distillation" else FINE_TUNING
        return self.peak * paper.at(done * paper.epochs)


def peak_rate(width: float) -> float:
    """The paper's peak rate for distilling a network of a width: 2e-3 for S, 1e-3 for M, 5e-4 for L."""
    return 2e-3 if width < 0.7 else 1e-3 if width < 1.5 else 5e-4
