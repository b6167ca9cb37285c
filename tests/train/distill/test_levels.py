from __future__ import annotations

import numpy as np
import pytest
import sounds

from dymn_cli.frontend import FrontEndConfig, LogMel
from dymn_cli.train.distill.levels import DB, MAX_GAIN_DB, at_level, level_gain, to_log_mel, to_power

FRONT_END = FrontEndConfig()


def rows(samples: np.ndarray) -> np.ndarray:
    return LogMel()(samples)[0, 0].T


def tone(frequency_hz: float, amplitude: float) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(32_000) / 32_000)).astype(np.float32)


@pytest.mark.parametrize(
    "samples",
    [sounds.noise(32_000, level=0.1, seed=0), tone(100, 0.3), tone(1000, 0.01), tone(9000, 0.5)],
    ids=["noise", "low", "quiet", "high"],
)
def test_the_level_is_that_of_the_samples(samples: np.ndarray) -> None:
    level_db = 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)))
    gain = level_gain(to_power(rows(samples), FRONT_END), FRONT_END, level_db)
    assert 10 * np.log10(gain) == pytest.approx(0, abs=0.5)


def test_a_log_mel_at_another_level_is_that_of_louder_samples() -> None:
    samples = sounds.noise(32_000, level=0.01, seed=1)
    level_db = 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)))
    louder = at_level(rows(samples), FRONT_END, level_db + 20)
    assert louder == pytest.approx(rows(samples * 10), abs=0.02)


def test_silence_stays_silent_and_the_gain_has_an_end() -> None:
    silence = rows(np.zeros(32_000, np.float32))
    assert at_level(silence, FRONT_END, -24) == pytest.approx(silence, abs=1e-3)
    power = to_power(rows(sounds.noise(32_000, level=1e-4, seed=2)), FRONT_END)
    assert level_gain(power, FRONT_END, 0) == pytest.approx(np.exp(DB * MAX_GAIN_DB))
    assert to_log_mel(power, FRONT_END).max() <= 1
