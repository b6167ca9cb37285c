"""A finished result in another format: what was read, made ready for a writer of another kind.

    Result ──▶ selection ──▶ what the new format needs and the old one lacks ──▶ Writer

Nothing is heard again. Lengths and sample rates come from the headers of the recordings, where these are
there; what a format cannot hold is counted, and said once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any, BinaryIO

from dymn_cli.audio.discover import Found
from dymn_cli.errors import DymnError, UsageError
from dymn_cli.results import AudioInfo, ClipResult, Failure, SourceEvents
from dymn_cli.values import counted
from dymn_cli.writers import (
    EMBEDDING_FORMATS,
    EVENT_FORMATS,
    ONE_SOURCE,
    TAG_FORMATS,
    WITH_CLOCK,
    EmbeddingOptions,
    WriterOptions,
    choose_format,
    embedding_writer,
    event_writer,
    open_embeddings,
    open_events,
    open_tags,
    several_sources,
    tag_writer,
)
from dymn_cli.writers.folder import ResultFolder

if TYPE_CHECKING:
    from rich.console import Console

    from dymn_cli.audio.locate import Locator
    from dymn_cli.readers import Result, Selection, SelectionOptions
    from dymn_cli.readers.result import Item
    from dymn_cli.writers.base import OptionValue, Provenance, Writer

__all__ = ["OBJECTS", "ROWS_AT_A_TIME", "Conversion", "choose_target", "write_folder", "write_result"]

ROWS_AT_A_TIME = 4096
FORMATS = {"events": EVENT_FORMATS, "tags": TAG_FORMATS, "embeddings": EMBEDDING_FORMATS}
OBJECTS = ("json", "jsonl")
WITHOUT_SCORES = ("audacity", "sed")
WITHOUT_CHANNELS = ("sed", "srt", "vtt")


def choose_target(name: str | None, out: str | None) -> str | None:
    """The format to write: as it is named, or by the suffix of the file; None where neither says.

    Raises:
        UsageError: there is no such format.
    """
    every = tuple(dict.fromkeys(name for formats in FORMATS.values() for name in formats))
    return choose_format(name, out, default="", formats=every) or None


def _require_format(name: str, result: Result) -> None:
    if name not in FORMATS[result.kind]:
        holds = next(kind for kind, formats in FORMATS.items() if name in formats)
        raise UsageError(
            f"{name} holds {holds}, and {result.name} has {result.kind}",
            hint=f"one of {', '.join(FORMATS[result.kind])}",
        )


def _provenance_with(provenance: Provenance | None, options: SelectionOptions) -> Provenance | None:
    """What made a result, and how it was selected from afterwards."""
    if provenance is None or options.is_all:
        return provenance
    usual = type(options)()
    chosen = tuple(
        f"{field.name}={value}"
        for field in dataclasses.fields(options)
        if (value := getattr(options, field.name)) != getattr(usual, field.name)
    )
    return dataclasses.replace(provenance, options=(*provenance.options, ("selected", chosen)))


class Conversion:
    """Reads a result for a writer of another format.

    Args:
        result: that is open.
        format_name: of the writer.
        selection: what is wanted of it.
        recordings: finds the recordings whose lengths and rates the new format needs.
        header: as for writers.
        precision: decimals of scores; None as the result has them.
        csv_safe: as for writers.
        scores: as for writers.

    Raises:
        UsageError: the format does not hold what the result has, or embeddings shall be selected by label.
    """

    def __init__(
        self,
        result: Result,
        format_name: str,
        selection: Selection,
        recordings: Locator | None = None,
        *,
        header: bool | None = None,
        precision: int | None = None,
        csv_safe: bool = False,
        scores: bool = False,
    ) -> None:
        _require_format(format_name, result)
        self._result = result
        self._format = format_name
        self._clock_at = result.clock_at if format_name in WITH_CLOCK else None
        self.made = _provenance_with(result.provenance, selection.options)
        if self.made is not None and self._clock_at is None:
            options = tuple((name, value) for name, value in self.made.options if name != "clock")
            self.made = dataclasses.replace(self.made, options=options)
        self.options: WriterOptions | EmbeddingOptions
        if result.kind == "embeddings":
            if not selection.options.is_all:
                raise UsageError(f"{result.name} has embeddings, and no labels to select by")
            self.options = EmbeddingOptions(
                provenance=self.made, size=result.size, header=header, csv_safe=csv_safe
            )
        else:
            asked = self._made_with("channel")
            self.options = WriterOptions(
                provenance=self.made,
                header=header,
                precision=result.precision if precision is None else precision,
                windows=result.kind == "tags" and self._has_windows,
                channel=str(asked or "mix"),
                csv_safe=csv_safe,
                clock_at=self._clock_at,
                scores=scores,
            )
        self._selection = selection
        self._recordings = recordings
        self._audio: dict[str, AudioInfo | None] = {}
        self._lost: dict[str, int] = {}
        self._unknown: set[str] = set()

    def _made_with(self, option: str) -> OptionValue | None:
        """An option of the command that made the result; None where nobody knows."""
        return None if self.made is None else dict(self.made.options).get(option)

    @property
    def format_name(self) -> str:
        """The format to write."""
        return self._format

    @property
    def _has_windows(self) -> bool:
        """Whether tags are written as those of windows: rows are, each with its own times."""
        if {self._result.format_name, self._format} & set(OBJECTS):
            return self._result.windows is not False
        return True

    @property
    def _has_scores(self) -> bool:
        is_scored = isinstance(self.options, WriterOptions) and self.options.scores
        return is_scored or self._format not in WITHOUT_SCORES

    @property
    def kind(self) -> str:
        """What the result has: "events", "tags" or "embeddings"."""
        return self._result.kind

    def writer(self, stream: BinaryIO, index: BinaryIO | None = None) -> Writer[Any]:
        """What writes the new format."""
        if isinstance(self.options, EmbeddingOptions):
            return embedding_writer(self._format, stream, self.options, index=index)
        make = event_writer if self._result.kind == "events" else tag_writer
        return make(self._format, stream, self.options)

    def items(self, *, each_alone: bool = False) -> Iterator[Item]:
        """The recordings, ready to be written.

        Args:
            each_alone: every recording gets a file of its own.

        Raises:
            InputError: see `open_result`.
            UsageError: the format holds one recording, and there are several; or objects, and the rows of a
                recording do not stand together.
        """
        ready = (self._ready(item) for item in self._result)
        if each_alone:
            return ready
        if self._format in ONE_SOURCE:
            return iter(self._only(ready))
        return self._each_once(ready) if self._format in OBJECTS else ready

    def _only(self, items: Iterator[Item]) -> list[Item]:
        """All items, of one recording; a file of several is refused before a byte is written."""
        found: list[Item] = []
        sources: set[str] = set()
        for item in items:
            if not isinstance(item, Failure):
                found.append(item)
                sources.add(source_of(item))
                if len(sources) > 1:
                    raise several_sources(self._format)
        return found

    def _each_once(self, items: Iterator[Item]) -> Iterator[Item]:
        seen: set[tuple[str, str]] = set()
        for item in items:
            if isinstance(item, SourceEvents | ClipResult):
                key = item.source, item.channel if isinstance(item, ClipResult) else ""
                if key in seen:
                    raise UsageError(
                        f"{self._result.name}: the rows of {item.source} do not stand together, and"
                        f" {self._format} has one object for each recording",
                        hint="sort the table by recording first",
                    )
                seen.add(key)
            yield item

    def _ready(self, item: Item) -> Item:
        if isinstance(item, Failure):
            self._lose("recording that failed", item.source, self._format in OBJECTS)
            return item
        if isinstance(item, list):
            return item
        if isinstance(item, SourceEvents):
            item = self._selection.events(item)
            scores = [event.score for event in item.events]
            channels = {event.channel for event in item.events}
            is_silent = not item.events
        else:
            item = self._selection.clip(item)
            scores = [tag.score for tag in item.tags]
            channels = {item.channel}
            is_silent = not item.tags
        if scores and not math.isnan(scores[0]):
            self._lose("scores", item.source, self._has_scores)
        if channels - {"mix"}:
            self._lose("channels", item.source, self._format not in WITHOUT_CHANNELS)
        if self._result.clock_at is not None:
            self._lose("clock times", item.source, self._format in WITH_CLOCK)
        if is_silent:
            self._lose("recording without a row", item.source, self._format in (*OBJECTS, "table"))
        return self._known(item) if self._format in (*OBJECTS, "raven") else item

    def _lose(self, what: str, source: str, is_kept: bool) -> None:
        if not is_kept:
            self._lost[what] = self._lost.get(what, 0) + 1

    def _known(self, item: SourceEvents | ClipResult) -> SourceEvents | ClipResult:
        """An item with the length and the rate of its recording, from its header if need be."""
        audio, duration_s = item.audio, item.duration_s
        # Rows of windows may lack the last ones; those of clips end where what was decoded ends.
        is_guess = isinstance(item, ClipResult) and not (audio.rate_hz or self._made_with("windows") is False)
        if audio.rate_hz and not math.isnan(duration_s):
            return item
        header = self._header(item.source)
        if header is None:
            self._unknown.add("the lengths and sample rates of recordings")
            return item
        if (math.isnan(duration_s) or is_guess) and header.duration_s is not None:
            duration_s = header.duration_s
        return dataclasses.replace(item, audio=audio if audio.rate_hz else header, duration_s=duration_s)

    def _header(self, source: str) -> AudioInfo | None:
        if source not in self._audio:
            self._audio[source] = None
            if self._recordings is not None:
                from dymn_cli.audio.decode import open_audio

                with (
                    contextlib.suppress(DymnError),
                    open_audio(self._recordings.find(source), name=source) as reader,
                ):
                    self._audio[source] = reader.info
        return self._audio[source]

    def _lost_things(self) -> Iterator[str]:
        for what, n in self._lost.items():
            first, _, rest = what.partition(" ")
            yield f"{counted(n, first)} {rest}" if first == "recording" else what

    def losses(self) -> str | None:
        """What the new format does not hold, in one sentence; None where it holds all."""
        texts = []
        if self._lost:
            texts.append(f"{self._format} has no place for {', '.join(self._lost_things())}")
        if self._unknown:
            texts.append(f"{self._result.name} does not say {', '.join(self._unknown)} (--audio ROOT does)")
        if self._format in OBJECTS and self._result.provenance is None:
            texts.append("nothing says which model made it")
        return "; ".join(texts) or None


def source_of(item: Item) -> str:
    """The recording of an item; embeddings come by recording."""
    return item[0].source if isinstance(item, list) else item.source


def write_result(
    conversion: Conversion, out: str | None, *, force: bool = False, console: Console | None = None
) -> None:
    """Write a result in its new format, with what lies beside it.

    Args:
        conversion: what to write.
        out: a path; None or "-" for standard output.
        force: replace what exists.
        console: of a table on a terminal.

    Raises:
        OutputError: it exists or cannot be written.
        UsageError: see `Conversion.items`.
        InputError: see `open_result`.
    """
    options, name = conversion.options, conversion.format_name
    opened: contextlib.AbstractContextManager[Writer[Any]]
    if isinstance(options, EmbeddingOptions):
        opened = open_embeddings(out, name, options, force=force)
    elif name in EVENT_FORMATS and conversion.kind == "events":
        opened = open_events(out, name, options, force=force, console=console)
    else:
        opened = open_tags(out, name, options, force=force, console=console)
    with opened as writer:
        for item in conversion.items():
            _put(writer, item)


def write_folder(conversion: Conversion, folder: str, again: Result, *, force: bool = False) -> None:
    """Write a file for each recording.

    Args:
        conversion: what to write.
        folder: where to; it is made if need be.
        again: the same result once more, read for the names of its recordings first.
        force: replace what exists.

    Raises:
        OutputError: a file exists or cannot be written.
        UsageError: two recordings would share a file, or the rows of one do not stand together.
        InputError: see `open_result`.
    """
    names = dict.fromkeys(source_of(item) for item in again if not isinstance(item, Failure))
    places = ResultFolder(folder, conversion.format_name, map(Found, names))
    places.check(lambda name, path: force)
    places.prepare()
    written: set[str] = set()
    for source, items in groupby(conversion.items(each_alone=True), key=source_of):
        recording = [item for item in items if not isinstance(item, Failure)]
        if source in written:
            raise UsageError(f"the rows of {source} do not stand together", hint="sort the table first")
        if recording:
            written.add(source)
            with places.writer(source, conversion.writer) as writer:
                for item in recording:
                    writer.write(item)
    places.complete(conversion.made)


def _put(writer: Writer[Any], item: Item) -> None:
    if isinstance(item, Failure):
        writer.fail(item)
    else:
        writer.write(item)
