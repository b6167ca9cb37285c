"""New sounds from old log-mels: mixes of one to three clips, in the power domain.

Sounds add up in power, not in logarithms: each clip is taken back to mel power, is cut, varied and placed,
and is added to the others, with noise of some colour; the sum becomes a log-mel again. A teacher that hears
the same mix gives its scores, so a mix needs no labels, and a small corpus becomes a large one. A mix also
knows where each clip lies and how loud it is there, so the teacher's scores of single clips can be placed in
time (`dymn_cli.train.distill.frame_targets`).

All that is random comes from the generator, in a fixed order; no loop runs over frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.errors import UsageError
from dymn_cli.train.distill.levels import DB, frame_levels, level_gain, to_log_mel, to_power
from dymn_cli.train.recipe_file import check, setting

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.frontend import FrontEndConfig

__all__ = ["Mix", "MixOptions", "Part", "mix_log_mels"]

STOPPED = 1e-4  # what is left of the power of bands that are cut off
QUIETEST = 1e-4  # mean power of clips that noise is measured by, at least
JOINT = (0.2, 0.8)  # where in a mix one clip may follow another, as shares of it
REVERB_S = (0.2, 1.5)  # until the tail has fallen by 60 dB, uniform in the logarithm
REVERB_DB = (-12.0, 3.0)  # of the tail's power to the sound's, uniform
FAR_DB = (15.0, 50.0)  # by which a sound far away is damped in the highest band, uniform
FAR_NOISE_DB = (0.0, 20.0)  # noise below a sound far away, uniform
NOISE_TILT_DB = 20.0
SILENT_DB = (-100.0, -40.0)  # root mean square of the noise in a silent mix, in dB of full scale, uniform
P_NOTHING = 0.2  # there is not even noise in a silent mix
SILENCE_DB = -60.0  # a frame below this level is silent, in dB of full scale
HEARD_DB = -35.0  # a clip sounds where its level is within so much of its peak
MASKED_DB, CLEAR_DB = -20.0, -10.0  # level against all else where a clip is no longer, and fully, heard


@dataclass(frozen=True, slots=True)
class MixOptions:
    """What a mix may be made of; levels in dB of power. What is drawn for a clip is drawn for each anew."""

    p_clips: tuple[float, ...] = setting(
        "probabilities of one, two, three, ... clips", (0.45, 0.38, 0.17), least=0, most=1
    )
    gain_db: tuple[float, float] = setting("of the mix, uniform", (-14.0, 8.0))
    teacher_level_db: float = setting(
        "of what the teacher hears, in dB of full scale; 0: as loud as for the student",
        0.0,
        most=0,
    )
    below_db: tuple[float, float] = setting("a further clip lies below the first, uniform", (-3.0, 20.0))
    p_join: float = setting("the second clip follows the first, not beside it", 0.2, least=0, most=1)
    p_further_once: float = setting("a further clip that is short is not repeated", 0.5, least=0, most=1)
    p_first_once: float = setting("nor is the first, or it is cut to a piece", 0.35, least=0, most=1)
    shortest_piece: float = setting("of the first clip, as a share of the window", 0.06, above=0, most=1)
    p_reverse: float = setting("a clip runs backwards", 0.1, least=0, most=1)
    max_speed: float = setting("a clip is played up to so much faster or slower", 1.25, least=1)
    max_shift_bands: int = setting("a clip moves up or down by so many bands at most", 5, least=0, most=64)
    p_wide: float = setting("the two limits below hold instead, each by itself", 0.2, least=0, most=1)
    wide_max_speed: float = setting("instead of max_speed", 2.0, least=1)
    wide_max_shift_bands: int = setting("instead of max_shift_bands", 16, least=0, most=64)
    max_tilt_db: float = setting("of a clip, from the lowest to the highest band, either way", 8.0, least=0)
    p_equalizer: float = setting("a clip's bands get smooth random gains", 0.4, least=0, most=1)
    equalizer_db: float = setting("standard deviation of these gains", 3.5, least=0)
    p_band_limit: float = setting(
        "a clip loses what is above some band, likewise what is below", 0.12, least=0, most=1
    )
    p_reverb: float = setting("a clip leaves a tail of reverberation", 0.12, least=0, most=1)
    p_far: float = setting("the mix is far away: high bands damped, with noise", 0.08, least=0, most=1)
    p_noise: float = setting("there is noise in another mix", 0.3, least=0, most=1)
    noise_below_db: tuple[float, float] = setting("it lies below the clips, uniform", (0.0, 35.0))
    p_silent: float = setting(
        "a mix is faint noise or nothing, as loud for the teacher as for the student", 0.0, least=0, most=1
    )

    def __post_init__(self) -> None:
        check(self)
        if abs(sum(self.p_clips) - 1) > 1e-6:
            raise UsageError(f"p_clips: their sum is {sum(self.p_clips):g}, not 1")
        for name in ("gain_db", "below_db", "noise_below_db"):
            low, high = getattr(self, name)
            if low > high:
                raise UsageError(f"{name}: {low:g} is more than {high:g}")


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Where in a mix a clip is heard.

    Args:
        clip: its place in the list of clips.
        frames: (n_frames,) which of its own frames each frame of the mix has; the nearest where it has none.
        audible: (n_frames,) float32 from 0, silent or masked, to 1, clear.
    """

    clip: int
    frames: NDArray[np.int64]
    audible: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Mix:
    """A mix.

    Args:
        log_mel: (n_mels, n_frames) float32.
        parts: the clips that are not silent, in their order.
        at_level: the same at the teacher's level; `log_mel` itself where there is no such level.
        silent: (n_frames,) which frames are silent.
    """

    log_mel: NDArray[np.float32]
    parts: tuple[Part, ...]
    at_level: NDArray[np.float32]
    silent: NDArray[np.bool_]


