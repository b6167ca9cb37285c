"""MPEG audio (MP3) frame by frame: for files that are damaged, joined, or say nothing of their length.

    junk  tag  frame frame frame  hole  frame frame  other rate: frame frame  tag  zeros
               └────────────── run ────────────────┘             └── run ──┘

A run is what one decoder reads: frames of one version, layer, rate and number of channels. Whatever lies
between them is left out. libsndfile would stop at more than 1 KiB of other bytes, at the length that it
guesses from the bit rate of the first frame, or at the end of the first of several files in one.

Sources: ISO/IEC 11172-3 and 13818-3, MPEG 2.5, the Xing/LAME tag, ID3v1, ID3v2.4 section 3.1, APEv2.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from dymn_cli.audio.virtual_files import ByteWindow

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Run", "Walker", "end_of_audio", "id3v2_size", "survey"]

SYNC = re.compile(rb"\xff[\xe2-\xff]")
SEARCH = 1 << 16
MIN_FRAMES = 3  # in a row make a run
ID3V1_SIZE = 128
MAX_HEADERS = 4096  # different ones to remember
APE_FOOTER_SIZE = 32
SLACK_FRAMES = 4  # by which counts may differ
DECODER_DELAY = 529  # samples that mpg123 drops besides the encoder's, where a LAME tag names those
KBITS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = (44_100, 48_000, 32_000)


class Header(NamedTuple):
    """The four bytes in front of a frame."""

    version: int  # 1, 2, or 4 for MPEG 2.5: what the rates of version 1 are divided by
    layer: int
    rate_hz: int
    is_mono: bool
    n_bytes: int
    n_samples: int

    @property
    def side_size(self) -> int:
        """Bytes of side information in front of a Xing mark."""
        return (9 if self.is_mono else 17) if self.version > 1 else (17 if self.is_mono else 32)

    @property
    def kind(self) -> tuple[int, int, int, bool]:
        """What is the same in all frames of a run."""
        return self[:4]


def parse(data: bytes) -> Header | None:
    """Read the header of a frame; None where there is none, or one of free format, of unknown length."""
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return None
    version = (4, 0, 2, 1)[data[1] >> 3 & 3]
    layer = 4 - (data[1] >> 1 & 3)
    bit_rate, rate = data[2] >> 4, data[2] >> 2 & 3
    if not version or layer == 4 or bit_rate in (0, 15) or rate == 3:
        return None
    rate_hz = RATES[rate] // version
    n_samples = 384 if layer == 1 else 576 if layer == 3 and version > 1 else 1152
    slot = 4 if layer == 1 else 1
    bits = KBITS[min(version, 2), layer][bit_rate - 1] * 1000
    n_bytes = (n_samples // 8 // slot * bits // rate_hz + (data[2] >> 1 & 1)) * slot
    return Header(version, layer, rate_hz, data[3] >> 6 == 3, n_bytes, n_samples)


@dataclass
class Run:
    """Frames that one decoder reads; complete when its places have been walked to the end.

    Args:
        header: of its first frame.
        start: where that is.
        before: bytes in front of it that are no audio.
    """

    header: Header
    start: int
    before: int
    n_claimed: int = 0  # samples that a Xing frame counts, 0 where none does
    skipped: int = 0  # samples that mpg123 drops at the start where a LAME tag, left out here, says so
    n_samples: int = 0
    is_cut: bool = False  # its last frame is not whole
    gaps: list[tuple[float, float]] = field(default_factory=list)  # seconds: where, and about how long

    @property
    def slack(self) -> int:
        """Samples by which counts may differ."""
        return SLACK_FRAMES * self.header.n_samples


class Walker:
    """Finds the runs of a file, one after the other.

    Args:
        stream: the seekable file; its position is moved.
        start: where to look from.
        end: where the audio ends at the latest.
    """

    def __init__(self, stream: BinaryIO, start: int, end: int) -> None:
        self._window = ByteWindow(stream, end)
        self._position = start
        self.behind = 0  # bytes after the last run that are no audio

    def next_run(self) -> Run | None:
        """The next run; the places of the one before must have been walked to the end."""
        position, n_junk = self._search(self._position, None)
        header = parse(self._window.get(position, 4))
        if header is None:
            self.behind = n_junk
            return None
        self._position = position
        run = Run(header, position, n_junk)
        xing = self._xing(position, header)
        run.skipped = _lame_delay(xing)
        if len(xing) >= 8 and xing[3] & 1:
            run.n_claimed = int.from_bytes(xing[4:8], "big") * header.n_samples
        return run

    def places(self, run: Run) -> Iterator[range]:
        """Where the frames of a run are."""
        window, kind = self._window, run.header.kind
        position = self._position
        sizes: dict[bytes, int] = {}  # header → bytes of the frame, 0 where it is none of this kind
        while True:
            header = parse(window.get(position, 4))
            assert header is not None
            following = position + header.n_bytes
            if following > window.end:  # the last frame is cut off
                self._position = window.end
                run.is_cut = True
                return
            next_header = parse(window.get(following, 4))
            is_last, is_hit, found, n_junk = False, False, following, 0
            if next_header is None or next_header.kind != kind:
                found, n_junk = self._search(following, kind)
                is_hit = n_junk > 0
                if is_hit:  # a hole may begin inside this frame, and its header be among the damage
                    found, n_junk = self._search(position + 1, kind)
                    n_junk = max(0, n_junk - (header.n_bytes - 1))
                next_header = parse(window.get(found, 4))
                is_last = next_header is None or next_header.kind != kind
            in_doubt = is_hit and not is_last
            if not in_doubt and not self._is_tag_frame(position, header):
                run.n_samples += header.n_samples
                yield range(position, following)
            if is_last:
                self._position = following
                return
            if in_doubt:
                lost = (n_junk + header.n_bytes) / header.n_bytes * header.n_samples / header.rate_hz
                run.gaps.append((run.n_samples / header.rate_hz, lost))
            position = found
            # The fast path, over intact frames that another one follows.
            chunk, at, n_frames = window.get(position, SEARCH), 0, 0
            tag_at = 4 + header.side_size
            size = self._size(chunk[:4], kind, sizes)
            while chunk[at + tag_at : at + tag_at + 4] not in (b"Xing", b"Info"):
                after = self._size(chunk[at + size : at + size + 4], kind, sizes)
                if not after:
                    break
                at, size, n_frames = at + size, after, n_frames + 1
            if n_frames:
                run.n_samples += n_frames * header.n_samples
                yield range(position, position + at)
                position += at

    @staticmethod
    def _size(data: bytes, kind: tuple[int, int, int, bool], sizes: dict[bytes, int]) -> int:
        size = sizes.get(data)
        if size is None:
            header = parse(data)
            size = header.n_bytes if header is not None and header.kind == kind else 0
            if len(sizes) < MAX_HEADERS:
                sizes[data] = size
        return size

    def _search(self, position: int, kind: tuple[int, int, int, bool] | None) -> tuple[int, int]:
        """Where frames go on, and how many bytes on the way are neither frames nor tags.

        Two frames in a row are enough for one of the same kind; of another kind, three, or all that follow.
        """
        window, n_junk = self._window, 0
        while position < window.end:
            tag = _tag_size(window.get(position, 32))
            if tag:
                position += tag
                continue
            chunk = window.get(position, SEARCH)
            at = 0
            for match in SYNC.finditer(chunk):
                at = match.start()
                if at > len(chunk) - 4 and position + len(chunk) < window.end:
                    break
                if self._is_run(position + at, kind):
                    return position + at, n_junk + at
                at += 1
            mark = min(
                (n for n in map(chunk.find, (b"ID3", b"TAG", b"APETAGEX")) if n > 0), default=len(chunk)
            )
            step = max(1, min(mark, len(chunk) - 4 if position + len(chunk) < window.end else len(chunk)))
            n_junk += step
            position += step
        return window.end, n_junk

    def _is_run(self, position: int, kind: tuple[int, int, int, bool] | None) -> bool:
        first = header = parse(self._window.get(position, 4))
        if first is None or header is None:
            return False
        for _ in range(1 if first.kind == kind else MIN_FRAMES - 1):
            position += header.n_bytes
            if position == self._window.end:
                return first.kind == kind
            following = parse(self._window.get(position, 4))
            if following is None or following.kind != first.kind:
                return False
            header = following
        return True

    def _xing(self, position: int, header: Header) -> bytes:
        """What follows the mark of a Xing frame; nothing where it is none."""
        data = self._window.get(position + 4 + header.side_size, 160)
        return data[4:] if data[:4] in (b"Xing", b"Info") else b""

    def _is_tag_frame(self, position: int, header: Header) -> bool:
        return bool(self._xing(position, header)) or self._window.get(position + 36, 4) == b"VBRI"


def _lame_delay(xing: bytes) -> int:
    """Samples that mpg123 drops at the start of a file with this Xing frame."""
    if len(xing) < 12:
        return 0
    flags = xing[3]
    at = 4 + 4 * (flags & 1) + 2 * (flags & 2) + 25 * (flags & 4) + (flags & 8) // 2
    lame = xing[at : at + 24]
    if len(lame) < 24 or not lame[0]:
        return 0
    delay = lame[21] << 4 | lame[22] >> 4
    return delay + DECODER_DELAY if delay else 0


def _tag_size(data: bytes) -> int:
    """Bytes of the tag that starts here; 0 where none does."""
    if data[:3] == b"ID3":
        return 10 + id3v2_size(data) + (10 if len(data) > 5 and data[5] & 0x10 else 0)
    if data[:3] == b"TAG":
        return ID3V1_SIZE
    if data[:8] == b"APETAGEX" and len(data) == APE_FOOTER_SIZE:
        size, flags = struct.unpack_from("<I4xI", data, 12)
        is_header = flags >> 29 & 1
        return APE_FOOTER_SIZE + (int(size) if is_header else 0)
    return 0


def id3v2_size(tag: bytes) -> int:
    """Bytes that follow the ten of an ID3v2 tag's header."""
    return sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:10], (21, 14, 7, 0), strict=False))


