"""The program among others: streams, terminals, signals, locales; all on the real process."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CAT, HORSE = 81, 87  # as AudioSet numbers them

Record = Callable[..., str]


@pytest.fixture
def clip(record: Record) -> str:
    """A recording of one window."""
    return record("clip.wav", (CAT, 10))


def left_over(folder: Path) -> list[str]:
    """Temporary files that somebody forgot."""
    return [name for name in os.listdir(folder) if name.startswith(".dymn") or name.endswith(".part")]  # noqa: PTH208


# ---------------------------------------------------------------------- streams


def test_results_go_to_stdout_and_everything_else_to_stderr(dymn: Any, folder: str) -> None:
    ran = dymn("tag", folder, "-k", 1)
    assert ran.returncode == 6
    assert [row[0] for row in ran.rows] == ["takes/take1.wav", "takes/take2.wav", "takes/take10.wav"]
    lines = ran.err.splitlines()
    assert all(line.startswith("dymn: ") for line in lines)
    assert lines[-1] == "dymn: error: 2 of 5 inputs failed"
    assert "Traceback" not in ran.err


def test_a_reader_that_goes_away_is_no_error(dymn: Any, clip: str, folder: str) -> None:
    ran = dymn.shell(
        f"dymn tag {clip} {clip} {folder} -k 0 | head -1; echo ${{PIPESTATUS[*]}}\n"
        f"dymn tag {clip} -k 0 -f json | true; echo ${{PIPESTATUS[*]}}\n"
        "dymn tag -h | true; echo ${PIPESTATUS[*]}\n"
        f"dymn tag {clip} | head -1 > /dev/null && echo passed"
    )
    lines = ran.out.splitlines()
    assert lines[0].startswith("clip.wav\tmix\t0.0\t10.0\t1\t")
    assert lines[1:] == ["0 0", "0 0", "0 0", "passed"]
    assert "Traceback" not in ran.err
    assert "Exception" not in ran.err


def test_sound_comes_from_a_pipe_a_file_or_another_program(
    dymn: Any, in_process: Any, record: Record
) -> None:
    record("clip.flac", (CAT, 10))
    data = (dymn.cwd / "clip.flac").read_bytes()
    piped = in_process("tag", "-", "-k", 2, input=data)
    assert (piped.returncode, piped.stderr, len(piped.rows)) == (0, b"", 2)
    assert piped.rows[0][0] == "-"
    ran = dymn.shell(
        "cat clip.flac | dymn tag - -k 2; dymn tag - - -k 2 < clip.flac; dymn tag <(cat clip.flac) -k 2"
    )
    assert ran.stderr == b""
    assert [row[1:] for row in ran.rows] == [row[1:] for row in piped.rows] * 3


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("dymn tag - < /dev/null", 3, "standard input: nothing came; did the program"),
        ("echo hello | dymn tag -", 3, "standard input: not a known audio format; raw samples"),
        ("dymn tag - <&-", 2, "standard input is closed; give the name of a file"),
        ("dymn tag --files-from - <&-", 2, "standard input is closed; give the name of a file"),
        ("dymn tag - --files-from - < /dev/null", 2, "standard input cannot be both the audio and the list"),
        ("dymn tag clip.wav >&-", 5, "standard output is closed; give a file with --out"),
        ("dymn tag clip.wav > /dev/full", 5, "standard output: no space left on device"),
        ("dymn tag -h > /dev/full", 5, "standard output: no space left on device"),
        ("dymn --version > /dev/full", 5, "standard output: no space left on device"),
        ("dymn tag clip.wav --dry-run >&-", 5, "standard output is closed"),
    ],
)
def test_streams_that_are_closed_empty_or_full(
    dymn: Any, clip: str, script: str, code: int, said: str
) -> None:
    ran = dymn.shell(script)
    assert (ran.returncode, ran.stdout) == (code, b"")
    assert ran.err.startswith(f"dymn: error: {said}")
    assert ran.err.count("\n") == 1


def test_without_a_stderr_the_work_is_done_all_the_same(dymn: Any, record: Record, clip: str) -> None:
    record("short.mp3", (CAT, 1))
    ran = dymn.shell(
        "dymn tag short.mp3 clip.wav none.wav -o tags.csv 2>&-; echo $?\n"
        "dymn tag short.mp3 clip.wav none.wav -k 1 2>/dev/full; echo $?\n"
        "dymn tag none.wav 2>&-; echo $?\n"
        "dymn tag none.wav <&- >&- 2>&-; echo $?"
    )
    lines = ran.out.splitlines()
    assert [lines[0], *lines[-3:]] == ["6", "6", "3", "5"]
    rows = (dymn.cwd / "tags.csv").read_text("utf-8").splitlines()
    assert rows[0] == "source,channel,start_s,end_s,rank,label,mid,score"
    assert len(rows) == 11
    assert all(row.startswith(("short.mp3,", "clip.wav,")) for row in rows[1:])


# ---------------------------------------------------------------------- lists of names


def test_names_come_from_a_list_in_any_line_end_and_each_once(in_process: Any, record: Record) -> None:
    for name in ("a.wav", " b .wav", "new\nline.wav"):
        record(name, (CAT, 0.1))
    listed = b"a.wav\r\n\n./a.wav\n b .wav\r\n\r\na.wav"
    ran = in_process("tag", "--files-from", "-", "-k", 1, "-j", 1, input=listed)
    assert ([row[0] for row in ran.rows], ran.returncode) == (["a.wav", " b .wav"], 0)
    (in_process.cwd / "list").write_bytes(b"new\nline.wav\0\0a.wav\0")
    ran = in_process("tag", " b .wav", "--files-from", "list", "-0", "-k", 1, "-j", 1)
    assert ([row[0] for row in ran.rows], ran.returncode) == ([" b .wav", r"new\nline.wav", "a.wav"], 0)


@pytest.mark.parametrize(
    ("words", "data", "code", "said"),
    [
        (["--files-from", "-"], b"a.wav\0b.wav\0", 2, "the names in this list end with NUL bytes; add -0"),
        (["--files-from", "none"], b"", 3, "none: no such file or directory"),
        (["--files-from", "."], b"", 3, ".: is a directory"),
        (["--dry-run", "--files-from", "-"], b"\n", 3, "-: no names in this list"),
    ],
)
def test_lists_that_cannot_be_read(
    in_process: Any, words: list[str], data: bytes, code: int, said: str
) -> None:
    ran = in_process("tag", *words, "-j", 1, input=data)
    assert (ran.returncode, ran.stdout) == (code, b"")
    assert ran.err == f"dymn: error: {said}\n"


def test_a_list_may_name_standard_input_nowhere(dymn: Any, record: Record, clip: str) -> None:
    record(os.fsdecode(b"odd \xff.wav"), (CAT, 0.1))
    ran = dymn("tag", "--files-from", "-", "--dry-run", input=b"clip.wav\nodd \xff.wav\n")
    assert ran.stdout == b"clip.wav\nodd \xff.wav\n"


def test_listed_names_may_hold_line_feeds(in_process: Any, record: Record) -> None:
    record("a\nb.wav", (CAT, 0.1))
    listed = in_process("tag", ".", "--dry-run", "-0")
    assert listed.stdout == b"./a\nb.wav\0"
    again = in_process("info", "--files-from", "-", "-0", "--dry-run", "-0", input=listed.stdout)
    assert again.stdout == listed.stdout


def test_a_working_directory_that_is_gone(dymn: Any) -> None:
    ran = dymn.shell("mkdir gone && cd gone && rmdir ../gone && dymn tag a.wav")
    assert (ran.returncode, ran.err) == (
        3, "dymn: error: the working directory is gone; cd to a folder that is there\n",
    )  # fmt: skip


def test_a_link_to_itself_is_named_for_what_it_is(in_process: Any) -> None:
    (in_process.cwd / "s.wav").symlink_to("s.wav")
    ran = in_process("tag", "s.wav", "--dry-run")
    assert (ran.returncode, ran.err) == (3, "dymn: error: s.wav: too many levels of symbolic links\n")


# ---------------------------------------------------------------------- folders


def test_a_folder_of_traps(in_process: Any, record: Record) -> None:
    record("d/a.wav", (CAT, 0.1))
    (in_process.cwd / "d/up").symlink_to("../d")
    (in_process.cwd / "d/self.wav").symlink_to("self.wav")
    (in_process.cwd / "d/gone.wav").symlink_to("nowhere.wav")
    os.mkfifo(in_process.cwd / "d/pipe.wav")
    ran = in_process("tag", "d", "-k", 1)
    assert (ran.returncode, [row[0] for row in ran.rows]) == (6, ["d/a.wav"])
    assert "d/gone.wav: no such file" in ran.err
    assert "d/self.wav: " in ran.err


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_a_failure(dymn: Any, record: Record) -> None:
    record("d/locked/a.wav", (CAT, 0.1))
    record("d/secret.wav", (CAT, 0.1))
    record("d/b.wav", (CAT, 0.1))
    (dymn.cwd / "d/secret.wav").chmod(0)
    (dymn.cwd / "d/locked").chmod(0)
    try:
        ran = dymn("tag", "d", "-k", 1)
    finally:
        (dymn.cwd / "d/locked").chmod(0o700)
    assert (ran.returncode, [row[0] for row in ran.rows]) == (6, ["d/b.wav"])
    assert "d/secret.wav: no permission" in ran.err
    assert "d/locked: this folder cannot be listed: permission denied" in ran.err


# ---------------------------------------------------------------------- the same whatever the machine


@pytest.mark.process
def test_neither_threads_nor_jobs_nor_batches_change_a_byte(dymn: Any, record: Record) -> None:
    for n in range(3):
        record(f"d/{n}.wav", (CAT + n, 9), (HORSE, 6))
    words = ("tag", "d", "--windows", "--hop", 2.5, "-f", "json", "-k", 0, "--precision", 9)
    first = dymn(*words, "--threads", 1)
    assert first.returncode == 0
    assert len(json.loads(first.stdout)) == 3
    for other in (["--threads", 4, "--batch-size", 3], ["--limit-per-file", 60, "-j", 2]):
        assert dymn(*words, *other).stdout == first.stdout


@pytest.mark.process
@pytest.mark.parametrize(
    "env",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": None, "LANG": None},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "de_DE.ISO-8859-1", "PYTHONIOENCODING": "latin-1"},
    ],
)
def test_output_is_utf_8_with_points_whatever_the_locale(
    dymn: Any, record: Record, env: dict[str, str | None]
) -> None:
    record("für ♫.wav", (CAT, 1))
    raw = os.fsencode(dymn.cwd) + b"/latin \xfc.wav"
    Path(os.fsdecode(raw)).write_bytes((dymn.cwd / "für ♫.wav").read_bytes())
    ran = dymn("tag", "für ♫.wav", b"latin \xfc.wav", "-k", 1, env=env)
    assert ran.returncode == 0
    sources = [line.split(b"\t")[0] for line in ran.stdout.splitlines()]
    assert sources == ["für ♫.wav".encode(), b"latin \xfc.wav"]
    assert ran.rows[0][2:4] == ["0.0", "1.0"]


def test_the_environment_sets_defaults_and_the_command_line_goes_before_it(
    in_process: Any, clip: str
) -> None:
    ran = in_process("tag", clip, env={"DYMN_MODEL": "no-such-model"})
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert "no-such-model" in ran.err
    assert in_process("tag", clip, "-m", "dymn04_kd", env={"DYMN_MODEL": "no-such-model"}).returncode == 0
    assert "no backend 'abacus'" in in_process("tag", clip, env={"DYMN_BACKEND": "abacus"}).err
    assert "no device 'tpu'" in in_process("tag", clip, env={"DYMN_DEVICE": "tpu"}).err


# ---------------------------------------------------------------------- how much is said


def test_quiet_says_errors_only_and_verbose_says_more(in_process: Any, record: Record, clip: str) -> None:
    record("short.wav", (CAT, 1))
    words = ("tag", "short.wav", clip, "none.wav", "-k", 1)
    plain, quiet, verbose = (in_process(*words, *more).err.splitlines() for more in ([], ["-q"], ["-v"]))
    assert quiet == ["dymn: failed: none.wav: no such file", "dymn: error: 1 of 3 inputs failed"]
    note = "dymn: short.wav: shorter than the window (1.00 of 10 s): repeated up to it"
    assert set(verbose) >= {*quiet, note}
    assert note not in plain
    assert any("1 of 2 results carry notes" in line for line in plain)


def test_traces_are_shown_on_demand_only(in_process: Any, clip: str) -> None:
    words = ("tag", clip, "-l", "no such label")
    assert "Traceback" not in in_process(*words, "-v").err
    for ran in (in_process(*words, "-vv"), in_process(*words, env={"DYMN_DEBUG": "1"})):
        assert ran.returncode == 2
        assert ran.err.startswith("dymn: error: unknown label 'no such label'; nearest: ")
        assert "Traceback (most recent call last):" in ran.err
        assert "dymn_cli.errors.UsageError" in ran.err


def test_decoders_do_not_talk_into_our_stderr(dymn: Any, record: Record) -> None:
    record("clip.mp3", (CAT, 3))
    path = dymn.cwd / "clip.mp3"
    data = bytearray(path.read_bytes())
    data[2000:2600] = bytes(600)
    path.write_bytes(data)
    ran = dymn("tag", "clip.mp3", "-k", 1)
    assert ran.returncode in (0, 3)
    assert all(line.startswith("dymn: ") for line in ran.err.splitlines())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a limit of address space is Linux's")
@pytest.mark.parametrize("limit_kb", [110_000, 150_000])
def test_too_little_memory_is_told_in_one_line(dymn: Any, clip: str, limit_kb: int) -> None:
    ran = dymn.shell(f"ulimit -v {limit_kb}; dymn tag {clip}")
    assert (ran.returncode, ran.out) == (4, "")
    assert ran.err.startswith("dymn: error: not enough memory; ")
    assert ran.err.count("\n") == 1


# ---------------------------------------------------------------------- terminals


def test_a_terminal_changes_the_form_and_not_the_meaning(dymn: Any, in_process: Any, clip: str) -> None:
    ran = dymn.terminal("tag", clip, "-k", 2, streams="out err", columns=80)
    assert ran.returncode == 0
    plain = in_process("tag", clip, "-k", 2)
    assert "\x1b[" in ran.out
    for label, score in (row[5:] for row in plain.rows):
        assert label in ran.out
        assert score in ran.out
    assert "clip.wav" in ran.out
    assert "10.0 s" in ran.out
    assert plain.out.count("\t") == 12
    to_pipe = dymn.terminal("tag", clip, "-k", 2, streams="err")
    assert to_pipe.stdout == plain.stdout


@pytest.mark.process
@pytest.mark.parametrize(
    ("env", "words", "colored"),
    [
        ({}, [], True),
        ({"NO_COLOR": "1"}, [], False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, [], False),
        ({"TERM": "dumb"}, [], False),
        ({}, ["--color", "never"], False),
        ({"NO_COLOR": "1"}, ["--color", "always"], True),
    ],
)
def test_colour_on_terminals(
    dymn: Any, clip: str, env: dict[str, str], words: list[str], colored: bool
) -> None:
    ran = dymn.terminal("tag", clip, "none.wav", "-k", 1, *words, env=env)
    assert ("\x1b[" in ran.out, "\x1b[" in ran.err) == (colored, colored)
    assert "no such file" in ran.err


def test_colour_in_pipes_is_by_demand_and_for_each_stream_on_its_own(
    dymn: Any, in_process: Any, clip: str
) -> None:
    ran = in_process("tag", clip, "none.wav", "-f", "table")
    assert b"\x1b" not in ran.stdout + ran.stderr
    for more, env in ((["--color", "always"], {}), ([], {"FORCE_COLOR": "1"})):
        ran = in_process("tag", clip, "none.wav", "-f", "table", *more, env=env)
        assert b"\x1b[" in ran.stdout
        assert b"\x1b[" in ran.stderr
    assert b"\x1b" not in in_process("tag", clip, "--color", "always").stdout  # rows are never coloured
    ran = dymn.terminal("tag", clip, "none.wav", "-f", "table", streams="err")
    assert ("\x1b[" in ran.out, "\x1b[" in ran.err) == (False, True)


@pytest.mark.parametrize(
    ("words", "what"),
    [(["tag", "-"], "audio"), (["embed", "-"], "audio"), (["tag", "--files-from", "-"], "names")],
)
def test_it_does_not_wait_for_somebody_to_type_sound(dymn: Any, words: list[str], what: str) -> None:
    ran = dymn.terminal(*words, streams="in")
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert ran.err.startswith(f"dymn: error: standard input is a terminal; pipe {what} into dymn, ")
    assert ran.err.count("\n") == 1


def test_what_is_done_in_a_moment_needs_no_bar(dymn: Any, folder: str) -> None:
    for _ in range(5):  # a machine that is busy elsewhere takes longer than a moment now and then
        ran = dymn.terminal("tag", folder, "-k", 1, "--color", "never", streams="err")
        assert len(ran.rows) == 3
        if "\x1b" not in ran.err:
            return
    pytest.fail(f"a bar, five times: {ran.err!r}")


# ---------------------------------------------------------------------- signals


def begun(dymn: Any, *words: object) -> Any:
    """Start a run over a list of names that does not end."""
    process = dymn.start(
        "tag", "--files-from", "-", "-j", 1, "-k", 1, *words, stdin=subprocess.PIPE, bufsize=0
    )
    process.stdin.write(b"clip.wav\nnone.wav\n")
    return process


def first_line(process: Any) -> bytes:
    """What comes first, but not for ever: it is there, or the test fails."""
    assert select.select([process.stdout], [], [], 60)[0], "nothing comes"
    return bytes(process.stdout.readline())


def ended(process: Any) -> tuple[int, str]:
    """Exit code and messages of a run that was sent a signal."""
    code = process.wait(timeout=60)
    err = process.stderr.read().decode()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    return code, err


@pytest.mark.process
def test_ctrl_c_ends_in_order_with_one_line(dymn: Any, clip: str) -> None:
    process = begun(dymn, "-f", "json")
    opening = first_line(process) + first_line(process)
    time.sleep(0.2)  # by then it has written all that it has, and waits for names
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()
    code, err = ended(process)
    assert code == 130
    assert err.splitlines()[-1] == "dymn: interrupted"
    assert "Traceback" not in err
    # The document is closed; it holds the source that was done, and the one that failed if that was in time.
    sources = [document["source"] for document in json.loads(opening + rest)]
    assert sources in (["clip.wav"], ["clip.wav", "none.wav"])


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.process
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_run_that_is_ended_leaves_neither_half_a_file_nor_temporary_ones(
    dymn: Any, clip: str, number: signal.Signals, code: int
) -> None:
    process = begun(dymn, "-o", "tags.csv")
    wait_for(lambda: bool(left_over(dymn.cwd)))
    journal = dymn.cwd / "tags.csv.journal"
    wait_for(lambda: journal.exists() and b"clip.wav" in journal.read_bytes())
    time.sleep(0.2)
    process.send_signal(number)
    found, err = ended(process)
    assert found == code
    assert "Traceback" not in err
    assert "dymn: 1 results kept; run the same command to continue" in err
    assert not (dymn.cwd / "tags.csv").exists()
    assert left_over(dymn.cwd) == []


LOST = """
import os, sys
import dymn_cli.cli.app as app
from dymn_cli.cli.batch_run import library

def compiled(*arguments, **options):
    try:
        os.kill(os.getpid(), {number:d})
    except BaseException:
        pass
    raise RuntimeError("Operation has been terminated")

library.find = compiled
sys.argv = ["dymn", "search", ".", "clip.wav"]
app.main()
"""


@pytest.mark.process
@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGINT, 130, "dymn: interrupted\n"), (signal.SIGTERM, 143, "")]
)
def test_a_signal_is_no_bug_when_a_library_puts_an_error_in_its_place(
    dymn: Any, clip: str, number: signal.Signals, code: int, said: str
) -> None:
    """As usearch does, while it builds a graph."""
    ran = dymn.python(LOST.format(number=number))
    assert (ran.returncode, ran.err) == (code, said)


@pytest.mark.process
def test_what_the_caller_had_us_ignore_stays_ignored(dymn: Any, clip: str) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = begun(dymn)
    finally:
        signal.signal(signal.SIGINT, before)
    first_line(process)
    process.send_signal(signal.SIGINT)
    process.stdin.close()
    process.stdin = None
    assert ended(process)[0] == 6  # one of the two names leads to nothing
