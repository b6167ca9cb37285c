"""Search and grouping on embeddings whose neighbours are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dymn_cli.errors import DymnError, InputError, UsageError
from dymn_cli.search import Index, Library, Place, group_duplicates, open_library
from dymn_cli.search import grouping as grouping_module
from dymn_cli.search import index as index_module
from dymn_cli.search.grouping import automatic_threshold

N, SIZE = 300, 16


def library(rows: np.ndarray) -> Library:
    places = [Place(f"sounds/{n:03d}.wav", "mix", 0.0, 1.0) for n in range(len(rows))]
    return Library("lib", rows.astype(np.float32), places, None)


@pytest.fixture
def rows() -> np.ndarray:
    random = np.random.default_rng(1)
    return random.normal(size=(N, SIZE)) + 5


def test_a_row_finds_itself_first_and_its_copy_next(rows: np.ndarray) -> None:
    rows[200] = rows[7] + 0.01
    found = Index(library(rows)).search(7, top=3)
    assert [match.row for match in found][:2] == [7, 200]
    assert found[0].similarity == 1
    assert found[1].similarity > 0.95 > 0.9 > found[2].similarity


def test_a_shared_mean_makes_nothing_alike(rows: np.ndarray) -> None:
    raw = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert (raw[0] @ raw[1:].T).mean() > 0.9
    matches = Index(library(rows)).search(0, top=N, skip=[0])
    assert np.median([match.similarity for match in matches]) < 0.1


def test_blocks_change_nothing_and_ties_go_by_row(rows: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    rows[[3, 150, 299]] = rows[42]
    whole = Index(library(rows)).search(42, top=30)
    monkeypatch.setattr(index_module, "BLOCK_ROWS", 7)
    assert Index(library(rows)).search(42, top=30) == whole
    assert [match.row for match in whole[:4]] == [3, 42, 150, 299]


def test_many_queries_at_once_are_as_one_by_one(rows: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "QUERIES_AT_ONCE", 3)
    index = Index(library(rows))
    queries = rows[:8].astype(np.float32)
    assert index.search_each(queries, top=5) == [index.search(query, top=5) for query in queries]
    with pytest.raises(InputError, match="16 values"):
        index.search_each(queries[:, :5])


def test_negative_examples_push_away(rows: np.ndarray) -> None:
    rows[50] = rows[10] + rows[20] - 5
    index = Index(library(rows))
    usual = {match.row: match.similarity for match in index.search(10, top=N)}
    without = {match.row: match.similarity for match in index.search(10, unlike=[20], top=N)}
    assert without[50] < usual[50]
    with pytest.raises(UsageError, match="nothing to look for"):
        index.search()


def test_names_are_known_by_their_end(rows: np.ndarray) -> None:
    index = Index(library(rows))
    assert index.rows_of("sounds/004.wav") == index.rows_of("004.wav") == [4]
    assert index.rows_of("4.wav") == []


def test_a_chain_of_small_steps_is_no_group() -> None:
    random = np.random.default_rng(2)
    rows = random.normal(size=(N, SIZE))
    ends = np.zeros((2, SIZE))
    ends[0, 0] = ends[1, 1] = 4
    for n, angle in enumerate(np.linspace(0, np.pi / 2, 5)):
        rows[n] = np.cos(angle) * ends[0] + np.sin(angle) * ends[1]
    index = Index(library(rows))
    grouping = group_duplicates(index, 0.85)
    assert grouping.groups
    assert all(group.least >= 0.85 for group in grouping.groups)
    assert not any({0, 4} <= set(group.rows) for group in grouping.groups)


def test_copies_are_grouped_at_the_automatic_threshold(rows: np.ndarray) -> None:
    rows[100], rows[299] = rows[5] + 0.01, rows[5] - 0.01
    grouping = group_duplicates(Index(library(rows)))
    assert [group.rows for group in grouping.groups if 5 in group.rows] == [(5, 100, 299)]
    assert 0.6 <= grouping.threshold <= 0.95


def test_likely_pairs_count_if_they_are_the_same_sound() -> None:
    random = np.random.default_rng(5)
    rows = random.normal(size=(400, 64))
    rows[1] = 0.72 * rows[0] + 0.7 * rows[1]
    rows[3] = 0.72 * rows[2] + 0.7 * rows[3]
    index = Index(library(rows.astype(np.float32)))
    (similar,) = index.search_each(np.asarray(index.library.matrix[:1]), top=2)
    threshold = similar[1].similarity + 0.05
    asked = []

    def same(one: Place, other: Place) -> bool:
        asked.append({one.source, other.source})
        return asked[-1] == {index.library.places[n].source for n in (0, 1)}

    told: list[tuple[str, float]] = []
    grouping = group_duplicates(
        index, threshold, same=same, progress=lambda doing, share: told.append((doing, share))
    )
    (group,) = grouping.groups
    assert (group.rows, group.same_sound) == ((0, 1), (True, True))
    assert group.least < threshold
    assert {index.library.places[n].source for n in (2, 3)} in asked
    assert len(asked) == len({frozenset(pair) for pair in asked}) <= 5_000
    assert {doing for doing, _ in told} == {"comparing embeddings", "comparing the sound of likely copies"}
    assert not group_duplicates(index, threshold).groups


def test_a_larger_library_needs_a_higher_threshold() -> None:
    random = np.random.default_rng(5)
    small, large = (Index(library(random.normal(size=(n, SIZE)))) for n in (100, 5_000))
    assert automatic_threshold(small) < automatic_threshold(large) < 0.95
    copies = Index(library(np.repeat(random.normal(size=(10, SIZE)), 30, axis=0)))
    assert automatic_threshold(copies) == 0.95


def test_blocks_change_no_group(rows: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    rows[100], rows[299] = rows[5] + 0.01, rows[5] - 0.01
    whole = group_duplicates(Index(library(rows)), 0.5)
    assert len(whole.groups) > 1
    monkeypatch.setattr(grouping_module, "BLOCK_ROWS", 7)
    monkeypatch.setattr(grouping_module, "SIDE_ROWS", 5)
    assert group_duplicates(Index(library(rows)), 0.5) == whole


def test_more_equal_rows_than_neighbours_are_one_group(rows: np.ndarray) -> None:
    silent = range(0, N, 3)
    rows[silent] = rows[0]
    assert len(silent) > grouping_module.NEIGHBOURS
    (group,) = group_duplicates(Index(library(rows)), 0.999).groups
    assert group.rows == tuple(silent)


def test_equal_rows_of_one_recording_are_no_duplicates(rows: np.ndarray) -> None:
    rows[:4] = rows[0]
    places = [Place(f"{n // 2}.wav", "mix", n % 2, n % 2 + 1.0) for n in range(N)]
    index = Index(Library("lib", rows.astype(np.float32), places, None))
    assert [group.rows for group in group_duplicates(index, 0.999).groups] == [(0, 2)]


@pytest.mark.parametrize("threshold", [0.0, 1.5, float("nan")])
def test_a_threshold_out_of_range_is_refused(rows: np.ndarray, threshold: float) -> None:
    with pytest.raises(UsageError, match="--threshold"):
        group_duplicates(Index(library(rows)), threshold)


def test_nan_is_an_error(rows: np.ndarray) -> None:
    rows[9, 3] = np.nan
    with pytest.raises(InputError, match="NaN"):
        Index(library(rows))


def write(folder: Path, rows: np.ndarray, n_index: int) -> str:
    np.save(folder / "lib.npy", rows.astype(np.float32))
    lines = [f"{n},{n}.wav,mix,0.0,1.0" for n in range(n_index)]
    (folder / "lib.index.csv").write_text(
        "\r\n".join(["row,source,channel,start_s,end_s", *lines, ""]), "utf-8"
    )
    return str(folder / "lib.npy")


def test_a_file_of_embeddings_is_searched(tmp_path: Path, rows: np.ndarray) -> None:
    index = Index.open(write(tmp_path, rows, N))
    assert index.search(rows[30].astype(np.float32), top=1)[0].place.source == "30.wav"
    with pytest.raises(InputError, match="no model is named"):
        index.search("query.wav")


def test_what_is_no_library_says_so(tmp_path: Path, rows: np.ndarray) -> None:
    with pytest.raises(InputError, match="300"):
        open_library(write(tmp_path, rows, N - 1))
    with pytest.raises(InputError, match="no embeddings"):
        open_library(write(tmp_path, rows[:0], 0))
    (tmp_path / "lib.index.csv").unlink()
    for path in (tmp_path / "lib.npy", tmp_path / "none.npy"):
        with pytest.raises(DymnError, match=path.stem):
            open_library(str(path))
