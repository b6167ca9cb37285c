"""From the input options to sources, and one loop over them that every command shares.

A source that fails costs itself only: it is told on stderr, handed to the writer, listed in the file of
failures, and remembered for the exit code. Ctrl-C ends the loop between two sources, so that what was
written so far is closed properly.
"""

from __future__ import annotations

import atexit
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from dymn_cli.audio.discover import Found, SkippedFiles, find, parse_extensions, read_names
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.streams import is_terminal
from dymn_cli.errors import AudioNotFoundError, InputError, PartialFailure, UsageError
from dymn_cli.tagging.failure import failure_of
from dymn_cli.writers.beside import failures_of, warnings_of
from dymn_cli.writers.spelling import counted
from dymn_cli.writers.target import is_stdout

if TYPE_CHECKING:
    from dymn_cli.audio.decode import Source
    from dymn_cli.cli.options.groups import FileOptions
    from dymn_cli.results import Failure

__all__ = [
    "Outcome",
    "Worked",
    "found_sources",
    "open_source",
    "parse_size",
    "print_names",
    "save_failures",
    "save_warnings",
    "work_through",
]


SIZE = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?) ?(?P<unit>[kKMGT]?)B?")


class HasFailures(Protocol):
    """The end of any run."""

    @property
    def failures(self) -> list[Failure]:
        """What is told of each source that gave nothing."""
        ...


@dataclass(slots=True)
class Outcome:
    """How a run over many sources went.

    Args:
        n_done: sources that gave a result.
        n_warned: those of them whose result carries notes.
        failures: what is told of the others.
        first_error: why the first of them failed.
        alone: there is one source only, whose failure is the failure of the run.
        stopped: at the first failure, as was asked for.
        interrupted: by Ctrl-C.
    """

    n_done: int = 0
    n_warned: int = 0
    failures: list[Failure] = field(default_factory=list)
    first_error: InputError | None = None
    alone: bool = False
    stopped: bool = False
    interrupted: bool = False

    def add_failure(self, name: str, error: InputError) -> Failure:
        """Note that a source gave nothing, and return what is told of it."""
        failure = failure_of(name, error)
        self.failures.append(failure)
        self.first_error = self.first_error or error
        return failure

    def raise_for_exit(self) -> None:
        """End the command with the exit code of the contract: 130, 6, 3 or 0.

        Raises:
            KeyboardInterrupt: the run was interrupted.
            PartialFailure: some sources failed, others did not.
            InputError: nothing could be read.
        """
        if self.interrupted:
            raise KeyboardInterrupt
        if self.first_error is None:
            return
        if self.alone:
            raise self.first_error
        if self.n_done and self.stopped:
            raise PartialFailure(f"stopped at an input that failed, after {self.n_done} that did not")
        if self.n_done:
            total = self.n_done + len(self.failures)
            raise PartialFailure(f"{len(self.failures)} of {total} inputs failed")
        raise InputError("stopped at the first input" if self.stopped else "no input could be read")


def found_sources(options: FileOptions, talk: Messages) -> Iterator[Found]:
    """The sources that the options name, in order; names in a list are read as they come.

    Args:
        options: which sources.
        talk: says, after the last one, which files of folders are left out.

    Raises:
        UsageError: no input at all, standard input asked for twice or from a terminal, or a bad suffix list.
        OutputError: the file of failures cannot be written.
    """
    extensions = parse_extensions(options.ext)
    if options.null and options.files_from is None:
        raise UsageError("-0 is about the names in --files-from", hint="give --files-from FILE or -")
    wants_stdin = [
        name for name in ("-" if "-" in options.inputs else None, options.files_from) if name == "-"
    ]
    if len(wants_stdin) > 1:
        raise UsageError("standard input cannot be both the audio and the list of names")
    if wants_stdin and sys.stdin is None:
        raise UsageError("standard input is closed", hint="give the name of a file")
    if wants_stdin and is_terminal(sys.stdin):
        hint = "pipe audio into dymn, or give the name of a file"
        if options.files_from == "-":
            hint = "pipe names into dymn, a line each, or name the file that has them"
        raise UsageError("standard input is a terminal", hint=hint)
    if not options.inputs and options.files_from is None:
        raise UsageError("no input", hint="give files, folders or - for standard input; dymn demo needs none")
    if options.failures is not None and not is_stdout(options.failures):
        from dymn_cli.writers import check_target
        from dymn_cli.writers.lists import FAILURES

        FAILURES.require_replaceable(options.failures)
        check_target(options.failures, force=True)
    return _found(options, extensions, talk)


