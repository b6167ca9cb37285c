"""A run over many sources from the command line: engine, journal, progress, and how it ends.

`tag`, `embed` and `events` each say what is to be found out (`Work`) and how a result is written; the rest
of a run is the same and is here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dymn_cli.batch.discover import Found, share_of
from dymn_cli.cli.sources import found_sources
from dymn_cli.errors import InputError, PartialFailure, UsageError

if TYPE_CHECKING:
    from dymn_cli.batch.journal import Fingerprint, Journal
    from dymn_cli.batch.pool import Facts
    from dymn_cli.batch.run import Engine, Outcome
    from dymn_cli.batch.work import Reader, Summary, Work
    from dymn_cli.cli.console import Progress, Talk
    from dymn_cli.cli.params import BatchOptions, FileOptions, OutputOptions
    from dymn_cli.results import Failure
    from dymn_cli.writers import Provenance

__all__ = ["Run", "dry_run", "finish", "open_run", "require_writable", "save_failures"]


def journal_path(out: str | None) -> Path | None:
    """The journal of an output: beside it where it is a file; a stream has none."""
    if out in (None, "-") or out is None:
        return None
    path = Path(out)
    return None if path.exists() and not path.is_file() else path.with_name(f"{path.name}.journal")


def require_writable(output: OutputOptions) -> None:
    """Say before any work is done that the result could not be written.

    Raises:
        OutputError: it exists and no earlier run can be continued, or its folder cannot be written to.
    """
    from dymn_cli.writers import check_target

    if output.out is not None:
        journal = journal_path(output.out)
        check_target(output.out, force=output.force or (journal is not None and journal.is_file()))


def dry_run(inputs: FileOptions, batch: BatchOptions) -> None:
    """Print the names of the inputs, a line each, as the bytes that they are.

    Raises:
        DymnError: a name leads to nothing, or as for a real run.
    """
    from dymn_cli.cli.sources import print_names

    print_names(named_sources(inputs, batch.shard)[1])


def save_failures(outcome: Outcome, inputs: FileOptions, out: str | None, talk: Talk) -> None:
    """List the failures in a file: the one that is named, or OUT.failures.csv beside a file of results.

    Raises:
        OutputError: it cannot be written.
    """
    from dymn_cli.writers import write_failures

    beside = f"{out}.failures.csv" if journal_path(out) is not None else None
    path = inputs.failures or beside
    if path is None:
        return
    if outcome.failures or inputs.failures is not None:
        write_failures(path, outcome.failures, force=True)
    else:
        Path(path).unlink(missing_ok=True)  # of an earlier run: they have been mended
    if outcome.failures:
        talk.note(f"{_count(len(outcome.failures), 'failure')} listed in {path}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


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


def named_sources(options: FileOptions, shard: str | None) -> tuple[list[Found] | None, Iterator[Found]]:
    """The sources as a list where they can be listed beforehand, and to iterate over.

    A list of names that is read from a stream is worked on as it comes, unless a share of it is asked for.

    Raises:
        UsageError: no input, or no such share.
    """
    share = parse_shard(shard)
    sources = found_sources(options)
    if options.files_from is not None and share is None:
        return None, sources
    listed = list(sources)
    if share is not None:
        listed = share_of(listed, *share)
    return listed, iter(listed)


@dataclass(frozen=True, slots=True)
class Run:
    """All that a command needs while its results are written."""

    engine: Engine
    journal: Journal
    reader: Reader
    provenance: Provenance
    sources: Iterator[Found]
    total: int | None
    talk: Talk
    to_file: bool

    @property
    def continues(self) -> bool:
        """Whether an earlier run left something in the journal."""
        return len(self.journal) > 0

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
        from dymn_cli.batch.run import run

        with self.talk.progress(self.total, shared_with_results=results_on_terminal) as progress:
            watcher = _Watcher(self.talk, progress, single=self.total == 1, silent=notes_in_result)
            outcome = run(
                self.sources,
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

        To be called while the target is still open. A stream has what it has.

        Raises:
            KeyboardInterrupt: the run was interrupted.
            DymnError: nothing could be done, or the run stopped at its first failure.
        """
        if not self.to_file:
            return
        if outcome.interrupted and self.journal.is_kept:
            done = outcome.n_results
            self.talk.note(f"{_count(done, 'result')} kept; the same command goes on from there")
        if outcome.interrupted or outcome.stopped or not (outcome.n_results or outcome.is_complete):
            finish(outcome)


