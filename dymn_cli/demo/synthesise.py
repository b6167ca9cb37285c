"""Synthesise the demo clips: `python -m dymn_cli.demo.synthesise` rewrites them.

The numbers below are physical: frequencies, decay times, tempi. Random ones come from the raw output of
seeded PCG64 generators, which NumPy never changes, so every run writes the same samples.

Every clip gets a room's reverberation, which makes a computed tone sound recorded, to people and to models.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.audio.encode import write_audio

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Signal = NDArray[np.float64]  # (n_samples,), mono, at RATE_HZ, of any level

__all__ = ["CLIPS", "RATE_HZ", "birdsong", "guitar", "pcm16", "plucked_string", "siren", "write_clips"]

RATE_HZ = 32_000  # the rate of the models
PEAK = 0.25  # of full scale: 12 dB of headroom keep the FLAC files small


# ------------------------------------------------------------------ building blocks


def time_s(duration_s: float) -> Signal:
    """The instants of the samples of a sound, in seconds from 0."""
    return np.arange(round(duration_s * RATE_HZ), dtype=np.float64) / RATE_HZ


def white_noise(n_samples: int, seed: int) -> Signal:
    """Evenly distributed values in [-1, 1): the upper 53 bits of PCG64's raw output."""
    raw = np.random.PCG64(seed).random_raw(n_samples)
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1


def phase_of(frequency_hz: Signal) -> Signal:
    """Phase in radians of an oscillator whose frequency is given sample by sample."""
    phase: Signal = 2 * np.pi * np.cumsum(frequency_hz) / RATE_HZ
    return phase


def mix_in(track: Signal, sound: Signal, start_s: float, gain: float = 1.0) -> None:
    """Add a sound to a track in place, up to the end of the track."""
    start = round(start_s * RATE_HZ)
    part = track[start : start + len(sound)]
    part += gain * sound[: len(part)]


def faded_out(sound: Signal, duration_s: float) -> Signal:
    """The sound with a linear fade-out."""
    left_s = (len(sound) - 1 - np.arange(len(sound))) / RATE_HZ
    return sound * np.minimum(left_s / duration_s, 1)


def faded_in(sound: Signal, duration_s: float) -> Signal:
    """The sound with a linear fade-in."""
    return faded_out(sound[::-1], duration_s)[::-1]


