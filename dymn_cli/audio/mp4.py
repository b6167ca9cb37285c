"""The index of an MP4, before FFmpeg reads it: FFmpeg keeps some 36 bytes a sample that it claims.

A file of two kilobytes may claim forty million samples, since tables of samples of one size, or of runs of
equal ones, take no room. No sample that holds anything is smaller than a byte: so what an index claims is
held to the size of its file.

Source: ISO/IEC 14496-12.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, BinaryIO

from dymn_cli.audio.virtual_files import ByteWindow
from dymn_cli.errors import CorruptAudioError, UnsupportedAudioError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["require_plausible_index"]

KNOWN = {b"ftyp", b"moov", b"moof", b"mdat", b"pnot", b"udta", b"styp", b"sidx", b"trak"}
DATA = {b"mdat", b"free", b"skip", b"wide", b"idat"}  # which hold no tables
# FFmpeg finds tables in any box, also where none belongs, so all boxes are searched.
TABLE = re.compile(rb"stsz|stz2|trun|cmov")
MAX_BOXES = 2_000_000
MAX_SAMPLES = 1 << 24  # four days of AAC at 48 kHz, 600 MB in FFmpeg
LOOK = 1 << 16
TABLE_HEAD = 16  # name, version, size of a sample, number of samples


def require_plausible_index(stream: BinaryIO, name: str) -> None:
    """Refuse an MP4 whose index claims more samples than its file can hold.

    Args:
        stream: the seekable file; its position is moved.
        name: what errors call the source.

    Raises:
        CorruptAudioError: its index claims too many.
        UnsupportedAudioError: its index is compressed and cannot be checked.
    """
    window = ByteWindow(stream)
    if not any(kind in KNOWN for kind, _, _ in _boxes(window)):
        return
    most = min(window.end, MAX_SAMPLES)
    n_samples = 0
    for outer, start, end in _boxes(window):
        if outer in DATA:
            continue
        for kind, head in _tables(window, start, end):
            if kind == b"cmov":
                raise UnsupportedAudioError(f"{name}: an MP4 with a compressed index, which is not read")
            n_samples += int.from_bytes(head[4:8] if kind == b"trun" else head[8:12], "big")
            if n_samples > most:
                raise CorruptAudioError(
                    f"{name}: damaged: its index claims {n_samples:,} samples, "
                    f"more than {window.end:,} bytes can hold"
                )


def _boxes(window: ByteWindow) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of each outer box."""
    position = 0
    for _ in range(MAX_BOXES):
        head = window.get(position, 16)
        if len(head) < 8:
            return
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        end = window.end if size == 0 else position + max(size, 8)
        yield head[4:8], position, min(end, window.end)
        position = end


def _tables(window: ByteWindow, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """Name of each table, and the bytes that follow it."""
    position = start
    while position < end:
        chunk = window.get(position, min(LOOK, end - position))
        is_last = position + len(chunk) >= end
        for match in TABLE.finditer(chunk):
            if is_last or match.start() < len(chunk) - TABLE_HEAD:
                yield match[0], chunk[match.end() : match.end() + TABLE_HEAD]
        position += len(chunk) if is_last else len(chunk) - TABLE_HEAD
