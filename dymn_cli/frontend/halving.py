"""From 32 kHz to 16 kHz, for front ends whose frames have that rate: one filter for NumPy, PyTorch and ONNX.

    y[j] = x[2j] / 2 + Σ_k h_k · (x[2j − 2k − 1] + x[2j + 2k + 1])        zeros outside of the window

A half-band filter: of its taps every other one is zero. It is flat up to 7.2 kHz and leaves 10⁻⁶ of what is
above 8.8 kHz. What it folds lies above 7.2 kHz, which no mel band of such a front end reads. The published
models were trained on sound from soxr, which differs by 10⁻⁶ below 7 kHz.

The sums have a fixed order and no matrix product, so that a sample has the same bits wherever its window
begins (at an even sample), and on any processor.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["REACH", "halved", "pair_taps"]

N_PAIRS = 40
REACH = 2 * N_PAIRS - 1  # samples on each side that a sample of the output depends on
BETA = 12.3  # of the Kaiser window: 120 dB
CHUNK = 1 << 14  # samples of the output at a time: they stay in the caches of a core


@cache
def pair_taps() -> NDArray[np.float64]:
    """The taps h_k of both neighbours at a distance of 2k + 1, (40,); beside the middle one, which is ½."""
    distance = 2.0 * np.arange(N_PAIRS) + 1.0
    window = np.i0(BETA * np.sqrt(1.0 - (distance / (REACH + 1)) ** 2)) / np.i0(BETA)
    taps = np.where(np.arange(N_PAIRS) % 2, -1.0, 1.0) / (np.pi * distance) * window
    taps = np.asarray(taps * (0.25 / taps.sum()))  # a constant stays what it is
    taps.flags.writeable = False
    return taps


def halved(window: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every other sample of a window (n,) after the filter: ((n + 1) // 2,) float32."""
    even, odd = window[0::2], window[1::2]
    padded = np.zeros(len(even) + 2 * N_PAIRS, np.float32)
    padded[N_PAIRS : N_PAIRS + len(odd)] = odd
    out = even * np.float32(0.5)
    taps = pair_taps().astype(np.float32)
    pair = np.empty(min(CHUNK, len(out)), np.float32)
    for start in range(0, len(out), CHUNK):
        part = out[start : start + CHUNK]
        both = pair[: len(part)]
        for k, tap in enumerate(taps):
            before, after = start + N_PAIRS - k - 1, start + N_PAIRS + k
            np.add(padded[before : before + len(part)], padded[after : after + len(part)], out=both)
            np.multiply(both, tap, out=both)
            np.add(part, both, out=part)
    return out
