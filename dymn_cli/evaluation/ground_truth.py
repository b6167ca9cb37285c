"""Ground truth: the labels that recordings really have, in the words of a model.

A table or a folder has labels in names, ids or slugs of its own. They are matched to the labels of a model;
where words differ, a map says which label is meant:

    truth,label
    rooster,"Chicken, rooster"
    clock_tick,Tick-tock
    silence,                        an empty label: not evaluated

A label that the model does not have is an error, or is left out (`ignore_unknown`); so is a recording that
loses all of its labels by that.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.datasets.dataset import Dataset, folder_rows
from dymn_cli.datasets.label_tables import LabelRow, read_label_table
from dymn_cli.datasets.name_matching import pair_names
from dymn_cli.datasets.tables import small_table
from dymn_cli.errors import InputError, UsageError
from dymn_cli.values import counted, listed_labels, with_first

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.labels import Label, Vocabulary

__all__ = [
    "GroundTruth",
    "LabelMap",
    "Matched",
    "labels_meant",
    "match",
    "read_ground_truth",
    "read_label_map",
    "unknown_labels",
]

LabelMap = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """Labels of recordings in words of their own.

    Args:
        name: what messages call it.
        rows: one a recording.
        videos: sources are ids of videos.
        notes: remarks for the user, a line each.
    """

    name: str
    rows: tuple[LabelRow, ...]
    videos: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, dataset: Dataset) -> GroundTruth:
        """The ground truth of a data set."""
        gone = dataset.missing
        notes = [f"missing recordings: {with_first(gone)}"] if gone else []
        return cls(dataset.name, dataset.examples, notes=(*dataset.notes, *notes))

    def only(self, part: str) -> GroundTruth:
        """The rows of one part or fold of the data.

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
    """Ground truth matched to recordings.

    Args:
        recordings: which of the recordings can be evaluated, as indices.
        truth: (n, n_labels) which of these has which label.
        known: (n, n_labels) where that is known; None for everywhere.
        without_truth: recordings that are not in the ground truth.
        without_recording: sources of the ground truth without a recording.
        ignored: labels of the ground truth that the model does not have.
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
        """The match with some of its recordings alone, given by their place among them."""
        known = None if self.known is None else self.known[kept]
        return dataclasses.replace(
            self, recordings=self.recordings[kept], truth=self.truth[kept], known=known
        )


def read_ground_truth(path: str | Path) -> GroundTruth:
    """Read a table of labels, or a folder with a sub-folder per label.

    Raises:
        InputError: it cannot be read, or has no labels.
    """
    if os.path.isdir(path):  # noqa: PTH112 - names may be bytes that no Path holds
        rows, notes = folder_rows(str(path))
        # The place of the folder does not matter: the recordings may have been tagged elsewhere.
        inner = (dataclasses.replace(row, source=os.path.relpath(row.source, path)) for row in rows)
        return GroundTruth(str(path), tuple(inner), notes=tuple(notes))
    table = read_label_table(path)
    return GroundTruth(table.path, table.rows, table.form == "audioset")


def read_label_map(path: str | Path) -> LabelMap:
    """Read a table with columns `truth,label`; a word with several rows means all of their labels.

    Raises:
        UsageError: it cannot be read, or lacks a column.
    """
    table = small_table(str(path), UsageError, errors="strict")
    if not {"truth", "label"} <= set(table.columns):
        raise UsageError(f"{path}: the first line must name the columns truth,label")
    found: dict[str, tuple[str, ...]] = {}
    for line, row in table:
        if not row["truth"]:
            raise UsageError(f"{table.at(line)}: no word in the column truth")
        found[row["truth"]] = found.get(row["truth"], ()) + ((row["label"],) if row["label"] else ())
    return found


def match(
    truth: GroundTruth,
    sources: Sequence[str],
    vocabulary: Vocabulary,
    *,
    mapping: LabelMap | None = None,
    ignore_unknown: bool = False,
) -> Matched:
    """Match ground truth to recordings.

    Args:
        truth: the labels that recordings really have.
        sources: names of the recordings that have scores.
        vocabulary: the labels that have scores.
        mapping: from words of the ground truth to labels.
        ignore_unknown: drop labels that are not in the vocabulary.

    Raises:
        InputError: no recording has a row, or two have the same one.
        UsageError: labels that are not in the vocabulary.
    """
    found = pair_names(truth.name, sources, [row.source for row in truth.rows], videos=truth.videos)
    rows = [truth.rows[row] for row in found if row is not None]
    labels_of, unknown = labels_meant(rows, vocabulary, mapping or {})
    if unknown and not ignore_unknown:
        raise unknown_labels(truth.name, unknown, vocabulary)
    places = {word: [label.index for label in labels] for word, labels in labels_of.items()}
    labels = np.zeros((len(rows), len(vocabulary)), bool)
    known = np.ones(labels.shape, bool)
    kept = np.ones(len(rows), bool)
    for n, row in enumerate(rows):
        own = [place for word in row.labels for place in places[word]]
        labels[n, own] = True
        kept[n] = bool(own) or not row.labels
        if row.absent is not None:
            known[n] = False
            known[n, [*own, *(place for word in row.absent for place in places[word])]] = True
    if not kept.any():
        raise InputError(f"{truth.name}: no recording has a label that the model has")
    with_recording = set(found)
    return Matched(
        np.array([n for n, row in enumerate(found) if row is not None], np.intp)[kept],
        labels[kept],
        None if known.all() else known[kept],
        tuple(source for source, row in zip(sources, found, strict=True) if row is None),
        tuple(row.source for n, row in enumerate(truth.rows) if n not in with_recording),
        tuple(unknown),
        int((~kept).sum()),
    )


def labels_meant(
    rows: Iterable[LabelRow], vocabulary: Vocabulary, mapping: LabelMap
) -> tuple[dict[str, list[Label]], list[str]]:
    """The labels that each word of some rows means, and the words that mean none.

    Args:
        rows: with words of their own.
        vocabulary: the labels that a word may mean, by name, id or slug.
        mapping: what words mean instead; a word may mean several labels, or none.
    """
    mids: dict[str, str] = {}
    for row in rows:
        for word, mid in itertools.zip_longest((*row.labels, *(row.absent or ())), row.mids, fillvalue=""):
            mids[word] = mid or mids.get(word, "")
    meant: dict[str, list[Label]] = {}
    unknown = []
    for word, mid in mids.items():
        if word in mapping or (mid and mid in mapping):
            meant[word] = [vocabulary.find(label) for label in mapping[word if word in mapping else mid]]
            continue
        meant[word] = []
        for spelling in filter(None, (mid, word)):
            try:
                meant[word] = [vocabulary.find(spelling)]
                break
            except UsageError:
                continue
        else:
            unknown.append(word)
    return meant, unknown


def unknown_labels(name: str, unknown: Sequence[str], vocabulary: Vocabulary) -> UsageError:
    """The error for words that mean no label of the vocabulary."""
    near = ""
    try:
        vocabulary.find(unknown[0])
    except UsageError as exc:
        near = f' ("{unknown[0]}": {exc.hint})' if exc.hint else ""
    return UsageError(
        f"{name}: {counted(len(unknown), 'label')} unknown to the model: {listed_labels(unknown, 8)}{near}",
        hint="map them with --map FILE.csv (columns truth,label), or leave them out with --ignore-unknown",
    )
