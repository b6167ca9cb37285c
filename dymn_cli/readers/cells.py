"""Rows of csv and tsv as cells, and numbers in them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from dymn_cli.datasets import tables
from dymn_cli.errors import InputError
from dymn_cli.readers.source import os_errors_of
from dymn_cli.small_files import bounded_lines
from dymn_cli.values import score_of
from dymn_cli.writers.spelling import clock_text

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["Clocks", "Scores", "cells_of", "is_number", "require_row", "unescaped"]

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


class Clocks:
    """Reads clock times, and remembers when recordings began.

    In live sound, breaks move the clock: the places that another start tells of are remembered, too.

    Attributes:
        are_given: whether the result has them, be they unknown.
    """

    are_given = False

    def __init__(self) -> None:
        self._starts: dict[str, datetime] = {}
        self._moved: dict[tuple[str, int], datetime] = {}

    def note(self, source: str, text: object, start_s: float) -> None:
        """Take in the clock time of a place in a recording; what is no time in ISO 8601 is unknown."""
        if not (text and isinstance(text, str)):
            return
        place_ms = round(start_s * 1000)
        try:
            began = datetime.fromisoformat(text) - timedelta(milliseconds=place_ms)
        except (ValueError, OverflowError):
            return
        if self._starts.setdefault(source, began) != began:
            self._moved[source, place_ms] = began

    def at(self, source: str, start_s: float) -> str:
        """The clock time of a place in a recording; "" where it is unknown."""
        place_ms = round(start_s * 1000)
        return clock_text(self._moved.get((source, place_ms), self._starts.get(source)), start_s)


def is_number(text: str) -> bool:
    """Whether a cell is a finite number, with a decimal point or comma."""
    try:
        return math.isfinite(float(text.replace(",", ".")))
    except ValueError:
        return False
