"""New sounds from old log-mels: mixes of one to three clips, in the power domain.

Sounds add up in power, not in logarithms: each clip is taken back to mel power, gets a gain, a tilt and band
limits, is shifted along time and frequency and played slower or faster, and is added to the others, with
noise of some colour; the sum becomes a log-mel again. A teacher that hears the same mix says what is in it,
so a mix needs no labels, and a small corpus becomes a large one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.frontend import FrontEndConfig

__all__ = ["MixOptions", "mix_log_mels"]

DB = math.log(10) / 10  # nepers of power in a decibel


@dataclass(frozen=True, slots=True)
class MixOptions:
    """What a mix may be made of; levels in dB of power.

    Args:
        n_clips: probabilities of one, two, three, … clips.
        gain_db: of the whole, uniform.
        below_db: how far a further clip lies below the first, uniform.
        tilt_db: from the lowest to the highest band, uniform, either way; of each clip.
        limit: probability that a clip loses what is above, or below, some band.
        shift_bands: a clip moves up or down by so many bands at most.
        speed: a clip is played up to so much faster or slower.
        place_once: probability that a further clip shorter than the window is heard once, not repeated.
        alone: probability that the first is, too, or a piece of it, and so has quiet around it.
        shortest: of such a piece, as a share of the window.
        noise: probability of noise.
        noise_below_db: how far it lies below the clips, uniform.
    """

    n_clips: tuple[float, ...] = (0.45, 0.4, 0.15)
    gain_db: tuple[float, float] = (-14.0, 8.0)
    below_db: tuple[float, float] = (0.0, 20.0)
    tilt_db: float = 8.0
    limit: float = 0.12
    shift_bands: int = 5
    speed: float = 1.2
    place_once: float = 0.5
    alone: float = 0.3
    shortest: float = 0.08
    noise: float = 0.3
    noise_below_db: tuple[float, float] = (0.0, 35.0)


def mix_log_mels(
    clips: list[NDArray[np.float16]],
    n_frames: int,
    front_end: FrontEndConfig,
    options: MixOptions,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """One mix.

    Args:
        clips: each (n, n_mels), of any length; the first is always heard.
        n_frames: length of the mix.
        front_end: that the log-mels were made with.
        options: what may be done to them.
        generator: draws all that is random.

    Returns:
        (n_mels, n_frames) float32.
    """
    total = np.zeros((n_frames, front_end.n_mels), np.float32)
    level = 0.0
    for number, clip in enumerate(clips):
        once = generator.random() < (options.place_once if number else options.alone)
        longest = n_frames
        if once and number == 0:
            longest = math.ceil(n_frames * options.shortest ** generator.random())
        rows = _in_time(clip, n_frames, generator, longest=longest, once=once, speed=options.speed)
        power = np.exp(rows.astype(np.float32) * front_end.scale - front_end.shift) - front_end.log_offset
        power = _in_frequency(np.maximum(power, 0.0), generator, options)
        loudness = float(power.mean())
        if loudness <= 0:
            continue
        if number == 0 or level == 0:
            level = loudness
            factor = 1.0
        else:
            factor = level / loudness * math.exp(-DB * generator.uniform(*options.below_db))
        lead = 0 if len(power) == n_frames else int(generator.integers(0, n_frames - len(power) + 1))
        total[lead : lead + len(power)] += np.float32(factor) * power
    if generator.random() < options.noise:
        total += _noise(total.shape, level, generator, options)
    total *= np.float32(math.exp(DB * generator.uniform(*options.gain_db)))
    log_mel = (np.log(total + np.float32(front_end.log_offset)) + front_end.shift) / front_end.scale
    return np.ascontiguousarray(log_mel.T, dtype=np.float32)


def _in_time(
    clip: NDArray[np.float16],
    n_frames: int,
    generator: np.random.Generator,
    *,
    longest: int,
    once: bool,
    speed: float,
) -> NDArray[np.float16]:
    """Frames of a clip: a piece of one that is too long; a shorter one repeated from anywhere, or `once`."""
    pace = math.exp(generator.uniform(-1, 1) * math.log(speed)) if speed > 1 else 1.0
    there = max(int(len(clip) / pace), 1)  # frames it lasts at this pace
    if there > longest:
        first = int(generator.integers(0, there - longest + 1))
        places = np.arange(first, first + longest)
    elif once:
        places = np.arange(there)
    else:
        places = (np.arange(n_frames) + int(generator.integers(0, there))) % there
    return clip[np.minimum((places * pace).astype(np.int64), len(clip) - 1)]


def _in_frequency(
    power: NDArray[np.float32], generator: np.random.Generator, options: MixOptions
) -> NDArray[np.float32]:
    n_mels = power.shape[1]
    shift = (
        int(generator.integers(-options.shift_bands, options.shift_bands + 1)) if options.shift_bands else 0
    )
    if shift:
        moved = np.zeros_like(power)
        if shift > 0:
            moved[:, shift:] = power[:, :-shift]
        else:
            moved[:, :shift] = power[:, -shift:]
        power = moved
    slope = generator.uniform(-1, 1) * options.tilt_db * DB
    weight = np.exp(slope * np.linspace(-0.5, 0.5, n_mels, dtype=np.float32))
    if generator.random() < options.limit:
        weight[int(generator.integers(n_mels * 5 // 10, n_mels)) :] *= 1e-4
    if generator.random() < options.limit:
        weight[: int(generator.integers(1, n_mels // 4 + 1))] *= 1e-4
    limited: NDArray[np.float32] = power * weight
    return limited


def _noise(
    shape: tuple[int, int], level: float, generator: np.random.Generator, options: MixOptions
) -> NDArray[np.float32]:
    """Noise as a mel bank hears it: the power in a band scatters less the more bins it spans."""
    n_mels = shape[1]
    bins = np.linspace(1.0, 8.0, n_mels)
    scatter = generator.standard_gamma(bins, size=shape) / bins
    slope = generator.uniform(-1, 1) * 20.0 * DB
    colour = np.exp(slope * np.linspace(-0.5, 0.5, n_mels))
    floor = max(level, 1e-4) * math.exp(-DB * generator.uniform(*options.noise_below_db))
    noise: NDArray[np.float32] = (scatter * (colour / colour.mean() * floor)).astype(np.float32)
    return noise
