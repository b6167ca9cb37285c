from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from dymn_cli.errors import EmptyAudioError, UsageError
from dymn_cli.frontend import FrontEndConfig, LogMel, mel_bank
from dymn_cli.frontend.melbank import FRAMEWISE


def hz_of_mel(mel: float) -> float:
    return 700 * (math.exp(mel / 1127) - 1)


def test_each_filter_peaks_at_its_centre_on_the_mel_scale() -> None:
    bank = mel_bank(FrontEndConfig())
    spacing = 1127 * math.log(1 + 15_000 / 700) / 129
    for band in range(40, 128):  # wide enough to hold a bin near their centre
        centre_hz = hz_of_mel((band + 1) * spacing)
        assert abs(bank[band].argmax() * 31.25 - centre_hz) <= 31.25 / 2 + 1


def test_between_the_outer_centres_neighbouring_filters_share_each_bin_without_loss() -> None:
    bank = mel_bank(FrontEndConfig())
    spacing = 1127 * math.log(1 + 15_000 / 700) / 129
    bins_hz = np.arange(513) * 31.25
    inside = (bins_hz >= hz_of_mel(spacing)) & (bins_hz <= hz_of_mel(128 * spacing))
    assert inside.sum() > 400
    np.testing.assert_allclose(bank.sum(axis=0)[inside], 1.0, atol=1e-9)
    assert np.count_nonzero(bank[:, inside], axis=0).max() == 2


def test_nothing_is_heard_above_fmax_nor_at_nyquist() -> None:
    assert mel_bank(FrontEndConfig())[:, 480:].max() < 1e-9  # bin 480 is 15,000 Hz
    full = mel_bank(FrontEndConfig(fmax_hz=16_000))
    assert full[:, 511].any()
    assert not full[:, 512].any()


def test_the_lower_edge_silences_the_bins_below_it() -> None:
    bank = mel_bank(FrontEndConfig(fmin_hz=1_000))
    assert not bank[:, :33].any()
    assert bank[0, 33:].any()


def test_the_bank_cannot_be_changed_by_a_caller() -> None:
    with pytest.raises(ValueError, match="read-only"):
        mel_bank(FrontEndConfig())[0, 0] = 1.0


def test_config_survives_json() -> None:
    config = FrontEndConfig(n_hop=160, n_mels=64, fmax_hz=14_000.0)
    assert FrontEndConfig.from_json(config.to_json()) == config
    assert FrontEndConfig.from_json("{}") == FrontEndConfig()
    assert json.loads(config.to_json())["n_hop"] == 160


def test_a_floor_stands_in_the_json_only_where_there_is_one() -> None:
    assert "log_floor" not in FrontEndConfig().to_json()
    assert FrontEndConfig.from_json(FRAMEWISE.to_json()) == FRAMEWISE
    assert '"log_floor": 1e-07' in FRAMEWISE.to_json()


def test_a_front_end_of_16_khz_counts_in_samples_of_32_khz() -> None:
    assert (FRAMEWISE.input_hop, FRAMEWISE.min_samples) == (320, 516)
    assert FRAMEWISE.n_frames(320_000) == FrontEndConfig().n_frames(320_000) == 1_000
    assert LogMel(FRAMEWISE)(np.zeros(516))[0, 0] == pytest.approx((math.log(1e-7) + 4.5) / 5)
    with pytest.raises(EmptyAudioError, match="515 samples at 32000 Hz"):
        LogMel(FRAMEWISE)(np.zeros(515))


@pytest.mark.parametrize(
    "text", ['{"hop": 3}', "[1]", "1", '"n_mels"', "{", '{"n_mels": "many"}', '{"n_hop": null}']
)
def test_config_that_cannot_be_read_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="front-end config"):
        FrontEndConfig.from_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"n_hop": 0},
        {"n_mels": -1},
        {"n_fft": 1023},
        {"n_window": 1025},
        {"fmax_hz": 16_001.0},
        {"fmin_hz": 15_000.0},
        {"fmin_hz": -1.0},
        {"fmax_hz": math.nan},
        {"log_offset": 0.0},
        {"log_offset": -1e-5},
        {"log_floor": -1e-7},
        {"rate_hz": 44_100},
        {"rate_hz": 8_000},
        {"scale": 0.0},
        {"preemphasis": 1.5},
        {"n_fft": 1024.0},
        {"n_mels": 513},
    ],
)
def test_values_that_describe_no_front_end_are_a_usage_error(change: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(change))):
        dataclasses.replace(FrontEndConfig(), **change)
