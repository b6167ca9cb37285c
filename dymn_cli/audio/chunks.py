"""Where the samples of chunked files really are: WAV, RF64, Wave64, AIFF, AU, CAF.

    RIFF size WAVE   fmt    LIST    data size ┃ samples ... ┃ LIST    RIFF (another file behind this one)

libsndfile believes the sizes in the headers. They are wrong where a program wrote into a pipe and could not
go back, where a recorder lost power, or where 32 bits have wrapped at 4 GiB, and they do not show a second
file behind the first. Then libsndfile is given the same samples behind a correct header.

Sources: RIFF (Microsoft Multimedia Programming Interface 1.0), EBU Tech 3306 (RF64), Sony's Wave64, AIFF-C
(Apple, 1991), the AU format of SunOS, Apple's Core Audio Format specification.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from dymn_cli.audio.virtual_files import ByteWindow, Part

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["MPEG_CODINGS", "READ_CODINGS", "Piece", "pieces", "wav_metadata"]

MAX_CHUNKS = 10_000  # real files have a few dozen; a file of nothing else must not keep us for minutes
MAX_FILES = 1_000
MAX_METADATA = 1 << 20  # bytes of a chunk; real ones have a few thousand
STREAMED_MARKS = frozenset({0xFFFF_FFFF, 0x7FFF_F000, 0x8000_0000, 0x7FFF_FFFF})  # left by writers into pipes
WRAP = 1 << 32
UNKNOWN_SIZE = (1 << 64) - 1
LOOK = 1 << 16
TRAILERS = (  # chunks that follow samples, "_" for a space at the end
    b"LIST JUNK junk PAD_ FLLR fact PEAK bext iXML axml chna cue_ plst adtl smpl inst acid id3_ ID3_ "
    b"DISP cart umid minf elm1 regn _PMX afsp wamd guan SAUR SNDM levl link ResU strc labl note ltxt "
    b"mark MARK NAME AUTH ANNO COMT INST APPL MIDI AESD CHAN ID32 free strg info kuki pakt chan uuid "
    b"ovvw peak edct tlst data "
)
KNOWN = {name.removesuffix(b"_").ljust(4) for name in TRAILERS.split()}
READ_CODINGS = {0x01, 0x02, 0x03, 0x06, 0x07, 0x11, 0x31, 0x40, 0xFFFE}  # of WAV, by libsndfile
MPEG_CODINGS = {0x50, 0x55}
PCM_CODINGS = {0x01, 0x03}
QUIET_TOPS = bytes(range(40)) + bytes(range(216, 256))  # highest bytes of integers that are not loud
FLOAT_TOPS = b"\0\x80" + bytes(range(0x30, 0x40)) + bytes(range(0xB0, 0xC0))  # of floats below 2
W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
W64_TAIL = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
# AIFF-C's names of codings → AU's numbers, by the bits of a sample.
AU_CODINGS = {
    (b"NONE", 8): 2,
    (b"NONE", 16): 3,
    (b"NONE", 24): 4,
    (b"NONE", 32): 5,
    (b"twos", 16): 3,
    (b"sowt", 16): 3,
    (b"fl32", 32): 6,
    (b"FL32", 32): 6,
    (b"fl64", 64): 7,
    (b"ulaw", 16): 1,
    (b"alaw", 16): 27,
}
AU_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}


@dataclass(frozen=True, slots=True)
class Piece:
    """The samples of one file.

    Args:
        container: name of the format.
        samples: where they are.
        header: what a decoder reads in front of them; empty where it reads the file itself.
        coding: number of the coding in WAV; 0 elsewhere.
        notes: what is wrong with the file.
        another: where another file starts behind it, or None.
    """

    container: str
    samples: range
    header: bytes = b""
    coding: int = 0
    notes: tuple[str, ...] = ()
    another: int | None = None

    @property
    def parts(self) -> tuple[Part, Part]:
        """What a decoder reads."""
        return self.header, self.samples


def pieces(stream: BinaryIO) -> list[Piece]:
    """The files in a file, as a rule one; none where it is no such format, or has no samples.

    Args:
        stream: the seekable file; its position is moved.
    """
    window = ByteWindow(stream)
    found: list[Piece] = []
    position: int | None = 0
    while position is not None and len(found) < MAX_FILES:
        piece = _piece(window, position)
        if piece is None:
            break
        found.append(piece)
        position = piece.another
    if len(found) > 1:
        note = f"{len(found)} files in one, one after the other"
        found[0] = replace(found[0], notes=(*found[0].notes, note))
    return found


def _piece(window: ByteWindow, start: int) -> Piece | None:
    head = window.get(start, 40)
    mark, kind = head[:4], head[8:12]
    if mark in (b"RIFF", b"RIFX", b"RF64", b"BW64") and kind == b"WAVE":
        return _wav(window, start)
    if head[:16] == W64_RIFF and head[24:28] == b"wave":
        return _w64(window, start)
    if mark == b"FORM" and kind in (b"AIFF", b"AIFC"):
        return _aiff(window, start)
    if mark in (b".snd", b"dns."):
        return _au(window, start)
    if head[:8] == b"caff\0\1\0\0":
        return _caf(window, start)
    return None


# ---------------------------------------------------------------------- where samples end


class _Layout(NamedTuple):
    """How samples lie in a file.

    Args:
        rate: bytes a second, 0 where it is not known.
        align: bytes that belong together: a sample of all channels, or a block.
        width: bytes of a sample, negative where the highest comes first; 0 for codings that look random.
        is_float: samples are floats.
    """

    rate: float
    align: int
    width: int
    is_float: bool = False


class _Extent(NamedTuple):
    end: int
    is_as_claimed: bool
    note: str = ""
    another: int | None = None  # where another file starts


@dataclass(slots=True)
class _Format:
    """How chunks look in a format: sizes of so many bytes, in this order."""

    order: str
    size: str = "I"
    pad: int = 2
    name_size: int = 4
    counts_itself: bool = False
    unknown: set[int] = field(default_factory=set)

    def chunk(self, window: ByteWindow, position: int) -> tuple[bytes, int, int] | None:
        """Name of the chunk that starts there, where its data start, and their size."""
        n_bytes = self.name_size + struct.calcsize(self.size)
        data = window.get(position, n_bytes)
        if len(data) < n_bytes:
            return None
        (size,) = struct.unpack(self.order + self.size, data[self.name_size :])
        if self.counts_itself:
            size -= n_bytes
        return data[: self.name_size], position + n_bytes, size

    def chunks(self, window: ByteWindow, position: int) -> Iterator[tuple[bytes, int, int]]:
        """Chunks, until they leave the file."""
        for _ in range(MAX_CHUNKS):
            chunk = self.chunk(window, position)
            if chunk is None or chunk[2] < 0:
                return
            yield chunk
            position = chunk[1] + -(-chunk[2] // self.pad) * self.pad


def _extent(window: ByteWindow, form: _Format, start: int, claimed: int, layout: _Layout) -> _Extent:
    """Where samples that start at `start` end, of which a header claims so many bytes."""
    end, there, rate, align = window.end, window.end - start, layout.rate, layout.align
    if claimed == UNKNOWN_SIZE or (claimed in form.unknown and claimed >= there):
        return _Extent(end, is_as_claimed=False)
    if claimed == 0:
        if there <= 0 or _is_trailer(window, form, start)[0]:
            return _Extent(start, is_as_claimed=True)
        return _Extent(end, is_as_claimed=False)
    if claimed >= there:
        return _Extent(end, is_as_claimed=True)
    after = start + claimed
    for place in (after, after + 1):
        is_trailer, another = _is_trailer(window, form, place)
        if is_trailer:
            return _Extent(after, is_as_claimed=another is None, another=another)
    if form.size == "I" and there - claimed >= WRAP:
        whole = claimed + (there - claimed) // WRAP * WRAP
        if start + whole == end or _is_trailer(window, form, start + whole)[0]:
            note = "its 32-bit sizes have wrapped at 4 GiB: read to its end"
            return _Extent(start + whole, is_as_claimed=False, note=note)
    behind = end - after
    last = _last_byte(window, after)
    if last - after <= max(align, 3):
        return _Extent(after, is_as_claimed=True)
    if behind < align or not _looks_like_samples(window.get(after, LOOK), layout):
        note = f"{behind:,} bytes behind the audio are left out: they are no samples"
        return _Extent(after, is_as_claimed=False, note=note)
    last = min(end, start + -(-(last - start) // align) * align)
    note = (
        f"the header claims {claimed / rate:.2f} s, {(last - start) / rate:.2f} s are there" if rate else ""
    )
    return _Extent(last, is_as_claimed=False, note=note or "the header claims less than is there")


def _is_trailer(window: ByteWindow, form: _Format, position: int) -> tuple[bool, int | None]:
    """Whether chunks follow, or nothing, or another file; and where that starts."""
    if position == window.end:
        return True, None
    for _ in range(MAX_CHUNKS):
        if _piece_starts(window, position):
            return True, position
        chunk = form.chunk(window, position)
        if chunk is None:
            return False, None
        name, start, size = chunk
        is_known = name[:4] in KNOWN
        if not is_known and not (name[:4].isascii() and name[:4].decode("ascii").isprintable()):
            return False, None
        following = start + max(0, size)
        if following >= window.end:
            return is_known or following <= window.end + 1, None
        position = start + -(-max(0, size) // form.pad) * form.pad
        if is_known:  # whatever follows, it is no samples: but perhaps another file
            chunks = form.chunks(window, position)
            places = (position, *(at + -(-size // form.pad) * form.pad for _, at, size in chunks))
            return True, next((place for place in places if _piece_starts(window, place)), None)
    return False, None


def _piece_starts(window: ByteWindow, position: int) -> bool:
    head = window.get(position, 40)
    return (
        (head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE")
        or (head[:16] == W64_RIFF and head[24:28] == b"wave")
        or (head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"))
        or head[:8] == b"caff\0\1\0\0"
        or (head[:4] == b".snd" and 24 <= int.from_bytes(head[4:8], "big") < LOOK)
    )


def _last_byte(window: ByteWindow, start: int) -> int:
    """Position behind the last byte from `start` on that is not zero."""
    end = window.end
    while end > start:
        low = max(start, end - LOOK)
        data = window.get(low, end - low).rstrip(b"\0")
        if data:
            return low + len(data)
        end = low
    return start


def _looks_like_samples(data: bytes, layout: _Layout) -> bool:
    """Whether bytes beyond the claimed ones look like samples: text and random bytes do not."""
    width = layout.width
    n_text = len(data.translate(None, bytes(range(0x20, 0x7F)) + b"\r\n\t"))
    if n_text < len(data) // 10:
        return False
    if width == 0 or abs(width) == 1:
        return True
    top = data[abs(width) - 1 :: abs(width)] if width > 0 else data[::-width]
    n_usual = len(top) - len(top.translate(None, FLOAT_TOPS if layout.is_float else QUIET_TOPS))
    return n_usual > 0.45 * len(top)  # of random bytes, 31 % and less


# ---------------------------------------------------------------------- the formats


def _found(container: str, start: int, extent: _Extent, header: bytes, coding: int = 0) -> Piece:
    notes = (extent.note,) if extent.note else ()
    return Piece(container, range(start, extent.end), header, coding, notes, extent.another)


def _wav(window: ByteWindow, start: int) -> Piece | None:
    mark = window.get(start, 4)
    is_large = mark in (b"RF64", b"BW64")
    form = _Format(">" if mark == b"RIFX" else "<", unknown={*([0] if is_large else []), *STREAMED_MARKS})
    fmt, large = b"", 0
    for name, at, size in form.chunks(window, start + 12):
        if name == b"fmt ":
            fmt = window.get(at, min(size, 1 << 12))
        elif name == b"ds64":
            large = struct.unpack("<QQ", window.get(at, 16).ljust(16, b"\0"))[1]
        elif name == b"data":
            claimed = large if is_large and size in (0, 0xFFFF_FFFF) else size
            return _of_fmt(window, form, "RF64" if is_large else "WAV", fmt, at, claimed, is_first=start == 0)
    return None


def wav_metadata(stream: BinaryIO, names: Sequence[bytes]) -> dict[bytes, bytes]:
    """What chunks of a WAV or RF64 file hold, by their names, its format always; empty for other files.

    Args:
        stream: the seekable file; its position is moved.
        names: of the chunks; of several of a name, the first counts.
    """
    window = ByteWindow(stream)
    head = window.get(0, 12)
    if head[:4] not in (b"RIFF", b"RIFX", b"RF64", b"BW64") or head[8:] != b"WAVE":
        return {}
    form = _Format(">" if head[:4] == b"RIFX" else "<")
    found: dict[bytes, bytes] = {}
    position = 12
    for _ in range(MAX_CHUNKS):
        chunk = form.chunk(window, position)
        if chunk is None:
            break
        name, at, size = chunk
        if name in (*names, b"fmt ", b"ds64"):
            found.setdefault(name, window.get(at, min(size, MAX_METADATA)))
        elif name == b"data" and size == 0xFFFF_FFFF:
            size = int.from_bytes(found.get(b"ds64", b"")[8:16], "little")
            if not size:
                break
        position = at + size + size % 2
    return found


def _w64(window: ByteWindow, start: int) -> Piece | None:
    form = _Format("<", "Q", 8, 16, counts_itself=True)
    fmt = b""
    for name, at, size in form.chunks(window, start + 40):
        if name == b"fmt " + W64_TAIL:
            fmt = window.get(at, min(size, 1 << 12))
        elif name == b"data" + W64_TAIL:
            claimed = size if size < 1 << 62 else UNKNOWN_SIZE
            return _of_fmt(window, form, "W64", fmt, at, claimed, is_first=start == 0)
    return None


def _of_fmt(
    window: ByteWindow,
    form: _Format,
    container: str,
    fmt: bytes,
    at: int,
    claimed: int,
    *,
    is_first: bool,
) -> Piece | None:
    """Samples that a `fmt` chunk describes."""
    if len(fmt) < 16:
        return None
    coding, channels, _, rate, align, bits = struct.unpack(form.order + "HHIIHH", fmt[:16])
    if coding == 0xFFFE and len(fmt) >= 26:
        (coding,) = struct.unpack(form.order + "H", fmt[24:26])
    is_pcm = coding in PCM_CODINGS and channels and align and align == channels * -(-bits // 8)
    width = (align // channels if form.order == "<" else -(align // channels)) if is_pcm else 0
    layout = _Layout(rate, max(1, align), width, is_float=coding == 3)
    extent = _extent(window, form, at, claimed, layout)
    is_right = extent.is_as_claimed and is_first
    header = b"" if is_right else _wav_header(fmt, extent.end - at, order=form.order)
    return _found(container, at, extent, header, coding)


def _wav_header(fmt: bytes, n_bytes: int, *, order: str) -> bytes:
    chunk = b"fmt " + struct.pack(order + "I", len(fmt)) + fmt + bytes(len(fmt) % 2)
    riff = 4 + len(chunk) + 8 + n_bytes + n_bytes % 2
    if riff < WRAP:
        mark = b"RIFX" if order == ">" else b"RIFF"
        sizes = (struct.pack(order + "I", size) for size in (riff, n_bytes))
        return b"%b%bWAVE%bdata%b" % (mark, next(sizes), chunk, next(sizes))
    large = b"ds64" + struct.pack("<IQQQI", 28, riff + 36, n_bytes, 0, 0)
    return b"RF64\xff\xff\xff\xffWAVE" + large + chunk + b"data\xff\xff\xff\xff"


def _au_header(mark: bytes, coding: int, rate_hz: int, channels: int) -> bytes:
    order = ">" if mark == b".snd" else "<"
    return mark + struct.pack(order + "IIIII", 24, 0xFFFF_FFFF, coding, rate_hz, channels)


def _aiff(window: ByteWindow, start: int) -> Piece | None:
    form = _Format(">", unknown=set(STREAMED_MARKS) | {0xFFFF_FFF8})
    comm = b""
    for name, at, size in form.chunks(window, start + 12):
        if name == b"COMM":
            comm = window.get(at, min(size, 1 << 12))
        elif name == b"SSND" and len(comm) >= 18:
            return _aiff_piece(window, form, start, comm, at, size)
    return None


def _aiff_piece(window: ByteWindow, form: _Format, start: int, comm: bytes, at: int, size: int) -> Piece:
    channels, n_frames, bits, exponent, mantissa = struct.unpack(">HIHHQ", comm[:18])
    name = comm[18:22] if len(comm) >= 22 else b"NONE"
    rate_hz = int(mantissa * 2.0 ** (exponent - 16_446)) if exponent < 16_500 else 0
    coding = AU_CODINGS.get((name, -(-bits // 8) * 8))
    align = channels * (1 if name in (b"ulaw", b"alaw") else -(-bits // 8))
    skipped = int.from_bytes(window.get(at, 4), "big")
    first = at + 8 + (skipped if skipped < LOOK else 0)
    claimed = max(0, size - 8) if size not in form.unknown else 0
    if coding is None or not align or not 0 < rate_hz < WRAP:
        return Piece("AIFF", range(first, window.end))
    width = align // channels * (1 if name == b"sowt" else -1) if coding not in (1, 27) else 0
    if claimed and claimed > window.end - first and n_frames * align < claimed:
        claimed = n_frames * align
    layout = _Layout(rate_hz * align, align, width, is_float=name[:2].lower() == b"fl")
    extent = _extent(window, form, first, claimed, layout)
    is_right = extent.is_as_claimed and (n_frames or not claimed) and start == 0
    mark = b"dns." if name == b"sowt" else b".snd"
    return _found("AIFF", first, extent, b"" if is_right else _au_header(mark, coding, rate_hz, channels))


def _au(window: ByteWindow, start: int) -> Piece | None:
    head = window.get(start, 24)
    order = ">" if head[:4] == b".snd" else "<"
    if len(head) < 24:
        return None
    offset, size, coding, rate_hz, channels = struct.unpack(order + "IIIII", head[4:])
    if offset < 24 or offset > LOOK or not channels or start + offset > window.end:
        return None
    width = AU_WIDTHS.get(coding, 0)
    align = max(1, width * channels)
    signed = 0 if coding in (1, 27) else width if order == "<" else -width
    layout = _Layout(rate_hz * align if width else 0, align, signed, is_float=coding in (6, 7))
    claimed = size if size not in STREAMED_MARKS else UNKNOWN_SIZE
    form = _Format(order, unknown=set(STREAMED_MARKS))
    extent = _extent(window, form, start + offset, claimed, layout)
    is_right = (extent.is_as_claimed or claimed == UNKNOWN_SIZE) and not start
    header = b"" if is_right else _au_header(head[:4], coding, rate_hz, channels)
    return _found("AU", start + offset, extent, header)


def _caf(window: ByteWindow, start: int) -> Piece | None:
    form = _Format(">", "Q", 1)
    desc, kept = b"", b"caff\0\1\0\0"
    for name, at, size in form.chunks(window, start + 8):
        if name == b"data":
            return _caf_piece(window, form, start, kept, desc, at, size)
        if name == b"desc":
            desc = window.get(at, min(size, 1 << 10))
        if size < LOOK and len(kept) < LOOK:
            kept += window.get(at - 12, 12 + size)
    return None


def _caf_piece(
    window: ByteWindow, form: _Format, start: int, kept: bytes, desc: bytes, at: int, size: int
) -> Piece | None:
    if len(desc) < 32:
        return None
    rate_hz, coding, flags, n_bytes, n_frames, channels, _ = struct.unpack(">d4sIIIII", desc[:32])
    first = at + 4  # a count of edits comes first
    rate = rate_hz * n_bytes / n_frames if n_frames and n_bytes and rate_hz > 0 else 0.0
    claimed = UNKNOWN_SIZE if size >= 1 << 63 else max(0, size - 4)
    width = n_bytes // channels * (1 if flags & 2 else -1) if coding == b"lpcm" and channels else 0
    layout = _Layout(rate, max(1, n_bytes), width, is_float=coding == b"lpcm" and bool(flags & 1))
    extent = _extent(window, form, first, claimed, layout)
    header = b""
    is_cut = claimed != UNKNOWN_SIZE and claimed > window.end - first > 0 and rate > 0
    if is_cut:  # which libsndfile refuses
        note = f"the header claims {claimed / rate:.2f} s, {(window.end - first) / rate:.2f} s are there"
        extent = extent._replace(note=f"truncated or damaged: {note}")
    if not extent.is_as_claimed or start or is_cut:
        there = extent.end - first
        if n_bytes:
            there -= there % n_bytes
        header = kept + b"data" + struct.pack(">Q", there + 4) + bytes(4)
        extent = extent._replace(end=first + there)
    return _found("CAF", first, extent, header)
