"""Read tables of labels in the forms that people and data sets have them.

    plain      file,label[;label…][,fold][,split][,group]    an empty label: none of the classes
    review     source,label,decision…                        decision: keep, reject, or empty where undecided
    AudioSet   # YTID, start_seconds, end_seconds, positive_labels    ids in one quoted cell
    FSD50K     fname,labels,mids[,split]                     names and ids separated by commas
    ESC-50     filename,fold,target,category,esc10,src_file,take
    TAU        filename<TAB>scene_label[<TAB>identifier<TAB>source_label]
    OpenMIC    sample_key,instrument,relevance[,num_responses]   one pair a row; the other pairs are unknown

The names of the columns tell the form; see `tables` for separators and comments. The rows of a recording are
merged, however they spell its name.

A review says of each label that a program proposed whether a person kept it. A recording has the labels that
were kept in it. Once anything is rejected, what nobody decided about is unknown, not absent.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from dymn_cli.datasets.tables import Table, small_table
from dymn_cli.errors import InputError
from dymn_cli.small_files import LARGE
from dymn_cli.values import score_of, time_of

__all__ = [
    "Form", "Judgement", "LabelRow", "LabelTable", "merge_rows", "read_judgements", "read_label_table",
    "require_utf8", "was_kept",
]  # fmt: skip

Form = Literal["plain", "review", "audioset", "fsd50k", "esc50", "tau", "openmic"]

FILE_COLUMNS = ("file", "filename", "path", "fname", "name", "source", "audio")
LABEL_COLUMNS = ("label", "labels", "class", "classes", "category", "tag", "tags")
GROUP_COLUMNS = ("group", "recording", "src_file", "identifier")
EXPECTED = "a plain table has the columns file,label and, if you like, fold, split, group"
PRESENT_FROM = 0.5  # relevance from which an instrument of OpenMIC counts as present
DECISIONS = {"keep": True, "reject": False, "": None}
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
"""Names of splits, and which split each means."""
MISSING = {"nan", "none", "null", "n/a"}  # what other programs write into an empty cell


@dataclass(frozen=True, slots=True)
class LabelRow:
    """What is known of a recording, or of a stretch of it.

    Args:
        source: the recording: the name that a table has for it, or the path of its file.
        labels: that it has: names, or ids where the table has no names.
        mids: their AudioSet ids; empty where the table has none.
        absent: labels that it is known not to have; None for all others.
        start_s: where the stretch begins, in seconds.
        end_s: where it ends; infinity for the end of the recording.
        score: in [0, 1]; None where the table has none.
        fold: of a cross-validation, or "".
        split: "train", "val", "test" or "".
        group: recordings of one group belong on one side of a split; "" for a group of its own.
        line: of the table, from 1; 0 where there is no table.
    """

    source: str
    labels: tuple[str, ...] = ()
    mids: tuple[str, ...] = ()
    absent: tuple[str, ...] | None = None
    start_s: float = 0.0
    end_s: float = math.inf
    score: float | None = None
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


def read_label_table(path: str | Path) -> LabelTable:
    """Read a table of labels in any of the forms.

    Raises:
        InputError: it cannot be read, is empty, has none of the forms, or a row makes no sense.
    """
    table = small_table(str(path), InputError, limit=LARGE)
    table = replace(table, columns=tuple(name.lower() for name in table.columns))
    columns = set(table.columns)
    if "split" in columns:
        table = replace(table, lines=list(table.lines))
        _require_splits_or_folds(table)
    form: Form
    rows: Iterable[LabelRow]
    if "ytid" in columns:
        form, rows = "audioset", _audioset(table)
    elif {"fname", "labels", "mids"} <= columns:
        form, rows = "fsd50k", _fsd50k(table)
    elif {"filename", "fold", "category"} <= columns:
        form, rows = "esc50", _single(table, "filename", "category")
    elif {"filename", "scene_label"} <= columns:
        form, rows = "tau", _single(table, "filename", "scene_label")
    elif {"sample_key", "instrument", "relevance"} <= columns:
        form, rows = "openmic", _openmic(table)
    elif "decision" in columns:
        form, rows = "review", _review(table)
    else:
        form, rows = "plain", _plain(table)
    merged, n_repeated = merge_rows(table.path, rows, _plain_name)
    if not merged:
        raise InputError(f"{path}: no recordings in this table, only a header")
    return LabelTable(table.path, form, merged, n_repeated)


def _require_splits_or_folds(table: Table) -> None:
    """Refuse a column of splits in which some are names of folds: one of the two is misspelt.

    Raises:
        InputError: it names both.
    """
    given = [(line, cells["split"]) for line, cells in table if cells["split"]]
    folds = [(line, split) for line, split in given if split.lower() not in SPLITS]
    if folds and len(folds) < len(given):
        line, split = folds[0]
        raise InputError(
            f"{table.at(line)}: split {split!r} is none of train, val, test",
            hint="folds belong in a column fold",
        )


@dataclass(frozen=True, slots=True)
class Judgement:
    """A row of a review.

    Args:
        source: the recording.
        start_s: where the event begins, in seconds.
        end_s: where it ends.
        label: that a program proposed, or a person gave.
        mid: its AudioSet id, or "".
        kept: whether the label is right; None where nothing is decided.
    """

    source: str
    start_s: float
    end_s: float
    label: str
    mid: str
    kept: bool | None


def read_judgements(path: str | Path) -> tuple[Judgement, ...] | None:
    """Read a review of events, row by row; None for any other table.

    Raises:
        InputError: it cannot be read, nothing in it is decided, or a row makes no sense.
    """
    table = small_table(str(path), InputError, limit=LARGE)
    table = replace(table, columns=tuple(name.lower() for name in table.columns))
    if not {"decision", "start_s", "end_s"} <= set(table.columns):
        return None
    file, label = _file_and_label(table)
    rows = []
    for line, cells in table:
        where = table.at(line)
        kept = was_kept(cells["decision"], where)
        if not cells[file] or not cells[label]:
            raise InputError(f"{where}: no {'label' if cells[file] else 'file name'}")
        require_utf8(cells[label], where)
        start, end = (time_of(cells[name], where) for name in ("start_s", "end_s"))
        if end < start:
            raise InputError(f"{where}: the event ends before it starts")
        rows.append(Judgement(_plain_name(cells[file]), start, end, cells[label], cells.get("mid", ""), kept))
    if all(row.kept is None for row in rows):
        raise InputError(f"{table.path}: nothing in this review is decided", hint="keep or reject some rows")
    return tuple(rows)


def require_utf8(label: str, where: str, *, hint: str = "save the table as UTF-8") -> None:
    """Refuse a label that is not UTF-8: file names may be any bytes, but models and results spell labels.

    Raises:
        InputError: it is not; the message shows its bytes.
    """
    try:
        label.encode()
    except UnicodeEncodeError as exc:
        shown = label.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        raise InputError(f'{where}: the label "{shown}" is not UTF-8', hint=hint) from exc


# ---------------------------------------------------------------------- the forms


def _plain(table: Table) -> Iterator[LabelRow]:
    file, label = _file_and_label(table)
    for line, cells in table:
        labels = _parts(cells[label], ";")
        for text in labels:
            if text.lower() in MISSING:
                raise InputError(
                    f"{table.at(line)}: the label is {text!r}, which stands for a missing value",
                    hint="leave the cell empty where a recording has none of the labels",
                )
        yield _row(table, line, cells, cells[file], labels)


def _file_and_label(table: Table) -> tuple[str, str]:
    file, label = table.first(FILE_COLUMNS), table.first(LABEL_COLUMNS)
    if file is None or label is None:
        missing = "file" if file is None else "label"
        found = ", ".join(table.columns[:6])
        raise InputError(f"{table.path}: no column of {missing}s among {found}", hint=EXPECTED)
    return file, label


def _review(table: Table) -> list[LabelRow]:
    file, label = _file_and_label(table)
    decided: list[tuple[bool, LabelRow]] = []
    for line, cells in table:
        kept = was_kept(cells["decision"], table.at(line))
        if kept is None:
            continue
        if not cells[label]:
            raise InputError(f"{table.at(line)}: no label")
        decided.append((kept, _row(table, line, cells, cells[file], (cells[label],))))
    if not decided:
        raise InputError(f"{table.path}: nothing in this review is decided", hint="keep or reject some rows")
    if all(kept for kept, _ in decided):
        return [row for _, row in decided]
    found = {(_plain_name(row.source), row.labels) for kept, row in decided if kept}
    # A label that was kept somewhere in a recording is in it, wherever else it was rejected.
    return [
        replace(row, absent=())
        if (_plain_name(row.source), row.labels) in found
        else replace(row, labels=(), absent=row.labels)
        for _, row in decided
    ]


def was_kept(decision: str, where: str) -> bool | None:
    """Whether a reviewer kept a row; None where nothing is decided.

    Raises:
        InputError: the cell says something else.
    """
    try:
        return DECISIONS[decision.strip().lower()]
    except KeyError:
        raise InputError(f"{where}: the decision is {decision!r}, neither keep nor reject") from None


def _single(table: Table, file: str, label: str) -> Iterator[LabelRow]:
    for line, cells in table:
        if not cells[label]:
            raise InputError(f"{table.at(line)}: no {label}")
        yield _row(table, line, cells, cells[file], (cells[label],))


def _audioset(table: Table) -> Iterator[LabelRow]:
    for line, cells in table:
        mids = _parts(cells["positive_labels"], ",")
        if not mids or not all(mid.startswith("/") for mid in mids):
            raise InputError(f"{table.at(line)}: {cells['positive_labels']!r} is not a list of AudioSet ids")
        yield _row(table, line, cells, cells["ytid"], mids, mids)


def _fsd50k(table: Table) -> Iterator[LabelRow]:
    for line, cells in table:
        labels, mids = _parts(cells["labels"], ","), _parts(cells["mids"], ",")
        if not labels or len(labels) != len(mids):
            raise InputError(f"{table.at(line)}: {len(labels)} labels and {len(mids)} mids")
        yield _row(table, line, cells, cells["fname"], labels, mids)


def _openmic(table: Table) -> Iterator[LabelRow]:
    for line, cells in table:
        relevance = score_of(cells["relevance"], table.at(line), what="a relevance")
        pair = (cells["instrument"],)
        row = replace(_row(table, line, cells, cells["sample_key"], pair), absent=())
        yield row if relevance >= PRESENT_FROM else replace(row, labels=(), absent=pair)


def _row(
    table: Table,
    line: int,
    cells: dict[str, str],
    source: str,
    labels: tuple[str, ...],
    mids: tuple[str, ...] = (),
) -> LabelRow:
    if not source:
        raise InputError(f"{table.at(line)}: no file name")
    for label in labels:
        require_utf8(label, table.at(line))
    fold, split = cells.get("fold", ""), cells.get("split", "")
    if split and split.lower() not in SPLITS:
        # Whatever else it is called, it is a part of the data to be held out in turn.
        fold, split = fold or split, ""
    return LabelRow(
        source,
        labels,
        mids,
        fold=fold,
        split=SPLITS.get(split.lower(), ""),
        group=next((cells[key] for key in GROUP_COLUMNS if cells.get(key)), ""),
        line=line,
    )


def _parts(text: str, separator: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(separator) if part.strip()))


def _plain_name(name: str) -> str:
    """A path without what says nothing: `./a//b.wav` and `c/../a/b.wav` are `a/b.wav`."""
    return posixpath.normpath(name.replace("\\", "/"))


# ---------------------------------------------------------------------- rows of one recording


@dataclass(slots=True)
class _Merged:
    first: LabelRow
    n: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    absent: dict[str, None] = field(default_factory=dict)


def merge_rows(
    path: str, rows: Iterable[LabelRow], recording_of: Callable[[str], str]
) -> tuple[tuple[LabelRow, ...], int]:
    """Merge the rows of each recording into one, which is named as the first of them.

    Args:
        path: of the table.
        rows: as they come.
        recording_of: what two names have in common that mean the same recording.

    Returns:
        The rows, and how many recordings had several.

    Raises:
        InputError: rows of one recording disagree about its fold, split or group.
    """
    merged: dict[str, _Merged] = {}
    for row in rows:
        one = merged.setdefault(recording_of(row.source), _Merged(row))
        for what, here, there in (
            ("fold", (row.fold, row.split), (one.first.fold, one.first.split)),
            ("group", row.group, one.first.group),
        ):
            if here != there:
                raise InputError(
                    f"{path}{f', line {row.line}' if row.line else ''}: {row.source} is in another {what}"
                    f" {_place(one.first, row)}"
                )
        one.n += 1
        for label, mid in zip(row.labels, row.mids or ("",) * len(row.labels), strict=True):
            one.labels[label] = mid
            one.absent.pop(label, None)  # of rows that contradict each other the last one counts
        for label in row.absent or ():
            one.labels.pop(label, None)
            one.absent[label] = None
    result = tuple(
        replace(
            one.first,
            labels=tuple(one.labels),
            mids=tuple(one.labels.values()) if one.first.mids else (),
            absent=None if one.first.absent is None else tuple(one.absent),
        )
        for one in merged.values()
    )
    return result, sum(one.n > 1 for one in merged.values())


def _place(first: LabelRow, row: LabelRow) -> str:
    other = "" if first.source == row.source else f", as {first.source}"
    return f"on line {first.line}{other}" if first.line else f"elsewhere{other}"
