from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

RATE_HZ = 32_000
HEADER = "source,channel,start_s,end_s,label,mid,score,mean_score,n_windows\n"


def data_of(page: bytes) -> dict[str, Any]:
    found = re.search(rb'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


@pytest.fixture
def siren(dymn, repository: Path) -> Path:
    """The siren of the demonstration between silence, in a folder of its own."""
    samples, _ = sf.read(repository / "dymn_cli" / "demo" / "siren.flac", dtype="float32")
    path = dymn.cwd / "in" / "20240522_200000.wav"
    path.parent.mkdir()
    sf.write(path, np.concatenate([np.zeros(12 * RATE_HZ, "f4"), samples]), RATE_HZ, subtype="PCM_16")
    return path


def test_recordings_become_a_page(dymn, siren: Path) -> None:
    (siren.parent / "broken.wav").write_bytes(b"RIFF, but no more")
    ran = dymn("report", "in", "-l", "Siren", "--title", "Street")
    assert (ran.returncode, ran.out) == (6, "")
    assert "broken.wav" in ran.err
    page = (dymn.cwd / "report.html").read_bytes()
    data = data_of(page)
    (source,) = data["sources"]
    assert (source["n"], source["h"], source["k"]) == (
        "in/20240522_200000.wav",
        "in/20240522_200000.wav",
        "2024-05-22T20:00:00",
    )
    assert data["labels"] == [["Siren", "/m/03kmc9"]]
    assert data["events"]["a"][0] == pytest.approx(12, abs=1)
    assert source["t"]
    assert b"<h1>Street</h1>" in page
    assert b"broken.wav" in page


def test_a_result_and_its_recordings_make_the_same_events(in_process, siren: Path) -> None:
    assert in_process("events", "in", "-l", "Siren", "-o", "events.jsonl").returncode == 0
    assert in_process("report", "events.jsonl").returncode == 0
    assert in_process("report", "in", "-l", "Siren", "-o", "direct.html").returncode == 0
    one, other = (data_of((in_process.cwd / name).read_bytes()) for name in ("report.html", "direct.html"))
    assert one["events"] == other["events"]
    assert one["sources"] == other["sources"]


@pytest.mark.parametrize("form", ["csv", "tsv", "json", "raven", "audacity", "sed"])
def test_results_in_any_format(in_process, siren: Path, form: str) -> None:
    assert in_process("events", siren, "-l", "Siren", "-f", form, "-o", "result.txt").returncode == 0
    (in_process.cwd / "result.txt").rename(siren.with_suffix(".txt"))
    ran = in_process("report", "in/20240522_200000.txt")
    assert (ran.returncode, ran.err) == (0, "")
    data = data_of((in_process.cwd / "report.html").read_bytes())
    assert data["labels"][0][0] == "Siren"
    assert data["sources"][0]["h"] == "in/20240522_200000.wav"
    assert data["sources"][0]["t"]


def test_a_result_through_a_pipe(dymn, siren: Path) -> None:
    ran = dymn.shell("dymn events in -l Siren -f jsonl | dymn report --from jsonl -")
    assert (ran.returncode, ran.err) == (0, "")
    page = (dymn.cwd / "report.html").read_bytes()
    assert data_of(page)["sources"][0]["t"]
    assert b"From standard input, found by dymn04_kd" in page


def test_a_page_cannot_link_to_a_pipe(in_process) -> None:
    os.mkfifo(in_process.cwd / "sound")
    ran = in_process("report", "sound")
    assert (ran.returncode, "a page cannot link to sound, a pipe" in ran.err) == (2, True)


def test_tags_of_windows(in_process, siren: Path) -> None:
    assert in_process("tag", "in", "--windows", "-k", "1", "-o", "tags.csv").returncode == 0
    assert in_process("report", "tags.csv").returncode == 0
    events = data_of((in_process.cwd / "report.html").read_bytes())["events"]
    assert next(zip(events["a"], events["b"], strict=True)) == (0, 10)


def test_the_same_bytes_each_time_and_on_standard_output(dymn, in_process, siren: Path) -> None:
    assert in_process("report", "in", "--embed-audio").returncode == 0
    ran = dymn("report", "in", "--embed-audio", "-o", "-", "-j", "1")
    assert ran.returncode == 0
    assert ran.stdout == (dymn.cwd / "report.html").read_bytes()
    assert data_of(ran.stdout)["sources"][0]["h"].startswith("data:audio/mpeg;base64,")


def test_what_is_left_out_is_said(in_process) -> None:
    rows = "".join(f"a.wav,mix,{n},{n + 1},Owl,/m/09d5_,0.{n:02d},0.1,1\n" for n in range(10, 60))
    (in_process.cwd / "events.csv").write_text(HEADER + rows)
    ran = in_process("report", "events.csv", "--limit", "5", "--sample", "lowest")
    assert ran.returncode == 0
    said = "The page holds 5 of 50 events: those with the lowest scores. 45 are left out"
    assert said in ran.err
    page = (in_process.cwd / "report.html").read_bytes()
    assert said.encode() in page
    assert data_of(page)["events"]["v"] == [0.1, 0.11, 0.12, 0.13, 0.14]


def test_a_label_track_is_not_its_own_recording(in_process, siren: Path) -> None:
    (in_process.cwd / "night.audacity").write_text("1.0\t2.0\tOwl\n")
    ran = in_process("report", "night.audacity")
    assert ran.returncode == 0
    assert "without sound in the page: night.audacity: names no recording; --audio FILE does\n" in ran.err
    assert "without sound" not in in_process("report", "night.audacity", "--audio", siren, "--force").err


def test_recordings_that_have_moved(in_process, siren: Path) -> None:
    (in_process.cwd / "events.csv").write_text(
        f"{HEADER}old/20240522_200000.wav,mix,1,2,Owl,/m/09d5_,0.5,0.4,1\n"
    )
    ran = in_process("report", "events.csv")
    assert ran.returncode == 0
    assert "1 recording without sound in the page: old/20240522_200000.wav: no such recording" in ran.err
    assert "--audio" in ran.err
    page = (in_process.cwd / "report.html").read_bytes()
    assert b"no such recording" in page.split(b'<script type="application/json"')[0]
    ran = in_process("report", "events.csv", "--audio", "in", "--force")
    assert (ran.returncode, ran.err) == (0, "")
    assert (
        data_of((in_process.cwd / "report.html").read_bytes())["sources"][0]["h"] == "in/20240522_200000.wav"
    )


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (
            f"{HEADER}a.wav,mix,1,2,Owl,/m/09d5_,0.5,0.4,1\na.wav,mix,3,4,Ow",
            3,
            "line 3: 5 cells for 9 columns",
        ),
        ("", 3, "empty"),
        ("a,b\n1,2\n", 3, "not a result"),
        (f"{HEADER}a.wav,mix,4,2,Owl,,0.5,0.4,1\n", 3, "line 2: the event ends at 2 s"),
        ("source,channel,start_s,end_s,e0,e1\na.wav,mix,0,10,0.5,0.5\n", 3, "embeddings have no labels"),
    ],
)
def test_a_result_that_is_none(in_process, content: str, code: int, said: str) -> None:
    (in_process.cwd / "events.csv").write_text(content)
    ran = in_process("report", "events.csv")
    assert (ran.returncode, ran.out) == (code, "")
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1
    assert not (in_process.cwd / "report.html").exists()


