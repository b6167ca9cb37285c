"""What is done with each source, wherever it is done, and how its result travels.

A `Job` says what to find out and runs on one source at a time. What grows with the length of the source is
streamed as parts through `emit`; the rest is returned as a body. Both are bytes, without pickle: they go from
a worker to the parent and into the journal, and `Reader` reads them back.

    body   JSON header: format, warnings, what of them is damage, events (if looked for), and for each channel
           its duration, windows and tags (index, score);
           then float32 arrays of all channels: scores (if kept), embeddings (if kept)
    part   JSON header: for each row its channel, start and end, and tags (if kept); then their embeddings
           (if kept), float32

Both start with the length of the JSON (4 bytes, little-endian).
"""

from __future__ import annotations

import contextlib
import json
import math
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Self, cast

import numpy as np

from dymn_cli.audio.decode import spool
from dymn_cli.audio.piped import Pipe, is_piped_wav
from dymn_cli.errors import InputError, os_error_text
from dymn_cli.results import AudioInfo, ClipResult, Event, SourceEvents, Tag, WindowTags
from dymn_cli.tagging.aggregate import Aggregator
from dymn_cli.tagging.events import EventOptions, SourceDetector
from dymn_cli.tagging.options import TagOptions
from dymn_cli.tagging.selection import Selection
from dymn_cli.writers import EmbeddingRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.audio.decode import Source
    from dymn_cli.batch.journal import Journal, Place
    from dymn_cli.labels import Vocabulary
    from dymn_cli.results import ModelInfo
    from dymn_cli.tagging.tagger import Analysis, ChannelWindow, Tagger

__all__ = [
    "EarlyResult",
    "Job",
    "ModelDescription",
    "Reader",
    "Renamed",
    "ResultBuilder",
    "Summary",
    "decode",
    "encode",
    "standard_input",
]

EarlyResult = ClipResult | SourceEvents
"""One window, or some events, of a source that has not ended."""

LENGTH = struct.Struct("<I")
ROWS_IN_A_PART = 256
DAMAGE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, struct.error)
"""What reading a record raises whose checksum is right but whose content dymn did not write."""


