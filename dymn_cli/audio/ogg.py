"""Ogg page by page: for chained streams, for damaged ones, and for time stamps that do not add up.

    link                                                             link
    BOS page, header pages, pages of sound ..., EOS page             BOS page, ...

A link is what one decoder reads. Its pages are shown to libsndfile as they are, but for Opus, where their
time stamps ("granule positions") are counted anew from the packets: libsndfile calls a stream malformed
whose stamps run ahead of its samples, or start below zero, while players go by the packets.

FLAC in Ogg is shown as the FLAC stream that its packets are.

Sources: RFC 3533 (Ogg), RFC 6716 section 3.1 and RFC 7845 (Opus), the Vorbis I specification, RFC 9639
section 10.1 (FLAC in Ogg).
"""

from __future__ import annotations

import struct
import zlib
from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from dymn_cli.audio.virtual_files import ByteWindow, Part, SplicedFile, read_at
from dymn_cli.virtual_file import VirtualFile

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Link", "codec_of", "is_chained", "links", "set_serial"]

HEADER = struct.Struct("<4sBBqIIIB")
SERIAL_AT, CRC_AT, CRC_END = 14, 22, 26
CONTINUED, BOS, EOS = 1, 2, 4
MAX_PAGE = 65_307
TAIL = 1 << 16
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
CODECS = {
    b"\x01vorbis": "VORBIS",
    b"OpusHead": "OPUS",
    b"\x7fFLAC": "FLAC",
    b"Speex   ": "SPEEX",
}
N_HEADERS = {"VORBIS": 3, "OPUS": 2, "SPEEX": 2}
OPUS_RATE = 48_000


