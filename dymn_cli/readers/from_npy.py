"""A matrix of embeddings and the index beside it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.errors import InputError
from dymn_cli.readers.cells import cells_of, require_row
from dymn_cli.readers.source import open_result_file
from dymn_cli.remote.uri import is_uri
from dymn_cli.values import time_of
from dymn_cli.writers.base import EmbeddingRow
from dymn_cli.writers.beside import INDEX_COLUMNS, index_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["embeddings_of", "open_matrix"]


def open_matrix(path: str) -> NDArray[np.float32]:
    """The matrix, read where it is used.

    Raises:
        InputError: it is standard input or at a URI, is no matrix of dymn, or is cut short.
    """
    if path in ("-", "/dev/stdin"):
        raise InputError("standard input: a matrix without its index", hint="name the .npy file")
    if is_uri(path):
        raise InputError(
            f"{path}: a matrix is read where it lies, and not at a URI",
            hint="copy it here with its .index.csv and .meta.json; parquet is read at a URI",
        )
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as exc:
        raise InputError(f"{path}: damaged, or not a matrix that dymn wrote") from exc
    if matrix.dtype != np.dtype("<f4") or matrix.ndim != 2:
        raise InputError(f"{path}: not a matrix that dymn wrote: {matrix.dtype}, shape {matrix.shape}")
    return matrix  # type: ignore[no-any-return]


def embeddings_of(path: str, matrix: NDArray[np.float32]) -> Iterator[EmbeddingRow]:
    """Each row of a matrix with what its index says of it.

    Raises:
        InputError: the index is missing, is none, or is about another number of rows.
    """
    index = index_of(path)
    with open_result_file(index) as file:
        rows = cells_of(file.text(), index, ",")
        if tuple(next(rows, (0, []))[1]) != INDEX_COLUMNS:
            raise InputError(f"{index}, line 1: not the index of a matrix ({','.join(INDEX_COLUMNS)})")
        n = -1
        for n, (line, cells) in zip(count(), rows, strict=False):
            where = f"{index}, line {line}"
            require_row(where, cells, INDEX_COLUMNS)
            if cells[0] != str(n) or n >= len(matrix):
                raise InputError(
                    f"{where}: row {cells[0]!r} is not in its place: {path} has {len(matrix)} rows"
                )
            times = time_of(cells[3], where), time_of(cells[4], where)
            yield EmbeddingRow(cells[1], cells[2], *times, np.array(matrix[n]))
        if n + 1 != len(matrix):
            raise InputError(
                f"{index}: {n + 1} rows, and {path} has {len(matrix)}", hint="it may be cut short"
            )
