"""What is really to be heard: labels of recordings, brought into the model's words.

A table or a folder says which labels a recording has, in names, ids or slugs of its own. They are matched to
the labels of a model; where words differ, a map says which label is meant:

    truth,label
    rooster,"Chicken, rooster"
    clock_tick,Tick-tock
    silence,                        an empty label: not to be judged

A recording that has a label which stands for none of the model's is either an error, or (`ignore_unknown`)
loses that label; one that loses all of its labels is left out.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.datasets.dataset import Dataset, folder_rows, listed
from dymn_cli.datasets.label_tables import LabelRow, read_label_table
from dymn_cli.datasets.name_matching import match_names
from dymn_cli.errors import InputError, UsageError
from dymn_cli.small_files import read_small_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.labels import Vocabulary

__all__ = ["GroundTruth", "Matched", "match", "read_label_map", "read_truth"]

LabelMap = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """Labels of recordings in words of their own.

    Args:
        name: what to call it.
        rows: one a recording.
        videos: names are ids of videos.
        notes: a line each.
    """

    name: str
    rows: tuple[LabelRow, ...]
    videos: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, dataset: Dataset) -> GroundTruth:
        """The truth about a data set."""
        words = dataset.classes
        mids = dataset.mids if any(dataset.mids) else ("",) * len(words)
        rows = [
            LabelRow(
                example.path,
                tuple(words[n] for n in example.labels),
                tuple(mids[n] for n in example.labels),
                None if example.absent is None else tuple(words[n] for n in example.absent),
                example.fold,
                example.split,
            )
            for example in dataset.examples
        ]
        gone = dataset.missing
        notes = [f"recordings that are not there: {len(gone)}, the first is {gone[0]}"] if gone else []
        return cls(dataset.name, tuple(rows), notes=(*dataset.notes, *notes))

    def only(self, part: str) -> GroundTruth:
        """The truth about one part or fold of the data.

        Raises:
            UsageError: there is no such part.
        """
        rows = tuple(row for row in self.rows if part in (row.fold, row.split))
        if not rows:
            parts = dict.fromkeys(name for row in self.rows for name in (row.split, row.fold) if name)
            raise UsageError(
                f"{self.name} has no part {part!r}", hint=", ".join(parts) or "it is not divided into parts"
            )
        return dataclasses.replace(self, rows=rows)


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """Truth and recordings, brought together.

    Args:
        recordings: which of the recordings can be judged, as indices.
        truth: (n, n_labels) which of these has which label.
        known: (n, n_labels) where that is known; None for everywhere.
        without_truth: recordings that the truth says nothing of.
        without_recording: names in the truth that no recording has.
        ignored: labels of the truth that are none of the model's.
        n_dropped: recordings that have such labels only.
    """

    recordings: NDArray[np.intp]
    truth: NDArray[np.bool_]
    known: NDArray[np.bool_] | None
    without_truth: tuple[str, ...]
    without_recording: tuple[str, ...]
    ignored: tuple[str, ...]
    n_dropped: int

    def only(self, kept: NDArray[np.intp]) -> Matched:
        """The same without some of the recordings: those that are kept, by their place among them."""
        known = None if self.known is None else self.known[kept]
        return dataclasses.replace(
            self, recordings=self.recordings[kept], truth=self.truth[kept], known=known
        )


def read_truth(path: str | Path) -> GroundTruth:
    """Read a table of labels, or a folder with a sub-folder per label.

    Raises:
        InputError: it cannot be read, or says nothing.
    """
    if os.path.isdir(path):  # noqa: PTH112 - names may be bytes that no Path holds
        rows, notes = folder_rows(str(path))
        # Its own place does not matter: the recordings may have been tagged elsewhere.
        inner = (dataclasses.replace(row, name=os.path.relpath(row.name, path)) for row in rows)
        return GroundTruth(str(path), tuple(inner), notes=tuple(notes))
    table = read_label_table(path)
    return GroundTruth(table.path, table.rows, table.form == "audioset")


def read_label_map(path: str | Path) -> LabelMap:
    """Read a CSV with columns `truth,label`; a word with several rows means all of their labels.

    Raises:
        UsageError: it cannot be read, or lacks a column.
    """
    found: dict[str, tuple[str, ...]] = {}
    text = read_small_text(path, UsageError)
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="more", skipinitialspace=True)
    try:
        if not {"truth", "label"} <= set(reader.fieldnames or ()):
            raise UsageError(f"{path}: the first line must name the columns truth,label")
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if "more" in row:
                raise UsageError(f"{where}: more cells than columns", hint='"a, b" with quotes')
            word, label = (row["truth"] or "").strip(), (row["label"] or "").strip()
            if not word:
                raise UsageError(f"{where}: no word of the truth")
            found[word] = found.get(word, ()) + ((label,) if label else ())
    except csv.Error as exc:
        raise UsageError(f"{path}: not a CSV file: {exc}") from exc
    return found


def match(
    truth: GroundTruth,
    sources: Sequence[str],
    vocabulary: Vocabulary,
    *,
    mapping: LabelMap | None = None,
    ignore_unknown: bool = False,
) -> Matched:
    """Bring truth and recordings together.

    Args:
        truth: what is to be heard.
        sources: names of the recordings that have scores.
        vocabulary: the labels that have scores.
        mapping: from the truth's words to labels.
        ignore_unknown: drop labels that are none of the vocabulary.

    Raises:
        InputError: no recording has a truth, or one has two.
        UsageError: labels of the truth are none of the vocabulary.
    """
    found = match_names(sources, [row.name for row in truth.rows], videos=truth.videos)
    pairs = [(source, row) for source, row in enumerate(found) if row is not None]
    if not pairs:
        raise InputError(
            f"{truth.name}: says nothing of these recordings: it has names like {truth.rows[0].name},"
            f" they have names like {sources[0]}"
        )
    first_of: dict[int, int] = {}
    for source, row in pairs:
        if row in first_of:
            raise InputError(
                f"{truth.name}: {truth.rows[row].name} may mean {sources[first_of[row]]}"
                f" and {sources[source]}",
                hint="give longer paths in the truth",
            )
        first_of[row] = source
    rows = [truth.rows[row] for _, row in pairs]
    places, unknown = _places(rows, vocabulary, mapping or {})
    if unknown and not ignore_unknown:
        raise _unknown(truth.name, unknown, vocabulary)
    labels = np.zeros((len(rows), len(vocabulary)), bool)
    known = np.ones(labels.shape, bool)
    kept = np.ones(len(rows), bool)
    for n, said in enumerate(rows):
        own = [place for word in said.labels for place in places[word]]
        labels[n, own] = True
        kept[n] = bool(own) or not said.labels
        if said.absent is not None:
            known[n] = False
            known[n, [*own, *(place for word in said.absent for place in places[word])]] = True
    if not kept.any():
        raise InputError(f"{truth.name}: no recording has a label that the model has")
    has_row = {row for _, row in pairs}
    return Matched(
        np.array([source for source, _ in pairs], np.intp)[kept],
        labels[kept],
        None if known.all() else known[kept],
        tuple(source for source, row in zip(sources, found, strict=True) if row is None),
        tuple(row.name for n, row in enumerate(truth.rows) if n not in has_row),
        tuple(unknown),
        int((~kept).sum()),
    )


def _places(
    rows: Sequence[LabelRow], vocabulary: Vocabulary, mapping: LabelMap
) -> tuple[dict[str, list[int]], list[str]]:
    """Which labels each word of the truth stands for, and the words that stand for none."""
    mids: dict[str, str] = {}
    for row in rows:
        mids.update(zip(row.labels, row.mids, strict=False))
        mids.update({word: mids.get(word, "") for word in (*row.labels, *(row.absent or ()))})
    places: dict[str, list[int]] = {}
    unknown = []
    for word, mid in mids.items():
        if word in mapping or (mid and mid in mapping):
            meant = mapping[word] if word in mapping else mapping[mid]
            places[word] = [vocabulary.find(label).index for label in meant]
            continue
        places[word] = []
        for spelling in filter(None, (mid, word)):
            try:
                places[word] = [vocabulary.find(spelling).index]
                break
            except UsageError:
                continue
        else:
            unknown.append(word)
    return places, unknown


def _unknown(name: str, unknown: Sequence[str], vocabulary: Vocabulary) -> UsageError:
    several = "labels are" if len(unknown) > 1 else "label is"
    near = ""
    try:
        vocabulary.find(unknown[0])
    except UsageError as exc:
        near = f" ({unknown[0]}: {exc.hint})" if exc.hint else ""
    return UsageError(
        f"{name}: {len(unknown)} {several} none of the model's: {listed(unknown, 8)}{near}",
        hint="--map FILE.csv (columns truth,label) says what is meant, --ignore-unknown leaves them out",
    )
