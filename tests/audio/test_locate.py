from __future__ import annotations

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


def test_nothing_in_a_name_leads_out_of_the_root(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret.wav").touch()
    for source in ("../secret.wav", str(tmp_path / "secret.wav"), "x/../../secret.wav"):
        with pytest.raises(AudioNotFoundError, match="no such recording"):
            Locator(str(tmp_path / "root")).find(source)
