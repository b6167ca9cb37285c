"""Runs to files: what goes on, what is refused, and what lies beside the results."""

from __future__ import annotations

import csv
import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from dymn_cli import atomic

Fake = Callable[..., Any]
Record = Callable[..., str]

CAT, HORSE = 81, 87

COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "tag": (("tag",), ("-o", "t.csv")),
    "tag to JSON": (("tag",), ("-o", "t.jsonl")),
    "embeddings beside tags": (("tag",), ("-o", "t.csv", "--embed", "t.npy")),
    "embeddings beside a stream": (("tag",), ("--embed", "t.npy")),
    "embed": (("embed",), ("-o", "t.npy")),
    "events": (("events",), ("-o", "t.csv")),
    "a file for each": (("tag",), ("--out-dir", "t")),
    "events for each": (("events",), ("--out-dir", "t")),
}


def files(folder: Path) -> dict[str, bytes]:
    """All but recordings."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".wav")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", errors="surrogateescape") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def few(dymn: Any, record: Record) -> str:
    """A folder of two recordings and a file that is none; beside it, another recording."""
    record("few/a.wav", (CAT, 1))
    record("few/b.wav", (HORSE, 1))
    (dymn.cwd / "few/bad.wav").write_text("no audio")
    record("other.wav", (CAT, 2))
    return "few"


# ---------------------------------------------------------------------- going on


@pytest.mark.parametrize(("words", "to"), COMMANDS.values(), ids=COMMANDS)
def test_no_result_is_replaced_by_one_of_other_inputs(
    fake: Fake, dymn: Any, few: str, words: tuple[str, ...], to: tuple[str, ...]
) -> None:
    assert fake(*words, few, *to).returncode == 6
    before = files(dymn.cwd)
    for inputs in (["other.wav"], ["few/a.wav"], ["few/a.wav", "few/bad.wav", "other.wav"]):
        refused = fake(*words, *inputs, *to)
        assert refused.returncode == 5
        assert "an earlier run has results of " in refused.err
        assert "--force replaces" in refused.err
        assert refused.err.count("\n") == 1
        assert files(dymn.cwd) == before
    grown = fake(*words, few, "other.wav", *to)
    assert grown.returncode == 6
    assert "2 results were there already, 1 is new" in grown.err
    assert fake(*words, "other.wav", *to, "--force").returncode == 0
    assert not any(name.endswith(".journal") for name in files(dymn.cwd))


def test_a_journal_alone_is_named_where_it_is_in_the_way(fake: Fake, dymn: Any, few: str) -> None:
    fake("tag", few, "-o", "t.csv")
    (dymn.cwd / "t.csv").unlink()
    refused = fake("tag", "other.wav", "-o", "t.csv")
    assert (refused.returncode, "t.csv.journal keeps" in refused.err) == (5, True)
    assert fake("tag", "other.wav", "-o", "t.csv", "--force").returncode == 0


@pytest.mark.parametrize(("words", "to"), COMMANDS.values(), ids=COMMANDS)
def test_what_lies_beside_a_result_that_is_gone_is_replaced(
    fake: Fake, dymn: Any, few: str, words: tuple[str, ...], to: tuple[str, ...]
) -> None:
    good = ("few/a.wav", "few/b.wav")
    assert fake(*words, *good, *to).returncode == 0
    fresh = files(dymn.cwd)
    for name in fresh:
        (dymn.cwd / name).unlink()
    assert fake(*words, "other.wav", *to).returncode == 0
    for name in files(dymn.cwd):
        if not name.endswith((".meta.json", ".index.csv")):
            (dymn.cwd / name).unlink()
    ran = fake(*words, *good, *to)
    assert ran.returncode == 0, ran.err
    assert {name: data for name, data in files(dymn.cwd).items() if name in fresh} == fresh


def test_force_keeps_what_is_still_asked_for_and_forgets_the_rest(fake: Fake, dymn: Any, few: str) -> None:
    fake("tag", few, "-o", "t.csv")
    (dymn.cwd / "few/b.wav").unlink()
    assert fake("tag", few, "-o", "t.csv").returncode == 5
    ran = fake("tag", few, "-o", "t.csv", "--force")
    assert (ran.returncode, "1 result was there already, 0 are new" in ran.err) == (6, True)
    again = fake("tag", few, "-o", "t.csv")
    assert again.returncode == 6, "the journal has forgotten what is gone"
    assert {row["source"] for row in rows(dymn.cwd / "t.csv")} == {"few/a.wav"}


def test_names_through_a_pipe_are_known_before_a_result_is_replaced(in_process: Any, few: str) -> None:
    for names, code in (
        (b"few/a.wav\nfew/bad.wav\n", 6),
        (b"other.wav\n", 5),
        (b"few/a.wav\nother.wav\n", 0),
    ):
        ran = in_process("tag", "--files-from", "-", "-k", 1, "-j", 1, "-o", "t.csv", input=names)
        assert ran.returncode == code, ran.err
    assert [row["source"] for row in rows(in_process.cwd / "t.csv")] == ["few/a.wav", "other.wav"]


def test_standard_input_of_an_earlier_run_is_not_what_comes_now(fake: Fake, dymn: Any, few: str) -> None:
    words = ("tag", "-", "few/bad.wav", "-k", 1, "-o", "t.csv")
    assert fake(*words, input=(dymn.cwd / "few/a.wav").read_bytes()).returncode == 6
    before = files(dymn.cwd)
    refused = fake(*words, input=(dymn.cwd / "few/b.wav").read_bytes())
    assert (refused.returncode, files(dymn.cwd)) == (5, before)
    assert "results of 1 input that are not given now: -;" in refused.err


@pytest.mark.parametrize(("to", "edited"), [("-o t.csv", "t.csv"), ("--out-dir t", "t/a.wav.csv")])
def test_a_result_that_somebody_has_edited_is_not_replaced(
    fake: Fake, dymn: Any, few: str, to: str, edited: str
) -> None:
    fake("tag", few, *to.split())
    with (dymn.cwd / edited).open("a") as stream:
        stream.write("my remarks\n")
    before = files(dymn.cwd)
    refused = fake("tag", few, *to.split())
    assert (refused.returncode, files(dymn.cwd)) == (5, before)
    assert refused.err.startswith(f"dymn: error: {edited}: the file ")
    assert fake("tag", few, *to.split(), "--force").returncode == 6
    assert b"remarks" not in (dymn.cwd / edited).read_bytes()


def test_the_journal_of_a_run_that_did_nothing_allows_nothing(fake: Fake, dymn: Any, few: str) -> None:
    (dymn.cwd / "t.csv").write_text("finished\n")
    (dymn.cwd / "t.csv.journal").touch()
    refused = fake("tag", few, "-o", "t.csv")
    assert refused.returncode == 5
    assert (dymn.cwd / "t.csv").read_text() == "finished\n"


def test_a_folder_that_grew_replaces_no_file_of_somebody_else(fake: Fake, dymn: Any, few: str) -> None:
    assert fake("tag", few, "--out-dir", "t").returncode == 6
    (dymn.cwd / "t/other.wav.csv").write_text("mine\n")
    refused = fake("tag", few, "other.wav", "--out-dir", "t")
    assert (refused.returncode, "t/other.wav.csv: the file exists" in refused.err) == (5, True)
    assert (dymn.cwd / "t/other.wav.csv").read_text() == "mine\n"


@pytest.mark.parametrize(
    "words",
    [
        ("tag", "few", "-o", "few/a.wav", "-f", "csv"),
        ("tag", "few/a.wav", "-o", "hard.wav", "-f", "csv"),
        ("tag", "few", "--embed", "soft"),
        ("embed", "few/a.wav", "-o", "few/a.wav", "-f", "npy"),
        ("events", "--files-from", "-", "-o", "few/a.wav", "-f", "csv"),
        ("tag", "few/b.wav", "--files-from", "names", "-o", "names", "-f", "csv"),
        ("report", "few/b.wav", "soft.html", "-o", "soft.html"),
        ("convert", "few/t.csv", "t.csv"),
        ("plot", "few/a.wav", "-o", "hard.png"),
        ("search", "few", "few/a.wav", "-o", "few/a.wav"),
        ("watch", "few", "-o", "few/a.wav", "-f", "csv"),
    ],
    ids=lambda words: " ".join(words),
)
def test_force_replaces_no_input(fake: Fake, dymn: Any, few: str, words: tuple[str, ...]) -> None:
    cwd = dymn.cwd
    fake("events", "few/b.wav", "-o", "few/t.csv")
    for linked, link in (("few/a.wav", "hard.wav"), ("few/a.wav", "hard.png"), ("few/t.csv", "t.csv")):
        os.link(cwd / linked, cwd / link)
    for link in ("soft", "soft.html"):
        (cwd / link).symlink_to("few/a.wav")
    (cwd / "names").write_text("few/a.wav\n")
    before = {path: path.read_bytes() for path in cwd.rglob("*") if path.is_file()}
    ran = fake(*words, "--force", input=b"few/b.wav\nfew/a.wav\n" if "-" in words else None)
    assert ran.returncode == 2, ran.err
    assert " is also an input; write to another file\n" in ran.err
    assert {path: path.read_bytes() for path in before} == before
    new = {path.name for path in cwd.rglob("*") if path.is_file()} - {path.name for path in before}
    assert new <= {"a.wav.journal"}, "of what was done before the list named its own output"


def test_a_full_disk_says_that_results_are_kept(
    fake: Fake, few: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(self: object, *, replace: bool) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(atomic.Part, "publish", no_space)
        ran = fake("tag", "few/a.wav", "few/b.wav", "-o", "t.jsonl")
    assert (ran.returncode, ran.err.splitlines()[-1]) == (
        5,
        "dymn: error: t.jsonl: no space left on device; free some space, or write to another disk;"
        " what is done so far is kept",
    )
    assert "2 results were there already" in fake("tag", "few/a.wav", "few/b.wav", "-o", "t.jsonl").err


@pytest.mark.process
def test_ctrl_c_in_the_only_file_does_not_promise_to_go_on(dymn: Any) -> None:
    sf.write(dymn.cwd / "night.wav", np.zeros(3_000 * 8_000, np.float32), 8_000)
    journal = dymn.cwd / "t.csv.journal"
    words = ("tag", "night.wav", "--windows", "--window", 0.5, "--hop", 0.25, "-o", "t.csv")
    with dymn.start(*words) as process:
        deadline = time.monotonic() + 60
        while not (journal.exists() and journal.stat().st_size > 5_000):  # it has begun the file
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130
    assert "run the same command to continue" not in err
    assert "no input was finished, so nothing is kept; the same command starts over" in err
    assert [path.name for path in dymn.cwd.iterdir()] == ["night.wav"]


# ---------------------------------------------------------------------- links that somebody has laid out


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
@pytest.mark.parametrize(
    ("to", "link"),
    [
        ("-o t.csv", "t.csv.journal"),
        ("--out-dir t", "t/.dymn.journal"),
        ("--out-dir t", "t/a.wav.csv"),
        ("--out-dir t", "t/dymn.meta.json"),
    ],
)
@pytest.mark.parametrize("is_there", [False, True])
def test_nothing_is_written_through_a_link(
    fake: Fake, dymn: Any, record: Record, to: str, link: str, is_there: bool
) -> None:
    record("few/a.wav", (CAT, 1))
    target = dymn.cwd / "target"
    if is_there:
        target.write_text("precious")
    (dymn.cwd / link).parent.mkdir(exist_ok=True)
    (dymn.cwd / link).symlink_to(target)
    ran = fake("tag", "few", *to.split(), "--force")
    assert ran.returncode == 5
    assert f"{link}: a symbolic link" in ran.err
    assert (target.read_text() if target.exists() else None) == ("precious" if is_there else None)


def test_a_link_to_a_folder_is_not_written_through(fake: Fake, dymn: Any, record: Record) -> None:
    record("few/sub/a.wav", (CAT, 1))
    (dymn.cwd / "elsewhere").mkdir()
    (dymn.cwd / "t").mkdir()
    (dymn.cwd / "t/sub").symlink_to(dymn.cwd / "elsewhere")
    ran = fake("tag", "few", "--out-dir", "t")
    assert (ran.returncode, "t/sub: a symbolic link" in ran.err) == (5, True)
    assert list((dymn.cwd / "elsewhere").iterdir()) == []


# ---------------------------------------------------------------------- what is damaged


@pytest.fixture
def damaged(dymn: Any, record: Record) -> Callable[..., None]:
    """Makes a recording that is shorter than its header claims."""

    def make(name: str) -> None:
        path = dymn.cwd / record(name, (CAT, 2))
        path.write_bytes(path.read_bytes()[:-20_000])

    return make


@pytest.mark.parametrize(
    ("to", "listed"),
    [
        ("tag -o t.csv", "t.csv.warnings.csv"),
        ("tag -o t.jsonl", "t.jsonl.warnings.csv"),
        ("tag --out-dir t", "t/dymn.warnings.csv"),
        ("tag --embed t.npy", "t.npy.warnings.csv"),
        ("embed -o t.npy", "t.npy.warnings.csv"),
        ("embed --per window --window 0.5 -o t.npy", "t.npy.warnings.csv"),
        ("events -o t.csv", "t.csv.warnings.csv"),
    ],
)
def test_every_damaged_file_is_named_in_one_table(
    fake: Fake, dymn: Any, record: Record, damaged: Callable[..., None], to: str, listed: str
) -> None:
    for name in ("few/1.wav", "few/3, cut.wav"):
        damaged(name)
    record("few/2.wav", (CAT, 1))
    (dymn.cwd / "few/bad.wav").write_text("no audio")
    command, *more = to.split()
    ran = fake(command, "few", *more)
    assert ran.returncode == 6
    assert f"2 inputs could only be read in part: {listed}" in ran.err
    table = rows(dymn.cwd / listed)
    assert [row["source"] for row in table] == ["few/1.wav", "few/3, cut.wav"]
    assert all("header claims" in row["warning"] for row in table), "a short clip that is repeated is none"
    record("few/4.wav", (CAT, 1))
    fake(command, "few", *more)
    assert rows(dymn.cwd / listed) == table, "those of an earlier run as well"
    for name in ("few/1.wav", "few/3, cut.wav", "few/bad.wav"):
        record(name, (CAT, 1))
    assert fake(command, "few", *more).returncode == 0
    assert not (dymn.cwd / listed).exists(), "what was damaged has been mended"


def test_a_table_of_damage_is_safe_and_replaces_nothing_else(
    fake: Fake, dymn: Any, damaged: Callable[..., None]
) -> None:
    damaged("=1+2.wav")
    assert fake("tag", "=1+2.wav", "-o", "t.csv", "--csv-safe").returncode == 0
    assert rows(dymn.cwd / "t.csv.warnings.csv")[0]["source"] == "'=1+2.wav"
    (dymn.cwd / "t.csv.warnings.csv").write_text("my remarks\n")
    refused = fake("tag", "=1+2.wav", "-o", "t.csv", "--force")
    assert (refused.returncode, "is not a list of warnings" in refused.err) == (5, True)
    assert (dymn.cwd / "t.csv.warnings.csv").read_text() == "my remarks\n"


# ---------------------------------------------------------------------- what is left out


def test_a_folder_run_says_what_it_leaves_out(fake: Fake, dymn: Any, record: Record) -> None:
    record("few/a.wav", (CAT, 1))
    for name in ("b.mqa", "c.MQA", "notes.txt"):
        (dymn.cwd / "few" / name).write_bytes(b"text")
    (dymn.cwd / "few/REC1").write_bytes((dymn.cwd / "few/a.wav").read_bytes())
    ran = fake("tag", "few", "-k", 1)
    assert [row[0] for row in ran.rows] == ["few/a.wav"]
    said = "dymn: warning: no suffix, .mqa: 3 files left out; name them with --ext, or by their own names"
    assert ran.err.splitlines().count(said) == 1
    assert fake("info", "few", "--dry-run").err.splitlines() == [said]
    for quiet in (("-q",), ("--ext", "wav")):
        assert "left out" not in fake("tag", "few", *quiet).err


def test_files_of_the_kinds_that_people_have_are_read_or_named(fake: Fake, shared: Path) -> None:
    ran = fake("tag", shared / "cases" / "skipped_in_folder", "-k", 1)
    read = {Path(row[0]).name for row in ran.rows}
    assert read >= {"b.sph", "e.wav"}
    assert read == {"a.wv", "b.sph", "c.weba", "d.tta", "e.wav"} or "left out" in ran.err


# ---------------------------------------------------------------------- standard input


def test_standard_input_reaches_workers_too(dymn: Any, in_process: Any, few: str) -> None:
    data = (dymn.cwd / "few/a.wav").read_bytes()
    plain = in_process("tag", "-", "few/b.wav", "-k", 1, input=data)
    limited = dymn("tag", "-", "few/b.wav", "-k", 1, "-j", 2, "--limit-per-file", 60, input=data)
    assert (limited.returncode, limited.stdout) == (0, plain.stdout)
    assert [row[0] for row in limited.rows] == ["-", "few/b.wav"]


@pytest.mark.parametrize("more", [(), ("--limit-per-file", 60)])
def test_standard_input_has_a_limit(dymn: Any, few: str, more: tuple[object, ...]) -> None:
    zeros = "head -c 9000000 /dev/zero | dymn tag -"
    ran = dymn.shell(f"{zeros} few/b.wav -k 1 --max-input 5M {' '.join(map(str, more))}")
    assert (ran.returncode, [row[0] for row in ran.rows]) == (6, ["few/b.wav"])
    assert "standard input: the stream has more than 5,000,000 bytes; --max-input allows more" in ran.err


@pytest.mark.parametrize("size", ["", "0", "-5", "5X", "many", "1e9", "5 M B"])
def test_a_limit_that_is_no_size_is_refused(fake: Fake, few: str, size: str) -> None:
    ran = fake("tag", few, "--max-input", size)
    assert (ran.returncode, ran.err.count("\n")) == (2, 1)


# ---------------------------------------------------------------------- terminals


@pytest.mark.parametrize(
    "words",
    [
        "tag -f tsv",
        pytest.param("tag -f csv", marks=pytest.mark.process),
        pytest.param("tag -f raven", marks=pytest.mark.process),
        "tag -f jsonl",
        "tag --dry-run",
    ],
)
def test_names_cannot_control_a_terminal_in_any_form(
    dymn: Any, in_process: Any, record: Record, words: str
) -> None:
    record("evil\x1b]0;x\x07\u202egpj\u200f\u061c.wav", (CAT, 1))
    (name,) = os.listdir(dymn.cwd)  # noqa: PTH208 - as it is spelled there
    ran = dymn.terminal(*words.split(), name, "--color", "never")
    assert ran.returncode == 0
    assert not {"\x1b", "\x07", "\u202e", "\u200f", "\u061c"} & set(ran.out)
    assert "evil" in ran.out
    if "json" not in words and "raven" not in words:
        assert os.fsencode(name) in in_process(*words.split(), name).stdout, "a pipe gets the name as it is"


def test_a_label_that_is_named_twice_is_one_column(fake: Fake, record: Record) -> None:
    ran = fake("tag", record("a.wav", (CAT, 1)), "-l", "Dog", "-l", "dog", "-f", "csv", "--layout", "matrix")
    assert ran.out.splitlines()[0] == "source,channel,start_s,end_s,Dog"


# ---------------------------------------------------------------------- shares


@pytest.mark.parametrize(
    ("command", "form"), [("tag", "csv"), ("tag", "jsonl"), ("events", "json"), ("embed", "npy")]
)
def test_shares_of_the_command_line_know_their_place(
    fake: Fake, dymn: Any, record: Record, command: str, form: str
) -> None:
    for n in range(4):
        record(f"few/{n}.wav", (CAT + n, 1))
    assert fake(command, "few", "-o", f"all.{form}").returncode == 0
    shares = [f"{n}.{form}" for n in (3, 1, 2)]
    for share in shares:
        assert fake(command, "few", "--shard", f"{share[0]}/3", "-o", share).returncode == 0
    assert fake("merge", *shares, "-o", f"merged.{form}").returncode == 0
    expected, found = (
        {name.removeprefix(stem): data for name, data in files(dymn.cwd).items() if name.startswith(stem)}
        for stem in ("all.", "merged.")
    )
    assert found == expected
    part = fake("merge", *shares[:2], "-o", f"part.{form}")
    assert part.err == "dymn: warning: incomplete: share 2/3 is missing\n"
    refused = fake("merge", f"all.{form}", *shares[:1], "-o", f"both.{form}")
    assert (refused.returncode, refused.err.count("\n")) == (3, 1)
