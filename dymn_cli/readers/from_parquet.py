"""Parquet as dymn writes it, a batch of rows at a time; needs pyarrow."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from dymn_cli.errors import InputError
from dymn_cli.readers.cells import Clocks
from dymn_cli.readers.from_json import provenance_of, source_of
from dymn_cli.readers.rows import Row
from dymn_cli.values import score_of, time_of
from dymn_cli.writers.base import EmbeddingRow

if TYPE_CHECKING:
    from dymn_cli.writers.base import Provenance

__all__ = ["ParquetFile"]

PLACE = ("source", "source_b64", "channel", "start_s", "end_s")
CELLS_IN_A_BATCH = 1 << 18


class ParquetFile:
    """A parquet file of ours.

    Args:
        stream: a file that can seek.
        name: what errors call it.

    Attributes:
        kind: "events", "tags" or "embeddings".
        provenance: what made it, where it says so.

    Raises:
        InputError: it is damaged, or is not of dymn, or pyarrow is not installed.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as exc:
            raise InputError(f"{name}: parquet needs pyarrow", hint="pip install 'dymn[parquet]'") from exc
        self._name = name
        self._errors = (pyarrow.ArrowException, OSError)
        try:
            self._file: Any = pyarrow.parquet.ParquetFile(stream)
        except self._errors as exc:
            raise InputError(f"{name}: damaged or cut short: not a whole parquet file") from exc
        schema = self._file.schema_arrow
        self.columns = list(schema.names)
        if not {"source", "start_s", "end_s"} <= set(self.columns):
            raise InputError(f"{name}: no result of dymn: it lacks the columns source, start_s and end_s")
        self.kind = "embeddings" if "embedding" in self.columns else "events" if self._is_events else "tags"
        self.is_clips = "label" not in self.columns
        self.n_rows: int = self._file.metadata.num_rows
        self.provenance = self._provenance((schema.metadata or {}).get(b"dymn"))
        size = getattr(schema.field("embedding").type, "list_size", 0) if self.kind == "embeddings" else 0
        self.size = int(size)

    @property
    def _is_events(self) -> bool:
        return "label" in self.columns and "rank" not in self.columns

    @staticmethod
    def _provenance(document: bytes | None) -> Provenance | None:
        try:
            return provenance_of(json.loads(document or b"null"))
        except ValueError:
            return None

    def _records(self) -> Iterator[tuple[dict[str, Any], str]]:
        size = max(1, CELLS_IN_A_BATCH // max(len(self.columns), self.size))
        number = 0
        try:
            for batch in self._file.iter_batches(batch_size=size):
                for one in batch.to_pylist():
                    number += 1
                    yield one, f"{self._name}, row {number}"
        except self._errors as exc:
            raise InputError(f"{self._name}: damaged after row {number}") from exc

    def rows(self, clocks: Clocks) -> Iterator[Row]:
        """The labels, a row each.

        Args:
            clocks: reads clock times.

        Raises:
            InputError: the file is damaged, or holds values that dymn does not write.
        """
        labels = [name for name in self.columns if name not in PLACE]
        clocks.are_given = "label" in self.columns and "clock" in self.columns
        for one, where in self._records():
            place = self._place(one, where)
            if "label" in self.columns:
                clocks.note(place[0], one.get("clock"), place[2])
                yield Row(
                    *place,
                    str(one["label"] or "").strip(),
                    str(one.get("mid") or "") if "mid" in one else None,
                    _score(one.get("score"), where),
                    _score(one.get("mean_score"), where),
                    int(one.get("n_windows") or 0),
                    -1 if one.get("index") is None else int(one["index"]),
                    int(one.get("rank") or 0),
                ).checked(where)
                continue
            values = [_score(one[name], where) for name in labels]
            best = sorted(range(len(labels)), key=lambda n: -values[n])
            for rank, n in enumerate(best, start=1):
                yield Row(*place, labels[n], score=values[n], rank=rank)

    def embeddings(self) -> Iterator[EmbeddingRow]:
        """The embeddings, a row each.

        Raises:
            InputError: the file is damaged.
        """
        import numpy as np

        for one, where in self._records():
            yield EmbeddingRow(*self._place(one, where), np.array(one["embedding"], np.float32))

    @staticmethod
    def _place(one: dict[str, Any], where: str) -> tuple[str, str, float, float]:
        times = time_of(one["start_s"], where), time_of(one["end_s"], where)
        return source_of(one, where), str(one.get("channel") or "mix"), *times


def _score(value: object, where: str) -> float:
    return math.nan if value is None else score_of(value, where)
