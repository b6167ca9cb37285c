from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dymn_cli.errors import InputError, OutputError
from dymn_cli.frontend import FrontEndConfig, LogMel
from dymn_cli.train import cache as module
from dymn_cli.train.cache import Kind, open_cache
from dymn_cli.train.recordings import find_recordings

FRONT_END = FrontEndConfig()
RATE_HZ = 32_000


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE_HZ)).clip(-1, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven recordings of different length, one of which is no audio."""
    place = tmp_path / "data"
    place.mkdir()
    for n in range(6):
        soundfile.write(place / f"take{n}.wav", noise(0.3 + 0.1 * n, n), RATE_HZ, "PCM_16")
    (place / "take9.wav").write_bytes(b"RIFF, but nothing more")
    return place


def opened(folder: Path, kind: Kind = "samples", threads: int = 1) -> module.ClipCache:
    recordings, _ = find_recordings([str(folder)])
    return open_cache(recordings, folder.parent / "cache", kind=kind, front_end=FRONT_END, threads=threads)


def test_samples_come_back_in_sixteen_bits(folder: Path) -> None:
    cache = opened(folder)
    assert [clip.recording for clip in cache.clips] == list(range(6))
    for n, clip in enumerate(cache.clips):
        wanted, _ = soundfile.read(folder / f"take{n}.wav", dtype="float32")
        found = cache.window(n, 0, clip.length).astype(np.float32) / 32_768
        assert np.abs(found - wanted).max() < 1e-4
    assert cache.seconds == pytest.approx(sum(0.3 + 0.1 * n for n in range(6)))


def test_log_mels_come_back_in_half_precision(folder: Path) -> None:
    cache = opened(folder, "log-mels")
    samples, _ = soundfile.read(folder / "take3.wav", dtype="float32")
    wanted = LogMel()(samples)[0, 0].T
    found = cache.window(3, 0, 1000)
    assert found.dtype == np.float16
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 2e-3


def test_windows_end_with_their_clip(folder: Path) -> None:
    cache = opened(folder)
    length = cache.clips[0].length
    assert len(cache.window(0, length - 10, 50)) == 10
    assert len(cache.window(0, length + 5, 50)) == 0


def test_what_cannot_be_read_is_skipped_and_told(folder: Path) -> None:
    ((number, reason),) = opened(folder).skipped
    assert number == 6
    assert "take9.wav" in reason


def test_any_number_of_threads_gives_the_same_file(folder: Path) -> None:
    one = opened(folder)
    before = (folder.parent / "cache" / one.fingerprint / "rows.bin").read_bytes()
    for path in (folder.parent / "cache" / one.fingerprint).iterdir():
        path.unlink()
    again = opened(folder, threads=4)
    assert (folder.parent / "cache" / again.fingerprint / "rows.bin").read_bytes() == before
    assert again.clips == one.clips


def test_nothing_is_decoded_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(folder)
    monkeypatch.setattr(module, "open_audio", None)
    assert opened(folder).clips == first.clips


def test_a_changed_recording_gives_another_cache(folder: Path) -> None:
    first = opened(folder)
    soundfile.write(folder / "take0.wav", noise(2.0), RATE_HZ, "PCM_16")
    assert opened(folder).fingerprint != first.fingerprint
    assert opened(folder).clips[0].length == 2 * RATE_HZ


def test_a_killed_run_is_begun_anew(folder: Path) -> None:
    first = opened(folder)
    place = folder.parent / "cache" / first.fingerprint
    (place / "clips.json").unlink()
    (place / "rows.bin").write_bytes(b"half of it")
    assert opened(folder).clips == first.clips
    assert len(opened(folder).window(5, 0, 10**6)) == first.clips[5].length


def test_long_recordings_become_pieces(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_S", 1)
    soundfile.write(folder / "take0.wav", noise(2.51, seed=7), RATE_HZ, "PCM_16")
    soundfile.write(folder / "take1.wav", noise(2.01, seed=8), RATE_HZ, "PCM_16")  # 10 ms over: no piece
    cache = opened(folder)
    assert [(c.recording, c.length) for c in cache.clips[:5]] == [
        (0, 32_000),
        (0, 32_000),
        (0, 16_320),
        (1, 32_000),
        (1, 32_000),
    ]
    whole = np.concatenate([cache.window(n, 0, 10**6) for n in range(3)]).astype(np.float32) / 32_768
    assert np.abs(whole - noise(2.51, seed=7)).max() < 1e-4


def test_no_readable_recording_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.wav").write_bytes(b"no audio at all")
    with pytest.raises(InputError, match=r"none of 1 recordings can be decoded; the first: a\.wav"):
        opened(tmp_path / "data")
    assert not list((tmp_path / "cache").rglob("*.part"))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(folder: Path) -> None:
    recordings, _ = find_recordings([str(folder)])
    locked = folder.parent / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(OutputError, match="permission denied"):
        open_cache(recordings, locked, kind="samples", front_end=FRONT_END)


def test_a_file_in_the_way_is_one_sentence(folder: Path) -> None:
    recordings, _ = find_recordings([str(folder)])
    (folder.parent / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="not a directory"):
        open_cache(recordings, folder.parent / "file", kind="samples", front_end=FRONT_END)


def test_a_damaged_cache_says_how_to_get_rid_of_it(folder: Path) -> None:
    first = opened(folder)
    (folder.parent / "cache" / first.fingerprint / "clips.json").write_text("{")
    with pytest.raises(OutputError, match="damaged cache"):
        opened(folder)
