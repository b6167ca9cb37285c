"""Maps: what lies near what, whatever method is installed."""

from __future__ import annotations

import numpy as np
import pytest

from dymn_cli.search import projection


@pytest.fixture
def rows() -> np.ndarray:
    """Two kinds of sound, 40 of each, one behind the other."""
    random = np.random.default_rng(0)
    kinds = np.repeat(random.normal(size=(2, 24)), 40, axis=0) + 0.3 * random.normal(size=(80, 24))
    return (kinds / np.linalg.norm(kinds, axis=1, keepdims=True)).astype(np.float32)


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    find = projection.find_spec
    monkeypatch.setattr(projection, "find_spec", lambda name: None if name in names else find(name))


def check(rows: np.ndarray, method: str) -> None:
    points, by = projection.project(rows)
    assert by == method
    assert (points.min(axis=0) == 0).all()
    assert (points.max(axis=0) == 1).all()
    distance = np.linalg.norm(points[:, np.newaxis] - points, axis=2) + 9 * np.eye(len(points))
    assert np.mean((distance.argmin(axis=1) < 40) == (np.arange(80) < 40)) == 1
    assert np.array_equal(points, projection.project(rows)[0])


def test_principal_components_need_nothing(rows: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "umap", "openTSNE")
    check(rows, "PCA")


@pytest.mark.slow
def test_tsne_where_it_is_installed(rows: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openTSNE")
    without(monkeypatch, "umap")
    check(rows, "t-SNE")


@pytest.mark.slow
def test_umap_where_it_is_installed(rows: np.ndarray) -> None:
    pytest.importorskip("umap")
    check(rows, "UMAP")


@pytest.mark.parametrize("n", [1, 2, 29])
def test_a_few_rows_have_a_map_too(n: int) -> None:
    points, method = projection.project(np.eye(n, 8, dtype=np.float32))
    assert (points.shape, method) == ((n, 2), "PCA")
    assert np.isfinite(points).all()
