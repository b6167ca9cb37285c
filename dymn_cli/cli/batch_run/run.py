"""The driver of batch runs: sources, engine, journal, progress, results, and how it all ends.

What is found out, and how it is written, is an `Analysis`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from dymn_cli.audio.discover import Found
from dymn_cli.batch.job import EarlyResult, Reader
from dymn_cli.batch.journal import KEPT, Journal, Stamp
from dymn_cli.batch.run import Engine, Outcome, open_engine, run
from dymn_cli.cli.batch_run.fingerprint import fingerprint_of
from dymn_cli.cli.batch_run.places import Places, journal_path
from dymn_cli.cli.batch_run.sources import named_sources, parse_shard, parse_size, print_names
from dymn_cli.cli.batch_run.update import keep_or_prune, prune_files, require_updatable
from dymn_cli.cli.batch_run.watcher import Watcher, finish, save_failures, save_warnings
from dymn_cli.cores import usable_cores
from dymn_cli.errors import DISK_FULL, OutputError, UsageError
from dymn_cli.prefetch import Prefetcher
from dymn_cli.store.local import os_errors
from dymn_cli.tagging.selection import Selection
from dymn_cli.values import counted
from dymn_cli.writers import ONE_SOURCE, several_sources
from dymn_cli.writers.folder import ResultFolder
from dymn_cli.writers.target import input_guard, is_there, require_distinct

if TYPE_CHECKING:
    from rich.console import Console

    from dymn_cli.batch.job import Job, ModelDescription
    from dymn_cli.cli.batch_run.analysis import Analysis
    from dymn_cli.cli.options.groups import (
        BatchOptions,
        FileOptions,
        ResultOptions,
        UpdateOptions,
        WorkOptions,
    )
    from dymn_cli.cli.terminal.messages import Messages
    from dymn_cli.results import Failure
    from dymn_cli.writers import Provenance
    from dymn_cli.writers.base import Writer

T = TypeVar("T")
StartOf = Callable[[str], datetime | None]
"""Says when a recording began."""

__all__ = ["Run", "StartOf", "open_model", "open_run", "require_counts", "write_results"]


def write_results(
    analysis: Analysis[T],
    inputs: FileOptions,
    output: ResultOptions,
    batch: UpdateOptions,
    messages: Messages,
    *,
    threads: int | None = None,
) -> None:
    """Analyse all inputs and write the results.

    Args:
        analysis: what to find out, and how it is written.
        inputs: which sources.
        output: where to.
        batch: how many workers, and whether to continue or to add to a finished result.
        messages: what the run says.
        threads: of this process, where no workers are needed.

    Raises:
        DymnError: nothing was done, or not everything.
        KeyboardInterrupt: the run was interrupted.
    """
    if inputs.dry_run:
        _, sources = named_sources(inputs, batch.shard, messages, without=analysis.cut_folder)
        print_names(sources, messages, null=inputs.null)
        return
    if batch.engine != "local" or batch.ray_address is not None:
        from dymn_cli.cli.batch_run.cluster import write_dataset

        write_dataset(analysis, inputs, output, batch, messages, threads=threads)
        return
    places = Places.choose(output, analysis.formats, analysis.embed)
    require_updatable(batch, inputs, places)
    places.check(inputs.failures)
    opened = open_run(
        analysis, inputs, batch, messages, places, threads=threads, update=batch.update, prune=batch.prune
    )
    with opened as run:
        with run.results() as results, analysis.beside(run) as write_beside:
            early: set[str] = set()

            def write(name: str) -> None:
                if name not in early:
                    with results.of(name) as writer:
                        for result in analysis.read(run.reader, name):
                            writer.write(result)
                write_beside(name)

            def write_early(name: str, result: EarlyResult) -> None:
                early.add(name)
                with results.of(name) as writer:
                    writer.write(cast("T", result))

            is_stream = not places.files and places.folder is None
            outcome = run.go(
                write,
                results.fail,
                fail_fast=inputs.fail_fast,
                write_early=write_early if is_stream and analysis.writes_early(places.format_name) else None,
            )
            run.save_lists(outcome, inputs.failures, csv_safe=output.csv_safe)
            run.require_result(outcome)
        if batch.prune and run.folder is not None:
            prune_files(run.journal, run.folder, messages)
        run.end(outcome)
    run.finish(outcome)


def _has_results(outcome: Outcome) -> bool:
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


@dataclass(frozen=True, slots=True)
class Run(Generic[T]):
    """A run whose sources are found and whose model is loaded.

    Args:
        analysis: what is found out, and how it is written.
        engine: who works.
        journal: what is done.
        reader: gives results back from the journal.
        provenance: what makes the results.
        sources: what is to be worked on.
        total: how many they are, where that is known.
        messages: what the run says.
        places: where results go.
        force: files of results may be replaced: that was asked for, or an earlier run has begun them.
        folder: of a file for each source, where that was asked for.
    """

    analysis: Analysis[T]
    engine: Engine
    journal: Journal
    reader: Reader
    provenance: Provenance
    sources: Iterator[Found]
    total: int | None
    messages: Messages
    places: Places
    force: bool
    folder: ResultFolder | None

    @property
    def model(self) -> ModelDescription:
        """The model that is loaded."""
        return self.engine.description

    @property
    def console(self) -> Console | None:
        """For a table on standard output; None where there is none."""
        is_drawn = self.places.format_name == "table" and not self.places.files and self.folder is None
        return self.messages.stdout_console() if is_drawn else None

    @property
    def clock(self) -> StartOf | None:
        """Says when a recording began, and warns of each that does not tell; None where nobody asks."""
        clock = self.analysis.clock
        if clock is None:
            return None

        @lru_cache(maxsize=1)  # the channels of a source come one after the other
        def start_of(source: str) -> datetime | None:
            start = clock.start_of(source)
            if start is None:
                self.messages.warning(f"{source}: neither its name nor its metadata tells when it began")
            return start

        return start_of

    @contextmanager
    def results(self) -> Iterator[Results[T]]:
        """Where results are written: all into one place, or each into a file of its own.

        Raises:
            OutputError: it cannot be written.
        """
        folder = self.folder
        if folder is None:
            with self.analysis.open_writer(self) as writer:
                yield Results(lambda _: nullcontext(writer), writer.fail)
            return

        @contextmanager
        def noted(name: str) -> Iterator[Writer[T]]:
            with folder.writer(name, partial(self.analysis.file_writer, self)) as inner:
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
        write_early: Callable[[str, EarlyResult], None] | None = None,
    ) -> Outcome:
        """Work through the sources.

        Args:
            write: writes the results of a source.
            fail: writes that a source gave nothing.
            fail_fast: stop at the first that fails.
            write_early: see `dymn_cli.batch.run.run`.
        """
        with self.messages.progress(self.total, shared_with_results=self.places.to_terminal) as tally:
            watcher = Watcher(
                self.messages,
                tally,
                single=self.total == 1,
                notes_in_result=self.places.format_name == "table",
                few_failures=self.journal.is_kept,
            )
            try:
                outcome = run(
                    Prefetcher(self.sources) if self.total is None else self.sources,
                    self.engine,
                    self.journal,
                    write=write,
                    fail=fail,
                    watcher=watcher,
                    fail_fast=fail_fast,
                    write_early=write_early,
                )
            except SystemExit:  # SIGTERM
                self._tell_kept()
                raise
        watcher.sum_up(outcome)
        return outcome

    def save_lists(self, outcome: Outcome, named: str | None, *, csv_safe: bool = False) -> None:
        """List what failed and what is damaged beside a file of results: OUT.failures.csv, OUT.warnings.csv.

        Args:
            outcome: how the run went.
            named: the file of `--failures`, which takes the failures instead.
            csv_safe: see `dymn_cli.writers.write_failures`.

        Raises:
            OutputError: one cannot be written.
        """
        lists = self.places.lists
        out = lists if journal_path(lists) is not None and _has_results(outcome) else None
        save_failures(outcome.failures, named, out, self.messages, csv_safe=csv_safe)
        if out is not None:
            save_warnings(self.reader.damage, out, self.messages, csv_safe=csv_safe)

    def _tell_kept(self) -> None:
        """Say what a run that is cut short has kept, and how to go on."""
        if not self.journal.is_kept:
            return
        if len(self.journal):
            of = "" if self.total is None else f" of {self.total}"
            kept = f"{len(self.journal)}{of} results kept"
            self.messages.note(f"{kept}; run the same command to continue (unfinished inputs start over)")
        else:
            self.messages.note("no input was finished, so nothing is kept; the same command starts over")

    def require_result(self, outcome: Outcome) -> None:
        """Leave a file of results unwritten where it would not be what was asked for.

        To be called while the target is still open: the journal learns what is about to appear. A stream
        has what it has.

        Raises:
            KeyboardInterrupt: the run was interrupted.
            DymnError: nothing could be done, or the run stopped at its first failure.
        """
        if self.places.journal is None:
            return
        if outcome.interrupted:
            self._tell_kept()
        if not _has_results(outcome):
            self.finish(outcome)
        if self.journal.is_kept:
            for path in self.places.files:
                self.journal.add_result(path, None)

    def end(self, outcome: Outcome) -> None:
        """Close the journal: a run that is complete needs none, another can be continued or added to."""
        is_over = outcome.is_complete and not self.journal.is_lasting
        if not is_over:
            self._note_results(*self.places.files)
        if self.journal.is_lasting:
            self.journal.compact()
        self.journal.close(discard=is_over)

    def finish(self, outcome: Outcome) -> None:
        """End the command: see `watcher.finish`."""
        finish(outcome, alone=self.total == 1)


@dataclass(frozen=True, slots=True)
class Results(Generic[T]):
    """Where results are written.

    Args:
        of: opens the writer for the results of a source.
        fail: takes that a source gave nothing.
    """

    of: Callable[[str], AbstractContextManager[Writer[T]]]
    fail: Callable[[Failure], None]


@contextmanager
def open_run(
    analysis: Analysis[T],
    inputs: FileOptions,
    batch: BatchOptions,
    messages: Messages,
    places: Places,
    *,
    threads: int | None,
    update: bool = False,
    prune: bool = False,
) -> Iterator[Run[T]]:
    """Find the sources, load the model, open the journal.

    Arguments as of `write_results`. `update` keeps the results of what is gone, unless with `prune`, and the
    journal when the run is complete.

    Raises:
        UsageError, ModelError, OutputError: see the parts.
    """
    job = dataclasses.replace(analysis.job, max_input=parse_size(inputs.max_input))
    path = places.journal
    continues = batch.resume and path is not None and path.is_file()
    at_once = places.folder is not None or continues or update
    listed, sources = named_sources(
        inputs, batch.shard, messages, at_once=at_once, without=analysis.cut_folder
    )
    guard = input_guard(places.out, places.embeddings)
    guard(inputs.files_from)
    if listed is None:
        sources = _guarded(sources, guard)
    for found in listed or ():
        guard(found.name)
    if places.format_name in ONE_SOURCE and places.folder is None:
        listed = list(islice(sources, 2))
        if len(listed) > 1:
            raise several_sources(places.format_name)
        sources = iter(listed)
    folder = None
    if places.folder is not None:
        folder = ResultFolder(places.folder, places.format_name, listed or ())
        if inputs.failures is not None:
            name = os.path.basename(os.path.realpath(inputs.failures))  # noqa: PTH119 - names may be bytes
            require_distinct({"--out-dir": folder.called(name), "--failures": [inputs.failures]})
    if not (places.force or continues):
        places.require_free(folder)
    names = None if listed is None else [found.name for found in listed]
    if analysis.clock is not None and names is not None:
        analysis.clock.require_fit(names)
    opened = open_model(
        analysis, batch, messages, places, job=job, names=names, folder=folder, threads=threads
    )
    with opened as run:
        journal = run.journal
        if path is not None:  # also where another run has begun and ended it since we looked
            if update and listed is not None:
                gone = keep_or_prune(journal, names or (), places, messages, prune=prune)
                journal.make_lasting()
                missing = set(gone)
                listed = [found for found in listed if found.name not in missing]
                # In a folder, each keeps the file that it has.
                listed += () if folder is not None else map(Found, gone)
                sources, names = iter(listed), [*(names or ()), *gone]
            _require_same_run(journal, places, folder, names or ())
        try:
            yield dataclasses.replace(
                run,
                provenance=dataclasses.replace(run.provenance, share=parse_shard(batch.shard)),
                sources=sources,
                total=None if listed is None else len(listed),
                force=places.force or any(map(journal.knows, places.files)),
            )
        except OutputError as error:
            is_full = isinstance(error.__cause__, OSError) and error.__cause__.errno in DISK_FULL
            if is_full and journal.is_kept and KEPT not in (error.hint or ""):
                error.hint = f"{error.hint}; {KEPT}" if error.hint else KEPT
            raise


def _guarded(sources: Iterator[Found], guard: Callable[[str], None]) -> Iterator[Found]:
    """Sources as they come; outputs get their names after the last one, so no one is replaced before."""
    for found in sources:
        guard(found.name)
        yield found


@contextmanager
def open_model(
    analysis: Analysis[T],
    batch: WorkOptions,
    messages: Messages,
    places: Places,
    *,
    job: Job,
    names: Sequence[str] | None = None,
    folder: ResultFolder | None = None,
    threads: int | None,
) -> Iterator[Run[T]]:
    """Load the model and open the journal: a run that has no sources yet.

    Args:
        analysis: what to find out, and how it is written.
        batch: how many workers, and whether to continue.
        messages: what the run says.
        places: where results go.
        job: what to compute.
        names: the sources, where they are known beforehand.
        folder: of a file for each source, where that is asked for.
        threads: of this process, where no workers are needed.

    Raises:
        UsageError, ModelError, OutputError: see the parts.
    """
    require_counts(batch.jobs, threads)
    limit_s = batch.limit_per_file
    if limit_s is not None and not limit_s > 0:
        raise UsageError(f"--limit-per-file must be more than 0 s, not {limit_s:g}")
    engine = open_engine(job, names, jobs=batch.jobs or usable_cores(), threads=threads, limit_s=limit_s)
    try:
        model = engine.description
        provenance = analysis.describe(model)
        Selection(job.options, model.vocabulary)  # an unknown label is said before any work is done
        if places.journal is None:
            journal = Journal.temporary()
        else:
            if folder is not None:
                folder.prepare()
            with os_errors(places.journal):
                places.journal.parent.mkdir(parents=True, exist_ok=True)  # the cache, for results at a URI
            fingerprint = fingerprint_of(job, provenance)
            journal = Journal.open(places.journal, fingerprint, start_over=not batch.resume)
        with journal:
            reader = Reader(journal, job, model)
            yield Run(
                analysis, engine, journal, reader, provenance, iter(()), None, messages, places, False, folder
            )
    finally:
        engine.close()


def _require_same_run(
    journal: Journal, places: Places, folder: ResultFolder | None, names: Sequence[str]
) -> None:
    """See that going on from a journal loses no result: of other inputs, or of anybody else.

    Raises:
        OutputError: the journal has results of inputs that are not among these, or a file of results is not
            the one that it knows.
    """
    # What came through standard input then is not what comes now.
    gone = sorted(set(journal.names) - (set(names) - {"-"}), key=os.fsencode)
    if places.force:
        journal.forget(gone)
        return
    if gone:
        what = counted(len(gone), "input")
        raise OutputError(
            f"{places.folder or places.lists}: an earlier run has results of {what} that are not given now:"
            f" {gone[0]}{', ...' if len(gone) > 1 else ''}",
            hint=f"give them again as well to go on, --force replaces those results, which {places.journal}"
            " keeps, or choose another place",
        )
    for out in places.files:
        if not journal.is_ours(out) and is_there(out):
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