def _found(options: FileOptions, extensions: frozenset[str] | None, talk: Messages) -> Iterator[Found]:
    listing, n_listed = options.files_from, 0

    def names() -> Iterator[str]:
        nonlocal n_listed
        with nullcontext() if listing is None else _open_list(listing) as stream:
            yield from options.inputs
            if stream is not None:
                for name in read_names(stream, null=options.null):
                    n_listed += 1
                    yield name

    skipped = SkippedFiles()
    yield from find(names(), extensions=extensions, recurse=options.recurse, skipped=skipped)
    for text, hint in skipped.sentences():
        talk.warning(text, hint)
    if listing is not None and not n_listed:
        yield Found(listing, InputError(f"{listing}: no names in this list"))


@contextmanager
def _open_list(path: str) -> Iterator[BinaryIO]:
    try:
        if path == "-":
            yield _unlocked(sys.stdin.buffer)
        else:
            with Path(path).open("rb") as stream:
                yield stream
    except OSError as exc:
        raise InputError(f"{path}: {(exc.strerror or str(exc)).lower()}") from exc


def _unlocked(stream: BinaryIO) -> BinaryIO:
    """What a thread may wait for while the program ends, which a buffer that is locked meanwhile forbids."""
    return getattr(stream, "raw", stream)


def parse_size(text: str | None) -> int | None:
    """From "20G" to 20,000,000,000 bytes: k, M, G and T are powers of 1000.

    Raises:
        UsageError: it is no size.
    """
    if text is None:
        return None
    found = SIZE.fullmatch(text.strip())
    if found is None or not float(found["number"]):
        raise UsageError(f"--max-input {text!r} is no size", hint="for example 500M or 20G")
    return int(float(found["number"]) * 1000 ** " KMGT".index(found["unit"].upper() or " "))


def open_source(name: str, *, most_bytes: int | None = None) -> Source:
    """What is to be read: a seekable copy of standard input for "-", else the path itself."""
    if name != "-":
        return name
    from dymn_cli.batch.job import standard_input

    copy = standard_input(most_bytes=most_bytes)
    atexit.register(copy.close)  # there is one standard input: its copy may live as long as the program
    return copy


def work_through(
    sources: Iterator[Found],
    options: FileOptions,
    talk: Messages,
    *,
    work: Callable[[str], Worked],
    fail: Callable[[Failure], None],
    results_on_terminal: bool,
) -> Outcome:
    """Work on every source in order.

    Args:
        sources: what `found_sources` gave.
        options: how to go on after a failure.
        talk: says what fails.
        work: does one source, by name, and writes its result.
        fail: writes that a source gave nothing.
        results_on_terminal: results are printed to the terminal, so no progress bar fits there.
    """
    outcome = Outcome()
    total = None
    try:
        if options.files_from is None:  # a list of names is worked on while it comes
            listed = list(sources)
            sources, total = iter(listed), len(listed)
        outcome.alone = total == 1
        with talk.progress(total, shared_with_results=results_on_terminal) as progress:
            for found in sources:
                seconds = _work_on(found, work, fail, outcome, talk)
                progress.advance(found.name, seconds)
                if outcome.failures and options.fail_fast:
                    outcome.stopped = True
                    break
    except KeyboardInterrupt:
        outcome.interrupted = True
    if outcome.n_warned and not outcome.alone and not talk.verbosity:
        talk.note(
            f"{outcome.n_warned} of {outcome.n_done} results carry notes; -v shows them, jsonl holds them"
        )
    return outcome


