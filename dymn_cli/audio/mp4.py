"""The index of an MP4, before FFmpeg reads it: FFmpeg keeps some 36 bytes a sample that it claims.

A file of two kilobytes may claim forty million samples, since tables of samples of one size, or of runs of
equal ones, take no room. No sample that holds anything is smaller than a byte: so what an index claims is
held to the size of its file.

Source: ISO/IEC 14496-12.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from dymn_cli.audio.views import Window
from dymn_cli.errors import CorruptAudioError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["require_plausible_index"]

CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"mvex", b"edts"}
STARTS = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof", b"sidx"}
MAX_DEPTH = 8
MAX_BOXES = 2_000_000
MAX_SAMPLES = 1 << 24  # four days of AAC at 48 kHz, 600 MB in FFmpeg
MAX_RUNS = 1 << 22  # entries of a table of runs
RUN_LOOK = 1 << 16


def require_plausible_index(stream: BinaryIO, name: str) -> None:
    """Refuse an MP4 whose index claims more samples than its file can hold.

    Args:
        stream: the seekable file; its position is moved.
        name: what errors call the source.

    Raises:
        CorruptAudioError: it does.
    """
    window = Window(stream)
    if window.get(4, 4) not in STARTS:
        return
    most = min(window.end, MAX_SAMPLES)
    n_samples = 0
    for kind, start, end in _boxes(window, 0, window.end, 0):
        n_samples += _claimed(window, kind, start, end)
        if n_samples > most:
            raise CorruptAudioError(
                f"{name}: damaged: its index claims {n_samples:,} samples, more than {window.end:,} bytes hold"
            )


def _boxes(window: Window, position: int, end: int, depth: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the data of each box, outer ones first."""
    stack = [(position, end)]
    for _ in range(MAX_BOXES):
        while stack and stack[-1][0] + 8 > stack[-1][1]:
            stack.pop()
        if not stack:
            return
        position, end = stack[-1]
        head = window.get(position, 16)
        if len(head) < 8:
            stack.pop()
            continue
        size, kind, start = int.from_bytes(head[:4], "big"), head[4:8], position + 8
        if size == 1:
            size, start = int.from_bytes(head[8:16], "big"), position + 16
        box_end = end if size == 0 else position + size
        stack[-1] = (max(box_end, position + 8), end)
        box_end = min(box_end, window.end)
        if kind in CONTAINERS and len(stack) <= MAX_DEPTH:
            stack.append((start, box_end))
        else:
            yield kind, start, box_end


def _claimed(window: Window, kind: bytes, start: int, end: int) -> int:
    """Samples that a table claims."""
    if kind == b"stsz":
        return int.from_bytes(window.get(start + 8, 4), "big")
    if kind == b"stz2":
        return int.from_bytes(window.get(start + 8, 4), "big")
    if kind == b"trun":
        return int.from_bytes(window.get(start + 4, 4), "big")
    return 0
