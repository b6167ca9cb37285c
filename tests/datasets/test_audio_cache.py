from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import sounds

from dymn_cli.atomic import atomic_write
from dymn_cli.datasets import audio_cache as module
from dymn_cli.datasets.audio_cache import Kind, open_cache
from dymn_cli.datasets.recordings import find_recordings
from dymn_cli.errors import InputError, OutputError, UsageError
from dymn_cli.frontend import FrontEndConfig, LogMel

FRONT_END = FrontEndConfig()
RATE_HZ = 32_000


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return sounds.noise(round(seconds * RATE_HZ), seed=seed)


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


def entries(folder: Path) -> dict[str, bytes]:
    """What the cache of a folder has on disk."""
    place = folder.parent / "cache"
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the recordings that are decoded, as they are."""
    names: list[str] = []
    plain = module.open_audio

    def note(path: str, *, name: str) -> object:
        names.append(name)
        return plain(path, name=name)

    monkeypatch.setattr(module, "open_audio", note)
    return names


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


def test_any_number_of_threads_gives_the_same_files(folder: Path) -> None:
    one, before = opened(folder), entries(folder)
    assert len(before) == 6
    shutil.rmtree(folder.parent / "cache")
    again = opened(folder, threads=4)
    assert entries(folder) == before
    assert (again.clips, again.fingerprint) == (one.clips, one.fingerprint)


def test_nothing_is_decoded_twice(folder: Path, decoded: list[str]) -> None:
    first = opened(folder)
    assert sorted(decoded) == [*(f"take{n}.wav" for n in range(6)), "take9.wav"]
    decoded.clear()
    assert opened(folder).clips == first.clips
    assert decoded == ["take9.wav"]  # what cannot be read today may be readable tomorrow


def test_one_more_recording_is_one_more_to_decode(folder: Path, decoded: list[str]) -> None:
    (folder / "take9.wav").unlink()
    first, before = opened(folder), entries(folder)
    decoded.clear()
    soundfile.write(folder / "a new one.wav", noise(0.4, 8), RATE_HZ, "PCM_16")
    more = opened(folder)
    assert decoded == ["a new one.wav"]
    assert len(more.clips) == len(first.clips) + 1
    assert more.fingerprint != first.fingerprint
    after = entries(folder)
    assert before.items() < after.items()
    assert len(after) == 7


def test_a_part_of_a_folder_is_found_in_the_whole(folder: Path, decoded: list[str]) -> None:
    opened(folder)
    decoded.clear()
    recordings, _ = find_recordings([str(folder / "take3.wav")])  # it has another name there
    cache = open_cache(recordings, folder.parent / "cache", kind="samples", front_end=FRONT_END)
    assert decoded == []
    wanted, _ = soundfile.read(folder / "take3.wav", dtype="int16")
    assert np.abs(cache.window(0, 0, 10**6).astype(int) - wanted).max() <= 1


def test_files_of_one_name_size_and_time_are_not_taken_for_each_other(tmp_path: Path) -> None:
    caches = []
    for seed, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "take.wav"
        soundfile.write(path, noise(0.5, seed), RATE_HZ, "PCM_16")
        os.utime(path, (1_000_000_000, 1_000_000_000))
        caches.append(opened(tmp_path / name))
    assert not np.array_equal(caches[0].window(0, 0, 100), caches[1].window(0, 0, 100))


def test_a_changed_recording_gives_another_cache(folder: Path) -> None:
    first = opened(folder)
    soundfile.write(folder / "take0.wav", noise(2.0), RATE_HZ, "PCM_16")
    assert opened(folder).fingerprint != first.fingerprint
    assert opened(folder).clips[0].length == 2 * RATE_HZ


def test_a_killed_run_goes_on_with_what_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = module._rows

    def dying(samples: np.ndarray, *rest: object) -> np.ndarray:
        if len(samples) > 0.65 * RATE_HZ:
            raise KeyboardInterrupt
        return plain(samples, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_rows", dying)
    with pytest.raises(KeyboardInterrupt):
        opened(folder)
    assert len(entries(folder)) == 4  # whole ones, and no part of another
    monkeypatch.undo()
    assert len(opened(folder).clips) == 6


def test_what_a_killed_run_left_goes_and_what_another_writes_stays(folder: Path) -> None:
    opened(folder)
    place = next((folder.parent / "cache").iterdir())
    (place / ".dymn-01234567-0123456789abcdef.part").write_bytes(b"half of it")
    with atomic_write(place / "another.clips", durable=False):
        opened(folder)
        assert len(list(place.glob(".*"))) == 1
    assert not list(place.glob(".*"))


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


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff" * 40, bytes(40), None])
def test_a_damaged_entry_is_made_anew(folder: Path, decoded: list[str], damage: bytes | None) -> None:
    first, before = opened(folder), entries(folder)
    decoded.clear()
    name = min(before)
    (folder.parent / "cache" / name).write_bytes(before[name][:-100] if damage is None else damage)
    again = opened(folder)
    assert len(decoded) == 2  # and the one that is no audio
    assert (again.clips, again.fingerprint) == (first.clips, first.fingerprint)
    assert entries(folder) == before


# ---------------------------------------------------------------------- how much there may be


def test_beyond_the_limit_the_least_recently_used_goes(
    folder: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = folder.parent / "cache"

    def use(*names: str) -> None:
        recordings, _ = find_recordings([str(folder / f"take{name}.wav") for name in names])
        open_cache(recordings, cache, kind="samples", front_end=FRONT_END)

    for order, name in enumerate("0123"):
        use(name)
        for path in cache.rglob("*.clips"):
            if path.stat().st_mtime > 1_500_000_000:  # the one that was made just now
                os.utime(path, (1_000_000_000 + order, 1_000_000_000 + order))
    use("0")  # of all the oldest, but used just now
    sizes = {name: round((0.3 + 0.1 * int(name)) * RATE_HZ * 2) for name in "01234"}
    monkeypatch.setenv("DYMN_CACHE_GB", str((sizes["4"] + sizes["0"] + sizes["3"] + 1000) / 1e9))
    use("4")
    decoded.clear()
    use("4", "0", "3")
    assert decoded == []
    use("1")
    use("2")
    assert decoded == ["take1.wav", "take2.wav"]


def test_a_run_keeps_what_it_needs_whatever_the_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYMN_CACHE_GB", "0")
    cache = opened(folder)
    assert len(entries(folder)) == 6
    assert cache.window(5, 0, 10).shape == (10,)
    recordings, _ = find_recordings([str(folder / "take2.wav")])
    open_cache(recordings, folder.parent / "cache", kind="samples", front_end=FRONT_END)
    assert len(entries(folder)) == 1  # no more than that


def test_what_another_run_removed_is_decoded_again(folder: Path) -> None:
    cache = opened(folder)
    before = cache.window(3, 100, 50)
    shutil.rmtree(folder.parent / "cache")
    np.testing.assert_array_equal(cache.window(3, 100, 50), before)
    assert len(entries(folder)) == 1
    soundfile.write(folder / "take4.wav", noise(2.0), RATE_HZ, "PCM_16")
    with pytest.raises(InputError, match=r"take4\.wav: it has changed since the run began"):
        cache.window(4, 0, 50)


def test_nothing_else_in_the_folder_is_touched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYMN_CACHE_GB", "0")
    others = [
        folder.parent / "cache" / name for name in ("my.clips", "ab/my.clips", "ab/notes.part", "x.wav")
    ]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(100))
        os.utime(path, (1_000_000_000, 1_000_000_000))
    opened(folder)
    assert all(path.is_file() for path in others)
    assert module.cache_use(folder.parent / "cache").n_entries == 6


@pytest.mark.parametrize("text", ["many", "-1", "nan", "inf"])
def test_a_limit_that_is_none_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("DYMN_CACHE_GB", text)
    with pytest.raises(UsageError, match=f"DYMN_CACHE_GB={text} is not a number of gigabytes"):
        opened(folder)


def test_the_use_of_a_folder(folder: Path) -> None:
    assert module.cache_use(folder.parent / "cache") == (0, 0)
    opened(folder)
    n_entries, n_bytes = module.cache_use(folder.parent / "cache")
    assert n_entries == 6
    assert n_bytes == sum(map(len, entries(folder).values()))
