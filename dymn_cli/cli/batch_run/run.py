"""A run over many sources from the command line: engine, journal, progress, and how it ends.

`tag`, `embed` and `events` each say what is to be found out (`Job`) and how a result is written; the rest
of a run is the same and is here.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from dymn_cli.audio.discover import Found, share_of
from dymn_cli.batch.journal import Stamp
from dymn_cli.cli.batch_run.places import Places, journal_path
from dymn_cli.cli.batch_run.sources import found_sources, parse_size
from dymn_cli.errors import InputError, OutputError, PartialFailure, UsageError
from dymn_cli.writers.spelling import counted
from dymn_cli.writers.target import check_target, is_stdout

if TYPE_CHECKING:
    from dymn_cli.batch.job import Job, ModelDescription, Reader, Summary
    from dymn_cli.batch.journal import Journal
    from dymn_cli.batch.run import Engine, Outcome
    from dymn_cli.cli.options.groups import BatchOptions, FileOptions, OutputOptions
    from dymn_cli.cli.terminal.messages import Messages
    from dymn_cli.cli.terminal.progress import Tally
    from dymn_cli.results import Failure
    from dymn_cli.writers import Provenance
    from dymn_cli.writers.base import Writer
    from dymn_cli.writers.folder import Make, ResultFolder

T = TypeVar("T")

__all__ = ["Results", "Run", "dry_run", "finish", "open_run", "require_counts", "save_lists"]


MAX_FAILURES_TOLD = 20
FEW_FILES = 16
LONG_S = 10.0  # a run that takes longer is summed up, even if it is over a few files


def dry_run(inputs: FileOptions, batch: BatchOptions, talk: Messages) -> None:
    """Print the names of the inputs, a line each, as the bytes that they are.

    Raises:
        DymnError: a name leads to nothing, or as for a real run.
    """
    from dymn_cli.cli.batch_run.sources import print_names

    print_names(named_sources(inputs, batch.shard, talk)[1], talk)


def save_lists(
    outcome: Outcome, run: Run, inputs: FileOptions, places: Places, *, csv_safe: bool = False
) -> None:
    """List what failed and what is damaged beside a file of results: OUT.failures.csv, OUT.warnings.csv.

    A list that is named takes the failures instead. Lists of an earlier run that have nothing to say any
    more go.

    Raises:
        OutputError: one cannot be written.
    """
    from dymn_cli.cli.batch_run.sources import save_failures, save_warnings

    has_file = journal_path(places.lists) is not None and _is_worth_a_file(outcome)
    out = places.lists if has_file else None
    save_failures(outcome, inputs, out, run.talk, csv_safe=csv_safe)
    if out is not None:
        save_warnings(run.reader.damage, out, run.talk, csv_safe=csv_safe)


def _is_worth_a_file(outcome: Outcome) -> bool:
    """Whether the results are what was asked for: not those of a run that was cut short, or gave none."""
    return not (outcome.interrupted or outcome.stopped) and bool(outcome.n_results or outcome.is_complete)


def require_counts(jobs: int | None, threads: int | None) -> None:
    """Refuse to work with nobody.

    Raises:
        UsageError: less than one process, or less than one thread.
    """
    for option, number in (("--jobs", jobs), ("--threads", threads)):
        if number is not None and number < 1:
            raise UsageError(f"{option} must be at least 1, not {number}")


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """From "2/8" to (2, 8): the second of eight shares.

    Raises:
        UsageError: not of that form, or no such share.
    """
    if text is None:
        return None
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise UsageError(f"--shard {text!r}", hint="I/N: share I of N, counted from 1; for example 3/16")
    return int(index), int(count)


def named_sources(
    options: FileOptions, shard: str | None, talk: Messages, *, at_once: bool = False
) -> tuple[list[Found] | None, Iterator[Found]]:
    """The sources as a list where they can be listed beforehand, and to iterate over.

    A list of names that comes through a pipe is worked on as it comes, unless all must be known.

    Args:
        options: which sources.
        shard: "I/N", or None for all.
        talk: says which files of folders are left out.
        at_once: all must be known.

    Raises:
        UsageError: no input, or no such share.
    """
    share = parse_shard(shard)
    sources = found_sources(options, talk)
    comes_through_pipe = options.files_from is not None and not Path(options.files_from).is_file()
    if comes_through_pipe and not (at_once or share):
        return None, sources
    listed = list(sources)
    if share is not None:
        listed = share_of(listed, *share)
    return listed, iter(listed)


@dataclass(frozen=True, slots=True)
class Run:
    """All that a command needs while its results are written.

    Args:
        engine: who works.
        journal: what is done.
        reader: gives results back from the journal.
        provenance: what makes the results.
        sources: what is to be worked on.
        total: how many they are, where that is known.
        talk: the voice.
        to_file: results go to files, not to a stream.
        force: files of results may be replaced: that was asked for, or an earlier run has begun them.
        places: where results go.
        folder: of a file for each source, where that was asked for.
    """

    engine: Engine
    journal: Journal
    reader: Reader
    provenance: Provenance
    sources: Iterator[Found]
    total: int | None
    talk: Messages
    to_file: bool
    force: bool
    places: Places
    folder: ResultFolder | None = None

    @contextmanager
    def results(
        self, whole: Callable[[], AbstractContextManager[Writer[T]]], one: Make[T]
    ) -> Iterator[Results[T]]:
        """Where results are written: all into one place, or each into a file of its own.

        Args:
            whole: opens the writer of all results.
            one: from the stream of a file in the folder, and that of its index, to its writer.

        Raises:
            OutputError: it cannot be written.
        """
        folder = self.folder
        if folder is None:
            with whole() as writer:
                yield Results(lambda _: nullcontext(writer), writer.fail)
            return

        @contextmanager
        def noted(name: str) -> Iterator[Writer[T]]:
            with folder.writer(name, one) as inner:
                yield inner
            self._note_results(folder.path_of(name))

        yield Results(noted, lambda failure: folder.forget(failure.source))
        folder.complete(self.provenance)

    def _note_results(self, *paths: str) -> None:
        """Let the journal know its own results, so that a next run replaces no others."""
        if self.journal.is_kept:
            for path in paths:
                self.journal.add_result(path, Stamp.of(path))

    def go(
        self,
        write: Callable[[str], None],
        fail: Callable[[Failure], None],
        *,
        fail_fast: bool,
        results_on_terminal: bool,
        notes_in_result: bool,
    ) -> Outcome:
        """Work through the sources.

        Args:
            write: writes the result of a source.
            fail: writes that a source gave nothing.
            fail_fast: stop at the first that fails.
            results_on_terminal: no room for a progress bar beside them.
            notes_in_result: the written form shows the warnings of a source.
        """
        from dymn_cli.batch.run import Prefetcher, run

        with self.talk.progress(self.total, shared_with_results=results_on_terminal) as tally:
            watcher = _Watcher(
                self.talk,
                tally,
                single=self.total == 1,
                silent=notes_in_result,
                to_file=self.journal.is_kept,
            )
            outcome = run(
                Prefetcher(self.sources) if self.total is None else self.sources,
                self.engine,
                self.journal,
                write=write,
                fail=fail,
                watcher=watcher,
                fail_fast=fail_fast,
            )
        watcher.sum_up(outcome)
        return outcome

    def require_result(self, outcome: Outcome) -> None:
        """Leave a file of results unwritten where it would not be what was asked for.

        To be called while the target is still open: the journal learns what is about to appear. A stream
        has what it has.

        Raises:
            KeyboardInterrupt: the run was interrupted.
            DymnError: nothing could be done, or the run stopped at its first failure.
        """
        if not self.to_file:
            return
        if outcome.interrupted and self.journal.is_kept:
            if len(self.journal):
                of = "" if self.total is None else f" of {self.total}"
                self.talk.note(f"{len(self.journal)}{of} results kept; the same command goes on from there")
            else:
                self.talk.note("no input was done, so nothing is kept; the same command begins anew")
        if not _is_worth_a_file(outcome):
            finish(outcome, alone=self.total == 1)
        if self.journal.is_kept:
            for path in self.places.files:
                self.journal.add_result(path, None)

    def end(self, outcome: Outcome) -> None:
        """Close the journal: a run that is complete needs none, another can be continued."""
        if not outcome.is_complete:
            self._note_results(*self.places.files)
        self.journal.close(discard=outcome.is_complete)


@dataclass(frozen=True, slots=True)
class Results(Generic[T]):
    """Where results are written.

    Args:
        of: opens the writer for the result of a source.
        fail: takes that a source gave nothing.
    """

    of: Callable[[str], AbstractContextManager[Writer[T]]]
    fail: Callable[[Failure], None]


class _Watcher:
    """Says what happens while it happens."""

    def __init__(self, talk: Messages, tally: Tally, *, single: bool, silent: bool, to_file: bool) -> None:
        self._talk = talk
        self._tally = tally
        self._single = single
        self._silent = silent
        self._most_told = MAX_FAILURES_TOLD if to_file and not talk.verbosity else None
        self._n_noted = 0

    def kept(self, name: str) -> None:
        self._tally.kept()
        self._talk.detail(f"{name}: was there already")

    def done(self, name: str, summary: Summary) -> None:
        self._tally.advance(name, summary.seconds)
        if not summary.warnings:
            return
        self._n_noted += 1
        if (self._single or self._talk.verbosity) and not self._silent:
            for text in summary.warnings:
                self._talk.note(f"{name}: {text}")

    def failed(self, failure: Failure) -> None:
        self._tally.advance(failure.source, 0.0, failed=True)
        if self._single:
            return
        if self._most_told is None or self._tally.n_failed <= self._most_told:
            self._talk.failure(failure)
        elif self._tally.n_failed == self._most_told + 1:
            self._talk.note("more failures are counted here and listed in the end")

    def within(self, name: str, seconds: float, of_s: float | None) -> None:
        self._tally.within(name, seconds, of_s)

    def sum_up(self, outcome: Outcome) -> None:
        """What is worth saying at the end."""
        if outcome.n_kept:
            there = "was" if outcome.n_kept == 1 else "were"
            new = "is" if outcome.n_done == 1 else "are"
            self._talk.note(
                f"{counted(outcome.n_kept, 'result')} {there} there already, {outcome.n_done} {new} new"
            )
        if self._n_noted and not (self._single or self._talk.verbosity or self._silent):
            self._talk.note(
                f"{self._n_noted} of {outcome.n_done} results carry notes; -v shows them, jsonl holds them"
            )
        if self._tally.n_done > FEW_FILES or (self._tally.n_done > 1 and self._tally.elapsed_s > LONG_S):
            self._talk.note(self._tally.summary())


@contextmanager
def open_run(
    job: Job,
    inputs: FileOptions,
    output: OutputOptions,
    batch: BatchOptions,
    talk: Messages,
    *,
    threads: int | None,
    describe: Callable[[ModelDescription], Provenance],
    one_source_format: str | None = None,
    places: Places | None = None,
) -> Iterator[Run]:
    """Find the sources, load the model, open the journal.

    Args:
        job: what to find out.
        inputs: which sources.
        output: where to.
        batch: how many workers, and whether to continue.
        talk: the voice.
        threads: of this process, where no workers are needed.
        describe: what made the result, once the model is known.
        one_source_format: the format of the result, where it can hold one source only.
        places: where results go, where there is more to say than `output` does.

    Raises:
        UsageError, ModelError, OutputError: see the parts.
    """
    from dymn_cli.batch.job import Reader
    from dymn_cli.batch.journal import Journal
    from dymn_cli.batch.run import open_engine
    from dymn_cli.cli.batch_run.fingerprint import fingerprint_of
    from dymn_cli.tagging.aggregate import Selection
    from dymn_cli.tagging.tagger import usable_cores
    from dymn_cli.writers import several_sources
    from dymn_cli.writers.folder import ResultFolder

    require_counts(batch.jobs, threads)
    if batch.limit_per_file is not None and not batch.limit_per_file > 0:
        raise UsageError(f"--limit-per-file must be more than 0 s, not {batch.limit_per_file:g}")
    places = places or Places(output.out)
    job = dataclasses.replace(job, max_input=parse_size(inputs.max_input))
    path = places.journal
    continues = batch.resume and path is not None and path.is_file()
    at_once = places.folder is not None or continues
    listed, sources = named_sources(inputs, batch.shard, talk, at_once=at_once)
    if one_source_format is not None:
        listed = list(islice(sources, 2))
        if len(listed) > 1:
            raise several_sources(one_source_format)
        sources = iter(listed)
    folder = None
    if places.folder is not None:
        folder = ResultFolder(places.folder, places.format_name, listed or ())
    if not (output.force or continues):
        _require_free(places, folder)
    names = None if listed is None else [found.name for found in listed]
    engine = open_engine(
        job, names, jobs=batch.jobs or usable_cores(), threads=threads, limit_s=batch.limit_per_file
    )
    try:
        description = engine.description
        provenance = dataclasses.replace(describe(description), share=parse_shard(batch.shard))
        Selection(job.options, description.vocabulary)  # an unknown label is said before any work is done
        if path is None:
            journal = Journal.temporary()
        else:
            if folder is not None:
                folder.prepare()
            journal = Journal.open(path, fingerprint_of(job, provenance), start_over=not batch.resume)
        with journal:
            if path is not None:  # also where another run has begun and ended it since we looked
                _require_same_run(journal, places, folder, names or (), force=output.force)
            reader = Reader(journal, job, description)
            total = None if listed is None else len(listed)
            to_file = path is not None
            force = output.force or any(map(journal.knows, places.files))
            yield Run(
                engine, journal, reader, provenance, sources, total, talk, to_file, force, places, folder
            )
    finally:
        engine.close()


def _require_same_run(
    journal: Journal, places: Places, folder: ResultFolder | None, names: Sequence[str], *, force: bool
) -> None:
    """See that going on from a journal loses no result: of other inputs, or of anybody else.

    Raises:
        OutputError: the journal has results of inputs that are not among these, or a file of results is not
            the one that it knows.
    """
    # What came through standard input then is not what comes now.
    gone = sorted(set(journal.names) - (set(names) - {"-"}), key=os.fsencode)
    if force:
        journal.forget(gone)
        return
    if gone:
        what = counted(len(gone), "input")
        raise OutputError(
            f"{places.folder or places.lists}: an earlier run has results of {what} that are not given now:"
            f" {gone[0]}{', ...' if len(gone) > 1 else ''}",
            hint="give them again as well to go on, --force replaces those results, or choose another place",
        )
    for out in places.files:
        if not journal.is_ours(out) and os.path.lexists(out):
            raise OutputError(
                f"{out}: the file is not the one that the earlier run wrote", hint="--force replaces it"
            )
    if folder is not None:
        done = set(journal.names)

        def may_replace(name: str, path: str) -> bool:
            if not name:
                return len(done) > 0
            return name in done and (journal.is_ours(path) or not journal.knows(path))

        folder.check(may_replace)


def _require_free(places: Places, folder: ResultFolder | None) -> None:
    """Say that there is a result already, before the journal that could make it is touched."""
    if folder is not None:
        folder.check()
    for out in (None if is_stdout(places.out) else places.out, places.embeddings):
        if out is not None:
            check_target(out)


def finish(outcome: Outcome, *, alone: bool = True) -> None:
    """End the command with the exit code of the contract: 130, 6, the failure's own, or 0.

    Args:
        outcome: how the run went.
        alone: a single failure is that of the only source, and has not been told yet.

    Raises:
        KeyboardInterrupt: the run was interrupted.
        PartialFailure: some sources failed, others did not.
        InputError: nothing could be read.
    """
    if outcome.interrupted:
        raise KeyboardInterrupt
    if not outcome.failures:
        return
    total = outcome.n_results + len(outcome.failures)
    if outcome.n_results and outcome.stopped:
        raise PartialFailure(f"stopped at an input that failed, after {counted(outcome.n_results, 'result')}")
    if outcome.n_results:
        raise PartialFailure(f"{len(outcome.failures)} of {total} inputs failed")
    if total == 1 and alone:
        first = outcome.failures[0]
        error = InputError(first.message, hint=first.hint)
        error.exit_code = first.exit_code
        raise error
    raise InputError("stopped at the first input" if outcome.stopped else "no input could be read")