class Renamed(str):
    """The name of a source that results and errors call otherwise than what opens it.

    Args:
        text: the name.
        path: what opens it: a path or a URI.
    """

    __slots__ = ("path",)
    path: str

    def __new__(cls, text: str, path: str) -> Self:
        """A string with one more attribute."""
        renamed = super().__new__(cls, text)
        renamed.path = path
        return renamed

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the path as well, for a worker."""
        return type(self), (str(self), self.path)


@dataclass(frozen=True, slots=True)
class Job:
    """What to find out about every source.

    Args:
        model: name or path, or those of an ensemble.
        backend: "auto", "onnx" or "torch".
        device: as `dymn_cli.runtime.devices` spells them.
        batch_size: windows in one call of the network, or None.
        options: how to cut, join and select; with `windows`, tags of each window are kept.
        keep_scores: keep all scores of each channel.
        keep_embedding: keep the embedding of each channel.
        keep_window_embeddings: keep the embedding of each window.
        events: what counts as an event; None to find none.
        concat: the embeddings of an ensemble's models are kept, one after the other.
        tags: scores are wanted; without them, a model that cannot tag will do.
        max_input: bytes that standard input may have; None for what leaves room on the disk.
    """

    model: str | tuple[str, ...]
    backend: str
    device: str
    batch_size: int | None
    options: TagOptions
    keep_scores: bool = False
    keep_embedding: bool = False
    keep_window_embeddings: bool = False
    events: EventOptions | None = None
    concat: bool = False
    tags: bool = True
    max_input: int | None = None

    def open_tagger(self, threads: int | None = None) -> Tagger:
        """Load the tagger for this job.

        Raises:
            UsageError: an unknown model, or one that cannot do the job.
            ModelError: it cannot be loaded.
        """
        from dymn_cli.tagging.tagger import Tagger

        tagger = Tagger(
            self.model,
            backend=self.backend,
            device=self.device,
            threads=threads,
            batch_size=self.batch_size,
            concat=self.concat,
            options=self.options,
        )
        if self.tags:
            tagger.require_tags()
        if self.options.frame_scores:
            _ = tagger.frames  # says what is wrong with them
        if self.keep_embedding or self.keep_window_embeddings:
            tagger.require_embedding()
        return tagger

    def run(
        self,
        tagger: Tagger,
        name: str,
        emit: Callable[[bytes], None],
        progress: Callable[[float, float | None], None],
        early: Callable[[EarlyResult], None] | None = None,
    ) -> tuple[bytes, Summary]:
        """Analyse one source.

        Args:
            tagger: loaded by `open_tagger`.
            name: path, or "-" for standard input.
            emit: takes parts, in order.
            progress: takes the seconds of audio that are done, and of how many, as far as its header knows.
            early: takes the windows or events of a pipe as soon as they are known.

        Returns:
            The body of the result, and its summary.

        Raises:
            InputError: the source cannot be used.
        """
        builder = ResultBuilder(tagger, self, name, emit)
        with self.source(name) as source, tagger.analyse(source, name=name) as analysis:
            claimed_s = analysis.audio.duration_s
            tell = early if analysis.is_live else None
            for row in analysis:
                builder.add(row)
                if tell is not None and (known := builder.early(analysis)) is not None:
                    tell(known)
                progress(row.window.end_s, claimed_s)
        result = builder.result(
            analysis.audio, Summary(analysis.duration_s, analysis.warnings, analysis.damage)
        )
        if tell is not None and (known := builder.early(analysis)) is not None:
            tell(known)
        return result

    @contextlib.contextmanager
    def source(self, name: str) -> Iterator[Source]:
        """What to read for a name: for "-" standard input, or a copy of it where seeking is needed.

        Raises:
            InputError: standard input cannot be copied, or is too long.
        """
        if isinstance(name, Renamed) or name != "-":
            yield name.path if isinstance(name, Renamed) else name
            return
        with contextlib.ExitStack() as opened:
            stream = sys.stdin.buffer
            if not stream.seekable():
                # A thread may be waiting for it while the program ends, which a buffer does not allow.
                stream = getattr(stream, "raw", stream)
                pipe = Pipe(stream, self.max_input)
                with _named_errors():
                    needs_no_copy = is_piped_wav(pipe)
                if needs_no_copy:
                    yield cast("BinaryIO", pipe)
                    return
                stream = opened.enter_context(standard_input(pipe))
            yield stream


def standard_input(
    pipe: Pipe | None = None, *, most_bytes: int | None = None, into: BinaryIO | None = None
) -> BinaryIO:
    """A copy of standard input that can seek.

    Args:
        pipe: standard input, where its first bytes have been looked at.
        most_bytes: as in `dymn_cli.audio.decode.spool`.
        into: likewise.

    Raises:
        InputError: it cannot be copied, or is too long.
    """
    with _named_errors():
        return spool(pipe or sys.stdin.buffer, most_bytes=most_bytes, into=into)


@contextlib.contextmanager
def _named_errors() -> Iterator[None]:
    """Name standard input in errors."""
    try:
        yield
    except InputError as error:
        raise InputError(f"standard input: {error.message}", hint=error.hint) from error
    except (OSError, ValueError) as exc:  # ValueError: it is closed
        raise InputError(os_error_text("standard input: cannot be read", exc)) from exc


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What is known of a model without loading it: its identity, its labels, the size of its embeddings."""

    model: ModelInfo
    vocabulary: Vocabulary
    embedding_size: int
    calibration_digest: str | None = None

    @classmethod
    def of(cls, tagger: Tagger) -> ModelDescription:
        """Of a tagger in this process."""
        return cls(tagger.model, tagger.vocabulary, tagger.embedding_size, tagger.calibration_digest)


