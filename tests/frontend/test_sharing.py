"""Sharing frames between overlapping windows changes nothing but the time it takes."""

from __future__ import annotations

import numpy as np
import pytest
import sounds

from dymn_cli.frontend.logmel import LogMel
from dymn_cli.frontend.melbank import FRAMEWISE, FrontEndConfig
from dymn_cli.frontend.sharing import SharedLogMel

N_WINDOW = 96_000


@pytest.fixture(scope="module")
def recording() -> np.ndarray:
    sweep = sounds.sweep(200, 300, 20, level=0.3)
    return sweep + sounds.noise(len(sweep), level=0.05, seed=3)


@pytest.mark.parametrize(
    "hop",
    [320, 3_200, 16_000, 32_000, 95_680, 96_000, 5_000, 321],
    ids=["10ms", "100ms", "0.5s", "1s", "almost all", "no overlap", "off the grid", "one sample off"],
)
def test_a_window_has_the_same_bits_as_on_its_own(recording: np.ndarray, hop: int) -> None:
    log_mel = LogMel()
    shared = SharedLogMel(log_mel)
    for start in range(0, min(40 * hop, len(recording) - N_WINDOW), hop):
        window = recording[start : start + N_WINDOW]
        np.testing.assert_array_equal(shared(start, window), log_mel(window))


def test_the_last_window_may_lie_off_the_grid(recording: np.ndarray) -> None:
    log_mel = LogMel()
    shared = SharedLogMel(log_mel)
    for start in (0, 32_000, 64_000, 77_777, 109_777):
        window = recording[start : start + N_WINDOW]
        np.testing.assert_array_equal(shared(start, window), log_mel(window))


@pytest.mark.parametrize("config", [FrontEndConfig(n_hop=160, n_mels=64), FRAMEWISE], ids=["5ms", "16kHz"])
def test_it_holds_for_other_front_ends(recording: np.ndarray, config: FrontEndConfig) -> None:
    log_mel = LogMel(config)
    shared = SharedLogMel(log_mel)
    for start in range(0, 32_000, 1_600):
        window = recording[start : start + N_WINDOW]
        np.testing.assert_array_equal(shared(start, window), log_mel(window))


def test_frames_are_taken_over_not_computed_again(
    recording: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_mel = LogMel()
    computed = []
    original = LogMel.__call__

    def counting(self: LogMel, samples: np.ndarray) -> np.ndarray:
        computed.append(samples.shape[-1])
        return original(self, samples)

    monkeypatch.setattr(LogMel, "__call__", counting)
    shared = SharedLogMel(log_mel)
    for start in range(0, 10 * 3_200, 3_200):
        shared(start, recording[start : start + N_WINDOW])
    assert sum(computed) < 2 * N_WINDOW
