"""The names of what lies beside a file of results.

tags.csv   tags.csv.meta.json, tags.csv.failures.csv, tags.csv.warnings.csv
emb.npy    emb.meta.json, emb.index.csv, emb.npy.failures.csv, emb.npy.warnings.csv

What says how a result was made, or what the rows of a matrix are, is worth nothing without it: left over, it
makes room for that of a new result. A file of that name that is no such file stays, unless with `--force`.
"""

from __future__ import annotations

from dymn_cli.writers.meta import META_SCHEMA
from dymn_cli.writers.target import Target, beginning_of, open_target

__all__ = [
    "INDEX_COLUMNS",
    "MAX_META_BYTES",
    "all_beside",
    "failures_of",
    "index_of",
    "is_beside",
    "meta_of",
    "open_beside",
    "warnings_of",
]

MATRIX = ".npy"
INDEX_COLUMNS = ("row", "source", "channel", "start_s", "end_s")
INDEX_BEGIN = f"{','.join(INDEX_COLUMNS)}\n".encode()
META_MARK = f'"schema": "{META_SCHEMA}"'.encode()
MAX_META_BYTES = 1 << 20


def meta_of(out: str, format_name: str | None = None) -> str:
    """What made the results; it is called otherwise beside a matrix than beside rows."""
    return f"{_stem(out) if format_name == 'npy' else out}.meta.json"


def index_of(out: str) -> str:
    """Which row of a matrix is what."""
    return f"{_stem(out)}.index.csv"


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


def open_beside(path: str, *, force: bool = False) -> Target:
    """Open what will lie beside a result; a left-over one is replaced, also without `force`.

    Open the result itself first: where it is there, that needs `force`.

    Raises:
        OutputError: see `open_target`.
    """
    return open_target(path, force=force or is_beside(path))


def _stem(out: str) -> str:
    return out.removesuffix(MATRIX)
