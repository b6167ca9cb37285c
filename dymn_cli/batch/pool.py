"""Worker processes: a crash of one costs the source that it had, no more.

The parent hands out one source at a time to each worker and watches pipes, processes and the clock. Only a
worker with a small source has its next one beforehand, so that it never waits for the parent; what waits
behind a source that ends its worker goes to another.

    parent ──▶ worker   name of a source, and for standard input the file that has it
    worker ──▶ parent   ModelDescription (once) · Part* · Progress* · Done or Failed

A worker that dies (a decoder that crashes, the kernel that takes its memory) or that is over the time limit
and killed gives a failure for its source, and a new one takes its place. Workers ignore Ctrl-C, keep away
from the standard streams, and end with the parent, however it ends and whatever they are doing. Bodies travel
as bytes, see `dymn_cli.batch.job`.

Standard input belongs to the parent: it is copied to a file, which the worker opens instead.

Neither side can wait for the other: two names fit into the pipe, and there are never more in it; a worker
that sends a large part waits for a parent that only ever reads.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import types
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, BinaryIO, Self, cast

from dymn_cli.batch.job import EarlyResult, Job, ModelDescription, Summary, standard_input
from dymn_cli.errors import DymnError, InputError, ModelError, is_lack_of_memory, os_error_text, os_errors_as
from dymn_cli.results import Failure

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from dymn_cli.tagging.tagger import Tagger

__all__ = ["Done", "Failed", "Message", "Part", "Pool", "Progress", "attempt"]

REPORT = "set DYMN_DEBUG=1 for the trace, and please report it"
SIGKILL = 9

PROGRESS_EVERY_S = 0.5
MAX_SILENCE_S = 0.2  # then `step` comes back with nothing: there may be new sources
FIRST_ANSWER_S = 300.0  # a worker that has not loaded its model by then never will
MAX_STILLBORN = 3  # workers in a row that ended before they had loaded the model
BRIEF_BYTES = 4 << 20  # a second's work or so: that long a source may wait behind another
KILL_TIMEOUT_S = 5.0  # a killed process that outlives this hangs in the kernel, say on a lost network drive


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of the result of a source that is not done yet."""

    name: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Progress:
    """How many seconds of a source are done, and of how many, as far as its header knows."""

    name: str
    seconds: float
    of_s: float | None


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


@dataclass(frozen=True, slots=True)
class Early:
    """What is known of a pipe that has not ended; in its parts or in `Done` it comes again."""

    name: str
    result: EarlyResult


Message = Part | Progress | Early | Done | Failed


@dataclass(slots=True)
class _Worker:
    """A process, its pipe, the source it has, how large that is, and the source that follows."""

    process: BaseProcess
    pipe: Connection
    since: float
    name: str | None = None
    n_bytes: int | None = None
    following: tuple[str, int | None] | None = None
    ready: bool = False
    silent: bool = False

    @property
    def has_room(self) -> bool:
        """Whether it takes a source, to begin now or after a small one."""
        if not self.ready or self.following is not None:
            return False
        return self.name is None or (self.n_bytes is not None and self.n_bytes <= BRIEF_BYTES)

    def take(self, name: str, n_bytes: int | None, copy: str | None) -> None:
        """Send it a source, and the file that standard input was copied to."""
        if self.name is None:
            self.begin(name, n_bytes)
        else:
            self.following = (name, n_bytes)
        with contextlib.suppress(OSError):  # it has just died, which the next look at it shows
            self.pipe.send((name, copy))

    def begin(self, name: str, n_bytes: int | None) -> None:
        """Note the source that it works on from now on."""
        self.name, self.n_bytes, self.since = name, n_bytes, time.monotonic()

    def end(self) -> None:
        """Note that its source is done."""
        self.name, following, self.following = None, self.following, None
        if following is not None:
            self.begin(*following)