def test_a_result_without_events_is_a_page_that_says_so(in_process) -> None:
    (in_process.cwd / "events.csv").write_text(HEADER)
    ran = in_process("report", "events.csv")
    assert ran.returncode == 0
    assert "no events in this result" in ran.err
    assert b"No event was found" in (in_process.cwd / "report.html").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("in", "-o", "page.txt"), "a page ends in .html"),
        (("in", "events.csv"), "give recordings or results, not both"),
        (("events.csv", "-t", "0.3"), "dymn convert filters results"),
        (("-",), "cannot link to standard input"),
        (("in", "--sample", "best"), "best"),
        (("in", "--limit", "0"), "a limit of 0 events"),
        ((), "no input"),
    ],
)
def test_requests_that_make_no_sense(in_process, siren: Path, arguments: tuple[str, ...], said: str) -> None:
    (in_process.cwd / "events.csv").write_text(HEADER)
    ran = in_process("report", *arguments)
    assert (ran.returncode, ran.out) == (2, "")
    assert said in ran.err
    assert not list(in_process.cwd.glob("*.html"))


def test_a_page_is_not_overwritten_unless_asked(in_process) -> None:
    (in_process.cwd / "events.csv").write_text(HEADER)
    (in_process.cwd / "report.html").write_text("mine")
    assert in_process("report", "events.csv").returncode == 5
    assert (in_process.cwd / "report.html").read_text() == "mine"
    assert in_process("report", "events.csv", "--force").returncode == 0


