"""Write audio files: the demo clips, and the clips that benchmarks and tests read back."""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import soundfile

from dymn_cli.errors import OutputError, UsageError, os_error_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["write_audio"]

BLOCK_FRAMES = 1 << 16  # libsndfile's Vorbis encoder overflows the stack on very long writes


def write_audio(
    target: str | os.PathLike[str] | BinaryIO,
    samples: NDArray[Any],
    rate_hz: int,
    *,
    container: str | None = None,
    codec: str | None = None,
) -> None:
    """Write samples to a file or an open binary file object, in any format that libsndfile writes.

    Args:
        target: a path, overwritten where it exists, or a file object that can seek.
        samples: (n,) or (n, channels), floats in [-1, 1] (clipped there by integer codings) or int16 or
            int32 over their full range.
        rate_hz: samples per second.
        container: libsndfile's name of the format, such as "WAV", "RF64", "FLAC", "OGG", "MP3", "AIFF",
            "CAF", "W64", "AU"; by default the one that the path's suffix names.
        codec: its name of the coding, such as "PCM_16", "PCM_24", "FLOAT", "VORBIS", "OPUS"; by default
            the usual one of the format.

    Raises:
        UsageError: a format that does not exist, or cannot hold this rate or these channels.
        OutputError: the file cannot be written.
    """
    samples = np.asarray(samples)
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    if isinstance(target, str | os.PathLike):
        container = container or _container_of(os.fspath(target))
        name = os.fspath(target)
    else:
        name = getattr(target, "name", "audio")
    if container is None:
        raise UsageError("an open file has no suffix that would name its audio format", hint="give container")
    try:
        with soundfile.SoundFile(target, "w", rate_hz, channels, subtype=codec, format=container) as sound:
            for start in range(0, len(samples), BLOCK_FRAMES):
                sound.write(samples[start : start + BLOCK_FRAMES])
    except soundfile.LibsndfileError as exc:
        raise OutputError(f"{name}: cannot be written: {exc.error_string.rstrip('.').lower()}") from exc
    except (ValueError, TypeError) as exc:
        raise UsageError(f"{name}: {exc}") from exc
    except OSError as exc:
        raise OutputError(os_error_text(f"{name}: cannot be written", exc)) from exc


SUFFIXES = {"oga": "OGG", "opus": "OGG", "aif": "AIFF", "aifc": "AIFF", "wave": "WAV"}


def _container_of(path: str) -> str:
    suffix = PurePath(path).suffix.removeprefix(".").lower()
    container = SUFFIXES.get(suffix, suffix.upper())
    if container not in soundfile.available_formats():
        raise UsageError(f"{path}: the suffix names no audio format that can be written")
    return container