def mix_log_mels(
    clips: list[NDArray[np.float16]],
    n_frames: int,
    front_end: FrontEndConfig,
    options: MixOptions,
    generator: np.random.Generator,
) -> Mix:
    """One mix.

    Args:
        clips: each (n, n_mels), of any length; the first is always heard.
        n_frames: length of the mix.
        front_end: that the log-mels were made with.
        options: what may be done to them.
        generator: draws all that is random.
    """
    total = np.zeros((n_frames, front_end.n_mels), np.float32)
    if options.p_silent and generator.random() < options.p_silent:
        if generator.random() >= P_NOTHING:
            total = _noise(total.shape, 1.0, (0.0, 0.0), generator)
        gain = level_gain(total, front_end, generator.uniform(*SILENT_DB))
        log_mel = _finished(total, gain, front_end)
        return Mix(log_mel, (), log_mel, _silent(total, gain, front_end))
    is_far = generator.random() < options.p_far
    damping = _damping(front_end.n_mels, generator) if is_far else np.float32(1.0)
    joined = len(clips) > 1 and generator.random() < options.p_join
    joint = round(n_frames * generator.uniform(*JOINT)) if joined else 0
    level = 0.0
    heard: list[tuple[int, NDArray[np.int64], NDArray[np.float32]]] = []
    for number, clip in enumerate(clips):
        start, stop = 0, n_frames
        if joined and number < 2:
            start, stop = ((0, joint), (joint, n_frames))[number]
        once = generator.random() < (options.p_further_once if number else options.p_first_once)
        longest = stop - start
        if once and number == 0:
            longest = math.ceil(longest * options.shortest_piece ** generator.random())
        frames = _in_time(clip, stop - start, generator, options, longest=longest, once=once)
        weights = damping * _in_frequency(front_end.n_mels, generator, options)
        power = _power(clip[frames], front_end, _shift(generator, options)) * weights
        loudness = float(power.mean())
        spare = stop - start - len(power)
        first = start + (int(generator.integers(0, spare + 1)) if spare else 0)
        if generator.random() < options.p_reverb:
            power = _reverberate(power, n_frames - first, front_end, generator)
        factor = math.exp(-DB * generator.uniform(*options.below_db)) if heard else 1.0
        if loudness <= 0:
            continue
        level = level or loudness
        power *= np.float32(factor * level / loudness)
        total[first : first + len(power)] += power
        own = np.zeros(n_frames, np.float32)
        own[first : first + len(power)] = power.sum(axis=1)
        heard.append((number, frames[np.clip(np.arange(n_frames) - first, 0, len(frames) - 1)], own))
    if generator.random() < (1.0 if is_far else options.p_noise):
        below_db = FAR_NOISE_DB if is_far else options.noise_below_db
        total += _noise(total.shape, level, below_db, generator)
    gain = math.exp(DB * generator.uniform(*options.gain_db))
    least = max(front_end.log_offset, front_end.log_floor)
    everything = total.sum(axis=1) + np.float32(front_end.n_mels * least / gain)
    parts = tuple(Part(number, frames, _audible(own, everything)) for number, frames, own in heard)
    log_mel = _finished(total, gain, front_end)
    of_teacher = log_mel
    if options.teacher_level_db:
        of_teacher = _finished(total, level_gain(total, front_end, options.teacher_level_db), front_end)
    return Mix(log_mel, parts, of_teacher, _silent(total, gain, front_end))


