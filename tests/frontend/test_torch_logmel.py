from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import sounds
from numpy.typing import NDArray

from dymn_cli.errors import EmptyAudioError, UsageError
from dymn_cli.frontend import FrontEndConfig, LogMel
from dymn_cli.frontend.melbank import FRAMEWISE

torch = pytest.importorskip("torch")
from dymn_cli.frontend.torch_logmel import TorchLogMel  # noqa: E402 - needs torch

Samples = NDArray[np.float32]
Arrays = dict[str, NDArray[np.float64]]


def twin(samples: Samples, config: FrontEndConfig | None = None) -> NDArray[np.float32]:
    return TorchLogMel(config)(torch.from_numpy(np.atleast_2d(samples))).numpy()


def test_a_short_signal(golden_1000: Arrays) -> None:
    np.testing.assert_allclose(twin(golden_1000["samples"])[0, 0], golden_1000["mel64"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["metro_station-paris", "speech", "music", "typing"])
def test_recordings_sound_the_same_to_both(clip: Callable[[str], Samples], name: str) -> None:
    samples = clip(name)
    np.testing.assert_allclose(twin(samples), LogMel()(samples), rtol=0, atol=1.5e-5)


def test_a_full_range_chirp_is_at_the_accuracy_of_the_published_front_end(published: Arrays) -> None:
    # Beside a loud tone the float32 transform of PyTorch leaves rounding noise in the quiet bands: the
    # published front end is 1.5e-4 away from float64 there for the same reason.
    error = np.abs(twin(published["synthetic96017/samples"])[0, 0] - published["synthetic96017/mel64"])
    assert error.max() < 5e-4
    assert np.sqrt(np.mean(error**2)) < 1e-5


@pytest.mark.parametrize("config", [FrontEndConfig(), FrontEndConfig(n_hop=800), FrontEndConfig(n_mels=40)])
def test_batches_agree_with_numpy(pink_10s: Samples, config: FrontEndConfig) -> None:
    windows = np.stack([pink_10s[:50_001], pink_10s[99_999:150_000], np.zeros(50_001, np.float32)])
    ours = twin(windows, config)
    assert ours.shape == (3, 1, config.n_mels, config.n_frames(50_001))
    np.testing.assert_allclose(ours, LogMel(config)(windows), rtol=0, atol=1.5e-5)


def test_a_front_end_of_16_khz_agrees_with_numpy(pink_10s: Samples) -> None:
    # In the quietest bands, near the floor, the float32 transform of PyTorch leaves its rounding.
    windows = np.stack([pink_10s[:50_001], pink_10s[99_999:150_000], np.zeros(50_001, np.float32)])
    ours = twin(windows, FRAMEWISE)
    assert ours.shape == (3, 1, 128, 157)
    error = np.abs(ours - LogMel(FRAMEWISE)(windows))
    assert error.max() < 5e-4
    assert np.sqrt(np.mean(error**2)) < 1e-5


def test_band_limits_can_change_with_every_call(pink_10s: Samples) -> None:
    module = TorchLogMel()
    samples = torch.from_numpy(pink_10s[None, :32_000])
    before = module(samples)
    moved = module(samples, fmin_hz=5.5, fmax_hz=14_321.0)
    expected = LogMel(FrontEndConfig(fmin_hz=5.5, fmax_hz=14_321.0))(pink_10s[:32_000])
    np.testing.assert_allclose(moved.numpy(), expected, rtol=0, atol=1.5e-5)
    assert not torch.allclose(before, moved, atol=1e-2)
    assert torch.equal(module(samples), before)
    with pytest.raises(UsageError, match="fmax_hz"):
        module(samples, fmax_hz=16_500.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_does_not_reach_into_it(dtype: torch.dtype) -> None:
    samples = torch.from_numpy(sounds.sine(440.0, 1)[None])
    with torch.autocast("cpu", dtype=dtype):
        inside = TorchLogMel()(samples)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, TorchLogMel()(samples))


def test_a_power_beyond_half_precision_comes_through() -> None:
    samples = 2 * torch.from_numpy(sounds.sine(14_000.0, 1)[None]).half()
    with torch.autocast("cpu", dtype=torch.float16):
        mel = TorchLogMel()(samples)
    assert mel.max() > (math.log(65_504) + 4.5) / 5  # the largest float16
    assert torch.isfinite(mel).all()


def test_it_adds_nothing_to_a_state_dict() -> None:
    assert not TorchLogMel().state_dict()


def test_too_short_an_input_is_empty_audio() -> None:
    TorchLogMel()(torch.zeros(1, 514))
    with pytest.raises(EmptyAudioError, match="513 samples"):
        TorchLogMel()(torch.zeros(1, 513))
    with pytest.raises(UsageError, match="1 dimension"):
        TorchLogMel()(torch.zeros(32_000))
