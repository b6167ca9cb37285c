"""FLAC frame headers: where a stream goes on behind a damaged spot, and whether more follows its end.

Each frame starts with a header that has a checksum of its own and the number of its first sample. So the
next sound frame is found by its header, and how much is missing is known to the sample.

Source: RFC 9639.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from dymn_cli.audio.virtual_files import ByteWindow, Part

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Frame",
    "StreamInfo",
    "first_frame",
    "frame_at",
    "frames",
    "guessed_info",
    "parts_from",
    "stream_info",
]

SYNC = re.compile(rb"\xff[\xf8\xf9]|fLaC")
SEARCH = 1 << 16
MAX_HEADER = 16
MAX_BLOCKS = 10_000  # of metadata
INFO_SIZE = 34
RATES = (0, 88_200, 176_400, 192_000, 8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)
BITS = (0, 8, 12, -1, 16, 20, 24, 32)


def _crc8_table() -> bytes:
    table = bytearray()
    for value in range(256):
        for _ in range(8):
            value = (value << 1 ^ (0x07 if value & 0x80 else 0)) & 0xFF
        table.append(value)
    return bytes(table)


CRC8 = _crc8_table()


class StreamInfo(NamedTuple):
    """The STREAMINFO block of a stream."""

    block_size: int  # samples of a frame, where all have as many
    rate_hz: int
    channels: int
    bits: int
    n_samples: int  # 0: unknown
    start: int  # where the first frame is
    raw: bytes

    @classmethod
    def unpacked(cls, raw: bytes, start: int) -> StreamInfo:
        """Read the 34 bytes of the block."""
        packed = int.from_bytes(raw[10:18], "big")
        n_samples = packed & (1 << 36) - 1
        block_size = int.from_bytes(raw[2:4], "big")
        return cls(
            block_size, packed >> 44, (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1, n_samples, start, raw
        )


class Frame(NamedTuple):
    """The header of a frame; or the start of another stream, whose `sample` is -1."""

    offset: int
    sample: int
    n_samples: int = 0
    rate_hz: int = 0
    channels: int = 0
    bits: int = 0

    @property
    def is_stream(self) -> bool:
        """Whether another stream starts here."""
        return self.sample < 0


def stream_info(stream: BinaryIO, start: int) -> StreamInfo | None:
    """The STREAMINFO of a stream; None where no stream starts there.

    Args:
        stream: the seekable file; its position is moved.
        start: position of its mark, `fLaC`.
    """
    window = ByteWindow(stream)
    head = window.get(start, 8 + INFO_SIZE)
    if head[:4] != b"fLaC" or len(head) < 8 + INFO_SIZE or head[4] & 0x7F or head[7] != INFO_SIZE:
        return None
    position = start + 4
    for _ in range(MAX_BLOCKS):
        block = window.get(position, 4)
        if len(block) < 4 or block[0] & 0x7F == 127:
            return None
        position += 4 + int.from_bytes(block[1:], "big")
        if block[0] & 0x80:
            return StreamInfo.unpacked(head[8:], position)
    return None


def guessed_info(frame: Frame) -> StreamInfo | None:
    """STREAMINFO for a stream whose start is lost; None where a frame does not tell enough."""
    if not (frame.rate_hz and frame.bits > 0):
        return None
    packed = frame.rate_hz << 44 | (frame.channels - 1) << 41 | (frame.bits - 1) << 36
    sizes = frame.n_samples.to_bytes(2, "big") * 2
    return StreamInfo.unpacked(sizes + bytes(6) + packed.to_bytes(8, "big") + bytes(16), frame.offset)


def parts_from(info: StreamInfo, offset: int, end: int) -> tuple[Part, Part]:
    """A stream of unknown length that starts with the frame at an offset."""
    unknown = int.from_bytes(info.raw[10:18], "big") >> 36 << 36
    raw = info.raw[:10] + unknown.to_bytes(8, "big") + bytes(16)
    return b"fLaC\x80\0\0\x22" + raw, range(offset, end)


def frames(stream: BinaryIO, start: int, info: StreamInfo | None) -> Iterator[Frame]:
    """Headers of frames, and other streams, in the order of the file.

    Args:
        stream: the seekable file; its position is moved.
        start: where to look from.
        info: what frames must agree with; None for any.
    """
    window = ByteWindow(stream)
    position = start
    while position < window.end:
        chunk = window.get(position, SEARCH)
        is_last = position + len(chunk) >= window.end
        reach = len(chunk) if is_last else len(chunk) - MAX_HEADER
        for match in SYNC.finditer(chunk):
            at = match.start()
            if at >= reach:
                break
            if match[0] == b"fLaC":
                if stream_info(stream, position + at) is not None:
                    yield Frame(position + at, -1)
                continue
            frame = _parse(chunk[at : at + MAX_HEADER], position + at, info)
            if frame is not None:
                yield frame
        position += max(1, reach)


def frame_at(stream: BinaryIO, offset: int) -> Frame | None:
    """The frame that starts at an offset; None where none does."""
    data = ByteWindow(stream).get(offset, MAX_HEADER)
    return _parse(data, offset, None) if SYNC.match(data) else None


def first_frame(stream: BinaryIO, end: int) -> Frame | None:
    """The first frame before `end` that another frame continues: where what is left of a stream starts."""
    before: list[Frame] = []
    for frame in frames(stream, 0, None):
        if frame.is_stream or frame.offset >= end:
            return None
        for earlier in before:
            if earlier.sample + earlier.n_samples == frame.sample and earlier[3:] == frame[3:]:
                return earlier
        before = [*before[-MAX_HEADER:], frame]
    return None


def _parse(data: bytes, offset: int, info: StreamInfo | None) -> Frame | None:
    if len(data) < 6 or data[3] & 1:
        return None
    size_code, rate_code, channels, bits_code = data[2] >> 4, data[2] & 15, data[3] >> 4, data[3] >> 1 & 7
    if not size_code or rate_code == 15 or channels > 10 or bits_code == 3:
        return None
    number, at = _number(data)
    if number < 0:
        return None
    n_samples = (
        192 if size_code == 1 else 576 << size_code - 2 if size_code < 6 else 256 << max(0, size_code - 8)
    )
    if size_code in (6, 7):
        width = size_code - 5
        n_samples = int.from_bytes(data[at : at + width], "big") + 1
        at += width
    rate_hz = RATES[rate_code] if rate_code < 12 else 0
    if rate_code >= 12:
        width = 1 if rate_code == 12 else 2
        rate_hz = int.from_bytes(data[at : at + width], "big") * (1000, 1, 10)[rate_code - 12]
        at += width
    check = 0
    for byte in data[:at]:
        check = CRC8[check ^ byte]
    if at >= len(data) or check != data[at]:
        return None
    n_channels, bits = (channels + 1 if channels < 8 else 2), BITS[bits_code]
    if info is not None and (
        n_channels != info.channels
        or (rate_hz or info.rate_hz) != info.rate_hz
        or (bits or info.bits) != info.bits
    ):
        return None
    if not data[1] & 1:  # of frames of one size, the number of the frame
        number *= n_samples if info is None else info.block_size
    return Frame(offset, number, n_samples, rate_hz, n_channels, bits)


def _number(data: bytes) -> tuple[int, int]:
    """The number coded as UTF-8 would (up to 36 bits), and where it ends; -1 where it is none."""
    first = data[4]
    if first < 0x80:
        return first, 5
    n_more = 7 - (first ^ 0xFF).bit_length()
    if not 1 <= n_more <= 6 or len(data) < 6 + n_more:
        return -1, 0
    number = first & (1 << 6 - n_more) - 1
    for byte in data[5 : 5 + n_more]:
        if byte >> 6 != 2:
            return -1, 0
        number = number << 6 | byte & 0x3F
    return number, 5 + n_more
