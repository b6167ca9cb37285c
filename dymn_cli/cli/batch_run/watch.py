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
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from dymn_cli.batch.journal import Place, Stamp
from dymn_cli.batch.pool import Early, Failed, Message, Part, Progress
from dymn_cli.cli.batch_run.run import Run, open_model
from dymn_cli.cli.batch_run.update import require_known
from dymn_cli.cli.batch_run.watcher import save_failures, save_warnings
from dymn_cli.cli.hooks import Hooks
from dymn_cli.cli.signals import stop_on_signals
from dymn_cli.errors import OutputError, os_error_text, os_errors_as
from dymn_cli.values import counted

if TYPE_CHECKING:
    from dymn_cli.cli.batch_run.analysis import Analysis
    from dymn_cli.cli.batch_run.places import Places
    from dymn_cli.cli.options.groups import ExecOptions, WorkOptions
    from dymn_cli.cli.terminal.messages import Messages
    from dymn_cli.results import Failure
    from dymn_cli.watching.folders import Folders
    from dymn_cli.watching.settling import Settling
    from dymn_cli.writers.base import Writer

T = TypeVar("T")

__all__ = ["LINE_FORMATS", "watch_folders"]

LINE_FORMATS = ("csv", "tsv", "jsonl")
TICK_S = 0.2


def watch_folders(
    analysis: Analysis[T],
    folders: Folders,
    settling: Settling,
    places: Places,
    work: WorkOptions,
    hook: ExecOptions,
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
        work: who works.
        hook: the command for each result.
        messages: says what fails, and the summary.
        threads: of each worker.

    Raises:
        DymnError: an option makes no sense, the model cannot be loaded, or the result cannot be written.
    """
    require_known(places, "dymn watch")
    places.check(None)
    if not (places.force or (work.resume and places.journal is not None and places.journal.is_file())):
        places.require_free(None)
    with contextlib.ExitStack() as stack:
        hooks = stack.enter_context(_open_hooks(hook, messages))
        opened = open_model(analysis, work, messages, places, job=analysis.job, threads=threads)
        run = dataclasses.replace(stack.enter_context(opened), force=True)  # _AppendedFile has looked
        if places.journal is not None:
            run.journal.make_lasting()
        stop = threading.Event()
        stack.enter_context(stop_on_signals(stop.set))
        output = stack.enter_context(_open_output(run))
        stack.enter_context(folders)
        watch = _Watch(run, output, hooks)
        messages.note(f"watching {', '.join(folders.names)}; Ctrl-C ends")
        watch.go(folders, settling, stop)
        watch.sum_up(settling)


@contextlib.contextmanager
def _open_hooks(hook: ExecOptions, messages: Messages) -> Iterator[Hooks | None]:
    """The command that each result is handed to; in the end, those of all results are waited for."""
    if hook.exec_ is None:
        yield None
        return
    hooks = Hooks(hook.exec_, hook.timeout_s, messages.warning)
    try:
        yield hooks
    finally:
        if hooks.n_waiting:
            messages.note(f"waiting for {counted(hooks.n_waiting, 'command')} of --exec")
        hooks.close()


def _write(run: Run[T], name: str, writer: Writer[T]) -> None:
    for result in run.analysis.read(run.reader, name):
        writer.write(result)


def _lines_of(run: Run[T], name: str) -> bytes:
    lines = io.BytesIO()
    _write(run, name, run.analysis.file_writer(run, lines, None))
    return lines.getvalue()


@contextlib.contextmanager
def _open_output(run: Run[T]) -> Iterator[Callable[[str], None]]:
    """What writes the result of a source at once."""
    if not run.places.files:
        with run.analysis.open_writer(run) as writer:
            yield lambda name: _write(run, name, writer)
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
        with (
            os_errors_as(OutputError, self._path),
            tempfile.TemporaryFile() as whole,
            open(self._path, "rb") as file,  # noqa: PTH123
        ):
            writer = self._run.analysis.file_writer(self._run, whole, None)
            writer.begin()
            for name in self._run.journal.names:
                _write(self._run, name, writer)
            whole.seek(0)
            while block := file.read(1 << 20):
                if whole.read(len(block)) != block:
                    return False
        return True

    def _write_all(self) -> None:
        """Write the whole file from the journal: header, results in the order in which they came."""
        run, names = self._run, list(self._run.journal.names)
        run.journal.add_result(self._path, None)
        with run.analysis.open_writer(run) as writer:
            for name in names:
                _write(run, name, writer)
        run.journal.add_result(self._path, Stamp.of(self._path))
        self._written, self._n_overruled = set(names), 0

    def _open(self) -> io.FileIO:
        with os_errors_as(OutputError, self._path):
            return io.FileIO(self._path, "a")

    def append(self, name: str) -> None:
        """Append the lines of a source, all or none.

        Raises:
            OutputError: the disk is full, or the file has been moved or replaced.
        """
        lines = _lines_of(self._run, name)
        journal, number = self._run.journal, self._file.fileno()
        if not self._is_in_place():
            raise OutputError(
                f"{self._path}: moved or replaced while it was written", hint="the next start writes it again"
            )
        size = os.fstat(number).st_size
        journal.add_result(self._path, None)
        try:
            rest = memoryview(lines)
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


@dataclass(slots=True)
class _InHand:
    """A file that is being analysed."""

    stamp: Stamp
    parts: list[Place] = field(default_factory=list)


class _Watch(Generic[T]):
    """The state of a watch: what is in hand, and what is not to be tried again as it is."""

    def __init__(self, run: Run[T], output: Callable[[str], None], hooks: Hooks | None) -> None:
        self._run, self._output, self._hooks = run, output, hooks
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
            if self._hooks is not None:
                places = dataclasses.replace(self._run.places, format_name="jsonl")
                self._hooks.submit(_lines_of(dataclasses.replace(self._run, places=places), name), name)
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
