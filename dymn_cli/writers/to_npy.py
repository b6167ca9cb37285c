"""A float32 matrix that grows row by row, and the index that says what each row is.

    NAME.npy         (n_rows, D) float32, NumPy's format 1.0: np.load(..., mmap_mode="r") reads it in place
    NAME.index.csv   row,source,channel,start_s,end_s
    NAME.meta.json   provenance, and the shape of the matrix

The number of rows is not known before the last source, so the header is written twice: NumPy pads it such
that its length does not depend on how far the first axis has grown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from dymn_cli.writers.base import EmbeddingOptions, EmbeddingRow, EmbeddingWriter
from dymn_cli.writers.beside import INDEX_COLUMNS
from dymn_cli.writers.rows import safe_cells
from dymn_cli.writers.spelling import seconds
from dymn_cli.writers.to_csv import csv_line

__all__ = ["NpyEmbeddings"]

DTYPE = "<f4"


class NpyEmbeddings(EmbeddingWriter):
    """The matrix and, where it is a file, its index.

    Args:
        stream: gets the matrix; must be seekable.
        options: D, and whether the index is safe for spreadsheets.
        index: gets the index, or None where there is no place for it.
    """

    def __init__(self, stream: BinaryIO, options: EmbeddingOptions, index: BinaryIO | None = None) -> None:
        super().__init__(stream)
        self._index = index
        self._size = options.size
        self._safe = options.csv_safe
        self._n_rows = 0

    def begin(self) -> None:
        """Write the header of a matrix without rows, and the names of the index's columns."""
        self._write_header()
        self._write_index(INDEX_COLUMNS)

    def write(self, result: Sequence[EmbeddingRow]) -> None:
        """Append the rows of one source.

        Raises:
            ValueError: an embedding has not D values: a bug in the caller.
        """
        for row in result:
            if row.embedding.shape != (self._size,):
                raise ValueError(
                    f"embedding of shape {row.embedding.shape} in a matrix of {self._size} columns"
                )
            self.stream.write(row.embedding.astype(DTYPE).tobytes())
            self._write_index(
                (self._n_rows, row.source, row.channel, seconds(row.start_s), seconds(row.end_s))
            )
            self._n_rows += 1

    def end(self) -> None:
        """Put the number of rows into the header."""
        self.stream.seek(0)
        self._write_header()

    @property
    def facts(self) -> dict[str, object]:
        """Type and shape of the matrix."""
        return {"dtype": "float32", "shape": [self._n_rows, self._size]}

    def _write_header(self) -> None:
        header = {"descr": DTYPE, "fortran_order": False, "shape": (self._n_rows, self._size)}
        np.lib.format.write_array_header_1_0(self.stream, header)

    def _write_index(self, cells: tuple[object, ...]) -> None:
        if self._index is not None:
            self._index.write(csv_line(safe_cells(cells, self._safe)))
