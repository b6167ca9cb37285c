"""A finished result, opened: what it is, what made it, and its recordings one after the other."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, cast

from dymn_cli.audio.discover import is_recording
from dymn_cli.errors import InputError
from dymn_cli.readers import from_json, from_lines, from_tables
from dymn_cli.readers.cells import Clocks, Scores
from dymn_cli.readers.recognise import recognise, require_format
from dymn_cli.readers.rows import UNKNOWN_MODEL, Row, clips_of, events_of, with_label
from dymn_cli.readers.source import ResultFile, open_result_file
from dymn_cli.remote.uri import address_of, is_uri
from dymn_cli.results import ClipResult, Failure, SourceEvents
from dymn_cli.writers.base import EmbeddingRow
from dymn_cli.writers.beside import MAX_META_BYTES, meta_of

if TYPE_CHECKING:
    from dymn_cli.writers.base import Provenance

__all__ = ["EmbeddingRows", "Item", "Kind", "Result", "open_result"]

Kind = Literal["events", "tags", "embeddings"]
EmbeddingRows = list[EmbeddingRow]
Item = ClipResult | SourceEvents | EmbeddingRows | Failure

TRACK_SUFFIXES = (".audacity.txt", ".raven.txt", ".labels.txt", ".txt", ".srt", ".vtt")
KINDS: dict[str, Kind] = {"dymn.clip/1": "tags", "dymn.embedding/1": "embeddings"}
EMBEDDINGS_AT_A_TIME = 1024
DEFAULT_PRECISION = 4


@dataclass(eq=False)
class Result:
    """A result that is open; it is iterated over once.

    Args:
        name: what messages call it.
        format_name: one of `READ_FORMATS`.
        kind: what it holds: "events", "tags" or "embeddings".
        windows: of tags: whether they are those of windows; None where it does not say.
        provenance: what made it; None where nothing says so.
        precision: decimals of its scores.
        size: values of an embedding.
        clock_at: the clock time of a place in a recording, in seconds: "" where it is unknown; None where
            the result has no clock times.
        items: its recordings in the order of the file. Where rows are joined, a recording that comes again
            later is given again.
    """

    name: str
    format_name: str
    kind: Kind
    windows: bool | None
    provenance: Provenance | None
    precision: int
    size: int
    clock_at: Callable[[str, float], str] | None
    items: Iterator[Item]

    def __iter__(self) -> Iterator[Item]:
        return self.items


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a reader finds before the first item."""

    kind: Kind
    items: Iterable[Item]
    windows: bool | None = None
    provenance: Provenance | None = None
    size: int = 0


@contextlib.contextmanager
def open_result(
    path: str, *, format_name: str | None = None, chunk: int | None = None, complete: bool = True
) -> Iterator[Result]:
    """Open a result of dymn, or what another program wrote in one of its formats.

    Args:
        path: of it, or its URI; "-" for standard input.
        format_name: one of `READ_FORMATS`; None to find out.
        chunk: rows of one recording that are given at a time, where the format has rows: a recording with
            more comes in pieces, and memory is bounded. None gives each recording whole.
        complete: find names, ids and indices of AudioSet's labels where the format lacks them.

    Raises:
        InputError: it cannot be read, is no result, or is damaged; the message says where. Also raised while
            the result is iterated over.
        UsageError: there is no such format, or standard input is a terminal.
    """
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open_result_file(path))
        found = recognise(file.head, file.path) if format_name is None else require_format(format_name)
        if found is None:
            raise _no_result(file)
        scores, clocks = Scores(), Clocks()
        opening = _Opening(file, found, scores, clocks, chunk, complete, stack)
        parts = opening.parts()
        items = iter(parts.items)
        first = list(_first(items))
        provenance = parts.provenance or opening.provenance
        embedding = next((one[0].embedding for one in first if isinstance(one, list) and one), None)
        yield Result(
            file.name,
            found,
            parts.kind,
            parts.windows,
            provenance,
            _precision(first, scores),
            parts.size if embedding is None else len(embedding),
            clocks.at if clocks.are_given else None,
            chain(first, items),
        )


