"""Headers that announce less audio than their file holds, and a view of the file that puts them right.

libsndfile stops where a header tells it to. Two kinds of headers tell it too early:

- WAV written into a pipe by a program that left 0 as the size of the data chunk;
- MP3 without a Xing frame, whose length libsndfile guesses from the bit rate of the first frame (a file
  of variable rate may lose most of itself), and MP3 parts joined end to end, whose one Xing frame counts
  the first part only.

For these, a `CorrectedView` shows libsndfile the same bytes with one field replaced, or a length that is
never reached, so that it reads on to the real end. Such a view also leaves out ID3v2 tags in front of
other formats than MP3: behind them libsndfile refuses some formats, and of others read from memory it
loses as much sound at the end as the tags are long. In front of MP3 it leaves out large ones, which would
be read into memory as a whole, up to 256 MiB.

Two kinds of files must not come to libsndfile at all, because it prints its complaints of them on standard
output, where only results may go: MIDI sample dumps, and ALAC whose packet table is damaged.

Sources: RIFF (Microsoft Multimedia Programming Interface 1.0), ID3v2.4 section 3.1, APEv2, the Xing/LAME
tag as mpg123 reads it, MIDI's Sample Dump Standard, and Apple's Core Audio Format specification.
"""

from __future__ import annotations

import io
import os
import re
import struct
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "CorrectedView",
    "corrected",
    "has_bad_packet_table",
    "has_too_many_tags",
    "is_sample_dump",
    "without_tags",
]

UNKNOWN_SIZE = b"\xff\xff\xff\xff"  # what libsndfile, FFmpeg and SoX take as "to the end of the file"
ENDLESS = 1 << 40  # far beyond any MP3, and its frame count still fits 63 bits
ID3V1_SIZE = 128
APE_FOOTER_SIZE = 32
SYNC_SEARCH = 4096  # bytes after the ID3v2 tags in which the first MP3 frame must start
XING_SEARCH = 64  # header, CRC and the largest side information come before the Xing mark
JOINED_SLACK = 1 << 16  # bytes beyond the announced ones that may be some unknown tag
# Real files have a few dozen chunks and a tag or two; a file of nothing else must not keep us for minutes.
MAX_CHUNKS = 10_000
MAX_TAGS = 100
UNTAGGED = {b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"fLaC", b"OggS", b"caff", b".snd"}
LARGE_TAGS = 1 << 20
PACKET_TABLE_HEADER = 24
MAX_PACKET_TABLE = 64 << 20  # with the usual 4,096 samples a packet: months of sound
OVERLONG_NUMBER = re.compile(rb"[\x80-\xff]{5}")  # numbers of packet tables end within five bytes
SAMPLE_DUMP = (0xF0, 0x7E, 0x01)  # bytes 0, 1 and 3 of MIDI's; byte 2 is the device


class CorrectedView(io.RawIOBase):
    """A read-only view of a file with some bytes replaced and, where asked for, a longer claimed length.

    Args:
        stream: the seekable file; the view moves its position.
        start: what is position 0 of the view.
        end: where the audio really ends, as a position of the view; nothing is read from there on.
        length: what the view says when it is asked for its size.
        patch_at: where the replaced bytes start.
        patch: the bytes to show there.
    """

    def __init__(
        self,
        stream: BinaryIO | CorrectedView,
        *,
        start: int = 0,
        end: int,
        length: int,
        patch_at: int = 0,
        patch: bytes = b"",
    ) -> None:
        self._stream = stream
        self._start = start
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
        if start >= self.end:
            return 0
        self._stream.seek(self._start + start)
        data = self._stream.read(min(len(target), self.end - start)) or b""
        target[: len(data)] = data
        low, high = max(start, self._patch_at), min(start + len(data), self._patch_at + len(self._patch))
        if low < high:
            target[low - start : high - start] = self._patch[low - self._patch_at : high - self._patch_at]
        self._position += len(data)
        return len(data)


def corrected(stream: BinaryIO | CorrectedView, container: str) -> CorrectedView | None:
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


def without_tags(stream: BinaryIO) -> CorrectedView | None:
    """Return a view that starts behind ID3v2 tags, or None where there are none or they do no harm.

    Args:
        stream: the seekable file; its position is left anywhere.
    """
    start = _after_tags(stream, with_footers=False)
    if not start or (start <= LARGE_TAGS and _read_at(stream, start, 4) not in UNTAGGED):
        return None
    size = max(0, stream.seek(0, os.SEEK_END) - start)
    return CorrectedView(stream, start=start, end=size, length=size)


