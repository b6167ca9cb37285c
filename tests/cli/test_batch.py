"""Archives on the real process: equal bytes however many work; a bad file costs itself, a kill costs time."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from dymn_cli.batch.journal import BEGINNING, HEAD

CUT = ("--window", 0.5)  # short windows: this is not about the model
RATE_HZ = 8_000


def write_audio(path: Path, seconds: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    tone = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 3_000) * time_s)
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, (tone + 0.02 * rng.standard_normal(len(time_s))).astype(np.float32), RATE_HZ)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """220 recordings of 0.1 to 1 s in three folders; one is empty and one is no audio."""
    root = tmp_path_factory.mktemp("archive") / "rec"
    rng = random.Random(1)
    for n in range(218):
        write_audio(root / f"site{n % 3}" / f"take{n}.wav", rng.uniform(0.1, 1.0), n)
    (root / "site1" / "empty.wav").write_bytes(b"")
    (root / "site2" / "notes.wav").write_text("no audio")
    return root


@pytest.fixture
def few(dymn: object, tmp_path: Path) -> Path:
    """Six recordings in the folder that the program runs in."""
    folder = tmp_path / "cwd" / "few"
    for n in range(6):
        write_audio(folder / f"take{n}.wav", 0.4 + 0.3 * n, n)
    return folder


def outputs(folder: Path, stem: str) -> dict[str, bytes]:
    """All files that begin so but journals, whose records are in the order of events; by what follows."""
    return {
        path.name[len(stem) :]: path.read_bytes()
        for path in sorted(folder.iterdir())
        if path.name.startswith(stem) and path.suffix != ".journal"
    }


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.name.startswith(".dymn") or p.suffix == ".journal")


def records(journal: Path) -> list[tuple[bytes, bytes]]:
    """Kind and name of the whole records, read as the layout says."""
    data = journal.read_bytes()
    assert data.startswith(BEGINNING)
    at, found = data.index(b"\n") + 1, []
    while at + HEAD.size <= len(data):
        kind, n_name, n_body, checksum = HEAD.unpack_from(data, at)
        start, end = at + HEAD.size, at + HEAD.size + n_name + n_body
        if end > len(data) or zlib.crc32(data[start:end]) != checksum:
            break
        found.append((kind, data[start : start + n_name]))
        at = end
    return found


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.002)


def children(pid: int) -> list[int]:
    try:
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def has_open(pid: int, path: Path) -> bool:
    folder = Path(f"/proc/{pid}/fd")
    for number in folder.iterdir():
        try:
            if number.readlink() == path:
                return True
        except OSError:
            continue
    return False


# ---------------------------------------------------------------------- the same bytes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "suffixes"),
    [
        (("-k", 3, "-o", "all.csv"), {"csv", "csv.meta.json", "csv.failures.csv"}),
        (
            ("--windows", "-o", "all.jsonl", "--embed", "all.npy"),
            {"jsonl", "jsonl.failures.csv", "npy", "index.csv", "meta.json"},
        ),
    ],
    ids=["csv", "jsonl and npy"],
)
def test_the_bytes_do_not_depend_on_how_many_work(
    dymn, few: Path, options: tuple[object, ...], suffixes: set[str]
) -> None:
    (few / "broken.wav").write_text("no audio")
    made = {}
    for how in (
        ("-j", 2),  # threads, no workers
        ("-j", 1, "--limit-per-file", 60),
        ("-j", 2, "--limit-per-file", 60),
        ("-j", 3, "--limit-per-file", 60, "--threads", 2),
    ):
        ran = dymn("tag", "few", *CUT, "--hop", 0.2, *options, *how, "--no-resume", "--force")
        assert ran.returncode == 6, ran.err
        made[how] = outputs(dymn.cwd, "all.")
    first = next(iter(made.values()))
    assert set(first) == suffixes
    for how, found in made.items():
        assert found == first, how


@pytest.mark.slow
def test_many_files_to_standard_output_come_in_order_from_workers(dymn, archive: Path) -> None:
    ran = dymn("tag", archive, *CUT, "-k", 1, "-j", 2)
    assert ran.returncode == 6
    names = [row[0] for row in ran.rows]
    assert names == [n for n in dymn("tag", archive, "--dry-run").out.splitlines() if n in set(names)]
    assert len(names) == 218


# ---------------------------------------------------------------------- one bad file


@pytest.mark.process
def test_a_worker_that_is_killed_costs_its_file_only(dymn, few: Path) -> None:
    write_audio(few / "long.wav", 900, 9)
    arguments = ("tag", "few", *CUT, "--hop", 0.1, "-o", "t.csv", "-j", 1, "--limit-per-file", 600)
    with dymn.start(*arguments) as process:
        victim: list[int] = []

        def is_at_it() -> bool:
            victim[:] = [pid for pid in children(process.pid) if has_open(pid, few / "long.wav")]
            return bool(victim)

        wait_for(is_at_it)
        os.kill(victim[0], signal.SIGSEGV)
        err = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 6
    assert "failed: few/long.wav: its worker process was ended by signal 11 (SIGSEGV)" in err
    assert {row["source"] for row in rows_of(dymn.cwd / "t.csv")} == {f"few/take{n}.wav" for n in range(6)}
    (failure,) = rows_of(dymn.cwd / "t.csv.failures.csv")
    assert (failure["source"], failure["error"]) == ("few/long.wav", "InputError")
    sf.write(few / "long.wav", np.zeros(8_000, np.float32), RATE_HZ)
    again = dymn("tag", "few", *CUT, "--hop", 0.1, "-o", "t.csv")
    assert again.returncode == 0
    assert "6 results were there already, 1 is new" in again.err
    assert leftovers(dymn.cwd) == []
    assert not (dymn.cwd / "t.csv.failures.csv").exists(), "what failed has been mended"


@pytest.mark.process
def test_a_file_that_hangs_is_given_up_when_its_time_is_over(dymn, few: Path) -> None:
    os.mkfifo(dymn.cwd / "stuck.wav")  # opening it waits for somebody to write
    names = ("few/take0.wav", "stuck.wav", "few/take1.wav")
    ran = dymn("tag", *names, *CUT, "-o", "t.csv", "--limit-per-file", 2)
    assert ran.returncode == 6
    assert "failed: stuck.wav: not done after 2 s; a longer --limit-per-file allows more" in ran.err
    assert {row["source"] for row in rows_of(dymn.cwd / "t.csv")} == {"few/take0.wav", "few/take1.wav"}


def test_a_file_that_goes_while_the_run_is_on_costs_itself(dymn, few: Path) -> None:
    names = "".join(f"few/take{n}.wav\n" for n in range(6)) + "few/gone.wav\n"
    (dymn.cwd / "list").write_text(names)
    ran = dymn("tag", "--files-from", "list", *CUT, "-o", "t.csv", "-j", 2, "--limit-per-file", 60)
    assert ran.returncode == 6
    assert "few/gone.wav" in ran.err
    assert len({row["source"] for row in rows_of(dymn.cwd / "t.csv")}) == 6


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


# ---------------------------------------------------------------------- going on


@pytest.fixture(scope="module")
def uninterrupted(
    archive: Path, tmp_path_factory: pytest.TempPathFactory, repository: Path
) -> dict[str, bytes]:
    """All files of a run over the archive that nothing disturbs."""

    folder = tmp_path_factory.mktemp("uninterrupted")
    code = "from dymn_cli.__main__ import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", code, *map(str, tag_arguments(archive))],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 6, ran.stderr.decode()
    return outputs(folder, "")


def tag_arguments(archive: Path) -> list[object]:
    return ["tag", archive, *CUT, "-k", 3, "-o", "tags.csv", "--embed", "emb.npy", "-j", 2]


@pytest.mark.process
def test_killed_again_and_again_the_result_is_that_of_an_uninterrupted_run(
    dymn, archive: Path, uninterrupted: dict[str, bytes]
) -> None:
    rng = random.Random(2_026)
    journal = dymn.cwd / "tags.csv.journal"
    n_kills = 0
    while True:
        before = journal.stat().st_size if journal.exists() else 0
        enough = before + rng.randint(1, 100_000)
        with dymn.start(*tag_arguments(archive), stderr=subprocess.DEVNULL) as process:
            wait_for(
                lambda: process.poll() is not None or (journal.exists() and journal.stat().st_size >= enough)  # noqa: B023
            )
            time.sleep(rng.uniform(0, 0.01))
            process.kill()
        if process.returncode != -signal.SIGKILL:
            break
        n_kills += 1
        assert not (dymn.cwd / "tags.csv").exists(), "a result is the whole or not there"
    assert process.returncode == 6
    assert n_kills >= 5
    assert outputs(dymn.cwd, "") == uninterrupted
    done = Counter(name for kind, name in records(journal) if kind == b"D")
    assert len(done) == 218
    assert set(done.values()) == {1}, "what is finished is not analysed again"
    assert [p for p in leftovers(dymn.cwd) if p.endswith(".part")] == []


@pytest.mark.process
def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(
    dymn, archive: Path, uninterrupted: dict[str, bytes]
) -> None:
    journal = dymn.cwd / "tags.csv.journal"
    with dymn.start(*tag_arguments(archive), start_new_session=True) as process:
        wait_for(lambda: journal.exists() and journal.stat().st_size > 40_000)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers, too
        err = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130
    said = [line for line in err.splitlines() if "run the same command to continue" in line]
    n_done = len(records(journal))
    assert said == [
        f"dymn: {n_done} of 220 results kept; run the same command to continue (unfinished inputs start over)"
    ]
    assert [path.name for path in dymn.cwd.iterdir()] == ["tags.csv.journal"]
    ran = dymn(*tag_arguments(archive), "-v")
    assert ran.returncode == 6
    assert f"{n_done} results were there already, {218 - n_done} are new" in ran.err
    assert ran.err.count(": was there already") == n_done
    assert outputs(dymn.cwd, "") == uninterrupted


@pytest.mark.process
def test_a_full_disk_keeps_what_is_done(dymn, archive: Path, uninterrupted: dict[str, bytes]) -> None:
    resource = pytest.importorskip("resource")

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    with dymn.start(*tag_arguments(archive), preexec_fn=small_disk) as process:
        err = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 5
    assert "tags.csv.journal: file too large; what is done so far is kept" in err
    assert [path.name for path in dymn.cwd.iterdir()] == ["tags.csv.journal"]
    n_done = len(records(dymn.cwd / "tags.csv.journal"))
    assert n_done > 20
    ran = dymn(*tag_arguments(archive))
    assert f"{n_done} results were there already" in ran.err
    assert outputs(dymn.cwd, "") == uninterrupted


def test_a_file_that_has_changed_is_analysed_again(dymn, in_process, few: Path) -> None:
    (few / "broken.wav").write_text("no audio")
    assert dymn("tag", "few", *CUT, "-o", "t.csv").returncode == 6
    write_audio(few / "take3.wav", 0.8, 77)
    (few / "broken.wav").unlink()
    ran = in_process("tag", "few", *CUT, "-o", "t.csv")
    assert ran.returncode == 0
    assert "5 results were there already, 1 is new" in ran.err
    fresh = in_process("tag", "few", *CUT, "-f", "csv")
    assert (dymn.cwd / "t.csv").read_bytes() == fresh.stdout


@pytest.mark.slow
def test_other_options_are_refused_with_the_option_in_the_sentence(in_process, few: Path) -> None:
    (few / "broken.wav").write_text("no audio")
    (in_process.cwd / "cats.csv").write_text("label,threshold\nCat,0.25\n")
    in_process("tag", "few", *CUT, "-o", "t.csv")
    before = everything(in_process.cwd)
    for options, what in (
        (("--window", 1), "--window was 0.5 s, is 1 s"),
        ((*CUT, "-k", 2, "-l", "Speech"), "--top was 5, is 2; --label was none, is Speech;"),
        ((*CUT, "--windows"), "--windows was not given, is given;"),
        ((*CUT, "--layout", "matrix"), "--layout was not matrix, is matrix;"),
        ((*CUT, "--embed", "e.npy"), "--embed was not given, is given;"),
        ((*CUT, "--thresholds", "cats.csv"), "--thresholds was none, is Cat=0.25;"),
    ):
        ran = in_process("tag", "few", *options, "-o", "t.csv")
        assert ran.returncode == 5
        assert what in ran.err
        assert "--no-resume" in ran.err
        assert everything(in_process.cwd) == before
    ran = in_process("events", "few", *CUT, "--hop", 0.5, "-o", "t.csv")
    assert "had other options: the command was dymn tag, is dymn events; the same" in ran.err


@pytest.mark.slow
def test_formatting_may_change_when_a_run_goes_on(in_process, few: Path) -> None:
    (few / "broken.wav").write_text("no audio")
    in_process("tag", "few", *CUT, "-o", "t.csv")
    ran = in_process("tag", "few", *CUT, "-o", "t.csv", "--precision", 2, "--no-header")
    assert "6 results were there already, 0 are new" in ran.err
    fresh = in_process("tag", "few", *CUT, "-f", "csv", "--precision", 2, "--no-header")
    assert (in_process.cwd / "t.csv").read_bytes() == fresh.stdout


@pytest.mark.slow
def test_no_resume_starts_over_but_not_at_the_cost_of_a_result(in_process, few: Path) -> None:
    (few / "broken.wav").write_text("no audio")
    in_process("tag", "few", *CUT, "-o", "t.csv")
    before = everything(in_process.cwd)
    refused = in_process("tag", "few", "--window", 1, "-o", "t.csv", "--no-resume")
    assert refused.returncode == 5
    assert "t.csv: the file exists; --force replaces it" in refused.err
    assert everything(in_process.cwd) == before, "the journal as well"
    ran = in_process("tag", "few", "--window", 1, "-o", "t.csv", "--no-resume", "--force")
    assert ran.returncode == 6
    assert "were there already" not in ran.err
    assert (in_process.cwd / "t.csv").read_bytes() == in_process(
        "tag", "few", "--window", 1, "-f", "csv"
    ).stdout


@pytest.mark.slow
def test_a_result_is_not_replaced_without_force_once_its_run_is_complete(in_process, few: Path) -> None:
    assert in_process("tag", "few", *CUT, "-o", "t.csv").returncode == 0
    assert leftovers(in_process.cwd) == []
    refused = in_process("tag", "few", *CUT, "-o", "t.csv")
    assert (refused.returncode, "--force" in refused.err) == (5, True)
    assert in_process("tag", "few", *CUT, "-o", "t.csv", "--force").returncode == 0


@pytest.mark.process
def test_two_runs_to_one_output_do_not_mix(dymn, few: Path) -> None:
    os.mkfifo(dymn.cwd / "stuck.wav")
    slow = ("tag", "few/take0.wav", "stuck.wav", *CUT, "-o", "t.csv", "--limit-per-file", 60)
    with dymn.start(*slow) as process:
        wait_for((dymn.cwd / "t.csv.journal").exists)
        refused = dymn("tag", "few/take0.wav", *CUT, "-o", "t.csv")
        process.terminate()
        process.communicate(timeout=60)
    assert refused.returncode == 5
    assert "another run is using this journal" in refused.err
    assert process.returncode == 128 + signal.SIGTERM


@pytest.mark.process
def test_what_a_killed_run_left_unfinished_goes_with_the_next(dymn, few: Path) -> None:
    os.mkfifo(dymn.cwd / "stuck.wav")
    slow = ("tag", "few/take0.wav", "stuck.wav", *CUT, "-o", "t.csv", "--limit-per-file", 60)
    with dymn.start(*slow, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: len(list(dymn.cwd.glob(".dymn-*.part"))) == 2)
        wait_for(lambda: len(records(dymn.cwd / "t.csv.journal")) == 1)
        process.kill()
    assert len(list(dymn.cwd.glob(".dymn-*.part"))) == 2
    assert dymn("tag", "few/take0.wav", *CUT, "-o", "t.csv").returncode == 0
    assert leftovers(dymn.cwd) == []


# ---------------------------------------------------------------------- both from one pass


@pytest.mark.slow
@pytest.mark.parametrize("windows", [(), ("--windows", "--hop", 0.2)])
def test_tags_and_embeddings_of_one_pass_are_those_of_two(
    in_process, few: Path, windows: tuple[object, ...]
) -> None:
    cut = (*CUT, *windows[1:])
    ran = in_process("tag", "few", *CUT, *windows, "-o", "both.csv", "--embed", "both.npy")
    assert ran.returncode == 0
    assert in_process("tag", "few", *CUT, *windows, "-o", "tags.csv").returncode == 0
    per = "window" if windows else "clip"
    assert in_process("embed", "few", *cut, "--per", per, "-o", "emb.npy").returncode == 0
    both = outputs(in_process.cwd, "both.")
    assert both.pop("csv") == (in_process.cwd / "tags.csv").read_bytes()
    assert both.pop("csv.meta.json") == (in_process.cwd / "tags.csv.meta.json").read_bytes()
    assert both == outputs(in_process.cwd, "emb.")


def test_embeddings_beside_tags_on_standard_output_are_a_file(in_process, few: Path) -> None:
    ran = in_process("tag", "few", *CUT, "--embed", "e.jsonl")
    assert ran.returncode == 0
    assert len(ran.rows) == 30
    assert len((in_process.cwd / "e.jsonl").read_text().splitlines()) == 6
    refused = in_process("tag", "few", *CUT, "--embed", "-")
    assert (refused.returncode, "--embed" in refused.err) == (2, True)


# ---------------------------------------------------------------------- a file for each


@pytest.fixture
def tree(dymn) -> Path:
    root = dymn.cwd / "tree"
    for n, name in enumerate(("a.wav", "sub/a.wav", "sub/take.1.wav")):
        write_audio(root / name, 0.5, n)
    write_audio(root / "a.flac", 0.6, 9)
    return root


def test_a_file_for_each_input_in_the_same_tree(in_process, tree: Path) -> None:
    ran = in_process("tag", "tree", *CUT, "--out-dir", "out/deep")
    assert ran.returncode == 0, ran.err
    out = in_process.cwd / "out" / "deep"
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert found == {"a.flac.csv", "a.wav.csv", "sub/a.wav.csv", "sub/take.1.wav.csv", "dymn.meta.json"}
    alone = in_process("tag", "tree/sub/a.wav", *CUT, "-f", "csv")
    assert (out / "sub" / "a.wav.csv").read_bytes() == alone.stdout
    meta = json.loads((out / "dymn.meta.json").read_text())
    assert meta["options"]["window_s"] == 0.5


def test_embeddings_for_each_input_have_an_index_each(in_process, tree: Path) -> None:
    assert in_process("embed", "tree", *CUT, "--per", "window", "--out-dir", "out").returncode == 0
    in_process("embed", "tree/sub/a.wav", *CUT, "--per", "window", "-o", "one.npy")
    assert (in_process.cwd / "out/sub/a.wav.npy").read_bytes() == (in_process.cwd / "one.npy").read_bytes()
    assert (in_process.cwd / "out/sub/a.wav.index.csv").read_bytes() == (
        in_process.cwd / "one.index.csv"
    ).read_bytes()


@pytest.mark.slow
def test_files_for_each_input_go_on_where_they_stopped(dymn, archive: Path) -> None:
    arguments = ("tag", archive, *CUT, "-k", 3, "-j", 2, "--out-dir")
    assert dymn(*arguments, "whole").returncode == 6
    journal = dymn.cwd / "out" / ".dymn.journal"
    with dymn.start(*arguments, "out", stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: journal.exists() and journal.stat().st_size > 30_000)
        process.kill()
    ran = dymn(*arguments, "out")
    assert ran.returncode == 6
    assert "results were there already" in ran.err
    assert max(Counter(name for kind, name in records(journal) if kind == b"D").values()) == 1
    expected, found = ({p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}
                       for root in (dymn.cwd / "whole", dymn.cwd / "out"))  # fmt: skip
    for files in (expected, found):
        files.pop(Path(".dymn.journal"))
    assert found == expected
    assert len(found) == 218 + 2


def test_inputs_that_would_share_a_file_are_refused_before_any_work(in_process, tree: Path) -> None:
    other = in_process.cwd / "other"
    write_audio(other / "a.wav", 0.5, 3)
    ran = in_process("tag", "tree", "other", *CUT, "--out-dir", "out")
    assert ran.returncode == 2
    assert "tree/a.wav and other/a.wav would both become out/a.wav.csv" in ran.err
    assert not (in_process.cwd / "out").exists()
    both = in_process("tag", "tree", *CUT, "--out-dir", "out", "-o", "t.csv")
    assert (both.returncode, "--out-dir" in both.err) == (2, True)


@pytest.mark.parametrize(
    ("command", "place"),
    [("tag", "out/a.wav.csv"), ("tag", "out/dymn.meta.json"), ("embed", "out/../out/a.wav.index.csv")],
)
def test_a_list_of_failures_does_not_take_the_place_of_a_result(
    in_process, tree: Path, command: str, place: str
) -> None:
    (in_process.cwd / "out").mkdir()
    inputs = (command, "tree", *CUT, "--out-dir", "out", "--failures")
    refused = in_process(*inputs, place)
    assert (refused.returncode, "--out-dir and --failures would both write it" in refused.err) == (2, True)
    assert not (in_process.cwd / "out/a.wav.csv").exists()
    ran = in_process(*inputs, "out/failed.csv")
    assert (in_process.cwd / "out/failed.csv").exists(), ran.err


@pytest.mark.slow
def test_files_that_are_there_are_not_replaced_without_force(in_process, tree: Path) -> None:
    assert in_process("tag", "tree", *CUT, "--out-dir", "out").returncode == 0
    refused = in_process("tag", "tree", *CUT, "--out-dir", "out")
    assert refused.returncode == 5
    assert "exists" in refused.err
    write_audio(tree / "sub" / "a.wav", 0.7, 50)
    assert in_process("tag", "tree", *CUT, "--out-dir", "out", "--force").returncode == 0
    alone = in_process("tag", "tree/sub/a.wav", *CUT, "-f", "csv")
    assert (in_process.cwd / "out/sub/a.wav.csv").read_bytes() == alone.stdout


# ---------------------------------------------------------------------- shares


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "npy"])
def test_shares_put_together_are_the_whole(in_process, few: Path, suffix: str) -> None:
    shutil.copy(few / "take0.wav", few / 'say "hi",\n take.wav')
    (few / "broken.wav").write_text("no audio")
    command = ("embed" if suffix == "npy" else "tag", "few", *CUT)
    assert in_process(*command, "-o", f"all.{suffix}").returncode == 6
    shares = [f"share{n}.{suffix}" for n in range(1, 4)]
    codes = [
        in_process(*command, "--shard", f"{n}/3", "-o", share).returncode for n, share in enumerate(shares, 1)
    ]
    assert sorted(codes) == [0, 0, 6]
    ran = in_process("merge", *shares, "-o", f"merged.{suffix}")
    assert ran.returncode == 0, ran.err
    assert outputs(in_process.cwd, "merged.") == outputs(in_process.cwd, "all.")


# ---------------------------------------------------------------------- memory


def peak_mb(pid: int) -> float:
    """The largest resident set of a process so far; 0 where it is gone.

    A fork has its parent's until it runs its own program, from which on its own is counted.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next(
        (int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0
    )


