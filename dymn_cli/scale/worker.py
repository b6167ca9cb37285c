"""What an actor of a cluster does: sources one after the other, in a worker process that may crash or hang.

A long source is cut into stretches, which are tasks of their own:

    Measure   how long is it?                         ──▶ the windows where stretches begin
    Stretch   ask the model about some windows of it  ──▶ a file with their scores
    Joined    the files of all stretches              ──▶ the result, as if it had been analysed in one go

A stretch decodes what is before it, too, and asks the model about its own windows alone: no resampler and no
codec could begin in the middle and give the same samples to the last bit. So stretches are few and long: four
of them decode two and a half times what one pass decodes.

Layout of the file of a stretch: for each part its length (8 bytes, little-endian), then the part, as
`dymn_cli.batch.job.encode` makes it. The header of a part lists its windows (channel, start, end, steps of
time), its arrays are their scores, embeddings and frame scores, window by window; the last part has no array,
and its header says what the source is: its format, duration, warnings and damage.
"""

from __future__ import annotations

import contextlib
import io
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self, cast

import numpy as np

from dymn_cli.audio.discover import Found
from dymn_cli.audio.resample import RATE_HZ
from dymn_cli.batch.job import EarlyResult, Job, Reader, Renamed, ResultBuilder, Summary, decode, encode
from dymn_cli.batch.journal import Journal
from dymn_cli.batch.run import Outcome, open_engine, run
from dymn_cli.remote.reading import open_uri
from dymn_cli.remote.uri import is_uri
from dymn_cli.results import AudioInfo, Failure, WindowScores
from dymn_cli.tagging.tagger import Analysis, ChannelWindow, Tagger

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.batch.job import ModelDescription

__all__ = ["ClusterJob", "Joined", "Measure", "Stretch", "Worker", "stretches_of"]

LENGTH = struct.Struct("<Q")
WINDOWS_IN_A_PART = 32


class Measure(Renamed):
    """A source whose length is to be found out."""

    __slots__ = ()


class Stretch(Renamed):
    """Some windows of a source, from `first` to the one before `stop`; None for all that follow."""

    __slots__ = ("first", "stop")
    first: int
    stop: int | None

    @classmethod
    def of(cls, name: str, path: str, first: int, stop: int | None) -> Self:
        """The stretch of a source."""
        stretch = cls(name, path)
        stretch.first, stretch.stop = first, stop
        return stretch

    def __reduce__(self) -> tuple[object, ...]:
        return Stretch.of, (str(self), self.path, self.first, self.stop)


class Joined(Renamed):
    """A source whose stretches are done, as the files at `paths`."""

    __slots__ = ("paths",)
    paths: tuple[str, ...]

    @classmethod
    def of(cls, name: str, path: str, paths: Sequence[str]) -> Self:
        """The source, to be joined."""
        joined = cls(name, path)
        joined.paths = tuple(paths)
        return joined

    def __reduce__(self) -> tuple[object, ...]:
        return Joined.of, (str(self), self.path, self.paths)


def stretches_of(seconds: float, job: Job, stretch_s: float) -> list[tuple[int, int | None]]:
    """Where to cut a source: the first window of each stretch, and the one after its last.

    Args:
        seconds: of audio, as its header has it; what is really there belongs to the last stretch.
        job: says how windows follow each other.
        stretch_s: seconds that a stretch is about.
    """
    n_hop = job.options.plan.n_hop
    n_windows = max(1, math.ceil(seconds * RATE_HZ / n_hop))
    size = max(1, round(stretch_s * RATE_HZ / n_hop))
    starts = list(range(0, n_windows, size))
    if len(starts) > 1 and n_windows - starts[-1] < size / 2:
        starts.pop()
    return list(zip(starts, [*starts[1:], None], strict=True))


@dataclass(frozen=True, slots=True)
class ClusterJob(Job):
    """A job whose sources may also be parts of a long one."""

    @classmethod
    def of(cls, job: Job) -> ClusterJob:
        """The same job."""
        return cls(**{field.name: getattr(job, field.name) for field in fields(Job)})

    def run(
        self,
        tagger: Tagger,
        name: str,
        emit: Callable[[bytes], None],
        progress: Callable[[float, float | None], None],
        early: Callable[[EarlyResult], None] | None = None,
    ) -> tuple[bytes, Summary]:
        """Analyse one source, or do what is to be done with one that is long.

        Raises:
            InputError: the source cannot be used.
        """
        if isinstance(name, Measure):
            return self._measure(name)
        if isinstance(name, Stretch):
            return self._stretch(tagger, name, emit, progress)
        if isinstance(name, Joined):
            return self._join(tagger, name, emit)
        return Job.run(self, tagger, name, emit, progress, early)

    def _measure(self, name: Measure) -> tuple[bytes, Summary]:
        with self.source(name) as source, Analysis.of_cuts(source, self.options, name=name) as analysis:
            return encode(analysis.audio.duration_s, []), Summary(0.0, ())

    def _stretch(
        self,
        tagger: Tagger,
        name: Stretch,
        emit: Callable[[bytes], None],
        progress: Callable[[float, float | None], None],
    ) -> tuple[bytes, Summary]:
        rows: list[ChannelWindow] = []
        with self.source(name) as source, tagger.analyse(source, name=name) as analysis:
            analysis.narrow(name.first, name.stop)
            for row in analysis:
                rows.append(row)
                if len(rows) == WINDOWS_IN_A_PART:
                    emit(_windows_as_bytes(rows))
                    rows = []
                progress(row.window.end_s, None)
        if rows:
            emit(_windows_as_bytes(rows))
        audio = astuple(analysis.audio)
        summary = Summary(analysis.duration_s, analysis.warnings, analysis.damage)
        return encode([audio, summary.seconds, summary.warnings, summary.damage], []), summary

    def _join(self, tagger: Tagger, name: Joined, emit: Callable[[bytes], None]) -> tuple[bytes, Summary]:
        builder = ResultBuilder(tagger, self, name, emit)
        facts: Any = None
        for path in name.paths:
            for header, values in _parts(path):
                if values is None:
                    facts = header
                    continue
                for row in _windows(header, values, tagger):
                    builder.add(row)
        audio, seconds, warnings, damage = facts
        return builder.result(AudioInfo(*audio), Summary(seconds, tuple(warnings), tuple(damage)))


