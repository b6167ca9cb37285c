"""Sounds for tests, float32 in (n,) or (n, channels); and files of them, as bytes.

Each depends on its arguments alone.
"""

from __future__ import annotations

import io
import math

import numpy as np
import soundfile
from numpy.typing import NDArray

__all__ = ["RATE_HZ", "band_hz", "encoded", "flat_noise", "noise", "sine", "sweep"]

RATE_HZ = 32_000

Samples = NDArray[np.float32]


def sine(frequency_hz: float, seconds: float, rate_hz: int = RATE_HZ, *, level: float = 0.5) -> Samples:
    """A pure tone."""
    return sweep(frequency_hz, 0.0, seconds, rate_hz, level=level)


def sweep(
    start_hz: float, hz_per_s: float, seconds: float, rate_hz: int = RATE_HZ, *, level: float = 0.5
) -> Samples:
    """A tone whose frequency rises by 2 · `hz_per_s` a second."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return (level * np.sin(2 * np.pi * (start_hz + hz_per_s * time_s) * time_s)).astype(np.float32)


def band_hz(band: int) -> float:
    """Centre of a mel band of the front end: 128 triangles, evenly spaced in mel from 0 to 15 kHz."""
    return 700 * (math.exp((band + 1) / 129 * math.log(1 + 15_000 / 700)) - 1)


def noise(shape: int | tuple[int, ...], *, level: float = 0.1, seed: int = 0) -> Samples:
    """White noise of that standard deviation."""
    return np.random.default_rng(seed).normal(0, level, shape).astype(np.float32)


def flat_noise(shape: int | tuple[int, ...], *, level: float = 1.0, seed: int = 0) -> Samples:
    """White noise whose samples are anywhere from -level to level, none beyond."""
    return np.random.default_rng(seed).uniform(-level, level, shape).astype(np.float32)


def encoded(
    samples: NDArray[np.generic], rate_hz: int, container: str = "WAV", codec: str | None = None
) -> bytes:
    """A file, as libsndfile writes it."""
    memory = io.BytesIO()
    soundfile.write(memory, samples, rate_hz, format=container, subtype=codec)
    return memory.getvalue()
