"""Tags in front of audio, and files that must not reach a decoder.

ID3v2 tags in front of other formats than MP3 are skipped: behind a tag libsndfile refuses some formats, and
of others read from memory it loses as much audio at the end as the tag is long. In front of MP3, large tags
are skipped: libsndfile would read them into memory as a whole, up to 256 MiB.

Two kinds of files must not reach libsndfile at all, because it prints its complaints about them on standard
output, which is for results: MIDI sample dumps, and ALAC whose packet table is damaged.

Sources: ID3v2.4 section 3.1, MIDI's Sample Dump Standard, Apple's Core Audio Format specification.
"""

from __future__ import annotations

import re
from typing import BinaryIO

from dymn_cli.audio.mpeg import id3v2_size
from dymn_cli.audio.virtual_files import SplicedFile, read_at, size_of
from dymn_cli.errors import CorruptAudioError, UnsupportedAudioError

__all__ = [
    "after_tags",
    "is_all_zeros",
    "is_for_media",
    "is_other",
    "lacks_mp4_index",
    "require_harmless",
    "without_tags",
]

MAX_CHUNKS = 10_000  # real files have a few dozen; a file of nothing else must not keep us for minutes
MAX_TAGS = 100
UNTAGGED = {b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"fLaC", b"OggS", b"caff", b".snd"}
LARGE_TAGS = 1 << 20
PACKET_TABLE_HEADER = 24
MAX_PACKET_TABLE = 64 << 20  # with the usual 4,096 samples a packet: months of sound
OVERLONG_NUMBER = re.compile(rb"[\x80-\xff]{5}")  # numbers of packet tables end within five bytes
SAMPLE_DUMP = (0xF0, 0x7E, 0x01)  # bytes 0, 1 and 3 of MIDI's; byte 2 is the device
ZEROS_LOOK = 64 << 20
# What the media extra reads, by its first bytes.
MEDIA = re.compile(
    rb"caff|....(ftyp|moov|mdat|free|skip|wide|pnot)|\x1a\x45\xdf\xa3|\x30\x26\xb2\x75|FLV|RIFF....AVI "
    rb"|#!AMR|MAC |wvpk|TTA[12]|tBaK|MPCK|MP\+|\.RMF|\0\0\x01\xba|G.{187}G|ADIF|\xff[\xf0\xf1\xf8\xf9]"
    rb"|\x0b\x77|\x7f\xfe\x80\x01|DSD |FRM8|....\xf8\x72\x6f|\x56[\xe0-\xff]",
    re.DOTALL,
)
OTHER = (
    b"PK\3\4",
    b"\x1f\x8b",
    b"%PDF",
    b"\x89PNG",
    b"GIF8",
    b"\xff\xd8\xff",
    b"\x7fELF",
    b"\xfd7zXZ",
    b"BZh",
    b"Rar!",
    b"7z\xbc",
)
COMPRESSED_TAR = (".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")


def without_tags(stream: BinaryIO) -> SplicedFile | None:
    """The file from behind its ID3v2 tags on; None where there are no tags or they do no harm.

    Args:
        stream: the seekable file; its position is left anywhere.
    """
    start = after_tags(stream)
    if not start or (start <= LARGE_TAGS and read_at(stream, start, 4) not in UNTAGGED):
        return None
    return SplicedFile(stream, [range(start, max(start, size_of(stream)))])


def after_tags(stream: BinaryIO, *, with_footers: bool = False) -> int:
    """Where the ID3v2 tags at the front end; libsndfile's own search knows nothing of their footers.

    Args:
        stream: the seekable file; its position is left anywhere.
        with_footers: count them, too.
    """
    position = 0
    for _ in range(MAX_TAGS):
        tag = read_at(stream, position, 10)
        if tag[:3] != b"ID3" or len(tag) < 10:
            break
        position += 10 + id3v2_size(tag) + (10 if with_footers and tag[5] & 0x10 else 0)
    return position


