"""The kept graph: what it proposes, where it is kept, and how much it holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dymn_cli.errors import OutputError, UsageError
from dymn_cli.search import Index, Library, Place, group_duplicates, open_library
from dymn_cli.search.approximate import Approximate

pytest.importorskip("usearch.index")

N, SIZE = 4_000, 48


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A library of 400 kinds of sound, ten of each."""
    monkeypatch.setenv("DYMN_HOME", str(tmp_path / "home"))
    random = np.random.default_rng(3)
    kinds = random.normal(size=(N // 10, SIZE)) @ random.normal(size=(SIZE, SIZE))
    rows = np.repeat(kinds, 10, axis=0) + 3 * random.normal(size=(N, SIZE)) + 5
    write(tmp_path / "lib.npy", rows)
    return str(tmp_path / "lib.npy")


def write(path: Path, rows: np.ndarray) -> None:
    np.save(path, rows.astype(np.float32))
    lines = [f"{n},{n}.wav,mix,0.0,1.0\r\n" for n in range(len(rows))]
    path.with_suffix(".index.csv").write_text(
        "".join(["row,source,channel,start_s,end_s\r\n", *lines]), "utf-8", newline=""
    )


def graphs(path: str) -> list[Path]:
    return sorted(Path(path).parent.glob("home/search/*.usearch"))


def test_it_finds_nearly_all_that_an_exact_search_finds(path: str) -> None:
    exact, graph = Index.open(path), Index.open(path, approximate=True)
    queries = np.asarray(exact.library.matrix[::40])
    wanted, found = exact.search_each(queries), graph.search_each(queries)
    shares = [
        len({match.row for match in one} & {match.row for match in other}) / len(one)
        for one, other in zip(wanted, found, strict=True)
    ]
    assert np.mean(shares) >= 0.95
    similarity = {(n, match.row): match.similarity for n, one in enumerate(wanted) for match in one}
    for n, other in enumerate(found):
        for match in other:
            assert match.similarity == pytest.approx(
                similarity.get((n, match.row), match.similarity), abs=2e-5
            )


def test_no_row_is_lost_and_a_library_always_gives_the_same_graph(path: str) -> None:
    """Built by several threads, the graph differs from time to time, and rows drop out of it."""
    index = Index.open(path, approximate=True)
    (graph,) = graphs(path)
    first = graph.read_bytes()
    found = index.nearest(index.white(slice(None)), 1)
    assert [n for n, (rows, _) in enumerate(found) if rows.tolist() != [n]] == []
    graph.unlink()
    Index.open(path, approximate=True)
    assert graph.read_bytes() == first


def test_it_is_kept_until_the_library_changes(path: str) -> None:
    built: list[Path] = []
    for _ in range(2):
        Index(open_library(path), approximate=True, building=built.append)
    assert built == graphs(path)
    rows = np.load(path)[::-1]
    write(Path(path), rows)
    os.utime(path, (1, 1))
    index = Index(open_library(path), approximate=True, building=built.append)
    assert len(built) == 2
    assert graphs(path) == [built[1]]
    assert index.search(7, top=1)[0].row == 7


def test_a_damaged_graph_is_built_again(path: str) -> None:
    wanted = Index.open(path, approximate=True).search(3, top=5)
    (graph,) = graphs(path)
    graph.write_bytes(b"no graph")
    assert Index.open(path, approximate=True).search(3, top=5) == wanted


def test_a_graph_that_cannot_be_written_leaves_nothing(path: str) -> None:
    """usearch says neither that the disk is full nor where."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"\.usearch: cannot be written$"):
            Index.open(path, approximate=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [one.suffix for one in Path(path).parent.glob("home/search/*")] == [".lock"]
    assert [one.suffix for one in Path(path).parent.glob("home/search/.*")] == []
    assert len(Index.open(path, approximate=True).search(3, top=5)) == 5


def test_near_duplicates_are_grouped_with_it(path: str) -> None:
    rows = np.load(path)
    rows[[17, 2_000]] = rows[3] + 0.01
    write(Path(path), rows)
    groupings = [
        group_duplicates(Index.open(path, approximate=approximate), 0.999) for approximate in (False, True)
    ]
    assert groupings[0] == groupings[1]
    assert (3, 17, 2_000) in [group.rows for group in groupings[0].groups]


def test_ten_million_rows_of_384_values_fit_into_memory() -> None:
    """The graph has one byte a value, and its links; of 24 GB, two thirds are left for all else."""
    random = np.random.default_rng(4)
    rows = random.normal(size=(2_000, 384)).astype(np.float32)
    library = Library("lib", rows, [Place(str(n), "mix", 0.0, 1.0) for n in range(2_000)], None)
    graph = Approximate.build(library, Index(library).whitening)
    assert graph.n_bytes / 2_000 * 10_000_000 < 8e9


def test_a_graph_in_memory_is_searched_again_and_again(path: str) -> None:
    """In a process of its own, which must not end by a signal."""
    program = f"""
from dymn_cli.search import Index
index = Index.open({path!r})
from dymn_cli.search.approximate import Approximate
index.graph = Approximate.build(index.library, index.whitening)
for _ in range(2):
    found = index.nearest(index.white(slice(0, 100)), 20)
print(sum(rows[0] == n for n, (rows, _) in enumerate(found)))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "100\n"), ran.stderr


def test_only_a_matrix_on_disk_has_one() -> None:
    rows = np.eye(4, 8, dtype=np.float32)
    library = Library("lib.csv", rows, [Place(str(n), "mix", 0.0, 1.0) for n in range(4)], None)
    with pytest.raises(UsageError, match="npy"):
        Index(library, approximate=True)
