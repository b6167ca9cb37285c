"""Embeddings of a library: a matrix, what each row is, and what made them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, overload

import numpy as np

from dymn_cli.errors import InputError
from dymn_cli.readers import open_result
from dymn_cli.readers.cells import require_row
from dymn_cli.readers.from_json import provenance_of
from dymn_cli.readers.from_npy import open_matrix
from dymn_cli.readers.source import open_result_file
from dymn_cli.remote.uri import named
from dymn_cli.results import Failure
from dymn_cli.small_files import read_small
from dymn_cli.values import time_of
from dymn_cli.writers.beside import INDEX_COLUMNS, MAX_META_BYTES, index_of, meta_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.writers.base import Provenance

__all__ = ["Library", "Place", "open_library"]

PIECE_BYTES = 1 << 24
QUOTE, LINE_FEED = ord('"'), ord("\n")
Rename = Callable[[str], str]


class Place(NamedTuple):
    """What a row is the embedding of."""

    source: str
    channel: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Library:
    """Embeddings of many recordings.

    Args:
        name: what messages call it.
        matrix: (n_rows, D) float32, memory-mapped where it is an .npy file.
        places: what each row is.
        provenance: what made the embeddings; None where nothing says so.
    """

    name: str
    matrix: NDArray[np.float32]
    places: Sequence[Place]
    provenance: Provenance | None


def open_library(path: str, rename: Rename = str) -> Library:
    """Open what `dymn embed` wrote: an .npy file and its index, or another format with embeddings.

    Args:
        path: of the file; of another format than .npy, also a URI.
        rename: what places call a recording, by its name in the file; by default as there.

    Raises:
        InputError: it cannot be read, has no embeddings or no rows, or its index does not fit; or it is
            parquet, and pyarrow is not installed.
    """
    path = named(path)
    if path.endswith(".npy"):  # not as a result, which is read by recordings: one may have a million rows
        with open_result_file(path):
            return _from_npy(path, rename)
    with open_result(path) as result:
        if result.kind != "embeddings":
            raise InputError(f"{path}: {result.kind}, not embeddings", hint="dymn embed makes them")
        if result.format_name == "npy":
            return _from_npy(path, rename)
        return _in_memory(path, result, result.provenance, rename)


class _IndexFile(Sequence[Place]):
    """The rows of an .index.csv, each parsed when it is asked for: 8 bytes a row in memory.

    Args:
        path: of the file.
        n_rows: of the matrix.
        rename: see `open_library`.

    Raises:
        InputError: it is missing, is no index, or has another number of rows.
    """

    def __init__(self, path: str, n_rows: int, rename: Rename) -> None:
        self._path, self._n_rows, self._rename = path, n_rows, rename
        try:
            self._data = np.memmap(path, np.uint8, mode="r")
        except FileNotFoundError as exc:
            raise InputError(f"{path}: missing", hint="dymn embed writes it beside the matrix") from exc
        except (OSError, ValueError) as exc:
            raise InputError(f"{path}: empty, or it cannot be read") from exc
        self._ends = self._line_ends()
        header = self._cells(0, int(self._ends[0]))
        if tuple(cell.removeprefix("\ufeff") for cell in header) != INDEX_COLUMNS:
            raise InputError(f"{path}, line 1: not the index of a matrix ({','.join(INDEX_COLUMNS)})")
        n = len(self._ends) - 1
        if n != n_rows:
            raise InputError(f"{path}: {n} rows, but the matrix has {n_rows}", hint="it may be cut short")

    def __len__(self) -> int:
        return self._n_rows

    @overload
    def __getitem__(self, row: int) -> Place: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[Place]: ...
    def __getitem__(self, row: int | slice) -> Place | Sequence[Place]:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(self._n_rows))]
        row = range(self._n_rows)[row]
        where = f"{self._path}, row {row}"
        cells = self._cells(int(self._ends[row]), int(self._ends[row + 1]))
        require_row(where, cells, INDEX_COLUMNS)
        if cells[0] != str(row):
            raise InputError(f"{where}: {cells[0]!r} is not in its place")
        return Place(self._rename(cells[1]), cells[2], time_of(cells[3], where), time_of(cells[4], where))

    def __iter__(self) -> Iterator[Place]:
        return map(self.__getitem__, range(self._n_rows))

    def _cells(self, start: int, end: int) -> list[str]:
        text = self._data[start:end].tobytes().decode("utf-8", "surrogateescape")
        try:
            return next(csv.reader(io.StringIO(text, newline=""), strict=True), [])
        except csv.Error as exc:
            raise InputError(f"{self._path}, byte {start}: {exc}") from exc

    def _line_ends(self) -> NDArray[np.int64]:
        """Where each row ends; a line feed between quotes ends none."""
        ends, is_quoted = [], 0
        for start in range(0, len(self._data), PIECE_BYTES):
            piece = np.asarray(self._data[start : start + PIECE_BYTES])
            quotes = np.cumsum(piece == QUOTE, dtype=np.int32) + is_quoted
            is_quoted = int(quotes[-1]) & 1
            ends.append(np.flatnonzero((piece == LINE_FEED) & (quotes & 1 == 0)) + start + 1)
        found = np.concatenate(ends)
        if not len(found) or found[-1] != len(self._data):
            found = np.append(found, len(self._data))
        return found


def _from_npy(path: str, rename: Rename) -> Library:
    matrix = open_matrix(path)
    _require_rows(path, len(matrix))
    places = _IndexFile(index_of(path), len(matrix), rename)
    meta = meta_of(path, "npy")
    try:
        document = json.loads(read_small(meta, InputError, max_bytes=MAX_META_BYTES))
    except InputError:
        return Library(path, matrix, places, None)
    except (ValueError, RecursionError) as exc:
        raise InputError(f"{meta}: damaged: not JSON") from exc
    return Library(path, matrix, places, provenance_of(document))


def _in_memory(path: str, items: object, provenance: Provenance | None, rename: Rename) -> Library:
    places: list[Place] = []
    vectors: list[NDArray[np.float32]] = []
    for item in items:  # type: ignore[attr-defined]
        if isinstance(item, Failure):
            continue
        for row in item:
            places.append(Place(rename(row.source), row.channel, row.start_s, row.end_s))
            vectors.append(row.embedding)
    _require_rows(path, len(vectors))
    return Library(path, np.stack(vectors).astype(np.float32), places, provenance)


def _require_rows(path: str, n_rows: int) -> None:
    if not n_rows:
        raise InputError(f"{path}: no embeddings in it")
