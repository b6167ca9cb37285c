from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dymn_cli.writers.base import EmbeddingOptions, EmbeddingRow
from dymn_cli.writers.to_npy import NpyEmbeddings

Options = Callable[..., EmbeddingOptions]


def test_same_bytes_as_numpy_would_save(rows: list[EmbeddingRow], embedding_options: Options) -> None:
    out, index, expected = io.BytesIO(), io.BytesIO(), io.BytesIO()
    writer = NpyEmbeddings(out, embedding_options(), index)
    writer.begin()
    writer.write(rows[:1])
    writer.write(rows[1:])
    writer.end()
    np.save(expected, np.array([[0.1, -2.5, 1e-7], [1, 2, 3]], np.float32))
    assert out.getvalue() == expected.getvalue()
    assert index.getvalue() == (
        b"row,source,channel,start_s,end_s\n"  #
        b"0,metro.wav,mix,0.0,10.3\n"
        b'1,"a,b.wav",1,0.3,10.3\n'
    )


def test_a_safe_index_holds_no_formula(embedding_options: Options) -> None:
    for safe, name in ((False, b"=1+2.wav"), (True, b"'=1+2.wav")):
        index = io.BytesIO()
        writer = NpyEmbeddings(io.BytesIO(), embedding_options(csv_safe=safe), index)
        writer.begin()
        writer.write([EmbeddingRow("=1+2.wav", "mix", 0, 1.5, np.zeros(3, np.float32))])
        assert index.getvalue().splitlines()[1] == b"0," + name + b",mix,0.0,1.5"


@pytest.mark.parametrize("n_rows", [0, 1, 9, 10, 1001])
def test_the_header_fits_any_number_of_rows(n_rows: int, tmp_path: Path, embedding_options: Options) -> None:
    values = np.random.default_rng(1).standard_normal((n_rows, 384)).astype(np.float32)
    path = tmp_path / "emb.npy"
    with path.open("wb") as file:
        writer = NpyEmbeddings(file, embedding_options(size=384))
        writer.begin()
        for n, row in enumerate(values):
            writer.write([EmbeddingRow("night.wav", "mix", 10.0 * n, 10.0 * n + 10, row)])
        writer.end()
    matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    assert matrix.shape == (n_rows, 384)
    assert matrix.dtype == np.dtype("<f4")
    np.testing.assert_array_equal(matrix, values)


def test_a_row_of_another_length_is_refused(embedding_options: Options) -> None:
    writer = NpyEmbeddings(io.BytesIO(), embedding_options(size=3))
    writer.begin()
    with pytest.raises(ValueError, match="3 columns"):
        writer.write([EmbeddingRow("x.wav", "mix", 0, 10, np.zeros(4, np.float32))])
