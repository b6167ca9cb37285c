"""Predict scores or embeddings of recordings on all cores, and remember them.

Predictions are kept in the cache folder, under `predictions/`, in a journal for each combination of model
hash, window length and kind. A record counts while its recording has the same size and modification time. A
killed run loses only the recordings in hand (see `dymn_cli.batch.journal`), and the folder may be deleted at
any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.audio.discover import Found
from dymn_cli.batch.job import Job, Reader
from dymn_cli.batch.journal import Journal
from dymn_cli.batch.run import Watcher, open_engine, run
from dymn_cli.datasets.audio_cache import cache_limit, remove_oldest
from dymn_cli.errors import InputError, OutputError
from dymn_cli.store.registry import cache_folder
from dymn_cli.tagging.options import TagOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.batch.job import ModelDescription
    from dymn_cli.results import Failure

__all__ = ["Embeddings", "Predictions", "job_for", "open_predictions"]

FOLDER = "predictions"


def job_for(
    model: str | tuple[str, ...],
    backend: str,
    device: str,
    *,
    batch_size: int | None = None,
    scores: bool = False,
    embeddings: bool = False,
) -> Job:
    """The job that predicts the scores of recordings, or the embeddings of their windows."""
    return Job(
        model,
        backend,
        device,
        batch_size,
        TagOptions(top=1),
        keep_scores=scores,
        keep_window_embeddings=embeddings,
        tags=scores,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Embeddings of the windows of recordings.

    Args:
        values: (n_windows, embedding_size) float32, recording by recording.
        start: (n_recordings + 1,) where the windows of each recording begin, and where the last ones end.
    """

    values: NDArray[np.float32]
    start: NDArray[np.intp]

    def rows(self, recordings: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """The windows of some recordings, and the place of each window's recording among them."""
        counts = np.diff(self.start)[recordings]
        owner = np.repeat(np.arange(len(recordings)), counts)
        first = np.repeat(self.start[recordings] - np.cumsum(counts) + counts, counts)
        return self.values[first + np.arange(len(first))], owner


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions of a model for recordings.

    Args:
        description: about the model.
        failures: recordings without a prediction.
        n_remembered: recordings that an earlier run predicted.
    """

    description: ModelDescription
    failures: tuple[Failure, ...]
    n_remembered: int
    _names: tuple[str, ...]
    _reader: Reader

    @property
    def done(self) -> tuple[int, ...]:
        """The recordings that have a prediction, by their place."""
        failed = {failure.source for failure in self.failures}
        return tuple(n for n, name in enumerate(self._names) if name not in failed)

    def scores(self) -> NDArray[np.float32]:
        """(n, n_classes) scores of the recordings in `done`."""
        return np.stack([next(self._reader.clips(self._names[n])).scores for n in self.done])

    def embeddings(self) -> Embeddings:
        """The embeddings of the recordings in `done`."""
        values, counts = [], []
        for n in self.done:
            rows = [row.embedding for part in self._reader.embedding_rows(self._names[n]) for row in part]
            values += rows
            counts.append(len(rows))
        return Embeddings(np.stack(values), np.concatenate([[0], np.cumsum(counts)]).astype(np.intp))


@contextmanager
def open_predictions(
    names: Sequence[str], job: Job, *, jobs: int, threads: int | None, watcher: Watcher
) -> Iterator[Predictions]:
    """Predict recordings with a model; those of earlier runs are not computed again.

    Args:
        names: of files, each once.
        job: what to find out: see `job_for`.
        jobs: files at the same time.
        threads: windows of a file at the same time, or None.
        watcher: is told how it goes.

    Raises:
        KeyboardInterrupt: the run was interrupted; what is done is remembered.
        InputError: no recording could be read.
        ModelError: the model cannot be loaded, or fails.
        OutputError: there is no place for what is computed.
    """
    # The same recording, whatever folder the command is started from.
    paths = [os.path.abspath(name) for name in names]  # noqa: PTH100 - names may be bytes that no Path holds
    engine = open_engine(job, paths, jobs=jobs, threads=threads, limit_s=None)
    try:
        description = engine.description
        with _open_journal(job, description) as journal:
            reader = Reader(journal, job, description)
            outcome = run(
                iter([Found(path) for path in paths]),
                engine,
                journal,
                write=lambda name: None,
                fail=lambda failure: None,
                watcher=watcher,
            )
            if outcome.interrupted:
                raise KeyboardInterrupt
            if not outcome.n_results:
                first = outcome.failures[0]
                raise InputError(f"no recording could be read; the first: {first.message}", hint=first.hint)
            yield Predictions(description, tuple(outcome.failures), outcome.n_kept, tuple(paths), reader)
    finally:
        engine.close()


def _open_journal(job: Job, description: ModelDescription) -> Journal:
    from dymn_cli import __version__

    fingerprint: dict[str, object] = {
        "dymn": __version__,
        "model": description.model.sha256,
        "backend": description.model.backend,
        "provider": description.model.provider,
        "window_s": job.options.window_s,
        "scores": job.keep_scores,
        "embeddings": job.keep_window_embeddings,
    }
    name = hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_folder() / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Journal.temporary()  # nothing can be remembered
    path = folder / f"{name}.journal"
    with contextlib.suppress(OSError):
        os.utime(path)  # mark it as used
    remove_oldest(list(folder.glob("*.journal")), cache_limit(), spare=set())
    try:
        return Journal.open(path, fingerprint)
    except OutputError:  # another run has it, or it is damaged: this run can do without
        return Journal.temporary()
