"""Synthesise the clips of the benchmark, so that everyone measures the same.

Ten seconds of 44.1 kHz stereo: gliding tones with overtones, each at its own place between the channels, over
noise that falls off towards high frequencies. They are as hard to decode as music.
"""

from __future__ import annotations

import io
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.audio.encode import write_audio
from dymn_cli.errors import OutputError, os_errors_as

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CLIP_S", "FORMATS", "RATE_HZ", "copies", "synthesise", "write_long", "write_originals"]

FORMATS = ("wav", "flac", "mp3", "ogg")
CLIP_S = 10
RATE_HZ = 44_100

N_ORIGINALS = 4
N_VOICES = 3
N_OVERTONES = 5
# MP3 streams joined end to end are one stream, so a day of audio is written at the speed of the disk. At each
# seam the coder adds some milliseconds: with this length, ten minutes are exactly sixty windows.
MINUTE_S = 59.9
XING = struct.Struct(">III")  # flags, MPEG frames, bytes: after the mark in the first frame
XING_SEARCH = 64  # bytes that contain the mark


def synthesise(duration_s: float, seed: int) -> NDArray[np.float32]:
    """A sound of that length: (n, 2) float32 in [-1, 1], the same for the same seed."""
    rng = np.random.default_rng(seed)
    n_samples = round(duration_s * RATE_HZ)
    t = np.arange(n_samples) / RATE_HZ
    left, right = np.zeros(n_samples), np.zeros(n_samples)
    for _ in range(N_VOICES):
        start_hz, drift, place = rng.uniform(100, 800), rng.uniform(-0.05, 0.05), rng.uniform(0.2, 0.8)
        phase = 2 * np.pi * start_hz * (t + drift * t**2 / 2)
        tone = sum((np.sin(k * phase) / k for k in range(1, N_OVERTONES + 1)), np.zeros(n_samples))
        left += place * tone
        right += (1 - place) * tone
    both = np.stack([left, right], axis=1) / np.abs([left, right]).max()
    noise = rng.standard_normal((n_samples, 2))
    noise[1:] += noise[:-1]
    sound: NDArray[np.float64] = 0.5 * both + 0.02 * noise
    return sound.clip(-1, 1).astype(np.float32)


def write_originals(folder: Path, formats: Sequence[str] = FORMATS) -> dict[str, list[Path]]:
    """Write a few clips in each format.

    Raises:
        OutputError: they cannot be written.
    """
    sounds = [synthesise(CLIP_S, seed) for seed in range(N_ORIGINALS)]
    written: dict[str, list[Path]] = {}
    for form in formats:
        written[form] = [folder / f"original-{n}.{form}" for n in range(N_ORIGINALS)]
        for path, sound in zip(written[form], sounds, strict=True):
            write_audio(path, sound, RATE_HZ)
    return written


def copies(originals: Sequence[Path], folder: Path, n_clips: int) -> list[Path]:
    """Write `n_clips` copies of the originals, unless they exist.

    Raises:
        OutputError: they cannot be written.
    """
    paths = []
    with os_errors_as(OutputError, folder):
        folder.mkdir(exist_ok=True)
        for n in range(n_clips):
            original = originals[n % len(originals)]
            path = folder / f"clip-{n:04d}{original.suffix}"
            if not path.exists():
                shutil.copyfile(original, path)
            paths.append(path)
    return paths


def write_long(path: Path, minutes: int) -> None:
    """Write one long recording: the same minute again and again, as one MP3 stream.

    Raises:
        OutputError: it cannot be written.
    """
    minute = io.BytesIO()
    write_audio(minute, synthesise(MINUTE_S, seed=0), RATE_HZ, container="MP3")
    stream = minute.getvalue()
    head = _counting(stream, minutes)
    with os_errors_as(OutputError, path):
        if shutil.disk_usage(path.parent).free < 1.1 * minutes * len(stream):
            raise OutputError(
                f"{path.parent}: no space for {minutes * len(stream) / 1e9:.1f} GB",
                hint="set TMPDIR to another place, or give --long fewer hours",
            )
        with path.open("wb") as file:
            file.write(head)
            for _ in range(minutes - 1):
                file.write(stream)


def _counting(stream: bytes, n_times: int) -> bytes:
    """An MP3 stream whose Xing frame counts the frames and bytes of `n_times` such streams."""
    at = max(stream.find(mark, 0, XING_SEARCH) for mark in (b"Xing", b"Info"))
    flags, n_frames, n_bytes = XING.unpack_from(stream, at + 4)
    # Each stream that follows has one frame more than it counts: its own Xing frame, which is silent.
    counts = XING.pack(flags, n_frames * n_times + n_times - 1, n_bytes * n_times)
    return b"".join((stream[: at + 4], counts, stream[at + 4 + XING.size :]))
