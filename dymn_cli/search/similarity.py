"""How alike two embeddings are: the cosine after whitening, from 0 to 1.

The raw cosine of two random recordings is far above 0, because all embeddings share a large mean and few
directions of large variance. So the mean of the library is taken away, and each principal direction is
divided by sqrt(variance + 3 · mean variance · (1 + D / n)): a ridge that keeps directions without information
small, and more so where the library is small (Kessy et al., "Optimal whitening and decorrelation", 2018).
Two random recordings then have 0 on average, whatever the model. What is below 0 counts as 0.

RIDGE = 3 was chosen on 858 recordings of 56 sources (`python -m dymn_cli.bench.retrieval`). A smaller ridge
tells copies apart a little better, a larger one finds more of the same kind of sound in other sources: its
mAP is 0.35 with 1, 0.37 with 3 and 0.38 with centring alone; the raw cosine has 0.36.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BLOCK_ROWS", "Whitening", "similarity"]

BLOCK_ROWS = 8_192
"""Rows of a library that are in memory at a time: 12.6 MB of 384 values."""

MOST_ROWS = 20_000
"""Rows that the statistics are taken from, evenly spaced over the library."""

RIDGE = 3
N_PAIRS = 1_000_000
PRIOR_ROWS = 8
"""How many recordings at 0 the mean is estimated with: it says little of a library of a few."""
DECIMALS = 5
"""What float32 holds, nearly always, whatever order a matrix product adds in."""


@dataclass(frozen=True, slots=True, eq=False)
class Whitening:
    """Maps embeddings to vectors of length 1 whose product is how alike they are.

    Args:
        mean: (D,) float64.
        matrix: (D, D) float64, applied from the right.
    """

    mean: NDArray[np.float64]
    matrix: NDArray[np.float64]

    @classmethod
    def of(cls, rows: NDArray[np.float32], name: str) -> Whitening:
        """Fit it to a library (n, D).

        Raises:
            InputError: NaN or infinity in it.
        """
        sample = _sample(rows).astype(np.float64)
        _require_finite(sample, name)
        n, size = sample.shape
        mean = sample.sum(axis=0) / (n + PRIOR_ROWS)
        centred = sample - mean
        variances, directions = np.linalg.eigh(centred.T @ centred / n)
        variances = np.maximum(variances, 0.0)
        ridge = max(RIDGE * float(variances.mean()) * (1 + size / n), 1e-12)
        matrix = directions / np.sqrt(variances + ridge) @ directions.T
        return cls(mean, matrix)

    def __call__(self, rows: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        """Whiten rows (n, D) to length 1; a row that is the mean itself stays 0.

        Raises:
            InputError: NaN or infinity in them.
        """
        _require_finite(rows, name)
        white = (rows - self.mean.astype(np.float32)) @ self.matrix.astype(np.float32)
        length = np.linalg.norm(white, axis=1, keepdims=True)
        return np.asarray(white / np.maximum(length, np.float32(1e-12)), np.float32)

    def precise(self, rows: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float32]:
        """Similarities of rows (n, D) to a whitened query, computed in float64: the same in any block."""
        white = (rows.astype(np.float64) - self.mean) @ self.matrix
        length = np.maximum(np.linalg.norm(white, axis=1), 1e-12)
        return similarity(white @ query / length)

    def exceeded_by(self, rows: NDArray[np.float32], share: float, name: str) -> float:
        """The similarity that this share of random pairs of a library exceeds; 0 of fewer than two rows."""
        white = self(_sample(rows), name)
        n = len(white)
        if n < 2:
            return 0.0
        if n * (n - 1) // 2 <= N_PAIRS:
            one, other = np.triu_indices(n, 1)
        else:
            random = np.random.default_rng(0)
            one = random.integers(0, n, N_PAIRS)
            other = (one + random.integers(1, n, N_PAIRS)) % n
        found = np.concatenate(
            [
                np.einsum("ij,ij->i", white[one[at : at + 65_536]], white[other[at : at + 65_536]])
                for at in range(0, len(one), 65_536)
            ]
        )
        return float(np.clip(np.quantile(found, 1 - share), 0.0, 1.0))


def similarity(products: NDArray[np.floating]) -> NDArray[np.float32]:
    """Products of whitened rows as figures from 0 to 1."""
    return np.asarray(np.clip(np.round(products, DECIMALS), 0.0, 1.0), np.float32)


def _sample(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows evenly spaced over a library, in memory."""
    if len(rows) <= MOST_ROWS:
        return np.asarray(rows)
    return np.asarray(rows[np.linspace(0, len(rows) - 1, MOST_ROWS).astype(np.int64)])


def _require_finite(rows: NDArray[np.floating], name: str) -> None:
    if not np.isfinite(rows).all():
        row = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise InputError(f"{name}: NaN or infinity in an embedding (row {row} of those read)")
