"""The same log-mel whichever kernels of linear algebra the processor gets, and wherever a frame stands.

OpenBLAS picks its kernels by the processor; `OPENBLAS_CORETYPE` picks others that the processor can run.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sounds
from numpy.typing import NDArray

from dymn_cli.frontend import FrontEndConfig, LogMel
from dymn_cli.frontend.halving import halved
from dymn_cli.frontend.melbank import FRAMEWISE

KERNELS = ("Haswell", "Zen", "SkylakeX", "Sandybridge", "Prescott")
CONFIGS = (FrontEndConfig(), FrontEndConfig(n_mels=40), FrontEndConfig(n_mels=256, n_hop=160))

SCRIPT = """
import hashlib, sys
import numpy as np
from dymn_cli.frontend import LogMel
from dymn_cli.frontend.sharing import SharedLogMel

np.ones((300, 300), np.float32) @ np.ones((300, 300), np.float32)  # ends here where the processor cannot
x = np.frombuffer(sys.stdin.buffer.read(), np.float32)
log_mel = LogMel()
shared = SharedLogMel(log_mel)
for start in range(0, 160_000, 320 * 7):
    window = x[start : start + 96_000]
    assert np.array_equal(shared(start, window), log_mel(window)), f"frames differ at {start}"
print(hashlib.sha256(log_mel(x).tobytes()).hexdigest())
"""


@pytest.mark.parametrize("kernel", KERNELS)
def test_shared_frames_are_exact_and_the_bits_are_the_same(
    kernel: str, repository: Path, pink_10s: NDArray[np.float32]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=pink_10s.tobytes(),
        capture_output=True,
        env={**os.environ, "OPENBLAS_CORETYPE": kernel},
        cwd=repository,
        timeout=60,
    )
    if done.returncode == -signal.SIGILL:
        pytest.skip(f"this processor cannot run OpenBLAS's kernels for {kernel}")
    assert done.returncode == 0, done.stderr.decode()
    here = hashlib.sha256(LogMel()(pink_10s).tobytes()).hexdigest()
    assert done.stdout.decode().strip() == here


@pytest.mark.parametrize("config", CONFIGS)
def test_a_sound_that_repeats_every_hop_has_equal_frames(config: FrontEndConfig) -> None:
    period = sounds.flat_noise(config.n_hop, level=0.5, seed=5)
    mel = LogMel(config)(np.tile(period, 400))[0, 0]
    edge = -(-config.n_window // config.n_hop)
    inner = mel[:, edge:-edge]
    np.testing.assert_array_equal(inner, np.broadcast_to(inner[:, :1], inner.shape))


@pytest.mark.parametrize(
    "config",
    [
        *CONFIGS,
        FrontEndConfig(n_mels=1),
        FrontEndConfig(n_mels=512, n_fft=256, n_window=200),  # most bands hold no bin
        FrontEndConfig(fmin_hz=3_000, fmax_hz=16_000),
        FrontEndConfig(rate_hz=16_000, n_fft=512, n_window=400, n_hop=160, n_mels=64, fmax_hz=8_000),
        FRAMEWISE,
    ],
)
def test_it_is_the_mel_bank_times_the_power(config: FrontEndConfig) -> None:
    from numpy.lib.stride_tricks import sliding_window_view

    from dymn_cli.frontend.melbank import hann_window, mel_bank

    x = sounds.flat_noise(20_000, level=0.5, seed=2)
    y = (halved(x) if config.halves else x).astype(np.float64)
    emphasised = y[1:] - config.preemphasis * y[:-1]
    padded = np.pad(emphasised, config.n_fft // 2, mode="reflect")
    window = np.zeros(config.n_fft)
    left = (config.n_fft - config.n_window) // 2
    window[left : left + config.n_window] = hann_window(config)
    frames = sliding_window_view(padded, config.n_fft)[:: config.n_hop]
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    mel = np.maximum(power @ mel_bank(config).T + config.log_offset, config.log_floor)
    expected = (np.log(mel) + config.shift) / config.scale
    np.testing.assert_allclose(LogMel(config)(x)[0, 0], expected.T, rtol=0, atol=2e-5)
