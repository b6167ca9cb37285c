"""A run: every source once, in order, with nothing lost and nothing done twice."""

from __future__ import annotations

import os
import random
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from dymn_cli.audio.discover import Found
from dymn_cli.batch import run as running
from dymn_cli.batch.job import Summary
from dymn_cli.batch.journal import Journal
from dymn_cli.batch.pool import Done, Failed, Message, Part
from dymn_cli.batch.run import InProcess, Outcome, open_engine, run
from dymn_cli.errors import AudioNotFoundError, OutputError, UsageError
from dymn_cli.prefetch import Prefetcher
from dymn_cli.results import Failure

FINGERPRINT = {"model": "abc"}


class Shuffled:
    """An engine that holds several sources and ends them in any order; a name with "bad" in it fails."""

    description = None

    def __init__(self, seed: int = 0, n_workers: int = 4) -> None:
        self._random = random.Random(seed)
        self._n_workers = n_workers
        self._held: list[str] = []
        self.given: list[str] = []
        self.interrupt_after: int | None = None
        self.is_closed = False

    @property
    def has_room(self) -> bool:
        return len(self._held) < self._n_workers

    @property
    def is_busy(self) -> bool:
        return bool(self._held)

    def give(self, name: str, n_bytes: int | None) -> None:
        self.given.append(name)
        self._held.append(name)

    def step(self, handle: Callable[[Message], None]) -> None:
        if self.interrupt_after is not None and len(self.given) > self.interrupt_after:
            raise KeyboardInterrupt
        name = self._held.pop(self._random.randrange(len(self._held)))
        for other in self._held:
            handle(Part(other, f"some of {other}".encode()))
        if "bad" in name:
            handle(Failed(name, Failure(name, "InputError", f"{name}: bad", None, 3)))
        else:
            handle(Done(name, f"all of {name}".encode(), Summary(1.0, ())))

    def close(self) -> None:
        self.is_closed = True


@dataclass
class Watched:
    """A watcher that remembers."""

    told: list[str] = field(default_factory=list)

    def kept(self, name: str) -> None:
        self.told.append(f"kept {name}")

    def done(self, name: str, summary: Summary) -> None:
        self.told.append(f"done {name}")

    def failed(self, failure: Failure) -> None:
        self.told.append(f"failed {failure.source}")

    def within(self, name: str, seconds: float, of_s: float | None) -> None:
        pass


@dataclass
class Went:
    """How a run went, and what came out."""

    outcome: Outcome
    written: list[str]
    told: list[str]


def go(names: Iterable[str | Found], engine: Shuffled, journal: Journal, *, fail_fast: bool = False) -> Went:
    written: list[str] = []
    watched = Watched()

    def write(name: str) -> None:
        assert journal.result(name)[0] == f"all of {name}".encode()
        written.append(name)

    outcome = run(
        (name if isinstance(name, Found) else Found(name) for name in names),
        engine,
        journal,
        write=write,
        fail=lambda failure: written.append(f"failed {failure.source}"),
        watcher=watched,
        fail_fast=fail_fast,
    )
    return Went(outcome, written, watched.told)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    names = [os.fspath(tmp_path / f"{n}.wav") for n in range(30)]
    for name in names:
        Path(name).write_text("audio")
    return names


@pytest.mark.parametrize("seed", range(5))
def test_results_come_out_in_the_order_of_the_sources(files: list[str], seed: int) -> None:
    with Journal.temporary() as journal:
        went = go(files, Shuffled(seed), journal)
    assert went.written == files
    assert went.outcome.n_done == len(files)
    assert went.outcome.is_complete


def test_failures_keep_their_place_and_the_rest_goes_on(files: list[str]) -> None:
    files[3:3] = ["bad.wav"]
    files.append("bad2.wav")
    with Journal.temporary() as journal:
        went = go(files, Shuffled(), journal)
    assert went.written == ["failed bad.wav" if n == "bad.wav" else n for n in files[:-1]] + [
        "failed bad2.wav"
    ]
    assert (went.outcome.n_done, len(went.outcome.failures)) == (30, 2)
    assert not went.outcome.is_complete


@pytest.mark.parametrize("seed", range(3))
def test_failures_are_told_in_the_order_of_the_sources_whoever_was_first(seed: int) -> None:
    names = [f"bad{n}.wav" for n in range(20)]
    with Journal.temporary() as journal:
        went = go(names, Shuffled(seed), journal)
    assert [failure.source for failure in went.outcome.failures] == names


