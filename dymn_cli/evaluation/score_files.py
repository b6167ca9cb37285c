"""Scores out of a finished result of `dymn tag`: csv, tsv, jsonl or json, in any layout.

A recording with several windows or channels gets the highest of their scores. Results that keep the best
labels only (`-k 5`) have gaps: these count as 0, and that is said.
"""

from __future__ import annotations

import base64
import csv
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dymn_cli.errors import InputError, UsageError, os_error_text
from dymn_cli.labels import Label, Vocabulary
from dymn_cli.small_files import LARGE, bounded_lines, read_small_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "SUFFIXES",
    "ScoreTable",
    "cells_of",
    "objects_of",
    "read_scores",
    "score_of",
    "source_of",
    "unescaped",
]

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
TSV_COLUMNS = ["source", "channel", "start_s", "end_s", "rank", "label", "score"]
PLACE = ("source", "channel", "start_s", "end_s")
TSV_ESCAPES = {"\\t": "\t", "\\n": "\n", "\\r": "\r", "\\\\": "\\"}
LARGEST_CELL = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTable:
    """Scores of recordings.

    Args:
        sources: names of the recordings, in the order of the result.
        vocabulary: the labels.
        scores: (n_sources, n_labels) float32; 0 where the result has none.
        failed: recordings that gave none.
        notes: a line each: what is worth knowing about the result.
    """

    sources: tuple[str, ...]
    vocabulary: Vocabulary
    scores: NDArray[np.float32]
    failed: tuple[str, ...]
    notes: tuple[str, ...]


class _Gathering:
    """Scores as they are read, by recording and label."""

    def __init__(self) -> None:
        self.sources: dict[str, int] = {}
        self.labels: dict[str, int] = {}
        self.mids: dict[str, str] = {}
        self.failed: dict[str, None] = {}
        self.several: set[int] = set()  # recordings that have more than one window or channel
        self._pieces: list[tuple[int, NDArray[np.intp], NDArray[np.float32]]] = []
        self._places: dict[int, tuple[object, ...]] = {}

    def label(self, name: str, mid: str = "") -> int:
        """The place of a label, which is new if need be."""
        if mid:
            self.mids[name] = mid
        return self.labels.setdefault(name, len(self.labels))

    def add(
        self, source: str, place: tuple[object, ...], labels: Sequence[int], scores: Sequence[float]
    ) -> None:
        """Some scores of a recording, from one place in it."""
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
    """Read finished results; several are taken for parts of one.

    Raises:
        InputError: one cannot be read, is no result with scores, or holds a score that is none.
        UsageError: a name that ends with none of `SUFFIXES`.
    """
    gathering = _Gathering()
    for path in paths:
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
    gaps = np.isnan(scores)
    audioset = Vocabulary.audioset()
    known = {label.name: label.mid for label in audioset}
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
        raise UsageError(f"{path}: no result that can be judged", hint=f"one of {', '.join(SUFFIXES)}")
    return readers[suffix]


# ---------------------------------------------------------------------- rows


def _read_csv(path: str, gathering: _Gathering) -> None:
    lines = cells_of(path, ",")
    header = next(lines, (0, []))[1]
    if header[:4] == list(PLACE) and {"label", "score"} <= set(header):
        _long(path, header, lines, gathering)
    elif header[:2] == ["source", "duration_s"] and "label_1" in header:
        _wide(path, header, lines, gathering)
    elif header[:4] == list(PLACE) and len(header) > len(PLACE) and header[4] != "e0":
        _matrix(path, header, lines, gathering)
    else:
        raise InputError(f"{path}: no result of dymn tag: its first line is {','.join(header[:5])!r}")


def _read_tsv(path: str, gathering: _Gathering) -> None:
    lines = cells_of(path, "\t")
    first = next(lines, None)
    if first is None:
        return
    if first[1] != TSV_COLUMNS:

        def again() -> Iterator[tuple[int, list[str]]]:
            yield first
            yield from lines

        _long(path, TSV_COLUMNS, again(), gathering)
    else:
        _long(path, TSV_COLUMNS, lines, gathering)


