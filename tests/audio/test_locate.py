from __future__ import annotations

import os
from pathlib import Path

import pytest

from dymn_cli.audio.locate import Locator
from dymn_cli.errors import AudioNotFoundError


def test_names_without_a_suffix_are_those_of_the_only_audio_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("night.flac", "day.wav", "day.mp3", "day.txt"):
        (tmp_path / name).touch()
    assert Locator().find("night") == "night.flac"
    for source in ("day", "noon"):
        with pytest.raises(AudioNotFoundError, match=f"{source}: no such recording"):
            Locator().find(source)


@pytest.mark.skipif(os.sep == "\\", reason="no names hold a backslash there")
@pytest.mark.parametrize("folder", ["in", "."])
def test_a_backslash_may_be_part_of_a_name(tmp_path: Path, folder: str) -> None:
    for name in ("back\\slash.wav", "windows.wav"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).touch()
        assert Path(Locator(str(tmp_path)).find(f"in/{name}")) == tmp_path / folder / name
    assert Path(Locator(str(tmp_path)).find("C:\\in\\windows.wav")) == tmp_path / folder / "windows.wav"


def test_nothing_in_a_name_leads_out_of_the_root(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret.wav").touch()
    for source in ("../secret.wav", str(tmp_path / "secret.wav"), "x/../../secret.wav"):
        with pytest.raises(AudioNotFoundError, match="no such recording"):
            Locator(str(tmp_path / "root")).find(source)
