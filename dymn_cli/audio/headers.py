"""Headers that announce less audio than their file holds, and a view of the file that puts them right.

libsndfile stops where a header tells it to. Two kinds of headers tell it too early:

- WAV written into a pipe by a program that left 0 as the size of the data chunk;
- MP3 without a Xing frame, whose length libsndfile guesses from the bit rate of the first frame (a file
  of variable rate may lose most of itself), and MP3 parts joined end to end, whose one Xing frame counts
  the first part only.

For these, a `CorrectedView` shows libsndfile the same bytes with one field replaced, or a length that is
never reached, so that it reads on to the real end. Sources: RIFF (Microsoft Multimedia Programming
Interface 1.0), ID3v2.4 section 3.1, APEv2, and the Xing/LAME tag as mpg123 reads it.
"""

from __future__ import annotations

import io
import os
import struct
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["CorrectedView", "corrected"]

UNKNOWN_SIZE = b"\xff\xff\xff\xff"  # what libsndfile, FFmpeg and SoX take as "to the end of the file"
ENDLESS = 1 << 40  # far beyond any MP3, and its frame count still fits 63 bits
ID3V1_SIZE = 128
APE_FOOTER_SIZE = 32
SYNC_SEARCH = 4096  # bytes after the ID3v2 tags in which the first MP3 frame must start
XING_SEARCH = 64  # header, CRC and the largest side information come before the Xing mark
JOINED_SLACK = 1 << 16  # bytes beyond the announced ones that may be some unknown tag


class CorrectedView(io.RawIOBase):
    """A read-only view of a file with some bytes replaced and, where asked for, a longer claimed length.

    Args:
        stream: the seekable file; the view moves its position.
        end: where the audio really ends; nothing is read from there on.
        length: what the view says when it is asked for its size.
        patch_at: where the replaced bytes start.
        patch: the bytes to show there.
    """

    def __init__(
        self, stream: BinaryIO, *, end: int, length: int, patch_at: int = 0, patch: bytes = b""
    ) -> None:
        self._stream = stream
        self.end = end
        self._length = length
        self._patch_at = patch_at
        self._patch = patch
        self._position = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, also beyond the real end, as files allow."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer from the position on; 0 at the real end."""
        target = memoryview(buffer).cast("B")
        start = self._position
        if start >= self.end and start == self._length - ID3V1_SIZE:
            # mpg123 gives a file up as unseekable when the place of its ID3v1 tag cannot be read.
            target[:] = bytes(len(target))
            self._position += len(target)
            return len(target)
        self._stream.seek(start)
        data = self._stream.read(max(0, min(len(target), self.end - start)))
        target[: len(data)] = data
        low, high = max(start, self._patch_at), min(start + len(data), self._patch_at + len(self._patch))
        if low < high:
            target[low - start : high - start] = self._patch[low - self._patch_at : high - self._patch_at]
        self._position += len(data)
        return len(data)


def corrected(stream: BinaryIO, container: str) -> CorrectedView | None:
    """Return a view with the header put right, or None where the header can be believed.

    Args:
        stream: the seekable file; its position is left anywhere.
        container: libsndfile's name of the format ("WAV", "MP3", ...).
    """
    if container == "MP3":
        return _corrected_mp3(stream)
    if container in {"WAV", "WAVEX"}:
        return _corrected_wav(stream)
    return None


def _read_at(stream: BinaryIO, position: int, n_bytes: int) -> bytes:
    stream.seek(max(0, position))
    return stream.read(n_bytes)


def _corrected_wav(stream: BinaryIO) -> CorrectedView | None:
    size = stream.seek(0, os.SEEK_END)
    position = 12  # after RIFF, its size, and WAVE
    while len(chunk := _read_at(stream, position, 8)) == 8:
        n_bytes = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            if n_bytes or position + 8 >= size or _is_chunk(stream, position + 8, size):
                return None
            return CorrectedView(stream, end=size, length=size, patch_at=position + 4, patch=UNKNOWN_SIZE)
        position += 8 + n_bytes + n_bytes % 2
    return None


def _is_chunk(stream: BinaryIO, position: int, size: int) -> bool:
    """Whether another chunk follows an empty one; audio samples do not look like one."""
    chunk = _read_at(stream, position, 8)
    name, n_bytes = chunk[:4], int.from_bytes(chunk[4:], "little")
    return len(chunk) == 8 and name.isascii() and name.decode().isprintable() and position + n_bytes <= size


def _corrected_mp3(stream: BinaryIO) -> CorrectedView | None:
    end = _mp3_end(stream)
    start = _mp3_start(stream)
    head = _read_at(stream, start, SYNC_SEARCH + XING_SEARCH + 12)
    sync = next((n for n in range(min(len(head) - 4, SYNC_SEARCH)) if _is_frame(head, n)), None)
    if sync is None:
        return None
    marks = [head.find(mark, sync, sync + XING_SEARCH) for mark in (b"Xing", b"Info")]
    at = max(marks)
    if at < 0:
        return CorrectedView(stream, end=end, length=ENDLESS)
    flags, n_frames, n_bytes = struct.unpack(">III", head[at + 4 : at + 16].ljust(12, b"\0"))
    counts_frames, counts_bytes = flags & 1 and n_frames, flags & 1 and flags & 2
    audio_bytes = end - start - sync
    if counts_frames and not (counts_bytes and audio_bytes > n_bytes * 1.02 + JOINED_SLACK):
        return None
    return CorrectedView(stream, end=end, length=ENDLESS, patch_at=start + at, patch=bytes(4))


def _is_frame(head: bytes, n: int) -> bool:
    """Whether an MPEG audio frame header is at n: sync, and no reserved version, layer, rate."""
    one, two = head[n + 1], head[n + 2]
    return (
        head[n] == 0xFF
        and one & 0xE0 == 0xE0
        and one & 0x18 != 0x08
        and one & 0x06 != 0
        and two & 0xF0 != 0xF0
        and two & 0x0C != 0x0C
    )


def _mp3_start(stream: BinaryIO) -> int:
    """Where the ID3v2 tags at the front end."""
    position = 0
    while (tag := _read_at(stream, position, 10))[:3] == b"ID3" and len(tag) == 10:
        size = sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
        position += 10 + size + (10 if tag[5] & 0x10 else 0)
    return position


def _mp3_end(stream: BinaryIO) -> int:
    """Where the ID3v1 and APEv2 tags at the back start."""
    end = stream.seek(0, os.SEEK_END)
    if end >= ID3V1_SIZE and _read_at(stream, end - ID3V1_SIZE, 3) == b"TAG":
        end -= ID3V1_SIZE
    footer = _read_at(stream, end - APE_FOOTER_SIZE, APE_FOOTER_SIZE) if end >= APE_FOOTER_SIZE else b""
    if footer.startswith(b"APETAGEX"):
        size, flags = struct.unpack_from("<I4xI", footer, 12)
        end -= size + (APE_FOOTER_SIZE if flags >> 31 else 0)
    return max(end, 0)