@pytest.mark.process
@pytest.mark.parametrize("how", [("-j", 2), ("--limit-per-file", 600)], ids=["threads", "worker"])
def test_memory_does_not_grow_with_the_length_of_a_file(
    dymn, tmp_path: Path, how: tuple[object, ...]
) -> None:
    peaks = {}
    for minutes in (1, 8):
        path = tmp_path / f"{minutes}.flac"
        write_long(path, minutes)
        arguments = ("tag", path, "--windows", *CUT, "-o", f"{minutes}.csv", *how)
        with dymn.start(*arguments, stderr=subprocess.DEVNULL) as process:
            seen: dict[int, float] = defaultdict(float)
            while process.poll() is None:
                for pid in (process.pid, *children(process.pid)):
                    seen[pid] = peak_mb(pid) or seen[pid]
                time.sleep(0.01)
        assert process.returncode == 0
        peaks[minutes] = sum(seen.values())
    assert peaks[8] < 400
    assert peaks[8] - peaks[1] < 25, "eight minutes are 61 MB of samples"


def write_long(path: Path, minutes: int) -> None:
    rng = np.random.default_rng(0)
    with sf.SoundFile(path, "w", RATE_HZ, 1, format="FLAC") as file:
        minute = (0.1 * rng.standard_normal(60 * RATE_HZ)).astype(np.float32)
        for n in range(minutes):
            file.write(np.roll(minute, n))