def end_of_audio(stream: BinaryIO) -> int:
    """Where the ID3v1 and APEv2 tags at the back start."""
    window = ByteWindow(stream)
    end = window.end
    if end >= ID3V1_SIZE and window.get(end - ID3V1_SIZE, 3) == b"TAG":
        end -= ID3V1_SIZE
    footer = window.get(end - APE_FOOTER_SIZE, APE_FOOTER_SIZE) if end >= APE_FOOTER_SIZE else b""
    if footer.startswith(b"APETAGEX"):
        size, flags = struct.unpack_from("<I4xI", footer, 12)
        end -= size + (APE_FOOTER_SIZE if flags >> 31 else 0)
    return max(end, 0)


def survey(stream: BinaryIO, start: int, end: int) -> tuple[Run | None, bool]:
    """The first run of a file, and whether it is all there is, without a hole, as its header counts it.

    Args:
        stream: the seekable file; its position is moved.
        start: where the tags in front end.
        end: where the audio ends.
    """
    walker = Walker(stream, start, end)
    run = walker.next_run()
    if run is None:
        return None, False
    for _ in walker.places(run):
        pass
    is_alone = walker.next_run() is None and not walker.behind and not run.before
    is_whole = not run.gaps and not run.is_cut and abs(run.n_claimed - run.n_samples) <= run.slack
    return run, is_alone and is_whole
