"""What is measured on: the same everywhere, one window a clip, in every format."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dymn_cli.audio.decode import open_audio
from dymn_cli.bench import clips
from dymn_cli.bench.clips import CLIP_S, FORMATS, RATE_HZ, copies, synthesise, write_long
from dymn_cli.errors import OutputError


def test_the_same_seed_is_the_same_sound() -> None:
    sound = synthesise(0.5, seed=3)
    assert sound.shape == (RATE_HZ // 2, 2)
    assert sound.dtype == np.float32
    assert np.array_equal(sound, synthesise(0.5, seed=3))
    assert not np.array_equal(sound, synthesise(0.5, seed=4))


def test_sound_uses_the_range_and_both_channels() -> None:
    sound = synthesise(2.0, seed=0)
    assert 0.3 < np.abs(sound).max() <= 1.0
    assert np.corrcoef(sound[:, 0], sound[:, 1])[0, 1] < 0.999


@pytest.mark.parametrize("form", FORMATS)
def test_every_clip_decodes_to_ten_seconds_of_stereo(originals: dict[str, list[Path]], form: str) -> None:
    """A sample more would be a second window, and twice the work for the model."""
    for path in originals[form]:
        with open_audio(path) as reader:
            n_frames = sum(len(block) for block in reader.blocks(1 << 16))
            assert (n_frames, reader.info.rate_hz, reader.info.channels) == (CLIP_S * 44_100, 44_100, 2)
            assert reader.warnings == []


def test_formats_are_what_their_suffixes_say(originals: dict[str, list[Path]]) -> None:
    kinds = {form: soundfile.info(str(paths[0])) for form, paths in originals.items()}
    assert {form: info.format for form, info in kinds.items()} == {
        "wav": "WAV",
        "flac": "FLAC",
        "mp3": "MP3",
        "ogg": "OGG",
    }
    assert kinds["ogg"].subtype == "VORBIS"


def test_copies_repeat_the_originals_under_names_of_their_own(
    originals: dict[str, list[Path]], tmp_path: Path
) -> None:
    few = copies(originals["ogg"], tmp_path / "ogg", 2)
    more = copies(originals["ogg"], tmp_path / "ogg", 6)
    assert more[:2] == few
    assert len(set(more)) == 6
    assert more[5].read_bytes() == originals["ogg"][1].read_bytes()


def test_a_long_recording_is_one_stream_that_knows_its_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minutes hold as many windows as they should, and the header is believed: no slow way of reading."""
    monkeypatch.setattr(clips, "MINUTE_S", 19.9)
    path = tmp_path / "long.mp3"
    write_long(path, 3)
    with open_audio(path) as reader:
        samples = np.concatenate(list(reader.blocks(1 << 16)))
        assert reader.warnings == []
        assert reader.info.n_frames == len(samples)
    assert 59 < len(samples) / RATE_HZ <= 60
    loudness = np.abs(samples[: 59 * RATE_HZ]).max(axis=1).reshape(59, -1).max(axis=1)
    assert loudness.min() > 0.1


def test_a_long_recording_that_does_not_fit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clips, "MINUTE_S", 1)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 99, 1))
    with pytest.raises(OutputError, match="no space") as caught:
        write_long(tmp_path / "long.mp3", 1)
    assert "--long" in (caught.value.hint or "")
    assert not (tmp_path / "long.mp3").exists()
