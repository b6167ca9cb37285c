"""`dymn tag`: what it says, in each form. Exact scores are those of a fake; the real model comes last."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dymn_cli import __version__
from dymn_cli.labels import Vocabulary

CAT, PURR, HORSE, CLOP, ANIMAL, PETS, DUCK = 81, 82, 87, 88, 72, 73, 104  # as AudioSet numbers them

Record = Callable[..., str]
Fake = Callable[..., Any]


@pytest.fixture
def cat(record: Record) -> str:
    """Ten seconds, one window."""
    return record("cat.wav", (CAT, 10))


@pytest.fixture
def zoo(record: Record) -> str:
    """25 s: ten of a cat, eight of a horse, seven of a duck."""
    return record("zoo.wav", (CAT, 10), (HORSE, 8), (DUCK, 7))


def by_csv(data: bytes, **options: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8")), **options))


# ---------------------------------------------------------------------- forms


def test_a_pipe_gets_rows_of_tabs_without_a_header(fake: Fake, record: Record) -> None:
    name = record("a zoo.flac", (ANIMAL, 10))
    ran = fake("tag", name, "-k", 3)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.out == (
        "a zoo.flac\tmix\t0.0\t10.0\t1\tAnimal\t0.9000\n"
        "a zoo.flac\tmix\t0.0\t10.0\t2\tDomestic animals, pets\t0.5000\n"
        "a zoo.flac\tmix\t0.0\t10.0\t3\tSpeech\t0.0100\n"
    )


def test_headers_are_there_on_demand_or_gone(fake: Fake, cat: str) -> None:
    assert fake("tag", cat, "--header", "-k", 1).rows == [
        ["source", "channel", "start_s", "end_s", "rank", "label", "score"],
        ["cat.wav", "mix", "0.0", "10.0", "1", "Cat", "0.9000"],
    ]
    assert fake("tag", cat, "-f", "csv", "--no-header", "-k", 1).out == (
        "cat.wav,mix,0.0,10.0,1,Cat,/m/01yrx,0.9000\n"
    )


def test_csv_is_read_by_others_with_its_commas(fake: Fake, record: Record) -> None:
    rows = by_csv(fake("tag", record('a, "b".wav', (ANIMAL, 10)), "-f", "csv", "-k", 2).stdout)
    assert rows[1] == {
        "source": 'a, "b".wav',
        "channel": "mix",
        "start_s": "0.0",
        "end_s": "10.0",
        "rank": "2",
        "label": "Domestic animals, pets",
        "mid": "/m/068hy",
        "score": "0.5000",
    }


def test_a_wide_csv_has_a_row_a_clip(fake: Fake, cat: str, zoo: str) -> None:
    ran = fake("tag", cat, zoo, "-f", "csv", "--layout", "wide", "-k", 2, "-t", 0.6)
    assert by_csv(ran.stdout) == [
        {"source": "cat.wav", "duration_s": "10.0", "label_1": "Cat", "score_1": "0.9000"}
        | {"label_2": "", "score_2": ""},
        {"source": "zoo.wav", "duration_s": "25.0", "label_1": "Cat", "score_1": "0.9000"}
        | {"label_2": "Horse", "score_2": "0.9000"},
    ]
    every = fake("tag", cat, "-f", "csv", "--layout", "wide", "-k", 10_000)
    assert len(every.out.splitlines()[0].split(",")) == 2 + 2 * 527


def test_a_line_of_json_says_everything_of_a_source(fake: Fake, record: Record) -> None:
    record("cat.wav", (CAT, 3), rate_hz=44_100)
    ran = fake("tag", "cat.wav", "-f", "jsonl", "-k", 1, "-l", "purr", "-t", 0.3)
    document = json.loads(ran.stdout)
    assert ran.stdout.count(b"\n") == 1
    assert document == {
        "schema": "dymn.clip/1",
        "source": "cat.wav",
        "channel": "mix",
        "duration_s": 3.0,
        "rate_hz": 44_100,
        "channels": 1,
        "tags": [{"rank": 1, "label": "Purr", "mid": "/m/02yds9", "index": PURR, "score": 0.5}],
        "warnings": document["warnings"],
        "model": {"name": "fake", "sha256": "0" * 64, "backend": "fake", "provider": "none"},
        "options": {
            "window_s": 10.0,
            "hop_s": 10.0,
            "pad": "repeat",
            "channel": "mix",
            "aggregate": "max",
            "top": 1,
            "min_score": 0.3,
            "labels": ["Purr"],
            "thresholds": document["options"]["thresholds"],
            "windows": False,
        },
        "dymn": __version__,
    }
    assert len(document["warnings"]) == 1


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_json_has_every_input_exactly_once_failures_too(fake: Fake, folder: str, form: str) -> None:
    ran = fake("tag", folder, "none.wav", "-f", form)
    assert ran.returncode == 6
    documents = (
        json.loads(ran.stdout) if form == "json" else [json.loads(line) for line in ran.out.splitlines()]
    )
    assert [(document["source"], document["schema"]) for document in documents] == [
        ("takes/broken.wav", "dymn.error/1"),
        ("takes/empty.wav", "dymn.error/1"),
        ("takes/take1.wav", "dymn.clip/1"),
        ("takes/take2.wav", "dymn.clip/1"),
        ("takes/take10.wav", "dymn.clip/1"),
        ("none.wav", "dymn.error/1"),
    ]
    failed = documents[-1]
    assert (failed["error"], failed["exit_code"]) == ("AudioNotFoundError", 3)
    assert failed["message"] == "none.wav: no such file"


@pytest.mark.parametrize("decimals", [0, 2, 9])
def test_scores_have_as_many_decimals_as_asked(fake: Fake, cat: str, decimals: int) -> None:
    score = fake("tag", cat, "-k", 1, "--precision", decimals).rows[0][6]
    assert len(score.partition(".")[2]) == decimals
    assert float(score) == pytest.approx(0.9, abs=0.11)


def test_a_table_can_be_asked_for_in_a_pipe_and_then_is_plain_and_not_cut(fake: Fake, record: Record) -> None:
    long = (
        "a very long name of a file that no terminal of eighty columns could show on one line at all [1].wav"
    )
    ran = fake("tag", record(long, (ANIMAL, 10)), "-f", "table")
    assert long in ran.out
    assert "Domestic animals, pets" in ran.out
    assert "\x1b" not in ran.out


def test_the_suffix_of_the_output_picks_the_form_unless_it_is_named(fake: Fake, dymn: Any, cat: str) -> None:
    fake("tag", cat, "-o", "tags.csv")
    fake("tag", cat, "-o", "tags.jsonl", "-k", 1)
    fake("tag", cat, "-o", "tags.ndjson", "-k", 1)
    fake("tag", cat, "-o", "other.csv", "-f", "json")
    assert len(by_csv((dymn.cwd / "tags.csv").read_bytes())) == 5
    assert json.loads((dymn.cwd / "tags.jsonl").read_bytes())["source"] == cat
    assert (dymn.cwd / "tags.ndjson").read_bytes() == (dymn.cwd / "tags.jsonl").read_bytes()
    assert json.loads((dymn.cwd / "other.csv").read_bytes())[0]["source"] == cat
    assert ".txt" in fake("tag", cat, "-o", "tags.txt").err


# ---------------------------------------------------------------------- windows


def test_windows_are_rows_and_the_last_ends_with_the_source(fake: Fake, zoo: str) -> None:
    assert fake("tag", zoo, "--windows", "-k", 1).rows == [
        ["zoo.wav", "mix", "0.0", "10.0", "1", "Cat", "0.9000"],
        ["zoo.wav", "mix", "10.0", "20.0", "1", "Horse", "0.9000"],
        ["zoo.wav", "mix", "15.0", "25.0", "1", "Duck", "0.9000"],
    ]


def test_a_hop_below_the_window_gives_overlapping_windows_at_exact_times(fake: Fake, zoo: str) -> None:
    rows = fake("tag", zoo, "--windows", "-k", 1, "--window", 4, "--hop", 3.3).rows
    times = [(float(row[2]), float(row[3])) for row in rows]
    assert times == [
        (0, 4),
        (3.3, 7.3),
        (6.6, 10.6),
        (9.9, 13.9),
        (13.2, 17.2),
        (16.5, 20.5),
        (19.8, 23.8),
        (21, 25),
    ]


def test_json_has_windows_beside_the_clip(fake: Fake, zoo: str) -> None:
    document = json.loads(fake("tag", zoo, "--windows", "-k", 1, "-f", "jsonl").stdout)
    assert [tag["label"] for tag in document["tags"]] == ["Cat"]
    assert [(w["start_s"], w["end_s"], w["tags"][0]["label"]) for w in document["windows"]] == [
        (0.0, 10.0, "Cat"),
        (10.0, 20.0, "Horse"),
        (15.0, 25.0, "Duck"),
    ]


@pytest.mark.parametrize("pad", ["repeat", "zero", "none"])
def test_a_short_clip_is_tagged_over_its_own_length_and_says_how(
    fake: Fake, record: Record, pad: str
) -> None:
    ran = fake("tag", record("cat.wav", (CAT, 2)), "--pad", pad, "-k", 1)
    assert ran.rows == [["cat.wav", "mix", "0.0", "2.0", "1", "Cat", "0.9000"]]
    said = {"repeat": "repeated up to it", "zero": "filled up with zeros", "none": "tagged as it is"}[pad]
    assert ran.err == f"dymn: cat.wav: shorter than the window (2.00 of 10 s): {said}\n"


def test_less_than_50_ms_is_no_recording(fake: Fake, record: Record) -> None:
    assert fake("tag", record("ok.wav", (CAT, 0.05)), "-k", 1).rows[0][5] == "Cat"
    ran = fake("tag", record("short.wav", (CAT, 0.049)))
    assert (ran.returncode, ran.stdout) == (3, b"")
    assert ran.err == "dymn: error: short.wav: 49.0 ms of audio, at least 50 ms are needed\n"


# ---------------------------------------------------------------------- which tags


def labels(ran: Any) -> list[str]:
    return [row[5] for row in ran.rows]


def test_zero_means_all_labels_and_machine_forms_hide_none(fake: Fake, cat: str) -> None:
    rows = fake("tag", cat, "-k", 0).rows
    assert sorted(row[5] for row in rows) == sorted(Vocabulary.audioset().names)
    assert [row[4] for row in rows] == [str(n) for n in range(1, 528)]
    assert len(fake("tag", cat).rows) == 5


def test_a_label_is_a_name_in_any_case_an_id_or_a_slug_and_is_never_split(fake: Fake, record: Record) -> None:
    record("a.wav", (ANIMAL, 10))
    words = ("domestic animals, PETS", "/m/01yrx", "subway-metro-underground", "Subway, metro, underground")
    ran = fake("tag", "a.wav", *(word for label in words for word in ("-l", label)))
    assert labels(ran) == ["Domestic animals, pets", "Cat", "Subway, metro, underground"]
    ran = fake("tag", "a.wav", "--label", "Cat", "--label", "Dog")
    assert labels(ran) == ["Dog", "Cat"] or labels(ran) == ["Cat", "Dog"]
    assert labels(fake("tag", "a.wav", "-l", "Domestic animals")) == ["Domestic animals, pets"]
    ran = fake("tag", "a.wav", "-l", "Domestic anim")
    assert ran.returncode == 2
    assert ran.err.startswith(
        "dymn: error: unknown label 'Domestic anim'; nearest: \"Domestic animals, pets\"; "
    )
    assert ran.err.count("; ") == 3


def test_thresholds_filter_before_the_number_is_cut(fake: Fake, dymn: Any, zoo: str) -> None:
    (dymn.cwd / "t.csv").write_text("mid,label,threshold\n,Cat,0.95\n/m/07qdb04,,0.4\n", "utf-8")
    assert labels(fake("tag", zoo, "--thresholds", "t.csv", "-t", 0.6, "-k", 2)) == ["Horse", "Duck"]
    assert labels(fake("tag", zoo, "--thresholds", "t.csv", "-t", 0.6)) == ["Horse", "Duck", "Quack"]


@pytest.mark.parametrize(("how", "score"), [("max", "0.9000"), ("mean", "0.3067")])
def test_windows_are_joined_by_their_best_or_their_mean(fake: Fake, zoo: str, how: str, score: str) -> None:
    assert fake("tag", zoo, "--aggregate", how, "-k", 1).rows[0][5:] == ["Cat", score]


def test_nothing_above_the_threshold_is_no_error(fake: Fake, cat: str) -> None:
    ran = fake("tag", cat, "-t", 0.99)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


# ---------------------------------------------------------------------- channels


def test_channels_are_mixed_picked_or_each(fake: Fake, record: Record) -> None:
    record("stereo.wav", [(CAT, 10)], [(DUCK, 10)])
    assert [row[1:6:4] for row in fake("tag", "stereo.wav", "--channel", "each", "-k", 1).rows] == [
        ["0", "Cat"],
        ["1", "Duck"],
    ]
    assert fake("tag", "stereo.wav", "--channel", "1", "-k", 1).rows[0][1::4] == ["1", "Duck"]
    assert fake("tag", "stereo.wav", "-k", 1).rows[0][1] == "mix"


def test_a_channel_that_a_file_has_not_is_the_failure_of_that_file(
    fake: Fake, record: Record, cat: str
) -> None:
    record("stereo.wav", [(CAT, 10)], [(DUCK, 10)])
    ran = fake("tag", cat, "stereo.wav", "--channel", "1", "-k", 1)
    assert (ran.returncode, labels(ran)) == (6, ["Duck"])
    assert "cat.wav: no channel 1, it has only channel 0" in ran.err


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-l", "Caat"], "unknown label 'Caat'; nearest: \"Cat\"; "),
        (["-f", "cvs"], "unknown format 'cvs'; nearest: csv, "),
        (["--layout", "tall"], "--layout must be long, wide or matrix, not 'tall'"),
        (["--layout", "wide"], "the format tsv has no wide layout"),
        (["-f", "csv", "--layout", "wide", "--windows"], "--windows"),
        (["--pad", "mirror"], "'mirror'; repeat, zero or none"),
        (["--aggregate", "median"], "'median'; max or mean"),
        (["--channel", "left"], "'left'; mix, each, or a number from 0"),
        (["-k", "-1"], "top -1 is negative"),
        (["-k", "many"], "-k / --top: 'many' is not a whole number"),
        (["-k", "2.5"], "-k / --top: '2.5' is not a whole number"),
        (["-t", "1.5"], "1.5 is not between 0 and 1"),
        (["-t", "nan"], "nan is not between 0 and 1"),
        (["-t", "high"], "-t / --min-score: 'high' is not a number"),
        (["--window", "0.4"], "0.4 s is not between 0.5 and 60 s"),
        (["--window", "61"], "61 s is not between 0.5 and 60 s"),
        (["--window", "nan"], "nan"),
        (["--hop", "0.05"], "0.05 s is not between 0.1 s"),
        (["--hop", "0"], "0 s is not between 0.1 s"),
        (["--hop", "10.1"], "10.1 s is not between 0.1 s and the window, 10 s"),
        (["--window", "2", "--hop", "3"], "3 s is not between 0.1 s and the window, 2 s"),
        (["--precision", "10"], "precision 10 is not between 0 and 9"),
        (["--precision", "-1"], "precision -1"),
        (["--threads", "0"], "threads must be at least 1, not 0"),
        (["--batch-size", "0"], "batch size must be at least 1, not 0"),
        (["--ext", ","], "--ext ',' names no suffix"),
        (["-0"], "--files-from"),
        (["--color", "mauve"], "--color must be auto, always or never, not 'mauve'"),
        (["--progress", "some"], "--progress must be auto, always or never, not 'some'"),
        (["--thresholds", "none.csv"], "none.csv: no such file"),
        (["-o"], "'-o' requires an argument; dymn tag --help"),
        (["--lable", "Cat"], "no such option: --lable; nearest: --label"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    fake: Fake, cat: str, words: list[str], said: str
) -> None:
    ran = fake("tag", cat, *words)
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert ran.err.startswith("dymn: error: ")
    assert ran.err.count("\n") == 1
    assert said in ran.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("label,score\nCat,0.5\n", "mid,label,threshold"),
        ("label,threshold\nCat,2\n", "line 2: '2' is not a score between 0 and 1"),
        ("label,threshold\nCat,0.5\nCaat,0.5\n", "t.csv, line 3: unknown label 'Caat'; nearest: \"Cat\""),
    ],
)
def test_a_bad_file_of_thresholds_is_refused(fake: Fake, dymn: Any, cat: str, text: str, said: str) -> None:
    (dymn.cwd / "t.csv").write_text(text, "utf-8")
    ran = fake("tag", cat, "--thresholds", "t.csv")
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert said in ran.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["-m", "dymn04_kdd"], 2, "no model is called 'dymn04_kdd'; nearest: dymn04_kd"),
        (["-m", "none.onnx"], 4, "none.onnx: no such file"),
        (["-m", "cat.wav"], 2, "no model is called 'cat.wav'"),
        (["--backend", "onxx"], 2, "no backend 'onxx'; auto, onnx or torch"),
        (["--device", "gpu"], 2, "no device 'gpu'; one of auto, cpu, cuda[:N], mps, coreml, "),
    ],
)
def test_an_unknown_model_backend_or_device(
    monkeypatch: pytest.MonkeyPatch,
    dymn: Any,
    cat: str,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    said: str,
) -> None:
    from dymn_cli.cli.app import run

    monkeypatch.chdir(dymn.cwd)
    assert run(["tag", cat, *words]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"dymn: error: {said}")
    assert err.count("\n") == 1


# ---------------------------------------------------------------------- inputs


def test_many_inputs_come_in_order_and_each_once(fake: Fake, dymn: Any, folder: str, cat: str) -> None:
    (dymn.cwd / "link.wav").symlink_to("cat.wav")
    ran = fake("tag", cat, folder, "takes/take2.wav", "./cat.wav", "link.wav", "-k", 1)
    assert [row[0] for row in ran.rows] == [
        "cat.wav",
        "takes/take1.wav",
        "takes/take2.wav",
        "takes/take10.wav",
    ]
    assert ran.returncode == 6
    assert ran.err.splitlines()[-1] == "dymn: error: 2 of 6 inputs failed"
    assert "dymn: failed: takes/empty.wav: an empty file\n" in ran.err


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["d"], ["d/1.wav", "d/2.flac", "d/e/3.wav"]),
        (["d", "--no-recurse"], ["d/1.wav", "d/2.flac"]),
        (["d", "--ext", "flac"], ["d/2.flac"]),
        (["d", "--ext", ".WAV,flac", "--no-recurse"], ["d/1.wav", "d/2.flac"]),
        (["d/e/3.wav", "d"], ["d/e/3.wav", "d/1.wav", "d/2.flac"]),
    ],
)
def test_a_dry_run_prints_what_would_be_read(
    fake: Fake, record: Record, words: list[str], found: list[str]
) -> None:
    for name in ("d/1.wav", "d/2.flac", "d/e/3.wav", "d/.hidden.wav"):
        record(name, (CAT, 0.1))
    ran = fake(
        "tag", *words, "--dry-run", "-o", "d"
    )  # nothing is written, nor is it asked whether it could be
    assert (ran.returncode, ran.out.splitlines(), ran.stderr) == (0, found, b"")


def test_a_dry_run_says_what_is_not_there_as_a_run_would(fake: Fake, cat: str) -> None:
    for words, code in ((["none.wav"], 3), ([cat, "none.wav"], 6), (["none.wav", "gone.wav"], 3)):
        dry, real = fake("tag", *words, "--dry-run"), fake("tag", *words)
        assert (dry.returncode, dry.stderr) == (real.returncode, real.stderr)
        assert dry.returncode == code
        assert dry.out.splitlines() == [name for name in words if name == cat]


def test_a_single_input_that_fails_is_one_line(fake: Fake, dymn: Any, folder: str) -> None:
    (dymn.cwd / "text.wav").write_text("hello\n" * 100, "utf-8")
    (dymn.cwd / "silent").mkdir()
    for name, said in (
        ("none.wav", "none.wav: no such file"),
        ("takes/empty.wav", "takes/empty.wav: an empty file"),
        ("text.wav", "text.wav: not a known audio format"),
        ("silent", "silent: no audio files in this folder; other suffixes: --ext wav,flac"),
    ):
        ran = fake("tag", name)
        assert (ran.returncode, ran.stdout) == (3, b"")
        assert ran.err.startswith(f"dymn: error: {said}")
        assert ran.err.count("\n") == 1


def test_if_all_inputs_fail_it_is_no_partial_success(fake: Fake) -> None:
    ran = fake("tag", "a.wav", "b.wav")
    assert ran.returncode == 3
    assert ran.err.splitlines() == [
        "dymn: failed: a.wav: no such file",
        "dymn: failed: b.wav: no such file",
        "dymn: error: no input could be read",
    ]


def test_fail_fast_stops_and_leaves_no_file(fake: Fake, dymn: Any, cat: str) -> None:
    ran = fake("tag", cat, "none.wav", "later.wav", "--fail-fast", "-k", 1)
    assert (ran.returncode, labels(ran)) == (6, ["Cat"])
    assert "later.wav" not in ran.err
    ran = fake("tag", cat, "none.wav", "--fail-fast", "-o", "tags.csv")
    assert ran.returncode == 6
    assert not (dymn.cwd / "tags.csv").exists()


def test_failures_are_listed_beside_the_results_or_where_asked(fake: Fake, dymn: Any, folder: str) -> None:
    ran = fake("tag", folder, "-o", "tags.csv", "-k", 1)
    assert ran.returncode == 6
    listed = by_csv((dymn.cwd / "tags.csv.failures.csv").read_bytes())
    assert [(row["source"], row["error"]) for row in listed] == [
        ("takes/broken.wav", "CorruptAudioError"),
        ("takes/empty.wav", "EmptyAudioError"),
    ]
    assert {row["source"] for row in by_csv((dymn.cwd / "tags.csv").read_bytes())} == {
        "takes/take1.wav",
        "takes/take2.wav",
        "takes/take10.wav",
    }
    fake("tag", "none.wav", "--failures", "all.csv", "-o", "none.csv")
    assert [row["source"] for row in by_csv((dymn.cwd / "all.csv").read_bytes())] == ["none.wav"]
    assert not (dymn.cwd / "none.csv").exists()
    assert not (dymn.cwd / "none.csv.failures.csv").exists()
    ran = fake("tag", "takes/take1.wav", "--failures", "no/such/folder.csv")
    assert (ran.returncode, ran.stdout) == (5, b"")


def test_a_later_run_without_failures_leaves_no_list_of_old_ones(fake: Fake, dymn: Any, folder: str) -> None:
    fake("tag", folder, "-o", "tags.csv")
    for name in ("broken.wav", "empty.wav"):
        (dymn.cwd / "takes" / name).unlink()
    assert fake("tag", folder, "-o", "tags.csv", "--force").returncode == 0
    assert sorted(os.listdir(dymn.cwd)) == ["tags.csv", "tags.csv.meta.json", "takes"]  # noqa: PTH208


# ---------------------------------------------------------------------- names are data


NAMES = (
    b"take [1].wav",
    b"[red]bold {0} %s.wav",
    b"tab\there.wav",
    b"new\nline.wav",
    b"=1+1.wav",
    b"-dash.wav",
    b"not utf-8 \xff\xfe.wav",
    "für Elise ♫.wav".encode(),
    b"back\\slash.wav",
)


@pytest.fixture
def odd(dymn: Any, record: Record) -> str:
    """A folder of one recording under many names."""
    data = (dymn.cwd / record("one.wav", (CAT, 0.5))).read_bytes()
    (dymn.cwd / "odd").mkdir()
    for name in NAMES:
        Path(os.fsdecode(os.fsencode(dymn.cwd) + b"/odd/" + name)).write_bytes(data)
    return "odd"


def test_names_survive_in_rows_as_the_same_bytes(fake: Fake, odd: str) -> None:
    raw = fake("tag", odd, "-k", 1).stdout
    escaped = [name.replace(b"\\", rb"\\").replace(b"\t", rb"\t").replace(b"\n", rb"\n") for name in NAMES]
    assert sorted(line.split(b"\t")[0] for line in raw.splitlines()) == sorted(b"odd/" + n for n in escaped)
    raw = fake("tag", odd, "-k", 1, "-f", "csv").stdout
    sources = [
        row["source"] for row in csv.DictReader(io.StringIO(raw.decode("utf-8", "surrogateescape"), ""))
    ]
    assert sorted(os.fsencode(source) for source in sources) == sorted(b"odd/" + name for name in NAMES)


def test_names_survive_in_json_readable_and_as_bytes(fake: Fake, odd: str) -> None:
    documents = [json.loads(line) for line in fake("tag", odd, "-f", "jsonl").out.splitlines()]
    sources = [
        base64.b64decode(document["source_b64"]) if "source_b64" in document else document["source"].encode()
        for document in documents
    ]
    assert sorted(sources) == sorted(b"odd/" + name for name in NAMES)
    assert sum("source_b64" in document for document in documents) == 1


def test_names_print_as_they_are_in_tables_without_harm(fake: Fake, odd: str) -> None:
    out = fake("tag", odd, "-f", "table", "-k", 1).out
    for shown in (
        "take [1].wav",
        "[red]bold {0} %s.wav",
        r"tab\there.wav",
        r"new\nline.wav",
        "=1+1.wav",
    ):
        assert f"odd/{shown} " in out
    assert r"not utf-8 \xff\xfe.wav" in out


def test_names_print_as_they_are_in_messages(fake: Fake) -> None:
    ran = fake("tag", b"[1] \xff\n\x1b[31m.wav")
    assert ran.err == "dymn: error: [1] \\xff\\n\\x1b[31m.wav: no such file\n"


# ---------------------------------------------------------------------- output files


def test_a_file_gets_its_provenance_beside_it_and_equal_runs_give_equal_bytes(
    fake: Fake, dymn: Any, record: Record
) -> None:
    record("in/zoo.wav", (CAT, 10), (DUCK, 15))
    for out in ("a.csv", "b.csv"):
        assert fake("tag", dymn.cwd / "in" / "zoo.wav", "--windows", "-o", out).returncode == 0
    for suffix in ("", ".meta.json"):
        first, second = ((dymn.cwd / f"{stem}.csv{suffix}").read_bytes() for stem in "ab")
        assert first == second
    meta = json.loads((dymn.cwd / "a.csv.meta.json").read_bytes())
    assert meta["schema"] == "dymn.meta/1"
    assert (meta["model"]["sha256"], meta["options"]["window_s"]) == ("0" * 64, 10.0)
    assert str(dymn.cwd) not in json.dumps(meta)


def test_an_existing_file_is_kept_unless_forced(fake: Fake, dymn: Any, cat: str) -> None:
    (dymn.cwd / "tags.csv").write_text("precious", "utf-8")
    ran = fake("tag", cat, "-o", "tags.csv")
    assert (ran.returncode, ran.stdout) == (5, b"")
    assert ran.err == "dymn: error: tags.csv: the file exists; --force replaces it\n"
    assert (dymn.cwd / "tags.csv").read_text("utf-8") == "precious"
    assert fake("tag", cat, "-o", "tags.csv", "--force").returncode == 0
    assert (dymn.cwd / "tags.csv").read_text("utf-8").startswith("source,")


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("none/tags.csv", "there is no folder none; make it first: mkdir -p none"),
        ("cat.wav/tags.csv", "cat.wav is not a folder"),
        ("takes/", "a folder, not a file"),
        ("", "empty"),
        ("/dev/full", "no space left on device"),
    ],
)
def test_an_output_that_cannot_be_written_is_said_and_leaves_nothing(
    fake: Fake, dymn: Any, cat: str, out: str, said: str
) -> None:
    (dymn.cwd / "takes").mkdir()
    ran = fake("tag", cat, "-o", out)
    assert (ran.returncode, ran.stdout) == (5, b"")
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert sorted(os.listdir(dymn.cwd)) == ["cat.wav", "takes"]  # noqa: PTH208


def test_a_dash_is_standard_output_even_where_a_file_is_called_so(fake: Fake, dymn: Any, cat: str) -> None:
    (dymn.cwd / "-").write_text("a file", "utf-8")
    assert labels(fake("tag", cat, "-k", 1, "-o", "-")) == ["Cat"]
    assert (dymn.cwd / "-").read_text("utf-8") == "a file"


def test_an_empty_environment_variable_is_none(monkeypatch: pytest.MonkeyPatch, fake: Fake, cat: str) -> None:
    monkeypatch.setenv("DYMN_MODEL", "")
    assert labels(fake("tag", cat, "-k", 1)) == ["Cat"]


# ---------------------------------------------------------------------- the real model


def test_end_to_end(dymn: Any, record: Record, folder: str) -> None:
    ran = dymn("tag", record("zoo.ogg", (CAT, 12), rate_hz=48_000), folder, "-k", 1, "-f", "jsonl")
    assert ran.returncode == 6
    documents = [json.loads(line) for line in ran.out.splitlines()]
    assert [document["schema"] for document in documents] == [
        "dymn.clip/1",
        *["dymn.error/1"] * 2,
        *["dymn.clip/1"] * 3,
    ]
    assert documents[0]["model"]["name"] == "dymn04_kd"
    assert 0 < documents[0]["tags"][0]["score"] <= 1


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_both_runtimes_answer_alike(
    monkeypatch: pytest.MonkeyPatch,
    dymn: Any,
    record: Record,
    capfdbinary: pytest.CaptureFixture[bytes],
    backend: str,
) -> None:
    if backend == "torch":
        pytest.importorskip("torch")
    from dymn_cli.cli.app import run

    monkeypatch.chdir(dymn.cwd)
    record("cat.wav", (CAT, 10))
    scores = []
    for name in ("onnx", backend):
        assert run(["tag", "cat.wav", "-k", "0", "-f", "jsonl", "--backend", name]) == 0
        document = json.loads(capfdbinary.readouterr().out)
        assert document["model"]["backend"] == name
        scores.append({tag["label"]: tag["score"] for tag in document["tags"]})
    assert scores[0] == pytest.approx(scores[1], abs=2e-4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "x.csv", "--embed", "./x.csv"], "--out and --embed would both write it"),
        (["-o", "f.csv", "--failures", "f.csv"], "--out and --failures would both write it"),
        (["-o", "e.index.csv", "--embed", "e.npy"], "--out and --embed would both write it"),
        (["--out-dir", ""], "--out-dir is empty"),
        (["--embed", "e.txt"], "--embed e.txt: no format of embeddings has this suffix; .npy, .jsonl, "),
    ],
)
def test_two_results_cannot_have_one_name(
    fake: Fake, dymn: Any, folder: str, arguments: list[str], said: str
) -> None:
    ran = fake("tag", folder, *arguments)
    assert ran.returncode == 2
    assert said.encode() in (ran.stderr if isinstance(ran.stderr, bytes) else ran.stderr.encode())
    assert not (dymn.cwd / "x.csv").exists()


def test_a_list_of_failures_replaces_nothing_else(fake: Fake, dymn: Any, folder: str) -> None:
    victim = dymn.cwd / "takes" / "take1.wav"
    before = victim.read_bytes()
    ran = fake("tag", "none.wav", "takes/take1.wav", "--failures", "takes/take1.wav")
    assert ran.returncode == 5
    assert victim.read_bytes() == before
    (dymn.cwd / "t.csv.failures.csv").write_text("mine")
    assert fake("tag", "none.wav", "-o", "t.csv", "--force").returncode == 5
    assert (dymn.cwd / "t.csv.failures.csv").read_text() == "mine"
