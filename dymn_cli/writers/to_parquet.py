"""Parquet: columns with types, for data frames; needs pyarrow, which `pip install 'dymn[parquet]'` brings.

    source, source_b64, channel, start_s, end_s,
        rank, label, mid, index, score                                  tags, long: a row a tag
        a float column for each label, named as it is                   tags, matrix: a row a clip
        label, mid, index, score, mean_score, n_windows                 events
        embedding, a list of D float32                                  embeddings

With a clock, tags and events also have a column `clock`, a text in ISO 8601.

Scores are the float32 of the model, not rounded. `source` is valid UTF-8; where the name is not,
`source_b64` has its bytes in base64, otherwise it is null. What made the file is in its metadata under the
key "dymn", as JSON.

Rows are gathered into groups before they are written, so memory holds one group. The file is readable once it
is complete, because its directory comes last.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, TypeVar

from dymn_cli.errors import OutputError
from dymn_cli.results import ClipResult, SourceEvents
from dymn_cli.writers.base import EmbeddingOptions, EmbeddingRow, Provenance, Writer, WriterOptions
from dymn_cli.writers.meta import meta_document
from dymn_cli.writers.spelling import seconds, stand_in

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["ParquetEmbeddings", "ParquetEvents", "ParquetMatrix", "ParquetTags"]

T_contra = TypeVar("T_contra", contravariant=True)
Row = tuple[object, ...]

CELLS_IN_A_GROUP = 1 << 20
PLACE = (
    ("source", "string"),
    ("source_b64", "string"),
    ("channel", "string"),
    ("start_s", "float64"),
    ("end_s", "float64"),
)


class _Parquet(Writer[T_contra]):
    """Gathers rows, and writes them a group at a time.

    Args:
        stream: gets the bytes; need not be seekable.
        provenance: what made the result, or None.

    Attributes:
        n_rows: taken so far.

    Raises:
        OutputError: pyarrow is not installed.
    """

    def __init__(self, stream: BinaryIO, provenance: Provenance | None) -> None:
        super().__init__(stream)
        self.n_rows = 0
        self._made = provenance
        self._arrow, self._parquet = _pyarrow()
        self._rows: list[Row] = []
        self._writer: Any = None

    n_values = 0  # of a row, where a cell has many

    @abstractmethod
    def fields(self) -> Iterable[tuple[str, str | int]]:
        """Names and types of the columns that follow the place."""

    @abstractmethod
    def rows(self, result: T_contra) -> Iterator[Row]:
        """The rows of one source."""

    def begin(self) -> None:
        """Write the beginning of the file."""
        fields = [(name, self._type(kind)) for name, kind in (*PLACE, *self.fields())]
        metadata = None if self._made is None else {"dymn": meta_document(self._made)}
        self._schema = self._arrow.schema(fields, metadata=metadata)
        self._writer = self._parquet.ParquetWriter(_Sink(self.stream), self._schema)

    def _type(self, kind: str | int) -> Any:
        """The type of that name; a number stands for a list of so many float32."""
        if isinstance(kind, int):
            return self._arrow.list_(self._arrow.float32(), kind)
        return self._arrow.type_for_alias(kind)

    def write(self, result: T_contra) -> None:
        """Take the rows of one source; write them once there are enough."""
        for row in self.rows(result):
            self.n_rows += 1
            self._rows.append(row)
            if len(self._rows) * max(len(row), self.n_values) >= CELLS_IN_A_GROUP:
                self._write_group()

    def note(self, key: str, text: bytes) -> None:
        """Put something into the metadata of the file, any time before its end."""
        self._writer.add_key_value_metadata({key: text})

    def end(self) -> None:
        """Write what is left, and the directory of the file."""
        self._write_group()
        self._writer.close()
        self.stream.flush()

    def _write_group(self) -> None:
        if not self._rows:
            return
        columns = [
            self._arrow.array(values, field.type)
            for values, field in zip(zip(*self._rows, strict=True), self._schema, strict=True)
        ]
        self._writer.write_table(self._arrow.Table.from_arrays(columns, schema=self._schema))
        self._rows = []


class _ParquetResults(_Parquet[T_contra]):
    def __init__(self, stream: BinaryIO, options: WriterOptions) -> None:
        super().__init__(stream, options.provenance)
        self.options = options


class ParquetTags(_ParquetResults[ClipResult]):
    """A row a tag."""

    def fields(self) -> Iterable[tuple[str, str | int]]:
        """What is known of a tag."""
        return (
            ("rank", "int32"),
            ("label", "string"),
            ("mid", "string"),
            ("index", "int32"),
            ("score", "float32"),
            *((name, "string") for name in self.options.clock_column),
        )

    def rows(self, result: ClipResult) -> Iterator[Row]:
        """The tags of the clip, or of each window."""
        spans = (
            ((window.start_s, window.end_s, window.tags) for window in result.windows)
            if self.options.windows
            else ((0.0, result.duration_s, result.tags),)
        )
        clock = self.options.clock_cells(result.source)
        for start_s, end_s, tags in spans:
            when = [text or None for text in clock(start_s)]
            place = _place(result.source, result.channel, start_s, end_s)
            for tag in tags:
                yield *place, tag.rank, tag.label, tag.mid, _or_null(tag.index), _or_null(tag.score), *when


class ParquetMatrix(_ParquetResults[ClipResult]):
    """A row a clip."""

    def fields(self) -> Iterable[tuple[str, str | int]]:
        """A column a label."""
        return ((label.name, "float32") for label in self.options.labels)

    def rows(self, result: ClipResult) -> Iterator[Row]:
        """The scores of the clip."""
        place = _place(result.source, result.channel, 0.0, result.duration_s)
        yield *place, *(result.scores[label.index] for label in self.options.labels)


class ParquetEvents(_ParquetResults[SourceEvents]):
    """A row an event."""

    def fields(self) -> Iterable[tuple[str, str | int]]:
        """What is known of an event."""
        return (
            ("label", "string"),
            ("mid", "string"),
            ("index", "int32"),
            ("score", "float32"),
            ("mean_score", "float32"),
            ("n_windows", "int32"),
            *((name, "string") for name in self.options.clock_column),
        )

    def rows(self, result: SourceEvents) -> Iterator[Row]:
        """The events of the source."""
        clock = self.options.clock_cells(result.source)
        for event in result.events:
            place = _place(event.source, event.channel, event.start_s, event.end_s)
            yield (
                *place,
                event.label,
                event.mid,
                _or_null(event.index),
                _or_null(event.score),
                _or_null(event.mean_score),
                event.n_windows or None,
                *(text or None for text in clock(event.start_s)),
            )


class ParquetEmbeddings(_Parquet[Sequence[EmbeddingRow]]):
    """A row an embedding."""

    def __init__(self, stream: BinaryIO, options: EmbeddingOptions) -> None:
        super().__init__(stream, options.provenance)
        self.n_values = options.size

    def fields(self) -> Iterable[tuple[str, str | int]]:
        """The values, as a list of fixed size."""
        return (("embedding", self.n_values),)

    def rows(self, result: Sequence[EmbeddingRow]) -> Iterator[Row]:
        """The embeddings of one source."""
        for row in result:
            yield *_place(row.source, row.channel, row.start_s, row.end_s), row.embedding


class _Sink:
    """The stream as pyarrow wants it: it asks where it is, which a pipe cannot say."""

    closed: ClassVar[bool] = False
    mode: ClassVar[str] = "wb"

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._n_bytes = 0

    def write(self, data: Any) -> int:
        # A writer that is dropped after an error still tries to complete its file.
        if not self._stream.closed:
            self._stream.write(data)
        self._n_bytes += len(data)
        return len(data)

    def tell(self) -> int:
        return self._n_bytes

    def flush(self) -> None:
        """Nothing is kept back here."""

    def close(self) -> None:
        """The stream belongs to someone else."""


def _or_null(value: float) -> float | None:
    """Null for what is not known of a converted result: NaN, or the index -1."""
    return value if value >= 0 else None


def _place(source: str, channel: str, start_s: float, end_s: float) -> Row:
    return *stand_in(source), channel, seconds(start_s), seconds(end_s)


def _pyarrow() -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as exc:
        raise OutputError("parquet needs pyarrow", hint="pip install 'dymn[parquet]'") from exc
    return pyarrow, pyarrow.parquet