# ---------------------------------------------------------------------- what is said


@pytest.mark.slow
def test_a_run_over_many_files_is_summed_up_in_a_line(in_process, archive: Path) -> None:
    names = (archive / "site1", archive / "site2" / "notes.wav")
    ran = in_process("tag", *names, *CUT, "-o", "t.csv")
    (line,) = [line for line in ran.err.splitlines() if "real time" in line]
    assert line.startswith("dymn: 75 files, 0.01 h of audio in ")
    assert line.endswith(" × real time), 2 failed")
    quiet = in_process("tag", *names, *CUT, "-o", "q.csv", "-q")
    assert "real time" not in quiet.err


def test_a_few_files_are_not_summed_up(in_process, few: Path) -> None:
    assert "real time" not in in_process("tag", "few", *CUT, "-o", "t.csv").err


@pytest.mark.slow
def test_hundreds_of_failures_do_not_flood_the_terminal(in_process) -> None:
    folder = in_process.cwd / "bad"
    folder.mkdir()
    for n in range(60):
        (folder / f"{n}.wav").write_text("no audio")
    write_audio(folder / "good.wav", 0.5, 1)
    ran = in_process("tag", "bad", *CUT, "-o", "t.csv")
    assert ran.returncode == 6
    assert ran.err.count("dymn: failed: ") == 20
    assert "failed inputs are listed in t.csv.failures.csv" in ran.err
    assert len(rows_of(in_process.cwd / "t.csv.failures.csv")) == 60
    assert in_process("tag", "bad", *CUT, "-o", "t.csv", "-v").err.count("dymn: failed: ") == 60
