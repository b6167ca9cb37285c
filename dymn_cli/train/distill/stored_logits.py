"""Teachers' logits that were computed before: a matrix on disk, and which clip has which row.

    LOGITS.npy + INDEX     float matrix (n_clips, n_classes), memory-mapped; a pickle or `.npy` with a dict of
                           name → row or a list of names, read without executing anything; a `.csv` with the
                           columns name (or `dymn embed`'s source) and row, or a `.txt` with a name a line
    LOGITS.h5              HDF5 with such a matrix and a vector of names

Names are compared as clip ids: without folder, suffix, and the "Y" that AudioSet's files put before the id of
their video.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dymn_cli.datasets.audioset_hdf5 import datasets_of, is_hdf5, open_hdf5
from dymn_cli.errors import (
    InputError,
    ModelError,
    UnsafeWeightsError,
    UsageError,
    WeightsMissingError,
    os_error_text,
)
from dymn_cli.small_files import LARGE, read_small_text
from dymn_cli.store.index import read_index

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["StoredLogits", "clip_id", "is_logits_file"]

VIDEO_ID = 11  # characters
NAME_COLUMNS = ("name", "source", "file", "filename", "clip", "path")
CHECKED_ROWS = 64


def clip_id(name: str) -> str:
    """What identifies a clip, whatever its file is called: `audio/Y--4gqARaEJE.mp3` → `--4gqARaEJE`."""
    base = name.replace("\\", "/").rpartition("/")[2]
    stem, dot, suffix = base.rpartition(".")
    if dot and stem and len(suffix) <= 5:
        base = stem
    return base[1:] if len(base) == VIDEO_ID + 1 and base.startswith("Y") else base


def is_logits_file(name: str) -> bool:
    """Whether a teacher is a file of logits and not a model."""
    return Path(name).suffix.lower() == ".npy" or is_hdf5(name)


class StoredLogits:
    """Logits by clip; rows are read from the disk when they are asked for.

    Args:
        matrix: (n_clips, n_classes) floats.
        rows: name → row.
        where: what errors call it.

    Raises:
        ModelError: the matrix is none, has rows too few, or values that are not finite.
    """

    def __init__(self, matrix: Any, rows: Mapping[str, int], where: str) -> None:
        if len(matrix.shape) != 2 or matrix.dtype.kind != "f":
            raise ModelError(f"{where}: not a matrix of floats: {matrix.dtype} of shape {matrix.shape}")
        beyond = next((name for name, row in rows.items() if not 0 <= row < matrix.shape[0]), None)
        if beyond is not None:
            raise ModelError(f"{where}: {beyond!r} has row {rows[beyond]}, and there are {matrix.shape[0]}")
        if not np.isfinite(np.asarray(matrix[:CHECKED_ROWS], np.float32)).all():
            raise ModelError(f"{where}: there are logits that are not finite")
        self.where = where
        self._matrix = matrix
        self._exact = dict(rows)
        ids = Counter(clip_id(name) for name in rows)
        self._by_id = {clip_id(name): row for name, row in rows.items() if ids[clip_id(name)] == 1}

    @property
    def n_classes(self) -> int:
        """Columns of the matrix."""
        return int(self._matrix.shape[1])

    @classmethod
    def open(cls, path: str, index: str | None = None) -> StoredLogits:
        """Open a file of logits.

        Args:
            path: `.npy` or HDF5.
            index: of a `.npy`; where None, the one file beside it that is named like it.

        Raises:
            UsageError: a `.npy` without an index.
            ModelError: unreadable, damaged or unsafe files.
        """
        if is_hdf5(path):
            return _open_hdf5(path)
        if Path(path).exists() and not Path(path).is_file():
            raise UnsafeWeightsError(f"{path}: not a file")  # but a pipe, which may stay silent
        try:
            # Not np.load, which also opens archives.
            matrix = np.lib.format.open_memmap(path, mode="r")
        except OSError as exc:
            raise WeightsMissingError(os_error_text(path, exc)) from exc
        except (ValueError, EOFError, OverflowError, TypeError) as exc:
            raise UnsafeWeightsError(f"{path}: not a plain .npy array of numbers") from exc
        place = _index_of(Path(path)) if index is None else Path(index)
        return cls(matrix, _read_rows(place, len(matrix) if matrix.ndim else 0), path)

    def rows_of(self, names: Sequence[str]) -> NDArray[np.int64]:
        """(n,) the row of each clip; −1 where there is none, or where an id does not tell clips apart."""
        ids = Counter(clip_id(name) for name in set(names))
        by_id = {name: self._by_id.get(clip_id(name), -1) for name in set(names) if ids[clip_id(name)] == 1}
        return np.array([self._exact.get(name, by_id.get(name, -1)) for name in names], dtype=np.int64)

    def logits(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, n_classes) for rows, in any order, repeated ones included."""
        wanted, place = np.unique(rows, return_inverse=True)  # HDF5 reads in rising order only
        found = np.asarray(self._matrix[wanted], np.float32)
        if not np.isfinite(found).all():
            raise ModelError(f"{self.where}: there are logits that are not finite")
        return found[place]