def _windows_as_bytes(rows: list[ChannelWindow]) -> bytes:
    header, arrays = [], []
    for channel, window in rows:
        steps = window.frame_scores
        header.append([channel, window.start_s, window.end_s, None if steps is None else len(steps)])
        arrays += [window.scores, window.embedding, *(() if steps is None else (steps.ravel(),))]
    return encode(header, arrays)


def _windows(header: Any, values: NDArray[np.float32], tagger: Tagger) -> Iterator[ChannelWindow]:
    n_classes, size, at = len(tagger.vocabulary), tagger.embedding_size, 0

    def take(n_values: int) -> NDArray[np.float32]:
        nonlocal at
        at += n_values
        return values[at - n_values : at]

    for channel, start_s, end_s, n_steps in header:
        scores, embedding = take(n_classes), take(size)
        steps = None if n_steps is None else take(n_steps * n_classes).reshape(n_steps, n_classes)
        # Nothing that joins windows looks at their logits.
        yield ChannelWindow(channel, WindowScores(start_s, end_s, scores, scores, embedding, steps, steps))


def _parts(path: str) -> Iterator[tuple[Any, NDArray[np.float32] | None]]:
    """The parts of the file of a stretch: headers and values; none for the last one."""
    with contextlib.closing(_open(path)) as file:
        while head := file.read(LENGTH.size):
            header, values = decode(file.read(LENGTH.unpack(head)[0]), 1)
            yield header, values[:, 0] if values.size else None


def _open(path: str) -> BinaryIO:
    if is_uri(path):
        return cast("BinaryIO", io.BufferedReader(cast("io.RawIOBase", open_uri(path)), 1 << 20))
    return Path(path).open("rb")


class _Notes:
    """Follows a run: what is told of each source that is done."""

    def __init__(self) -> None:
        self.summaries: dict[str, Summary] = {}

    def kept(self, name: str) -> None:
        """Nothing is kept here."""

    def done(self, name: str, summary: Summary) -> None:
        self.summaries[name] = summary

    def failed(self, failure: Failure) -> None:
        """The outcome has them."""

    def within(self, name: str, seconds: float, of_s: float | None) -> None:
        """Nobody watches."""


class Worker:
    """Analyses sources in processes of its own, as a batch run does; the model is loaded once.

    Args:
        job: what to do with each source.
        jobs: sources at the same time.
        limit_s: seconds that a source, or a stretch of one, may take; None for no limit.

    Raises:
        UsageError, ModelError: see `dymn_cli.batch.run.open_engine`.
    """

    def __init__(self, job: Job, *, jobs: int = 1, limit_s: float | None = None) -> None:
        self.job = ClusterJob.of(job)
        self._engine = open_engine(self.job, None, jobs=jobs, threads=None, limit_s=limit_s)
        self.description: ModelDescription = self._engine.description

    def analyse(
        self, sources: Sequence[Found], write: Callable[[str, Reader], None]
    ) -> tuple[dict[str, Summary], Outcome]:
        """Analyse sources of different names.

        Args:
            sources: paths, URIs, `Renamed` ones, or stretches.
            write: takes the name of each source that is done, in order, and what reads its result.

        Returns:
            What is told of those that are done, and how it went.

        Raises:
            ModelError: the model fails.
            OutputError: there is no room for temporary files.
        """
        notes = _Notes()
        with Journal.temporary() as journal:
            reader = Reader(journal, self.job, self.description)
            outcome = run(
                iter(sources),
                self._engine,
                journal,
                write=lambda name: write(name, reader),
                fail=lambda failure: None,
                watcher=notes,
                close=False,
            )
        if outcome.interrupted:
            raise KeyboardInterrupt
        return notes.summaries, outcome

    def seconds_of(self, name: str, path: str) -> float | None:
        """The duration that the header of a source claims; None where it says nothing, or cannot be read."""
        found: list[float | None] = []

        def write(name: str, reader: Reader) -> None:
            found.append(decode(reader.stored(name)[0], 1)[0])

        self.analyse([Found(Measure(name, path))], write)
        return found[0] if found else None

    def save_stretch(self, stretch: Stretch, save: Callable[[Iterator[bytes]], None]) -> Failure | None:
        """Do a stretch, and hand over the file with its windows, piece by piece.

        Returns:
            Why there is none.
        """

        def write(name: str, reader: Reader) -> None:
            body, parts = reader.stored(name)
            save(piece for part in (*parts, body) for piece in (LENGTH.pack(len(part)), part))

        _, outcome = self.analyse([Found(stretch)], write)
        return outcome.failures[0] if outcome.failures else None

    def close(self) -> None:
        """End the processes."""
        self._engine.close()
