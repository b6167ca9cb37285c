"""Workers in processes of their own: what happens to one of them costs the source that it had, no more.

The parent hands out one source at a time to each worker and watches pipes, processes and the clock:

    parent ──▶ worker   name of a source
    worker ──▶ parent   Ready (once) · Part* · Progress* · Done or Failed

A worker that dies (a decoder that crashes, the kernel that takes its memory) or that is over the time limit
and killed gives a failure for its source, and a new one takes its place. Workers do not hear Ctrl-C, and end
when the parent is gone. Bodies travel as bytes, see `dymn_cli.batch.work`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Self

from dymn_cli.batch.work import Summary, Work, analyse
from dymn_cli.errors import DymnError, InputError, ModelError
from dymn_cli.results import Failure
from dymn_cli.tagging.failure import failure_of

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from dymn_cli.labels import Vocabulary
    from dymn_cli.results import ModelInfo
    from dymn_cli.tagging.tagger import Tagger

__all__ = ["Done", "Facts", "Failed", "Message", "Part", "Pool", "Progress"]

PROGRESS_EVERY_S = 0.5
FIRST_ANSWER_S = 300.0  # a worker that has not loaded its model by then never will


@dataclass(frozen=True, slots=True)
class Facts:
    """What the parent must know of the model that the workers have."""

    model: ModelInfo
    vocabulary: Vocabulary
    embedding_size: int

    @classmethod
    def of(cls, tagger: Tagger) -> Facts:
        """The facts of a tagger of this process."""
        return cls(tagger.model, tagger.vocabulary, tagger.embedding_size)


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of the result of a source that is not done yet."""

    name: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Progress:
    """How many seconds of a source are done."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Done:
    """The rest of the result of a source."""

    name: str
    body: bytes
    summary: Summary


@dataclass(frozen=True, slots=True)
class Failed:
    """A source that gives nothing."""

    name: str
    failure: Failure


Message = Part | Progress | Done | Failed


@dataclass(slots=True)
class _Worker:
    """A process, its pipe, and the source it has."""

    process: BaseProcess
    pipe: Connection
    since: float
    name: str | None = None
    ready: bool = False


class Pool:
    """Workers for one kind of work; use it in a `with` statement.

    Args:
        work: what they do with each source.
        n_workers: how many.
        limit_s: seconds that a source may take, or None.

    Raises:
        ModelError: a worker cannot load the model.
    """

    def __init__(self, work: Work, n_workers: int, *, limit_s: float | None = None) -> None:
        self._work = work
        self._limit_s = limit_s
        self._context = multiprocessing.get_context("spawn")  # threads and forks do not go together
        self._workers = [self._start() for _ in range(n_workers)]
        self.facts = self._first_facts()

    # ------------------------------------------------------------------ what the caller does

    @property
    def has_room(self) -> bool:
        """Whether a worker waits for a source."""
        return any(worker.ready and worker.name is None for worker in self._workers)

    @property
    def is_busy(self) -> bool:
        """Whether a source is being worked on."""
        return any(worker.name is not None for worker in self._workers)

    def give(self, name: str) -> None:
        """Hand a source to a worker that waits; there must be one."""
        worker = next(worker for worker in self._workers if worker.ready and worker.name is None)
        worker.name, worker.since = name, time.monotonic()
        with contextlib.suppress(OSError):  # it has just died: `messages` sees that
            worker.pipe.send(name)

    def step(self, handle: Callable[[Message], None]) -> None:
        """Wait until a worker has something to say or is lost, and pass on what there is."""
        for message in self._messages():
            handle(message)

    def _messages(self) -> Iterator[Message]:
        timeout = self._time_left()
        wait([worker.pipe for worker in self._workers], timeout)
        for number, worker in enumerate(self._workers):
            yield from self._heard(worker)
            reason = self._why_lost(worker)
            if reason is not None:
                self._kill(worker)
                self._workers[number] = self._start()
                if worker.name is not None:
                    error = InputError(f"{worker.name}: {reason}")
                    yield Failed(worker.name, failure_of(worker.name, error))

    # ------------------------------------------------------------------ the workers

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._work), daemon=True)
        with _without_interrupts():
            process.start()
        theirs.close()
        return _Worker(process, ours, time.monotonic())

    def _first_facts(self) -> Facts:
        first = self._workers[0]
        try:
            answer = first.pipe.recv() if first.pipe.poll(FIRST_ANSWER_S) else None
        except (EOFError, OSError):
            answer = None
        if not isinstance(answer, Facts):
            self.close()
            raise answer or ModelError(
                "a worker process does not start", hint="-j 1 with one file needs none"
            )
        first.ready = True
        return answer

    def _heard(self, worker: _Worker) -> Iterator[Message]:
        try:
            while worker.pipe.poll():
                message = worker.pipe.recv()
                if isinstance(message, DymnError):
                    raise message
                if isinstance(message, Facts):
                    worker.ready = True
                    continue
                if isinstance(message, Done | Failed):
                    worker.name = None
                yield message
        except (EOFError, OSError):
            worker.process.join(1.0)

    def _why_lost(self, worker: _Worker) -> str | None:
        if not worker.process.is_alive():
            code = worker.process.exitcode or 0
            if code < 0:
                return f"its worker process was ended by signal {-code} ({_signal_name(-code)})"
            return f"its worker process ended with code {code}"
        if self._limit_s is not None and worker.name is not None:
            elapsed = time.monotonic() - worker.since
            if elapsed > self._limit_s:
                return f"not done after {self._limit_s:g} s (--limit-per-file)"
        return None

    def _time_left(self) -> float | None:
        if self._limit_s is None:
            return None
        deadlines = [worker.since + self._limit_s for worker in self._workers if worker.name is not None]
        return max(min(deadlines, default=time.monotonic() + 1.0) - time.monotonic(), 0.0) + 0.01

    def _kill(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()

    def close(self) -> None:
        """End all workers; what they were working on is dropped."""
        for worker in self._workers:
            self._kill(worker)
        self._workers = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Children inherit an ignored Ctrl-C: it is the parent that ends them, in order."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not in the main thread, where no signal arrives
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


# ---------------------------------------------------------------------- in the worker's process


def _serve(pipe: Connection, work: Work) -> None:
    """The life of a worker: load the model, then one source after the other until the pipe closes."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        try:
            tagger = work.open_tagger(threads=1)
        except DymnError as error:
            pipe.send(error)
            return
        pipe.send(Facts.of(tagger))
        while True:
            name = pipe.recv()
            try:
                sender = _Sender(pipe, name)
                body, summary = analyse(tagger, work, name, sender.part, sender.progress)
            except InputError as error:
                pipe.send(Failed(name, failure_of(name, error)))
            else:
                pipe.send(Done(name, body, summary))


class _Sender:
    """Sends what comes while a source is worked on."""

    def __init__(self, pipe: Connection, name: str) -> None:
        self._pipe = pipe
        self._name = name
        self._told = time.monotonic()

    def part(self, body: bytes) -> None:
        """A part, at once."""
        self._pipe.send(Part(self._name, body))

    def progress(self, seconds: float) -> None:
        """How far it is, now and then."""
        now = time.monotonic()
        if now - self._told >= PROGRESS_EVERY_S:
            self._told = now
            self._pipe.send(Progress(self._name, seconds))
