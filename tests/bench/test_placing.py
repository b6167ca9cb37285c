"""Sounds in known places: where they are put, and what is said of events."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dymn_cli.bench.placing import Placed, Sound, accepted, judge, main, put_together
from dymn_cli.demo import demo_clips
from dymn_cli.errors import InputError
from dymn_cli.labels import Vocabulary
from dymn_cli.results import Event
from dymn_cli.tagging.event_options import ON

RATE_HZ = 32_000
DOG, BELL, BARK, HUM = 1, 2, 3, 4


def event(index: int, start_s: float, end_s: float) -> Event:
    return Event("scene", "mix", start_s, end_s, index, str(index), "", 0.9, 0.8, 3)


def placed_at(index: int, start_s: float, end_s: float, *others: int) -> Placed:
    return Placed(index, frozenset({index, *others}), start_s, end_s)


def test_events_are_compared_with_the_sounds_that_accept_their_label() -> None:
    placed = [placed_at(DOG, 10.0, 12.0, BARK), placed_at(BELL, 30.0, 31.0), placed_at(BELL, 50.0, 55.0)]
    events = [
        event(DOG, 9.0, 13.5),  # 1.0 s early, 1.5 s late
        event(BARK, 11.0, 12.0),  # right as well
        event(BELL, 10.0, 12.0),  # another sound is there: a wrong row
        event(BELL, 50.2, 51.0),  # two pieces of one sound, 0.2 s late, 0.1 s early
        event(BELL, 53.0, 54.9),
        event(DOG, 70.0, 71.0),  # nothing is there
        event(HUM, 70.0, 71.0),  # the bed hums by itself
    ]
    verdict = judge(placed, events, own={HUM})
    assert (verdict.n_sounds, verdict.n_found) == (3, 2)
    assert (verdict.n_rows, verdict.n_right, verdict.n_gaps) == (5, 4, 1)
    assert verdict.off_s == pytest.approx((0.2 + 1.0) / 2)
    assert (verdict.start_s, verdict.end_s) == pytest.approx(((-1.0 + 0.2) / 2, (1.5 - 0.1) / 2))


def test_kinds_and_what_they_are_kinds_of_are_accepted() -> None:
    vocabulary = Vocabulary.audioset()
    names = {vocabulary[n].name for n in accepted([vocabulary.find("Dog").index], vocabulary)}
    assert {"Dog", "Bark", "Howl", "Domestic animals, pets", "Animal"} <= names
    assert not {"Cat", "Meow", "Speech"} & names


@pytest.mark.parametrize("bed", ["quiet", "noisy"])
def test_sounds_lie_where_it_is_said_that_they_lie(bed: str) -> None:
    rng = np.random.default_rng(0)
    sounds = [
        Sound(n, frozenset({n}), rng.normal(0, 0.01, RATE_HZ * (1 + n)).astype(np.float32)) for n in range(3)
    ]
    behind = [rng.normal(0, 1, 1000).astype(np.float32)]
    recording, background, placed = put_together(sounds, behind, bed=bed)
    assert sorted((p.index, p.end_s - p.start_s) for p in placed) == [(n, 1.0 + n) for n in range(3)]
    there = np.zeros(len(recording), bool)
    for place in placed:
        part = slice(round(place.start_s * RATE_HZ), round(place.end_s * RATE_HZ))
        there[part] = True
        assert 0.06 < np.abs(recording[part] - background[part]).max() < 0.64
    assert np.array_equal(recording[~there], background[~there])
    level = np.sqrt(np.mean(np.square(background, dtype=np.float64)))
    assert level == pytest.approx(1e-4 if bed == "quiet" else 1e-2, rel=0.01)
    gaps = np.diff([0.0, *(second for p in placed for second in (p.start_s, p.end_s))])[::2]
    assert gaps.min() >= 4


def demo_folder(folder: Path) -> Path:
    for clip in demo_clips():
        shutil.copy(clip.path, folder)
    (folder / "notes.txt").write_text("no sound")
    return folder


@pytest.mark.slow
def test_it_measures_with_the_shipped_model(tmp_path: Path) -> None:
    head, columns, *lines = main(demo_folder(tmp_path), ["dymn04_kd"], thresholds=[0.5])
    assert head == "# 3 sounds of 3 labels"
    rows = [dict(zip(columns.split("\t"), line.split("\t"), strict=True)) for line in lines]
    assert [(row["bed"], row["method"], row["on"]) for row in rows] == [
        ("quiet", method, on) for method in ("windows", "frames") for on in (f"{ON[method]:g}", "0.5")
    ]
    assert float(rows[2]["found"]) == 1.0
    assert float(rows[3]["off_s"]) < 0.5


def test_a_table_says_what_sounds_are(tmp_path: Path) -> None:
    folder = demo_folder(tmp_path)
    names = sorted(path.name for path in folder.iterdir() if path.suffix == ".flac")
    (folder / "said.csv").write_text(f"file,label\n{names[0]},Dog;Cat\n")
    head, *_ = main(folder, ["dymn04_kd"], labels=folder / "said.csv", methods=["frames"])
    assert head == "# 1 sounds of 1 labels"


def test_a_folder_without_sounds_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sounds"):
        list(main(tmp_path, ["dymn04_kd"]))
