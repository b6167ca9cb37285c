"""How long fine-tuning will take: a step and a look at some windows, timed, times how many there will be.

What is timed runs on a copy of the network, and draws nothing that the training draws.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.audio.resample import RATE_HZ
from dymn_cli.audio.windows import WindowPlan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.train.loop import StepReport

__all__ = ["Forecast", "Pace", "StepTimes", "Training", "forecast_of", "timed", "windows_of"]

DECODING = 1.5  # decoding and listening cost so many times as much as listening alone
FIT_S = 0.1  # of one path of logistic regressions over its penalties, and
FIT_S_PER_VALUE = 3e-7  # for each window, value of an embedding, and class: on one core


@dataclass(frozen=True, slots=True)
class Training:
    """What is still to be done of a training: steps, and windows that are only listened to."""

    n_steps: int
    n_windows: int


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of a step, and of listening to a window."""

    step_s: float
    window_s: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds that training the whole network will take, and the last layer alone would."""

    whole_s: float
    head_s: float


class StepTimes:
    """Watches a training for the time of each of its steps."""

    def __init__(self) -> None:
        self._elapsed_s: list[float] = [0.0]

    @property
    def shortest_s(self) -> float:
        """Seconds of the quickest step: the first ones also pay for what is made once."""
        return float(np.diff(self._elapsed_s).min())

    def step(self, report: StepReport) -> None:
        """After each step."""
        self._elapsed_s.append(report.elapsed_s)

    def evaluated(self, report: StepReport, measures: Mapping[str, float]) -> None:
        """After each measurement: they are timed apart."""


def timed(work: Callable[[], object]) -> float:
    """Seconds that some work takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def windows_of(n_samples: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) windows of recordings of so many samples at 32 kHz."""
    n_window = round(WindowPlan().window_s * RATE_HZ)
    return np.maximum(-(-n_samples // n_window), 1)


def forecast_of(
    pace: Pace,
    trainings: Sequence[Training],
    *,
    n_windows: int,
    n_classes: int,
    embedding_size: int,
    n_folds: int,
) -> Forecast:
    """How long it will take.

    Args:
        pace: of this machine.
        trainings: what is still to be done.
        n_windows: of all recordings.
        n_classes: to be told apart.
        embedding_size: of the network.
        n_folds: that are held out in turn.
    """
    whole_s = sum(one.n_steps * pace.step_s + one.n_windows * pace.window_s for one in trainings)
    n_paths = 1 + n_folds * (n_folds + 1) // 2
    fits_s = n_paths * (FIT_S + FIT_S_PER_VALUE * n_windows * embedding_size * n_classes)
    return Forecast(whole_s, DECODING * n_windows * pace.window_s + fits_s)
