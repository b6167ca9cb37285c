"""Which labels a recording has, as a table says it: the forms in which people keep that.

    plain      file,label[;label…][,fold][,split][,group]    an empty label: none of the classes
    AudioSet   # YTID, start_seconds, end_seconds, positive_labels    ids in one quoted cell, "#" for comments
    FSD50K     fname,labels,mids[,split]                     names and ids with commas in between
    ESC-50     filename,fold,target,category,esc10,src_file,take
    TAU        filename<TAB>scene_label[<TAB>identifier<TAB>source_label]
    OpenMIC    sample_key,instrument,relevance[,num_responses]   a row a pair; pairs without one are not known

The form is read from the first line. Cells are separated by commas, tabs or semicolons, whichever the first
line has. A file that has several rows gets the labels of all of them, however they spell its name.
"""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dymn_cli.errors import InputError
from dymn_cli.small_files import LARGE, read_small_text

__all__ = ["Form", "LabelRow", "LabelTable", "merge_rows", "read_label_table"]

Form = Literal["plain", "audioset", "fsd50k", "esc50", "tau", "openmic"]

FILE_COLUMNS = ("file", "filename", "path", "fname", "name", "source", "audio")
LABEL_COLUMNS = ("label", "labels", "class", "classes", "category", "tag", "tags")
GROUP_COLUMNS = ("group", "recording", "src_file", "identifier")
EXPECTED = "a plain one has the columns file,label and, where wanted, fold, split, group"
PRESENT_FROM = 0.5  # the relevance at which an instrument of OpenMIC counts as heard
SPLITS = {
    "train": "train",
    "training": "train",
    "dev": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluate": "test",
    "evaluation": "test",
}
"""How splits are called, and what each means."""
MISSING = {"nan", "none", "null", "n/a"}  # what other programs write into an empty cell


@dataclass(frozen=True, slots=True)
class LabelRow:
    """What a table says of one recording.

    Args:
        name: of the recording, as the table spells it.
        labels: that it has: names, or ids where the table has no names.
        mids: their AudioSet ids; empty where the table has none.
        absent: labels that it is known not to have; None for all others.
        fold: of a cross-validation, or "".
        split: "train", "val", "test" or "".
        group: recordings of one group belong on one side of a split; "" for one of its own.
        line: of the table, from 1.
    """

    name: str
    labels: tuple[str, ...]
    mids: tuple[str, ...] = ()
    absent: tuple[str, ...] | None = None
    fold: str = ""
    split: str = ""
    group: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class LabelTable:
    """A table of labels.

    Args:
        path: of its file.
        form: that it has.
        rows: one a recording, in the order of the table.
        n_repeated: recordings that have several rows.
    """

    path: str
    form: Form
    rows: tuple[LabelRow, ...]
    n_repeated: int = 0


@dataclass(frozen=True, slots=True)
class _Sheet:
    """The cells of a file, by the names of their columns."""

    path: str
    columns: tuple[str, ...]
    lines: Sequence[tuple[int, list[str]]]

    def __iter__(self) -> Iterator[tuple[int, dict[str, str]]]:
        for line, cells in self.lines:
            if len(cells) > len(self.columns):
                raise InputError(
                    f"{self.path}, line {line}: {len(cells)} cells for {len(self.columns)} columns",
                    hint='cells with commas stand in quotes: "a, b"',
                )
            padded = [cell.strip() for cell in cells] + [""] * (len(self.columns) - len(cells))
            yield line, dict(zip(self.columns, padded, strict=True))

    def first(self, names: Iterable[str]) -> str | None:
        """The first of these columns that there is."""
        return next((name for name in names if name in self.columns), None)


