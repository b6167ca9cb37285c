"""Read published data sets as their archives unpack, with their official folds and splits.

    esc50     meta/esc50.csv, audio/*.wav      five folds; clips of one recording share one
    fsd50k    FSD50K.ground_truth/{dev,eval,vocabulary}.csv, FSD50K.{dev,eval}_audio/*.wav    train, val, test
    openmic   openmic-2018-aggregated-labels.csv (or openmic-2018.npz), class-map.json,
              partitions/split01_{train,test}.csv, audio/XXX/XXX….ogg
              train, test; for each clip, a few of the 20 instruments are known to be present or absent
    tau       meta.csv, evaluation_setup/fold1_{train,evaluate}.csv, audio/*.wav
              train, test; segments in neither list are left out, as in the official set-up

The folder to name is the one that contains these, or the one around it.

Sources: github.com/karolpiczak/ESC-50; zenodo.org/records/4060432 (FSD50K); zenodo.org/records/1432913
(OpenMIC-2018); "TAU Urban Acoustic Scenes 2020 Mobile, Development dataset", also on Zenodo.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.datasets.dataset import Dataset, Task, assemble
from dymn_cli.datasets.label_tables import PRESENT_FROM, LabelRow, read_label_table
from dymn_cli.datasets.tables import cells_of
from dymn_cli.errors import InputError, UsageError, os_errors_as
from dymn_cli.small_files import read_small_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LAYOUTS", "read_layout"]

AGGREGATED = "openmic-2018-aggregated-labels.csv"
OPENMIC_ARRAYS = "openmic-2018.npz"


def read_layout(name: str, folder: str | Path, *, task: Task = "auto") -> Dataset:
    """Read a published data set.

    Args:
        name: one of `LAYOUTS`.
        folder: where it was unpacked.
        task: whether a recording has one label or may have several.

    Raises:
        UsageError: no data set has that name.
        InputError: one of its files is missing or makes no sense.
    """
    if name not in LAYOUTS:
        raise UsageError(f"no data set {name!r}", hint=", ".join(LAYOUTS))
    return LAYOUTS[name](Path(folder), task)


def _esc50(folder: Path, task: Task) -> Dataset:
    root = _root(folder, "meta/esc50.csv")
    rows = read_label_table(root / "meta" / "esc50.csv").rows
    return assemble(str(folder), rows, _under(root / "audio"), task=task)


def _fsd50k(folder: Path, task: Task) -> Dataset:
    truth = "FSD50K.ground_truth"
    root = _root(folder, f"{truth}/dev.csv")
    rows = list(read_label_table(root / truth / "dev.csv").rows)
    audio = {row.source: root / "FSD50K.dev_audio" for row in rows}
    notes = []
    if (root / truth / "eval.csv").is_file():
        held_out = read_label_table(root / truth / "eval.csv").rows
        rows += [dataclasses.replace(row, split="test") for row in held_out]
        audio |= {row.source: root / "FSD50K.eval_audio" for row in held_out}
    else:
        notes.append("no eval.csv: the part val is held out instead")
    classes = None
    if (root / truth / "vocabulary.csv").is_file():
        path = root / truth / "vocabulary.csv"
        lines = read_small_text(path, InputError).splitlines(keepends=True)
        classes = [cells[1] for _, cells in cells_of(lines, str(path), ",") if len(cells) > 1]

    def locate(name: str) -> str | None:
        return _under(audio[name])(f"{name}.wav")

    return assemble(str(folder), rows, locate, classes=classes, task=task, notes=notes)


def _openmic(folder: Path, task: Task) -> Dataset:
    root = _root(folder, "class-map.json")
    try:
        mapping = json.loads(read_small_text(root / "class-map.json", InputError))
        classes = sorted(mapping, key=lambda name: int(mapping[name]))
    except (ValueError, TypeError, RecursionError) as exc:
        raise InputError(f"{root / 'class-map.json'}: not JSON that numbers the classes") from exc
    rows: Sequence[LabelRow]
    if (root / AGGREGATED).is_file():
        rows = read_label_table(root / AGGREGATED).rows
    else:
        rows = _openmic_arrays(root / OPENMIC_ARRAYS, classes)
    parts = {key: part for part in ("train", "test") for key in _keys(root, f"split01_{part}.csv")}
    placed = [dataclasses.replace(row, split=parts[row.source]) for row in rows if row.source in parts]
    notes = [f"clips in no part, which are left out: {len(rows) - len(placed)}"] * (len(placed) < len(rows))
    if not placed:
        raise InputError(f"{root / 'partitions'}: none of the keys has labels")

    def locate(name: str) -> str | None:
        return _under(root / "audio" / name[:3])(f"{name}.ogg")

    return assemble(str(folder), placed, locate, classes=classes, task=task, notes=notes)


def _openmic_arrays(path: Path, classes: Sequence[str]) -> list[LabelRow]:
    """The labels from the NumPy archive, which are those of the table."""
    if not path.is_file():
        raise InputError(f"{path.parent}: neither {AGGREGATED} nor {path.name} found")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            relevance, mask = np.asarray(arrays["Y_true"], float), np.asarray(arrays["Y_mask"], bool)
            keys = [str(key) for key in arrays["sample_key"]]
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as exc:
        # Its names may be pickled Python objects, which could run anything.
        raise InputError(
            f"{path}: cannot be read without running code from it",
            hint=f"use {AGGREGATED} of the same archive, which has the labels as text",
        ) from exc
    if not relevance.shape == mask.shape == (len(keys), len(classes)):
        raise InputError(f"{path}: arrays of different sizes")
    if not np.isfinite(relevance[mask]).all():
        raise InputError(f"{path}: Y_true holds NaN where Y_mask says that it is known")
    return [
        LabelRow(
            key,
            _names(classes, known & (values >= PRESENT_FROM)),
            absent=_names(classes, known & (values < PRESENT_FROM)),
        )
        for key, values, known in zip(keys, relevance, mask, strict=True)
    ]


def _names(classes: Sequence[str], chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(classes[n] for n in np.flatnonzero(chosen).tolist())


def _keys(root: Path, name: str) -> list[str]:
    path = root / "partitions" / name
    return read_small_text(path, InputError, where=f"{path}: the official split cannot be read").split()


def _tau(folder: Path, task: Task) -> Dataset:
    root = _root(folder, "evaluation_setup/fold1_train.csv")
    if not (root / "meta.csv").is_file():
        raise InputError(f"{root}: meta.csv is missing", hint="also unpack the archive …meta.zip there")
    rows = {row.source: row for row in read_label_table(root / "meta.csv").rows}
    placed: list[LabelRow] = []
    for part, name in (("train", "fold1_train.csv"), ("test", "fold1_evaluate.csv")):
        for row in read_label_table(root / "evaluation_setup" / name).rows:
            # Segments of one place belong together; only meta.csv says which these are.
            known = rows.get(row.source, row)
            placed.append(dataclasses.replace(known, split=part))
    n_unused = len(rows.keys() - {row.source for row in placed})
    notes = [f"{n_unused} segments are in neither list of the official split and are left out"] * bool(
        n_unused
    )
    return assemble(str(folder), placed, _under(root), task=task, notes=notes)


LAYOUTS: Mapping[str, Callable[[Path, Task], Dataset]] = {
    "esc50": _esc50,
    "fsd50k": _fsd50k,
    "openmic": _openmic,
    "tau": _tau,
}
"""The published data sets by name."""


def _root(folder: Path, marker: str) -> Path:
    """The named folder or one of its sub-folders, whichever contains this file."""
    with os_errors_as(InputError, folder):
        inner = sorted(path for path in folder.iterdir() if path.is_dir())
    for root in (folder, *inner):
        if (root / marker).is_file():
            return root
    raise InputError(f"{folder}: no {marker} in this folder", hint="name the folder of the unpacked archive")


def _under(base: Path) -> Callable[[str], str | None]:
    def locate(name: str) -> str | None:
        path = base / name
        return str(path) if path.is_file() else None

    return locate
