"""Read events from tables: results of `dymn events`, and what people or other programs have marked.

    csv, tsv, json, jsonl, parquet     as `dymn events` writes them; csv also with a column `decision`
    sed                                filename, onset, offset, event_label: DCASE's table
    raven, audacity                    selection tables and label tracks
    kaleidoscope, rttm                 rows for review, and one event a line

The beginning of a file tells its form, not its name. A label track does not name its recording: it belongs to
the recording of the same name, `street.txt` or `street.wav.audacity.txt` to `street.wav`.

In a table with decisions, only events that a person kept count; a recording all of whose events were rejected
has none.
"""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dymn_cli.datasets.label_tables import LabelRow, was_kept
from dymn_cli.datasets.tables import cells_of, read_table, stream_lines
from dymn_cli.errors import InputError, OutputError, os_error_text
from dymn_cli.evaluation.score_files import objects_of, score_of, source_of, unescaped

__all__ = ["TABLE_SUFFIXES", "EventTable", "event_form", "read_events", "tables_in"]

HEAD = 1 << 16  # bytes that tell the form of a file
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
class EventTable:
    """Events of recordings.

    Args:
        name: what messages call it.
        rows: the events of each recording, with one label each; none where it has no event.
        durations: seconds of the recordings whose length the table gives.
        failed: recordings that gave no result.
        complete: whether recordings without events are named, too.
    """

    name: str
    rows: dict[str, list[LabelRow]]
    durations: dict[str, float]
    failed: tuple[str, ...]
    complete: bool


@dataclass(slots=True)
class _Gathering:
    """Events while they are read."""

    rows: dict[str, list[LabelRow]] = field(default_factory=dict)
    durations: dict[str, float] = field(default_factory=dict)
    failed: dict[str, None] = field(default_factory=dict)

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
        label = label.strip() or mid
        if not label:
            raise InputError(f"{where}: no label")
        value = None if score is None or score == "" else score_of(score, where)
        row = LabelRow(source, (label,), (mid,) if mid else (), start_s=start_s, end_s=end_s, score=value)
        self.rows.setdefault(source, []).append(row)


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
    commas = next(csv.reader([first]), [])
    if commas[:5] == ["source", "channel", "start_s", "end_s", "label"]:
        return "csv"
    if {"source", "start_s", "end_s", "label", "decision"} <= set(commas) and "rank" not in commas:
        cells = next(csv.reader(text.split("\n", 2)[1:2]), [])
        has_times = cells[commas.index("start_s") : commas.index("start_s") + 1] not in ([], [""])
        return "csv" if has_times else None
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
    """Read tables of events; several are parts of one, and a folder stands for the tables in it.

    Raises:
        InputError: one cannot be read, is no table of events, or has a bad time or score.
    """
    gathering = _Gathering()
    complete = True
    for path in _files(paths):
        form = event_form(path)
        if form is None:
            raise InputError(
                f"{path}: not a table of events", hint="give a result of dymn events, or sed, raven, audacity"
            )
        _READERS[form](path, gathering)
        complete &= form in ("json", "audacity")
    name = paths[0] if len(paths) == 1 else f"{paths[0]} and others"
    failed = tuple(source for source in gathering.failed if source not in gathering.rows)
    return EventTable(name, gathering.rows, gathering.durations, failed, complete)


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
            raise InputError(f"{path}: no table of events in this folder")
        yield from found


def _may_be_table(path: str) -> bool:
    name = path.lower()
    return name.endswith(TABLE_SUFFIXES) and not name.endswith((".meta.json", ".failures.csv"))


# ---------------------------------------------------------------------- one reader a form


def _read_csv(path: str, gathering: _Gathering) -> None:
    table = read_table(path, ",")
    for line, row in table:
        where = table.at(line)
        kept = was_kept(row.get("decision", "keep"), where)
        if kept is not None:
            gathering.source(row["source"])
        if kept:
            _add_row(row, where, gathering)


def _read_tsv(path: str, gathering: _Gathering) -> None:
    table = read_table(path, "\t", columns=OWN_COLUMNS)
    for line, row in table:
        names = {name: unescaped(row[name]) for name in ("source", "label")}
        _add_row(row | names, table.at(line), gathering)


def _add_row(row: dict[str, str], where: str, gathering: _Gathering) -> None:
    times = row["start_s"], row["end_s"]
    gathering.add(row["source"], *times, row["label"], where, mid=row.get("mid", ""), score=row.get("score"))