def test_a_name_that_leads_to_nothing_is_never_given_to_the_engine(files: list[str]) -> None:
    engine = Shuffled()
    missing = Found("gone", AudioNotFoundError("gone: no such file"))
    with Journal.temporary() as journal:
        went = go([files[0], missing, files[1]], engine, journal)
    assert engine.given == files[:2]
    assert went.written == [files[0], "failed gone", files[1]]


def test_sources_are_taken_no_faster_than_the_engine_has_room(files: list[str]) -> None:
    engine = Shuffled(n_workers=2)
    ahead = []

    def names() -> Iterator[str]:
        for n, name in enumerate(files):
            ahead.append(n - len(engine.given))
            yield name

    with Journal.temporary() as journal:
        go(names(), engine, journal)
    assert max(ahead) <= 1


def test_parts_are_kept_with_their_own_source(files: list[str]) -> None:
    with Journal.temporary() as journal:
        go(files, Shuffled(), journal)
        for name in files:
            _, parts = journal.result(name)
            assert all(journal.part(part) == f"some of {name}".encode() for part in parts)
        assert any(journal.result(name)[1] for name in files)


@pytest.mark.parametrize("after", [0, 1, 7, 29])
def test_an_interrupted_run_goes_on_where_it_stopped(files: list[str], tmp_path: Path, after: int) -> None:
    first = Shuffled()
    first.interrupt_after = after
    with Journal.open(tmp_path / "j", FINGERPRINT) as journal:
        went = go(files, first, journal)
        assert went.outcome.interrupted
        assert went.written == files[: len(went.written)]
        assert first.is_closed
        n_done = went.outcome.n_done
    second = Shuffled(seed=1)
    with Journal.open(tmp_path / "j", FINGERPRINT) as journal:
        again = go(files, second, journal)
    assert again.written == files
    assert (again.outcome.n_kept, again.outcome.n_done) == (n_done, len(files) - n_done)
    assert len(second.given) == len(files) - n_done


def test_a_source_that_has_changed_is_worked_on_again(files: list[str], tmp_path: Path) -> None:
    with Journal.open(tmp_path / "j", FINGERPRINT) as journal:
        go(files, Shuffled(), journal)
    Path(files[4]).write_text("other audio")
    os.utime(files[9], (1_000_000_000, 1_000_000_000))
    Path(files[11]).unlink()
    engine = Shuffled()
    with Journal.open(tmp_path / "j", FINGERPRINT) as journal:
        went = go(files, engine, journal)
    assert engine.given == [files[4], files[9], files[11]]
    assert went.written == files


def test_a_failed_source_is_tried_again(files: list[str], tmp_path: Path) -> None:
    names = [*files, "bad.wav"]
    with Journal.open(tmp_path / "j", FINGERPRINT) as journal:
        go(names, Shuffled(), journal)
    engine = Shuffled()
    with Journal.open(tmp_path / "j", FINGERPRINT) as journal:
        go(names, engine, journal)
    assert engine.given == ["bad.wav"]


def test_it_stops_at_the_first_failure_where_that_is_asked_for(files: list[str]) -> None:
    engine = Shuffled(n_workers=1)
    with Journal.temporary() as journal:
        went = go([files[0], "bad.wav", *files[1:]], engine, journal, fail_fast=True)
    assert went.outcome.stopped
    assert engine.given == [files[0], "bad.wav"]
    assert engine.is_closed


def test_the_engine_is_closed_when_results_cannot_be_kept(files: list[str]) -> None:
    engine = Shuffled()

    class Full(Journal):
        def add_done(self, *_: object) -> None:
            raise OutputError("disk full")

    with Full.temporary() as journal, pytest.raises(OutputError, match="disk full"):
        go(files, engine, journal)
    assert engine.is_closed