class Pool:
    """Workers for one job; use it in a `with` statement.

    Args:
        job: what they do with each source.
        n_workers: how many.
        threads: windows that each of them computes at the same time.
        limit_s: seconds that a source may take, or None.

    Raises:
        ModelError: a worker cannot load the model.
    """

    def __init__(self, job: Job, n_workers: int, *, threads: int = 1, limit_s: float | None = None) -> None:
        self._job = job
        self._threads = threads
        self._limit_s = limit_s
        self._n_stillborn = 0
        self._left_over: deque[tuple[str, int | None]] = deque()  # their worker ended with another source
        self._stdin: str | None = None  # the copy of standard input, once a worker wants it
        self._unread: Failed | None = None  # standard input, where it could not be copied
        self._context = multiprocessing.get_context("spawn")  # threads and forks do not go together
        self._workers: list[_Worker] = []
        try:
            for _ in range(n_workers):
                self._workers.append(self._start())
            self.description = self._first_description()
        except BaseException:
            self.close()
            raise

    # ------------------------------------------------------------------ what the caller does

    @property
    def has_room(self) -> bool:
        """Whether a worker takes a source."""
        return not (self._left_over or self._unread) and any(worker.has_room for worker in self._workers)

    @property
    def is_busy(self) -> bool:
        """Whether a source is being worked on, or waits for it."""
        return bool(self._left_over or self._unread) or any(
            worker.name is not None for worker in self._workers
        )

    def give(self, name: str, n_bytes: int | None = None) -> None:
        """Hand a source to a worker that takes one; there must be one, and those without any come first.

        Args:
            name: of the source.
            n_bytes: its size, if that is known.
        """
        try:
            copy = self._copied() if name == "-" else None
        except InputError as error:
            self._unread = Failed(name, Failure.of(name, error))
            return
        free = [worker for worker in self._workers if worker.has_room]
        min(free, key=lambda worker: worker.name is not None).take(name, n_bytes, copy)

    def _copied(self) -> str:
        """The file with all of standard input; other sources wait until it is copied."""
        if self._stdin is None:
            with os_errors_as(InputError, "standard input: no temporary file"):
                file = tempfile.NamedTemporaryFile(prefix="dymn-", suffix=".stdin", delete=False)  # noqa: SIM115
            with file:
                self._stdin = file.name
                standard_input(most_bytes=self._job.max_input, into=cast("BinaryIO", file))
        return self._stdin

    def step(self, handle: Callable[[Message], None]) -> None:
        """Wait a moment for messages of workers, or the loss of one, and hand them over.

        Raises:
            DymnError: the model fails, or no worker can be started.
        """
        if self._unread is not None:
            unread, self._unread = self._unread, None
            handle(unread)
            return
        ready = wait([worker.pipe for worker in self._workers], self._time_left())
        for number, worker in enumerate(self._workers):
            is_alive = (
                worker.process.is_alive()
            )  # asked first, so that the last messages of a lost one still arrive
            for message in self._messages_of(worker) if worker.pipe in ready or not is_alive else ():
                handle(message)
            error = self._loss_of(worker, is_alive=is_alive)
            if error is not None:
                self._n_stillborn += not worker.ready
                if self._n_stillborn > MAX_STILLBORN:
                    raise _cannot_start()
                self._kill(worker)
                self._workers[number] = self._start()
                if worker.following is not None:
                    self._left_over.append(worker.following)
                if worker.name is not None:
                    handle(Failed(worker.name, Failure.of(worker.name, error)))
        while self._left_over and any(worker.has_room for worker in self._workers):
            self.give(*self._left_over.popleft())

    # ------------------------------------------------------------------ the workers

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._job, self._threads), daemon=True)
        try:
            with _without_interrupts(), _without_main_module(), _with_large_pages():
                process.start()
        except OSError as exc:
            raise ModelError(os_error_text("a worker process does not start", exc)) from exc
        finally:
            theirs.close()
        return _Worker(process, ours, time.monotonic())

    def _first_description(self) -> ModelDescription:
        first = self._workers[0]
        try:
            answer = first.pipe.recv() if first.pipe.poll(FIRST_ANSWER_S) else None
        except (EOFError, OSError):
            answer = None
        if isinstance(answer, DymnError):
            raise answer
        if not isinstance(answer, ModelDescription):
            raise _cannot_start()
        first.ready = True
        return answer

    def _messages_of(self, worker: _Worker) -> Iterator[Message]:
        try:
            while worker.pipe.poll():
                message = worker.pipe.recv()
                if isinstance(message, DymnError):
                    raise message
                if isinstance(message, ModelDescription):
                    worker.ready = True
                    self._n_stillborn = 0
                    continue
                if isinstance(message, Done | Failed):
                    worker.end()
                yield message
        except (EOFError, OSError):  # its end of the pipe is closed: it is about to be gone
            worker.silent = True
            worker.process.join(KILL_TIMEOUT_S)

    def _loss_of(self, worker: _Worker, *, is_alive: bool) -> DymnError | None:
        """Why the worker must be replaced, or None."""
        name, elapsed = worker.name, time.monotonic() - worker.since
        if worker.silent or not is_alive:
            return _death(name, worker.process.exitcode or 0)
        if name is not None and self._limit_s is not None and elapsed > self._limit_s:
            return InputError(
                f"{name}: not done after {self._limit_s:g} s", hint="a longer --limit-per-file allows more"
            )
        if not worker.ready and elapsed > FIRST_ANSWER_S:
            return _cannot_start()
        return None

    def _time_left(self) -> float:
        """Seconds until a worker that says nothing is over its limit, or the caller may have more to do."""
        limits = [time.monotonic() + MAX_SILENCE_S]
        limits += [worker.since + FIRST_ANSWER_S for worker in self._workers if not worker.ready]
        if self._limit_s is not None:
            limits += [worker.since + self._limit_s for worker in self._workers if worker.name is not None]
        return max(min(limits) - time.monotonic(), 0.0) + 0.01

    def _kill(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.process.join(KILL_TIMEOUT_S)
        worker.pipe.close()

    def close(self) -> None:
        """End all workers; what they were working on is dropped."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            self._kill(worker)
        self._workers = []
        if self._stdin is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._stdin)  # noqa: PTH108
            self._stdin = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _cannot_start() -> ModelError:
    return ModelError(
        "the worker processes end before they have loaded the model",
        hint="if memory is short, -j 1 needs the least",
    )


def _death(name: str | None, code: int) -> InputError:
    """The error for a source whose worker has ended."""
    if code >= 0:
        return InputError(f"{name}: its worker process ended with code {code}")
    hint = "out of memory, perhaps: fewer workers (-j) need less" if -code == SIGKILL else None
    return InputError(f"{name}: its worker process was ended by {_signal_name(-code)}", hint=hint)


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Start children with Ctrl-C blocked: the parent ends them, in order."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows: they end, and the parent is ending as well
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _with_large_pages() -> Iterator[None]:
    """Let a process that starts here ask for large pages, which takes a twentieth off the model's time.

    It is a setting of glibc, read when a process starts; other C libraries do not know it. One that the user
    has made is left alone.
    """
    if "GLIBC_TUNABLES" in os.environ:
        yield
        return
    os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    try:
        yield
    finally:
        del os.environ["GLIBC_TUNABLES"]


@contextlib.contextmanager
def _without_main_module() -> Iterator[None]:
    """Workers do not need the program that starts them: importing it again would cost 0.1 s each."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def attempt(
    tagger: Tagger,
    job: Job,
    name: str,
    part: Callable[[Part], None],
    progress: Callable[[Progress], None],
    *,
    early: Callable[[Early], None] | None = None,
) -> Done | Failed:
    """Run a job on one source, and turn every error that is the source's into a failure.

    Args:
        tagger: loaded by `Job.open_tagger`.
        job: what to do.
        name: path, or "-" for standard input.
        part: takes the parts of the result, in order.
        progress: takes the progress.
        early: takes what is known of a pipe before it ends.

    Raises:
        DymnError: the model fails, or the place of the results.
    """
    try:
        body, summary = job.run(
            tagger,
            name,
            lambda body: part(Part(name, body)),
            lambda seconds, of_s: progress(Progress(name, seconds, of_s)),
            None if early is None else lambda result: early(Early(name, result)),
        )
    except InputError as error:
        return Failed(name, Failure.of(name, error))
    except (DymnError, BrokenPipeError):
        raise
    except PermissionError as exc:
        closed = InputError(os_error_text(name, exc))
        return Failed(name, Failure.of(name, closed))
    except Exception as exc:
        if is_lack_of_memory(exc):
            too_large = InputError(f"{name}: not enough memory", hint="fewer workers (-j) need less")
            return Failed(name, Failure.of(name, too_large))
        if os.environ.get("DYMN_DEBUG"):
            traceback.print_exc()
        bug = DymnError(f"{name}: a bug in dymn: {type(exc).__name__}: {exc}", hint=REPORT)
        return Failed(name, Failure.of(name, bug))
    return Done(name, body, summary)


# ---------------------------------------------------------------------- in the worker's process


def _serve(pipe: Connection, job: Job, threads: int) -> None:
    """Load the model, then analyse one source after the other until the pipe closes."""
    _leave_streams_alone()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        try:
            tagger = job.open_tagger(threads)
            pipe.send(ModelDescription.of(tagger))
            while True:
                name, copy = pipe.recv()
                if copy is not None:
                    sys.stdin = open(copy, encoding="latin-1")  # noqa: PTH123, SIM115 - to the end of the process
                progress = _ThrottledProgress(pipe)
                pipe.send(attempt(tagger, job, name, pipe.send, progress))
        except DymnError as error:
            pipe.send(error)


def _leave_streams_alone() -> None:
    """Detach standard input and output: they are the parent's, and no library may touch them."""
    for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY)):
        nowhere = os.open(os.devnull, flags)
        os.dup2(nowhere, number)
        os.close(nowhere)


def _end_with_parent() -> None:
    """End at once when the parent is gone, whatever is being done."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


class _ThrottledProgress:
    """Sends progress twice a second at most."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._last >= PROGRESS_EVERY_S:
            self._last = now
            self._pipe.send(progress)
