"""WAV as programs write it into a pipe, read as it arrives, without a copy.

    ffmpeg -i rtsp://… -f wav - | dymn tag -

A pipe cannot seek, so other formats are copied first (`dymn_cli.audio.decode.spool`). A program that writes
WAV into a pipe cannot go back to fill in the size, and leaves a mark there: such a stream may be endless, and
plain samples need no seeking. A stream whose header has a size is 4 GiB at most, and is copied as well.

Source: RIFF (Microsoft Multimedia Programming Interface 1.0), "WAVE".
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from dymn_cli.audio.chunks import STREAMED_MARKS
from dymn_cli.audio.damage import Damage
from dymn_cli.audio.decoder import to_float32
from dymn_cli.errors import InputError, UsageError, os_error_text
from dymn_cli.results import AudioInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Pipe", "PipedWavDecoder", "is_piped_wav", "open_piped_raw", "open_piped_wav"]

MAX_HEAD = 1 << 16  # bytes before the samples
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
CODINGS = {
    (PCM, 8): ("PCM_U8", "u1"),
    (PCM, 16): ("PCM_16", "<i2"),
    (PCM, 24): ("PCM_24", "<i4"),
    (PCM, 32): ("PCM_32", "<i4"),
    (FLOAT, 32): ("FLOAT", "<f4"),
    (FLOAT, 64): ("DOUBLE", "<f8"),
}
RAW_CODINGS = {  # FFmpeg's names, and how samples lie in memory
    "u8": ("PCM_U8", "u1"),
    "s16le": ("PCM_16", "<i2"),
    "s16be": ("PCM_16", ">i2"),
    "s24le": ("PCM_24", "<i4"),
    "s32le": ("PCM_32", "<i4"),
    "s32be": ("PCM_32", ">i4"),
    "f32le": ("FLOAT", "<f4"),
    "f32be": ("FLOAT", ">f4"),
    "f64le": ("DOUBLE", "<f8"),
}
MAX_RATE_HZ, MAX_CHANNELS = 1_536_000, 255


class Pipe:
    """A stream that cannot seek, whose first bytes can be read ahead.

    Args:
        stream: what is read.
        most_bytes: a longer stream is refused; None for no limit.
    """

    def __init__(self, stream: BinaryIO, most_bytes: int | None = None) -> None:
        self._stream = stream
        self.most_bytes = most_bytes
        self._n_read = 0
        self._ahead = b""

    def seekable(self) -> bool:
        """False."""
        return False

    def peek(self, n_bytes: int) -> bytes:
        """The next `n_bytes`, fewer at the end, without consuming them."""
        while len(self._ahead) < n_bytes and (data := self._take(n_bytes - len(self._ahead))):
            self._ahead += data
        return self._ahead[:n_bytes]

    def read(self, n_bytes: int) -> bytes:
        """The next bytes, `n_bytes` at most; none at the end.

        Raises:
            InputError: the stream is too long.
        """
        if self._ahead:
            data, self._ahead = self._ahead[:n_bytes], self._ahead[n_bytes:]
            return data
        return self._take(n_bytes)

    def _take(self, n_bytes: int) -> bytes:
        data = self._stream.read(n_bytes) or b""
        self._n_read += len(data)
        if self.most_bytes is not None and self._n_read > self.most_bytes:
            raise InputError(
                f"the stream has more than {self.most_bytes:,} bytes", hint="--max-input allows more"
            )
        return data


class _Header(NamedTuple):
    """What comes before the samples.

    Args:
        n_bytes: its length.
        info: the format that it describes.
        width: bytes of a sample.
        dtype: NumPy's name of it; of 24 bits, that of 32.
        n_data: bytes of samples, where the header knows; other chunks may follow them.
    """

    n_bytes: int
    info: AudioInfo
    width: int
    dtype: str
    n_data: int | None = None


class PipedWavDecoder:
    """Plain samples to the end of a pipe.

    Args:
        pipe: at its start.
        header: of it.
        name: what errors call the source.
    """

    slack_s = 0.0

    def __init__(self, pipe: Pipe, header: _Header, name: str) -> None:
        self.info = header.info
        self.damage = Damage()
        self._pipe = pipe
        self._name = name
        self._width = header.width
        self._dtype = header.dtype
        self._n_left = header.n_data
        if header.n_bytes:
            pipe.read(header.n_bytes)

    def read(self, n_frames: int) -> NDArray[np.float32]:
        """The next (n, channels) float32 samples; an incomplete one at the end is dropped."""
        n_frame_bytes = self._width * self.info.channels
        data = bytearray()
        n_bytes = n_frames * n_frame_bytes
        while len(data) < n_bytes and (more := self._read(n_bytes - len(data))):
            data += more
        flat = np.frombuffer(data, np.uint8, len(data) // n_frame_bytes * n_frame_bytes)
        if self._width == 3:  # to the upper bytes of 32 bits
            wide = np.zeros((len(flat) // 3, 4), np.uint8)
            wide[:, 1:] = flat.reshape(-1, 3)
            flat = wide.ravel()
        return to_float32(flat.view(self._dtype).reshape(-1, self.info.channels))

    def _read(self, n_bytes: int) -> bytes:
        if self._n_left is not None:
            n_bytes = min(n_bytes, self._n_left)
        try:
            data = self._pipe.read(n_bytes) if n_bytes else b""
        except InputError as error:
            raise InputError(f"{self._name}: {error.message}", hint=error.hint) from error
        except (OSError, ValueError) as exc:  # ValueError: it is closed
            raise InputError(os_error_text(f"{self._name}: cannot be read", exc)) from exc
        if self._n_left is not None:
            self._n_left -= len(data)
        return data

    def close(self) -> None:
        """Nothing to close."""


def is_piped_wav(pipe: Pipe) -> bool:
    """Whether it is a WAV stream of unknown length; nothing is consumed."""
    return _header(pipe) is not None


def open_piped_wav(pipe: Pipe, name: str, *, with_size: bool = False) -> PipedWavDecoder | None:
    """Read the header of a WAV stream of unknown length; None, with nothing read, for any other stream.

    Args:
        pipe: at its start.
        name: what errors call the source.
        with_size: also take a stream whose header says how long it is, and stop there.

    Raises:
        OSError: the pipe cannot be read.
    """
    header = _header(pipe, with_size=with_size)
    return None if header is None else PipedWavDecoder(pipe, header, name)


def open_piped_raw(pipe: Pipe, form: str, name: str) -> PipedWavDecoder:
    """Take a stream of bare samples.

    Args:
        pipe: at its start.
        form: coding, rate and channels, such as `s16le:48000:1`.
        name: what errors call the source.

    Raises:
        UsageError: a form that is none of these.
    """
    coding, *numbers = form.split(":")
    if coding not in RAW_CODINGS or len(numbers) != 2 or not all(_is_number(text) for text in numbers):
        raise UsageError(
            f"--raw {form!r} is no form of samples",
            hint=f"CODING:RATE:CHANNELS such as s16le:48000:1; codings: {', '.join(RAW_CODINGS)}",
        )
    rate_hz, channels = map(int, numbers)
    if not (0 < rate_hz <= MAX_RATE_HZ and 0 < channels <= MAX_CHANNELS):
        raise UsageError(
            f"--raw {form!r}: the rate must be 1 to {MAX_RATE_HZ} Hz, the channels 1 to {MAX_CHANNELS}"
        )
    codec, dtype = RAW_CODINGS[coding]
    width = 3 if codec == "PCM_24" else int(dtype[-1])
    return PipedWavDecoder(
        pipe, _Header(0, AudioInfo(rate_hz, channels, None, "RAW", codec), width, dtype), name
    )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9


def _header(pipe: Pipe, *, with_size: bool = False) -> _Header | None:
    head = pipe.peek(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None
    position, form = 12, b""
    while position < MAX_HEAD:
        head = pipe.peek(position + 8)
        if len(head) < position + 8:
            return None
        name, size = struct.unpack_from("<4sI", head, position)
        position += 8
        if name == b"data":
            break
        if position + size > MAX_HEAD:
            return None
        if name == b"fmt ":
            form = pipe.peek(position + size)[position:]
        position += size + size % 2
    else:
        return None
    has_size = size not in STREAMED_MARKS and size > 0
    if (size not in STREAMED_MARKS and not with_size) or len(form) < 16:
        return None
    tag, channels, rate_hz, _, align, n_bits = struct.unpack_from("<HHIIHH", form)
    if tag == EXTENSIBLE and len(form) >= 26:
        (tag,) = struct.unpack_from("<H", form, 24)
    coding = CODINGS.get((tag, n_bits))
    if coding is None or not channels or align != channels * n_bits // 8:
        return None
    codec, dtype = coding
    info = AudioInfo(rate_hz, channels, None, "WAV", codec)
    return _Header(position, info, n_bits // 8, dtype, size if has_size else None)
