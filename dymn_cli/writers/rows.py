"""What tsv and csv have in common: an optional line of column names, then lines of cells.

Spreadsheets run a cell as a formula if it begins with `=`, `+`, `-`, `@`, a tab or a carriage return, and a
file name may begin so. Cells are data and stay as they are, unless the options ask for a safe csv: then an
apostrophe before such a text makes it plain text to a spreadsheet, and a different text to everyone else.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, ClassVar, TypeVar

from dymn_cli.results import ClipResult, Event, SourceEvents, Tag, WindowTags
from dymn_cli.writers.base import EmbeddingOptions, EmbeddingRow, Writer, WriterOptions
from dymn_cli.writers.spelling import seconds

__all__ = ["EmbeddingRows", "EventRows", "LongRows", "RowWriter", "safe_cells"]

T_contra = TypeVar("T_contra", contravariant=True)
Cells = Iterable[object]
Line = Callable[[Cells], bytes]

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class RowWriter(Writer[T_contra]):
    """Writes each result as lines of cells.

    Attributes:
        has_header: whether the format begins with the names of its columns unless the options say otherwise.
        line: the bytes of one row, its newline included.
        options: how rows are written.
    """

    has_header: ClassVar[bool]
    line: ClassVar[Line]
    options: WriterOptions

    def __init__(self, stream: BinaryIO, options: WriterOptions | EmbeddingOptions) -> None:
        super().__init__(stream)
        self.options = options  # type: ignore[assignment]  # embeddings need what both have
        self._header = self.has_header if options.header is None else options.header
        self.more_columns = options.clock_column if isinstance(options, WriterOptions) else ()

    @property
    @abstractmethod
    def columns(self) -> Cells:
        """The names of the columns."""

    @abstractmethod
    def rows(self, result: T_contra) -> Iterable[Cells]:
        """The cells of each row of one source."""

    def begin(self) -> None:
        """Write the names of the columns where they are wanted."""
        if self._header:
            self.stream.write(self._bytes([*self.columns, *self.more_columns]))

    def write(self, result: T_contra) -> None:
        """Write the rows of one source."""
        self.hand_over(b"".join(map(self._bytes, self.rows(result))))

    def _bytes(self, cells: Cells) -> bytes:
        return type(self).line(safe_cells(cells, self.options.csv_safe))


def safe_cells(cells: Cells, safe: bool) -> Cells:
    """The cells; where they shall be safe, texts as a spreadsheet takes for text. Numbers are no danger."""
    return map(_as_text, cells) if safe else cells


def _as_text(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell


class LongRows(RowWriter[ClipResult]):
    """A row a tag: those of the clip, from 0 to its end, or those of each window."""

    @abstractmethod
    def tag_cells(self, tag: Tag) -> Cells:
        """The cells that follow the place."""

    def rows(self, result: ClipResult) -> Iterator[Cells]:
        """The cells of each tag."""
        clip = WindowTags(0.0, result.duration_s, result.tags)
        clock = self.options.clock_cells(result.source)
        for span in result.windows if self.options.windows else (clip,):
            place = (result.source, result.channel, seconds(span.start_s), seconds(span.end_s))
            for tag in span.tags:
                yield *place, *self.tag_cells(tag), *clock(span.start_s)


class EventRows(RowWriter[SourceEvents]):
    """A row an event."""

    @abstractmethod
    def event_cells(self, event: Event) -> Cells:
        """The cells that follow the place."""

    def rows(self, result: SourceEvents) -> Iterator[Cells]:
        """The cells of each event."""
        clock = self.options.clock_cells(result.source)
        for event in result.events:
            place = (event.source, event.channel, seconds(event.start_s), seconds(event.end_s))
            yield *place, *self.event_cells(event), *clock(event.start_s)


class EmbeddingRows(RowWriter[Sequence[EmbeddingRow]]):
    """A row an embedding: its place, then its values, each as short as reads back as the same float32."""

    def __init__(self, stream: BinaryIO, options: EmbeddingOptions) -> None:
        super().__init__(stream, options)
        self._size = options.size

    @property
    def columns(self) -> Cells:
        """Place and numbered values."""
        return ("source", "channel", "start_s", "end_s", *(f"e{n}" for n in range(self._size)))

    def rows(self, result: Sequence[EmbeddingRow]) -> Iterator[Cells]:
        """The cells of each embedding."""
        for row in result:
            yield row.source, row.channel, seconds(row.start_s), seconds(row.end_s), *row.embedding