def test_memory_holds_names_not_results_while_many_wait_for_a_slow_one(tmp_path: Path) -> None:
    class FirstIsSlow(Shuffled):
        def step(self, handle: Callable[[Message], None]) -> None:
            name = (
                self._held.pop() if self.given[-1] != names[-1] or len(self._held) > 1 else self._held.pop(0)
            )
            handle(Done(name, f"all of {name}".encode() + bytes(10_000), Summary(1.0, ())))

    names = [f"{n:06d}.wav" for n in range(5_000)]
    written = 0

    def count(name: str) -> None:
        nonlocal written
        written += 1

    with Journal.open(tmp_path / "j", FINGERPRINT) as journal:
        tracemalloc.start()
        try:
            run(
                map(Found, names),
                FirstIsSlow(n_workers=2),
                journal,
                write=count,
                fail=lambda _: None,
                watcher=Silent(),
            )
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert written == len(names)
    assert peak < 600 * len(names), "50 MB of results have been there"


class Silent(Watched):
    """A watcher that remembers nothing."""

    def done(self, name: str, summary: Summary) -> None:
        pass


# ---------------------------------------------------------------------- names that come through a pipe


def test_a_name_that_is_yet_to_come_holds_up_no_result(files: list[str]) -> None:
    written: list[str] = []
    release = threading.Event()

    def slow() -> Iterator[Found]:
        yield from map(Found, files[:3])
        assert release.wait(30), "the results before it have not been written"
        yield Found(files[3])

    def write(name: str) -> None:
        written.append(name)
        if len(written) == 3:
            release.set()

    with Journal.temporary() as journal:
        outcome = run(
            Prefetcher(slow()), Shuffled(), journal, write=write, fail=lambda _: None, watcher=Silent()
        )
    assert written == files[:4]
    assert outcome.is_complete


def test_names_are_read_one_ahead_and_an_error_among_them_ends_the_run(files: list[str]) -> None:
    read: list[str] = []

    def failing() -> Iterator[Found]:
        for name in files[:5]:
            read.append(name)
            yield Found(name)
        raise UsageError("NUL bytes in this list")

    ahead = Prefetcher(failing())
    assert next(ahead).name == files[0]
    time.sleep(0.1)
    assert len(read) <= 3
    with Journal.temporary() as journal, pytest.raises(UsageError, match="NUL"):
        run(ahead, Shuffled(), journal, write=lambda _: None, fail=lambda _: None, watcher=Silent())
    assert next(ahead, None) is None


# ---------------------------------------------------------------------- which engine


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Arguments of the pool that was opened, if one was."""
    calls: list[object] = []
    monkeypatch.setattr(running, "Pool", lambda job, n, **more: calls.append((n, more)))
    return calls


class Opens:
    """Work that opens no model."""

    device = "auto"

    def open_tagger(self, threads: int | None) -> object:
        description = dict.fromkeys(("model", "vocabulary", "calibration_digest"))
        return SimpleNamespace(**description, embedding_size=0, threads=threads)


def test_a_few_small_files_start_no_workers(files: list[str], chosen: list[object]) -> None:
    engine = open_engine(Opens(), files[:16], jobs=4, threads=None, limit_s=None)  # type: ignore[arg-type]
    assert isinstance(engine, InProcess)
    assert not chosen


@pytest.mark.parametrize(
    ("n_files", "jobs", "limit_s", "n_workers"), [(30, 4, None, 4), (30, 64, None, 30), (1, 4, 9.0, 1)]
)
def test_workers_are_started_for_many_files_or_for_a_limit(
    files: list[str], chosen: list[object], n_files: int, jobs: int, limit_s: float | None, n_workers: int
) -> None:
    open_engine(Opens(), files[:n_files], jobs=jobs, threads=None, limit_s=limit_s)  # type: ignore[arg-type]
    assert chosen == [(n_workers, {"threads": 1, "limit_s": limit_s})]


def test_two_large_files_get_a_worker_each(
    tmp_path: Path, chosen: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "SMALL_BYTES", 1000)
    names = [os.fspath(tmp_path / name) for name in ("a.wav", "b.wav")]
    for name in names:
        Path(name).write_bytes(bytes(600))
    open_engine(Opens(), names, jobs=4, threads=None, limit_s=None)  # type: ignore[arg-type]
    assert chosen == [(2, {"threads": 1, "limit_s": None})]


def test_one_file_gets_all_threads_that_jobs_allow(files: list[str], chosen: list[object]) -> None:
    for threads, expected in ((None, 3), (2, 2)):
        engine = open_engine(Opens(), files[:1], jobs=3, threads=threads, limit_s=None)  # type: ignore[arg-type]
        assert isinstance(engine, InProcess)
        assert engine._tagger.threads == expected  # type: ignore[attr-defined]
