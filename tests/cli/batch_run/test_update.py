"""A finished result that grows with its folder: it is always what a run that begins anew would write."""

from __future__ import annotations

import signal
import subprocess
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dymn_cli.batch.job import Job
from dymn_cli.batch.journal import HEAD

CAT, HORSE, ANIMAL, DUCK = 81, 87, 72, 104  # as AudioSet numbers them

Record = Callable[..., str]
Fake = Callable[..., Any]

RESULTS = [
    pytest.param(("tag", "-k", 2), "t.csv", id="csv"),
    pytest.param(("tag", "--windows"), "t.jsonl", id="jsonl"),
    pytest.param(("tag", "--layout", "matrix"), "t.parquet", id="parquet"),
    pytest.param(("events",), "e.tsv", id="events"),
    pytest.param(("embed", "--per", "window"), "e.npy", id="npy"),
]


@pytest.fixture
def recordings(record: Record) -> str:
    """Three recordings, one of them in a folder of its own."""
    record("rec/a.wav", (CAT, 2))
    record("rec/b.wav", (HORSE, 3))
    record("rec/site/c.wav", (ANIMAL, 12))
    return "rec"


@pytest.fixture
def analysed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the sources that are computed, as it happens."""
    names: list[str] = []
    original = Job.run

    def noting(self: Job, tagger: Any, name: str, *rest: Any) -> Any:
        names.append(name)
        return original(self, tagger, name, *rest)

    monkeypatch.setattr(Job, "run", noting)
    return names


def results(folder: Path, stem: str) -> dict[str, bytes]:
    return {
        path.name.removeprefix(stem): path.read_bytes()
        for path in folder.iterdir()
        if path.is_file() and path.name.startswith(stem) and path.suffix != ".journal"
    }


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".journal"
    }


@pytest.mark.parametrize(("command", "out"), RESULTS)
def test_new_changed_moved_and_missing_files_give_what_a_fresh_run_gives(
    command: tuple[Any, ...],
    out: str,
    fake: Fake,
    recordings: str,
    record: Record,
    analysed: list[str],
    tmp_path: Path,
) -> None:
    cwd = tmp_path / "cwd"
    if out.endswith("parquet"):
        pytest.importorskip("pyarrow")
    assert fake(*command, recordings, "-o", out, "--update").returncode == 0
    analysed.clear()
    record("rec/b.wav", (DUCK, 4))  # changed
    record("rec/aa.wav", (DUCK, 11))  # new, and not the last in order
    (cwd / "rec/a.wav").rename(cwd / "rec/site/z.wav")  # moved
    (cwd / "rec/site/c.wav").unlink()  # gone
    ran = fake(*command, recordings, "-o", out, "--update", "--prune")
    assert ran.returncode == 0
    assert "results of 2 missing inputs dropped" in ran.err
    assert sorted(analysed) == ["rec/aa.wav", "rec/b.wav", "rec/site/z.wav"]
    fresh = "fresh-" + out
    assert fake(*command, recordings, "-o", fresh).returncode == 0
    stem = out.rpartition(".")[0]
    assert results(cwd, stem) == results(cwd, f"fresh-{stem}")


def test_nothing_is_computed_where_nothing_has_changed(
    fake: Fake, recordings: str, analysed: list[str], tmp_path: Path
) -> None:
    fake("tag", recordings, "-o", "t.csv", "--update")
    before = results(tmp_path / "cwd", "t.csv")
    analysed.clear()
    ran = fake("tag", recordings, "-o", "t.csv", "--update")
    assert (ran.returncode, analysed) == (0, [])
    assert "3 results were there already, 0 are new" in ran.err
    assert results(tmp_path / "cwd", "t.csv") == before


def test_what_is_gone_stays_at_the_end_until_it_is_pruned(
    fake: Fake, recordings: str, tmp_path: Path
) -> None:
    cwd = tmp_path / "cwd"
    fake("tag", recordings, "-o", "t.csv", "--update", "-k", 1)
    (cwd / "rec/a.wav").unlink()
    ran = fake("tag", recordings, "-o", "t.csv", "--update", "-k", 1)
    assert (ran.returncode, "results of 1 missing input kept; --prune drops them" in ran.err) == (0, True)
    sources = [line.split(",")[0] for line in (cwd / "t.csv").read_text().splitlines()[1:]]
    assert sources == ["rec/b.wav", "rec/site/c.wav", "rec/a.wav"]
    fake("tag", recordings, "-o", "t.csv", "--update", "--prune", "-k", 1)
    assert "rec/a.wav" not in (cwd / "t.csv").read_text()


def test_a_named_file_that_is_missing_keeps_its_result_and_fails_once_it_is_pruned(
    fake: Fake, recordings: str, tmp_path: Path
) -> None:
    cwd, names = tmp_path / "cwd", ("rec/a.wav", "rec/b.wav")
    fake("tag", *names, "-o", "t.csv", "--update")
    (cwd / "rec/a.wav").unlink()
    assert fake("tag", *names, "-o", "t.csv", "--update").returncode == 0
    assert "rec/a.wav" in (cwd / "t.csv").read_text()
    assert fake("tag", *names, "-o", "t.csv", "--update", "--prune").returncode == 6
    assert "rec/a.wav" not in (cwd / "t.csv").read_text()


def test_a_file_that_is_damaged_since_loses_its_old_result_for_good(
    fake: Fake, recordings: str, tmp_path: Path
) -> None:
    cwd = tmp_path / "cwd"
    fake("tag", recordings, "-o", "t.csv", "--update")
    (cwd / "rec/a.wav").write_bytes(b"RIFF\x24\0\0\0WAVE")
    assert fake("tag", recordings, "-o", "t.csv", "--update").returncode == 6
    (cwd / "rec/a.wav").unlink()
    assert fake("tag", recordings, "-o", "t.csv", "--update").returncode == 0
    assert "rec/a.wav" not in (cwd / "t.csv").read_text()
    assert not (cwd / "t.csv.failures.csv").exists()


def test_a_folder_of_results_grows_and_is_pruned(
    fake: Fake, recordings: str, record: Record, analysed: list[str], tmp_path: Path
) -> None:
    cwd = tmp_path / "cwd"
    fake("embed", recordings, "--out-dir", "o", "--update")
    (cwd / "o/notes.txt").write_text("mine")
    analysed.clear()
    record("rec/d.wav", (DUCK, 1))
    (cwd / "rec/site/c.wav").unlink()
    ran = fake("embed", recordings, "--out-dir", "o", "--update")
    assert (ran.returncode, analysed) == (0, ["rec/d.wav"])
    assert (cwd / "o/site/c.wav.npy").exists()
    ran = fake("embed", recordings, "--out-dir", "o", "--update", "--prune")
    assert ran.returncode == 0
    assert (cwd / "o/notes.txt").read_text() == "mine"
    (cwd / "o/notes.txt").unlink()
    fake("embed", recordings, "--out-dir", "fresh")
    assert tree(cwd / "o") == tree(cwd / "fresh")


def test_a_pruned_file_that_somebody_has_changed_stays(fake: Fake, recordings: str, tmp_path: Path) -> None:
    cwd = tmp_path / "cwd"
    fake("tag", recordings, "--out-dir", "o", "--update")
    (cwd / "rec/a.wav").unlink()
    (cwd / "o/a.wav.csv").write_text("checked by hand")
    ran = fake("tag", recordings, "--out-dir", "o", "--update", "--prune")
    assert ran.returncode == 0
    assert "o/a.wav.csv: kept, it is not the file that the earlier run wrote" in ran.err
    assert (cwd / "o/a.wav.csv").read_text() == "checked by hand"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("--hop", 2), "--hop was 10 s, is 2 s"),
        (("-l", "Cat"), "--label was none, is Cat"),
        (("--no-resume",), "t.csv: the file exists"),
        (("--shard", "1/2"), "--update and --shard exclude each other"),
    ],
)
def test_other_options_are_refused_by_name_and_nothing_is_lost(
    change: tuple[Any, ...], said: str, fake: Fake, recordings: str, tmp_path: Path
) -> None:
    fake("tag", recordings, "-o", "t.csv", "--update")
    before = results(tmp_path / "cwd", "t.csv")
    ran = fake("tag", recordings, "-o", "t.csv", "--update", *change)
    assert ran.returncode in (2, 5)
    assert said in ran.err
    assert results(tmp_path / "cwd", "t.csv") == before


def test_a_result_that_somebody_has_edited_is_refused(fake: Fake, recordings: str, tmp_path: Path) -> None:
    fake("tag", recordings, "-o", "t.csv", "--update")
    with (tmp_path / "cwd/t.csv").open("a") as file:
        file.write("mine\n")
    ran = fake("tag", recordings, "-o", "t.csv", "--update")
    assert (ran.returncode, "not the one that the earlier run wrote" in ran.err) == (5, True)
    assert (tmp_path / "cwd/t.csv").read_text().endswith("mine\n")


def test_a_result_that_was_finished_without_it_says_what_to_do(
    fake: Fake, recordings: str, record: Record, analysed: list[str]
) -> None:
    fake("tag", recordings, "-o", "t.csv")
    ran = fake("tag", recordings, "-o", "t.csv", "--update")
    assert (ran.returncode, "--update with --force analyses all once more" in ran.err) == (5, True)
    assert fake("tag", recordings, "-o", "t.csv", "--update", "--force").returncode == 0
    analysed.clear()
    record("rec/d.wav", (DUCK, 1))
    assert fake("tag", recordings, "-o", "t.csv", "--update").returncode == 0
    assert analysed == ["rec/d.wav"]


def test_a_missing_disk_does_not_empty_the_result(fake: Fake, recordings: str, tmp_path: Path) -> None:
    cwd = tmp_path / "cwd"
    fake("tag", recordings, "-o", "t.csv", "--update")
    before = results(cwd, "t.csv")
    (cwd / "rec").rename(cwd / "elsewhere")
    (cwd / "rec").mkdir()
    ran = fake("tag", recordings, "elsewhere", "-o", "t.csv", "--update", "--prune")
    assert (ran.returncode, "none of its 3 inputs is among these" in ran.err) == (5, True)
    assert results(cwd, "t.csv") == before


def test_a_file_that_changes_while_it_is_read_is_read_again_by_the_next_update(
    fake: Fake, recordings: str, record: Record, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original = Job.run

    def disturbed(self: Job, tagger: Any, name: str, *rest: Any) -> Any:
        done = original(self, tagger, name, *rest)
        if name == "rec/b.wav":
            record(name, (DUCK, 4))
        return done

    with monkeypatch.context() as patch:
        patch.setattr(Job, "run", disturbed)
        fake("tag", recordings, "-o", "t.csv", "--update")
    ran = fake("tag", recordings, "-o", "t.csv", "--update")
    assert "2 results were there already, 1 is new" in ran.err
    fake("tag", recordings, "-o", "fresh.csv")
    assert (tmp_path / "cwd/t.csv").read_bytes() == (tmp_path / "cwd/fresh.csv").read_bytes()


def test_it_starts_over_with_other_options_and_goes_on_from_there(
    fake: Fake, recordings: str, analysed: list[str]
) -> None:
    fake("tag", recordings, "-o", "t.csv", "--update")
    again = ("tag", recordings, "-o", "t.csv", "--update", "-k", 3)
    assert fake(*again, "--no-resume", "--force").returncode == 0
    analysed.clear()
    assert (fake(*again).returncode, analysed) == (0, [])


def test_pruning_removes_nothing_outside_of_the_folder(fake: Fake, recordings: str, tmp_path: Path) -> None:
    cwd = tmp_path / "cwd"
    place = ("tag", recordings, "--out-dir", "rec/../o", "--update")
    fake(*place)
    (cwd / "precious").write_text("mine")
    raw = b"../precious"  # as a journal from somewhere else may claim
    head = HEAD.pack(b"R", len(raw), 0, zlib.crc32(raw))
    with (cwd / "o/.dymn.journal").open("ab") as file:
        file.write(head + raw)
    (cwd / "rec/a.wav").unlink()
    assert fake(*place, "--prune").returncode == 0
    assert (cwd / "precious").read_text() == "mine"
    assert not (cwd / "o/a.wav.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("rec", "--update"), "--update needs a result to add to"),
        (("rec", "-o", "t.csv", "--prune"), "--prune needs --update"),
        (("-", "-o", "t.csv", "--update"), "--update is for files"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    arguments: tuple[str, ...], said: str, fake: Fake, recordings: str
) -> None:
    ran = fake("tag", *arguments)
    assert (ran.returncode, said in ran.err) == (2, True)


def test_the_journal_stays_small_however_often_files_change(
    fake: Fake, recordings: str, record: Record, tmp_path: Path
) -> None:
    journal = tmp_path / "cwd/t.csv.journal"
    fake("tag", recordings, "-o", "t.csv", "--update", "--windows")
    size = journal.stat().st_size
    for n in range(8):
        record("rec/b.wav", (DUCK + n, 4))
        assert fake("tag", recordings, "-o", "t.csv", "--update", "--windows").returncode == 0
    assert journal.stat().st_size < 3 * size
    fake("tag", recordings, "-o", "fresh.csv", "--windows")
    assert (tmp_path / "cwd/t.csv").read_bytes() == (tmp_path / "cwd/fresh.csv").read_bytes()


@pytest.mark.process
def test_killed_while_it_updates_the_same_command_goes_on(dymn: Any, record: Record) -> None:
    for n in range(4):
        record(f"rec/{n}.wav", (CAT + n, 1))
    command = ("tag", "rec", "-o", "t.csv", "--update", "--window", 0.5, "-j", 1)
    assert dymn(*command).returncode == 0
    before = (dymn.cwd / "t.csv").read_bytes()
    for n in range(4, 30):
        record(f"rec/{n}.wav", (CAT + n, 3))
    journal = dymn.cwd / "t.csv.journal"
    size = journal.stat().st_size
    process: subprocess.Popen[bytes] = dymn.start(*command)
    end = time.monotonic() + 60
    while journal.stat().st_size < size + 1000 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (dymn.cwd / "t.csv").read_bytes() == before
    ran = dymn(*command)
    assert (ran.returncode, "results were there already" in ran.err) == (0, True)
    assert dymn("tag", "rec", "-o", "fresh.csv", "--window", 0.5).returncode == 0
    assert (dymn.cwd / "t.csv").read_bytes() == (dymn.cwd / "fresh.csv").read_bytes()
