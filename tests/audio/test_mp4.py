"""An index that claims more than its file can hold is refused before FFmpeg makes room for it."""

from __future__ import annotations

import io
import struct

import pytest

from dymn_cli.audio.mp4 import require_plausible_index
from dymn_cli.errors import CorruptAudioError, UnsupportedAudioError

MANY = 40_000_000


def box(name: bytes, *data: bytes) -> bytes:
    return struct.pack(">I", 8 + sum(map(len, data))) + name + b"".join(data)


def stsz(n: int, size: int = 1) -> bytes:
    return box(b"stsz", struct.pack(">III", 0, size, n))


def trun(n: int) -> bytes:
    return box(b"trun", struct.pack(">IIi", 1, n, 8))


def in_moov(table: bytes) -> bytes:
    return box(b"moov", box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", table)))))


FTYP, MDAT = box(b"ftyp", b"M4A \0\0\0\0"), box(b"mdat", bytes(1_200))
BOMBS = {
    "sizes": FTYP + in_moov(stsz(MANY)) + MDAT,
    "behind the data": FTYP + MDAT + in_moov(stsz(MANY)),
    "a table of zero bytes": FTYP + in_moov(stsz(MANY, 0)) + MDAT,
    "fragments": FTYP + box(b"moof", box(b"traf", trun(MANY))) + MDAT,
    "many small fragments": FTYP + box(b"moof", box(b"traf", trun(900))) * 50 + MDAT,
    "two tracks": FTYP + in_moov(stsz(900)) + in_moov(stsz(900)) + MDAT,
    "a strange box in front": box(b"\1\2\3\4") + FTYP + in_moov(stsz(MANY)) + MDAT,
    "a place of its own": FTYP + box(b"udta", stsz(MANY)) + MDAT,
    "a long box": FTYP + struct.pack(">I4sQ", 1, b"moov", 16 + 20) + stsz(MANY) + MDAT,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_an_index_that_cannot_be_is_refused(bomb: str) -> None:
    with pytest.raises(CorruptAudioError, match=r"x: damaged: its index claims [\d,]+ samples, more than"):
        require_plausible_index(io.BytesIO(BOMBS[bomb]), "x")


def test_a_compressed_index_is_not_read() -> None:
    with pytest.raises(UnsupportedAudioError, match="compressed index"):
        require_plausible_index(io.BytesIO(FTYP + box(b"moov", box(b"cmov", bytes(40)))), "x")


def test_what_can_be_is_let_in() -> None:
    require_plausible_index(io.BytesIO(FTYP + in_moov(stsz(900)) + MDAT), "x")
    require_plausible_index(io.BytesIO(FTYP + MDAT + stsz(9)), "x")
    for data in (b"", b"\0", bytes(100), b"\x1a\x45\xdf\xa3" + b"stsz" * 100, b"\xff" * 1_000):
        require_plausible_index(io.BytesIO(data), "x")


def test_a_table_that_lies_across_two_looks_is_seen() -> None:
    for n in range(65_480, 65_560):
        data = FTYP + box(b"moov", box(b"free", bytes(n)), stsz(MANY)) + MDAT
        with pytest.raises(CorruptAudioError):
            require_plausible_index(io.BytesIO(data), "x")