def _no_result(file: ResultFile) -> InputError:
    if not file.head.strip():
        return InputError(f"{file.name}: empty", hint="--from tsv reads it as a result without rows")
    if is_recording(file.head, file.path):
        hint = f"find its sounds first: dymn events {shlex.quote(file.path)} -o events.csv"
        return InputError(f"{file.name}: a recording, not a result", hint=hint)
    if b"\0" in file.head:
        return InputError(
            f"{file.name}: not a result: binary data", hint="dymn tag, events and embed make one"
        )
    first = file.head.splitlines()[0].decode("utf-8", "replace")[:40]
    return InputError(
        f"{file.name}: not a result: it begins with {first!r}", hint="--from FORMAT reads it as one"
    )


def _first(items: Iterator[Item]) -> Iterator[Item]:
    """The items up to the first that is no failure."""
    for item in items:
        yield item
        if not isinstance(item, Failure):
            return


def _precision(items: Iterable[Item], scores: Scores) -> int:
    if scores.precision is not None:
        return scores.precision
    found: list[float] = []
    for item in items:
        if isinstance(item, SourceEvents):
            found += [score for event in item.events for score in (event.score, event.mean_score)]
        elif isinstance(item, ClipResult):
            found += [tag.score for tag in item.tags]
    digits = (len(text.partition(".")[2]) for text in map(repr, found) if "e" not in text)
    most = max(digits, default=0)
    return DEFAULT_PRECISION if most > 9 else max(DEFAULT_PRECISION, most)


@dataclass(frozen=True)
class _Opening:
    """A result while it is opened."""

    file: ResultFile
    format_name: str
    scores: Scores
    clocks: Clocks
    chunk: int | None
    complete: bool
    stack: contextlib.ExitStack

    @cached_property
    def provenance(self) -> Provenance | None:
        """What the file beside the result says; a damaged one says nothing."""
        address = address_of(self.file.path)
        if address == "-" or (is_uri(address) and "?" in address):  # what is signed is that one object
            return None
        try:
            with open_result_file(meta_of(address, self.format_name)) as beside:
                return from_json.provenance_of(json.loads(beside.stream.read(MAX_META_BYTES)))
        except (InputError, ValueError, RecursionError):
            return None

    @property
    def track(self) -> str:
        """The recording that a track of labels belongs to: the one that is called as it is."""
        path = self.file.path
        end = next((end for end in TRACK_SUFFIXES if path.lower().endswith(end)), "")
        return path.removesuffix(path[len(path) - len(end) :]) if end else path

    def parts(self) -> _Parts:
        """Open it by its format."""
        if self.format_name in ("json", "jsonl"):
            return self._objects()
        if self.format_name == "parquet":
            return self._parquet()
        if self.format_name == "npy":
            return self._matrix()
        if self.format_name in ("csv", "tsv"):
            return self._table()
        file, scores, clocks = self.file, self.scores, self.clocks
        rows = {
            "raven": lambda: from_tables.raven_rows(file, scores, clocks, self.track, self._channel_of()),
            "kaleidoscope": lambda: from_tables.kaleidoscope_rows(file, scores, self._channel_of()),
            "sed": lambda: from_tables.sed_rows(file, scores),
            "audacity": lambda: from_lines.audacity_rows(file, scores, self.track),
            "rttm": lambda: from_lines.rttm_rows(file, scores, self._channel_of()),
            "srt": lambda: from_lines.subtitle_rows(file, scores, self.track),
            "vtt": lambda: from_lines.subtitle_rows(file, scores, self.track),
        }[self.format_name]()
        return _Parts("events", self._joined("events", rows))

    def _channel_of(self) -> Callable[[int], str]:
        """What a number of a channel stands for: in these formats the mean of all is the first one.

        Where the file beside says that channels were heard one by one, the first is the first.
        """
        made = self.provenance
        asked = dict(made.options).get("channel", "mix") if made is not None else "mix"
        return lambda number: "mix" if number == 0 and asked == "mix" else str(number)

    def _joined(self, kind: Kind, rows: Iterable[Row], made: Provenance | None = None) -> Iterable[Item]:
        made = made or self.provenance
        model = UNKNOWN_MODEL if made is None else made.model
        labelled = map(with_label, rows) if self.complete else rows
        return (events_of if kind == "events" else clips_of)(labelled, model, self.chunk)

    def _table(self) -> _Parts:
        table = from_tables.Table(self.file, self.format_name)
        if table.kind == "embeddings":
            rows = self._cell_embeddings(table)
            return _Parts("embeddings", _by_source(rows), size=len(table.header) - 4)
        kind = cast(Kind, table.kind)
        windows = _of_windows(table.is_clips, self.provenance)
        return _Parts(kind, self._joined(kind, table.rows(self.scores, self.clocks)), windows)

    @staticmethod
    def _cell_embeddings(table: from_tables.Table) -> Iterator[EmbeddingRow]:
        import numpy as np

        for place, values in from_tables.embedding_cells(table):
            yield EmbeddingRow(*place, np.array(values, np.float32))

    def _parquet(self) -> _Parts:
        from dymn_cli.readers.from_parquet import ParquetFile

        self.file.make_seekable(self.stack)
        file = ParquetFile(self.file.stream, self.file.name)
        if file.kind == "embeddings":
            return _Parts("embeddings", _by_source(file.embeddings()), None, file.provenance, file.size)
        kind = cast(Kind, file.kind)
        windows = _of_windows(file.is_clips, file.provenance or self.provenance)
        rows = self._joined(kind, file.rows(self.clocks), file.provenance)
        return _Parts(kind, rows, windows, file.provenance)

    def _matrix(self) -> _Parts:
        from dymn_cli.readers.from_npy import embeddings_of, open_matrix

        matrix = open_matrix(self.file.path)
        rows = embeddings_of(self.file.path, matrix)
        return _Parts("embeddings", _by_source(rows), size=matrix.shape[1])

    def _objects(self) -> _Parts:
        """Objects; the first that is no failure says what all are, and what made them."""
        is_array = self.format_name == "json"
        if is_array:
            self.file.make_seekable(self.stack)
        objects = from_json.objects_of(self.file.text(), self.file.name, as_array=is_array)
        before = []
        for one, where in objects:
            before.append((one, where))
            if not (isinstance(one, dict) and one.get("schema") == "dymn.error/1"):
                break
        first = before[-1][0] if before else None
        schema = first.get("schema") if isinstance(first, dict) else None
        kind = KINDS.get(str(schema), "events")
        self.clocks.are_given = kind != "embeddings" and isinstance(first, dict) and "clock" in first
        items = (self._item(one, where, kind) for one, where in chain(before, objects))
        windows = "windows" in first if kind == "tags" and isinstance(first, dict) else None
        made = from_json.provenance_of(first)
        if kind != "embeddings":
            return _Parts(kind, cast("Iterable[Item]", items), windows, made)
        return _Parts(kind, _by_source(cast("Iterable[EmbeddingRow | Failure]", items)), windows, made)

    def _item(self, one: Any, where: str, kind: Kind) -> from_json.JsonItem:
        item = _same_kind(from_json.item_of(one, where), kind, where)
        if isinstance(item, SourceEvents | ClipResult):
            for text, start_s in from_json.clock_times(one, item):
                self.clocks.note(item.source, text, start_s)
        return item


