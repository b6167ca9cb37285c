"""Write audio files, the same bytes for the same samples."""

from __future__ import annotations

import contextlib
import os
import zlib
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import soundfile

from dymn_cli.audio.ogg import set_serial
from dymn_cli.audio.resample import resampled
from dymn_cli.errors import OutputError, UsageError, os_error_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

__all__ = ["BLOCK_FRAMES", "at_held_rate", "can_hold", "write_audio", "write_blocks"]

CANNOT_HOLD = frozenset({1, 4})  # sf_error numbers: a format, or a coding of it, that is not for this
FEW_RATES = "only supports sample rates"  # how libsndfile refuses one, under numbers that change
SYSTEM_ERROR = 2
SET_ADD_PEAK_CHUNK = 0x1050  # a command of libsndfile
WITH_PEAKS = frozenset({"WAV", "WAVEX", "AIFF", "CAF"})  # to others, the command would add the chunk
BLOCK_FRAMES = 1 << 16  # libsndfile's Vorbis encoder overflows the stack on very long writes

RATES_HZ = {
    "MPEG_LAYER_III": (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
    "OPUS": (8000, 12_000, 16_000, 24_000, 48_000),
}
MAX_VORBIS_HZ, MAX_VORBIS_CHANNELS = 200_000, 255


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
        target: a path, overwritten where it exists, or a file object that can seek and, for Ogg, read.
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
    write_blocks(target, [samples], rate_hz, channels, name=name, container=container, codec=codec)


def write_blocks(
    target: str | os.PathLike[str] | BinaryIO | int,
    blocks: Iterable[NDArray[Any]],
    rate_hz: int,
    channels: int,
    *,
    name: str,
    container: str,
    codec: str | None = None,
) -> None:
    """Write samples that come block by block; all else as for `write_audio`.

    Args:
        target: also the descriptor of a file, which stays open, and which Ogg is also read from.
        blocks: (n,) or (n, channels) each; how long they are changes no byte of the file.
        rate_hz: samples per second.
        channels: of all blocks.
        name: what errors call the file.
        container: see `write_audio`.
        codec: likewise.

    Raises:
        UsageError: see `write_audio`.
        OutputError: likewise.
    """
    is_ogg, serial = container == "OGG", 0
    is_vorbis = is_ogg and codec in (None, "VORBIS")
    if is_vorbis and (rate_hz > MAX_VORBIS_HZ or channels > MAX_VORBIS_CHANNELS):  # libsndfile would crash
        raise UsageError(f"{name}: Vorbis does not hold {rate_hz} Hz, {channels} channels")
    try:
        with soundfile.SoundFile(
            target,
            "w",
            rate_hz,
            channels,
            subtype=codec,
            format=container,
            closefd=not isinstance(target, int),
        ) as sound:
            if container in WITH_PEAKS:
                _leave_out_peaks(sound)
            for block in _even(blocks):
                sound.write(block)
                if is_ogg:
                    serial = zlib.crc32(block.tobytes(), serial)
        if is_ogg:
            _set_serial(target, serial)
    except soundfile.LibsndfileError as exc:
        reason = exc.error_string.removeprefix("System error : ").removeprefix("Error : ").rstrip(".").lower()
        if exc.code == SYSTEM_ERROR and "system" in reason:  # libsndfile does not say which
            reason = "the disk may be full"
        kind = UsageError if exc.code in CANNOT_HOLD or FEW_RATES in reason else OutputError
        raise kind(f"{name}: cannot be written: {reason}") from exc
    except AssertionError as exc:  # soundfile's own: fewer samples went out than were given
        raise OutputError(f"{name}: cannot be written: the disk may be full") from exc
    except (ValueError, TypeError) as exc:
        raise UsageError(f"{name}: {exc}") from exc
    except OSError as exc:
        raise OutputError(os_error_text(f"{name}: cannot be written", exc)) from exc


def _even(blocks: Iterable[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """Blocks of `BLOCK_FRAMES`, but the last of each type: Vorbis depends on how the samples come."""
    held: list[NDArray[Any]] = []
    n_held = 0
    for block in blocks:
        if held and held[0].dtype != block.dtype:
            yield np.concatenate(held)
            held, n_held = [], 0
        rest = block
        while n_held + len(rest) >= BLOCK_FRAMES:
            n_new = BLOCK_FRAMES - n_held
            yield np.concatenate((*held, rest[:n_new])) if held else rest[:n_new]
            held, n_held, rest = [], 0, rest[n_new:]
        if len(rest):
            held.append(rest)
            n_held += len(rest)
    if held:
        yield np.concatenate(held)


def _set_serial(target: str | os.PathLike[str] | BinaryIO | int, serial: int) -> None:
    """Replace the serial number, which libsndfile takes by chance; streams of other samples have others."""
    if isinstance(target, str | os.PathLike | int):
        with open(target, "r+b", closefd=not isinstance(target, int)) as stream:
            set_serial(stream, serial)
    else:
        set_serial(target, serial)


def _leave_out_peaks(sound: soundfile.SoundFile) -> None:
    """Leave out the chunk of peaks of float samples: it holds the time, and equal clips have equal bytes."""
    with contextlib.suppress(AttributeError, TypeError):  # soundfile has no public name for it
        soundfile._snd.sf_command(sound._file, SET_ADD_PEAK_CHUNK, soundfile._ffi.NULL, 0)


def at_held_rate(
    blocks: Iterable[NDArray[Any]], rate_hz: int, channels: int, codec: str | None
) -> tuple[Iterable[NDArray[Any]], int]:
    """Samples at a rate that a coding holds: as they are, else at the next higher one, else at the highest.

    Args:
        blocks: (n, channels) each, floats or int32 over their full range.
        rate_hz: samples per second.
        channels: of all blocks.
        codec: see `write_audio`.

    Returns:
        The blocks, resampled if need be, for `write_blocks`, and their rate.
    """
    rates = RATES_HZ.get(codec or "", (rate_hz,))
    held_hz = next((rate for rate in rates if rate >= rate_hz), rates[-1])
    if codec == "VORBIS":
        held_hz = min(rate_hz, MAX_VORBIS_HZ)
    if held_hz == rate_hz:
        return blocks, rate_hz
    return resampled(map(_floats, blocks), rate_hz, channels, to_hz=held_hz), held_hz


def _floats(block: NDArray[Any]) -> NDArray[np.float32]:
    floats: NDArray[np.float32] = block.astype(np.float32)
    return floats * np.float32(2.0**-31) if block.dtype == np.int32 else floats


def can_hold(container: str, codec: str) -> bool:
    """Whether libsndfile writes a format in that coding."""
    return bool(soundfile.check_format(container, codec))


SUFFIXES = {"oga": "OGG", "opus": "OGG", "aif": "AIFF", "aifc": "AIFF", "wave": "WAV"}


def _container_of(path: str) -> str:
    suffix = PurePath(path).suffix.removeprefix(".").lower()
    container = SUFFIXES.get(suffix, suffix.upper())
    if container not in soundfile.available_formats():
        raise UsageError(f"{path}: the suffix names no audio format that can be written")
    return container
