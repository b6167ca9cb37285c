"""A model's scores or embeddings of recordings, with progress."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dymn_cli.batch.job import Job, Summary
    from dymn_cli.cli.terminal.messages import Messages
    from dymn_cli.cli.terminal.progress import Tally
    from dymn_cli.evaluation.predictions import Predictions
    from dymn_cli.results import Failure

__all__ = ["predict"]

MAX_TOLD = 20


class _Watcher:
    """Says how the asking goes."""

    def __init__(self, talk: Messages, tally: Tally) -> None:
        self._talk = talk
        self._tally = tally

    def kept(self, name: str) -> None:
        self._tally.kept()

    def done(self, name: str, summary: Summary) -> None:
        self._tally.advance(name, summary.seconds)
        if self._talk.verbosity >= 2:  # that a recording is short is usual in data sets
            for text in summary.warnings:
                self._talk.note(f"{name}: {text}")

    def failed(self, failure: Failure) -> None:
        self._tally.advance(failure.source, 0.0, failed=True)
        if self._tally.n_failed <= MAX_TOLD or self._talk.verbosity:
            self._talk.failure(failure)

    def within(self, name: str, seconds: float, of_s: float | None) -> None:
        self._tally.within(name, seconds, of_s)


@contextmanager
def predict(
    names: Sequence[str], job: Job, talk: Messages, *, jobs: int | None, threads: int | None = None
) -> Iterator[Predictions]:
    """Ask a model about recordings, with a progress bar; what it said before is remembered.

    Raises:
        UsageError: a number of jobs or threads that is none.
        InputError: no recording could be read.
    """
    from dymn_cli.cli.batch_run.run import require_counts
    from dymn_cli.evaluation.predictions import open_predictions
    from dymn_cli.tagging.tagger import usable_cores

    require_counts(jobs, threads)
    with talk.progress(len(names), shared_with_results=False) as tally:
        watcher = _Watcher(talk, tally)
        manager = open_predictions(names, job, jobs=jobs or usable_cores(), threads=threads, watcher=watcher)
        try:
            answers = manager.__enter__()
        except KeyboardInterrupt:
            talk.note("what is done so far is remembered; the same command goes on from there")
            raise
    try:
        if answers.n_remembered:
            talk.detail(f"{answers.n_remembered} of {len(names)} recordings were analysed before")
        yield answers
    finally:
        manager.__exit__(None, None, None)
