"""Read the class names of your own model: one a line, or a column of a CSV file."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from dymn_cli.errors import UsageError
from dymn_cli.labels import Vocabulary
from dymn_cli.small_files import read_small_text

__all__ = ["read_class_names"]

COLUMNS = ("display_name", "label", "name", "class")


def read_class_names(path: Path) -> Vocabulary:
    """Read the names of classes, in the order of the network's outputs.

    Args:
        path: a text file with one name a line, which may contain commas; or, with the suffix .csv, a table
            with a header and a column called display_name (as in AudioSet), label, name or class.

    Raises:
        UsageError: it cannot be read, has no such column, or a name is empty or repeated.
    """
    text = read_small_text(path, UsageError, where=f"--labels {path}")
    names = _column(text, path) if path.suffix.lower() == ".csv" else _lines(text)
    try:
        return Vocabulary.from_names(names)
    except UsageError as error:
        raise UsageError(f"--labels {path}: {error.message.removeprefix('vocabulary: ')}") from error


def _lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _column(text: str, path: Path) -> list[str]:
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as exc:
        raise UsageError(f"--labels {path}: not a readable CSV file: {exc}") from exc
    for column in COLUMNS:
        if rows and column in rows[0]:
            return [(row[column] or "").strip() for row in rows]
    raise UsageError(f"--labels {path}: no column of names", hint=f"one of {', '.join(COLUMNS)}")
