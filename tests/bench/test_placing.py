"""Sounds in known places: where they are put, and what is said of events."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dymn_cli.bench.placing import Placed, judge, main, put_together
from dymn_cli.demo import demo_clips
from dymn_cli.errors import InputError
from dymn_cli.results import Event

RATE_HZ = 32_000
DOG, BELL = 1, 2


def event(index: int, start_s: float, end_s: float) -> Event:
    return Event("scene", "mix", start_s, end_s, index, str(index), "", 0.9, 0.8, 3)


def test_events_are_compared_with_the_places_of_their_own_label() -> None:
    placed = [Placed(DOG, 10.0, 12.0), Placed(BELL, 30.0, 31.0), Placed(BELL, 50.0, 55.0)]
    events = [
        event(DOG, 9.0, 13.5),  # ends 1.0 and 1.5 s off
        event(BELL, 10.0, 12.0),  # another sound is there: neither found nor too much
        event(BELL, 50.2, 51.0),  # two pieces of one sound, from 0.2 to 0.1 s off
        event(BELL, 53.0, 54.9),
        event(DOG, 70.0, 71.0),  # nothing is there
        event(99, 70.0, 71.0),  # a label that no sound has
    ]
    verdict = judge(placed, events)
    assert (verdict.n_found, verdict.n_pieces, verdict.n_more) == (2, 1, 1)
    assert verdict.off_s == pytest.approx((0.2 + 1.0) / 2)
    assert (verdict.n_short, verdict.n_found_short) == (1, 0)


def test_sounds_lie_where_it_is_said_that_they_lie() -> None:
    rng = np.random.default_rng(0)
    sounds = [(n, rng.normal(0, 0.01, RATE_HZ * (1 + n)).astype(np.float32)) for n in range(3)]
    recording, background, placed = put_together(sounds, [rng.normal(0, 1, 1000).astype(np.float32)])
    assert sorted((p.index, p.end_s - p.start_s) for p in placed) == [(n, 1.0 + n) for n in range(3)]
    there = np.zeros(len(recording), bool)
    for place in placed:
        there[round(place.start_s * RATE_HZ) : round(place.end_s * RATE_HZ)] = True
    assert np.array_equal(recording[~there], background[~there])
    level = np.sqrt(np.mean(np.square(recording[there] - background[there], dtype=np.float64)))
    assert level == pytest.approx(0.1, rel=0.01)
    gaps = np.diff([0.0, *(second for p in placed for second in (p.start_s, p.end_s))])[::2]
    assert gaps.min() >= 8


def test_it_measures_with_the_shipped_model(tmp_path: Path) -> None:
    for clip in demo_clips():
        shutil.copy(clip.path, tmp_path)
    (tmp_path / "notes.txt").write_text("no sound")
    head, columns, *lines = main(tmp_path, "dymn04_kd")
    assert head.startswith("# 3 sounds of 3 labels in 1 min")
    rows = [dict(zip(columns.split("\t"), line.split("\t"), strict=True)) for line in lines]
    assert [row["window_s"] for row in rows] == ["10.0", "10.0", "5.0", "2.0", "1.0"]
    assert rows[2]["found"] == "100%"


def test_a_folder_without_sounds_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sounds"):
        list(main(tmp_path, "dymn04_kd"))
