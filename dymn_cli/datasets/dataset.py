"""Data sets: recordings with labels, from a folder, a table, or a published data set.

    folder   a sub-folder per class, or folders train, val and test with a sub-folder per class each
    table    a CSV in any form of `label_tables`; names are relative to it, or to another folder
    layout   a published data set as its archives unpack: see `published`

Missing recordings are counted and left out: a data set is rarely complete.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from dymn_cli.audio.discover import find, natural_key
from dymn_cli.datasets.label_tables import SPLITS, LabelRow, merge_rows, read_label_table, require_utf8
from dymn_cli.datasets.name_matching import match_names
from dymn_cli.errors import InputError, UsageError, os_errors_as
from dymn_cli.values import listed, listed_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Dataset", "Task", "assemble", "folder_rows", "read_folder", "read_table"]

Task = Literal["auto", "one", "many"]
SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


@dataclass(frozen=True, slots=True)
class Dataset:
    """Recordings with labels.

    Args:
        name: what messages call it.
        classes: names of the classes, in the order of the outputs.
        mids: their AudioSet ids, "" where there is none.
        examples: the recordings with their files as sources, in a fixed order.
        is_multilabel: whether a recording may have several classes or none, not always exactly one.
        missing: labelled recordings whose files are missing.
        notes: remarks for the user, a line each.
        warnings: what may be a mistake in the data, likewise.
    """

    name: str
    classes: tuple[str, ...]
    mids: tuple[str, ...]
    examples: tuple[LabelRow, ...]
    is_multilabel: bool
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def targets(self) -> NDArray[np.bool_]:
        """Which example has which class: (n_examples, n_classes)."""
        index = {label: n for n, label in enumerate(self.classes)}
        table = np.zeros((len(self.examples), len(self.classes)), bool)
        for row, example in zip(table, self.examples, strict=True):
            row[[index[label] for label in example.labels]] = True
        return table

    def known(self) -> NDArray[np.bool_]:
        """Where it is known whether an example has a class: (n_examples, n_classes)."""
        index = {label: n for n, label in enumerate(self.classes)}
        table = self.targets()
        for row, example in zip(table, self.examples, strict=True):
            row[slice(None) if example.absent is None else [index[label] for label in example.absent]] = True
        return table

    def only(self, kept: Sequence[int]) -> Dataset:
        """The data set with some of the examples alone, given by their place."""
        return dataclasses.replace(self, examples=tuple(self.examples[n] for n in kept))


def read_folder(folder: str | Path, *, task: Task = "auto") -> Dataset:
    """Read a folder that has a sub-folder per class.

    Raises:
        InputError: it cannot be read, or has fewer than two classes.
    """
    rows, notes = folder_rows(str(folder))
    return assemble(str(folder), rows, lambda name: name, task=task, notes=notes)


def folder_rows(top: str) -> tuple[list[LabelRow], list[str]]:
    """The recordings in a folder that has a sub-folder per class, and remarks for the user.

    Raises:
        InputError: it cannot be read, has no recordings in sub-folders, or the name of one is not UTF-8.
    """
    inner = _folders(top)
    notes: list[str] = []
    parts = {name: name for name in inner}
    if len(inner) > 1 and all(name.lower() in SPLITS for name in inner):
        notes.append(f"the folders {listed(inner)} are used as parts of the data")
        parts = {
            os.path.join(part, name): part  # noqa: PTH118 - names may be bytes that no Path holds
            for part in inner
            for name in _folders(os.path.join(top, part))  # noqa: PTH118
        }
    loose = [found for found in find([top], recurse=False) if found.problem is None]
    if loose:
        notes.append(f"files in {top} itself, in no class, which are left out: {len(loose)}")
    rows: dict[str, LabelRow] = {}
    empty = []
    for sub, part in parts.items():
        label = os.path.basename(sub)  # noqa: PTH119
        files = [found.name for found in find([os.path.join(top, sub)]) if found.problem is None]  # noqa: PTH118
        if files:
            require_utf8(label, top, hint="rename the folder")
        else:
            empty.append(label)
        split = SPLITS[part.lower()] if part != sub else ""
        for name in files:
            # A file that several classes link to has all of them.
            real = os.path.realpath(name)
            before = rows.get(real, LabelRow(name, split=split))
            if before.split != split:
                raise InputError(
                    f"{name}: the same recording as {before.source}, in another part of the data"
                )
            labels = tuple(dict.fromkeys((*before.labels, label)))
            rows[real] = LabelRow(before.source, labels, split=split)
    if empty:
        notes.append(f"no audio in {listed(empty)}: left out")
    if not rows:
        raise InputError(
            f"{top}: no class in this folder", hint="put the recordings of each class into a sub-folder"
        )
    return list(rows.values()), notes


def read_table(path: str | Path, *, audio: str | Path | None = None, task: Task = "auto") -> Dataset:
    """Read a table of labels and find its recordings.

    Args:
        path: of the table.
        audio: the folder that its names are relative to, or that holds the files at any depth; by default the
            folder of the table.
        task: whether a recording has one label or may have several.

    Raises:
        InputError: it cannot be read, makes no sense, or leads to no recordings.
    """
    table = read_label_table(path)
    notes = [f"recordings with several rows, whose labels are merged: {table.n_repeated}"] * bool(
        table.n_repeated and table.form == "plain"
    )
    base = str(audio) if audio is not None else os.path.dirname(table.path)  # noqa: PTH120
    within: dict[str, str] = {}
    if audio is not None:
        files = [found.name for found in find([base]) if found.problem is None]
        matched = match_names(files, [row.source for row in table.rows], videos=table.form == "audioset")
        for name, row in zip(files, matched, strict=True):
            if row is not None:
                within.setdefault(table.rows[row].source, name)
        unnamed = len(files) - len(within)
        if unnamed:
            notes.append(f"files in {base} without a label, which are left out: {unnamed}")

    def locate(name: str) -> str | None:
        return within.get(name) or _file_of(os.path.join(base, name))  # noqa: PTH118

    return assemble(table.path, table.rows, locate, task=task, notes=notes)


def assemble(
    name: str,
    rows: Sequence[LabelRow],
    locate: Callable[[str], str | None],
    *,
    classes: Sequence[str] | None = None,
    task: Task = "auto",
    notes: Iterable[str] = (),
) -> Dataset:
    """Make a data set of rows.

    Args:
        name: what messages call it.
        rows: one a recording.
        locate: the file of a recording by its name, or None where there is none.
        classes: in the order of the outputs; by default those of the rows, in natural order.
        task: whether a recording has one label or may have several.
        notes: remarks for the user so far.

    Raises:
        InputError: fewer than two classes, hardly any recording is there, the task does not fit, or a
            recording that is listed under several names has several folds, splits or groups.
    """
    mids = {label: mid for row in rows for label, mid in zip(row.labels, row.mids, strict=False)}
    named = {label for row in rows for label in (*row.labels, *(row.absent or ()))}
    order = tuple(classes) if classes is not None else tuple(sorted(named, key=natural_key))
    is_detector = len(order) == 1 and any(row.absent for row in rows)  # present or absent, both known
    if len(order) < 2 and not is_detector:
        only = f"only the class {order[0]!r}" if order else "no labels at all"
        raise InputError(f"{name}: {only}, where two or more are needed", hint="add a class of other sounds")
    index = {label: n for n, label in enumerate(order)}
    if named - index.keys():
        raise InputError(f"{name}: labels outside its classes: {listed_labels(sorted(named - index.keys()))}")
    paths = {row.source: locate(row.source) for row in rows}
    missing = [row.source for row in rows if paths[row.source] is None]
    joined, n_joined = merge_rows(
        name, (row for row in rows if paths[row.source] is not None), lambda known: _file(paths[known] or "")
    )
    examples = []
    for row in joined:
        labels = tuple(sorted(row.labels, key=index.__getitem__))
        examples.append(
            dataclasses.replace(
                row,
                source=paths[row.source] or "",
                labels=labels,
                mids=tuple(mids.get(label, "") for label in labels) if mids else (),
            )
        )
    if len(missing) > len(rows) / 2:
        raise InputError(
            f"{name}: {len(missing)} of {len(rows)} recordings are missing, the first is {missing[0]}",
            hint="name their folder with --audio DIR",
        )
    is_multilabel, words = _is_multilabel(name, examples, task)
    if n_joined:
        words.append(f"recordings that are listed under several names, whose labels are merged: {n_joined}")
    used = {label for example in examples for label in example.labels}
    unused = [label for label in order if label not in used]
    if unused:
        words.append(f"no recording of {listed_labels(unused)}")
        if len(order) - len(unused) < 2:
            raise InputError(f"{name}: recordings of one class only, where two or more are needed")
    return Dataset(
        name,
        order,
        tuple(mids.get(label, "") for label in order),
        tuple(examples),
        is_multilabel,
        tuple(missing),
        (*notes, *words),
        _spelled_alike(order, examples),
    )


def _spelled_alike(classes: Sequence[str], examples: Sequence[LabelRow]) -> tuple[str, ...]:
    """A warning of classes that differ only in case, with their recordings, if there are any."""
    folded = Counter(label.casefold() for label in classes)
    alike = [label for label in classes if folded[label.casefold()] > 1]
    if not alike:
        return ()
    counts = Counter(label for example in examples for label in example.labels)
    alike.sort(key=str.casefold)
    text = listed([f'"{label}" ({counts[label]})' for label in alike], 8)
    return (f"classes that differ only in case: {text}",)


def _is_multilabel(name: str, examples: Sequence[LabelRow], task: Task) -> tuple[bool, list[str]]:
    """Whether the task is multi-label, and remarks for the user."""
    if task not in ("auto", "one", "many"):
        raise UsageError(f"no task {task!r}", hint="auto, one (label a recording) or many")
    numbers = Counter(min(len(example.labels), 2) for example in examples)
    partial = any(example.absent is not None for example in examples)
    fits_one = numbers[1] == len(examples) and not partial
    if task == "one" and not fits_one:
        odd = next((e for e in examples if len(e.labels) != 1), examples[0])
        what = listed_labels(odd.labels) or "none"
        raise InputError(
            f"{name}: recordings without a label: {numbers[0]}, with several: {numbers[2]};"
            f" {odd.source} has {what}",
            hint="--task many takes them as they are",
        )
    if fits_one:
        return task == "many", []
    words = []
    if numbers[2]:
        words.append(f"{numbers[2]} of {len(examples)} recordings have several labels")
    if numbers[0] and not partial:
        words.append(f"recordings without a label, examples of no class: {numbers[0]}")
    return True, words


def _folders(top: str) -> list[str]:
    """Names of the folders in a folder, in natural order; hidden ones are none."""
    with os_errors_as(InputError, top), os.scandir(top) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    return sorted(names, key=natural_key)


def _file(path: str) -> str:
    """The same path for all names of a file."""
    return os.path.normcase(os.path.realpath(path))


def _file_of(path: str) -> str | None:
    """The file at a path, or with the suffix that a table left out; None where there is none."""
    for suffix in ("", *SUFFIXES):
        if os.path.isfile(path + suffix):  # noqa: PTH113 - names may be bytes that no Path holds
            return path + suffix
    return None
