"""Rows of csv and tsv as cells, and numbers in them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dymn_cli.datasets import tables
from dymn_cli.errors import InputError
from dymn_cli.readers.source import os_errors_of
from dymn_cli.small_files import bounded_lines
from dymn_cli.values import score_of

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["Scores", "cells_of", "is_number", "require_row", "unescaped"]

_ESCAPE = re.compile(r"\\[tnr\\]")
_ESCAPED = {r"\t": "\t", r"\n": "\n", r"\r": "\r", r"\\": "\\"}


def cells_of(file: TextIO, name: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table that have any cells, and the number of the line where each ends.

    Args:
        file: opened without translating line ends.
        name: what errors call it.
        separator: a tab for rows without quotes, another for csv with its quotes.

    Raises:
        InputError: it cannot be read, or is no table.
    """
    with os_errors_of(name):
        yield from tables.cells_of(
            bounded_lines(file, name, InputError), name, separator, quotes=separator != "\t"
        )


def require_row(where: str, cells: Sequence[str], header: Sequence[str]) -> None:
    """See that a row has a cell for each column, and is not the header again.

    Raises:
        InputError: it has more or fewer, or is.
    """
    if len(cells) != len(header):
        hint = "the file may be cut short" if len(cells) < len(header) else None
        raise InputError(f"{where}: {len(cells)} cells for {len(header)} columns", hint=hint)
    tables.require_no_header(cells, header, where)


def unescaped(text: str) -> str:
    """A cell of our tsv without its escapes."""
    return _ESCAPE.sub(lambda found: _ESCAPED[found[0]], text) if "\\" in text else text


class Scores:
    """Reads scores, and remembers how many decimals they have.

    Attributes:
        precision: decimals of the first score that is text; None before there was one.
    """

    precision: int | None = None

    def of(self, text: str, where: str) -> float:
        """A score; NaN for an empty cell.

        Raises:
            InputError: it is none between 0 and 1.
        """
        text = text.strip().replace(",", ".")
        if not text:
            return math.nan
        if self.precision is None:
            self.precision = min(9, len(text.partition(".")[2])) if "e" not in text.lower() else 9
        return score_of(text, where)


def is_number(text: str) -> bool:
    """Whether a cell is a finite number, with a decimal point or comma."""
    try:
        return math.isfinite(float(text.replace(",", ".")))
    except ValueError:
        return False
