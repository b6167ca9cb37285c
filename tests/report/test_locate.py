from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote

import pytest

from dymn_cli.errors import AudioNotFoundError
from dymn_cli.remote.uri import named
from dymn_cli.report.locate import Recordings, link_to


@pytest.fixture
def moved(tmp_path: Path) -> Path:
    for name in ("a/1.wav", "b/1.wav", "b/only.flac", "deep/er/2.wav"):
        path = tmp_path / "moved" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "moved"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a/1.wav", "a/1.wav"),
        ("/old/place/b/1.wav", "b/1.wav"),
        ("/old/place/2.wav", "deep/er/2.wav"),
        ("only", "b/only.flac"),  # a label track has no suffix
        ("/a/1.wav", "a/1.wav"),
    ],
)
def test_recordings_that_have_moved(moved: Path, name: str, found: str) -> None:
    assert Recordings(str(moved)).path_of(name) == str(moved / found)


@pytest.mark.parametrize("name", ["1.wav", "c/1.wav", "3.wav"])
def test_what_is_not_there_or_might_be_either_is_said(moved: Path, name: str) -> None:
    with pytest.raises(AudioNotFoundError, match=r"no such recording|\.wav or .*\.wav\?"):
        Recordings(str(moved)).path_of(name)


def test_beside_the_result(moved: Path) -> None:
    recordings = Recordings(beside=[str(moved / "b")])
    assert recordings.path_of("1.wav") == str(moved / "b" / "1.wav")
    assert recordings.path_of("only") == str(moved / "b" / "only.flac")
    with pytest.raises(AudioNotFoundError) as caught:
        recordings.path_of("2.wav")
    assert "--audio" in str(caught.value.hint)
    with pytest.raises(AudioNotFoundError, match="no such file or folder"):
        Recordings(str(moved / "nowhere"))


@pytest.mark.parametrize("name", ["a b.wav", "50%.wav", "#1?.wav", "<script>'\".wav", "c:d.wav", "ä/é.wav"])
def test_links_spell_any_name(tmp_path: Path, name: str) -> None:
    link = link_to(str(tmp_path / "in" / name), tmp_path / "out" / "r.html")
    assert link.startswith("../in/")
    assert not set(link) & set(" ?#<>\"':")
    assert unquote(link) == f"../in/{name}"


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.wav")
    assert link_to(str(tmp_path / name), tmp_path / "r.html") == "%FF.wav"


@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("https://h.example:8443/a b.wav", "https://h.example:8443/a b.wav"),
        ("http://[::1]:80/a.wav?take=2", "http://[::1]:80/a.wav?take=2"),
        (named("https://me:pass@h.example/a.wav?sig=1"), "https://h.example/a.wav"),
        ("file:///a/b.wav", "file:///a/b.wav"),
        ("s3://bucket/a.wav", ""),
        ("javascript://h/%0aalert(1)", ""),
        ("https://h;script-src *//a.wav", ""),
    ],
)
def test_a_recording_on_the_web_is_linked_and_no_other_uri(tmp_path: Path, name: str, link: str) -> None:
    assert link_to(name, tmp_path / "r.html") == link