def checksum(page: bytes) -> int:
    """The CRC of a page whose own is zero: zlib's, with all bits in the other order and without its masks."""
    value = zlib.crc32(page.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{value:032b}"[::-1], 2)


def seal(page: bytearray) -> None:
    """Give a page its CRC."""
    page[CRC_AT:CRC_END] = bytes(4)
    page[CRC_AT:CRC_END] = checksum(bytes(page)).to_bytes(4, "little")


def codec_of(first_packet: bytes) -> str:
    """Name of the coding that a stream's first packet starts; "" where it is none of sound."""
    return next((name for mark, name in CODECS.items() if first_packet.startswith(mark)), "")


@dataclass(slots=True)
class Page:
    """Where a page is and what its header says."""

    offset: int
    flags: int
    granule: int
    serial: int
    number: int
    lacing: bytes
    is_intact: bool  # its checksum matches

    @property
    def body(self) -> int:
        """Where its data start."""
        return self.offset + HEADER.size + len(self.lacing)

    @property
    def end(self) -> int:
        """Where the next page starts."""
        return self.body + sum(self.lacing)


def pages(window: ByteWindow, start: int) -> Iterator[tuple[Page, int]]:
    """The pages of a file, each with the number of bytes before it that are none."""
    position, n_junk = start, 0
    while True:
        head = window.get(position, HEADER.size)
        if len(head) < HEADER.size:
            return
        if head[:5] != b"OggS\0":
            found = window.find(b"OggS\0", position + 1)
            if found < 0:
                return
            n_junk += found - position
            position = found
            continue
        _, _, flags, granule, serial, number, crc, n_lacing = HEADER.unpack(head)
        data = window.get(position, MAX_PAGE)
        lacing = data[HEADER.size : HEADER.size + n_lacing]
        page = Page(position, flags, granule, serial, number, lacing, is_intact=False)
        size = page.end - position
        if size <= len(data):
            page.is_intact = checksum(data[:CRC_AT] + bytes(4) + data[CRC_END:size]) == crc
        if not page.is_intact and (size > len(data) or window.get(page.end, 4) not in (b"OggS", b"")):
            position, n_junk = position + 1, n_junk + 1  # its length is among the damage
            continue
        yield page, n_junk
        position, n_junk = page.end, 0


@dataclass(slots=True)
class Link:
    """One logical stream of sound.

    Args:
        serial: its number.
        codec: name of its coding.
        first: its first packet.
    """

    serial: int
    codec: str
    first: bytes
    offsets: array[int] = field(default_factory=lambda: array("q"))  # of its pages
    stamps: array[int] = field(default_factory=lambda: array("q"))  # counted anew, for Opus
    starts: array[int] = field(default_factory=lambda: array("q"))  # of the pages in the view
    size: int = 0
    last_number: int = -1
    last_granule: int = 0
    n_headers: int = 0
    n_samples: int = 0
    has_ended: bool = False
    end: int = 0  # of the last page before the next link
    gaps: list[tuple[float, float]] = field(default_factory=list)  # seconds: where, and about how long
    _toc: int = -1  # of a packet that goes on on the next page
    _shift: int | None = None  # from the stamps of the file to ours

    @property
    def rate_hz(self) -> int:
        """What its time stamps count."""
        if self.codec == "OPUS":
            return OPUS_RATE
        if self.codec == "FLAC":
            return int.from_bytes(self.first[27:30], "big") >> 4 or 1
        at = 12 if self.codec == "VORBIS" else 36
        return int.from_bytes(self.first[at : at + 4], "little") or 1

    def add(self, page: Page, window: ByteWindow, n_junk: int) -> None:
        """Take its next page."""
        is_header = not self.n_samples and self.n_headers < N_HEADERS.get(self.codec, 2)
        missing = page.number - self.last_number - 1
        if not page.is_intact and not is_header:
            return  # the number of the next page shows that one is missing
        n_new = self._samples_of(page, window, keeps_packet=missing == 0 and n_junk == 0)
        if is_header:
            self.n_headers += sum(1 for length in page.lacing if length < 255)
        elif missing > 0:
            self._note_gap(page, n_new, missing)
        self.last_number = page.number
        if page.granule >= 0 or self.codec == "OPUS":
            self.last_granule = page.granule
        self.n_samples += n_new
        stamp = self._stamp(page, n_new) if self.codec == "OPUS" else page.granule
        self.offsets.append(page.offset)
        self.stamps.append(stamp)
        self.starts.append(self.size)
        self.size += page.end - page.offset
        self.has_ended = bool(page.flags & EOS)

    def _stamp(self, page: Page, n_new: int) -> int:
        if not self.n_samples:
            return 0
        if page.granule == -1 and not n_new:
            return -1
        if self._shift is None and not page.flags & EOS:
            self._shift = self.n_samples - page.granule
        if page.flags & EOS:  # the last page may end amid its packets
            surplus = self.n_samples - (page.granule + (self._shift or 0))
            if 0 < surplus < n_new:
                return self.n_samples - surplus
        return self.n_samples

    def _note_gap(self, page: Page, n_new: int, n_missing: int) -> None:
        at = self.n_samples / self.rate_hz
        between = (page.granule - self.last_granule) / self.rate_hz
        lost = between - n_new / self.rate_hz if n_new else between * n_missing / (n_missing + 1)
        if lost > 0:
            self.gaps.append((at if n_new else self.last_granule / self.rate_hz, lost))

    def _samples_of(self, page: Page, window: ByteWindow, *, keeps_packet: bool) -> int:
        """Samples of the Opus packets that end on a page."""
        if self.codec != "OPUS" or self.n_headers < 2:
            return 0
        position, n_samples = page.body, 0
        toc = self._toc if page.flags & CONTINUED and keeps_packet else -1
        is_start = not page.flags & CONTINUED
        for length in page.lacing:
            if is_start and length:
                toc = int.from_bytes(window.get(position, min(length, 2)).ljust(2, b"\0"), "big")
            position += length
            is_start = length < 255
            if is_start:
                n_samples += _opus_samples(toc)
                toc = -1
        self._toc = toc
        return n_samples

    def view(self, stream: BinaryIO) -> VirtualFile:
        """The link as a file for libsndfile."""
        if self.codec == "FLAC":
            return self._flac(stream)
        return _Pages(stream, self)

    def _flac(self, stream: BinaryIO) -> SplicedFile:
        def parts() -> Iterator[Part]:
            yield b"fLaC\x80" + self.first[14:51]
            for page in (_page_at(stream, offset) for offset in self.offsets[1:]):
                if page.granule:  # pages of headers have 0
                    yield range(page.body, page.end)

        return SplicedFile(stream, parts())


def _page_at(stream: BinaryIO, offset: int) -> Page:
    head = read_at(stream, offset, HEADER.size + 255)
    _, _, flags, granule, serial, number, _, n_lacing = HEADER.unpack(head[: HEADER.size])
    return Page(
        offset, flags, granule, serial, number, head[HEADER.size : HEADER.size + n_lacing], is_intact=True
    )


def _opus_samples(toc: int) -> int:
    """Samples at 48 kHz of a packet that starts with these two bytes; -1 for one whose start is lost."""
    if toc < 0:
        return 0
    config, code = toc >> 11, toc >> 8 & 3
    if config < 12:
        n = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        n = (480, 960)[config & 1]
    else:
        n = (120, 240, 480, 960)[config & 3]
    return n * (1, 2, 2, toc & 63)[code]


class _Pages(VirtualFile):
    """The pages of a link, with time stamps, numbers and checksums of our own where it is Opus."""

    def __init__(self, stream: BinaryIO, link: Link) -> None:
        super().__init__()
        self._window = ByteWindow(stream)
        self._link = link
        self._current = -1
        self._page = b""

    def length(self) -> int:
        """The sum of its pages."""
        return self._link.size

    def piece(self, position: int, n_bytes: int) -> bytes:
        """The rest of a page."""
        link = self._link
        if position >= link.size:
            return b""
        number = bisect_right(link.starts, position) - 1
        if number != self._current:
            self._current, self._page = number, self._made(number)
        start = position - link.starts[number]
        return self._page[start : start + n_bytes]

    def _made(self, number: int) -> bytes:
        link = self._link
        offset, start = link.offsets[number], link.starts[number]
        end = link.starts[number + 1] if number + 1 < len(link.starts) else link.size
        page = bytearray(self._window.get(offset, end - start))
        if link.codec == "OPUS":
            struct.pack_into("<q", page, 6, link.stamps[number])
        if number + 1 == len(link.starts):
            page[5] |= EOS
        seal(page)
        return bytes(page)


def links(stream: BinaryIO) -> Iterator[Link]:
    """The audio streams of a file, one after the other; of several at a time, the first.

    Args:
        stream: the seekable file; its position is moved.
    """
    window = ByteWindow(stream)
    link: Link | None = None
    has_sound = False  # pages after those at the start, where several streams may begin together
    for page, n_junk in pages(window, 0):
        if page.flags & BOS:
            codec = codec_of(window.get(page.body, 8))
            if codec and (link is None or has_sound):
                if link is not None:
                    yield link
                link = Link(page.serial, codec, window.get(page.body, sum(page.lacing)))
                has_sound = False
                link.last_number = page.number - 1
        if link is not None and page.serial == link.serial:
            has_sound = has_sound or not page.flags & BOS
            link.add(page, window, n_junk)
        if link is not None:
            link.end = page.end
    if link is not None:
        yield link


def set_serial(stream: BinaryIO, serial: int) -> None:
    """Give the one stream of an Ogg file another serial number, in place, page by page.

    Args:
        stream: the file, open to read and to write; its position is moved.
        serial: 32 bits; streams that are to be chained or multiplexed need different ones.
    """
    window = ByteWindow(stream)
    for page, _ in pages(window, 0):
        data = bytearray(window.get(page.offset, page.end - page.offset))
        struct.pack_into("<I", data, SERIAL_AT, serial)
        seal(data)
        stream.seek(page.offset + SERIAL_AT)
        stream.write(data[SERIAL_AT:CRC_END])


def is_chained(stream: BinaryIO) -> bool:
    """Whether another stream begins or ends near the end of a file than the one at its start: a cheap look.

    Args:
        stream: the seekable file; its position is moved.
    """
    window = ByteWindow(stream)
    first = window.get(0, HEADER.size)
    if len(first) < HEADER.size:
        return False
    tail_start = max(len(first), window.end - TAIL)
    tail = window.get(tail_start, TAIL)
    at = tail.rfind(b"OggS\0")
    if 0 <= at <= len(tail) - HEADER.size and HEADER.unpack_from(tail, at)[4] != HEADER.unpack(first)[4]:
        return True
    at, has_sound = tail.find(b"OggS\0"), tail_start > len(first)
    while 0 <= at <= len(tail) - HEADER.size:
        is_start = HEADER.unpack_from(tail, at)[2] & BOS
        if is_start and has_sound:
            return True
        has_sound = has_sound or not is_start
        at = tail.find(b"OggS\0", at + 1)
    return False
