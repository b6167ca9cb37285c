"""Workers: what one source does to its process costs that source, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dymn_cli.batch import pool as pooling
from dymn_cli.batch.pool import Done, Failed, Message, Part, Pool, Progress
from dymn_cli.errors import ModelError, OutputError

pytestmark = pytest.mark.process

Make = Callable[..., Any]


def work_through(pool: Pool, names: list[str], n_bytes: int | None = None) -> list[Message]:
    """Everything that is said until all names are through, which are sources of that size."""
    messages: list[Message] = []
    left = list(names)
    while left or pool.is_busy:
        while left and pool.has_room:
            pool.give(left.pop(0), n_bytes)
        pool.step(messages.append)
    return messages


def outcomes(messages: list[Message]) -> dict[str, Done | Failed]:
    ends = [message for message in messages if isinstance(message, Done | Failed)]
    assert len({end.name for end in ends}) == len(ends), "each source ends once"
    return {end.name: end for end in ends}


@pytest.mark.parametrize("n_bytes", [None, 1000], ids=["of unknown size", "small"])
def test_every_source_is_answered_once_and_only_the_harmful_ones_fail(
    faulty: Make, n_bytes: int | None
) -> None:
    harm = ["signal-SIGSEGV", "exit-7", "signal-SIGKILL", "corrupt-", "bug-", "memory-", "exit-0"]
    names = [
        f"{name}.wav" for pair in zip(harm, (f"fine-{n}" for n in range(7)), strict=True) for name in pair
    ]
    with Pool(faulty(), 2) as pool:
        ends = outcomes(work_through(pool, names, n_bytes))
    assert set(ends) == set(names)
    failed = {name for name, end in ends.items() if isinstance(end, Failed)}
    assert failed == {f"{name}.wav" for name in harm}


@pytest.mark.parametrize(
    ("name", "error", "words", "code"),
    [
        ("signal-SIGSEGV", "InputError", "ended by signal 11 (SIGSEGV)", 3),
        ("signal-SIGKILL", "InputError", "ended by signal 9 (SIGKILL)", 3),
        ("exit-7", "InputError", "ended with code 7", 3),
        ("corrupt-", "CorruptAudioError", "damaged", 3),
        ("memory-", "InputError", "not enough memory", 3),
        ("library-", "InputError", "not enough memory", 3),
        ("bug-", "DymnError", "a bug in dymn: TypeError: a list is no dict", 70),
    ],
)
def test_a_failure_says_what_happened_to_which_source(
    faulty: Make, name: str, error: str, words: str, code: int
) -> None:
    with Pool(faulty(), 1) as pool:
        end = outcomes(work_through(pool, [f"{name}.wav"]))[f"{name}.wav"]
    assert isinstance(end, Failed)
    assert end.failure.source == f"{name}.wav"
    assert end.failure.message.startswith(f"{name}.wav: ")
    assert words in end.failure.message
    assert (end.failure.error, end.failure.exit_code) == (error, code)


def test_a_source_that_hangs_is_given_up_when_its_time_is_over(faulty: Make) -> None:
    with Pool(faulty(), 1, limit_s=0.5) as pool:
        start = time.monotonic()
        ends = outcomes(work_through(pool, ["hang-.wav", "fine.wav"]))
        elapsed = time.monotonic() - start
    hung = ends["hang-.wav"]
    assert isinstance(hung, Failed)
    assert "not done after 0.5 s" in hung.failure.message
    assert isinstance(ends["fine.wav"], Done)
    assert elapsed < 20


@pytest.mark.parametrize("n_bytes", [None, 1000], ids=["of unknown size", "small"])
def test_the_limit_is_for_each_source_not_for_the_run(faulty: Make, n_bytes: int | None) -> None:
    with Pool(faulty(), 1, limit_s=1.5) as pool:
        ends = outcomes(work_through(pool, [f"slow-0.4{n}.wav" for n in range(5)], n_bytes))
    assert all(isinstance(end, Done) for end in ends.values())


@pytest.mark.parametrize(("n_bytes", "has_room"), [(1000, True), (1 << 30, False), (None, False)])
def test_a_source_waits_behind_a_small_one_only(faulty: Make, n_bytes: int | None, has_room: bool) -> None:
    with Pool(faulty(), 1) as pool:
        pool.give("hang-.wav", n_bytes)
        assert pool.has_room == has_room


def test_what_waits_behind_a_source_that_ends_its_worker_is_not_lost(
    faulty: Make, begun: Callable[[], list[tuple[int, str]]]
) -> None:
    with Pool(faulty(), 1, limit_s=0.5) as pool:
        pool.give("hang-.wav", 1000)
        pool.give("fine.wav", 1000)
        assert not pool.has_room
        ends = outcomes(work_through(pool, []))
    assert isinstance(ends["hang-.wav"], Failed)
    assert isinstance(ends["fine.wav"], Done)
    assert [name for _, name in begun()] == ["hang-.wav", "fine.wav"]


def test_a_source_that_is_done_is_not_lost_with_its_worker_while_the_parent_is_busy(faulty: Make) -> None:
    def be_busy(message: Message) -> None:
        messages.append(message)
        if isinstance(message, Done) and message.name == "slow-0.1.wav":
            time.sleep(1.5)

    messages: list[Message] = []
    with Pool(faulty(), 2) as pool:
        work_through(pool, [f"slow-0.3{n}.wav" for n in range(4)])  # now both are there
        for name in ("slow-0.1.wav", "slow-0.4.wav", "fine.wav", "signal-SIGSEGV.wav"):
            pool.give(name, 1000)
        while pool.is_busy:
            pool.step(be_busy)
    ends = outcomes(messages)
    assert {name for name, end in ends.items() if isinstance(end, Failed)} == {"signal-SIGSEGV.wav"}
    assert len(ends) == 4


def test_parts_come_in_order_and_before_the_end(faulty: Make) -> None:
    names = [f"windows-{n}.wav" for n in (1000, 10, 700)]
    with Pool(faulty(windows=True, keep_window_embeddings=True), 2) as pool:
        messages = work_through(pool, names)
    for name, n_parts in zip(names, (4, 1, 3), strict=True):
        own = [m for m in messages if not isinstance(m, Progress) and m.name == name]
        assert [type(m) for m in own] == [Part] * n_parts + [Done]


def test_parts_larger_than_a_pipe_from_several_workers_do_not_block(faulty: Make) -> None:
    job = faulty(windows=True, keep_window_embeddings=True)
    with Pool(job, 3) as pool:
        messages = work_through(pool, [f"windows-{900 + n}.wav" for n in range(6)])
    large = [m for m in messages if isinstance(m, Part)]
    assert max(len(m.body) for m in large) > 1 << 16
    assert len(outcomes(messages)) == 6


def test_sources_run_in_processes_of_their_own_and_side_by_side(
    faulty: Make, begun: Callable[[], list[tuple[int, str]]]
) -> None:
    with Pool(faulty(), 2) as pool:
        work_through(pool, [f"slow-0.3{n}.wav" for n in range(4)])
    pids = {pid for pid, _ in begun()}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_a_name_that_is_no_utf8_survives_the_pipe(faulty: Make, tmp_path: Path) -> None:
    name = os.fsdecode(b"corrupt-caf\xe9\n.wav")
    job = type(faulty())("", "auto", "cpu", None, faulty().options)  # its note is no place for such a name
    with Pool(job, 1) as pool:
        end = outcomes(work_through(pool, [name]))[name]
    assert isinstance(end, Failed)
    assert os.fsencode(end.failure.source) == b"corrupt-caf\xe9\n.wav"


def test_what_a_library_prints_in_a_worker_is_no_result(
    faulty: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    with Pool(faulty(), 1) as pool:
        work_through(pool, ["stdout-.wav"])
    assert capfd.readouterr().out == ""


def test_a_model_that_fails_ends_the_run_with_its_own_error(faulty: Make) -> None:
    with Pool(faulty(), 1) as pool, pytest.raises(ModelError, match="NaN"):
        work_through(pool, ["model-.wav"])


def test_a_model_that_cannot_be_loaded_is_said_once_and_at_the_start(faulty: Make) -> None:
    with pytest.raises(ModelError, match="no such model") as caught:
        Pool(faulty("missing"), 2)
    assert caught.value.hint == "look elsewhere"


def test_workers_that_never_come_up_end_the_run(faulty: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="before they have loaded the model"):
        Pool(faulty("dies"), 1)
    with Pool(faulty(), 1) as pool:
        monkeypatch.setattr(pool, "_job", faulty("dies"))
        with pytest.raises(ModelError, match="before they have loaded the model"):
            work_through(pool, ["exit-1.wav", "fine.wav"])


def test_an_error_of_the_place_of_results_passes(faulty: Make) -> None:
    def full(message: Message) -> None:
        raise OutputError("disk full")

    with Pool(faulty(), 1) as pool:
        pool.give("fine.wav")
        with pytest.raises(OutputError, match="disk full"):
            pool.step(full)


def test_a_worker_that_dies_with_nothing_in_hand_is_replaced_in_silence(
    faulty: Make, begun: Callable[[], list[tuple[int, str]]]
) -> None:
    with Pool(faulty(), 1) as pool:
        work_through(pool, ["fine.wav"])
        os.kill(begun()[0][0], signal.SIGKILL)
        time.sleep(0.1)
        messages: list[Message] = []
        while not pool.has_room or not messages:
            pool.step(messages.append)
            if pool.has_room and not messages:
                pool.give("again.wav")
    assert [type(m) for m in messages if isinstance(m, Done | Failed)] == [Done]
    assert len({pid for pid, _ in begun()}) == 2


def test_workers_end_with_a_parent_that_is_killed_even_in_the_middle_of_a_source(tmp_path: Path) -> None:
    script = """
import sys
sys.path.insert(0, sys.argv[1])
from faulty import FaultyJob
from dymn_cli.batch.pool import Pool
from dymn_cli.tagging.options import TagOptions
pool = Pool(FaultyJob(sys.argv[2], "auto", "cpu", None, TagOptions()), 2)
while not pool.has_room: pool.step(print)
pool.give("hang-1.wav")
while True: pool.step(print)
"""
    note = tmp_path / "begun"
    arguments = [sys.executable, "-c", script, os.fspath(Path(__file__).parent), os.fspath(note)]
    with subprocess.Popen(arguments, cwd=Path(pooling.__file__).parents[2]) as parent:
        wait_for(note.exists)
        children = set(Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split())
        assert note.read_text().split()[0] in children
        parent.kill()
    wait_for(lambda: not any(is_running(int(pid)) for pid in children))


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.01)
