"""What is done with one source, wherever it is done, and how its result travels.

`Work` says what to find out; `analyse` does it for one source, streaming what grows with the length of the
source through `emit` as parts, and returns the rest as a body. Both are bytes, without pickle: they go from
a worker to the parent, into the journal, and are read back by `Reader`.

    body   JSON header: format, warnings, events (if looked for), and for each channel its duration, windows
           and tags (index, score);
           then float32 arrays of all channels: scores (if kept), embeddings (if kept)
    part   JSON header: for each row its channel, start and end, and tags (if kept); then their embeddings
           (if kept), float32

Both start with the length of the JSON (4 bytes, little-endian).
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dymn_cli.results import AudioInfo, ClipResult, Event, SourceEvents, Tag, WindowTags
from dymn_cli.tagging.aggregate import Aggregator, Selection
from dymn_cli.tagging.events import EventOptions, SourceDetector, in_order
from dymn_cli.tagging.options import TagOptions
from dymn_cli.writers import EmbeddingRow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.batch.journal import Journal, Place
    from dymn_cli.labels import Vocabulary
    from dymn_cli.results import ModelInfo
    from dymn_cli.tagging.tagger import ChannelWindow, Tagger

__all__ = ["Joined", "Reader", "Summary", "Work", "analyse", "packed", "unpacked"]

LENGTH = struct.Struct("<I")
ROWS_IN_A_PART = 256


@dataclass(frozen=True, slots=True)
class Work:
    """What to find out of every source.

    Args:
        model: name or path, or those of an ensemble.
        backend: "auto", "onnx" or "torch".
        device: as `dymn_cli.runtime.devices` spells them.
        batch_size: windows in one call of the network, or None.
        options: how to cut, join and select; with `windows`, tags of each window are kept.
        keep_scores: keep all scores of each channel.
        keep_embedding: keep the embedding of each channel.
        keep_window_embeddings: keep the embedding of each window.
        events: find events, and what counts as one; None for none.
        concat: the embeddings of an ensemble's models are kept, one after the other.
        tags: scores are wanted; without them, models that cannot tag will do.
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

    def open_tagger(self, threads: int | None = None) -> Tagger:
        """The tagger that the work needs.

        Raises:
            UsageError: an unknown model, or one that cannot do the work.
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

    def do(
        self,
        tagger: Tagger,
        name: str,
        emit: Callable[[bytes], None],
        progress: Callable[[float, float | None], None],
    ) -> tuple[bytes, Summary]:
        """Do it for one source: see `analyse`.

        Raises:
            InputError: the source cannot be used.
        """
        return analyse(tagger, self, name, emit, progress)


@dataclass(frozen=True, slots=True)
class Summary:
    """What is told of a source at once, before its result is written."""

    seconds: float
    warnings: tuple[str, ...]


def analyse(
    tagger: Tagger,
    work: Work,
    name: str,
    emit: Callable[[bytes], None],
    progress: Callable[[float, float | None], None],
) -> tuple[bytes, Summary]:
    """Do the work for one source.

    Args:
        tagger: loaded by `Work.open_tagger`.
        work: what to find out.
        name: path, or "-" for standard input.
        emit: takes parts, in order.
        progress: takes the seconds of audio that are done, and of how many, as far as its header knows.

    Returns:
        The body of the result, and what is told of it.

    Raises:
        InputError: the source cannot be used.
    """
    joined = Joined(tagger, work, name, emit)
    source = sys.stdin.buffer if name == "-" else name
    with tagger.analyse(source, name=name) as analysis:
        claimed_s = analysis.audio.duration_s
        for row in analysis:
            joined.add(row)
            progress(row.window.end_s, claimed_s)
    return joined.result(analysis.duration_s, analysis.audio, analysis.warnings)


class Joined:
    """What a source gives, joined as its windows come.

    Args:
        tagger: knows the labels, and how sources are cut.
        work: what is kept.
        name: of the source.
        emit: takes parts, in order.
    """

    def __init__(self, tagger: Tagger, work: Work, name: str, emit: Callable[[bytes], None]) -> None:
        self._work = work
        self._emit = emit
        self._selection = Selection(work.options, tagger.vocabulary)
        self._channels: dict[str, Aggregator] = {}
        self._rows: list[ChannelWindow] = []
        self._events: list[Event] = []
        self._detector = SourceDetector(work.events, tagger, source=name) if work.events is not None else None

    def add(self, row: ChannelWindow) -> None:
        """Take the next window in."""
        if row.channel not in self._channels:
            self._channels[row.channel] = Aggregator(self._work.options.aggregate)
        self._channels[row.channel].add(row.window)
        if self._work.options.windows or self._work.keep_window_embeddings:
            self._rows.append(row)
            if len(self._rows) == ROWS_IN_A_PART:
                self._emit_rows()
        if self._detector is not None:
            self._events += self._detector.add(row)

    def result(self, duration_s: float, audio: AudioInfo, warnings: tuple[str, ...]) -> tuple[bytes, Summary]:
        """The body, once all windows are in, and what is told of it."""
        if self._detector is not None:
            self._events += self._detector.finish()
        if self._rows:
            self._emit_rows()
        results = {channel: aggregator.result() for channel, aggregator in self._channels.items()}
        header = {
            "audio": [audio.rate_hz, audio.channels, audio.n_frames, audio.container, audio.codec],
            "duration_s": duration_s,
            "warnings": warnings,
            "events": [_event_cells(event) for event in in_order(self._events)],
            "clips": [
                [channel, self._channels[channel].n_windows, _pairs(self._selection.tags(scores))]
                for channel, (scores, _) in results.items()
            ],
        }
        arrays = [scores for scores, _ in results.values()] if self._work.keep_scores else []
        arrays += [embedding for _, embedding in results.values()] if self._work.keep_embedding else []
        return packed(header, arrays), Summary(duration_s, warnings)

    def _emit_rows(self) -> None:
        self._emit(_part(self._rows, self._work, self._selection))
        self._rows = []


def _part(rows: list[ChannelWindow], work: Work, selection: Selection) -> bytes:
    header = [
        [
            channel,
            window.start_s,
            window.end_s,
            _pairs(selection.tags(window.scores)) if work.options.windows else [],
        ]
        for channel, window in rows
    ]
    return packed(header, [row.window.embedding for row in rows] if work.keep_window_embeddings else [])


def _event_cells(event: Event) -> list[object]:
    place = (event.channel, event.start_s, event.end_s, event.index)
    return [*place, event.score, event.mean_score, event.n_windows]


def _pairs(tags: tuple[Tag, ...]) -> list[tuple[int, float]]:
    return [(tag.index, tag.score) for tag in tags]


def packed(header: object, arrays: list[NDArray[np.float32]]) -> bytes:
    """A JSON header and arrays as bytes."""
    text = json.dumps(header, separators=(",", ":")).encode()
    return LENGTH.pack(len(text)) + text + b"".join(array.astype("<f4").tobytes() for array in arrays)


def unpacked(data: bytes, width: int) -> tuple[Any, NDArray[np.float32]]:
    """Header, and what follows it as rows of that width."""
    (length,) = LENGTH.unpack_from(data)
    values = np.frombuffer(data, "<f4", offset=LENGTH.size + length).astype(np.float32)
    return json.loads(data[LENGTH.size : LENGTH.size + length]), values.reshape(-1, width)


def _header_of(body: bytes) -> Any:
    return unpacked(body[: LENGTH.size + LENGTH.unpack_from(body)[0]], 1)[0]


class StoredWindows(Collection[WindowTags]):
    """The windows of a clip, read from the journal when they are iterated over."""

    def __init__(self, read: Callable[[], Iterator[WindowTags]], n_windows: int) -> None:
        self._read = read
        self._n_windows = n_windows

    def __iter__(self) -> Iterator[WindowTags]:
        return self._read() if self._n_windows else iter(())

    def __len__(self) -> int:
        return self._n_windows

    def __contains__(self, window: object) -> bool:
        return any(window == own for own in self)


class Reader:
    """Results back from a journal, as the writers take them.

    Args:
        journal: where they are.
        work: what was found out.
        model: who answered.
        vocabulary: its labels.
        embedding_size: values in its embeddings.
    """

    def __init__(
        self, journal: Journal, work: Work, model: ModelInfo, vocabulary: Vocabulary, embedding_size: int
    ) -> None:
        self._journal = journal
        self._work = work
        self._model = model
        self._labels = vocabulary.labels
        self._size = embedding_size

    def clips(self, name: str) -> Iterator[ClipResult]:
        """The result of each channel of a source; windows are read as they are iterated over."""
        body, parts = self._journal.result(name)
        header, values = unpacked(body, 1)
        scores, embeddings = self._arrays(values[:, 0], len(header["clips"]))
        for n, (channel, n_windows, pairs) in enumerate(header["clips"]):
            kept = n_windows if self._work.options.windows else 0
            yield ClipResult(
                source=name,
                channel=channel,
                audio=AudioInfo(*header["audio"]),
                duration_s=header["duration_s"],
                tags=self._tags(pairs),
                scores=scores[n],
                embedding=embeddings[n],
                n_windows=n_windows,
                windows=StoredWindows(partial(self._windows, parts, channel), kept),
                warnings=tuple(header["warnings"]),
                model=self._model,
            )

    def events(self, name: str) -> SourceEvents:
        """The events of a source, those of all its channels."""
        header = _header_of(self._journal.result(name)[0])
        return SourceEvents(
            source=name,
            audio=AudioInfo(*header["audio"]),
            duration_s=header["duration_s"],
            events=tuple(self._event(name, *cells) for cells in header["events"]),
            warnings=tuple(header["warnings"]),
            model=self._model,
        )

    def embedding_rows(self, name: str) -> Iterator[list[EmbeddingRow]]:
        """The embeddings of a source, some at a time."""
        if not self._work.keep_window_embeddings:
            yield [EmbeddingRow.of_clip(clip) for clip in self.clips(name)]
            return
        for place in self._journal.result(name)[1]:
            header, embeddings = unpacked(self._journal.part(place), self._size)
            yield [
                EmbeddingRow(name, channel, start_s, end_s, embedding)
                for (channel, start_s, end_s, _), embedding in zip(header, embeddings, strict=True)
            ]

    def _arrays(
        self, flat: NDArray[np.float32], n_clips: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        n_classes = len(self._labels) if self._work.keep_scores else 0
        size = self._size if self._work.keep_embedding else 0
        scores = flat[: n_clips * n_classes].reshape(n_clips, n_classes)
        return scores, flat[n_clips * n_classes :].reshape(n_clips, size)

    def _windows(self, parts: list[Place], wanted: str) -> Iterator[WindowTags]:
        for place in parts:
            data = self._journal.part(place)
            (length,) = LENGTH.unpack_from(data)
            for channel, start_s, end_s, pairs in json.loads(data[LENGTH.size : LENGTH.size + length]):
                if channel == wanted:
                    yield WindowTags(start_s, end_s, self._tags(pairs))

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
        label = self._labels[index]
        return Event(
            name, channel, start_s, end_s, index, label.name, label.mid, score, mean_score, n_windows
        )

    def _tags(self, pairs: list[tuple[int, float]]) -> tuple[Tag, ...]:
        return tuple(
            Tag(rank, index, self._labels[index].name, self._labels[index].mid, score)
            for rank, (index, score) in enumerate(pairs, start=1)
        )