def _same_kind(item: from_json.JsonItem, kind: Kind, where: str) -> from_json.JsonItem:
    wanted = {"events": SourceEvents, "tags": ClipResult, "embeddings": EmbeddingRow}[kind]
    if not isinstance(item, wanted | Failure):
        raise InputError(f"{where}: something else than {kind}, which the objects before are")
    return item


def _of_windows(is_clips: bool, made: Provenance | None) -> bool | None:
    """Whether tags are those of windows; None where nothing says so."""
    if is_clips:
        return False
    asked = None if made is None else dict(made.options).get("windows")
    return None if asked is None else bool(asked)


def _by_source(rows: Iterable[EmbeddingRow | Failure]) -> Iterator[Item]:
    """Embeddings, those of a source together but not too many at a time.

    Raises:
        InputError: they differ in size.
    """
    together: EmbeddingRows = []
    size: int | None = None
    for row in rows:
        is_same = isinstance(row, EmbeddingRow) and bool(together) and row.source == together[0].source
        if together and (not is_same or len(together) >= EMBEDDINGS_AT_A_TIME):
            yield together
            together = []
        if isinstance(row, Failure):
            yield row
            continue
        size = len(row.embedding) if size is None else size
        if len(row.embedding) != size:
            raise InputError(f"{row.source}: an embedding of {len(row.embedding)} values, others have {size}")
        together.append(row)
    if together:
        yield together