@dataclass(frozen=True, slots=True)
class Summary:
    """What is reported of a source at once, before its result is written.

    Args:
        seconds: of audio.
        warnings: all that is worth knowing.
        damage: the warnings that say what could not be decoded.
    """

    seconds: float
    warnings: tuple[str, ...]
    damage: tuple[str, ...] = ()


class ResultBuilder:
    """Builds the result of a source from its windows, in order.

    Args:
        tagger: has the labels, and cuts sources.
        job: says what is kept.
        name: of the source.
        emit: takes parts, in order.
    """

    def __init__(self, tagger: Tagger, job: Job, name: str, emit: Callable[[bytes], None]) -> None:
        self._job = job
        self._emit = emit
        self._model = tagger.model
        self._selection = Selection(job.options, tagger.vocabulary)
        self._channels: dict[str, Aggregator] = {}
        self._rows: list[ChannelWindow] = []
        self._newest: ChannelWindow | None = None
        self._detector = SourceDetector(job.events, tagger, source=name) if job.events is not None else None

    def add(self, row: ChannelWindow) -> None:
        """Add the next window."""
        self._newest = row
        if row.channel not in self._channels:
            self._channels[row.channel] = Aggregator(self._job.options.aggregate)
        self._channels[row.channel].add(row.window)
        if self._job.options.windows or self._job.keep_window_embeddings:
            self._rows.append(row)
            if len(self._rows) == ROWS_IN_A_PART:
                self._emit_rows()
        if self._detector is not None:
            self._detector.add(row)

    def early(self, analysis: Analysis) -> EarlyResult | None:
        """What can be said of the newest window, or events that came to an end with it; None for nothing."""
        if self._job.options.windows:
            newest, self._newest = self._newest, None
            if newest is None:
                return None
            channel, window = newest
            tags = self._selection.tags(window.scores)
            nothing = np.empty(0, np.float32)
            return ClipResult(
                source=analysis.name,
                channel=channel,
                audio=analysis.audio,
                duration_s=analysis.duration_s,
                tags=(),
                scores=nothing,
                embedding=nothing,
                n_windows=1,
                windows=(WindowTags(window.start_s, window.end_s, tags),),
                warnings=(),
                model=self._model,
            )
        events = [] if self._detector is None else self._detector.settled()
        if not events:
            return None
        return SourceEvents(
            source=analysis.name,
            audio=analysis.audio,
            duration_s=analysis.duration_s,
            events=tuple(events),
            warnings=(),
            model=self._model,
        )

    def result(self, audio: AudioInfo, summary: Summary) -> tuple[bytes, Summary]:
        """The body, once all windows are in, and its summary."""
        events = () if self._detector is None else self._detector.finish()
        if self._rows:
            self._emit_rows()
        results = {channel: aggregator.result() for channel, aggregator in self._channels.items()}
        header = {
            "audio": astuple(audio),
            "duration_s": summary.seconds,
            "warnings": summary.warnings,
            "damage": summary.damage,
            "events": [_event_cells(event) for event in events],
            "clips": [
                [channel, self._channels[channel].n_windows, _pairs(self._selection.tags(scores))]
                for channel, (scores, _) in results.items()
            ],
        }
        arrays = [scores for scores, _ in results.values()] if self._job.keep_scores else []
        arrays += [embedding for _, embedding in results.values()] if self._job.keep_embedding else []
        return encode(header, arrays), summary

    def _emit_rows(self) -> None:
        self._emit(_part(self._rows, self._job, self._selection))
        self._rows = []


def _part(rows: list[ChannelWindow], job: Job, selection: Selection) -> bytes:
    header = [
        [
            channel,
            window.start_s,
            window.end_s,
            _pairs(selection.tags(window.scores)) if job.options.windows else [],
        ]
        for channel, window in rows
    ]
    return encode(header, [row.window.embedding for row in rows] if job.keep_window_embeddings else [])


