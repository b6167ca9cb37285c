"""How loud a log-mel is, and the same log-mel at another level.

A network that has learned from loud recordings hears less in quiet ones. So a teacher may hear every sound at
one level, whatever the student hears it at: the student then learns to do without the right level.

The level is the root mean square of the samples, estimated from mel power: the filters of the bank add up to
1 between its edges, and Parseval's theorem gives the mean square from the power of the bins once the
pre-emphasis is taken back.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.frontend.melbank import hann_window, mel_bank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.frontend import FrontEndConfig

__all__ = ["DB", "at_level", "frame_levels", "level_gain", "to_log_mel", "to_power"]

DB = math.log(10) / 10  # nepers of power in a decibel
LEAST_HZ = 50.0  # what is lower counts as if it were there: pre-emphasis leaves next to nothing of it
MAX_GAIN_DB = 40.0


def to_power(log_mel: NDArray[np.floating], front_end: FrontEndConfig) -> NDArray[np.float32]:
    """Mel power of a log-mel, of the same shape."""
    power = log_mel.astype(np.float32)
    power *= np.float32(front_end.scale)
    power -= np.float32(front_end.shift)
    np.exp(power, out=power)
    power -= np.float32(front_end.log_offset)
    return np.maximum(power, 0.0, out=power)


def to_log_mel(power: NDArray[np.float32], front_end: FrontEndConfig) -> NDArray[np.float32]:
    """Log-mel of mel power, of the same shape."""
    log_mel = power + np.float32(front_end.log_offset)
    np.maximum(log_mel, np.float32(front_end.log_floor), out=log_mel)
    np.log(log_mel, out=log_mel)
    log_mel += np.float32(front_end.shift)
    log_mel *= np.float32(1.0 / front_end.scale)
    return log_mel


def level_gain(power: NDArray[np.float32], front_end: FrontEndConfig, level_db: float) -> float:
    """The factor that brings mel power (n_frames, n_mels) to a level.

    Args:
        power: of the whole sound; 1 is the answer where it is silent.
        front_end: that it was made with.
        level_db: root mean square in dB of full scale, a square wave being 0.
    """
    mean_square = float(power.mean(axis=0, dtype=np.float64) @ _weights(front_end))
    if mean_square <= 0:
        return 1.0
    gain_db = level_db - math.log(mean_square) / DB
    return math.exp(DB * min(gain_db, MAX_GAIN_DB))


def frame_levels(power: NDArray[np.float32], front_end: FrontEndConfig) -> NDArray[np.float64]:
    """(n_frames,) level of each frame of mel power (n_frames, n_mels) in dB of full scale."""
    levels: NDArray[np.float64] = np.log(np.maximum(power @ _weights(front_end), 1e-30)) / DB
    return levels


def at_level(
    log_mel: NDArray[np.floating], front_end: FrontEndConfig, level_db: float
) -> NDArray[np.float32]:
    """A log-mel (n_frames, n_mels) as if its sound had a level (see `level_gain`)."""
    power = to_power(log_mel, front_end)
    power *= np.float32(level_gain(power, front_end, level_db))
    return to_log_mel(power, front_end)


@functools.lru_cache(maxsize=8)
def _weights(front_end: FrontEndConfig) -> NDArray[np.float64]:
    """(n_mels,): the mean square of samples is the sum of a frame's mel powers, each by its weight."""
    bank = mel_bank(front_end)
    bins_hz = np.arange(front_end.n_bins) * (front_end.rate_hz / front_end.n_fft)
    centres_hz = (bank @ bins_hz) / np.maximum(bank.sum(axis=1), 1e-12)
    a, angle = front_end.preemphasis, 2 * np.pi * np.maximum(centres_hz, LEAST_HZ) / front_end.rate_hz
    emphasis = 1 + a**2 - 2 * a * np.cos(angle)
    weights: NDArray[np.float64] = 2 / (
        emphasis * front_end.n_fft * float(np.square(hann_window(front_end)).sum())
    )
    return weights