def require_harmless(stream: BinaryIO, name: str) -> None:
    """Refuse what must not reach libsndfile.

    Raises:
        CorruptAudioError: hundreds of tags, or a damaged packet table.
        UnsupportedAudioError: a MIDI sample dump.
    """
    head = read_at(stream, after_tags(stream), 4)
    if head[:3] == b"ID3":  # libsndfile would follow all of them
        raise CorruptAudioError(f"{name}: damaged: hundreds of tags in front of the audio")
    if len(head) == 4 and (head[0], head[1], head[3]) == SAMPLE_DUMP:
        raise UnsupportedAudioError(f"{name}: a MIDI sample dump, which is not read")
    if _has_bad_packet_table(stream):
        raise CorruptAudioError(f"{name}: damaged: its packet table does not add up")


def _has_bad_packet_table(stream: BinaryIO) -> bool:
    """Whether a Core Audio file holds ALAC and its table of packet sizes cannot be right."""
    head = read_at(stream, 0, 32)
    if head[:4] != b"caff" or head[28:] != b"alac":
        return False
    position = 8  # after the file's header; chunks are a name, a size of 64 bits, and the data
    for _ in range(MAX_CHUNKS):
        chunk = read_at(stream, position, 12)
        n_bytes = int.from_bytes(chunk[4:], "big")
        if len(chunk) < 12:
            return False
        if chunk[:4] == b"pakt":
            if n_bytes > MAX_PACKET_TABLE:
                return True
            sizes = read_at(stream, position + 12, n_bytes)[PACKET_TABLE_HEADER:]
            return OVERLONG_NUMBER.search(sizes) is not None or sizes[-1:] > b"\x7f"
        position += 12 + n_bytes
    return True


def is_for_media(stream: BinaryIO) -> bool:
    """Whether a file starts as one of a format that PyAV reads and libsndfile does not."""
    return MEDIA.match(read_at(stream, 0, 200)) is not None


def is_other(stream: BinaryIO) -> bool:
    """Whether a file starts as something that is no sound: an archive may hold an MP3, and is none."""
    return read_at(stream, 0, 8).startswith(OTHER) or _is_tar(stream)


def _is_tar(stream: BinaryIO) -> bool:
    return read_at(stream, 257, 5) == b"ustar"


def archive_hint(stream: BinaryIO, name: str) -> str | None:
    """How the recordings in a zip or tar are read; a compressed tar is known by its name alone."""
    if read_at(stream, 0, 4) == b"PK\3\4":
        scheme = "zip"
    elif _is_tar(stream) or name.lower().endswith(COMPRESSED_TAR):
        scheme = "tar"
    else:
        return None
    return f"{scheme}://::{name} reads the recordings in it"


def is_all_zeros(stream: BinaryIO) -> bool:
    """Whether a file has zero bytes only; of a very large one its two ends are looked at."""
    size = size_of(stream)
    step = 1 << 20
    for position in (*range(0, min(size, ZEROS_LOOK), step), max(0, size - step)):
        data = read_at(stream, position, step)
        if data.count(0) != len(data):
            return False
    return size > 0


def lacks_mp4_index(stream: BinaryIO) -> bool:
    """Whether an MP4 has its sound, but neither an index (moov) nor fragments (moof)."""
    position, has_data = 0, False
    for _ in range(MAX_CHUNKS):
        box = read_at(stream, position, 16)
        size, kind = int.from_bytes(box[:4], "big"), box[4:8]
        if len(box) < 8 or (position == 0 and kind not in (b"ftyp", b"mdat", b"free", b"skip", b"wide")):
            break
        if kind in (b"moov", b"moof"):
            return False
        has_data = has_data or kind == b"mdat"
        if size == 1:
            size = int.from_bytes(box[8:16], "big")
        if size < 8:
            break
        position += size
    return has_data
