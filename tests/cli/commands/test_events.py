from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from typer.testing import CliRunner

from dymn_cli import Tagger
from dymn_cli.cli.app import app

RATE_HZ = 32_000
SIREN_S = (12.0, 16.667)


@pytest.fixture(scope="module")
def street(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a minute of faint noise, and the siren that is shipped as a demonstration in its middle."""
    siren, rate_hz = sf.read(repository / "dymn_cli" / "demo" / "siren.flac", dtype="float32")
    assert rate_hz == RATE_HZ
    samples = (0.001 * np.random.default_rng(0).standard_normal(30 * RATE_HZ)).astype(np.float32)
    begin = round(SIREN_S[0] * RATE_HZ)
    samples[begin : begin + len(siren)] += siren
    path = tmp_path_factory.mktemp("street") / "street [1].wav"
    sf.write(path, samples, RATE_HZ, subtype="PCM_16")
    return path


def test_a_row_a_sound_in_a_pipe(dymn, street: Path) -> None:
    ran = dymn("events", street, "-l", "Siren")
    assert (ran.returncode, ran.err) == (0, "")
    ((source, channel, start_s, end_s, label, score),) = ran.rows
    assert (source, channel, label) == (str(street), "mix", "Siren")
    assert float(start_s) == pytest.approx(SIREN_S[0], abs=1)
    assert float(end_s) == pytest.approx(SIREN_S[1], abs=1)
    assert re.fullmatch(r"0\.\d{4}", score)
    assert float(score) > 0.3


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ([], {}),
        (["--method", "windows", "-l", "Siren"], {"method": "windows", "labels": ("Siren",)}),
        (["--method", "windows", "--window", 3, "-t", 0.2], {"method": "windows", "window_s": 3, "on": 0.2}),
        (["--channel", "each", "--hop", 5, "--max-gap", 0], {"channel": "each", "hop_s": 5, "max_gap_s": 0}),
    ],
)
def test_a_program_gets_the_same(in_process, street: Path, words: list, changes: dict) -> None:
    ran = in_process("events", street, "-f", "jsonl", *words)
    written = json.loads(ran.out)
    with Tagger() as tagger:
        found = tagger.events(street, **changes)
    assert written["events"]
    assert written["events"] == [
        {
            "channel": event.channel,
            "start_s": round(event.start_s, 3),
            "end_s": round(event.end_s, 3),
            "label": event.label,
            "mid": event.mid,
            "index": event.index,
            "score": round(event.score, 4),
            "mean_score": round(event.mean_score, 4),
            "n_windows": event.n_windows,
        }
        for event in found.events
    ]
    assert (written["source"], written["warnings"]) == (found.source, list(found.warnings))
    assert (round(found.duration_s, 3), found.model.name) == (
        written["duration_s"],
        written["model"]["name"],
    )


def test_a_table_on_a_terminal(dymn, street: Path) -> None:
    ran = dymn.terminal("events", street, "-l", "Siren", "--color", "never", columns=100)
    assert ran.returncode == 0
    heading, line = ran.out.splitlines()
    assert heading.startswith(str(street)[:40]) or heading == str(street)
    assert re.search(r"0:1[123](\.\d+)? – 0:1[67](\.\d+)? +Siren +━+╸? +0\.\d{4}$", line)


def test_kinds_of_a_sound_that_is_no_label(in_process, street: Path) -> None:
    ran = in_process("events", street, "-l", "Sounds of things", "--descendants", "-f", "csv")
    assert ran.returncode == 0
    labels = [line.split(",")[4] for line in ran.out.splitlines()[1:]]
    assert "Siren" in labels
    assert "Silence" not in labels
    refused = in_process("events", street, "-l", "Sounds of things")
    assert (refused.returncode, refused.out) == (2, "")
    assert "--descendants" in refused.err


def test_thresholds_by_label_and_limits_of_length(in_process, street: Path) -> None:
    (in_process.cwd / "own.csv").write_text("label,threshold\nSiren,0.999\n")
    strict = in_process("events", street, "-l", "Siren", "-t", "0.1", "--thresholds", "own.csv")
    assert (strict.returncode, strict.out) == (0, "")
    long = in_process("events", street, "-l", "Siren", "--min-length", "20")
    assert (long.returncode, long.out) == (0, "")


@pytest.mark.parametrize(
    ("options", "resolved"),
    [
        ((), {"window_s": 10.0, "hop_s": 8.0, "method": "frames", "off": 0.16, "max_gap_s": 0.64}),
        (
            ("--method", "windows", "--window", "2"),
            {"window_s": 2.0, "hop_s": 0.4, "method": "windows", "off": 0.1, "max_gap_s": 0.0},
        ),
    ],
)
def test_json_holds_what_was_asked_for(
    options: tuple[str, ...], resolved: dict[str, object], in_process, street: Path
) -> None:
    ran = in_process("events", street, "-l", "siren", "-t", "0.4", "-f", "jsonl", *options)
    (line,) = ran.out.splitlines()
    found = json.loads(line)
    assert (found["schema"], found["duration_s"]) == ("dymn.events/1", 30.0)
    calibration = found["options"].pop("calibration")
    assert calibration is None or re.fullmatch("[0-9a-f]{64}", calibration)
    said = {name: round(value, 9) if name == "off" else value for name, value in found["options"].items()}
    assert said == {
        "pad": "repeat",
        "channel": "mix",
        "per": "event",
        "on": 0.4,
        "thresholds": [],
        "labels": ["Siren"],
        "min_length_s": 0.0,
        **resolved,
    }
    assert found["events"][0]["n_windows"] >= (1 if resolved["method"] == "frames" else 5)


def test_both_methods_find_the_siren(in_process, street: Path) -> None:
    for method, off_s in (("frames", 0.5), ("windows", 1.0)):
        ran = in_process("events", street, "-l", "Siren", "--method", method)
        ((_, _, start_s, end_s, _, _),) = ran.rows
        assert float(start_s) == pytest.approx(SIREN_S[0], abs=off_s), method
        assert float(end_s) == pytest.approx(SIREN_S[1], abs=off_s), method
    ran = in_process("events", street, "--method", "both")
    assert (ran.returncode, ran.out) == (2, "")
    assert "no method 'both'" in ran.err


def test_the_same_bytes_however_many_work_at_it(dymn, in_process, street: Path) -> None:
    samples, _ = sf.read(street, dtype="float32")
    for n, length_s in enumerate((30, 23.4, 3)):
        sf.write(dymn.cwd / f"{n}.wav", samples[-round(length_s * RATE_HZ) :], RATE_HZ)
    results = {
        run("events", ".", "-t", "0.05", "-f", "jsonl", *options).out
        for run, options in (
            (in_process, ("-j", "1", "--threads", "1")),
            (dymn, ("-j", "2")),
            (in_process, ("-j", "1", "--batch-size", "4")),
        )
    }
    assert len(results) == 1
    assert results.pop().count('"label"') > 3


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("sed", r"{street}\t1[12]\.\d+\t1[67]\.\d+\tSiren"),
        ("rttm", r"SPEAKER {rttm} 1 1[12]\.\d+ \d\.\d+ <NA> <NA> siren 0\.\d{{4}} <NA>"),
        ("kaleidoscope", r"{folder},,street \[1\]\.wav,0,1[12]\.\d+,\d\.\d+,Siren,0\.\d{{4}},"),
    ],
)
def test_forms_for_other_programs(form: str, line: str, in_process, street: Path) -> None:
    ran = in_process("events", street, "-l", "Siren", "-f", form)
    assert (ran.returncode, ran.err) == (0, "")
    spelled = str(street).replace(" ", "%20")
    names = {"street": street, "rttm": spelled, "folder": street.parent}
    pattern = line.format(**{name: re.escape(str(value)) for name, value in names.items()})
    assert re.fullmatch(pattern, ran.out.splitlines()[-1]), ran.out


def test_labels_for_audacity(in_process, street: Path) -> None:
    ran = in_process("events", street, "-l", "Siren", "-f", "audacity", "-o", "street.txt")
    assert (ran.returncode, ran.out) == (0, "")
    start_s, end_s, label = (in_process.cwd / "street.txt").read_text().rstrip("\n").split("\t")
    assert label == "Siren"
    assert float(start_s) == pytest.approx(SIREN_S[0], abs=1)
    assert float(end_s) > 15
    assert sorted(path.name for path in in_process.cwd.iterdir()) == ["street.txt", "street.txt.meta.json"]


@pytest.mark.parametrize("form", ["audacity", "srt", "vtt"])
def test_such_a_file_is_about_one_recording(form: str, in_process, street: Path) -> None:
    sf.write(in_process.cwd / "other.wav", np.zeros(RATE_HZ), RATE_HZ)
    ran = in_process("events", street, "other.wav", "-f", form, "-o", "both.txt")
    assert (ran.returncode, ran.out) == (2, "")
    assert f"{form} is about one recording" in ran.err
    listed = in_process(
        "events", "--files-from", "-", "-f", form, "-o", "both.txt", input=b"other.wav\nx.wav\n"
    )
    assert listed.returncode == 2
    assert [path.name for path in in_process.cwd.iterdir()] == ["other.wav"]


def test_a_file_of_labels_for_each_recording(in_process, street: Path) -> None:
    (in_process.cwd / "in").mkdir()
    (in_process.cwd / "in" / "street.wav").symlink_to(street)
    sf.write(in_process.cwd / "in" / "quiet.wav", np.zeros(7 * RATE_HZ), RATE_HZ)
    ran = in_process("events", "in", "-l", "Siren", "-f", "audacity", "--out-dir", "labels")
    assert (ran.returncode, ran.out) == (0, "")
    files = {path.name: path.read_text() for path in (in_process.cwd / "labels").glob("*.txt")}
    assert set(files) == {"street.wav.audacity.txt", "quiet.wav.audacity.txt"}
    assert files["quiet.wav.audacity.txt"] == ""
    assert files["street.wav.audacity.txt"].endswith("\tSiren\n")


def test_several_recordings_in_a_selection_table(in_process, street: Path) -> None:
    (in_process.cwd / "street.wav").symlink_to(street)
    sf.write(in_process.cwd / "first.wav", np.zeros(7 * RATE_HZ), RATE_HZ)
    ran = in_process("events", "first.wav", "street.wav", "-l", "Siren", "-f", "raven", "-o", "all.txt")
    assert ran.returncode == 0
    table = pd.read_csv(in_process.cwd / "all.txt", sep="\t")
    assert table["Begin File"].tolist() == ["street.wav"]
    assert (table["Begin Time (s)"] - table["File Offset (s)"]).tolist() == pytest.approx([7.0])


def test_a_parquet_file(dymn, in_process, street: Path) -> None:
    pytest.importorskip("pyarrow")
    assert in_process("events", street, "-o", "street.parquet").returncode == 0
    frame = pd.read_parquet(dymn.cwd / "street.parquet")
    assert "Siren" in set(frame["label"])
    assert (frame["start_s"].diff().dropna() >= 0).all(), "in the order of their starts"
    onto_a_terminal = dymn.terminal("events", street, "-f", "parquet")
    assert onto_a_terminal.returncode == 2


def test_a_file_that_fails_costs_itself_only(in_process, street: Path) -> None:
    (in_process.cwd / "broken.wav").write_bytes(b"RIFF, but no more")
    ran = in_process("events", "broken.wav", street, "-l", "Siren", "-f", "csv", "-o", "events.csv")
    assert ran.returncode == 6
    assert "broken.wav" in ran.err
    assert "Siren" in (in_process.cwd / "events.csv").read_text()
    failures = pd.read_csv(in_process.cwd / "events.csv.failures.csv")
    assert failures["source"].tolist() == ["broken.wav"]


def test_workers_give_the_same_bytes(dymn, street: Path) -> None:
    names = []
    for n in range(3):
        shutil.copy(street, dymn.cwd / f"{n}.wav")
    for jobs in (1, 2):
        ran = dymn("events", "--limit-per-file", 60, "-j", jobs, ".", "-o", f"{jobs}.csv")
        assert ran.returncode == 0, ran.err
        names.append((dymn.cwd / f"{jobs}.csv").read_bytes())
    assert names[0] == names[1]
    assert names[0].count(b",Siren,") == 3


def test_standard_input(in_process, street: Path) -> None:
    ran = in_process("events", "-", "-l", "Siren", input=street.read_bytes())
    assert ran.returncode == 0
    assert ran.rows[0][0] == "-"


def test_each_channel_is_heard_on_its_own(in_process, street: Path) -> None:
    samples, _ = sf.read(street, dtype="float32")
    sf.write(in_process.cwd / "stereo.wav", np.stack([samples * 0, samples], axis=1), RATE_HZ)
    ran = in_process("events", "stereo.wav", "--channel", "each", "-l", "Siren")
    assert [row[1] for row in ran.rows] == ["1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-t", "1.5"), "1.5 is not between 0 and 1"),
        (("-t", "0.2", "--off", "0.3"), "off (0.3) is above on (0.2)"),
        (("--max-gap", "-1"), "a gap of -1 s is not 0 s or more"),
        (("-l", "Sirne"), '"Siren"'),
        (("--descendants",), "--label"),
        (("--hop", "17"), "hop of 17 s is not between 0.1 s and the window, 10 s"),
        (("--hop", "7", "--method", "windows"), "hop of 7 s is not between 0.1 s and the window, 5 s"),
        (("-o", "night.txt"), "--format audacity, raven, srt, vtt, kaleidoscope, sed or rttm"),
        (("--csv-safe",), "--csv-safe is about csv"),
        (("--channel", "each", "-f", "srt"), "one line of time"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_line(arguments: tuple[str, ...], said: str, street: Path) -> None:
    from dymn_cli.errors import UsageError

    result = CliRunner().invoke(app, ["events", str(street), *arguments])
    assert isinstance(result.exception, UsageError)
    assert said in f"{result.exception.message}; {result.exception.hint}"
    assert result.stdout == ""


def test_help_says_what_cannot_be_resolved(in_process) -> None:
    ran = in_process("events", "-h")
    assert ran.returncode == 0
    text = " ".join(ran.out.split())
    assert "half of its height, so they are finer than a step" in text
    assert "less than --max-gap apart are joined" in text
    for option in (
        "--method",
        "--on",
        "--off",
        "--min-length",
        "--max-gap",
        "--thresholds",
        "--descendants",
        "--hop",
    ):
        assert option in text


def test_a_threshold_that_nothing_reaches_is_said(in_process, street: Path) -> None:
    for more, said in (((), "no event"), (("-l", "Siren"), 'no event of "Siren"')):
        ran = in_process("events", street, "-t", 0.999, *more)
        assert (ran.returncode, ran.out) == (0, "")
        assert f"dymn: warning: {said} passes -t 0.999\n" in ran.err
    assert in_process("events", street, "-t", 0.999, "-q").err == ""
    assert "no event" not in in_process("events", street, "-t", 0.05).err