def filtered(sound: Signal, gain_at: Callable[[Signal], Signal]) -> Signal:
    """The sound through a zero-phase filter, given as gain over frequency in Hz."""
    n_fft = 2 * len(sound)  # so that the ringing does not wrap around
    frequency_hz = np.arange(n_fft // 2 + 1, dtype=np.float64) * (RATE_HZ / n_fft)
    return np.fft.irfft(np.fft.rfft(sound, n_fft) * gain_at(frequency_hz), n_fft)[: len(sound)]


def band_gain(frequency_hz: Signal, low_hz: float, high_hz: float, order: int) -> Signal:
    """Gain of a Butterworth high-pass and low-pass in a row, each 3 dB down at its corner."""
    below = (low_hz / np.maximum(frequency_hz, 1e-3)) ** (2 * order)
    above = (frequency_hz / high_hz) ** (2 * order)
    gain: Signal = 1 / np.sqrt((1 + below) * (1 + above))
    return gain


def room_gain(frequency_hz: Signal) -> Signal:
    """Gain of a room's echoes: walls absorb the bass, walls and air the treble."""
    return band_gain(frequency_hz, 200, 6000, order=1)


def in_room(sound: Signal, decay_s: float, level: float, seed: int) -> Signal:
    """The sound with the echoes of a room.

    Args:
        sound: the dry sound.
        decay_s: time in which the echoes fall by 60 dB.
        level: amplitude of the echoes of a long noise, relative to it.
        seed: which room.
    """
    t = time_s(decay_s)
    echoes = filtered(white_noise(len(t), seed) * 10 ** (-3 * t / decay_s), room_gain)
    echoes *= level / np.sqrt(np.sum(echoes**2))
    n_fft = len(sound) + len(echoes)
    wet = np.fft.irfft(np.fft.rfft(sound, n_fft) * np.fft.rfft(echoes, n_fft), n_fft)
    return sound + wet[: len(sound)]


# ------------------------------------------------------------------ music: a guitar

Chord = tuple[int | None, ...]

OPEN_STRINGS = (40, 45, 50, 55, 59, 64)  # E2 A2 D3 G3 B3 E4, as MIDI notes
CHORDS: tuple[Chord, ...] = (  # the fret on each string, lowest string first; None is not played
    (0, 2, 2, 0, 0, 0),  # E minor
    (None, 3, 2, 0, 1, 0),  # C
    (None, None, 0, 2, 3, 2),  # D
    (3, 2, 0, 0, 0, 3),  # G
)
BAR_S = 1.6
STROKES = (  # start and end within the bar, downwards?, how hard
    (0.0, 0.5, True, 1.0),
    (0.5, 0.875, True, 0.8),
    (0.875, 1.0, False, 0.45),
)
LAST_STROKES = ((0.0, 1.1, True, 1.0),)
STRING_DECAY_S = 10.0  # in which a fundamental falls by 60 dB
PLUCK_POINT = 0.18  # from the bridge, of the string's length
NEXT_STRING_S = 0.018  # the plectrum moves from one string to the next
DAMPING_S = 0.02  # the hand stops the strings before the next stroke
BODY_MODES = ((105, 25, 1.0), (210, 40, 1.0), (400, 80, 0.5))  # centre and width in Hz, height: air, top, top


def note_hz(midi: int) -> float:
    """Frequency of a note in equal temperament, A4 (69) = 440 Hz."""
    return float(440.0 * 2.0 ** ((midi - 69) / 12))


def pluck(n_samples: int, seed: int) -> Signal:
    """The string's first period: soft noise, without the harmonics that have a node at the plucking point."""
    noise = white_noise(n_samples, seed)
    for _ in range(2):
        noise = (noise + np.roll(noise, 1)) / 2
    noise = noise - np.roll(noise, round(PLUCK_POINT * n_samples))
    loudest: float = np.max(np.abs(noise))
    return noise / loudest


def plucked_string(frequency_hz: float, duration_s: float, seed: int) -> Signal:
    """A string after Karplus and Strong (Computer Music Journal 7(2), 1983).

    A period of noise repeats; each time, neighbouring samples are averaged, which damps the treble first. The
    average delays by half a sample; linear interpolation adds the fraction of a sample by which a period
    exceeds a whole number, so that the string is in tune.
    """
    n_samples = round(duration_s * RATE_HZ)
    period, fraction = divmod(RATE_HZ / frequency_hz - 0.5, 1)
    n = int(period)
    loss = 10 ** (-3 / (frequency_hz * STRING_DECAY_S))
    now, one_back, two_back = loss / 2 * np.array([1 - fraction, 1, fraction])
    string = np.zeros(n_samples + 2 * n + 2)
    string[2 : n + 2] = pluck(n, seed)
    for start in range(n + 2, n_samples + n + 2, n):
        before = string[start - n - 2 : start]
        string[start : start + n] = now * before[2:] + one_back * before[1:-1] + two_back * before[:-2]
    return string[2 : n_samples + 2]


def strummed(chord: Chord, downwards: bool, duration_s: float, seed: int) -> Signal:
    """One stroke over the strings of a chord: downwards goes from the lowest string to the highest."""
    stroke = np.zeros(round(duration_s * RATE_HZ))
    notes = [
        open_string + fret for open_string, fret in zip(OPEN_STRINGS, chord, strict=True) if fret is not None
    ]
    for nth, midi in enumerate(notes if downwards else notes[::-1]):
        start_s = nth * NEXT_STRING_S
        mix_in(stroke, plucked_string(note_hz(midi), duration_s - start_s, seed + nth), start_s)
    return faded_out(stroke, DAMPING_S)


def body_gain(frequency_hz: Signal) -> Signal:
    """Gain of the guitar's body: resonances of the air and of the top, and less treble."""
    gain = band_gain(frequency_hz, 70, 2500, order=1)
    for centre_hz, width_hz, height in BODY_MODES:
        gain = gain * (1 + height * np.exp(-(((frequency_hz - centre_hz) / width_hz) ** 2)))
    return gain


def guitar() -> Signal:
    """E minor, C, D and G on an acoustic guitar, a bar each, strummed down, down, up; the last one rings."""
    track = np.zeros(round((len(CHORDS) + 0.1) * BAR_S * RATE_HZ))
    for bar, chord in enumerate(CHORDS):
        strokes = STROKES if bar < len(CHORDS) - 1 else LAST_STROKES
        for nth, (start, end, downwards, force) in enumerate(strokes):
            stroke = strummed(chord, downwards, (end - start) * BAR_S, seed=100 * bar + 10 * nth)
            mix_in(track, stroke, (bar + start) * BAR_S, force)
    return faded_out(in_room(filtered(track, body_gain), decay_s=0.4, level=0.12, seed=1), 0.3)


# ------------------------------------------------------------------ an animal: a songbird

PHRASE_STARTS_S = (0.2, 3.0)


def glide(from_hz: float, to_hz: float, duration_s: float) -> Signal:
    """A whistled note whose pitch glides evenly, in octaves, from one frequency to another."""
    t = time_s(duration_s) / duration_s
    note: Signal = np.sin(phase_of(from_hz * (to_hz / from_hz) ** t)) * np.sin(np.pi * t)
    return note


def warble(centre_hz: float, depth_hz: float, n_swings: float, duration_s: float) -> Signal:
    """A whistled note whose pitch swings up and down around its centre."""
    t = time_s(duration_s) / duration_s
    note: Signal = np.sin(phase_of(centre_hz + depth_hz * np.sin(2 * np.pi * n_swings * t)))
    return note * np.sin(np.pi * t)


def phrase() -> list[tuple[Signal, float]]:
    """The bird's notes, each with the pause after it in seconds: a rise, a falling trill, a close."""
    rise = [(warble(3900 + 150 * n, 700, 1, 0.09) * (0.6 + 0.1 * n), 0.07) for n in range(4)]
    trill = [(glide(6000 - 120 * n, 3300 - 80 * n, 0.08), 0.06) for n in range(5)]
    low, high = warble(3300, 600, 1.5, 0.12), warble(4600, 900, 0.5, 0.12)
    return [*rise, *trill, (low, 0.08), (high, 0.08), (low, 0.08)]


def birdsong() -> Signal:
    """A songbird's phrase of twelve notes, sung twice.

    Songbirds whistle nearly pure tones, mostly between 2 and 7 kHz, about a tenth of a second each; typical
    is how fast their pitch moves.
    """
    track = np.zeros(round(5.5 * RATE_HZ))
    for start_s in PHRASE_STARTS_S:
        at_s = start_s
        for note, pause_s in phrase():
            mix_in(track, note, at_s)
            at_s += len(note) / RATE_HZ + pause_s
    return in_room(track, decay_s=0.5, level=0.1, seed=2)


# ------------------------------------------------------------------ a signal: a siren

SIREN_LOW_HZ, SIREN_HIGH_HZ = 650, 1500
WAIL_PER_MIN = 18  # California Code of Regulations, title 13, section 1028: 10 to 30 a minute
YELP_PER_MIN = 180  # the same: 150 to 250 a minute
N_HARMONICS = 8


def swept_hz(n_sweeps: int, per_min: float) -> Signal:
    """The siren's pitch: from the lowest to the highest and back, `n_sweeps` times."""
    sweep = 0.5 - 0.5 * np.cos(2 * np.pi * per_min / 60 * time_s(n_sweeps * 60 / per_min))
    pitch_hz: Signal = SIREN_LOW_HZ + (SIREN_HIGH_HZ - SIREN_LOW_HZ) * sweep
    return pitch_hz


def horn_gain(frequency_hz: Signal) -> Signal:
    """Gain of a horn loudspeaker."""
    return band_gain(frequency_hz, 500, 3000, order=2)


def siren() -> Signal:
    """A police car's electronic siren between houses: a slow sweep ("wail"), then four fast ones ("yelp")."""
    phase = phase_of(np.concatenate([swept_hz(1, WAIL_PER_MIN), swept_hz(4, YELP_PER_MIN)]))
    sawtooth = np.zeros(len(phase))
    for k in range(1, N_HARMONICS + 1):
        sawtooth += np.sin(k * phase) / k
    horn = faded_in(filtered(sawtooth, horn_gain), 0.02)
    return faded_out(in_room(horn, decay_s=0.8, level=0.3, seed=3), 0.1)


# ------------------------------------------------------------------ files

CLIPS: dict[str, Callable[[], Signal]] = {
    "guitar.flac": guitar,
    "birdsong.flac": birdsong,
    "siren.flac": siren,
}


def pcm16(signal: Signal) -> NDArray[np.int16]:
    """The signal as 16 bit samples with its maximum at `PEAK`."""
    loudest: float = np.max(np.abs(signal))
    return np.rint(signal * (PEAK * 32767 / loudest)).astype(np.int16)


def write_clips(folder: Path) -> None:
    """Write every clip into a folder, replacing existing files.

    Raises:
        OutputError: a clip cannot be written.
    """
    for name, synthesise in CLIPS.items():
        write_audio(folder / name, pcm16(synthesise()), RATE_HZ)


if __name__ == "__main__":
    write_clips(Path(__file__).parent)
