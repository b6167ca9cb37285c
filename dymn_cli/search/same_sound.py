"""Whether two recordings hold the same sound: their spectrograms, slid along each other.

An embedding says what a recording sounds like, and a coder changes that: MP3 of 32 kbit/s takes away all
above 8 kHz. What it leaves is the same moment by moment, which two recordings of two events never are. So a
recording becomes a picture of 24 bands between 150 Hz and 4 kHz, every 16 ms, in decibels, of which the mean
of each band and of each moment is taken away: that is, loudness and colour. Of all shifts at which at least
0.6 of the shorter picture overlaps the other, the highest correlation counts. Nothing is said of sounds that
are shorter than 0.11 s or too even, such as a steady tone.

For copies as MP3 of 32 kbit/s it was 0.87 or more (99 %), with a tenth cut off at each end 0.66 or more; for
different recordings among the 880 likeliest pairs of 26 sources, up to 0.71. A copy at another pitch has
another picture.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.audio.decode import open_audio
from dymn_cli.audio.resample import RATE_HZ, to_mono_32k
from dymn_cli.audio.windows import between
from dymn_cli.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.search.matrix import Place

__all__ = ["SAME", "SameSound", "picture", "slid"]

SAME = 0.75
"""Correlation from which on two recordings hold the same sound."""
MAX_S = 30.0
N_FFT, HOP, N_BANDS = 2_048, 512, 24
LOW_HZ, HIGH_HZ = 150.0, 4_000.0
FLOOR = 1e-6  # of the loudest moment: 60 dB below it, coders write what they like
LEAST_VARIANCE = 0.05  # of a picture: a steady tone or hum has nothing to tell it by
OVERLAP, OF_ENERGY = 0.6, 0.5  # shares of the shorter picture
FEWEST_FRAMES = 4
KEPT = 1_000  # pictures: 180 kB each at most


class SameSound:
    """Compares the recordings of a library.

    Args:
        path_of: where the audio of a source is; raises an `InputError` where it is nowhere.
    """

    def __init__(self, path_of: Callable[[str], str]) -> None:
        self._path_of = path_of
        self._picture = lru_cache(KEPT)(self._read)

    def __call__(self, one: Place, other: Place) -> bool | None:
        """Whether two rows are of the same sound; None if that cannot be told, or one cannot be read."""
        first, second = self._picture(one), self._picture(other)
        return None if first is None or second is None else slid(first, second) >= SAME

    def _read(self, place: Place) -> NDArray[np.float32] | None:
        end_s = min(place.end_s, place.start_s + MAX_S)
        channel = place.channel if place.channel.isdigit() else "mix"
        try:
            with open_audio(self._path_of(place.source)) as reader:
                first, last = round(place.start_s * RATE_HZ), round(end_s * RATE_HZ)
                blocks = list(between(to_mono_32k(reader, channel), first, last))
        except (InputError, OSError):
            return None
        return picture(np.concatenate(blocks)) if blocks else None


def picture(samples: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The picture (n_frames, n_bands) of a sound (n,) at 32 kHz; None if it is too short or too even."""
    if len(samples) < N_FFT + (FEWEST_FRAMES - 1) * HOP:
        return None
    frames = np.lib.stride_tricks.sliding_window_view(samples, N_FFT)[::HOP]
    window = np.hanning(N_FFT).astype(np.float32)
    power = np.empty((len(frames), N_BANDS), np.float32)
    bank, loudest = _bank(), 0.0
    for at in range(0, len(frames), 256):
        spectra = np.abs(np.fft.rfft(frames[at : at + 256] * window)) ** 2
        loudest = max(loudest, float(spectra.sum(axis=1).max()))
        power[at : at + 256] = spectra @ bank
    if not 0 < loudest < np.inf:
        return None
    level = np.log(power + np.float32(FLOOR * loudest))
    level -= level.mean(axis=0)
    level -= level.mean(axis=1, keepdims=True)
    if np.square(level).mean() < LEAST_VARIANCE:
        return None
    return np.asarray(level, np.float32)


@lru_cache(1)
def _bank() -> NDArray[np.float32]:
    """(n_bins, n_bands): which bins of the spectrum each band has; the lowest bands have one or two."""
    hertz = np.fft.rfftfreq(N_FFT, 1 / RATE_HZ)
    edges = np.geomspace(LOW_HZ, HIGH_HZ, N_BANDS + 1)
    return ((hertz[:, np.newaxis] >= edges[:-1]) & (hertz[:, np.newaxis] < edges[1:])).astype(np.float32)


def slid(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The highest correlation of two pictures at any shift."""
    n, m = len(one), len(other)
    size = 1 << (n + m - 1).bit_length()
    spectra = np.fft.rfft(one, size, axis=0) * np.conj(np.fft.rfft(other, size, axis=0))
    shifts = np.arange(1 - m, n)
    products = np.fft.irfft(spectra.sum(axis=1), size)[shifts % size]
    start, end = np.maximum(shifts, 0), np.minimum(shifts + m, n)
    first, second = _up_to(one), _up_to(other)
    energy = first[end] - first[start], second[end - shifts] - second[start - shifts]
    shorter, total = (energy[0], first[-1]) if n <= m else (energy[1], second[-1])
    is_enough = (end - start >= max(OVERLAP * min(n, m), FEWEST_FRAMES)) & (shorter >= OF_ENERGY * total)
    if not is_enough.any():
        return 0.0
    correlations = products / np.sqrt(np.maximum(energy[0] * energy[1], 1e-9))
    return float(correlations[is_enough].max())


def _up_to(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n + 1,) energy before each frame."""
    return np.concatenate([[0.0], np.cumsum(np.square(values, dtype=np.float64).sum(axis=1))])
