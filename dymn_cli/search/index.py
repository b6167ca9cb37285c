"""The rows of a library that are most like a query: exact, block by block.

A block is 8,192 rows: 12.6 MB of 384 values, and a few times that while it is compared, whatever the size of
the library. An .npy file is read through a memory map, so a million rows need no more memory than a thousand,
besides some 300 bytes for what each row is. Equally similar rows come in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.errors import InputError, UsageError
from dymn_cli.search.matrix import Library, Place, open_library
from dymn_cli.search.similarity import Whitening, similarity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.search.query import Embedder

__all__ = ["BLOCK_ROWS", "Index", "Match"]

BLOCK_ROWS = 8_192


@dataclass(frozen=True, slots=True)
class Match:
    """A row that was found.

    Args:
        rank: 1 for the most similar.
        similarity: 0 (as two random recordings) to 1 (the same).
        row: its number in the library.
        place: what it is.
    """

    rank: int
    similarity: float
    row: int
    place: Place


class Index:
    """A library that can be searched.

    Args:
        library: its embeddings.

    Raises:
        InputError: NaN or infinity in it.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        self.whitening = Whitening.of(library.matrix, library.name)

    @classmethod
    def open(cls, path: str) -> Index:
        """Open what `dymn embed` wrote.

        Raises:
            InputError: it cannot be read, has no embeddings, or they are not finite.
        """
        return cls(open_library(path))

    def __len__(self) -> int:
        return len(self.library.places)

    def search(
        self,
        *like: str | int | NDArray[np.float32],
        unlike: Sequence[str | int | NDArray[np.float32]] = (),
        top: int = 20,
        skip: Sequence[int] = (),
    ) -> list[Match]:
        """The rows most like some examples, and unlike others, the most similar first.

        Several examples are averaged after whitening, each with length 1, and half of the mean of those in
        `unlike` is subtracted: Rocchio's feedback ("Relevance feedback in information retrieval", 1971), with
        weights 1 and 0.5.

        Args:
            like: files, rows of the library by number, or (D,) embeddings.
            unlike: likewise.
            top: how many.
            skip: rows that are not wanted.

        Raises:
            UsageError: no example, or nothing to look for is left of them.
            InputError: a file cannot be read, or the library has another model.
        """
        if top < 1:
            raise UsageError(f"-k {top} leaves nothing to find")
        if not like:
            raise UsageError("nothing to look for", hint="give a recording, or --like NAME")
        query = self._mean(like)
        if unlike:
            query = query - 0.5 * self._mean(unlike)
        length = float(np.linalg.norm(query))
        if length < 1e-6:
            raise UsageError("the examples cancel out: nothing to look for is left")
        return self._nearest((query / length).astype(np.float32), top, skip)

    def rows_of(self, name: str) -> list[int]:
        """The rows of a recording of the library, by its name or the end of its path.

        Raises:
            UsageError: several recordings have that end.
        """
        if name in self._by_source:
            return self._by_source[name]
        end = "/" + name.replace("\\", "/").removeprefix("./")
        found = [source for source in self._by_source if f"/{source}".replace("\\", "/").endswith(end)]
        if len(found) > 1:
            raise UsageError(
                f"{name}: {len(found)} recordings have that name", hint=f"for example {found[0]}"
            )
        return self._by_source[found[0]] if found else []

    @cached_property
    def _by_source(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for row, place in enumerate(self.library.places):
            rows.setdefault(place.source, []).append(row)
        return rows

    @cached_property
    def embedder(self) -> Embedder:
        """Embeds recordings as those of the library were."""
        from dymn_cli.search.query import Embedder

        return Embedder(self.library)

    def _mean(self, examples: Sequence[str | int | NDArray[np.float32]]) -> NDArray[np.float32]:
        vectors = np.stack([self._vector(example) for example in examples])
        return np.asarray(self.whitening(vectors, "the query").mean(axis=0), np.float32)

    def _vector(self, example: str | int | NDArray[np.float32]) -> NDArray[np.float32]:
        if isinstance(example, str):
            return self.embedder(example)
        if isinstance(example, int):
            return np.asarray(self.library.matrix[example])
        size = self.library.matrix.shape[1]
        if example.shape != (size,):
            raise InputError(
                f"an embedding of shape {example.shape}, and {self.library.name} has {size} values"
            )
        return example.astype(np.float32)

    def _nearest(self, query: NDArray[np.float32], top: int, skip: Sequence[int]) -> list[Match]:
        matrix, unwanted = self.library.matrix, set(skip)
        wanted = top + len(unwanted)
        rows, scores = np.zeros(0, np.int64), np.zeros(0, np.float32)
        for start in range(0, len(matrix), BLOCK_ROWS):
            block = self.whitening(np.asarray(matrix[start : start + BLOCK_ROWS]), self.library.name)
            rows = np.concatenate([rows, np.arange(start, start + len(block))])
            scores = np.concatenate([scores, similarity(block @ query)])
            best = np.lexsort((rows, -scores))[:wanted]
            rows, scores = rows[best], scores[best]
        kept = [
            (int(row), float(score)) for row, score in zip(rows, scores, strict=True) if row not in unwanted
        ]
        return [
            Match(rank, round(score, 5), row, self.library.places[row])
            for rank, (row, score) in enumerate(kept[:top], start=1)
        ]