def _read_objects(path: str, gathering: _Gathering) -> None:
    for one, where in objects_of(path):
        schema = one.get("schema") if isinstance(one, dict) else None
        if schema == "dymn.error/1":
            gathering.failed[source_of(one, where)] = None
            continue
        if schema != "dymn.events/1":
            raise InputError(f"{where}: not a result of dymn events, but {str(schema)[:40]}")
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
    table = read_table(path, "\t", pad=True)
    for line, row in table:
        source, times, label = row["filename"], (row.get("onset", ""), row.get("offset", "")), "event_label"
        gathering.source(source)
        if any(cell.strip() for cell in (*times, row.get(label, ""))):
            gathering.add(source, *times, row[label], table.at(line), score=row.get("score"))


def _read_raven(path: str, gathering: _Gathering) -> None:
    """The label is the annotation or a column like it; in tables of several files, times are file offsets."""
    table = read_table(path, "\t", pad=True)
    table = replace(table, columns=tuple(name.strip() for name in table.columns))
    label, source = table.first(RAVEN_LABELS), table.first(("Begin Path", "Begin File"))
    if label is None:
        raise InputError(f"{path}: no column with labels", hint="Annotation, Label or Species")
    if source is None:
        gathering.source(_track_of(path))
    for line, row in table:
        where = table.at(line)
        if row.get("View", "").startswith("Waveform") or not row[label].strip():
            continue  # Raven lists a selection once for each view
        begin, end = _time(row["Begin Time (s)"], where), _time(row["End Time (s)"], where)
        name = _track_of(path) if source is None else row[source]
        if source is not None and row.get("File Offset (s)", "").strip():
            offset = _time(row["File Offset (s)"], where)
            begin, end = offset, offset + (end - begin)
        gathering.add(name, begin, end, row[label], where, score=row.get("Score", row.get("Confidence")))


def _read_audacity(path: str, gathering: _Gathering) -> None:
    name = _track_of(path)
    gathering.source(name)
    for line, cells in cells_of(stream_lines(path), path, "\t", quotes=False):
        if cells[0] == "\\":
            continue  # the frequencies of the label before
        where = f"{path}, line {line}"
        if len(cells) < 2:
            raise InputError(f"{where}: no label with begin and end")
        label = CHANNEL.sub("", "\t".join(cells[2:]))
        if label.strip():
            gathering.add(name, cells[0], cells[1], label, where)


def _read_kaleidoscope(path: str, gathering: _Gathering) -> None:
    """What a person wrote counts, else what the program found."""
    table = read_table(path, ",")
    label = table.first(("TOP1MATCH", "AUTO ID", "common_name"))
    for line, row in table:
        where = table.at(line)
        parts = (row.get("INDIR", ""), row.get("FOLDER", ""), row["IN FILE"])
        source = "/".join(part.rstrip("/") if part != "/" else "" for part in parts if part)
        text = row.get("MANUAL ID", "").strip() or (row[label] if label else "")
        begin_s = _time(row["OFFSET"], where)
        end_s = begin_s + _time(row["DURATION"], where)
        gathering.source(source)
        if text.strip():
            gathering.add(source, begin_s, end_s, text, where, score=row.get("SCORE", row.get("confidence")))


def _read_rttm(path: str, gathering: _Gathering) -> None:
    for line, text in enumerate(stream_lines(path), start=1):
        words = text.split()
        if not words or words[0].startswith(";"):
            continue
        where = f"{path}, line {line}"
        if len(words) not in (9, 10) or words[0] not in RTTM_TYPES:
            raise InputError(f"{where}: not a line of RTTM: {len(words)} fields, not 9 or 10")
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
        raise InputError(f"{path}: not a result of dymn events") from exc
    for n, one in enumerate(rows, start=1):
        where = f"{path}, row {n}"
        source = source_of({name: one[name] for name in wanted[:2] if one.get(name) is not None}, where)
        try:
            times = one["start_s"], one["end_s"]
            gathering.add(source, *times, one["label"], where, mid=one["mid"] or "", score=one["score"])
        except (KeyError, AttributeError) as exc:
            raise InputError(f"{path}: not a result of dymn events") from exc


_READERS: dict[str, Callable[[str, _Gathering], None]] = {
    "csv": _read_csv,
    "tsv": _read_tsv,
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
    raw = re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes.fromhex(found[1].decode()), os.fsencode(text))
    return os.fsdecode(raw)


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
        raise InputError(f"{where}: {text!r} is not a time in seconds")
    return value


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text.replace(",", ".")))
    except ValueError:
        return False
