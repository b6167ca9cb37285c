"""Choose the threshold of each class from scores of labelled recordings.

A threshold lies half-way between two scores and has as few digits as possible, so that it survives rounding
and has the best chance to separate new recordings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.writers.target import open_target
from dymn_cli.writers.to_csv import csv_line

if TYPE_CHECKING:
    from dymn_cli.evaluation.metrics import Curve

__all__ = ["NEVER", "Threshold", "at_precision", "best_f1", "thresholds_csv", "write_thresholds"]

NEVER = 1.0
"""The threshold of a class that reaches the wanted precision nowhere."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """The lowest score at which a class is reported, and the quality that this gives.

    Args:
        value: in [0, 1].
        precision: NaN if nothing is reported.
        recall: share of the recordings with the class that are reported.
        f1: the harmonic mean of both.
    """

    value: float
    precision: float
    recall: float
    f1: float


def best_f1(curve: Curve) -> Threshold:
    """The threshold with the largest F1; the highest of several."""
    return _at(curve, int(np.argmax(curve.f1)))


def at_precision(curve: Curve, wanted: float) -> Threshold:
    """The lowest threshold with at least this precision; `NEVER` if there is none."""
    good = np.flatnonzero(curve.precision >= wanted)
    return _at(curve, int(good[-1])) if len(good) else Threshold(NEVER, math.nan, 0.0, 0.0)


def _at(curve: Curve, n: int) -> Threshold:
    high = float(curve.thresholds[n])
    low = float(curve.thresholds[n + 1]) if n + 1 < len(curve.thresholds) else 0.0
    return Threshold(
        between(low, high), float(curve.precision[n]), float(curve.recall[n]), float(curve.f1[n])
    )


def between(low: float, high: float) -> float:
    """A short number near the middle, above `low` and not above `high`, also in single precision."""
    middle = (low + high) / 2
    for digits in range(1, 9):
        value = float(f"{middle:.{digits}g}")
        if np.float32(low) < np.float32(value) <= np.float32(high):
            return value
    return high


def write_thresholds(out: str, thresholds: Iterable[tuple[str, str, float]], *, force: bool = False) -> None:
    """Write (mid, label, threshold) rows as the CSV that `--thresholds` reads.

    Raises:
        OutputError: it cannot be written.
    """
    with open_target(out, force=force) as target:
        target.stream.write(thresholds_csv(thresholds))


def thresholds_csv(thresholds: Iterable[tuple[str, str, float]]) -> bytes:
    """The content of a thresholds file."""
    rows = ((mid, label, f"{value:.9g}") for mid, label, value in thresholds)
    return b"".join(map(csv_line, (("mid", "label", "threshold"), *rows)))
