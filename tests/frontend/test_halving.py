"""Halving the rate for front ends of 16 kHz: flat where bands read, nothing folded, always the same bits."""

from __future__ import annotations

import numpy as np
import pytest
import sounds
import soxr

from dymn_cli.frontend.halving import REACH, halved


def sine(frequency_hz: float, n_samples: int = 8_000) -> np.ndarray:
    return np.sin(2 * np.pi * frequency_hz * np.arange(n_samples) / 32_000).astype(np.float32)


@pytest.mark.parametrize("frequency_hz", [0.0, 50.0, 1_000.0, 4_321.0, 7_000.0])
def test_what_bands_read_passes_unchanged(frequency_hz: float) -> None:
    signal = sine(frequency_hz) if frequency_hz else np.ones(8_000, np.float32)
    inner = slice(REACH, -REACH)
    np.testing.assert_allclose(halved(signal)[inner], signal[::2][inner], rtol=0, atol=2e-6)


@pytest.mark.parametrize("frequency_hz", [9_000.0, 10_123.0, 13_000.0, 15_900.0])
def test_what_is_above_goes(frequency_hz: float) -> None:
    assert np.abs(halved(sine(frequency_hz))[REACH:-REACH]).max() < 2e-6


def test_below_7_khz_it_is_what_soxr_gives() -> None:
    spectrum = np.fft.rfft(sounds.flat_noise(16_000, level=0.3, seed=1))
    spectrum[np.fft.rfftfreq(16_000, 1 / 32_000) > 7_000] = 0
    signal = (np.fft.irfft(spectrum) * np.hanning(16_000)).astype(np.float32)
    np.testing.assert_allclose(halved(signal), soxr.resample(signal, 32_000, 16_000, quality="HQ"), atol=3e-6)


def test_samples_have_the_same_bits_wherever_the_window_begins() -> None:
    signal = sounds.flat_noise(30_001, level=0.5, seed=2)
    whole = halved(signal)
    assert len(whole) == 15_001
    for start, end in ((0, 9_001), (2, 30_001), (9_998, 20_000), (20_000, 30_001)):
        part = halved(signal[start:end])
        first, last = (REACH + 1) // 2, (REACH + 1) // 2
        np.testing.assert_array_equal(
            part[first:-last], whole[start // 2 + first : start // 2 + len(part) - last]
        )


def test_torch_adds_up_in_the_same_order() -> None:
    torch = pytest.importorskip("torch")
    from dymn_cli.frontend.torch_logmel import halved as torch_halved

    for n in (1, 2, 5, 4_097, 10_001):
        signal = sounds.flat_noise(n, level=0.5, seed=n)
        made = torch_halved(torch.from_numpy(signal[None]))[0].numpy()
        np.testing.assert_allclose(made, halved(signal), rtol=0, atol=1e-7)