def _event_cells(event: Event) -> list[object]:
    place = (event.channel, event.start_s, event.end_s, event.index)
    return [*place, event.score, event.mean_score, event.n_windows]


def _pairs(tags: tuple[Tag, ...]) -> list[tuple[int, float]]:
    return [(tag.index, tag.score) for tag in tags]


def encode(header: object, arrays: list[NDArray[np.float32]]) -> bytes:
    """A JSON header and arrays as bytes."""
    text = json.dumps(header, separators=(",", ":")).encode()
    return LENGTH.pack(len(text)) + text + b"".join(array.astype("<f4").tobytes() for array in arrays)


def decode(data: bytes, width: int) -> tuple[Any, NDArray[np.float32]]:
    """Header, and what follows it as rows of that width."""
    (length,) = LENGTH.unpack_from(data)
    values = np.frombuffer(data, "<f4", offset=LENGTH.size + length).astype(np.float32)
    return json.loads(data[LENGTH.size : LENGTH.size + length]), values.reshape(-1, width)


def _header_of(body: bytes) -> Any:
    return decode(body[: LENGTH.size + LENGTH.unpack_from(body)[0]], 1)[0]


class StoredWindows(Sequence[WindowTags]):
    """The windows of a clip, read from the journal when they are iterated over."""

    def __init__(self, read: Callable[[], Iterator[WindowTags]], n_windows: int) -> None:
        self._read = read
        self._n_windows = n_windows

    def __iter__(self) -> Iterator[WindowTags]:
        return self._read() if self._n_windows else iter(())

    def __len__(self) -> int:
        return self._n_windows

    def __getitem__(self, index: Any) -> Any:
        return tuple(self)[index]


