"""A library in two dimensions, for a map: what sounds alike lies near each other.

UMAP (McInnes et al., 2018) where umap-learn is installed, else t-SNE where openTSNE is, else the two
principal components, which need nothing. Each begins from a fixed seed, so equal libraries give equal maps.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["project"]

MIN_ROWS = 30
"""Fewer have no neighbourhoods to keep."""
NEIGHBOURS = 15
PERPLEXITY = 30.0


def project(rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], str]:
    """Rows (n, D) of whitened embeddings as points (n, 2) between 0 and 1, and the name of the method."""
    if len(rows) >= MIN_ROWS and find_spec("umap") is not None:
        points, method = _umap(rows), "UMAP"
    elif len(rows) >= MIN_ROWS and find_spec("openTSNE") is not None:
        points, method = _tsne(rows), "t-SNE"
    else:
        points, method = _principal_components(rows), "PCA"
    low, high = points.min(axis=0), points.max(axis=0)
    return (points - low) / np.maximum(high - low, 1e-12), method


def _umap(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    import umap

    model = umap.UMAP(n_neighbors=NEIGHBOURS, metric="cosine", random_state=0, n_jobs=1)
    return np.asarray(model.fit_transform(rows), np.float64)


def _tsne(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    import openTSNE

    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    return np.asarray(
        openTSNE.TSNE(perplexity=perplexity, metric="cosine", random_state=0).fit(rows), np.float64
    )


def _principal_components(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    _, directions = np.linalg.eigh(centred.T @ centred)
    two = directions[:, :-3:-1]
    two = two * np.sign(two[np.abs(two).argmax(axis=0), range(two.shape[1])])  # the sign of eigh is any
    points = centred @ two
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
