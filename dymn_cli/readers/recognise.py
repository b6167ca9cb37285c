"""Which format a result has, by its beginning; its name decides only where that says nothing."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from dymn_cli.datasets.tables import separator_of
from dymn_cli.errors import InputError, UsageError
from dymn_cli.readers.cells import is_number
from dymn_cli.readers.from_tables import CSV_SEPARATORS, column_roles, without_clock
from dymn_cli.readers.source import open_result_file
from dymn_cli.values import nearest
from dymn_cli.writers.beside import INDEX_COLUMNS

__all__ = ["READ_FORMATS", "event_format", "recognise", "require_format"]

READ_FORMATS = (
    "csv", "tsv", "json", "jsonl", "parquet", "npy", "raven", "audacity", "kaleidoscope", "sed", "rttm",
    "srt", "vtt",
)  # fmt: skip

RTTM_TYPES = frozenset({
    "A/P", "CB", "EDIT", "FILLER", "IP", "LEXEME", "NON-LEX", "NON-SPEECH", "NOSCORE", "NO_RT_METADATA",
    "SEGMENT", "SPEAKER", "SPKR-INFO", "SU",
})  # fmt: skip
WITHOUT_HEADER = {
    ".tsv": "tsv",
    ".audacity.txt": "audacity",
    ".txt": "audacity",
    ".rttm": "rttm",
    ".srt": "srt",
}
OTHERS = {
    ("source", "error", "message", "hint"): "a list of sources that failed, not a result",
    ("source", "warning"): "a list of warnings, not a result",
    INDEX_COLUMNS: "the index of a matrix; name the .npy file",
}
SRT_TIMES = re.compile(r"\d+:\d\d:\d\d,\d{3} --> \d+:\d\d:\d\d,\d{3}")
N_EVENT_CELLS, N_TAG_CELLS = 6, 7


def require_format(name: str) -> str:
    """A format by its name.

    Raises:
        UsageError: there is none.
    """
    if name.lower() in READ_FORMATS:
        return name.lower()
    raise UsageError(
        f"unknown format {name!r}", hint=f"{nearest(name.lower(), READ_FORMATS)} (--from FORMAT)"
    )


def recognise(head: bytes, name: str) -> str | None:
    """The format that a file begins as; None where it is no result.

    Args:
        head: its first lines.
        name: of the file; its suffix counts where the head is empty.

    Raises:
        InputError: it is something else that dymn writes, or text in another encoding.
    """
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{name}: text in UTF-16", hint="save it as UTF-8")
    if b"\0" in head:
        return None
    text = head.decode("utf-8-sig", "surrogateescape").lstrip("\r\n")
    if not text.strip():
        return next((form for end, form in WITHOUT_HEADER.items() if name.lower().endswith(end)), None)
    lines = text.splitlines()
    return (
        _of_objects(lines, name)
        or _of_header(lines[0], name)
        or _of_row(lines[0])
        or ("srt" if any(map(SRT_TIMES.match, lines[:2])) else None)
    )


def _of_objects(lines: Sequence[str], name: str) -> str | None:
    first = lines[0].lstrip()
    if first.startswith("WEBVTT"):
        return "vtt"
    if first.startswith("["):
        return "json"
    if first.startswith("{"):
        if first.rstrip() == "{" and any('"dymn"' in line or '"dymn.meta/' in line for line in lines):
            raise InputError(f"{name}: what made a result, not the result itself")
        return "jsonl" if '"schema"' in first else "json"
    return None


def _of_header(first: str, name: str) -> str | None:
    tabs = first.split("\t")
    if {"filename", "onset", "offset", "event_label"} <= set(tabs) or tabs == ["filename"]:
        return "sed"
    if "Begin Time (s)" in tabs and "End Time (s)" in tabs:
        return "raven"
    cells = _csv_cells(first)
    if tuple(cells) in OTHERS:
        raise InputError(f"{name}: {OTHERS[tuple(cells)]}")
    if {"IN FILE", "OFFSET", "DURATION"} <= set(cells):
        return "kaleidoscope"
    if column_roles(cells) is not None:
        return "csv"
    if column_roles(tabs) is not None:
        return "tsv"
    return None


def _of_row(first: str) -> str | None:
    """A format without names of columns."""
    tabs = without_clock(first.split("\t"))
    if len(tabs) >= N_EVENT_CELLS and all(map(is_number, tabs[2:4])):
        has_score = not tabs[-1] or is_number(tabs[-1])  # an empty cell where it is unknown
        is_event = len(tabs) == N_EVENT_CELLS
        is_tag = len(tabs) == N_TAG_CELLS and tabs[4].isdecimal()
        if (has_score and (is_event or is_tag)) or all(map(is_number, tabs[4:])):
            return "tsv"
    if len(tabs) in (2, 3) and is_number(tabs[0]) and is_number(tabs[1]):
        return "audacity"
    words = first.split()
    if words and ((words[0] in RTTM_TYPES and len(words) in (9, 10)) or words[0].startswith(";;")):
        return "rttm"
    return None


def _csv_cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator_of(line, CSV_SEPARATORS)), [])
    except csv.Error:
        return []


def event_format(path: str) -> str | None:
    """The format of a file of events or labels; None for any other file, however readable.

    Raises:
        InputError: it cannot be read.
    """
    with open_result_file(path) as file:
        try:
            found = recognise(file.head, file.path)
        except InputError:
            return None
        head = file.head.decode("utf-8-sig", "surrogateescape").lstrip("\r\n")
        separator = "\t" if found == "tsv" else separator_of(file.first_line, CSV_SEPARATORS)
    if found in ("json", "jsonl"):
        schemas = set(re.findall(r'"schema"\s*:\s*"dymn\.([a-z]+)/\d+"', head))
        return found if "events" in schemas or (schemas == {"error"} and found == "jsonl") else None
    if found in ("csv", "tsv"):
        header = next(iter(csv.reader(io.StringIO(head), delimiter=separator)), [])
        roles = column_roles(header)
        is_named = roles is not None and "label" in roles and "rank" not in roles
        if is_named and roles is not None and "decision" in roles:  # a review of tags has no times
            row = head.split("\n", 2)[1:2]
            cells = next(iter(csv.reader(row, delimiter=separator)), [])
            is_named = cells[roles["start_s"] : roles["start_s"] + 1] not in ([], [""])
        usual = without_clock(header)
        is_bare = roles is None and (not header or (len(usual) == N_EVENT_CELLS and not is_number(usual[4])))
        return found if is_named or is_bare else None
    return None if found in ("npy", "srt", "vtt") else found
