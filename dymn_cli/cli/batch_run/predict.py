"""A model's scores or embeddings of recordings, with progress."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from dymn_cli.cli.batch_run.watcher import Watcher

if TYPE_CHECKING:
    from dymn_cli.batch.job import Job
    from dymn_cli.cli.terminal.messages import Messages
    from dymn_cli.evaluation.predictions import Predictions

__all__ = ["predict"]


@contextmanager
def predict(
    names: Sequence[str], job: Job, messages: Messages, *, jobs: int | None, threads: int | None = None
) -> Iterator[Predictions]:
    """Ask a model about recordings, with a progress bar; what it said before is remembered.

    Raises:
        UsageError: a number of jobs or threads below 1.
        InputError: no recording could be read.
    """
    from dymn_cli.cli.batch_run.run import require_counts
    from dymn_cli.cores import usable_cores
    from dymn_cli.evaluation.predictions import open_predictions

    require_counts(jobs, threads)
    with ExitStack() as stack:
        with messages.progress(len(names), shared_with_results=False) as tally:
            # That a recording is short is usual in data sets: it takes -vv to hear of it.
            watcher = Watcher(messages, tally, few_failures=True, note_level=2)
            opened = open_predictions(
                names, job, jobs=jobs or usable_cores(), threads=threads, watcher=watcher
            )
            try:
                predictions = stack.enter_context(opened)
            except KeyboardInterrupt:
                messages.note("the results so far are kept; run the same command to continue")
                raise
        if predictions.n_remembered:
            messages.detail(f"{predictions.n_remembered} of {len(names)} recordings were analysed before")
        yield predictions
