"""Resampling in PyTorch: soxr's samples, however the signal comes in."""

from __future__ import annotations

import numpy as np
import pytest
import sounds
import soxr

from dymn_cli.audio.resample import response

torch = pytest.importorskip("torch")

from dymn_cli.frontend.torch_resample import TorchResampler  # noqa: E402 - it needs torch

START = 100  # samples of the output: soxr's filter starts in its own way there, see the module


def resampler(rate_hz: int) -> TorchResampler:
    found = response(rate_hz)
    assert found is not None
    return TorchResampler(found.matrix, found.period, torch.device("cpu"))


def noise(n_samples: int, *channels: int) -> np.ndarray:
    return sounds.flat_noise((n_samples, *channels), level=0.9, seed=8)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 24_000, 37_800, 44_100, 48_000, 88_200, 192_000])
def test_it_gives_what_soxr_gives(rate_hz: int) -> None:
    signal = noise(30_000)
    got = np.concatenate(list(resampler(rate_hz)([signal])))
    want = soxr.resample(signal, rate_hz, 32_000, quality="HQ")
    assert (got.shape, got.dtype) == (want.shape, np.float32)
    np.testing.assert_allclose(got[START:], want[START:], atol=5e-6)
    np.testing.assert_allclose(got[:START], want[:START], atol=0.2)


def test_blocks_of_any_size_make_one_signal() -> None:
    signal = noise(20_000)
    whole = np.concatenate(list(resampler(44_100)([signal])))
    pieces = np.split(signal, [1, 2, 440, 441, 3_000, 3_000, 12_345])
    np.testing.assert_allclose(np.concatenate(list(resampler(44_100)(pieces))), whole, atol=2e-6)


def test_channels_do_not_mix() -> None:
    signal = noise(9_000, 3)
    together = np.concatenate(list(resampler(48_000)(np.split(signal, [4_000]))))
    assert together.shape == (6_000, 3)
    for channel in range(3):
        alone = np.concatenate(list(resampler(48_000)([signal[:, channel]])))
        np.testing.assert_allclose(together[:, channel], alone, atol=2e-6)


@pytest.mark.parametrize("n_samples", [1, 2, 3, 100, 441, 442])
def test_the_shortest_signals_have_as_many_samples_as_soxr_makes_of_them(n_samples: int) -> None:
    signal = noise(n_samples)
    blocks = list(resampler(44_100)([signal]))
    want = soxr.resample(signal, 44_100, 32_000, quality="HQ")
    assert sum(map(len, blocks)) == len(want)


def test_nothing_stays_nothing() -> None:
    assert list(resampler(44_100)([])) == []
