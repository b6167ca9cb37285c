from __future__ import annotations

import csv
import os
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from dymn_cli.audio.locate import Locator
from dymn_cli.cutting import CutOptions, CutSummary, Cutter, choose
from dymn_cli.cutting.cutter import CLIP_FORMATS
from dymn_cli.cutting.names import clip_name, folders_of, portable
from dymn_cli.errors import OutputError, UsageError
from dymn_cli.results import Event

RATE_HZ = 8_000


def event(
    source: object, start_s: float, end_s: float, label: str = "Dog", score: float = 0.5, **more: Any
) -> Event:
    return Event(str(source), more.get("channel", "mix"), start_s, end_s, 0, label, "", score, score, 1)


def sound(n_s: float, channels: int = 2, rate_hz: int = RATE_HZ) -> NDArray[np.int32]:
    full = np.iinfo(np.int32)
    rng = np.random.default_rng(3)
    return rng.integers(full.min, full.max, (int(n_s * rate_hz), channels), np.int32, endpoint=True)


def record(path: Path, n_s: float = 10.0, subtype: str = "PCM_16", **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples: Any = sound(n_s, **how)
    if subtype in ("FLOAT", "DOUBLE", "VORBIS", "MPEG_LAYER_III"):
        samples = samples / 2.0**32
    with soundfile.SoundFile(
        path, "w", how.get("rate_hz", RATE_HZ), samples.shape[1], subtype=subtype
    ) as file:
        file.write(samples)
    return path


def cut(folder: Path, events: Sequence[Event], root: Path | None = None, **options: Any) -> CutSummary:
    with Cutter(str(folder), CutOptions(**options), Locator(root and str(root))) as cutter:
        for one in events:
            cutter.write(one)
        return cutter.finish()


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "clips.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


# ---------------------------------------------------------------------- samples


@pytest.mark.parametrize(
    ("name", "subtype"),
    [
        ("a.wav", "PCM_16"),
        ("a.wav", "PCM_24"),
        ("a.wav", "PCM_32"),
        ("a.wav", "PCM_U8"),
        ("a.wav", "FLOAT"),
        ("a.wav", "DOUBLE"),
        ("a.flac", "PCM_16"),
        ("a.flac", "PCM_24"),
        ("a.aiff", "PCM_24"),
        ("a.w64", "PCM_16"),
    ],
)
def test_clips_are_the_samples_of_the_recording(name: str, subtype: str, tmp_path: Path) -> None:
    path = record(tmp_path / name, subtype=subtype)
    cut(tmp_path / "clips", [event(path, 1.25, 2.5), event(path, 0.0, 0.3), event(path, 9.5, 10.0)])
    dtype = {"FLOAT": "float32", "DOUBLE": "float64"}.get(subtype, "int32")
    whole, _ = soundfile.read(path, dtype=dtype)
    for row in rows_of(tmp_path / "clips"):
        clip = tmp_path / "clips" / row["file"]
        info = soundfile.info(clip)
        assert (info.samplerate, info.channels, info.subtype) == (RATE_HZ, 2, subtype)
        assert info.format == ("FLAC" if name == "a.flac" else "WAV")
        start, stop = (round(float(row[name]) * RATE_HZ) for name in ("cut_start_s", "cut_end_s"))
        np.testing.assert_array_equal(soundfile.read(clip, dtype=dtype)[0], whole[start:stop])


@pytest.mark.parametrize(("name", "subtype"), [("a.ogg", "VORBIS"), ("a.mp3", "MPEG_LAYER_III")])
def test_lossy_recordings_are_cut_as_they_are_heard(name: str, subtype: str, tmp_path: Path) -> None:
    path = record(tmp_path / name, subtype=subtype, rate_hz=32_000)
    events = [event(path, 1.0, 3.0), event(path, 2.0, 4.0), event(path, 0.5, 0.75)]
    cut(tmp_path / "clips", events)
    whole = soundfile.read(path)[0]
    for row, one in zip(rows_of(tmp_path / "clips"), [events[2], *events[:2]], strict=True):
        clip, _ = soundfile.read(tmp_path / "clips" / row["file"])
        want = whole[int(one.start_s * 32_000) : int(one.end_s * 32_000)]
        assert clip.shape == want.shape
        assert np.abs(clip - want.clip(-1, 1)).max() < 2**-14


def test_a_recording_with_a_damaged_spot_is_cut_by_the_times_that_were_analysed(tmp_path: Path) -> None:
    path = record(tmp_path / "a.wav")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    summary = cut(tmp_path / "clips", [event(path, 1.0, 2.0), event(path, 4.5, 6.0), event(path, 7.0, 8.0)])
    whole = sound(10.0)
    (first, second) = rows_of(tmp_path / "clips")[:2]
    for row, start, stop in ((first, 8_000, 16_000), (second, 36_000, 39_900)):
        clip, _ = soundfile.read(tmp_path / "clips" / row["file"], dtype="int32")
        np.testing.assert_array_equal(clip[: stop - start] >> 16, (whole[start:stop] >> 16)[: len(clip)])
    assert summary.n_clips >= 2


def test_pads_end_with_the_recording(tmp_path: Path) -> None:
    path = record(tmp_path / "a.wav", 3.0)
    cut(tmp_path / "clips", [event(path, 0.5, 1.0), event(path, 2.0, 2.5)], pad_s=1.0)
    first, second = rows_of(tmp_path / "clips")
    assert (first["start_s"], first["cut_start_s"], first["cut_end_s"]) == ("0.5", "0.0", "2.0")
    assert (second["cut_start_s"], second["cut_end_s"]) == ("1.0", "3.0")
    assert soundfile.info(tmp_path / "clips" / second["file"]).frames == 2 * RATE_HZ


def test_lengths_are_limited(tmp_path: Path) -> None:
    path = record(tmp_path / "a.wav")
    events = [event(path, 0.0, 0.1), event(path, 1.0, 9.0)]
    summary = cut(tmp_path / "clips", events, min_length_s=0.5, max_length_s=2.0)
    (row,) = rows_of(tmp_path / "clips")
    assert (row["end_s"], row["cut_end_s"], summary.n_short) == ("9.0", "3.0", 1)


@pytest.mark.parametrize("name", CLIP_FORMATS)
def test_clips_have_the_format_that_is_asked_for_and_the_same_bytes_each_time(
    name: str, tmp_path: Path
) -> None:
    path = record(tmp_path / "a.wav", subtype="FLOAT", rate_hz=48_000)
    cut(tmp_path / "clips", [event(path, 1.0, 2.0)], format=name)
    (row,) = rows_of(tmp_path / "clips")
    assert row["file"].endswith(f".{name}")
    info = soundfile.info(tmp_path / "clips" / row["file"])
    assert (info.samplerate, info.channels) == (48_000, 2)
    assert abs(info.duration - 1.0) < 0.1
    cut(tmp_path / "again", [event(path, 1.0, 2.0)], format=name)
    again = (tmp_path / "again" / row["file"]).read_bytes()
    assert again == (tmp_path / "clips" / row["file"]).read_bytes()


@pytest.mark.parametrize(
    ("name", "rate_hz", "clip_hz"),
    [
        ("opus", 44_100, 48_000),
        ("opus", 22_050, 24_000),
        ("opus", 192_000, 48_000),
        ("mp3", 192_000, 48_000),
        ("mp3", 6_000, 8_000),
        ("ogg", 384_000, 200_000),
        ("ogg", 44_100, 44_100),
    ],
)
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_clips_get_the_next_rate_that_their_format_holds(
    name: str, rate_hz: int, clip_hz: int, subtype: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(2 * rate_hz) / rate_hz)
    soundfile.write(path, np.stack((tone, 0 * tone), axis=1), rate_hz, subtype=subtype)
    summary = cut(tmp_path / "clips", [event(path, 0.5, 1.5)], format=name)
    assert not summary.failures
    (row,) = rows_of(tmp_path / "clips")
    samples, rate = soundfile.read(tmp_path / "clips" / row["file"])
    assert rate == clip_hz
    assert len(samples) == pytest.approx(clip_hz, rel=0.1)
    spectrum = np.abs(np.fft.rfft(samples[: clip_hz // 2, 0]))
    assert spectrum.argmax() == 500
    assert np.abs(samples).max(axis=0) == pytest.approx([0.5, 0], abs=0.1)


def test_what_a_format_cannot_hold_costs_that_recording(tmp_path: Path) -> None:
    path = record(tmp_path / "a.wav", 2.0, channels=6)
    summary = cut(tmp_path / "clips", [event(path, 0.0, 1.0)], format="mp3")
    (failure,) = summary.failures
    assert ".mp3 does not hold 8000 Hz, 6 channels" in failure.message
    assert rows_of(tmp_path / "clips") == []
    assert {path.name for path in (tmp_path / "clips").iterdir()} == {"clips.csv", "clips.csv.failures.csv"}


# ---------------------------------------------------------------------- names

SAFE = set(string.ascii_letters + string.digits + "._-")


@pytest.mark.parametrize(
    "source",
    [
        "../../etc/passwd", "/abs/x.wav", "-rf", "--.wav", ".hidden.wav", "a b;$(rm).wav", "müde Ärger.wav",
        "夜.wav", "na\udcefve.wav", "two\nlines.wav", "x" * 300 + ".wav", "con.wav", "C:\\a\\b.wav",
        "-", "..", "",
    ],
)  # fmt: skip
def test_names_are_portable_whatever_the_recording_is_called(source: str) -> None:
    name = clip_name(source, 1.5, 3723.25, "Subway, metro, underground", "mix", "wav")
    assert set(name) <= SAFE
    assert name[0] not in "-."
    assert len(name) < 200
    assert name.endswith("_000001.500_003723.250_subway-metro-underground.wav")
    assert all(set(folder) <= SAFE and folder not in ("", ".", "..") for folder in folders_of(source))


def test_names_sort_by_time() -> None:
    times = [0.0, 2.0, 10.0, 99.9, 1000.0, 86_400.0]
    names = [clip_name("n.wav", time_s, time_s + 1, "Dog", "mix", "wav") for time_s in times]
    assert sorted(names) == names


def test_accents_go_and_devices_of_windows_are_no_names() -> None:
    assert [portable(text, 80) for text in ("Müller & Co.", "aux", "夜", "a" * 90)] == [
        "Muller-Co", "aux-", "x", "a" * 80
    ]  # fmt: skip


def test_recordings_of_one_name_do_not_meet(tmp_path: Path) -> None:
    one, other, third = (record(tmp_path / name) for name in ("a/n.wav", "b/N.wav", "c/n.flac"))
    cut(tmp_path / "clips", [event(path, 1.0, 2.0) for path in (one, other, third)], format="wav")
    rows = rows_of(tmp_path / "clips")
    assert [row["source"] for row in rows] == [str(path) for path in (one, other, third)]
    assert len({row["file"].lower() for row in rows}) == 3
    again = cut(tmp_path / "clips", [event(path, 1.0, 2.0) for path in (third, other)], format="wav")
    assert (again.n_cut, again.n_kept) == (0, 2)


def test_channels_and_labels_that_look_alike_do_not_meet(tmp_path: Path) -> None:
    path = record(tmp_path / "a.wav")
    events = [event(path, 1, 2, "A!"), event(path, 1, 2, "A?"), event(path, 1, 2, "A!", channel="1")]
    cut(tmp_path / "clips", [*events, events[0]])
    assert len({row["file"] for row in rows_of(tmp_path / "clips")}) == 3


def test_folders_by_label_or_as_the_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record(tmp_path / "rec" / "d 1" / "a.wav")
    events = [event("rec/d 1/a.wav", 1, 2, "Dog"), event("rec/d 1/a.wav", 3, 4, "Owl")]
    cut(tmp_path / "label", events, layout="label")
    assert sorted(row["file"].split("/")[0] for row in rows_of(tmp_path / "label")) == ["dog", "owl"]
    cut(tmp_path / "mirror", events, layout="mirror")
    assert {row["file"].rpartition("/")[0] for row in rows_of(tmp_path / "mirror")} == {"rec/d-1"}
    assert all((tmp_path / "mirror" / row["file"]).is_file() for row in rows_of(tmp_path / "mirror"))


def test_folders_that_are_links_are_not_written_through(tmp_path: Path) -> None:
    path = record(tmp_path / "a.wav")
    (tmp_path / "clips").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "clips" / "dog").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="symbolic link"):
        cut(tmp_path / "clips", [event(path, 1, 2)], layout="label")
    assert not list((tmp_path / "elsewhere").iterdir())


# ---------------------------------------------------------------------- going on


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = record(tmp_path / "a.wav")
    events = [event(path, n, n + 0.5) for n in range(8)]
    folder = tmp_path / "clips"
    with pytest.raises(KeyboardInterrupt), Cutter(str(folder), CutOptions(), Locator()) as cutter:
        for one in events[:5]:
            cutter.write(one)
        raise KeyboardInterrupt
    # What a kill leaves: a row whose clip is not there, half a row, and half a clip.
    rows = rows_of(folder)
    (folder / rows[4]["file"]).unlink()
    with (folder / "clips.csv").open("ab") as file:
        file.write(b"a.wav,5.0,5.5,D")
    (folder / ".dymn-12345678-00.part").write_bytes(b"RIFF")
    kept = {row["file"]: (folder / row["file"]).stat().st_mtime_ns for row in rows[:4]}
    summary = cut(folder, events)
    assert (summary.n_cut, summary.n_kept) == (4, 4)
    assert [float(row["start_s"]) for row in rows_of(folder)] == list(range(8))
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept
    assert not list(folder.glob(".dymn-*"))
    assert cut(folder, events).n_kept == 8


def later(path: Path) -> None:
    """Let a file be newer than all clips."""
    os.utime(path, ns=(2_000_000_000_000_000_000,) * 2)


def test_clips_of_a_recording_that_changed_are_cut_again(tmp_path: Path) -> None:
    path, other = record(tmp_path / "a.wav"), record(tmp_path / "b.wav")
    folder = tmp_path / "clips"
    cut(folder, [event(path, 1, 2), event(path, 3, 4), event(path, 5, 6), event(other, 1, 2)])
    soundfile.write(path, sound(10.0) // 2, RATE_HZ, subtype="PCM_16")
    later(path)
    events = [event(path, 1, 2), event(path, 3, 4, score=0.75), event(other, 1, 2)]
    summary = cut(folder, events)
    assert (summary.n_cut, summary.n_kept, summary.n_outdated) == (2, 1, 1)
    cut(tmp_path / "fresh", events)
    kept = [row for row in rows_of(folder) if row["start_s"] != "5.0"]
    assert kept == rows_of(tmp_path / "fresh")
    for row in kept:
        assert (folder / row["file"]).read_bytes() == (tmp_path / "fresh" / row["file"]).read_bytes()


def test_clips_of_a_recording_that_lost_its_events_are_counted(tmp_path: Path) -> None:
    path, other = record(tmp_path / "a.wav"), record(tmp_path / "b.wav")
    folder = tmp_path / "clips"
    cut(folder, [event(path, 1, 2), event(path, 3, 4), event(other, 1, 2)])
    assert cut(folder, [event(path, 1, 2)]).n_outdated == 0  # other events of the same recording
    later(path)
    with Cutter(str(folder), CutOptions(), Locator()) as cutter:
        cutter.expect(str(path))
        cutter.write(event(other, 1, 2))
        assert cutter.finish().n_outdated == 2
    with Cutter(str(folder), CutOptions(), Locator()) as cutter:
        cutter.expect(str(path))  # alone
        assert cutter.finish().n_outdated == 2
    assert len(rows_of(folder)) == 3


def test_another_score_changes_the_row_and_not_the_clip(tmp_path: Path) -> None:
    path, folder = record(tmp_path / "a.wav"), tmp_path / "clips"
    cut(folder, [event(path, 1, 2)])
    (clip,) = folder.glob("*.wav")
    clip.write_bytes(b"edited")
    assert cut(folder, [event(path, 1, 2, score=0.75)]).n_kept == 1
    assert [row["score"] for row in rows_of(folder)] == ["0.75"]
    assert clip.read_bytes() == b"edited"


@pytest.mark.parametrize("layout", ["flat", "label"])
def test_two_runs_do_not_cut_into_one_folder(layout: str, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    path, folder = record(tmp_path / "a.wav"), tmp_path / "clips"
    with Cutter(str(folder), CutOptions(layout="flat"), Locator()) as cutter:
        cutter.write(event(path, 1, 2))
        with pytest.raises(OutputError, match="another run is cutting into this folder"):
            cut(folder, [event(path, 1, 2), event(path, 3, 4)], layout=layout)
        cutter.write(event(path, 5, 6))
        cutter.finish()
    assert len(rows_of(folder)) == 2
    assert cut(folder, [event(path, 1, 2), event(path, 3, 4)]).n_kept == 1


def test_files_of_others_are_not_replaced(tmp_path: Path) -> None:
    path = record(tmp_path / "a.wav")
    folder = tmp_path / "clips"
    folder.mkdir()
    mine = folder / clip_name(str(path), 1, 2, "Dog", "mix", "wav")
    mine.write_text("mine")
    with pytest.raises(OutputError, match=r"the file exists, and clips\.csv does not name it"):
        cut(folder, [event(path, 1, 2)])
    assert mine.read_text() == "mine"
    cut(folder, [event(path, 1, 2)], force=True)
    assert soundfile.info(mine).frames == RATE_HZ
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "clips.csv").write_text("mine\n")
    with pytest.raises(OutputError, match="is not a table of clips"):
        cut(tmp_path / "other", [event(path, 1, 2)])


def test_a_recording_that_fails_costs_its_own_clips_only(tmp_path: Path) -> None:
    good = record(tmp_path / "good.wav")
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no sound at all" * 100)
    short = record(tmp_path / "short.wav", 2.0)
    events = [event(tmp_path / "gone.wav", 0, 1), event(bad, 0, 1), event(bad, 1, 2), event(short, 0, 1)]
    summary = cut(tmp_path / "clips", [*events, event(short, 5, 6), event(good, 0, 1)])
    assert summary.n_cut == 2
    failed = [Path(failure.source).name for failure in summary.failures]
    assert failed == ["gone.wav", "bad.wav", "short.wav"]
    assert "it ends at 2.000 s, and an event starts at 5.000 s" in summary.failures[2].message
    listed = (tmp_path / "clips" / "clips.csv.failures.csv").read_text()
    assert listed.startswith("source,error,message,hint\n") and listed.count("\n") == 4
    record(tmp_path / "gone.wav"), record(bad), record(short, 10.0)
    assert cut(tmp_path / "clips", [*events, event(short, 5, 6), event(good, 0, 1)]).failures == ()
    assert not (tmp_path / "clips" / "clips.csv.failures.csv").exists()
    assert len(rows_of(tmp_path / "clips")) == 6


# ---------------------------------------------------------------------- where recordings are


def test_recordings_are_found_below_a_root(tmp_path: Path) -> None:
    for name in ("moved/D/a.wav", "moved/deep/b.wav", "moved/x/c.wav", "moved/y/c.wav", "moved/n.flac"):
        record(tmp_path / name, 2.0)
    locate = Locator(str(tmp_path / "moved"))
    assert locate.find("/old/disk/D/a.wav") == str(tmp_path / "moved/D/a.wav")
    assert locate.find("b.wav") == str(tmp_path / "moved/deep/b.wav")
    assert locate.find("labels/n") == str(tmp_path / "moved/n.flac")
    for source, said in (
        ("c.wav", "or"),
        ("z.wav", "no such recording"),
        ("../../moved/../etc/passwd", "no such"),
    ):
        summary = cut(tmp_path / "clips", [event(source, 0, 1)], tmp_path / "moved")
        assert said in summary.failures[0].message
    assert Locator(str(tmp_path / "moved/n.flac")).find("-") == str(tmp_path / "moved/n.flac")


# ---------------------------------------------------------------------- which


def chosen(number: int, how: str, seed: int = 0) -> list[float]:
    events = [event("a.wav", n, n + 1, "Dog" if n % 2 else "Owl", n / 100) for n in range(100)]
    return [one.score for one in choose(events, number, how, seed=seed)]


def test_the_best_of_each_label_are_chosen() -> None:
    assert chosen(2, "highest") == [0.96, 0.97, 0.98, 0.99]
    assert chosen(2, "lowest") == [0.0, 0.01, 0.02, 0.03]


def test_chance_is_seeded_and_fair() -> None:
    assert chosen(5, "random", 1) == chosen(5, "random", 1) != chosen(5, "random", 2)
    assert len(chosen(5, "random")) == 10
    first_halves = sum(score < 0.5 for seed in range(40) for score in chosen(5, "random", seed))
    assert 140 < first_halves < 260


def test_a_spread_sample_has_all_heights_of_scores() -> None:
    assert {int(score * 10) for score in chosen(10, "spread")} == set(range(10))
    assert len(chosen(10, "spread")) == 20
    assert len(chosen(1000, "spread")) == 100


def test_scores_are_needed_but_by_chance() -> None:
    unknown = [event("a.wav", n, n + 1, score=float("nan")) for n in range(9)]
    assert len(choose(unknown, 3, "random")) == 3
    with pytest.raises(UsageError, match="no scores"):
        choose(unknown, 3)
    with pytest.raises(UsageError, match="no sample 'worst'"):
        choose(unknown, 3, "worst")