def has_too_many_tags(stream: BinaryIO | CorrectedView) -> bool:
    """Whether more ID3v2 tags follow one another in front than are followed here; libsndfile follows all.

    Args:
        stream: the seekable file; its position is left anywhere.
    """
    return _read_at(stream, _after_tags(stream, with_footers=False), 3) == b"ID3"


def is_sample_dump(stream: BinaryIO | CorrectedView) -> bool:
    """Whether libsndfile would take the file for a MIDI sample dump.

    Args:
        stream: the seekable file; its position is left anywhere.
    """
    head = _read_at(stream, _after_tags(stream, with_footers=False), 4)
    return len(head) == 4 and (head[0], head[1], head[3]) == SAMPLE_DUMP


def has_bad_packet_table(stream: BinaryIO | CorrectedView) -> bool:
    """Whether a Core Audio file holds ALAC and its table of packet sizes cannot be right.

    Args:
        stream: the seekable file; its position is left anywhere.
    """
    head = _read_at(stream, 0, 32)
    if head[:4] != b"caff" or head[28:] != b"alac":
        return False
    position = 8  # after the file's header; chunks are a name, a size of 64 bits, and the data
    for _ in range(MAX_CHUNKS):
        chunk = _read_at(stream, position, 12)
        n_bytes = int.from_bytes(chunk[4:], "big")
        if len(chunk) < 12:
            return False
        if chunk[:4] == b"pakt":
            if n_bytes > MAX_PACKET_TABLE:
                return True
            sizes = _read_at(stream, position + 12, n_bytes)[PACKET_TABLE_HEADER:]
            return OVERLONG_NUMBER.search(sizes) is not None or sizes[-1:] > b"\x7f"
        position += 12 + n_bytes
    return True


def _read_at(stream: BinaryIO | CorrectedView, position: int, n_bytes: int) -> bytes:
    if position >= stream.seek(0, os.SEEK_END):  # operating systems refuse positions that headers make up
        return b""
    stream.seek(max(0, position))
    return stream.read(n_bytes) or b""


def _corrected_wav(stream: BinaryIO | CorrectedView) -> CorrectedView | None:
    size = stream.seek(0, os.SEEK_END)
    position = 12  # after RIFF, its size, and WAVE
    for _ in range(MAX_CHUNKS):
        chunk = _read_at(stream, position, 8)
        if len(chunk) < 8:
            return None
        n_bytes = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            if n_bytes or position + 8 >= size or _is_chunk(stream, position + 8, size):
                return None
            return CorrectedView(stream, end=size, length=size, patch_at=position + 4, patch=UNKNOWN_SIZE)
        position += 8 + n_bytes + n_bytes % 2
    return None


def _is_chunk(stream: BinaryIO | CorrectedView, position: int, size: int) -> bool:
    """Whether another chunk follows an empty one; audio samples do not look like one."""
    chunk = _read_at(stream, position, 8)
    name, n_bytes = chunk[:4], int.from_bytes(chunk[4:], "little")
    return len(chunk) == 8 and name.isascii() and name.decode().isprintable() and position + n_bytes <= size


def _corrected_mp3(stream: BinaryIO | CorrectedView) -> CorrectedView | None:
    end = _mp3_end(stream)
    start = _after_tags(stream, with_footers=True)
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


def _after_tags(stream: BinaryIO | CorrectedView, *, with_footers: bool) -> int:
    """Where the ID3v2 tags at the front end; libsndfile's own search knows nothing of their footers."""
    position = 0
    for _ in range(MAX_TAGS):
        tag = _read_at(stream, position, 10)
        if tag[:3] != b"ID3" or len(tag) < 10:
            break
        size = sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
        position += 10 + size + (10 if with_footers and tag[5] & 0x10 else 0)
    return position


def _mp3_end(stream: BinaryIO | CorrectedView) -> int:
    """Where the ID3v1 and APEv2 tags at the back start."""
    end = stream.seek(0, os.SEEK_END)
    if end >= ID3V1_SIZE and _read_at(stream, end - ID3V1_SIZE, 3) == b"TAG":
        end -= ID3V1_SIZE
    footer = _read_at(stream, end - APE_FOOTER_SIZE, APE_FOOTER_SIZE) if end >= APE_FOOTER_SIZE else b""
    if footer.startswith(b"APETAGEX"):
        size, flags = struct.unpack_from("<I4xI", footer, 12)
        end -= size + (APE_FOOTER_SIZE if flags >> 31 else 0)
    return max(end, 0)
