"""The rows of a library that are most like a query.

Up to a million rows, and above without usearch, all are compared, block by block: an .npy file is
memory-mapped, and a block is 8,192 rows, some 12.6 MB and a few times that while it is compared. Above, a
kept graph proposes rows (see `dymn_cli.search.approximate`), and those are compared. Equally similar rows
come in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from os.path import splitext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dymn_cli.errors import InputError, UsageError
from dymn_cli.search.approximate import Approximate, is_installed
from dymn_cli.search.matrix import Library, Place, open_library
from dymn_cli.search.similarity import BLOCK_ROWS, Whitening, similarity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.audio.decode import Source
    from dymn_cli.search.query import Embedder

__all__ = ["Index", "Match", "best_of"]

MAX_EXACT = 1_000_000
"""Rows up to which all are compared unless an approximate search is asked for."""
QUERIES_AT_ONCE = 256

Example: TypeAlias = "Source | int | np.integer[Any] | NDArray[np.float32]"


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
        approximate: search a kept graph (extra `search`): always, never, or (None) above a million rows where
            usearch is installed.
        building: called before a graph is built, with where it will be kept.

    Attributes:
        graph: of the approximate search; None where all rows are compared.

    Raises:
        InputError: NaN or infinity in it.
        DymnError: the graph cannot be opened or built; see `Approximate.open`.
    """

    def __init__(
        self,
        library: Library,
        *,
        approximate: bool | None = None,
        building: Callable[[Path], None] = lambda path: None,
    ) -> None:
        self.library = library
        self.whitening = Whitening.of(library.matrix, library.name)
        self.graph: Approximate | None = None
        if approximate is None:
            is_large = len(library.matrix) > MAX_EXACT and isinstance(library.matrix, np.memmap)
            approximate = is_large and is_installed()
        if approximate:
            self.graph = Approximate.open(library, self.whitening, building=building)

    @classmethod
    def open(cls, path: str, *, approximate: bool | None = None) -> Index:
        """Open what `dymn embed` wrote.

        Raises:
            InputError: it cannot be read, has no embeddings, or they are not finite.
            DymnError: as for the class.
        """
        return cls(open_library(path), approximate=approximate)

    def __len__(self) -> int:
        return len(self.library.places)

    def search(
        self,
        *like: Example,
        unlike: Sequence[Example] = (),
        top: int = 20,
        skip: Sequence[int] = (),
    ) -> list[Match]:
        """The rows most like some examples, and unlike others, the most similar first.

        Several examples are averaged after whitening, each with length 1, and half of the mean of those in
        `unlike` is subtracted: Rocchio's feedback ("Relevance feedback in information retrieval", 1971), with
        weights 1 and 0.5.

        Args:
            like: recordings as of `Tagger.tag`, rows of the library by number, or (D,) embeddings.
            unlike: likewise.
            top: how many.
            skip: rows that are not wanted.

        Raises:
            UsageError: no example, something else than one, or nothing to look for is left of them.
            InputError: a file cannot be read, or the library has another model.
        """
        if not like:
            raise UsageError("nothing to look for", hint="give a recording, or --like NAME")
        query = self._mean(like)
        if unlike:
            query = query - 0.5 * self._mean(unlike)
        length = float(np.linalg.norm(query))
        if length < 1e-6:
            raise UsageError("the examples cancel out: nothing to look for is left")
        unwanted = set(skip)
        (found,) = self._matches((query / length).astype(np.float32)[np.newaxis], top, unwanted)
        return found

    def search_each(self, queries: NDArray[np.float32], *, top: int = 20) -> list[list[Match]]:
        """The rows most like each query, reading the library once for 256 of them.

        Args:
            queries: (n, D) embeddings.
            top: how many for each.

        Raises:
            UsageError: less than one is wanted.
            InputError: they have another size than the library, or are not finite.
        """
        if queries.ndim != 2 or queries.shape[1] != self.library.matrix.shape[1]:
            raise self._other_size(queries)
        found: list[list[Match]] = []
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            white = self.whitening(queries[start : start + QUERIES_AT_ONCE], "the query")
            found += self._matches(white, top, frozenset())
        return found

    def rows_of(self, name: str) -> list[int]:
        """The rows of a recording of the library, by its name or the end of its path, with or without suffix.

        Raises:
            UsageError: several recordings have that end.
        """
        end = "/" + name.replace("\\", "/").removeprefix("./")
        same: list[int] = []
        ending: dict[str, list[int]] = {}
        stems: dict[str, list[int]] = {}
        for row, place in enumerate(self.library.places):
            if place.source == name:
                same.append(row)
            elif (path := f"/{place.source}".replace("\\", "/")).endswith(end):
                ending.setdefault(place.source, []).append(row)
            elif splitext(path)[0].endswith(end):  # noqa: PTH122 - names may be bytes
                stems.setdefault(place.source, []).append(row)
        ending = ending or stems
        if same or not ending:
            return same
        if len(ending) > 1:
            example = min(ending)
            raise UsageError(
                f"{name}: {len(ending)} recordings have that name", hint=f"for example {example}"
            )
        return ending.popitem()[1]

    @cached_property
    def embedder(self) -> Embedder:
        """Embeds recordings as those of the library were."""
        from dymn_cli.search.query import Embedder

        return Embedder(self.library)

    def nearest(
        self, queries: NDArray[np.float32], count: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Rows and similarities of those nearest to each query, the most similar first.

        Args:
            queries: (n, D) whitened.
            count: how many at most.
        """
        found = [(np.zeros(0, np.int64), np.zeros(0, np.float32))] * len(queries)
        if self.graph is not None:
            for n, rows in enumerate(self.graph.propose(queries, count)):
                found[n] = best_of(rows, similarity(self.white(rows) @ queries[n]), count)
            return found
        for start in range(0, len(self), BLOCK_ROWS):
            scores = similarity(queries @ self.white(slice(start, start + BLOCK_ROWS)).T)
            for n, (rows, best) in enumerate(found):
                # Of equally similar rows the earlier one stays.
                new = np.flatnonzero(scores[n] > (best[-1] if len(best) == count else -1))
                if len(new):
                    joined = np.concatenate([rows, new + start]), np.concatenate([best, scores[n][new]])
                    found[n] = best_of(*joined, count)
        return found

    def white(self, rows: NDArray[np.int64] | Sequence[int] | slice) -> NDArray[np.float32]:
        """Rows of the library, whitened: (n, D)."""
        return self.whitening(np.asarray(self.library.matrix[rows]), self.library.name)

    def _matches(
        self, queries: NDArray[np.float32], top: int, unwanted: Collection[int]
    ) -> list[list[Match]]:
        if top < 1:
            raise UsageError(f"-k {top} leaves nothing to find")
        answers = []
        for query, (rows, _) in zip(queries, self.nearest(queries, top + len(unwanted)), strict=True):
            rows = np.sort(rows[~np.isin(rows, list(unwanted))])
            scores = self.whitening.precise(np.asarray(self.library.matrix[rows]), query)
            answers.append(
                [
                    Match(rank, round(float(score), 5), int(row), self.library.places[int(row)])
                    for rank, (row, score) in enumerate(
                        zip(*best_of(rows, scores, top), strict=True), start=1
                    )
                ]
            )
        return answers

    def _mean(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        vectors = np.stack([self._vector(example) for example in examples])
        return np.asarray(self.whitening(vectors, "the query").mean(axis=0), np.float32)

    def _vector(self, example: Example) -> NDArray[np.float32]:
        if isinstance(example, int | np.integer):
            if not 0 <= example < len(self):
                raise UsageError(f"row {example} of a library of {len(self)}")
            return np.asarray(self.library.matrix[example])
        if not isinstance(example, np.ndarray):
            return self.embedder(example)
        if example.shape != (self.library.matrix.shape[1],):
            raise self._other_size(example)
        return example.astype(np.float32)

    def _other_size(self, given: NDArray[np.float32]) -> InputError:
        size = self.library.matrix.shape[1]
        return InputError(
            f"embeddings of shape {given.shape}, but those of {self.library.name} have {size} values"
        )


def best_of(
    rows: NDArray[np.int64], scores: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The highest scores with their rows; equal ones in the order in which they are given."""
    order = np.argsort(-scores, kind="stable")[:count]
    return rows[order], scores[order]
