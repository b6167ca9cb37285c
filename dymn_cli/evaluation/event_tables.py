"""Events out of a table: results of `dymn events`, and what people or other programs have marked.

    csv, tsv, json, jsonl, parquet     as `dymn events` writes them; csv also as a report exports decisions
    sed                                filename, onset, offset, event_label: DCASE's table
    raven, audacity                    selection tables and label tracks
    kaleidoscope, rttm                 rows for review, and a line an event

Which one a file is, its beginning says, not its name. A label track says nowhere whose it is: it belongs to
the recording that is called as it is, `street.txt` or `street.wav.audacity.txt` to `street.wav`.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dymn_cli.errors import InputError, OutputError, os_error_text
from dymn_cli.evaluation.score_files import cells_of, objects_of, score_of, source_of, unescaped

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["TABLE_SUFFIXES", "EventRow", "EventTable", "event_form", "read_events", "tables_in"]

HEAD = 1 << 16  # bytes that say what a file is
OWN_COLUMNS = ["source", "channel", "start_s", "end_s", "label", "score"]
RTTM_TYPES = frozenset({
    "A/P", "CB", "EDIT", "FILLER", "IP", "LEXEME", "NON-LEX", "NON-SPEECH", "NOSCORE", "NO_RT_METADATA",
    "SEGMENT", "SPEAKER", "SPKR-INFO", "SU",
})  # fmt: skip
RAVEN_LABELS = ("Annotation", "Label", "label", "Species", "Tags", "Common Name", "Class")
TABLE_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".txt", ".rttm", ".parquet", ".pq")
CHANNEL = re.compile(r" \(channel \d+\)$")
TRACK_SUFFIXES = (".audacity.txt", ".raven.txt", ".labels.txt", ".txt")
EMPTY = {"audacity": TRACK_SUFFIXES, "tsv": (".tsv",), "rttm": (".rttm",)}


@dataclass(frozen=True, slots=True)
class EventRow:
    """A stretch of a recording, and what it is.

    Args:
        start_s: where it begins, in seconds.
        end_s: where it ends.
        label: a name, an id or a slug.
        mid: its AudioSet id, "" where the table has none.
        score: in [0, 1]; None where the table has none.
    """

    start_s: float
    end_s: float
    label: str
    mid: str = ""
    score: float | None = None


@dataclass(frozen=True, slots=True)
class EventTable:
    """Events of recordings.

    Args:
        name: what to call it.
        rows: by recording; one without events has none.
        durations: seconds of the recordings that the table says the length of.
        failed: recordings that gave no result.
        complete: whether recordings without events are named, too.
    """

    name: str
    rows: dict[str, list[EventRow]]
    durations: dict[str, float]
    failed: tuple[str, ...]
    complete: bool


@dataclass(slots=True)
class _Gathering:
    """Events as they are read."""

    rows: dict[str, list[EventRow]] = field(default_factory=dict)
    durations: dict[str, float] = field(default_factory=dict)
    failed: dict[str, None] = field(default_factory=dict)
    complete: bool = True

    def source(self, name: str) -> None:
        self.rows.setdefault(name, [])

    def add(
        self,
        source: str,
        start: object,
        end: object,
        label: str,
        where: str,
        *,
        mid: str = "",
        score: object = None,
    ) -> None:
        start_s, end_s = _time(start, where), _time(end, where)
        if end_s < start_s:
            raise InputError(f"{where}: the event ends at {end_s:g} s, before it begins ({start_s:g} s)")
        if not label.strip() and not mid:
            raise InputError(f"{where}: no label")
        value = None if score is None or score == "" else score_of(score, where)
        self.rows.setdefault(source, []).append(EventRow(start_s, end_s, label.strip(), mid, value))


def event_form(path: str | Path) -> str | None:
    """The form of a file of events; None for any other file, and for a folder.

    Raises:
        InputError: it cannot be read.
    """
    try:
        if os.path.isdir(path):  # noqa: PTH112 - names may be bytes that no Path holds
            return None
        with open(path, "rb") as file:  # noqa: PTH123 - likewise
            head = file.read(HEAD)
    except OSError as exc:
        raise InputError(os_error_text(path, exc)) from exc
    if head.startswith(b"PAR1"):
        return "parquet" if str(path).lower().endswith((".parquet", ".pq")) else None
    if b"\0" in head:
        return None
    text = head.decode("utf-8-sig", "surrogateescape").lstrip("\r\n")
    first = text.split("\n", 1)[0].rstrip("\r")
    return _form_of(first, text, str(path))


def _form_of(first: str, text: str, path: str) -> str | None:
    tabs = first.split("\t")
    if first.startswith(("{", "[")):
        found = re.search(r'"schema"\s*:\s*"(dymn\.[a-z]+/\d+)"', text)
        own = {"dymn.events/1": "json", "dymn.error/1": "json" if '"dymn.events/1"' in text else None}
        return own.get(found[1]) if found else None
    if {"filename", "onset", "offset", "event_label"} <= set(tabs) or tabs == ["filename"]:
        return "sed"
    if "Begin Time (s)" in tabs and "End Time (s)" in tabs:
        return "raven"
    commas = next(csv.reader(io.StringIO(first)), [])
    if commas[:5] == ["source", "channel", "start_s", "end_s", "label"]:
        return "csv"
    if {"IN FILE", "OFFSET", "DURATION"} <= set(commas):
        return "kaleidoscope"
    if tabs == OWN_COLUMNS:
        return "tsv"
    if len(tabs) == len(OWN_COLUMNS) and all(map(_is_number, (tabs[2], tabs[3], tabs[5]))):
        return "tsv"
    if len(tabs) in (2, 3) and _is_number(tabs[0]) and _is_number(tabs[1]):
        return "audacity"
    words = first.split()
    if words and words[0] in RTTM_TYPES and len(words) in (9, 10):
        return "rttm"
    if not text.strip():  # a recording without a single event
        return next((form for form, ends in EMPTY.items() if path.lower().endswith(ends)), None)
    return None


def read_events(paths: Sequence[str]) -> EventTable:
    """Read tables of events; several are taken for parts of one, a folder for the tables in it.

    Raises:
        InputError: one cannot be read, is no table of events, or holds a time or score that is none.
    """
    gathering = _Gathering()
    for path in _files(paths):
        form = event_form(path)
        if form is None:
            raise InputError(
                f"{path}: no table of events", hint="a result of dymn events, or sed, raven, audacity"
            )
        _READERS[form](path, gathering)
        gathering.complete &= form in ("json", "audacity")
    name = paths[0] if len(paths) == 1 else f"{paths[0]} and others"
    failed = tuple(source for source in gathering.failed if source not in gathering.rows)
    return EventTable(name, gathering.rows, gathering.durations, failed, gathering.complete)


def tables_in(folder: str) -> list[str]:
    """The tables of events in a folder and those below it, by name.

    Raises:
        InputError: a file cannot be read.
    """
    inside = (os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)  # noqa: PTH118
    return [name for name in sorted(inside) if _may_be_table(name) and event_form(name) is not None]


def _files(paths: Sequence[str]) -> Iterator[str]:
    for path in paths:
        if not os.path.isdir(path):  # noqa: PTH112 - names may be bytes that no Path holds
            yield path
            continue
        found = tables_in(path)
        if not found:
            raise InputError(f"{path}: no table of events in it")
        yield from found


def _may_be_table(path: str) -> bool:
    name = path.lower()
    return name.endswith(TABLE_SUFFIXES) and not name.endswith((".meta.json", ".failures.csv"))


# ---------------------------------------------------------------------- one reader a form


def _read_rows(path: str, gathering: _Gathering) -> None:
    """Our csv and tsv."""
    is_csv = event_form(path) == "csv"
    header: list[str] | None = None
    for line, cells in cells_of(path, "," if is_csv else "\t"):
        if header is None:
            header = cells if cells[:2] == ["source", "channel"] else OWN_COLUMNS
            if header is cells:
                continue
        where = _whole(path, line, cells, header)
        one = dict(zip(header, cells, strict=True))
        source, label = one["source"], one["label"]
        if not is_csv:
            source, label = unescaped(source), unescaped(label)
        decision = one.get("decision", "keep").strip().lower()
        if decision not in ("keep", "reject", ""):
            raise InputError(f"{where}: the decision is {decision!r}, neither keep nor reject")
        if decision != "keep":  # a reviewer says that it is not there, or nothing
            if decision:
                gathering.source(source)
            continue
        times = one["start_s"], one["end_s"]
        gathering.add(source, *times, label, where, mid=one.get("mid", ""), score=one.get("score"))


def _read_objects(path: str, gathering: _Gathering) -> None:
    for one, where in objects_of(path):
        schema = one.get("schema") if isinstance(one, dict) else None
        if schema == "dymn.error/1":
            gathering.failed[source_of(one, where)] = None
            continue
        if schema != "dymn.events/1":
            raise InputError(f"{where}: no result of dymn events, but {str(schema)[:40]}")
        source = source_of(one, where)
        gathering.source(source)
        try:
            gathering.durations[source] = _time(one["duration_s"], where)
            for event in one["events"]:
                times = event["start_s"], event["end_s"]
                label, mid = str(event["label"]), str(event.get("mid") or "")
                gathering.add(source, *times, label, where, mid=mid, score=event.get("score"))
        except (KeyError, TypeError, AttributeError) as exc:
            raise InputError(f"{where}: an event without times and label") from exc


def _read_sed(path: str, gathering: _Gathering) -> None:
    """A row without times and label says that the recording has no event."""
    header: list[str] | None = None
    for line, cells in cells_of(path, "\t"):
        if header is None:
            header = cells
            continue
        short = [*cells, *[""] * (len(header) - len(cells))]  # editors drop empty cells at the end
        where = _whole(path, line, short, header)
        one = dict(zip(header, short, strict=True))
        gathering.source(one["filename"])
        if any(one.get(name, "").strip() for name in ("onset", "offset", "event_label")):
            times = one["onset"], one["offset"]
            gathering.add(one["filename"], *times, one["event_label"], where, score=one.get("score"))


def _read_raven(path: str, gathering: _Gathering) -> None:
    """The label is the annotation, or what else a table calls it; several recordings have their offsets."""
    header: list[str] = []
    for line, cells in cells_of(path, "\t"):
        if not header:
            header = [cell.strip() for cell in cells]
            label = _column(
                header, ("Annotation", "Label", "label", "Species", "Tags", "Common Name", "Class")
            )
            source = _column(header, ("Begin Path", "Begin File"))
            if label is None:
                raise InputError(f"{path}: no column with labels", hint="Annotation, Label or Species")
            continue
        short = [*cells, *[""] * (len(header) - len(cells))]
        where = _whole(path, line, short, header)
        one = dict(zip(header, short, strict=True))
        if one.get("View", "").startswith("Waveform"):
            continue  # Raven lists a selection once for each view
        begin, end = _time(one["Begin Time (s)"], where), _time(one["End Time (s)"], where)
        name = _track_of(path) if source is None else one[source]
        if source is not None and one.get("File Offset (s)", "").strip():
            offset = _time(one["File Offset (s)"], where)
            begin, end = offset, offset + (end - begin)
        text = one[label or ""]
        if text.strip():
            gathering.add(name, begin, end, text, where, score=one.get("Score", one.get("Confidence")))
    if not header or source is None:
        gathering.source(_track_of(path))


def _read_audacity(path: str, gathering: _Gathering) -> None:
    name = _track_of(path)
    gathering.source(name)
    for line, cells in cells_of(path, "\t"):
        if cells[0] == "\\":
            continue  # the frequencies of the label before
        where = f"{path}, line {line}"
        if len(cells) < 2:
            raise InputError(f"{where}: no label with begin and end")
        label = CHANNEL.sub("", "\t".join(cells[2:]))
        if label.strip():
            gathering.add(name, cells[0], cells[1], label, where)


def _read_kaleidoscope(path: str, gathering: _Gathering) -> None:
    """What a person has said counts, else what a program has."""
    header: list[str] = []
    for line, cells in cells_of(path, ","):
        if not header:
            header = cells
            label = _column(header, ("TOP1MATCH", "AUTO ID", "common_name"))
            continue
        where = _whole(path, line, cells, header)
        one = dict(zip(header, cells, strict=True))
        parts = (one.get("INDIR", ""), one.get("FOLDER", ""), one["IN FILE"])
        source = "/".join(part.rstrip("/") if part != "/" else "" for part in parts if part)
        text = one.get("MANUAL ID", "").strip() or (one[label] if label else "")
        begin_s = _time(one["OFFSET"], where)
        end_s = begin_s + _time(one["DURATION"], where)
        gathering.source(source)
        if text.strip():
            gathering.add(source, begin_s, end_s, text, where, score=one.get("SCORE", one.get("confidence")))


def _read_rttm(path: str, gathering: _Gathering) -> None:
    for line, (text,) in _lines(path):
        words = text.split()
        if not words or words[0].startswith(";"):
            continue
        where = f"{path}, line {line}"
        if len(words) not in (9, 10) or words[0] not in RTTM_TYPES:
            raise InputError(f"{where}: no line of RTTM: {len(words)} fields of 9 or 10")
        name, label = (_unquoted(words[n]) for n in (1, 7))
        if words[3] == "<NA>":
            continue  # about a whole recording
        begin_s = _time(words[3], where)
        score = None if words[8] == "<NA>" else words[8]
        gathering.add(name, begin_s, begin_s + _time(words[4], where), label, where, score=score)


def _read_parquet(path: str, gathering: _Gathering) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as exc:
        raise OutputError("parquet needs pyarrow", hint="pip install 'dymn[parquet]'") from exc
    wanted = ["source", "source_b64", "start_s", "end_s", "label", "mid", "score"]
    try:
        rows = pyarrow.parquet.read_table(path, columns=wanted).to_pylist()
    except (pyarrow.ArrowException, OSError, KeyError) as exc:
        raise InputError(f"{path}: no result of dymn events") from exc
    for n, one in enumerate(rows, start=1):
        where = f"{path}, row {n}"
        source = source_of({name: one[name] for name in wanted[:2] if one.get(name) is not None}, where)
        try:
            times = one["start_s"], one["end_s"]
            gathering.add(source, *times, one["label"], where, mid=one["mid"] or "", score=one["score"])
        except (KeyError, AttributeError) as exc:
            raise InputError(f"{path}: no result of dymn events") from exc


_READERS: dict[str, Callable[[str, _Gathering], None]] = {
    "csv": _read_rows,
    "tsv": _read_rows,
    "json": _read_objects,
    "sed": _read_sed,
    "raven": _read_raven,
    "audacity": _read_audacity,
    "kaleidoscope": _read_kaleidoscope,
    "rttm": _read_rttm,
    "parquet": _read_parquet,
}


def _unquoted(text: str) -> str:
    """A field of RTTM with its blanks: `%20` is one."""
    raw = re.sub(
        rb"%([0-9A-Fa-f]{2})",
        lambda found: bytes([int(found[1], 16)]),
        text.encode("utf-8", "surrogateescape"),
    )
    return raw.decode("utf-8", "surrogateescape")


def _lines(path: str) -> Iterator[tuple[int, tuple[str]]]:
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:  # noqa: PTH123
            for line, text in enumerate(file, start=1):
                yield line, (text,)
    except OSError as exc:
        raise InputError(os_error_text(path, exc)) from exc


def _whole(path: str, line: int, cells: Sequence[str], header: Sequence[str]) -> str:
    """Where a row stands, once it is known to have a cell for each column."""
    if len(cells) != len(header):
        raise InputError(f"{path}, line {line}: {len(cells)} cells for {len(header)} columns")
    return f"{path}, line {line}"


def _column(header: Iterable[str], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in header), None)


def _track_of(path: str) -> str:
    """The recording that a label track belongs to."""
    for suffix in TRACK_SUFFIXES:
        if path.lower().endswith(suffix):
            return path[: -len(suffix)]
    return path


def _time(text: object, where: str) -> float:
    try:
        value = float(str(text).replace(",", "."))
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"{where}: {text!r} is no time in seconds")
    return value


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text.replace(",", ".")))
    except ValueError:
        return False
