"""Many sources: analysed in parallel, written in order, each at most once.

    sources ──▶ in hand ──▶ workers (or this process) ──▶ journal ──▶ written in input order

A result goes into the journal as soon as it is there, and is written when all before it are written. So
memory holds names and places, never results; the output does not depend on the number of workers; and a
resumed run finds what was done in the journal. What is known of a pipe that goes on may be written before.

Few and small files are done in this process: starting workers takes longer than they do. Then the windows of
a file are spread over threads; with workers, the files are spread over processes, and one very long file
among many keeps one core busy while the others do the rest. A crash costs one file where there are workers,
and the run where there are none. With a model on a GPU, workers decode and feed it (see
`dymn_cli.batch.gpu`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Protocol

from dymn_cli.batch.job import EarlyResult, Job, ModelDescription, Summary
from dymn_cli.batch.journal import Journal, Place, Stamp
from dymn_cli.batch.pool import Early, Failed, Message, Part, Pool, Progress, attempt
from dymn_cli.prefetch import Prefetcher
from dymn_cli.remote.uri import is_uri
from dymn_cli.results import Failure

if TYPE_CHECKING:
    from dymn_cli.audio.discover import Found
    from dymn_cli.tagging.tagger import Tagger

__all__ = ["Engine", "InProcess", "Outcome", "Watcher", "open_engine", "run"]

SMALL_COUNT = 16
SMALL_BYTES = 64 << 20


Handler = Callable[[Message], None]


class Engine(Protocol):
    """Analyses sources."""

    description: ModelDescription

    @property
    def has_room(self) -> bool:
        """Whether it takes another source now."""
        ...

    @property
    def is_busy(self) -> bool:
        """Whether it has sources in hand."""
        ...

    def give(self, name: str, n_bytes: int | None) -> None:
        """Hand it a source, and its size if that is known."""
        ...

    def step(self, handle: Handler) -> None:
        """Work or wait until there are messages, and hand them over."""
        ...

    def close(self) -> None:
        """Drop what it has in hand."""
        ...


class InProcess:
    """The engine without workers: one source at a time, its windows on several threads."""

    def __init__(self, job: Job, tagger: Tagger) -> None:
        self._job = job
        self._tagger = tagger
        self._name: str | None = None
        self.description = ModelDescription.of(tagger)

    @property
    def has_room(self) -> bool:
        """Whether it takes another source now."""
        return self._name is None

    @property
    def is_busy(self) -> bool:
        """Whether it has a source in hand."""
        return self._name is not None

    def give(self, name: str, n_bytes: int | None) -> None:
        """Hand it a source."""
        self._name = name

    def step(self, handle: Handler) -> None:
        """Do the source in hand."""
        name, self._name = self._name, None
        if name is None:
            return
        handle(attempt(self._tagger, self._job, name, handle, handle, early=handle))

    def close(self) -> None:
        """End the threads."""
        self._tagger.close()


def open_engine(
    job: Job, names: Sequence[str] | None, *, jobs: int, threads: int | None, limit_s: float | None
) -> Engine:
    """The engine for some sources: workers, unless the sources are few and small.

    Args:
        job: what to do with each source.
        names: the sources, or None where they are not known beforehand.
        jobs: sources to be worked on at the same time, at most; where there are no workers, threads.
        threads: windows of one source computed at the same time; None for one where there are workers.
        limit_s: seconds that a source may take, or None; only workers can be held to it.

    Raises:
        UsageError: an unknown model or label, or a value out of range.
        ModelError: the model cannot be loaded.
    """
    if limit_s is None and names is not None and _are_small(names):
        return InProcess(job, job.open_tagger(threads or jobs))
    n_workers = jobs if names is None else max(1, min(jobs, len(names)))
    if job.device in ("auto", "cpu"):
        return Pool(job, n_workers, threads=threads or 1, limit_s=limit_s)
    from dymn_cli.batch.gpu import Decoding, GpuEngine

    tagger = job.open_tagger(threads)
    return GpuEngine(job, tagger, Pool(Decoding.of(job, tagger), n_workers, limit_s=limit_s))


def _are_small(names: Sequence[str]) -> bool:
    if len(names) <= 1:
        return True
    if len(names) > SMALL_COUNT:
        return False
    stamps = [Stamp.of(name) for name in names]
    return sum(stamp.size for stamp in stamps if stamp is not None) <= SMALL_BYTES


class Watcher(Protocol):
    """Follows a run."""

    def kept(self, name: str) -> None:
        """A source was analysed in an earlier run."""
        ...

    def done(self, name: str, summary: Summary) -> None:
        """A source was analysed."""
        ...

    def failed(self, failure: Failure) -> None:
        """A source failed."""
        ...

    def within(self, name: str, seconds: float, of_s: float | None) -> None:
        """So many seconds of a source are done, and of how many, as far as its header knows."""
        ...


@dataclass(slots=True)
class Outcome:
    """How a run went; its failures are in the order of the sources once it has ended."""

    n_done: int = 0
    n_kept: int = 0
    failures: list[Failure] = field(default_factory=list)
    interrupted: bool = False
    stopped: bool = False

    @property
    def n_results(self) -> int:
        """Sources that have a result, from this run or an earlier one."""
        return self.n_done + self.n_kept

    @property
    def is_complete(self) -> bool:
        """Whether every source gave its result."""
        return not (self.failures or self.interrupted or self.stopped)


@dataclass(slots=True)
class _Slot:
    """The place of a source in the output; there may be very many that wait for a long one before them."""

    name: str
    number: int
    is_done: bool = False
    failure: Failure | None = None


@dataclass(slots=True)
class _InProgress:
    """A source that is being worked on."""

    slot: _Slot
    stamp: Stamp | None
    parts: list[Place] = field(default_factory=list)


class _Run:
    """The state of a run: what is in hand, and what waits for its turn to be written."""

    def __init__(
        self,
        journal: Journal,
        engine: Engine,
        write: Callable[[str], None],
        fail: Callable[[Failure], None],
        watcher: Watcher,
        write_early: Callable[[str, EarlyResult], None] | None,
    ) -> None:
        self.journal = journal
        self.engine = engine
        self.write = write
        self.fail = fail
        self.watcher = watcher
        self.write_early = write_early
        self.outcome = Outcome()
        self.n_taken = 0
        self.failed: list[tuple[int, Failure]] = []  # the number of a source, and why it failed
        self.waiting: Found | None = None
        self.order: deque[_Slot] = deque()
        self.in_hand: dict[str, _InProgress] = {}

    def take(self) -> None:
        """Give the next source its place, and hand it to the engine unless the journal has it."""
        found, self.waiting = self.waiting, None
        if found is None:
            return
        slot = _Slot(found.name, self.n_taken)
        self.n_taken += 1
        self.order.append(slot)
        if found.problem is not None:
            self._failed(slot, Failure.of(found.name, found.problem))
        else:
            stamp = self._stamp_of(found)
            if self.journal.has(found.name, stamp):
                slot.is_done = True
                self.outcome.n_kept += 1
                self.watcher.kept(found.name)
            else:
                self.in_hand[found.name] = _InProgress(slot, stamp)
                self.engine.give(found.name, None if stamp is None else stamp.size)
        self._write_ready()

    def _stamp_of(self, found: Found) -> Stamp | None:
        """The stamp of a source; no store is asked what the listing has told, or what nobody will compare."""
        if found.stat is not None:
            return Stamp.at_uri(found.stat)
        return None if is_uri(found.name) and not self.journal.is_kept else Stamp.of(found.name)

    def handle(self, message: Message) -> None:
        """Handle a message of the engine."""
        if isinstance(message, Progress):
            self.watcher.within(message.name, message.seconds, message.of_s)
            return
        if isinstance(message, Early):
            if self.write_early is not None and self.order[0].name == message.name:
                self.write_early(message.name, message.result)
            return
        if isinstance(message, Part):
            self.in_hand[message.name].parts.append(self.journal.add_part(message.name, message.body))
            return
        in_hand = self.in_hand.pop(message.name)
        if isinstance(message, Failed):
            if message.name in self.journal.names:  # of an earlier run, and out of date
                self.journal.forget([message.name])
            self._failed(in_hand.slot, message.failure)
        else:
            if self.engine.has_room:
                self.take()  # first, so that no worker waits for the disk: 4 % of the time of two
            self.journal.add_done(message.name, in_hand.stamp, in_hand.parts, message.body)
            in_hand.slot.is_done = True
            self.outcome.n_done += 1
            self.watcher.done(message.name, message.summary)
        self._write_ready()

    def _failed(self, slot: _Slot, failure: Failure) -> None:
        slot.failure = failure
        self.failed.append((slot.number, failure))
        self.outcome.failures.append(failure)
        self.watcher.failed(failure)

    def end(self) -> Outcome:
        """The outcome, with failures in the order of the sources."""
        self.outcome.failures = [failure for _, failure in sorted(self.failed, key=itemgetter(0))]
        return self.outcome

    def _write_ready(self) -> None:
        while self.order and (self.order[0].is_done or self.order[0].failure is not None):
            slot = self.order.popleft()
            if slot.failure is not None:
                self.fail(slot.failure)
            else:
                self.write(slot.name)


def run(
    sources: Iterator[Found],
    engine: Engine,
    journal: Journal,
    *,
    write: Callable[[str], None],
    fail: Callable[[Failure], None],
    watcher: Watcher,
    fail_fast: bool = False,
    write_early: Callable[[str, EarlyResult], None] | None = None,
    close: bool = True,
) -> Outcome:
    """Work on every source; results are written in the order of the sources.

    Args:
        sources: what to work on; read no faster than the engine takes them. Where they may keep us waiting,
            `Prefetcher` waits for them while results are written.
        engine: who works.
        journal: keeps results until they can be written, and from an earlier run.
        write: writes the result of a source, which the journal has.
        fail: writes that a source failed.
        watcher: follows the run.
        fail_fast: stop at the first source that fails.
        write_early: writes what is known of a pipe that has not ended; None to wait for its end.
        close: close the engine in the end; else the next run goes on with it.

    Raises:
        OutputError: a result cannot be kept or written.
        ModelError: the model fails.
    """
    state = _Run(journal, engine, write, fail, watcher, write_early)
    ahead = sources if isinstance(sources, Prefetcher) else None
    try:
        while True:
            if ahead is None or ahead.is_ready or not engine.is_busy:
                state.waiting = state.waiting or next(sources, None)
            if state.waiting is None and not engine.is_busy:
                break
            if state.waiting is not None and engine.has_room:
                state.take()
            else:
                engine.step(state.handle)
            if fail_fast and state.outcome.failures:
                state.outcome.stopped = True
                break
    except KeyboardInterrupt:
        state.outcome.interrupted = True
    finally:
        if close:
            engine.close()
    return state.end()
