"""`dymn eval` where the truth says from when to when."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from dymn_cli.labels import Vocabulary

Fake = Callable[..., Any]

TRUTH = (
    "filename\tonset\toffset\tevent_label\nfarm.wav\t1.0\t2.0\tDog\nfarm.wav\t5.0\t6.0\tMoo\nbarn.wav\t\t\t\n"
)
EVENTS = (
    "source,channel,start_s,end_s,label,mid,score,mean_score,n_windows\n"
    "farm.wav,mix,1.1,2.1,Dog,/m/0bt9lr,0.9,0.8,1\n"
    "farm.wav,mix,7.0,8.0,Dog,/m/0bt9lr,0.4,0.3,1\n"
    "farm.wav,mix,5.0,6.0,Music,/m/04rlf,0.9,0.8,1\n"
)


@pytest.fixture
def files(dymn: Any) -> Path:
    folder: Path = dymn.cwd
    (folder / "truth.tsv").write_text(TRUTH)
    (folder / "events.csv").write_text(EVENTS)
    return folder


def test_a_finished_result_is_judged(fake: Fake, files: Path) -> None:
    ran = fake("eval", "events.csv", "--truth", "truth.tsv", "-f", "csv")
    assert ran.returncode == 0, ran.err
    dog, moo = csv.DictReader(io.StringIO(ran.out))
    assert (dog["label"], dog["n_events"], dog["event_precision"], dog["event_recall"]) == (
        "Dog",
        "1",
        "0.5",
        "1",
    )
    assert (moo["label"], moo["event_f1"], moo["psds1"]) == ("Moo", "0", "")
    assert "event-based F1 0.333, intersection-based F1 0.333" in ran.err
    assert "the result does not name, which count as without events: 1, the first is barn.wav" in ran.err
    assert "no PSDS" in ran.err


def test_psds_where_the_recordings_are_beside_the_result(fake: Fake, files: Path) -> None:
    for name in ("farm.wav", "barn.wav"):
        sf.write(files / name, np.zeros(36 * 8000), 8000)
    ran = fake("eval", "events.csv", "--truth", "truth.tsv", "-f", "json")
    assert ran.returncode == 0, ran.err
    document = json.loads(ran.out)
    assert (document["schema"], document["duration_s"]) == ("dymn.eval-events/1", 72.0)
    assert document["psds_from"] == "the events' own scores"
    # Alone the right event, at a threshold above 0.4; below, one false alarm in 72 s.
    assert document["classes"][0]["psds1"] == 1.0
    assert document["psds1"] == 0.0  # half of the classes, less as much spread


def test_a_table_on_a_terminal(fake: Fake, files: Path) -> None:
    ran = fake("eval", "events.csv", "--truth", "truth.tsv", "-f", "table")
    assert ran.returncode == 0
    assert "2 recordings, 2 true events of 2 classes; 1 event of other labels not judged" in ran.out


def test_label_tracks_of_a_folder_and_words_of_ones_own(fake: Fake, files: Path) -> None:
    (files / "marks").mkdir()
    (files / "marks" / "farm.txt").write_text("1.0\t2.0\twoof\n")
    (files / "map.csv").write_text("truth,label\nwoof,Dog\n")
    unknown = fake("eval", "events.csv", "--truth", "marks")
    assert (unknown.returncode, unknown.out) == (2, "")
    assert '1 label unknown to the model: "woof"' in unknown.err
    ran = fake("eval", "events.csv", "--truth", "marks", "--map", "map.csv")
    assert ran.returncode == 0, ran.err
    assert ran.out.split("\t")[0] == "Dog"


@pytest.mark.parametrize(
    "options",
    [["--plot", "a.png"], ["--write-thresholds", "t.csv"], ["--at-precision", "0.9"], ["--part", "1"]],
)
def test_what_is_about_whole_recordings_is_refused(fake: Fake, files: Path, options: list[str]) -> None:
    ran = fake("eval", "events.csv", "--truth", "truth.tsv", *options)
    assert (ran.returncode, ran.out) == (2, "")
    assert f"{options[0]} is about whole recordings" in ran.err


def test_finished_events_take_no_options_of_audio(fake: Fake, files: Path) -> None:
    ran = fake("eval", "events.csv", "--truth", "truth.tsv", "-m", "none")
    assert (ran.returncode, ran.out) == (2, "")
    assert "-m is about audio; events.csv is a finished result" in ran.err


def test_one_recording_in_two_results_is_refused(fake: Fake, files: Path) -> None:
    (files / "old.csv").write_text(EVENTS.replace("farm.wav", "barn.wav"))
    ran = fake("eval", "events.csv", "old.csv", "--truth", "truth.tsv")
    assert ran.returncode == 0, ran.err
    (files / "old.csv").write_text(EVENTS)
    ran = fake("eval", "events.csv", "old.csv", "--truth", "truth.tsv")
    assert (ran.returncode, ran.out) == (3, "")
    assert "farm.wav is in events.csv and in old.csv; leave one of them out" in ran.err


def test_tags_are_no_events(fake: Fake, files: Path) -> None:
    (files / "tags.csv").write_text("source,channel,start_s,end_s,rank,label,mid,score\n")
    ran = fake("eval", "tags.csv", "--truth", "truth.tsv")
    assert (ran.returncode, ran.out) == (3, "")
    assert "tags.csv: not a table of events" in ran.err


def test_events_of_audio_are_found_and_judged_at_all_thresholds(
    fake: Fake, record: Callable[..., str], dymn: Any
) -> None:
    dog, moo = (Vocabulary.audioset()[band].name for band in (72, 87))
    record("takes/farm.wav", (72, 8), (87, 6))
    (dymn.cwd / "takes" / "broken.wav").write_bytes(b"RIFF")
    rows = f"farm.wav\t0\t8\t{dog}\nfarm.wav\t8\t14\t{moo}\nbroken.wav\t0\t1\t{dog}\ngone.wav\t0\t1\t{dog}\n"
    (dymn.cwd / "truth.tsv").write_text(f"filename\tonset\toffset\tevent_label\n{rows}")
    ran = fake("eval", "takes", "--truth", "truth.tsv", "-f", "json")
    assert ran.returncode == 6, ran.err
    assert "warning: recordings of the truth without a result: 1, the first is gone.wav" in ran.err
    document = json.loads(ran.out)
    assert (document["n_recordings"], document["duration_s"]) == (1, 14.0)
    assert document["psds_from"] == "frame scores"
    assert [one["intersection"]["f1"] for one in document["classes"]] == [1.0, 1.0]
    assert (document["psds1"], document["psds2"]) == (1.0, 1.0)
    unknown = fake("eval", "takes", "--truth", "truth.tsv", "-m", "none")
    assert unknown.returncode == 2
