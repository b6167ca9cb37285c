"""Read tables of text: rows of cells under a header, separated by commas, tabs or semicolons.

Rows are read one by one, so a table may have any size, and every error names the line that it is about.
Bytes that are not UTF-8 survive as surrogates: names of files may hold them.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from dymn_cli.errors import DymnError, InputError, os_errors_as
from dymn_cli.small_files import SMALL, bounded_lines, read_small_text
from dymn_cli.values import counted

__all__ = [
    "Table", "cells_of", "read_table", "require_no_header", "separator_of", "small_table", "stream_lines",
]  # fmt: skip

LARGEST_CELL = 1 << 20


@dataclass(frozen=True, slots=True)
class Table:
    """A table while it is read.

    Args:
        path: what errors call it.
        columns: their names.
        lines: the rows as cells, each with the number of the line where it ends.
        pad: a row may lack cells at its end, as editors write it.
        error: what is raised for a row that does not fit.
    """

    path: str
    columns: tuple[str, ...]
    lines: Iterable[tuple[int, list[str]]]
    pad: bool = False
    error: type[DymnError] = InputError

    def __iter__(self) -> Iterator[tuple[int, dict[str, str]]]:
        """The line of each row and its cells by column.

        Raises:
            DymnError: as `error` says: a row has more cells than there are columns, or fewer, or is the
                header again.
        """
        width = len(self.columns)
        for line, cells in self.lines:
            if len(cells) > width or (len(cells) < width and not self.pad):
                raise self.error(
                    f"{self.at(line)}: {counted(len(cells), 'cell')} for {width} columns",
                    hint='put cells that contain the separator in quotes: "a, b"',
                )
            require_no_header(cells, self.columns, self.at(line), self.error)
            yield line, dict(zip(self.columns, cells + [""] * (width - len(cells)), strict=True))

    def at(self, line: int) -> str:
        """Where a row stands, as errors say it."""
        return f"{self.path}, line {line}"

    def first(self, names: Iterable[str]) -> str | None:
        """The first of these columns that the table has."""
        return next((name for name in names if name in self.columns), None)


def read_table(path: str, separators: str, *, columns: Sequence[str] | None = None) -> Table:
    """Open a table of any size: CSV with quotes, or cells between tabs without any.

    Args:
        path: of the file.
        separators: that it may have: a tab, or some that its first line chooses from.
        columns: those of a table that may lack a header; by default the first row is the header.

    Raises:
        InputError: it cannot be read, or is no table.
    """
    text = stream_lines(path)
    first_line = next(text, "")
    separator = separator_of(first_line, separators)
    lines = cells_of(chain([first_line], text), path, separator, quotes=separator != "\t")
    _, header = first = next(lines, (0, []))
    if columns is None or list(columns[:2]) == header[:2]:
        return Table(path, tuple(header), lines)

    def all_lines() -> Iterator[tuple[int, list[str]]]:
        if header:
            yield first
        yield from lines

    return Table(path, tuple(columns), all_lines())


def small_table(
    path: str, error: type[DymnError], *, limit: int = SMALL, errors: str = "surrogateescape"
) -> Table:
    """Read a table as people write it.

    Cells are separated by commas, tabs or semicolons, whichever the header has, and may be missing at the end
    of a row. Blank lines and lines that begin with "#" are skipped, but a header may begin so (AudioSet's).

    Args:
        path: of the file.
        error: what is raised where it makes no sense.
        limit: more bytes than that are refused.
        errors: how bytes are decoded that are not UTF-8, as in `bytes.decode`.

    Raises:
        DymnError: as `error` says: it cannot be read, is empty, or has two columns of the same name.
    """
    text = read_small_text(path, error, max_bytes=limit, errors=errors)
    if "\0" in text:
        raise error(f"{path}: not a table of text")
    lines = io.StringIO(text, newline="")
    n_before = 0
    for line in lines:
        n_before += 1
        header = line.strip().lstrip("#").strip()
        if header and (not line.startswith("#") or "ytid" in map(str.strip, header.lower().split(","))):
            break
    else:
        raise error(f"{path}: empty")
    separator = separator_of(header)
    columns = tuple(cell.strip() for cell in next(csv.reader([header], delimiter=separator)))
    twice = [name for name, n in Counter(columns).items() if n > 1]
    if twice:
        raise error(f"{path}, line {n_before}: two columns have the name {twice[0]!r}")
    rows = cells_of(lines, path, separator, skip_spaces=True, n_before=n_before, error=error)
    stripped = ((line_number, [cell.strip() for cell in cells]) for line_number, cells in rows)
    kept = ((n, cells) for n, cells in stripped if any(cells) and not cells[0].startswith("#"))
    return Table(path, columns, kept, pad=True, error=error)


def require_no_header(
    cells: Sequence[str], header: Sequence[str], where: str, error: type[DymnError] = InputError
) -> None:
    """Refuse a row that is the header again.

    Raises:
        DymnError: as `error` says.
    """
    if cells[0] == header[0] and tuple(cells) == tuple(header):
        raise error(
            f"{where}: the names of the columns again: two files are one behind the other",
            hint="leave them out of the second (tail -n +2); dymn merge puts results together",
        )


def separator_of(header: str, among: str = ",;\t") -> str:
    """Which of these separates the cells of a header: the one that comes first outside of quotes.

    Where a comma is the sign of decimals, spreadsheets write semicolons into csv files.
    """
    return next((char for char in re.sub('"[^"]*"', "", header) if char in among), among[0])


def stream_lines(path: str) -> Iterator[str]:
    """The lines of a text file with their ends.

    Raises:
        InputError: it cannot be read, or a line never ends.
    """
    with (
        os_errors_as(InputError, path),
        open(  # noqa: PTH123 - names may be bytes that no Path holds
            path, encoding="utf-8-sig", errors="surrogateescape", newline=""
        ) as file,
    ):
        yield from bounded_lines(file, path, InputError)


def cells_of(
    lines: Iterable[str],
    path: str,
    separator: str,
    *,
    quotes: bool = True,
    skip_spaces: bool = False,
    n_before: int = 0,
    error: type[DymnError] = InputError,
) -> Iterator[tuple[int, list[str]]]:
    """The rows that have any cells, each with the number of the line where it ends.

    Args:
        lines: with their ends.
        path: what errors call them.
        separator: of cells.
        quotes: cells in double quotes may hold separators and line ends.
        skip_spaces: cells may begin with spaces that are not theirs.
        n_before: lines that came before the first of these.
        error: what is raised where they are no table.

    Raises:
        DymnError: as `error` says.
    """
    csv.field_size_limit(LARGEST_CELL)
    reader = csv.reader(
        lines,
        delimiter=separator,
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
        skipinitialspace=skip_spaces,
        strict=quotes,
    )
    try:
        for cells in reader:
            if cells:
                yield reader.line_num + n_before, cells
    except csv.Error as exc:
        raise error(f"{path}, line {reader.line_num + n_before}: not a table: {exc}") from exc
