"""`dymn watch` on the real process: a folder that grows, kills, restarts, and what is made of bad files."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("watchfiles")

CAT, HORSE, DUCK = 81, 87, 104  # as AudioSet numbers them
FAST = ("--window", 0.5, "--settle", 0.3, "-j", 1, "-k", 1)

Record = Callable[..., str]
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(dymn: Any) -> Iterator[Start]:
    """`start("rec", "-o", "t.csv")`: a watch that is killed when the test is over."""
    running: list[subprocess.Popen[bytes]] = []

    def call(*arguments: Any) -> subprocess.Popen[bytes]:
        running.append(dymn.start("watch", *arguments, *FAST))
        return running[-1]

    yield call
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def sources(path: Path) -> list[str]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row["source"] for row in csv.DictReader(file)]


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.05)


def stopped(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> str:
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    return err.decode()


@pytest.mark.process
def test_files_come_and_are_written_at_once_and_a_batch_run_agrees(
    dymn: Any, record: Record, start: Start
) -> None:
    record("rec/b.wav", (CAT, 1))
    table = dymn.cwd / "t.csv"
    process = start("rec", "-o", "t.csv")
    wait_for(lambda: sources(table) == ["rec/b.wav"])
    record("later/c.wav", (HORSE, 1))
    shutil.move(dymn.cwd / "later", dymn.cwd / "rec/site")  # a whole folder comes
    wait_for(lambda: len(sources(table)) == 2)
    record("rec/a.wav", (DUCK, 1))
    wait_for(lambda: sources(table) == ["rec/b.wav", "rec/site/c.wav", "rec/a.wav"])
    err = stopped(process, signal.SIGINT)
    assert "stopped: 3 files analysed" in err
    ran = dymn("tag", "rec", "-o", "t.csv", "--update", "--window", 0.5, "-k", 1)
    assert "3 results were there already, 0 are new" in ran.err
    assert dymn("tag", "rec", "-o", "fresh.csv", "--window", 0.5, "-k", 1).returncode == 0
    assert table.read_bytes() == (dymn.cwd / "fresh.csv").read_bytes()


@pytest.mark.process
def test_a_kill_costs_nothing_and_the_next_start_catches_up(dymn: Any, record: Record, start: Start) -> None:
    table = dymn.cwd / "t.csv"
    record("rec/a.wav", (CAT, 1))
    process = start("rec", "-o", "t.csv")
    wait_for(lambda: sources(table) == ["rec/a.wav"])
    process.kill()
    process.wait()
    with table.open("ab") as file:
        file.truncate(table.stat().st_size - 5)  # as a power cut may leave it
    record("rec/b.wav", (HORSE, 1))  # while nobody watched
    process = start("rec", "-o", "t.csv")
    wait_for(lambda: sources(table) == ["rec/a.wav", "rec/b.wav"])
    assert table.read_bytes().endswith(b"\n")
    assert "stopped: 1 file analysed" in stopped(process)


@pytest.mark.process
def test_events_are_found_as_dymn_events_does(dymn: Any, record: Record) -> None:
    record("rec/a.wav", (CAT, 3))
    process = dymn.start(
        "watch", "rec", "-o", "e.tsv", "--find", "events", "--settle", 0.3, "-j", 1, "-t", 0.02
    )
    wait_for(lambda: (dymn.cwd / "e.tsv").exists() and (dymn.cwd / "e.tsv").stat().st_size)
    stopped(process)
    assert dymn("events", "rec", "-o", "fresh.tsv", "-t", 0.02).returncode == 0
    assert (dymn.cwd / "e.tsv").read_bytes() == (dymn.cwd / "fresh.tsv").read_bytes()


@pytest.mark.process
def test_lines_that_somebody_has_edited_are_not_replaced(dymn: Any, record: Record, start: Start) -> None:
    table = dymn.cwd / "t.csv"
    record("rec/a.wav", (CAT, 1))
    process = start("rec", "-o", "t.csv")
    wait_for(lambda: len(sources(table)) == 1)
    stopped(process)
    table.write_text(table.read_text().replace("mix", "left"))
    process = start("rec", "-o", "t.csv")
    _, err = process.communicate(timeout=60)
    assert (process.returncode, b"not the one that was written last" in err) == (5, True)
    assert "left" in table.read_text()
    process = start("rec", "-o", "t.csv", "--force")
    wait_for(lambda: "left" not in table.read_text())
    assert "stopped: 0 files analysed" in stopped(process)


@pytest.mark.process
def test_other_options_are_refused_by_name_until_it_starts_over(
    dymn: Any, record: Record, start: Start
) -> None:
    table = dymn.cwd / "t.csv"
    record("rec/a.wav", (CAT, 1))
    process = start("rec", "-o", "t.csv")
    wait_for(lambda: len(sources(table)) == 1)
    stopped(process)
    ran = dymn("watch", "rec", "-o", "t.csv", *FAST, "--hop", 0.25)
    assert (ran.returncode, "--hop was 0.5 s, is 0.25 s" in ran.err) == (5, True)
    assert "--no-resume --force starts over" in ran.err
    process = start("rec", "-o", "t.csv", "--hop", 0.25, "--no-resume", "--force")
    wait_for(lambda: json.loads((dymn.cwd / "t.csv.meta.json").read_text())["options"]["hop_s"] == 0.25)
    wait_for(lambda: len(sources(table)) == 1)
    assert "stopped: 1 file analysed" in stopped(process)


@pytest.mark.process
def test_a_bad_file_costs_itself_and_is_listed(dymn: Any, record: Record, start: Start) -> None:
    table = dymn.cwd / "t.csv"
    record("rec/a.wav", (CAT, 1))
    (dymn.cwd / "rec/bad.wav").write_text("no audio")
    process = start("rec", "-o", "t.csv", "--poll", 0.2)
    record("rec/z.wav", (HORSE, 1))
    wait_for(lambda: sources(table)[-1:] == ["rec/z.wav"])
    err = stopped(process)
    assert err.count("bad.wav") == 1
    assert ", 1 failed" in err
    assert sources(dymn.cwd / "t.csv.failures.csv") == ["rec/bad.wav"]


@pytest.mark.process
def test_a_file_that_changes_has_its_new_lines_alone_in_the_end(
    dymn: Any, record: Record, start: Start
) -> None:
    table = dymn.cwd / "t.csv"
    part = dymn.cwd / record("rec/a.wav", (CAT, 2))
    part.write_bytes(part.read_bytes()[:64_000])
    record("rec/b.wav", (CAT, 1))
    process = start("rec", "-o", "t.csv")
    wait_for(lambda: len(sources(table)) == 2)
    record("rec/a.wav", (DUCK, 3))
    wait_for(lambda: len(sources(table)) == 3)
    (dymn.cwd / "rec/b.wav").unlink()
    err = stopped(process)
    assert sources(table) == ["rec/b.wav", "rec/a.wav"]
    assert "in part" not in err
    assert not (dymn.cwd / "t.csv.warnings.csv").exists()


@pytest.mark.process
def test_a_command_has_each_result_on_its_standard_input(dymn: Any, record: Record, start: Start) -> None:
    name = record("rec/$(touch hacked); a.wav", (CAT, 1))
    code = "import sys; open('got.jsonl', 'a').write(sys.stdin.read()); print('said'); sys.exit(3)"
    process = start("rec", "-o", "t.csv", "--exec", f'"{sys.executable}" -c "{code}"')
    wait_for((dymn.cwd / "got.jsonl").exists)
    err = stopped(process)
    (line,) = (dymn.cwd / "got.jsonl").read_text().splitlines()
    assert json.loads(line)["source"] == name
    assert f"{name}: --exec {sys.executable}: exit code 3" in err
    assert "said" in err
    assert not (dymn.cwd / "hacked").exists()


@pytest.mark.process
@pytest.mark.slow
def test_thousands_of_small_files_come_at_once(dymn: Any, record: Record, start: Start) -> None:
    record("one.wav", (CAT, 0.1))
    (dymn.cwd / "rec").mkdir()
    table = dymn.cwd / "t.csv"
    process = start("rec", "-o", "t.csv")
    wait_for(table.exists)
    for n in range(2000):
        shutil.copy(dymn.cwd / "one.wav", dymn.cwd / f"rec/{n}.wav")
    wait_for(lambda: len(sources(table)) == 2000, 300)
    assert len(set(sources(table))) == 2000
    stopped(process)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "no folder to watch"),
        (("nowhere",), 3, "nowhere: no such folder"),
        (("a.wav",), 2, "a.wav: not a folder"),
        (("rec", "-o", "t.parquet"), 2, "parquet cannot be written line by line"),
        (("rec", "--settle", "-1"), 2, "--settle must not be below 0 s"),
        (("rec", "--poll", "0"), 2, "--poll must be more than 0 s"),
        (("rec", "--exec", "'open"), 2, "No closing quotation"),
        (("rec", "--exec", "no-such-program-here"), 2, "no program 'no-such-program-here'"),
        (("rec", "--exec-timeout", "0"), 2, "--exec-timeout must be more than 0 s"),
        (("rec", "--exec-limit", "-1"), 2, "--exec-timeout must be more than 0 s"),
        (("rec", "--find", "events", "-k", "3"), 2, "--top is for tags"),
        (("rec", "--find", "sounds"), 2, "tags or events"),
        (("rec", "-l", "Katze"), 2, "Katze"),
    ],
)
def test_a_bad_line_is_refused_before_any_work(
    arguments: tuple[str, ...], code: int, said: str, fake: Callable[..., Any], record: Record
) -> None:
    record("a.wav", (CAT, 1))
    record("rec/a.wav", (CAT, 1))
    ran = fake("watch", *arguments, "-j", 1)
    assert (ran.returncode, said in ran.err) == (code, True), ran.err


def test_a_result_of_somebody_else_is_not_appended_to(fake: Callable[..., Any], record: Record) -> None:
    record("rec/a.wav", (CAT, 1))
    assert fake("tag", "rec", "-o", "t.csv").returncode == 0
    before = Path("t.csv").read_bytes()
    ran = fake("watch", "rec", "-o", "t.csv", "-j", 1)
    assert (ran.returncode, "finished without --update" in ran.err) == (5, True)
    assert Path("t.csv").read_bytes() == before
