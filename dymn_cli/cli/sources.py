"""From the input options to sources, and one loop over them that every command shares.

A source that fails costs itself only: it is told on stderr, handed to the writer, listed in the file of
failures, and remembered for the exit code. Ctrl-C ends the loop between two sources, so that what was
written so far is closed properly.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dymn_cli.batch.discover import Found, find, parse_extensions, read_names
from dymn_cli.cli.console import Talk, is_terminal
from dymn_cli.errors import DymnError, InputError, PartialFailure, UsageError

if TYPE_CHECKING:
    from dymn_cli.audio.decode import Source
    from dymn_cli.cli.params import InputOptions
    from dymn_cli.results import Failure

__all__ = [
    "Outcome",
    "Worked",
    "dry_run",
    "found_sources",
    "open_source",
    "save_failures",
    "work_through",
]


@dataclass(slots=True)
class Outcome:
    """How a run over many sources went."""

    n_done: int = 0
    n_warned: int = 0
    failures: list[Failure] = field(default_factory=list)
    interrupted: bool = False

    def require_complete(self, out: str | None, *, fail_fast: bool) -> None:
        """Leave a file of results unwritten where it would not hold what was asked for.

        To be called while the target is still open; standard output has what it has.

        Raises:
            KeyboardInterrupt: the run was interrupted.
            DymnError: nothing could be done, or the run stopped at its first failure.
        """
        if out in (None, "-"):
            return
        if self.interrupted or (self.failures and (fail_fast or not self.n_done)):
            self.raise_for_exit()

    def raise_for_exit(self) -> None:
        """End the command with the exit code of the contract: 130, 6, the failure's own, or 0.

        Raises:
            KeyboardInterrupt: the run was interrupted.
            PartialFailure: some sources failed, others did not.
            DymnError: nothing could be done; with the code of the first failure, already told.
        """
        if self.interrupted:
            raise KeyboardInterrupt
        if not self.failures:
            return
        total = self.n_done + len(self.failures)
        if self.n_done:
            raise PartialFailure(f"{len(self.failures)} of {total} inputs failed")
        error = InputError("no input could be read" if total > 1 else self.failures[0].message)
        error.exit_code = self.failures[0].exit_code
        raise error


def found_sources(options: InputOptions) -> Iterator[Found]:
    """The sources that the options name, in order; names in a list are read as they come.

    Raises:
        UsageError: no input at all, standard input asked for twice or from a terminal, or a bad suffix list.
    """
    extensions = parse_extensions(options.ext)
    if options.null and options.files_from is None:
        raise UsageError("-0 is about the names in --files-from", hint="give --files-from FILE or -")
    wants_stdin = [
        name for name in ("-" if "-" in options.inputs else None, options.files_from) if name == "-"
    ]
    if len(wants_stdin) > 1:
        raise UsageError("standard input cannot be both the audio and the list of names")
    if wants_stdin and is_terminal(sys.stdin):
        raise UsageError(
            "standard input is a terminal", hint="pipe audio into dymn, or give the name of a file"
        )
    if not options.inputs and options.files_from is None:
        raise UsageError("no input", hint="give files, folders or - for standard input; dymn demo needs none")
    return _found(options, extensions)


def _found(options: InputOptions, extensions: frozenset[str] | None) -> Iterator[Found]:
    def names() -> Iterator[str]:
        yield from options.inputs
        if options.files_from is not None:
            with _open_list(options.files_from) as stream:
                yield from read_names(stream, null=options.null)

    return find(names(), extensions=extensions, recurse=options.recurse)


@contextmanager
def _open_list(path: str) -> Iterator[BinaryIO]:
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = Path(path).open("rb")  # noqa: SIM115 - closed below
    except OSError as exc:
        raise InputError(f"{path}: {exc.strerror or exc}") from exc
    with stream:
        yield stream


def open_source(name: str) -> Source:
    """What the tagger is to read: standard input for "-", made seekable, else the path itself."""
    if name != "-":
        return name
    from dymn_cli.audio.decode import spool

    return spool(sys.stdin.buffer)


def work_through(
    sources: Iterator[Found],
    options: InputOptions,
    talk: Talk,
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
    from dymn_cli.tagging.tagger import failure_of

    outcome = Outcome()
    listed: list[Found] | None = None
    if options.files_from is None:
        listed = list(sources)
        sources = iter(listed)
    total = None if listed is None else len(listed)
    single = total == 1
    with talk.progress(total, shared_with_results=results_on_terminal) as progress:
        try:
            for found in sources:
                try:
                    if found.problem is not None:
                        raise found.problem
                    worked = work(found.name)
                except InputError as error:
                    failure = failure_of(found.name, error)
                    outcome.failures.append(failure)
                    fail(failure)
                    if not single:
                        talk.failure(failure)
                    if options.fail_fast:
                        break
                    progress.advance(found.name, 0.0)
                else:
                    outcome.n_done += 1
                    _tell_warnings(worked, found.name, outcome, talk, single=single)
                    progress.advance(found.name, worked.seconds)
        except KeyboardInterrupt:
            outcome.interrupted = True
    if outcome.n_warned and not single and not talk.verbosity:
        talk.note(
            f"{outcome.n_warned} of {outcome.n_done} results carry notes; -v shows them, jsonl holds them"
        )
    return outcome


@dataclass(frozen=True, slots=True)
class Worked:
    """What a command tells of a source that it is done with."""

    seconds: float
    warnings: tuple[str, ...]
    already_shown: bool = False


def _tell_warnings(worked: Worked, name: str, outcome: Outcome, talk: Talk, *, single: bool) -> None:
    if not worked.warnings:
        return
    outcome.n_warned += 1
    if (single or talk.verbosity) and not worked.already_shown:
        for text in worked.warnings:
            talk.note(f"{name}: {text}")


def save_failures(outcome: Outcome, options: InputOptions, out: str | None, talk: Talk) -> None:
    """List the failures in a file: the one that is named, or OUT.failures.csv beside a file of results."""
    path = options.failures
    if path is None and outcome.failures and out not in (None, "-"):
        path = f"{out}.failures.csv"
    if path is None:
        return
    from dymn_cli.writers import write_failures

    write_failures(path, outcome.failures, force=True)
    if outcome.failures:
        talk.note(f"{len(outcome.failures)} failures are listed in {path}")


def dry_run(sources: Iterator[Found]) -> None:
    """Print the names of the inputs, a line each, as the bytes that they are.

    Raises:
        DymnError: a name leads to nothing.
    """
    from dymn_cli.writers.spelling import name_bytes

    problem: DymnError | None = None
    for found in sources:
        if found.problem is not None:
            problem = problem or found.problem
            continue
        sys.stdout.buffer.write(name_bytes(found.name) + b"\n")
    sys.stdout.buffer.flush()
    if problem is not None:
        raise problem