def read_label_table(path: str | Path) -> LabelTable:
    """Read a table of labels in any of the forms.

    Raises:
        InputError: it cannot be read, is empty, has none of the forms, or a row makes no sense.
    """
    name = str(path)
    sheet = _read_sheet(name)
    columns = set(sheet.columns)
    form: Form
    if "ytid" in columns:
        form, rows = "audioset", _audioset(sheet)
    elif {"fname", "labels", "mids"} <= columns:
        form, rows = "fsd50k", _fsd50k(sheet)
    elif {"filename", "fold", "category"} <= columns:
        form, rows = "esc50", _single(sheet, "filename", "category")
    elif {"filename", "scene_label"} <= columns:
        form, rows = "tau", _single(sheet, "filename", "scene_label")
    elif {"sample_key", "instrument", "relevance"} <= columns:
        form, rows = "openmic", _openmic(sheet)
    else:
        form, rows = "plain", _plain(sheet)
    merged, n_repeated = merge_rows(name, rows, _plain_name)
    if not merged:
        raise InputError(f"{name}: no recordings in this table, only a first line")
    return LabelTable(name, form, merged, n_repeated)


# ---------------------------------------------------------------------- the forms


def _plain(sheet: _Sheet) -> Iterator[LabelRow]:
    file, label = sheet.first(FILE_COLUMNS), sheet.first(LABEL_COLUMNS)
    if file is None or label is None:
        missing = "file" if file is None else "label"
        found = ", ".join(sheet.columns[:6])
        raise InputError(f"{sheet.path}: no column of {missing}s among {found}", hint=EXPECTED)
    for line, cells in sheet:
        labels = tuple(part.strip() for part in cells[label].split(";") if part.strip())
        decision = cells.get("decision", "keep").lower()
        if decision not in ("keep", "reject", ""):
            raise InputError(
                f"{sheet.path}, line {line}: the decision is {decision!r}, neither keep nor reject"
            )
        if not decision:  # a reviewer has not looked at it
            continue
        if decision == "reject":
            labels = ()
        for text in labels:
            if text.lower() in MISSING:
                raise InputError(
                    f"{sheet.path}, line {line}: the label is {text!r}, which stands for a missing value",
                    hint="leave the cell empty where a recording has none of the labels",
                )
        yield _row(sheet, line, cells, cells[file], labels)


def _single(sheet: _Sheet, file: str, label: str) -> Iterator[LabelRow]:
    for line, cells in sheet:
        if not cells[label]:
            raise InputError(f"{sheet.path}, line {line}: no {label}")
        yield _row(sheet, line, cells, cells[file], (cells[label],))


def _audioset(sheet: _Sheet) -> Iterator[LabelRow]:
    for line, cells in sheet:
        mids = _parts(cells["positive_labels"], ",")
        if not mids or not all(mid.startswith("/") for mid in mids):
            raise InputError(
                f"{sheet.path}, line {line}: {cells['positive_labels']!r} is no list of AudioSet ids"
            )
        yield _row(sheet, line, cells, cells["ytid"], mids, mids)


def _fsd50k(sheet: _Sheet) -> Iterator[LabelRow]:
    for line, cells in sheet:
        labels, mids = _parts(cells["labels"], ","), _parts(cells["mids"], ",")
        if not labels or len(labels) != len(mids):
            raise InputError(f"{sheet.path}, line {line}: {len(labels)} labels and {len(mids)} mids")
        yield _row(sheet, line, cells, cells["fname"], labels, mids)


def _openmic(sheet: _Sheet) -> Iterator[LabelRow]:
    for line, cells in sheet:
        try:
            relevance = float(cells["relevance"])
        except ValueError:
            relevance = float("nan")
        if not 0 <= relevance <= 1:
            raise InputError(
                f"{sheet.path}, line {line}: {cells['relevance']!r} is no relevance between 0 and 1"
            )
        pair = (cells["instrument"],)
        present = relevance >= PRESENT_FROM
        yield LabelRow(
            cells["sample_key"], pair if present else (), absent=() if present else pair, line=line
        )


def _row(
    sheet: _Sheet,
    line: int,
    cells: dict[str, str],
    name: str,
    labels: tuple[str, ...],
    mids: tuple[str, ...] = (),
) -> LabelRow:
    if not name:
        raise InputError(f"{sheet.path}, line {line}: no name of a file")
    fold, split = cells.get("fold", ""), cells.get("split", "")
    if split and split.lower() not in SPLITS:
        # Whatever else it is called, it is a part of the data to be held out in turn.
        fold, split = fold or split, ""
    group = next((cells[key] for key in GROUP_COLUMNS if cells.get(key)), "")
    return LabelRow(
        name, tuple(dict.fromkeys(labels)), mids, None, fold, SPLITS.get(split.lower(), ""), group, line
    )