def _index_of(path: Path) -> Path:
    candidates = [
        path.with_name(f"{path.stem}{ending}")
        for ending in (".index.csv", ".index.pkl", ".index.npy", ".pkl", ".csv", ".txt")
    ]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise UsageError(
        f"{path}: no index says which clip has which row",
        hint=f"--teacher-index FILE, or a file {candidates[0].name} beside it",
    )


def _read_rows(path: Path, n_rows: int) -> dict[str, int]:
    """Row of each clip by its name; where an index only lists names, it lists one for each row.

    Raises:
        InputError: lines are missing, too many, empty, or say the same name twice.
        WeightsMissingError: it cannot be read.
    """
    if path.suffix.lower() not in (".csv", ".txt"):
        return read_index(path)
    text = read_small_text(path, WeightsMissingError, max_bytes=LARGE)
    if path.suffix.lower() == ".txt":
        lines = [(n, line.rstrip("\r")) for n, line in enumerate(text.rstrip().split("\n"), 1)]
        return _listed(path, lines, n_rows)
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        column = next((name for name in NAME_COLUMNS if name in (reader.fieldnames or [])), None)
        if column is None:
            raise InputError(f"{path}: no column of names", hint=f"one of {', '.join(NAME_COLUMNS)}")
        rows = [(reader.line_num, row) for row in reader]
        names = [(line, row[column] or "") for line, row in rows]
        if "row" not in (reader.fieldnames or []):
            return _listed(path, names, n_rows)
        _require_names(path, names)
        return {name: int(row["row"]) for (_, name), (_, row) in zip(names, rows, strict=True)}
    except (ValueError, TypeError, csv.Error) as exc:
        raise WeightsMissingError(f"{path}: not a readable index: {exc}") from exc


def _listed(path: Path, names: Sequence[tuple[int, str]], n_rows: int) -> dict[str, int]:
    _require_names(path, names)
    if len(names) != n_rows:
        raise InputError(
            f"{path}: {len(names):,} names for {n_rows:,} rows of logits",
            hint="a column row says which row each has",
        )
    return {name: row for row, (_, name) in enumerate(names)}


def _require_names(path: Path, names: Sequence[tuple[int, str]]) -> None:
    seen: dict[str, int] = {}
    for line, name in names:
        if not name.strip():
            raise InputError(
                f"{path}, line {line}: empty, and it is not clear whether a row of logits belongs to it",
                hint="an index has a name on each line",
            )
        if name in seen:
            raise InputError(f"{path}, line {line}: {name} is also on line {seen[name]}")
        seen[name] = line


def _open_hdf5(path: str) -> StoredLogits:
    file = open_hdf5(path)
    found = datasets_of(file)
    matrices = [d for d in found if d.ndim == 2 and d.dtype.kind == "f"]
    names = [d for d in found if d.ndim == 1 and d.dtype.kind in "OS"]
    fitting = [(m, n) for m in matrices for n in names if m.shape[0] == n.shape[0]]
    if len(fitting) != 1:
        raise ModelError(
            f"{path}: not one matrix of logits with its vector of clip names, but {len(fitting)}",
            hint="datasets: " + ", ".join(f"{d.name} {d.dtype}{list(d.shape)}" for d in found),
        )
    matrix, vector = fitting[0]
    texts = [
        value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in vector[:]
    ]
    return StoredLogits(matrix, {name: row for row, name in enumerate(texts)}, path)