class Reader:
    """Results back from a journal, as the writers take them.

    Anybody may have written a journal: what `ResultBuilder` cannot have made is an OutputError.

    Args:
        journal: where they are.
        job: what was done with each source.
        description: of the model that answered.

    Attributes:
        damage: what could not be decoded, by the names of the sources, as each was read last; intact ones are
            missing.
    """

    def __init__(self, journal: Journal, job: Job, description: ModelDescription) -> None:
        self._journal = journal
        self._job = job
        self._model = description.model
        self._labels = description.vocabulary.labels
        self._size = description.embedding_size
        self.damage: dict[str, tuple[str, ...]] = {}

    def clips(self, name: str) -> Iterator[ClipResult]:
        """The result of each channel of a source; windows are read as they are iterated over.

        Raises:
            OutputError: the journal is damaged, or cannot be read.
        """
        with self._damage_as_error(name):
            body, parts = self._journal.result(name)
            header, values = decode(body, 1)
            summary, audio = self._summary(name, header), _audio(header["audio"])
            clips = [(_text(channel), _count(n), self._tags(pairs)) for channel, n, pairs in header["clips"]]
            scores, embeddings = self._arrays(values[:, 0], len(clips))
        for n, (channel, n_windows, tags) in enumerate(clips):
            kept = n_windows if self._job.options.windows else 0
            yield ClipResult(
                source=name,
                channel=channel,
                audio=audio,
                duration_s=summary.seconds,
                tags=tags,
                scores=scores[n],
                embedding=embeddings[n],
                n_windows=n_windows,
                windows=StoredWindows(partial(self._windows, name, parts, channel), kept),
                warnings=summary.warnings,
                model=self._model,
            )

    def events(self, name: str) -> SourceEvents:
        """The events of a source, those of all its channels.

        Raises:
            OutputError: the journal is damaged, or cannot be read.
        """
        with self._damage_as_error(name):
            header = _header_of(self._journal.result(name)[0])
            summary = self._summary(name, header)
            return SourceEvents(
                source=name,
                audio=_audio(header["audio"]),
                duration_s=summary.seconds,
                events=tuple(self._event(name, *cells) for cells in header["events"]),
                warnings=summary.warnings,
                model=self._model,
            )

    def embedding_rows(self, name: str) -> Iterator[list[EmbeddingRow]]:
        """The embeddings of a source, some at a time.

        Raises:
            OutputError: the journal is damaged, or cannot be read.
        """
        if not self._job.keep_window_embeddings:
            yield [EmbeddingRow.of_clip(clip) for clip in self.clips(name)]
            return
        with self._damage_as_error(name):
            body, parts = self._journal.result(name)
            warnings = self._summary(name, _header_of(body)).warnings
        for place in parts:
            with self._damage_as_error(name):
                header, embeddings = _decode_checked(self._journal.part(place), self._size)
                rows = [
                    EmbeddingRow(name, _text(channel), _number(start_s), _number(end_s), embedding, warnings)
                    for (channel, start_s, end_s, _), embedding in zip(header, embeddings, strict=True)
                ]
            yield rows

    def stored(self, name: str) -> tuple[bytes, Iterator[bytes]]:
        """The body of a result and its parts, as they came.

        Raises:
            OutputError: the journal cannot be read.
        """
        body, parts = self._journal.result(name)
        return body, map(self._journal.part, parts)

    @contextlib.contextmanager
    def _damage_as_error(self, name: str) -> Iterator[None]:
        """Turn errors in reading a result into one that calls the journal damaged."""
        try:
            yield
        except DAMAGE as exc:
            raise self._journal.damaged(name) from exc

    def _summary(self, name: str, header: Any) -> Summary:
        warnings, damage = (tuple(map(_text, header[key])) for key in ("warnings", "damage"))
        self.damage.pop(name, None)  # an earlier result of the source may have been damaged
        if damage:
            self.damage[name] = damage
        return Summary(_number(header["duration_s"]), warnings, damage)

    def _arrays(
        self, flat: NDArray[np.float32], n_clips: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if not np.isfinite(flat).all():
            raise ValueError("not a finite number")
        n_classes = len(self._labels) if self._job.keep_scores else 0
        size = self._size if self._job.keep_embedding else 0
        scores = flat[: n_clips * n_classes].reshape(n_clips, n_classes)
        return scores, flat[n_clips * n_classes :].reshape(n_clips, size)

    def _windows(self, name: str, parts: list[Place], wanted: str) -> Iterator[WindowTags]:
        for place in parts:
            with self._damage_as_error(name):
                rows = _header_of(self._journal.part(place))
                windows = [
                    WindowTags(_number(start_s), _number(end_s), self._tags(pairs))
                    for channel, start_s, end_s, pairs in rows
                    if channel == wanted
                ]
            yield from windows

    def _event(
        self,
        name: str,
        channel: str,
        start_s: float,
        end_s: float,
        index: int,
        score: float,
        mean_score: float,
        n_windows: int,
    ) -> Event:
        label = self._labels[_count(index)]
        start_s, end_s, score, mean_score = map(_number, (start_s, end_s, score, mean_score))
        return Event(
            name,
            _text(channel),
            start_s,
            end_s,
            index,
            label.name,
            label.mid,
            score,
            mean_score,
            _count(n_windows),
        )

    def _tags(self, pairs: list[tuple[int, float]]) -> tuple[Tag, ...]:
        labels = self._labels
        return tuple(
            Tag(rank, index, labels[_count(index)].name, labels[index].mid, _number(score))
            for rank, (index, score) in enumerate(pairs, start=1)
        )


def _decode_checked(data: bytes, width: int) -> tuple[Any, NDArray[np.float32]]:
    header, values = decode(data, width)
    if not np.isfinite(values).all():
        raise ValueError("not a finite number")
    return header, values


def _audio(cells: Any) -> AudioInfo:
    rate_hz, channels, n_frames, container, codec = cells
    n_frames = None if n_frames is None else _count(n_frames)
    return AudioInfo(_count(rate_hz), _count(channels), n_frames, _text(container), _text(codec))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not text")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError("not a finite number")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise TypeError("not a count")
    return value