def _parts(text: str, separator: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(separator) if part.strip()))


@dataclass(slots=True)
class _Gathered:
    """Rows of one recording."""

    first: LabelRow
    n: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    absent: dict[str, None] = field(default_factory=dict)


def merge_rows(
    path: str, rows: Iterable[LabelRow], recording_of: Callable[[str], str]
) -> tuple[tuple[LabelRow, ...], int]:
    """One row a recording, named as its first is.

    Args:
        path: of the table.
        rows: as they come.
        recording_of: what two names have in common that mean the same recording.

    Returns:
        The rows, and how many recordings had several.

    Raises:
        InputError: rows of one recording disagree about its fold, split or group.
    """
    gathered: dict[str, _Gathered] = {}
    for row in rows:
        known = gathered.setdefault(recording_of(row.name), _Gathered(row))
        for what, here, there in (
            ("fold", (row.fold, row.split), (known.first.fold, known.first.split)),
            ("group", row.group, known.first.group),
        ):
            if here != there:
                raise InputError(f"{_where(path, row)}: {row.name} is in another {what} {_first(known, row)}")
        known.n += 1
        for label, mid in zip(row.labels, row.mids or ("",) * len(row.labels), strict=True):
            known.labels[label] = mid
            known.absent.pop(label, None)  # of several answers the last one counts
        for label in row.absent or ():
            known.labels.pop(label, None)
            known.absent[label] = None
    merged = tuple(
        LabelRow(
            known.first.name,
            tuple(known.labels),
            tuple(known.labels.values()) if known.first.mids else (),
            None if known.first.absent is None else tuple(known.absent),
            known.first.fold,
            known.first.split,
            known.first.group,
            known.first.line,
        )
        for known in gathered.values()
    )
    return merged, sum(known.n > 1 for known in gathered.values())


def _where(path: str, row: LabelRow) -> str:
    return f"{path}, line {row.line}" if row.line else path


def _first(known: _Gathered, row: LabelRow) -> str:
    other = "" if known.first.name == row.name else f", as {known.first.name}"
    return f"on line {known.first.line}{other}" if known.first.line else f"elsewhere{other}"


def _plain_name(name: str) -> str:
    """A path without what says nothing: `./a//b.wav` and `c/../a/b.wav` are `a/b.wav`."""
    return posixpath.normpath(name.replace("\\", "/"))


# ---------------------------------------------------------------------- the file


def _read_sheet(path: str) -> _Sheet:
    # Names of files may hold bytes that are no UTF-8: they come back as they are.
    text = read_small_text(path, InputError, max_bytes=LARGE, errors="surrogateescape")
    if "\0" in text:
        raise InputError(f"{path}: not a table of text", hint=EXPECTED)
    header, body, n_before = _header(path, text)
    separator = next((char for char in ("\t", ",", ";") if char in header), ",")
    columns = tuple(cell.strip().lower() for cell in next(csv.reader([header], delimiter=separator)))
    if len(set(columns)) < len(columns):
        raise InputError(f"{path}: two columns have the same name")
    reader = csv.reader(
        io.StringIO(body, newline=""), delimiter=separator, skipinitialspace=True, strict=True
    )
    try:
        lines = [
            (reader.line_num + n_before, cells)
            for cells in reader
            if any(cell.strip() for cell in cells) and not cells[0].startswith("#")
        ]
    except csv.Error as exc:
        raise InputError(f"{path}, line {reader.line_num + n_before}: not a table: {exc}") from exc
    return _Sheet(path, columns, lines)


def _header(path: str, text: str) -> tuple[str, str, int]:
    """The line that names the columns, what follows it, and how many lines came up to it."""
    lines = re.split(r"(?<=\n)|(?<=\r)(?!\n)", text)
    for n, line in enumerate(lines):
        bare = line.strip().lstrip("#").strip()
        names_columns = "ytid" in (cell.strip().lower() for cell in bare.split(","))
        if not bare or (line.startswith("#") and not names_columns):
            continue
        return bare, "".join(lines[n + 1 :]), n + 1
    raise InputError(f"{path}: empty", hint=EXPECTED)
