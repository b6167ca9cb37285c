"""A kept graph of neighbours (HNSW, usearch): searches millions of rows without reading each.

The graph holds the whitened rows as int8. A row of 384 values takes 533 bytes with its links, so ten million
take 5.3 GB, beside 15.4 GB of float32 on the disk, of which a search reads a hundred rows. Both are
memory-mapped. What the graph proposes is compared exactly with the rows of the library, so similarities are
those of an exact search, and only the choice of rows is approximate. Of the 20 nearest of 20,271 windows it
finds all, and 99.7 % in 150,000 mixtures of two of them (`python -m dymn_cli.bench.retrieval --rows`).

    CACHE/search/PATH-STATE.usearch     hashes of the library's path, and of its size and time of change

A library that has changed gets a new file, and the old one is removed.

Source: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical
Navigable Small World graphs", 2018.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dymn_cli.atomic import atomic_write
from dymn_cli.errors import BackendUnavailableError, OutputError, UsageError, os_errors_as
from dymn_cli.search.similarity import BLOCK_ROWS
from dymn_cli.store.registry import cache_folder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.search.matrix import Library
    from dymn_cli.search.similarity import Whitening

__all__ = ["Approximate", "is_installed"]

LINKS = 16
"""Neighbours of a row, twice as many on the lowest level."""
EXPANSION_ADD, EXPANSION_SEARCH = 128, 512
PROPOSED = 3
"""Rows that are compared exactly, for each that is wanted."""
MIN_PROPOSED = 100


def is_installed() -> bool:
    """Whether usearch can be imported."""
    from importlib.util import find_spec

    return find_spec("usearch") is not None


class Approximate:
    """Proposes the rows that may be nearest.

    Args:
        graph: of usearch.
    """

    def __init__(self, graph: Any) -> None:
        self._graph = graph

    @classmethod
    def open(
        cls,
        library: Library,
        whitening: Whitening,
        *,
        building: Callable[[Path], None] = lambda path: None,
    ) -> Approximate:
        """Open the graph of a library; build it first where there is none.

        Args:
            library: an .npy file.
            whitening: of that library.
            building: called before a graph is built, with where it will be kept.

        Raises:
            UsageError: the library is no .npy file.
            BackendUnavailableError: usearch is not installed.
            InputError: NaN or infinity in the library.
            OutputError: the graph cannot be written.
        """
        from filelock import FileLock

        if not isinstance(library.matrix, np.memmap):
            raise UsageError(f"{library.name}: --index needs an .npy file", hint="dymn convert makes one")
        path = _kept_at(library)
        with os_errors_as(OutputError, str(path), hint="DYMN_HOME=DIR keeps it elsewhere"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_name(f"{path.name.partition('-')[0]}.lock")):
                found = cls._view(path, library)
                if found is None:
                    building(path)
                    with atomic_write(path) as file:
                        graph = cls.build(library, whitening)._graph
                        try:
                            graph.save(file.name)
                        except RuntimeError as exc:  # usearch does not say why
                            raise OutputError(
                                f"{path}: cannot be written",
                                hint="is the disk full? DYMN_HOME=DIR keeps it elsewhere",
                            ) from exc
                    _remove_older(path)
                    found = cls._view(path, library)
        if found is None:
            raise OutputError(f"{path}: cannot be read back", hint="is the disk full?")
        return found

    @classmethod
    def build(cls, library: Library, whitening: Whitening, *, values: str = "i8") -> Approximate:
        """Build the graph of a library in memory.

        Args:
            library: whose rows.
            whitening: of that library.
            values: "i8", "f16" or "f32": how the graph holds rows.

        Raises:
            BackendUnavailableError: usearch is not installed.
            InputError: NaN or infinity in the library.
        """
        size = library.matrix.shape[1]
        # With `enable_key_lookups=False`, usearch 2.23 writes beyond its memory in a search.
        graph = _usearch().Index(
            ndim=size,
            metric="cos",
            dtype=values,
            connectivity=LINKS,
            expansion_add=EXPANSION_ADD,
            expansion_search=EXPANSION_SEARCH,
        )
        for start in range(0, len(library.matrix), BLOCK_ROWS):
            block = whitening(np.asarray(library.matrix[start : start + BLOCK_ROWS]), library.name)
            # Several threads at once leave rows that no search reaches (usearch issue 735).
            graph.add(np.arange(start, start + len(block), dtype=np.uint64), block, threads=1)
        return cls(graph)

    @classmethod
    def _view(cls, path: Path, library: Library) -> Approximate | None:
        """The graph of a file, memory-mapped; None where there is none, or it is another library's."""
        usearch = _usearch()
        if not path.is_file():
            return None
        try:
            graph = usearch.Index.restore(str(path), view=True)
        except (RuntimeError, ValueError, KeyError):
            return None
        if graph is None or (len(graph), graph.ndim) != library.matrix.shape:
            return None
        graph.expansion_search = EXPANSION_SEARCH
        return cls(graph)

    @property
    def n_bytes(self) -> int:
        """Size of the graph, in memory or in its file."""
        return len(self._graph.save())

    def propose(self, queries: NDArray[np.float32], count: int) -> list[NDArray[np.int64]]:
        """Rows that may be nearest, in order, more than are wanted.

        Args:
            queries: (n, D) whitened.
            count: how many are wanted of each.
        """
        most = min(max(PROPOSED * count, MIN_PROPOSED), len(self._graph))
        found = self._graph.search(queries.reshape(-1, self._graph.ndim), most)
        keys, counts = np.atleast_2d(found.keys), np.atleast_1d(getattr(found, "counts", most))
        return [np.sort(row[:n].astype(np.int64)) for row, n in zip(keys, counts, strict=True)]


def _usearch() -> Any:
    # From 2.25 on usearch loads a library with global symbols, with which onnxruntime cannot be loaded later.
    import dymn_cli.runtime.ort  # noqa: F401

    try:
        import usearch.index
    except ImportError as exc:
        raise BackendUnavailableError(
            "usearch is not installed", hint="pip install 'dymn[search]'; --no-index searches without"
        ) from exc
    return usearch.index


def _kept_at(library: Library) -> Path:
    status = os.stat(library.name)  # noqa: PTH116 - names may be bytes
    state = f"{status.st_size}\0{status.st_mtime_ns}\0{LINKS}\0{EXPANSION_ADD}\0in order"
    words = os.fsencode(os.path.realpath(library.name)), state.encode()
    of_path, of_state = (hashlib.sha256(word).hexdigest()[:16] for word in words)
    return cache_folder() / "search" / f"{of_path}-{of_state}.usearch"


def _remove_older(path: Path) -> None:
    of_path = path.name.partition("-")[0]
    for other in path.parent.glob(f"{of_path}-*.usearch"):
        if other != path:
            other.unlink(missing_ok=True)
