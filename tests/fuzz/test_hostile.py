"""Files made by hand, each with one lie that has broken some decoder somewhere."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fuzzing import hostile
from fuzzing.hunt import Hunter

pytestmark = pytest.mark.fuzz

MIB = 1 << 20


def test_files_made_by_hand(hunter: Hunter, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="some are only refused, or only read, with the media extra")
    wrong = []
    for number, (name, data, expected) in enumerate(hostile.files()):
        path = tmp_path / f"{number}"
        path.write_bytes(data)
        for target in ("audio", "taste"):
            verdict = hunter.try_one({"target": target, "path": str(path), "run": 1, "number": number})
            if verdict.problem or verdict.outcome not in expected:
                wrong.append(f"{name}: {verdict.outcome} by {target}: {verdict.problem}")
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def bomb(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Hours of silence in a few hundred kilobytes."""
    path = tmp_path / "bomb"
    match request.param:
        case "flac":
            path.write_bytes(hostile.flac(32_000, 0, 1_758))
        case "upsampled flac":
            path.write_bytes(hostile.flac(1_000, (1 << 36) - 1, 27))
        case "opus":
            soundfile.write(path, np.zeros(300 * 8_000, np.float32), 8_000, format="OGG", subtype="OPUS")
        case "sparse wav":
            size = 2 * 32_000 * 3_600
            fmt = hostile.chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 32_000, 64_000, 2, 16))
            path.write_bytes(b"RIFF\xff\xff\xff\xffWAVE" + fmt + b"data" + struct.pack("<I", size))
            os.truncate(path, path.stat().st_size + size)
    yield path


@pytest.mark.parametrize(
    ("bomb", "seconds", "kilobytes"),
    [
        ("flac", "3600.33 s", 30),
        ("upsampled flac", "1769.44 s", 1),
        ("opus", "300.00 s", 100),
        ("sparse wav", "3600.00 s", 0),
    ],
    indirect=["bomb"],
)
def test_a_bomb_takes_time_but_no_memory(bomb: Path, seconds: str, kilobytes: int, seeds: Path) -> None:
    """A day of silence that compresses to nothing is a legitimate recording: it is read like any other."""
    if kilobytes:
        assert bomb.stat().st_size < kilobytes * 1_000
    else:
        assert bomb.stat().st_blocks * 512 < MIB
    with Hunter(seeds, limit_s=60.0, limit_mib=32.0) as hunter:
        verdict = hunter.try_one({"target": "whole_of", "text": str(bomb)})
    assert verdict.problem is None
    assert verdict.outcome == seconds


def test_tags_of_hundreds_of_megabytes_are_not_read(seeds: Path, tmp_path: Path) -> None:
    """An ID3v2 tag may be 256 MiB long; that it is really there must not bring it into memory."""
    path = tmp_path / "tagged.mp3"
    with path.open("wb") as file:
        file.write(hostile.id3((1 << 28) - 1))
        file.seek(10 + (1 << 28) - 1)
        file.write((seeds / "audio" / "MP3-MPEG_LAYER_III.sf").read_bytes())
    with Hunter(seeds, limit_mib=64.0) as hunter:
        verdict = hunter.try_one({"target": "whole_of", "text": str(path)})
    assert (verdict.outcome, verdict.problem) == ("0.20 s", None)


def test_gigabytes_of_nothing_are_refused_at_once(seeds: Path, tmp_path: Path) -> None:
    path = tmp_path / "hole"
    path.touch()
    os.truncate(path, 8 << 30)
    with Hunter(seeds, limit_s=5.0, limit_mib=64.0) as hunter:
        verdict = hunter.try_one({"target": "whole_of", "text": str(path)})
    assert verdict.problem is None
    assert verdict.outcome in hostile.REFUSED
