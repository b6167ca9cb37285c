"""`dymn search` and `dymn duplicates` on recordings of which the fake model hears the band."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest

Fake = Callable[..., Any]


@pytest.fixture
def sounds(dymn: Any, record: Callable[..., str]) -> str:
    for name, band in (("low1", 72), ("low2", 72), ("mid", 81), ("high", 104)):
        record(f"lib/{name}.wav", (band, 1))
    return "lib"


@pytest.fixture
def library(fake: Fake, sounds: str) -> str:
    assert fake("embed", sounds, "-o", "lib.npy").returncode == 0
    return "lib.npy"


def test_a_recording_finds_what_sounds_like_it(fake: Fake, library: str) -> None:
    ran = fake("search", library, "lib/low1.wav", "-k", 3)
    assert [row[3] for row in ran.rows][:2] == ["lib/low1.wav", "lib/low2.wav"]
    assert float(ran.rows[1][2]) == 1 > float(ran.rows[2][2])


def test_names_of_the_library_are_examples(fake: Fake, library: str) -> None:
    ran = fake("search", library, "--like", "low1.wav", "--not", "mid.wav", "-k", 1, "-f", "json")
    assert [match["source"] for match in json.loads(ran.out)["matches"]] == ["lib/low2.wav"]
    assert fake("search", library, "--like", "none.wav").returncode == 2


def test_a_folder_keeps_an_index_and_embeds_only_what_is_new(fake: Fake, sounds: str, dymn: Any) -> None:
    first = fake("search", sounds, "lib/mid.wav", "-k", 1, "--index", "kept.npy")
    assert "4 of 4 files" in first.err
    again = fake("search", sounds, "lib/mid.wav", "-k", 1, "--index", "kept.npy")
    assert again.out == first.out
    assert "to embed" not in again.err
    shutil.copy(dymn.cwd / "lib/mid.wav", dymn.cwd / "lib/new.wav")
    (dymn.cwd / "lib/high.wav").unlink()
    ran = fake("search", sounds, "lib/mid.wav", "--index", "kept.npy")
    assert "1 of 4 files" in ran.err
    assert {row[3].rpartition("/")[2] for row in ran.rows} == {"low1.wav", "low2.wav", "mid.wav", "new.wav"}


def test_copies_replace_nothing(fake: Fake, library: str, dymn: Any) -> None:
    assert fake("search", library, "lib/low1.wav", "-k", 2, "--copy-to", "out").returncode == 0
    (dymn.cwd / "out/001_low1.wav").write_bytes(b"mine")
    ran = fake("search", library, "lib/low1.wav", "-k", 2, "--copy-to", "out")
    assert "is kept" in ran.err
    assert (dymn.cwd / "out/001_low1.wav").read_bytes() == b"mine"


def test_a_playlist_is_relative_to_where_it_lies(fake: Fake, library: str, dymn: Any) -> None:
    (dymn.cwd / "lists").mkdir()
    assert fake("search", library, "lib/low1.wav", "-k", 1, "-o", "lists/found.m3u8").returncode == 0
    assert (dymn.cwd / "lists/found.m3u8").read_text("utf-8") == "#EXTM3U\n../lib/low1.wav\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("lib/low1.wav", "lib/low1.wav"), 3, "lib/low1.wav"),
        (("none.npy", "lib/low1.wav"), 3, "none.npy"),
        (("lib.npy",), 2, "nothing to look for"),
        (("lib.npy", "lib/low1.wav", "--start", "5"), 3, "ends before"),
        (("lib.npy", "lib/low1.wav", "--min-similarity", "1.1"), 1, "similar enough"),
    ],
)
def test_bad_input_is_one_line(
    fake: Fake, library: str, arguments: tuple[str, ...], code: int, says: str
) -> None:
    ran = fake("search", *arguments)
    assert ran.returncode == code
    assert says in ran.err.splitlines()[-1]


def test_another_model_is_named(fake: Fake, library: str, dymn: Any) -> None:
    meta = dymn.cwd / "lib.meta.json"
    meta.write_text(meta.read_text("utf-8").replace("0" * 64, "1" * 64), "utf-8")
    ran = fake("search", library, "lib/low1.wav")
    assert ran.returncode == 4
    assert "was made with fake (111111111111)" in ran.err


def test_duplicates_say_what_differs(fake: Fake, library: str) -> None:
    ran = fake("duplicates", library, "-f", "json")
    document = json.loads(ran.out)
    assert document["threshold"] == 0.77
    assert [one["source"] for one in document["duplicates"]] == ["lib/low1.wav", "lib/low2.wav"]
    assert document["duplicates"][0]["rate_hz"] == 32_000
    assert "1 group at a similarity of 0.77 or more (auto)" in ran.err