def cells_of(path: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table that have any cells, and the number of the line where each ends.

    Raises:
        InputError: it cannot be read, or is no table.
    """
    csv.field_size_limit(LARGEST_CELL)
    try:
        with Path(path).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = (
                csv.reader(bounded_lines(file, path, InputError), strict=True)
                if separator == ","
                else csv.reader(
                    bounded_lines(file, path, InputError), delimiter=separator, quoting=csv.QUOTE_NONE
                )
            )
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
    except OSError as exc:
        raise InputError(os_error_text(path, exc)) from exc
    except csv.Error as exc:
        raise InputError(f"{path}: not a table: {exc}") from exc


Lines = Iterable[tuple[int, list[str]]]


def _long(path: str, header: list[str], lines: Lines, gathering: _Gathering) -> None:
    column = {name: n for n, name in enumerate(header)}
    has_mid = "mid" in column
    for line, cells in lines:
        if len(cells) != len(header):
            raise InputError(f"{path}, line {line}: {len(cells)} cells for {len(header)} columns")
        source, name = cells[column["source"]], cells[column["label"]]
        if path.lower().endswith(".tsv"):
            source, name = unescaped(source), unescaped(name)
        label = gathering.label(name, cells[column["mid"]] if has_mid else "")
        place = (cells[column["channel"]], cells[column["start_s"]])
        gathering.add(source, place, [label], [score_of(cells[column["score"]], f"{path}, line {line}")])


def _wide(path: str, header: list[str], lines: Lines, gathering: _Gathering) -> None:
    pairs = [
        (header.index(f"label_{n}"), header.index(f"score_{n}"))
        for n in range(1, len(header))
        if f"label_{n}" in header
    ]
    for line, cells in lines:
        if len(cells) != len(header):
            raise InputError(f"{path}, line {line}: {len(cells)} cells for {len(header)} columns")
        given = [(cells[label], cells[score]) for label, score in pairs if cells[label]]
        where = f"{path}, line {line}"
        place = tuple(cells[header.index("channel")] for _ in range("channel" in header))
        labels = [gathering.label(label) for label, _ in given]
        gathering.add(cells[0], place, labels, [score_of(score, where) for _, score in given])


def _matrix(path: str, header: list[str], lines: Lines, gathering: _Gathering) -> None:
    labels = [gathering.label(name) for name in header[len(PLACE) :]]
    if len(set(labels)) < len(labels):
        raise InputError(f"{path}: two columns have the same name")
    for line, cells in lines:
        if len(cells) != len(header):
            raise InputError(f"{path}, line {line}: {len(cells)} cells for {len(header)} columns")
        where = f"{path}, line {line}"
        scores = [score_of(text, where) for text in cells[len(PLACE) :]]
        gathering.add(cells[0], (cells[1], cells[2]), labels, scores)


def score_of(text: object, where: str) -> float:
    """A score as a number.

    Raises:
        InputError: it is none between 0 and 1.
    """
    try:
        value = float(text)  # type: ignore[arg-type]  # whatever is no number is said below
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value <= 1:
        raise InputError(f"{where}: {text!r} is no score between 0 and 1")
    return value


def unescaped(text: str) -> str:
    """A cell of our tsv without its escapes."""
    if "\\" not in text:
        return text
    parts, at = [], 0
    while at < len(text):
        pair = text[at : at + 2]
        parts.append(TSV_ESCAPES.get(pair, text[at]))
        at += 2 if pair in TSV_ESCAPES else 1
    return "".join(parts)


# ---------------------------------------------------------------------- objects


def _read_objects(path: str, gathering: _Gathering) -> None:
    for one, where in objects_of(path):
        _add_object(one, where, gathering)


def objects_of(path: str) -> Iterator[tuple[Any, str]]:
    """The objects of a json or jsonl result, and where each stands.

    Raises:
        InputError: it cannot be read, or is not JSON.
    """
    line = 0
    try:
        if not path.lower().endswith(".json"):
            with Path(path).open(encoding="utf-8-sig") as file:
                for line, text in enumerate(bounded_lines(file, path, InputError), start=1):
                    if text.strip():
                        yield json.loads(text), f"{path}, line {line}"
            return
        objects = json.loads(read_small_text(path, InputError, max_bytes=LARGE))
    except OSError as exc:
        raise InputError(os_error_text(path, exc)) from exc
    except UnicodeDecodeError as exc:
        raise InputError(f"{path}: not text in UTF-8") from exc
    except json.JSONDecodeError as exc:
        raise InputError(f"{path}, line {line or exc.lineno}: not JSON") from exc
    except (ValueError, RecursionError) as exc:  # an endless number, or endless brackets
        where = f"{path}, line {line}" if line else path
        raise InputError(f"{where}: not JSON that dymn wrote") from exc
    for n, one in enumerate(objects if isinstance(objects, list) else [objects], start=1):
        yield one, f"{path}, object {n}"


def _add_object(one: Any, where: str, gathering: _Gathering) -> None:
    schema = one.get("schema") if isinstance(one, dict) else None
    if schema == "dymn.error/1":
        gathering.failed[source_of(one, where)] = None
        return
    if schema != "dymn.clip/1":
        raise InputError(f"{where}: no result of dymn tag, but {str(schema)[:40]}")
    try:
        tags = [(tag["label"], tag.get("mid") or "", tag["score"]) for tag in one["tags"]]
        place = (one.get("channel", "mix"),)
    except (KeyError, TypeError, AttributeError) as exc:
        raise InputError(f"{where}: a tag without label and score") from exc
    labels = [gathering.label(str(name), str(mid)) for name, mid, _ in tags]
    gathering.add(source_of(one, where), place, labels, [score_of(score, where) for _, _, score in tags])


def source_of(one: dict[str, Any], where: str) -> str:
    """The source that an object of a result is about.

    Raises:
        InputError: it does not say.
    """
    try:
        if "source_b64" in one:
            return os.fsdecode(base64.b64decode(one["source_b64"], validate=True))
        return str(one["source"])
    except (KeyError, TypeError, ValueError) as exc:
        raise InputError(f"{where}: no source") from exc
