"""What tsv and csv have in common: an optional line of column names, then lines of cells.

Spreadsheets run a cell as a formula if it begins with `=`, `+`, `-`, `@`, a tab or a carriage return, and a
file name may begin so. Cells are data and stay as they are, unless the options ask for a safe csv: then an
apostrophe before such a text makes it plain text to a spreadsheet, and a different text to everyone else.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, ClassVar, TypeVar

from dymn_cli.results import ClipResult, Event, SourceEvents, Tag
from dymn_cli.writers.base import EmbeddingOptions, EmbeddingRow, Writer, WriterOptions
from dymn_cli.writers.spelling import score_text, seconds

__all__ = ["EmbeddingRows", "EventRows", "LongRows", "RowWriter", "as_text"]

T_contra = TypeVar("T_contra", contravariant=True)
Cells = Iterable[object]
Line = Callable[[Cells], bytes]

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class RowWriter(Writer[T_contra]):
    """Writes what a source gave as lines of cells.

    Attributes:
        has_header: whether the format begins with the names of its columns unless the options say otherwise.
        line: the bytes of one row, its newline included.
    """

    has_header: ClassVar[bool]
    line: ClassVar[Line]

    def __init__(self, stream: BinaryIO, *, header: bool | None, safe: bool = False) -> None:
        super().__init__(stream)
        self._header = self.has_header if header is None else header
        self._safe = safe
        self.more_columns: tuple[str, ...] = ()

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
        return type(self).line(map(as_text, cells) if self._safe else cells)


def as_text(cell: object) -> object:
    """The cell as a spreadsheet takes for text; numbers are no danger, negative ones included."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell


class LongRows(RowWriter[ClipResult]):
    """A row a tag: those of the clip, which start at 0 and end with it, or those of each window."""

    def __init__(self, stream: BinaryIO, options: WriterOptions) -> None:
        super().__init__(stream, header=options.header, safe=options.csv_safe)
        self._options = options
        self.more_columns = options.clock_column

    @abstractmethod
    def tag_cells(self, tag: Tag, score: str) -> Cells:
        """The cells that follow the place."""

    def rows(self, result: ClipResult) -> Iterator[Cells]:
        """The cells of each tag."""
        spans = (
            [(span.start_s, span.end_s, span.tags) for span in result.windows]
            if self._options.windows
            else [(0.0, result.duration_s, result.tags)]
        )
        clock = self._options.clock_cells(result.source)
        for start_s, end_s, tags in spans:
            place = (result.source, result.channel, seconds(start_s), seconds(end_s))
            for tag in tags:
                cells = self.tag_cells(tag, score_text(tag.score, self._options.precision))
                yield *place, *cells, *clock(start_s)


class EventRows(RowWriter[SourceEvents]):
    """A row an event."""

    def __init__(self, stream: BinaryIO, options: WriterOptions) -> None:
        super().__init__(stream, header=options.header, safe=options.csv_safe)
        self._options = options
        self.more_columns = options.clock_column

    @abstractmethod
    def event_cells(self, event: Event) -> Cells:
        """The cells that follow the place."""

    def rows(self, result: SourceEvents) -> Iterator[Cells]:
        """The cells of each event."""
        clock = self._options.clock_cells(result.source)
        for event in result.events:
            place = (event.source, event.channel, seconds(event.start_s), seconds(event.end_s))
            yield *place, *self.event_cells(event), *clock(event.start_s)

    def score(self, value: float) -> str:
        """A score as the options round it."""
        return score_text(value, self._options.precision)


class EmbeddingRows(RowWriter[Sequence[EmbeddingRow]]):
    """A row an embedding: its place, then its values, each as short as reads back as the same float32."""

    def __init__(self, stream: BinaryIO, options: EmbeddingOptions) -> None:
        super().__init__(stream, header=options.header, safe=options.csv_safe)
        self._options = options

    @property
    def columns(self) -> Cells:
        """Place and numbered values."""
        return ("source", "channel", "start_s", "end_s", *(f"e{n}" for n in range(self._options.size)))

    def rows(self, result: Sequence[EmbeddingRow]) -> Iterator[Cells]:
        """The cells of each stretch."""
        for row in result:
            yield row.source, row.channel, seconds(row.start_s), seconds(row.end_s), *row.embedding