def _silent(total: NDArray[np.float32], gain: float, front_end: FrontEndConfig) -> NDArray[np.bool_]:
    """(n_frames,) which frames of mel power times a gain are silent."""
    silent: NDArray[np.bool_] = frame_levels(total, front_end) + math.log(gain) / DB < SILENCE_DB
    return silent


def _finished(total: NDArray[np.float32], gain: float, front_end: FrontEndConfig) -> NDArray[np.float32]:
    """The log-mel (n_mels, n_frames) of mel power (n_frames, n_mels) times a gain."""
    return np.ascontiguousarray(to_log_mel(total * np.float32(gain), front_end).T)


def _audible(own: NDArray[np.float32], everything: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far a clip is heard, (n_frames,) from 0 to 1: its level to its peak, and to all else.

    Args:
        own: (n_frames,) power of the clip.
        everything: (n_frames,) power of the mix, with the least that the front end tells from silence.
    """
    sounds = own > own.max() * math.exp(DB * HEARD_DB)
    rest = np.maximum(everything - own, 1e-6 * everything)
    against_db = np.log(np.maximum(own, 1e-30) / rest) / DB
    clear = np.clip((against_db - MASKED_DB) / (CLEAR_DB - MASKED_DB), 0.0, 1.0)
    audible: NDArray[np.float32] = (sounds * clear).astype(np.float32)
    return audible


def _in_time(
    clip: NDArray[np.float16],
    n_frames: int,
    generator: np.random.Generator,
    options: MixOptions,
    *,
    longest: int,
    once: bool,
) -> NDArray[np.int64]:
    """Which frames of a clip are heard: a piece of a long one; a shorter one in a circle, or `once`."""
    fastest = options.wide_max_speed if generator.random() < options.p_wide else options.max_speed
    pace = math.exp(generator.uniform(-1, 1) * math.log(fastest)) if fastest > 1 else 1.0
    there = max(int(len(clip) / pace), 1)  # frames it lasts at this pace
    if there > longest:
        first = int(generator.integers(0, there - longest + 1))
        places = np.arange(first, first + longest)
    elif once:
        places = np.arange(there)
    else:
        places = (np.arange(n_frames) + int(generator.integers(0, there))) % there
    if generator.random() < options.p_reverse:
        places = places[::-1]
    frames: NDArray[np.int64] = np.minimum((places * pace).astype(np.int64), len(clip) - 1)
    return frames


def _shift(generator: np.random.Generator, options: MixOptions) -> int:
    """Bands to move up by."""
    most = options.wide_max_shift_bands if generator.random() < options.p_wide else options.max_shift_bands
    return int(generator.integers(-most, most + 1)) if most else 0


def _power(rows: NDArray[np.float16], front_end: FrontEndConfig, shift: int) -> NDArray[np.float32]:
    """Mel power (n, n_mels) of rows of a log-mel, moved up by some bands; silence moves in."""
    power = to_power(rows, front_end)
    if not shift:
        return power
    moved = np.zeros_like(power)
    if shift > 0:
        moved[:, shift:] = power[:, :-shift]
    else:
        moved[:, :shift] = power[:, -shift:]
    return moved


def _in_frequency(n_mels: int, generator: np.random.Generator, options: MixOptions) -> NDArray[np.float32]:
    """Factors of a clip's bands: tilt, equaliser and band limits."""
    weights = generator.uniform(-1, 1) * options.max_tilt_db * DB * np.linspace(-0.5, 0.5, n_mels)
    if generator.random() < options.p_equalizer:
        gains = generator.normal(0, options.equalizer_db * DB, int(generator.integers(3, 9)))
        weights += np.interp(np.linspace(0, len(gains) - 1, n_mels), np.arange(len(gains)), gains)
    weights = np.exp(weights)
    if generator.random() < options.p_band_limit:
        weights[int(generator.integers(n_mels * 5 // 10, n_mels)) :] *= STOPPED
    if generator.random() < options.p_band_limit:
        weights[: int(generator.integers(1, n_mels // 4 + 1))] *= STOPPED
    return weights.astype(np.float32)


def _damping(n_mels: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """Factors of the bands of what is far away: nothing below some band, more and more above it."""
    first = int(generator.integers(n_mels // 8, n_mels // 2))
    above = np.maximum(np.arange(n_mels) - first, 0) / (n_mels - first)
    return np.exp(-DB * generator.uniform(*FAR_DB) * above).astype(np.float32)


def _reverberate(
    power: NDArray[np.float32], longest: int, front_end: FrontEndConfig, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Add a tail that falls exponentially, and go on with it after the end of the clip.

        y[t] = x[t] + g · (1 − a) · Σ over k ≥ 0 of a^k · x[t − k]

    The sum over 2^m frames is the one over half as many, added to itself later: log2 of the tail's length in
    passes.

    Args:
        power: (n, n_mels) of the clip.
        longest: frames until the end of the mix.
        front_end: that the frames are of.
        generator: draws how long the tail is, and how loud.
    """
    low, high = REVERB_S
    seconds = low * (high / low) ** generator.random()
    n_tail = math.ceil(seconds * front_end.rate_hz / front_end.n_hop)
    decay = 10.0 ** (-6.0 / n_tail)
    share = math.exp(DB * generator.uniform(*REVERB_DB)) * (1.0 - decay)
    n = min(len(power) + n_tail, longest)
    dry = np.zeros((n, power.shape[1]), np.float32)
    dry[: len(power)] = power
    tail = dry.copy()
    span = 1
    while span < min(n_tail, n):
        tail[span:] += np.float32(decay**span) * tail[:-span]
        span *= 2
    tail *= np.float32(share)
    tail += dry
    return tail


def _noise(
    shape: tuple[int, int], level: float, below_db: tuple[float, float], generator: np.random.Generator
) -> NDArray[np.float32]:
    """Noise as a mel bank hears it: the power in a band scatters less the more bins it spans."""
    n_mels = shape[1]
    bins = np.linspace(1.0, 8.0, n_mels, dtype=np.float32)
    slope = generator.uniform(-1, 1) * NOISE_TILT_DB * DB
    colour = np.exp(slope * np.linspace(-0.5, 0.5, n_mels))
    floor = max(level, QUIETEST) * math.exp(-DB * generator.uniform(*below_db))
    weights = (colour / (colour.mean() * bins) * floor).astype(np.float32)
    noise: NDArray[np.float32] = generator.standard_gamma(bins, size=shape, dtype=np.float32) * weights
    return noise
