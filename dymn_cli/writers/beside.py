"""The names of what lies beside a file of results.

tags.csv   tags.csv.meta.json, tags.csv.failures.csv, tags.csv.warnings.csv
emb.npy    emb.meta.json, emb.index.csv, emb.npy.failures.csv, emb.npy.warnings.csv

What says how a result was made, or what the rows of a matrix are, is worth nothing without it: left over, it
makes room for that of a new result. Without `--force`, a file of that name stays that is no such file, or
that another result has as well: `emb.index.csv` is that of a matrix `emb`, and of `emb.npy`.
"""

from __future__ import annotations

import os

from dymn_cli.writers.meta import META_SCHEMA
from dymn_cli.writers.target import Target, beginning_of, is_there, open_target

__all__ = [
    "INDEX_COLUMNS",
    "MAX_META_BYTES",
    "META_NAME",
    "all_beside",
    "failures_of",
    "index_of",
    "is_beside",
    "is_left_over",
    "meta_of",
    "open_beside",
    "warnings_of",
]

MATRIX = ".npy"
META, INDEX = ".meta.json", ".index.csv"
META_NAME = f"dymn{META}"  # of all results in a folder
INDEX_COLUMNS = ("row", "source", "channel", "start_s", "end_s")
INDEX_BEGIN = f"{','.join(INDEX_COLUMNS)}\n".encode()
META_MARK = f'"schema": "{META_SCHEMA}"'.encode()
MAX_META_BYTES = 1 << 20


def meta_of(out: str, format_name: str | None = None) -> str:
    """What made the results; it is called otherwise beside a matrix than beside rows."""
    return f"{_stem(out) if format_name == 'npy' else out}{META}"


def index_of(out: str) -> str:
    """Which row of a matrix is what."""
    return f"{_stem(out)}{INDEX}"


def failures_of(out: str) -> str:
    """The sources that gave nothing."""
    return f"{out}.failures.csv"


def warnings_of(out: str) -> str:
    """The sources that are damaged, and what is missing of them."""
    return f"{out}.warnings.csv"


def all_beside(out: str) -> tuple[str, ...]:
    """Every name that a run which writes `out` may use beside it, whatever the format of its results."""
    names = (meta_of(out), failures_of(out), warnings_of(out))
    return (*names, meta_of(out, "npy"), index_of(out)) if out.endswith(MATRIX) else names


def is_beside(path: str) -> bool:
    """Whether dymn wrote this file to lie beside a result; a list does not count.

    Raises:
        OutputError: it cannot be read.
    """
    begin = beginning_of(path, MAX_META_BYTES) or b""
    return META_MARK in begin or begin.startswith(INDEX_BEGIN)


def is_left_over(path: str, result: str) -> bool:
    """Whether dymn wrote this file to lie beside a result that is about to be written, and beside no other.

    Raises:
        OutputError: it cannot be read.
    """
    if os.path.basename(path) == META_NAME or not is_beside(path):  # noqa: PTH119 - a path or a URI
        return False
    stem = path.removesuffix(META).removesuffix(INDEX)
    return not any(is_there(other) for other in (stem, f"{stem}{MATRIX}") if other != result)


def open_beside(path: str, result: str, *, force: bool = False) -> Target:
    """Open what will lie beside a result; a left-over one is replaced, also without `force`.

    Open the result itself first: where it is there, that needs `force`.

    Raises:
        OutputError: see `open_target`.
    """
    return open_target(path, force=force or is_left_over(path, result))


def _stem(out: str) -> str:
    return out.removesuffix(MATRIX)
