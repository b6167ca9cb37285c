"""Read scores from a finished result of `dymn tag`: csv, tsv, jsonl or json, in any layout.

A recording with several windows or channels gets the highest of their scores. Results with the best labels
only (`-k 5`) have gaps: these count as 0, and a note says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dymn_cli.audio.discover import natural_key
from dymn_cli.datasets.tables import Table, read_table
from dymn_cli.errors import InputError, UsageError
from dymn_cli.labels import Label, Vocabulary
from dymn_cli.readers.cells import unescaped
from dymn_cli.readers.from_json import objects_of, source_of
from dymn_cli.readers.source import open_result_file
from dymn_cli.values import score_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ScoreTable", "read_scores"]

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
TSV_COLUMNS = ["source", "channel", "start_s", "end_s", "rank", "label", "score"]
PLACE = ("source", "channel", "start_s", "end_s")


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTable:
    """Scores of recordings.

    Args:
        sources: names of the recordings, in the order of the result.
        vocabulary: the labels: in AudioSet's order where all are AudioSet's, in a matrix's own, or by name.
        scores: (n_sources, n_labels) float32; 0 where the result has none.
        failed: recordings without scores.
        notes: remarks for the user, a line each.
    """

    sources: tuple[str, ...]
    vocabulary: Vocabulary
    scores: NDArray[np.float32]
    failed: tuple[str, ...]
    notes: tuple[str, ...]


class _Gathering:
    """Scores while they are read, by recording and label."""

    def __init__(self) -> None:
        self.sources: dict[str, int] = {}
        self.labels: dict[str, int] = {}
        self.mids: dict[str, str] = {}
        self.failed: dict[str, None] = {}
        self.is_matrix = False  # its columns have the model's order
        self.several: set[int] = set()  # recordings that have more than one window or channel
        self.path = ""  # of the result that is read
        self._path_of: dict[str, str] = {}
        self._pieces: list[tuple[int, NDArray[np.intp], NDArray[np.float32]]] = []
        self._places: dict[int, tuple[object, ...]] = {}

    def label(self, name: str, mid: str = "") -> int:
        """The column of a label, added if new."""
        if mid:
            self.mids[name] = mid
        return self.labels.setdefault(name, len(self.labels))

    def add(
        self, source: str, place: tuple[object, ...], labels: Sequence[int], scores: Sequence[float]
    ) -> None:
        """Add scores of a recording, from one place in it.

        Raises:
            InputError: another result has scores of it.
        """
        before = self._path_of.setdefault(source, self.path)
        if before != self.path:
            raise InputError(f"{source} is in {before} and in {self.path}", hint="leave one of them out")
        number = self.sources.setdefault(source, len(self.sources))
        if self._places.setdefault(number, place) != place:
            self.several.add(number)
        if len(labels):
            self._pieces.append((number, np.array(labels, np.intp), np.array(scores, np.float32)))

    def matrix(self) -> NDArray[np.float32]:
        """(n_sources, n_labels), NaN where there is no score."""
        table = np.full((len(self.sources), len(self.labels)), np.nan, np.float32)
        for number, labels, scores in self._pieces:
            table[number, labels] = np.fmax(table[number, labels], scores)
        return table


def read_scores(paths: Sequence[str]) -> ScoreTable:
    """Read finished results; several are parts of one.

    Raises:
        InputError: one cannot be read, has no scores, or has a bad score, or two have the same recording.
        UsageError: a name that ends with none of `SUFFIXES`.
    """
    gathering = _Gathering()
    for path in paths:
        gathering.path = path
        _reader_of(path)(path, gathering)
    name = paths[0] if len(paths) == 1 else f"{paths[0]} and others"
    if not gathering.sources:
        what = f"; {len(gathering.failed)} failed" if gathering.failed else ""
        raise InputError(f"{name}: no scores in this result{what}")
    scores = gathering.matrix()
    notes = []
    if gathering.several:
        notes.append(
            "recordings with several windows or channels, whose highest score counts:"
            f" {len(gathering.several)}"
        )
    names = list(gathering.labels)
    audioset = Vocabulary.audioset()
    known = {label.name: label.mid for label in audioset}
    if not gathering.is_matrix:  # rows have the order of their scores
        places = {name: n for n, name in enumerate(known)} if known.keys() >= set(names) else {}
        names.sort(key=lambda name: (places.get(name, 0), natural_key(name)))
        scores = scores[:, [gathering.labels[name] for name in names]]
    gaps = np.isnan(scores)
    if gaps.any():
        counts = (~gaps).sum(axis=1)
        n_labels = len(names)
        if known.keys() >= set(names):
            n_labels = len(audioset)
            wide = np.full((len(scores), n_labels), np.nan, np.float32)
            wide[:, [audioset.find(one).index for one in names]] = scores
            names, scores = list(audioset.names), wide
        span = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
        notes.append(
            f"{name} holds {span} of {n_labels} scores of a recording, the others count as 0:"
            " the figures are rough; dymn tag -k 0 or --layout matrix keeps all"
        )
    labels = [Label(n, gathering.mids.get(one) or known.get(one, ""), one) for n, one in enumerate(names)]
    failed = tuple(source for source in gathering.failed if source not in gathering.sources)
    return ScoreTable(
        tuple(gathering.sources), Vocabulary(labels), np.nan_to_num(scores, nan=0.0), failed, tuple(notes)
    )


def _reader_of(path: str) -> Callable[[str, _Gathering], None]:
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122
    readers = {".csv": _read_csv, ".tsv": _read_tsv, ".jsonl": _read_objects, ".json": _read_objects}
    if suffix not in readers:
        raise UsageError(f"{path}: not a result that can be evaluated", hint=f"one of {', '.join(SUFFIXES)}")
    return readers[suffix]


# ---------------------------------------------------------------------- rows


def _read_csv(path: str, gathering: _Gathering) -> None:
    table = read_table(path, ",;")
    columns = table.columns
    if columns[:4] == PLACE and {"label", "score"} <= set(columns):
        _long(table, gathering)
    elif columns[:2] == ("source", "duration_s") and "label_1" in columns:
        _wide(table, gathering)
    elif columns[:4] == PLACE and len(columns) > len(PLACE) and columns[4] != "e0":
        _matrix(table, gathering)
    else:
        raise InputError(f"{path}: not a result of dymn tag: its first line is {','.join(columns[:5])!r}")


def _read_tsv(path: str, gathering: _Gathering) -> None:
    _long(read_table(path, "\t", columns=TSV_COLUMNS), gathering)


def _long(table: Table, gathering: _Gathering) -> None:
    is_tsv = table.path.lower().endswith(".tsv")
    for line, row in table:
        source, name = row["source"], row["label"]
        if is_tsv:
            source, name = unescaped(source), unescaped(name)
        label = gathering.label(name, row.get("mid", ""))
        score = score_of(row["score"], table.at(line))
        gathering.add(source, (row["channel"], row["start_s"]), [label], [score])


def _wide(table: Table, gathering: _Gathering) -> None:
    numbers = [n for n in range(1, len(table.columns)) if f"label_{n}" in table.columns]
    for line, row in table:
        given = [(row[f"label_{n}"], row[f"score_{n}"]) for n in numbers if row[f"label_{n}"]]
        labels = [gathering.label(label) for label, _ in given]
        scores = [score_of(score, table.at(line)) for _, score in given]
        gathering.add(row["source"], (row.get("channel"),), labels, scores)


def _matrix(table: Table, gathering: _Gathering) -> None:
    names = table.columns[len(PLACE) :]
    if len(set(names)) < len(names):
        raise InputError(f"{table.path}: two columns have the same name")
    labels = [gathering.label(name) for name in names]
    gathering.is_matrix = True
    for line, row in table:
        scores = [score_of(row[name], table.at(line)) for name in names]
        gathering.add(row["source"], (row["channel"], row["start_s"]), labels, scores)


def _read_objects(path: str, gathering: _Gathering) -> None:
    with open_result_file(path) as file:
        for one, where in objects_of(file.text(), path, as_array=path.lower().endswith(".json")):
            _add_object(one, where, gathering)


def _add_object(one: Any, where: str, gathering: _Gathering) -> None:
    schema = one.get("schema") if isinstance(one, dict) else None
    if schema == "dymn.error/1":
        gathering.failed[source_of(one, where)] = None
        return
    if schema != "dymn.clip/1":
        raise InputError(f"{where}: not a result of dymn tag, but {str(schema)[:40]}")
    try:
        tags = [(tag["label"], tag.get("mid") or "", tag["score"]) for tag in one["tags"]]
        place = (one.get("channel", "mix"),)
    except (KeyError, TypeError, AttributeError) as exc:
        raise InputError(f"{where}: a tag without label and score") from exc
    labels = [gathering.label(str(name), str(mid)) for name, mid, _ in tags]
    gathering.add(source_of(one, where), place, labels, [score_of(score, where) for _, _, score in tags])
