"""Signals and reference outputs for the front end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

RATE_HZ = 32_000

Samples = NDArray[np.float32]


@pytest.fixture(scope="session")
def golden_1000() -> dict[str, NDArray[np.float64]]:
    """1,000 samples and their log-mel, computed in float64 with the published front end."""
    with np.load(Path(__file__).parent / "golden" / "synthetic1000.npz") as stored:
        return {name: stored[name] for name in stored.files}


@pytest.fixture(scope="session")
def published(shared: Path) -> dict[str, NDArray[np.float64]]:
    """Everything that the published front end was made to answer."""
    with np.load(shared / "golden" / "published.npz") as stored:
        return {name: stored[name] for name in stored.files}


@pytest.fixture(scope="session")
def clip(shared: Path) -> Callable[[str], Samples]:
    """A real recording by name, mono at 32 kHz, resampled as for the reference outputs."""
    soundfile = pytest.importorskip("soundfile")
    soxr = pytest.importorskip("soxr")

    def load(name: str) -> Samples:
        samples, rate_hz = soundfile.read(shared / "audio" / f"{name}.wav", dtype="float32")
        return samples if rate_hz == RATE_HZ else soxr.resample(samples, rate_hz, RATE_HZ, quality="HQ")

    return load


@pytest.fixture(scope="session")
def pink_10s() -> Samples:
    """Ten seconds of noise that falls off with frequency, as recordings do."""
    spectrum = np.fft.rfft(np.random.default_rng(7).standard_normal(10 * RATE_HZ))
    spectrum /= np.sqrt(np.arange(1, spectrum.size + 1))
    samples = np.fft.irfft(spectrum)
    return (0.3 * samples / np.abs(samples).max()).astype(np.float32)