class _Watcher:
    """Says what happens while it happens."""

    def __init__(self, talk: Talk, progress: Progress, *, single: bool, silent: bool) -> None:
        self._talk = talk
        self._progress = progress
        self._single = single
        self._silent = silent
        self._n_noted = 0

    def done(self, name: str, summary: Summary) -> None:
        self._progress.advance(name, summary.seconds)
        if not summary.warnings:
            return
        self._n_noted += 1
        if (self._single or self._talk.verbosity) and not self._silent:
            for text in summary.warnings:
                self._talk.note(f"{name}: {text}")

    def failed(self, failure: Failure) -> None:
        self._progress.advance(failure.source, 0.0)
        if not self._single:
            self._talk.failure(failure)

    def within(self, name: str, seconds: float) -> None:
        self._progress.within(name, seconds)

    def sum_up(self, outcome: Outcome) -> None:
        """What is worth saying at the end."""
        if outcome.n_kept:
            self._talk.note(f"{outcome.n_kept} results were there already, {outcome.n_done} are new")
        if self._n_noted and not (self._single or self._talk.verbosity or self._silent):
            self._talk.note(
                f"{self._n_noted} of {outcome.n_done} results carry notes; -v shows them, jsonl holds them"
            )


@contextmanager
def open_run(
    work: Work,
    inputs: FileOptions,
    output: OutputOptions,
    batch: BatchOptions,
    talk: Talk,
    *,
    threads: int | None,
    describe: Callable[[Facts], Provenance],
) -> Iterator[Run]:
    """Find the sources, load the model, open the journal.

    Args:
        work: what to find out.
        inputs: which sources.
        output: where to.
        batch: how many workers, and whether to continue.
        talk: the voice.
        threads: of this process, where no workers are needed.
        describe: what made the result, once the model is known.

    Raises:
        UsageError, ModelError, OutputError: see the parts.
    """
    from dymn_cli.batch.journal import Journal
    from dymn_cli.batch.run import open_engine
    from dymn_cli.batch.work import Reader
    from dymn_cli.tagging.aggregate import Selection
    from dymn_cli.tagging.tagger import usable_cores

    if batch.jobs is not None and batch.jobs < 1:
        raise UsageError(f"--jobs must be at least 1, not {batch.jobs}")
    if batch.limit_per_file is not None and not batch.limit_per_file > 0:
        raise UsageError(f"--limit-per-file must be more than 0 s, not {batch.limit_per_file:g}")
    listed, sources = named_sources(inputs, batch.shard)
    names = None if listed is None else [found.name for found in listed]
    engine = open_engine(
        work, names, jobs=batch.jobs or usable_cores(), threads=threads, limit_s=batch.limit_per_file
    )
    try:
        facts = engine.facts
        Selection(work.options, facts.vocabulary)  # an unknown label is said before any work is done
        provenance = describe(facts)
        path = journal_path(output.out)
        if path is not None and not batch.resume:
            path.unlink(missing_ok=True)
        if path is None or not batch.resume:
            journal = Journal.temporary()
        else:
            journal = Journal.open(path, _fingerprint(work, provenance))
        with journal:
            reader = Reader(journal, work, facts.model, facts.vocabulary, facts.embedding_size)
            total = None if listed is None else len(listed)
            yield Run(engine, journal, reader, provenance, sources, total, talk, path is not None)
    finally:
        engine.close()


def _fingerprint(work: Work, provenance: Provenance) -> Fingerprint:
    """All that changes results, from what is said of them, and what of them is kept."""
    thresholds = json.dumps(work.options.thresholds).encode()
    return {
        "dymn": provenance.version,
        "model": provenance.model.sha256,
        "backend": provenance.model.backend,
        "provider": provenance.model.provider,
        **dict(provenance.options),
        "thresholds": hashlib.sha256(thresholds).hexdigest() if work.options.thresholds else None,
        "keeps_scores": work.keep_scores,
        "keeps_embedding": work.keep_embedding,
        "keeps_window_embeddings": work.keep_window_embeddings,
    }


def finish(outcome: Outcome) -> None:
    """End the command with the exit code of the contract: 130, 6, the failure's own, or 0.

    Raises:
        KeyboardInterrupt: the run was interrupted.
        PartialFailure: some sources failed, others did not.
        DymnError: nothing could be done; with the code of the first failure.
    """
    if outcome.interrupted:
        raise KeyboardInterrupt
    if not outcome.failures:
        return
    total = outcome.n_results + len(outcome.failures)
    if outcome.n_results:
        raise PartialFailure(f"{len(outcome.failures)} of {total} inputs failed")
    first = outcome.failures[0]
    error = InputError(first.message, hint=first.hint) if total == 1 else InputError("no input could be read")
    error.exit_code = first.exit_code
    raise error
