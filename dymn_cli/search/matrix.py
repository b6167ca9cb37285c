"""Embeddings of a library: a matrix, what each row is, and what made them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dymn_cli.errors import InputError
from dymn_cli.readers import open_result
from dymn_cli.readers.from_json import provenance_of
from dymn_cli.readers.from_npy import open_matrix, places_of
from dymn_cli.results import Failure
from dymn_cli.small_files import read_small
from dymn_cli.writers.beside import meta_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.writers.base import Provenance

__all__ = ["Library", "Place", "open_library"]

MAX_META_BYTES = 1 << 20


class Place(NamedTuple):
    """What a row is the embedding of."""

    source: str
    channel: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Library:
    """Embeddings of many recordings.

    Args:
        name: what messages call it.
        matrix: (n_rows, D) float32, memory-mapped where it is an .npy file.
        places: what each row is.
        provenance: what made the embeddings; None where nothing says so.
    """

    name: str
    matrix: NDArray[np.float32]
    places: Sequence[Place]
    provenance: Provenance | None


def open_library(path: str) -> Library:
    """Open what `dymn embed` wrote: an .npy file and its index, or another format with embeddings.

    Raises:
        InputError: it cannot be read, has no embeddings or no rows, or its index does not fit.
        OutputError: parquet, and pyarrow is not installed.
    """
    with open_result(path) as result:
        if result.kind != "embeddings":
            raise InputError(f"{path}: {result.kind}, not embeddings", hint="dymn embed makes them")
        if result.format_name == "npy":
            library = _from_npy(path)
        else:
            library = _in_memory(path, result, result.provenance)
    if not len(library.matrix):
        raise InputError(f"{path}: no embeddings in it")
    return library


def _from_npy(path: str) -> Library:
    matrix = open_matrix(path)
    places = [Place(*place) for place in places_of(path, matrix)]
    meta = meta_of(path, "npy")
    try:
        document = json.loads(read_small(meta, InputError, max_bytes=MAX_META_BYTES))
    except InputError:
        return Library(path, matrix, places, None)
    except (ValueError, RecursionError) as exc:
        raise InputError(f"{meta}: damaged: not JSON") from exc
    return Library(path, matrix, places, provenance_of(document))


def _in_memory(path: str, items: object, provenance: Provenance | None) -> Library:
    places: list[Place] = []
    vectors: list[NDArray[np.float32]] = []
    for item in items:  # type: ignore[attr-defined]
        if isinstance(item, Failure):
            continue
        for row in item:
            places.append(Place(row.source, row.channel, row.start_s, row.end_s))
            vectors.append(row.embedding)
    matrix = np.stack(vectors).astype(np.float32) if vectors else np.zeros((0, 1), np.float32)
    return Library(path, matrix, places, provenance)
