"""One model on a GPU, and workers that feed it: decode, resample and log-mel there, the network here.

    worker: source ──▶ log-mels ─┐
    worker: source ──▶ log-mels ─┼──▶ batches of windows, of all sources ──▶ network ──▶ results
    worker: source ──▶ log-mels ─┘

Where the GPU computes log-mels as well, the workers send the samples of windows instead. They resample even
then, which costs them less than decoding does; by the same filter as the GPU would, see
`dymn_cli.audio.resample.response`. For an ensemble, they send a log-mel for each front end in it.

A GPU wants many windows in a call, and a process for each worker would hold the model as often. So windows of
different sources share a batch. Kernels may round differently for batches of other sizes, so all batches have
one size, the last one filled up with zeros: the scores of a window do not depend on its neighbours as far as
the runtime's kernels compute each row alike.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dymn_cli.batch.job import EarlyResult, Job, ModelDescription, ResultBuilder, Summary, decode, encode
from dymn_cli.batch.pool import Done, Failed, Message, Part, Pool, Progress
from dymn_cli.frontend.logmel import LogMel
from dymn_cli.results import AudioInfo
from dymn_cli.tagging.tagger import Analysis, Cut, CutMels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.frontend.melbank import FrontEndConfig
    from dymn_cli.runtime.base import Mels
    from dymn_cli.tagging.tagger import Tagger

__all__ = ["Decoding", "GpuEngine"]

WINDOWS_IN_A_PART = 4  # log-mels of 0.5 MB each, or samples of 1.3 MB
NO_SAMPLES = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding(Job):
    """The job of a worker without a model: its parts are windows, as log-mels or as samples.

    Args:
        front_ends: the numbers of each log-mel; empty where samples are wanted.
        description: of the model that they are for.
    """

    front_ends: tuple[FrontEndConfig, ...]
    description: ModelDescription

    @classmethod
    def of(cls, job: Job, tagger: Tagger) -> Decoding:
        """The part of a job that needs no model."""
        return cls(
            job.model,
            job.backend,
            job.device,
            job.batch_size,
            job.options,
            max_input=job.max_input,
            front_ends=tagger.front_ends if tagger.on_device is None else (),
            description=ModelDescription.of(tagger),
        )

    def open_tagger(self, threads: int | None = None) -> Tagger:
        """No model: the workers only need its name."""
        return self.description  # type: ignore[return-value]

    def run(
        self,
        tagger: Tagger,
        name: str,
        emit: Callable[[bytes], None],
        progress: Callable[[float, float | None], None],
        early: Callable[[EarlyResult], None] | None = None,
    ) -> tuple[bytes, Summary]:
        """Decode a source: its windows as parts, what it is as the body.

        Raises:
            InputError: the source cannot be used.
        """
        with self.source(name) as source, Analysis.of_cuts(source, self.options, name=name) as analysis:
            mels = CutMels([LogMel(config) for config in self.front_ends], analysis.plan)
            rows: list[tuple[Cut, list[NDArray[np.float32]]]] = []
            for cut in analysis.cuts():
                rows.append((cut, mels([cut]) or [cut.samples]))
                if len(rows) == WINDOWS_IN_A_PART:
                    emit(_part(rows))
                    rows = []
                progress(cut.end_s, analysis.audio.duration_s)
        if rows:
            emit(_part(rows))
        body = encode(astuple(analysis.audio), [])
        return body, Summary(analysis.duration_s, analysis.warnings, analysis.damage)


def _part(rows: list[tuple[Cut, list[NDArray[np.float32]]]]) -> bytes:
    header = [[cut.channel, cut.start, cut.start_s, cut.end_s, len(cut.samples)] for cut, _ in rows]
    return encode(header, [array for _, arrays in rows for array in arrays])


class _QueuedWindow(NamedTuple):
    """A window that waits for its batch: all its log-mels in one row, or its samples."""

    name: str
    cut: Cut
    n_samples: int
    values: NDArray[np.float32]


@dataclass(slots=True)
class _Source:
    """A source on its way."""

    builder: ResultBuilder
    n_waiting: int = 0
    decoded: Done | None = None


class GpuEngine:
    """The engine with a model here and decoders in workers.

    Args:
        job: what to do with each source.
        tagger: the model, on its device.
        pool: workers that do `Decoding.of(job, tagger)`.
    """

    def __init__(self, job: Job, tagger: Tagger, pool: Pool) -> None:
        self._job = job
        self._tagger = tagger
        self._pool = pool
        self._queue: deque[_QueuedWindow] = deque()
        self._sources: dict[str, _Source] = {}
        self._handle: Callable[[Message], None] = _ignore
        self.description = ModelDescription.of(tagger)

    @property
    def has_room(self) -> bool:
        """Whether a decoder waits for a source."""
        return self._pool.has_room

    @property
    def is_busy(self) -> bool:
        """Whether a source is on its way."""
        return bool(self._sources)

    def give(self, name: str, n_bytes: int | None) -> None:
        """Hand it a source."""

        def emit(body: bytes) -> None:
            self._handle(Part(name, body))

        self._sources[name] = _Source(ResultBuilder(self._tagger, self._job, name, emit))
        self._pool.give(name, n_bytes)

    def step(self, handle: Callable[[Message], None]) -> None:
        """Take what the decoders have; run the model on full batches, and on the rest at the end.

        Raises:
            DymnError: the model fails, or no worker can be started.
        """
        self._handle = handle
        if self._pool.is_busy:
            self._pool.step(self._take)
        if not self._pool.is_busy:
            while self._queue:
                self._run_batch()

    def close(self) -> None:
        """End the workers and the threads."""
        self._pool.close()
        self._tagger.close()

    def _take(self, message: Message) -> None:
        if isinstance(message, Progress):
            self._handle(message)
        elif isinstance(message, Failed):
            self._queue = deque(queued for queued in self._queue if queued.name != message.name)
            del self._sources[message.name]
            self._handle(message)
        elif isinstance(message, Part):
            self._enqueue(message)
        elif isinstance(message, Done):
            self._sources[message.name].decoded = message
            self._end_if_complete(message.name)

    def _enqueue(self, part: Part) -> None:
        header, values = decode(part.body, 1)
        rows = values.reshape(len(header), -1)
        for (channel, start, start_s, end_s, n_samples), row in zip(header, rows, strict=True):
            cut = Cut(channel, start, start_s, end_s, NO_SAMPLES)
            self._queue.append(_QueuedWindow(part.name, cut, n_samples, row))
        self._sources[part.name].n_waiting += len(header)
        while len(self._queue) >= self._tagger.batch_size:
            self._run_batch()

    def _run_batch(self) -> None:
        """Run the network once, on the windows that have waited longest and have one length."""
        n_samples = self._queue[0].n_samples
        batch: list[_QueuedWindow] = []
        while self._queue and self._queue[0].n_samples == n_samples and len(batch) < self._tagger.batch_size:
            batch.append(self._queue.popleft())
        rows = np.zeros((self._tagger.batch_size, len(batch[0].values)), np.float32)
        for row, queued in zip(rows, batch, strict=False):
            row[:] = queued.values
        cuts, mels = [queued.cut for queued in batch], self._mels(rows, n_samples)
        answers = self._tagger.answer(cuts, mels, frames=self._job.options.frame_scores)
        for queued, answer in zip(batch, answers, strict=True):
            source = self._sources[queued.name]
            source.builder.add(answer)
            source.n_waiting -= 1
            self._end_if_complete(queued.name)

    def _mels(self, rows: NDArray[np.float32], n_samples: int) -> list[Mels]:
        """Log-mels of a batch for each front end, from the rows that came."""
        device, front_ends = self._tagger.on_device, self._tagger.front_ends
        if device is not None:
            return [device.log_mel(config, rows) for config in front_ends]
        mels: list[Mels] = []
        for config in front_ends:
            n_frames = config.n_frames(n_samples)
            mel, rows = np.split(rows, [config.n_mels * n_frames], axis=1)
            mels.append(mel.reshape(len(rows), 1, config.n_mels, n_frames))
        return mels

    def _end_if_complete(self, name: str) -> None:
        source = self._sources[name]
        if source.decoded is None or source.n_waiting:
            return
        header, _ = decode(source.decoded.body, 1)
        body, summary = source.builder.result(AudioInfo(*header), source.decoded.summary)
        del self._sources[name]
        self._handle(Done(name, body, summary))


def _ignore(message: Message) -> None:
    """The handler before the first step."""
