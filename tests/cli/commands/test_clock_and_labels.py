"""Options that `dymn tag` and `dymn events` share: clock times, and which labels are kept."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dymn_cli.writers.schemas import SCHEMAS

CAT, HORSE, ANIMAL, PETS, DUCK = 81, 87, 72, 73, 104  # as AudioSet numbers them
NAME = "20190522_020000.wav"

Record = Callable[..., str]
Fake = Callable[..., Any]


@pytest.fixture
def night(record: Record) -> str:
    """25 s: ten of a cat, eight of a horse, seven of a duck."""
    return record(NAME, (CAT, 10), (HORSE, 8), (DUCK, 7))


def table(ran: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(ran.out)))


def test_each_window_has_the_time_when_it_began(fake: Fake, night: str) -> None:
    ran = fake("tag", night, "--windows", "-k", 1, "--clock", "auto", "-f", "csv")
    assert (ran.returncode, ran.err) == (0, "")
    assert [(row["start_s"], row["clock"]) for row in table(ran)] == [
        ("0.0", "2019-05-22T02:00:00.000"),
        ("10.0", "2019-05-22T02:00:10.000"),
        ("15.0", "2019-05-22T02:00:15.000"),
    ]
    (row,) = table(fake("tag", night, "-k", 1, "--clock", "auto", "-f", "csv", "--layout", "wide"))
    assert list(row) == ["source", "duration_s", "label_1", "score_1", "clock"]
    assert row["clock"] == "2019-05-22T02:00:00.000"


def test_without_the_option_nothing_changes(fake: Fake, night: str) -> None:
    ran = fake("tag", night, "-k", 1, "-f", "jsonl")
    assert "clock" not in ran.out
    assert not {"exclude", "specific"} & json.loads(ran.out)["options"].keys()


@pytest.mark.parametrize("command", ["tag", "events"])
def test_json_says_the_time_and_how_it_was_found(command: str, fake: Fake, night: str) -> None:
    import jsonschema

    ran = fake(
        command,
        night,
        "--clock",
        "2019-05-22T02:00:00+02:00",
        "-f",
        "jsonl",
        *(["--windows"] * (command == "tag")),
    )
    found = json.loads(ran.out)
    jsonschema.validate(found, SCHEMAS["clip" if command == "tag" else "events"])
    assert found["clock"] == "2019-05-22T02:00:00.000+02:00"
    assert found["options"]["clock"] == "2019-05-22T02:00:00+02:00"
    for one in found["windows" if command == "tag" else "events"]:
        assert one["clock"].startswith("2019-05-22T02:00:")
        assert float(one["clock"][17:23]) == pytest.approx(one["start_s"], abs=0.001)


def test_a_recording_without_a_time_has_an_empty_cell_and_a_warning(
    fake: Fake, night: str, record: Record
) -> None:
    ran = fake("tag", night, record("b.wav", (CAT, 10)), "-k", 1, "--clock", "auto", "-f", "csv")
    assert [row["clock"] for row in table(ran)] == ["2019-05-22T02:00:00.000", ""]
    assert ran.err.count("b.wav: neither its name nor its metadata tells when it began") == 1
    ran = fake("tag", "b.wav", "-k", 1, "--clock", "auto", "-f", "jsonl")
    assert json.loads(ran.out)["clock"] is None


def test_workers_give_the_same_bytes(dymn, in_process, night: str, record: Record) -> None:
    record("20190523_020000.wav", (DUCK, 3))
    ran = [
        run("tag", ".", "--clock", "auto", "-f", "csv", "-j", n, "--specific", "-t", 0.01)
        for n, run in ((1, in_process), (2, dymn))
    ]
    assert ran[0].stdout == ran[1].stdout
    assert "2019-05-23T02:00:00.000" in ran[0].out


def test_a_result_with_clock_times_is_read_back(fake: Fake, night: str) -> None:
    direct = fake("tag", night, "--windows", "-k", 2, "--clock", "auto", "-f", "csv").out
    for form, clock in itertools.product(("csv", "tsv", "jsonl", "raven"), ("auto", "none")):
        name = night if clock == "auto" else "no_time.wav"
        shutil.copy(night, "no_time.wav")
        fake("tag", name, "--windows", "-k", 2, "--clock", "auto", "-f", form, "-o", f"r.{form}", "--force")
        ran = fake("convert", f"r.{form}", "-f", "csv")
        assert ran.returncode == 0, ran.err
        assert len(ran.out.splitlines()) == len(direct.splitlines()), form
        if form == "csv" and clock == "auto":
            assert ran.out == direct
    found = fake("events", night, "no_time.wav", "--clock", "auto", "-o", "r.tsv", "--force")
    assert found.returncode == 0, found.err
    assert fake("convert", "r.tsv").out == Path("r.tsv").read_text()


def test_scores_behind_labels_are_written_and_read_back(fake: Fake, night: str) -> None:
    plain = fake("tag", night, "--windows", "-k", 1, "-f", "audacity")
    ran = fake(
        "tag", night, "--windows", "-k", 1, "-f", "audacity", "--scores", "--precision", 2, "-o", "a.txt"
    )
    assert ran.returncode == 0, ran.err
    lines = Path("a.txt").read_text(encoding="utf-8").splitlines()
    assert [line.rpartition(" ")[0] for line in lines] == plain.out.splitlines()
    rows = table(fake("convert", "a.txt", "-f", "csv"))
    assert [f"{row['label']} {row['score']}" for row in rows] == [line.split("\t")[2] for line in lines]
    assert fake("convert", "a.txt", "-f", "audacity", "--scores").out.splitlines() == lines
    assert fake("convert", "a.txt", "-f", "audacity").out == plain.out


def test_a_name_that_ends_with_a_number_is_no_score(fake: Fake) -> None:
    Path("own.txt").write_text("0.0\t1.0\tType 1\n1.0\t2.0\tCall 2.5\n", encoding="utf-8")
    rows = table(fake("convert", "own.txt", "-f", "csv"))
    assert [(row["label"], row["score"]) for row in rows] == [("Type 1", ""), ("Call 2.5", "")]


def test_kinds_are_asked_for_and_excluded_by_a_sound_above_them(fake: Fake, night: str) -> None:
    def labels(*options: object) -> list[str]:
        ran = fake("tag", night, "-k", 0, "-f", "csv", *options)
        assert ran.returncode == 0, ran.err
        return [row["label"] for row in table(ran)]

    kinds = set(labels("-l", "Domestic animals, pets", "--descendants"))
    assert {"Cat", "Dog", "Bark"} < kinds
    assert "Horse" not in kinds
    left = labels("-l", "pets", "--exclude", "Cat", "--exclude", "dog", "--descendants")
    assert set(left) == kinds - {"Cat", "Purr", "Meow", "Hiss", "Caterwaul"} - set(
        labels("-l", "Dog", "--descendants")
    )
    assert len(labels("--exclude", "chirp")) == 526


def test_provenance_names_what_is_excluded(fake: Fake, night: str) -> None:
    ran = fake("tag", night, "--exclude", "chirp", "--specific", "-t", 0.5, "-f", "jsonl")
    options = json.loads(ran.out)["options"]
    assert (options["exclude"], options["specific"]) == (["Chirp, tweet"], True)


def test_a_run_with_other_labels_is_not_continued(fake: Fake, night: str) -> None:
    Path("broken.wav").write_bytes(b"no audio")
    first = fake("tag", night, "broken.wav", "-o", "t.csv")
    assert first.returncode == 6
    again = fake("tag", night, "broken.wav", "-o", "t.csv", "--exclude", "Cat")
    assert again.returncode == 5
    assert "--exclude was none, is Cat" in again.err


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--specific",), 2, "--specific needs a lowest score: without one all labels pass; -t 0.1 (in"),
        (("--descendants",), 2, "--descendants needs --label or --exclude"),
        (("--exclude", "Catt"), 2, "unknown label 'Catt'; nearest: "),
        (("-l", "Cat", "--exclude", "cat"), 2, "every label that is asked for is excluded"),
        (("--clock", "%Y-%m"), 2, "leaves the day or the hour open"),
        (("--clock", "%d.%m.%Y_%H"), 2, f"matches no name, for example {NAME}"),
        (("--clock", "auto", "-f", "audacity"), 2, "the format audacity has no place for --clock; csv, json"),
        (
            ("--clock", "auto", "-f", "csv", "--layout", "matrix"),
            2,
            "--clock has no place in the matrix",
        ),
        (("--scores", "-f", "csv"), 2, "--scores is about labels for Audacity; -f audacity"),
        (("--scores", "-f", "audacity", "--precision", 0), 2, "--scores needs decimals"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_line(
    options: tuple[object, ...], code: int, said: str, fake: Fake, night: str
) -> None:
    ran = fake("tag", night, *options)
    assert (ran.returncode, ran.out) == (code, "")
    assert said in ran.err
    assert ran.err.count("\n") == 1
