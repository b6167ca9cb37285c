"""The driver of `dymn watch`: files of folders, one by one as they are complete, to lines of a file.

The journal beside the file is the truth: a result goes into it first, then its lines are appended. A start
writes the file anew from the journal, so lines that a kill has torn or lost are whole again; what came
meanwhile is analysed like everything else that the journal does not have.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import queue
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Generic, TypeVar

from dymn_cli.batch.journal import Place, Stamp
from dymn_cli.batch.pool import Early, Failed, Message, Part, Progress
from dymn_cli.cli.batch_run.run import Run, open_model
from dymn_cli.cli.batch_run.update import require_known
from dymn_cli.cli.batch_run.watcher import save_failures, save_warnings
from dymn_cli.errors import OutputError, UsageError, os_error_text
from dymn_cli.writers.spelling import counted

if TYPE_CHECKING:
    from types import FrameType

    from dymn_cli.cli.batch_run.analysis import Analysis
    from dymn_cli.cli.batch_run.places import Places
    from dymn_cli.cli.options.groups import WatchOptions
    from dymn_cli.cli.terminal.messages import Messages
    from dymn_cli.results import Failure
    from dymn_cli.watching.folders import Folders
    from dymn_cli.watching.settling import Settling

T = TypeVar("T")

__all__ = ["LINE_FORMATS", "watch_folders"]

LINE_FORMATS = ("csv", "tsv", "jsonl")
TICK_S = 0.2
MAX_WAITING = 10_000  # results that wait for their command


def watch_folders(
    analysis: Analysis[T],
    folders: Folders,
    settling: Settling,
    places: Places,
    work: WatchOptions,
    messages: Messages,
    *,
    threads: int | None,
) -> None:
    """Analyse what the folders hold and what comes, until Ctrl-C or SIGTERM.

    Args:
        analysis: what to find out of each file.
        folders: where files come.
        settling: when they are complete.
        places: where results go; a file in one of `LINE_FORMATS`, or standard output.
        work: who works, and the command for each result.
        messages: says what fails, and the summary.
        threads: of each worker.

    Raises:
        DymnError: an option makes no sense, the model cannot be loaded, or the result cannot be written.
    """
    words = _words_of(work)
    require_known(places, "dymn watch")
    places.check(None)
    if not (places.force or (work.resume and places.journal is not None and places.journal.is_file())):
        places.require_free(None)
    with contextlib.ExitStack() as stack:
        opened = open_model(analysis, work, messages, places, job=analysis.job, threads=threads)
        run = dataclasses.replace(stack.enter_context(opened), force=True)  # _AppendedFile has looked
        if places.journal is not None:
            run.journal.make_lasting()
        stop = stack.enter_context(_until_signalled())
        output = stack.enter_context(_open_output(run))
        commands = stack.enter_context(_Commands(run, words, work.exec_limit))
        stack.enter_context(folders)
        watch = _Watch(run, output, commands)
        messages.note(f"watching {', '.join(folders.names)}; Ctrl-C ends")
        watch.go(folders, settling, stop)
        watch.sum_up(settling)


def _words_of(work: WatchOptions) -> list[str]:
    """The words of the command that is run for each result; none where there is none."""
    if not work.exec_limit > 0:
        raise UsageError(f"--exec-limit must be more than 0 s, not {work.exec_limit:g}")
    if work.exec_ is None:
        return []
    try:
        words = shlex.split(work.exec_)
    except ValueError as exc:
        raise UsageError(f"--exec {work.exec_!r}: {exc}") from exc
    if not words:
        raise UsageError("--exec is empty", hint="--exec 'notify-me --now'")
    return words


@contextlib.contextmanager
def _until_signalled() -> Iterator[threading.Event]:
    """Set by the first Ctrl-C or SIGTERM; the second one ends the program at once."""
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _open_output(run: Run[T]) -> Iterator[Callable[[str], None]]:
    """What writes the result of a source at once."""
    if not run.places.files:
        with run.analysis.open_writer(run) as writer:

            def write(name: str) -> None:
                for result in run.analysis.read(run.reader, name):
                    writer.write(result)

            yield write
        return
    with _AppendedFile(run) as file:
        yield file.append


class _AppendedFile(Generic[T]):
    """A file of lines that belongs to a journal.

    Args:
        run: has the journal, and writes results.

    Raises:
        OutputError: the file is not the one of the journal, or cannot be written.
    """

    def __init__(self, run: Run[T]) -> None:
        self._run, self._path = run, str(run.places.out)
        self._n_overruled = 0
        self._written: set[str] = set()
        is_known = run.places.force or not os.path.lexists(self._path) or run.journal.is_ours(self._path)
        if not (is_known or self._is_cut_short()):
            raise OutputError(
                f"{self._path}: the file is not the one that was written last",
                hint="--force replaces it by what the journal has",
            )
        self._write_all()
        self._file = self._open()

    def _is_cut_short(self) -> bool:
        """Whether the file is the beginning of what was written: a power cut may lose its end."""
        try:
            with tempfile.TemporaryFile() as whole, open(self._path, "rb") as file:  # noqa: PTH123
                writer = self._run.analysis.file_writer(self._run, whole, None)
                writer.begin()
                for name in self._run.journal.names:
                    for result in self._run.analysis.read(self._run.reader, name):
                        writer.write(result)
                whole.seek(0)
                while block := file.read(1 << 20):
                    if whole.read(len(block)) != block:
                        return False
        except OSError as exc:
            raise OutputError(os_error_text(self._path, exc)) from exc
        return True

    def _write_all(self) -> None:
        """Write the whole file from the journal: header, results in the order in which they came."""
        run, names = self._run, list(self._run.journal.names)
        run.journal.add_result(self._path, None)
        with run.analysis.open_writer(run) as writer:
            for name in names:
                for result in run.analysis.read(run.reader, name):
                    writer.write(result)
        run.journal.add_result(self._path, Stamp.of(self._path))
        self._written, self._n_overruled = set(names), 0

    def _open(self) -> io.FileIO:
        try:
            return io.FileIO(self._path, "a")
        except OSError as exc:
            raise OutputError(os_error_text(self._path, exc)) from exc

    def append(self, name: str) -> None:
        """Append the lines of a source, all or none.

        Raises:
            OutputError: the disk is full, or the file has been moved or replaced.
        """
        lines = io.BytesIO()
        writer = self._run.analysis.file_writer(self._run, lines, None)
        for result in self._run.analysis.read(self._run.reader, name):
            writer.write(result)
        journal, number = self._run.journal, self._file.fileno()
        if not self._is_in_place():
            raise OutputError(
                f"{self._path}: moved or replaced while it was written", hint="the next start writes it again"
            )
        size = os.fstat(number).st_size
        journal.add_result(self._path, None)
        try:
            rest = memoryview(lines.getvalue())
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError as exc:
            with contextlib.suppress(OSError):
                os.ftruncate(number, size)
            raise OutputError(os_error_text(self._path, exc), hint="the next start goes on") from exc
        journal.add_result(self._path, Stamp.of(self._path))
        self._n_overruled += name in self._written
        self._written.add(name)

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path))  # noqa: PTH116
        except FileNotFoundError:
            return False

    def __enter__(self) -> _AppendedFile[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        """Close it; lines of files that have changed since go."""
        self._file.close()
        if kind is None:
            if self._n_overruled:
                self._write_all()
            self._run.journal.compact()


class _Commands(Generic[T]):
    """Runs a command for each result, one after the other, beside the analysis.

    Args:
        run: reads results.
        words: the command and its arguments, or none.
        limit_s: seconds that it may take.
    """

    def __init__(self, run: Run[T], words: list[str], limit_s: float) -> None:
        self._run = dataclasses.replace(run, places=dataclasses.replace(run.places, format_name="jsonl"))
        self._words, self._limit_s = words, limit_s
        self._waiting: queue.Queue[tuple[str, bytes] | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self, name: str) -> None:
        """Let the command run for a source that is done; waits where far too many wait already."""
        if not self._words:
            return
        lines = io.BytesIO()
        writer = self._run.analysis.file_writer(self._run, lines, None)
        for result in self._run.analysis.read(self._run.reader, name):
            writer.write(result)
        self._waiting.put((name, lines.getvalue()))

    def _work(self) -> None:
        while (task := self._waiting.get()) is not None:
            name, lines = task
            problem = self._problem_of(lines)
            if problem is not None:
                self._run.messages.warning(f"{name}: {self._words[0]} {problem}")

    def _problem_of(self, lines: bytes) -> str | None:
        try:
            ran = subprocess.run(
                self._words,
                input=lines,
                stdout=_stderr(),
                stderr=_stderr(),
                timeout=self._limit_s,
                start_new_session=True,  # Ctrl-C ends the watch, not what it has begun
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"was stopped after {self._limit_s:g} s"
        except OSError as exc:
            return f"does not start: {exc.strerror}"
        return f"ended with {ran.returncode}" if ran.returncode else None

    def __enter__(self) -> _Commands[T]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        """Wait for the commands of results that are written."""
        if n_waiting := self._waiting.qsize():
            self._run.messages.note(f"waiting for {counted(n_waiting, 'command')} of --exec")
        self._waiting.put(None)
        self._thread.join()


def _stderr() -> BinaryIO | int:
    """Where the output of a command goes: standard output is for results."""
    try:
        return sys.stderr.fileno()
    except (OSError, ValueError):
        return subprocess.DEVNULL


@dataclass(slots=True)
class _InHand:
    """A file that is being analysed."""

    stamp: Stamp
    parts: list[Place] = field(default_factory=list)


class _Watch(Generic[T]):
    """The state of a watch: what is in hand, and what is not to be tried again as it is."""

    def __init__(self, run: Run[T], output: Callable[[str], None], commands: _Commands[T]) -> None:
        self._run, self._output, self._commands = run, output, commands
        self._journal, self._engine, self._messages = run.journal, run.engine, run.messages
        self._in_hand: dict[str, _InHand] = {}
        self._known: dict[str, Stamp] = {}  # what the journal has, so that it need not be read again
        self._failed: dict[str, tuple[Stamp, Failure]] = {}
        self._n_done, self._seconds = 0, 0.0

    def go(self, folders: Folders, settling: Settling, stop: threading.Event) -> None:
        """Work until `stop` is set."""
        while not stop.is_set():
            names = folders.look()
            if names is not None:
                settling.see(name for name in names if name not in settling and self._is_wanted(name))
            while self._engine.has_room:
                found = settling.take()
                if found is None:
                    break
                name, stamp = found
                self._in_hand[name] = _InHand(stamp)
                self._engine.give(name, stamp.size)
            if self._engine.is_busy or not self._engine.has_room:
                self._engine.step(self._handle)
            else:
                folders.wait(TICK_S if len(settling) else 1.0)

    def _is_wanted(self, name: str) -> bool:
        """Whether a file has no result as it is now."""
        if name in self._in_hand:
            return False
        stamp = Stamp.of(name)
        if stamp is None or self._known.get(name) == stamp:
            return False
        if name in self._failed and self._failed[name][0] == stamp:
            return False
        if self._journal.has(name, stamp):
            self._known[name] = stamp
            return False
        return True

    def _handle(self, message: Message) -> None:
        if isinstance(message, Progress | Early):  # the latter only of pipes
            return
        if isinstance(message, Part):
            place = self._journal.add_part(message.name, message.body)
            self._in_hand[message.name].parts.append(place)
            return
        name, in_hand = message.name, self._in_hand.pop(message.name)
        if Stamp.of(name) != in_hand.stamp:
            self._messages.detail(f"{name}: gone or changed while it was analysed")
        elif isinstance(message, Failed):
            self._failed[name] = in_hand.stamp, message.failure
            if name in self._journal.names:  # as it was before: the next start drops its lines
                self._journal.forget([name])
            self._messages.failure(message.failure)
        else:
            self._failed.pop(name, None)
            self._known[name] = in_hand.stamp
            self._journal.add_done(name, in_hand.stamp, in_hand.parts, message.body)
            self._output(name)
            self._commands.start(name)
            self._n_done += 1
            self._seconds += message.summary.seconds

    def sum_up(self, settling: Settling) -> None:
        """Say what has been done, and list what failed."""
        failures = [failure for name, (_, failure) in self._failed.items() if os.path.lexists(name)]
        n_open = len(self._in_hand) + len(settling)
        audio = f"{counted(self._n_done, 'file')} analysed, {self._seconds:.0f} s of audio"
        failed = f", {len(failures)} failed" if failures else ""
        later = f"; {counted(n_open, 'file')} left for the next start" if n_open else ""
        self._messages.note(f"stopped: {audio}{failed}{later}")
        out = self._run.places.lists
        if self._run.places.files and out is not None:
            save_failures(failures, None, out, self._messages)
            save_warnings(self._run.reader.damage, out, self._messages)
