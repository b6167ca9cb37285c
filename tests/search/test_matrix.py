"""The index of a matrix, of which each row is read when it is needed."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from dymn_cli.errors import InputError
from dymn_cli.search import Place, matrix, open_library
from dymn_cli.writers import EmbeddingOptions, EmbeddingRow, open_embeddings

HEADER = "row,source,channel,start_s,end_s"
NAMES = ["plain.wav", 'quo"ted, and\nbroken\r\n.wav', "caf\udce9.wav", "", "é" * 50]


def library(folder: Path, *lines: str, n_rows: int = 2) -> str:
    np.save(folder / "lib.npy", np.eye(n_rows, 4, dtype=np.float32))
    (folder / "lib.index.csv").write_bytes("\n".join(lines).encode())
    return str(folder / "lib.npy")


@pytest.mark.parametrize("piece", [1 << 24, 7])
def test_any_name_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(matrix, "PIECE_BYTES", piece)
    path = str(tmp_path / "lib.npy")
    with open_embeddings(path, "npy", EmbeddingOptions(provenance=None, size=3)) as writer:
        writer.write([EmbeddingRow(name, "mix", 1.5, 2.0, np.ones(3, np.float32)) for name in NAMES])
    places = open_library(path).places
    assert list(places) == places[:] == [Place(name, "mix", 1.5, 2.0) for name in NAMES]
    assert places[-1].source == NAMES[-1]


def test_line_ends_and_marks_of_other_programs(tmp_path: Path) -> None:
    path = library(tmp_path, f"\ufeff{HEADER}", "0,a,mix,0,1", "1,b,mix,0,1")
    assert [place.source for place in open_library(path).places] == ["a", "b"]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (("",), "empty"),
        (("row,source", "0,a", "1,b"), "not the index"),
        ((HEADER, "0,a,mix,0,1"), "1 rows, but the matrix has 2"),
        ((HEADER, '0,"a,mix,0,1', "1,b,mix,0,1"), "1 rows, but the matrix has 2"),
        ((HEADER, "1,a,mix,0,1", "0,b,mix,0,1"), "not in its place"),
        ((HEADER, "0,a,mix,0", "1,b,mix,0,1"), "row 0: 4 cells"),
        ((HEADER, "0,a,mix,0,soon", "1,b,mix,0,1"), "not a time"),
    ],
)
def test_what_is_no_index_says_so(tmp_path: Path, lines: tuple[str, ...], says: str) -> None:
    with pytest.raises(InputError, match=says):
        list(open_library(library(tmp_path, *lines)).places)


def test_rows_take_little_memory(tmp_path: Path) -> None:
    n = 100_000
    path = library(tmp_path, HEADER, *(f"{row},folder/{row}.wav,mix,0.0,10.0" for row in range(n)), n_rows=n)
    tracemalloc.start()
    places = open_library(path).places
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert places[n - 1].source == f"folder/{n - 1}.wav"
    assert peak < 500 * n