def _work_on(
    found: Found,
    work: Callable[[str], Worked],
    fail: Callable[[Failure], None],
    outcome: Outcome,
    talk: Messages,
) -> float:
    """Work on one source; returns its seconds of audio."""
    try:
        if found.problem is not None:
            raise found.problem
        worked = work(found.name)
    except InputError as error:
        failure = outcome.add_failure(found.name, error)
        fail(failure)
        if not outcome.alone:
            talk.failure(failure, error)
        return 0.0
    outcome.n_done += 1
    _tell_warnings(worked, found.name, outcome, talk)
    return worked.seconds


@dataclass(frozen=True, slots=True)
class Worked:
    """What a command tells of a source that it is done with."""

    seconds: float
    warnings: tuple[str, ...]
    already_shown: bool = False


def _tell_warnings(worked: Worked, name: str, outcome: Outcome, talk: Messages) -> None:
    if not worked.warnings:
        return
    outcome.n_warned += 1
    if (outcome.alone or talk.verbosity) and not worked.already_shown:
        for text in worked.warnings:
            talk.note(f"{name}: {text}")


def save_failures(
    outcome: HasFailures, options: FileOptions, out: str | None, talk: Messages, *, csv_safe: bool = False
) -> None:
    """List the failures in a file: the one that is named, or OUT.failures.csv beside a file of results.

    Args:
        outcome: what failed.
        options: may name a file.
        out: the file of results, where there is one.
        talk: says where the list is.
        csv_safe: see `write_failures`.

    Raises:
        OutputError: the list cannot be written.
    """
    from dymn_cli.writers import write_failures

    beside = None if out is None else failures_of(out)
    path = options.failures or (beside if outcome.failures else None)
    if path is not None:
        write_failures(path, outcome.failures, force=True, csv_safe=csv_safe)
        if outcome.failures:
            talk.note(f"what failed is listed in {path}")
    if beside is not None and not outcome.failures:
        Path(beside).unlink(missing_ok=True)  # of an earlier run, whose results are replaced


def save_warnings(
    damage: Mapping[str, tuple[str, ...]], out: str, talk: Messages, *, csv_safe: bool = False
) -> None:
    """List in OUT.warnings.csv what could not be decoded of sources that gave a result.

    Args:
        damage: what is wrong with each source, by its name.
        out: the file of results.
        talk: says where the list is.
        csv_safe: see `write_warnings`.

    Raises:
        OutputError: the list cannot be written.
    """
    from dymn_cli.writers import write_warnings

    path = warnings_of(out)
    if damage:
        write_warnings(path, damage, force=True, csv_safe=csv_safe)
        talk.note(f"{counted(len(damage), 'input')} could be read in part only: {path}")
    else:
        Path(path).unlink(missing_ok=True)  # of an earlier run, whose results are replaced


def print_names(sources: Iterator[Found], talk: Messages) -> None:
    """Print the names of the inputs, a line each, as the bytes that they are.

    Raises:
        InputError, PartialFailure: names that lead to nothing, after all others are printed; as for a run.
        OutputError: standard output takes no more.
    """
    from dymn_cli.writers.spelling import name_bytes
    from dymn_cli.writers.target import open_target

    outcome = Outcome()
    with open_target(None) as target:
        for found in sources:
            problem = found.problem or _why_not_there(found.name)
            if problem is None:
                target.stream.write(name_bytes(found.name) + b"\n")
                outcome.n_done += 1
            else:
                outcome.add_failure(found.name, problem)
    outcome.alone = outcome.n_done + len(outcome.failures) == 1
    if not outcome.alone:
        for failure in outcome.failures:
            talk.failure(failure)
    outcome.raise_for_exit()


def _why_not_there(name: str) -> InputError | None:
    """Why nothing can be read by that name, as far as is known without reading."""
    if name == "-" or os.access(name, os.R_OK):
        return None
    what = "no permission to read it"
    try:
        os.stat(name)  # noqa: PTH116 - names may be bytes that no Path holds
    except FileNotFoundError:
        what = "no such file"
    except OSError:
        pass  # its folder may not be searched
    return AudioNotFoundError(f"{name}: {what}")