def test_decisions_that_are_cut_short_are_refused(in_process) -> None:
    (in_process.cwd / "events.csv").write_text(HEADER)
    (in_process.cwd / "decisions.csv").write_text(
        "source,channel,start_s,end_s,label,mid,score,decision,found\na,b\n"
    )
    ran = in_process("report", "events.csv", "--review", "decisions.csv")
    assert ran.returncode == 3
    assert "decisions.csv, line 2: 2 cells for 9 columns" in ran.err


def test_decisions_teach_a_head(in_process, siren: Path) -> None:
    """The table that the page exports goes into `finetune` and `eval` as it is."""
    samples, _ = sf.read(siren, dtype="float32")
    noise = np.random.default_rng(0).standard_normal((9, 4 * RATE_HZ))
    rows = []
    for n, verdict in enumerate(("keep", "relabel", "reject") * 3):
        part = {"keep": samples[-4 * RATE_HZ :], "relabel": 0.1 * noise[n], "reject": 0.0002 * noise[n]}[
            verdict
        ]
        sf.write(in_process.cwd / "in" / f"{n}.wav", part, RATE_HZ)
        label = "White noise,/m/0cj0r" if verdict == "relabel" else "Siren,/m/03kmc9"
        decision = "reject" if verdict == "reject" else "keep"
        rows.append(f"in/{n}.wav,mix,0.000,3.000,{label},0.5000,{decision},Siren\n")
    header = "source,channel,start_s,end_s,label,mid,score,decision,found\n"
    (in_process.cwd / "decisions.csv").write_text(header + "".join(rows))
    ran = in_process("finetune", "decisions.csv", "--audio", ".", "--head-only", "-o", "my.safetensors")
    assert ran.returncode == 0, ran.err
    ran = in_process("eval", *(f"in/{n}.wav" for n in range(9)), "--truth", "decisions.csv")
    assert ran.returncode == 0, ran.err


def test_a_map_of_a_library(fake, record) -> None:
    for name, band in (("a", 81), ("b", 81), ("c", 20)):
        record(f"in/{name}.wav", (band, 1))
    record("other.wav", (104, 1))
    assert fake("embed", "in", "other.wav", "-o", "lib.npy").returncode == 0
    assert fake("events", "in", "-o", "events.csv").returncode == 0
    ran = fake("report", "events.csv", "--map", "lib.npy")
    assert ran.returncode == 0, ran.err
    assert "the map shows 3 of 4 embeddings" in ran.err
    data = data_of(Path("report.html").read_bytes())
    assert [data["sources"][source]["n"] for source in data["map"]["s"]] == [
        "in/a.wav",
        "in/b.wav",
        "in/c.wav",
    ]
    x, y = data["map"]["x"], data["map"]["y"]
    assert (x[0], y[0]) == (x[1], y[1]) != (x[2], y[2])
    assert fake("embed", "other.wav", "-o", "none.npy").returncode == 0
    ran = fake("report", "events.csv", "--map", "none.npy", "-o", "none.html")
    assert (ran.returncode, Path("none.html").exists()) == (3, False)
