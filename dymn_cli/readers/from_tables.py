"""Tables with a row a label: our csv and tsv, and those of Raven, Kaleidoscope and DCASE.

The csv and tsv of other programs are read, too, where their first line names a recording, a start and a
label: column names are compared without regard to case. In a table with a column `decision`, as a review
makes it, only the rows that a person kept count; a recording all of whose rows were rejected has none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain

from dymn_cli.datasets.label_tables import was_kept
from dymn_cli.datasets.tables import separator_of
from dymn_cli.errors import InputError
from dymn_cli.readers.cells import Clocks, Scores, cells_of, is_number, require_row, unescaped
from dymn_cli.readers.rows import Row
from dymn_cli.readers.source import ResultFile
from dymn_cli.values import time_of

__all__ = [
    "Rows",
    "Table",
    "column_roles",
    "embedding_cells",
    "kaleidoscope_rows",
    "raven_rows",
    "sed_rows",
    "without_clock",
]

Rows = Iterator[Row]
Cells = Iterable[tuple[int, list[str]]]

CSV_SEPARATORS = ",;"
PLACE = ["source", "channel", "start_s", "end_s"]
EVENT_COLUMNS = [*PLACE, "label", "score"]
TAG_COLUMNS = [*PLACE, "rank", "label", "score"]
AFTERWARDS = ("clock", "file")  # the clip of an event: `dymn listen --save`
ROLES: Mapping[str, tuple[str, ...]] = {
    "source": ("source", "begin path", "file", "filename", "file name", "filepath", "path", "recording"),
    "channel": ("channel",),
    "start_s": ("start_s", "start (s)", "start", "onset", "begin", "begin_s", "start_time"),
    "end_s": ("end_s", "end (s)", "end", "offset", "stop", "end_time"),
    "label": ("label", "common name", "common_name", "event_label", "class", "species", "scientific name"),
    "mid": ("mid",),
    "score": ("score", "confidence"),
    "mean_score": ("mean_score",),
    "n_windows": ("n_windows",),
    "rank": ("rank",),
    "decision": ("decision",),
    "clock": ("clock",),
}
CLOCK = re.compile(r"(\d{4}-\d\d-\d\dT\S+)?")  # empty where nothing told the time
NEEDED = {"source", "start_s", "end_s", "label"}
RAVEN_LABELS = ("Annotation", "Label", "label", "Species", "Tags", "Common Name", "Class")


def column_roles(header: Sequence[str]) -> dict[str, int] | None:
    """Which column has what; None where they are not the columns of a result.

    A table of clips (`--layout wide` or `matrix`) or of embeddings has the place only.
    """
    folded = [name.strip().casefold() for name in header]
    if header[:4] == PLACE and len(header) > 4 and "label" not in header:
        return {name: n for n, name in enumerate(PLACE)}
    if header[:2] == ["source", "duration_s"] and ("label_1" in header or len(header) in (2, 3)):
        return {"source": 0}
    roles = {
        role: next((folded.index(name) for name in names if name in folded), -1)
        for role, names in ROLES.items()
    }
    roles = {role: n for role, n in roles.items() if n >= 0}
    return roles if roles.keys() >= NEEDED else None


class Table:
    """A csv or tsv of ours, or one like it.

    Attributes:
        header: its columns; those of a tsv without a header follow from its first row.
        kind: "events", "tags", or "embeddings".
    """

    def __init__(self, file: ResultFile, format_name: str) -> None:
        self._name = file.name
        self._is_tsv = format_name == "tsv"
        separator = "\t" if self._is_tsv else separator_of(file.first_line, CSV_SEPARATORS)
        cells: Cells = cells_of(file.text(), file.name, separator)
        first = next(iter(cells), None)
        self.header = EVENT_COLUMNS
        if first is not None and column_roles(first[1]) is not None:
            self.header = first[1]
        elif first is not None and self._is_tsv:
            self.header, cells = _usual_header(first[1]), chain([first], cells)
        elif first is not None or not self._is_tsv:
            shown = ",".join(first[1][:5])[:60] if first else ""
            raise InputError(
                f"{file.name}, line 1: {shown!r} is not the first line of a result",
                hint="source,start_s,end_s,label,... is one",
            )
        self._cells = cells
        roles = column_roles(self.header)
        self._roles = {} if roles is None else roles
        if "label" in self._roles:
            self.kind = "tags" if "rank" in self._roles else "events"
        else:
            self.kind = "embeddings" if self.header[4:5] == ["e0"] else "tags"
        self.is_clips = self.kind == "tags" and "label" not in self._roles

    def cells(self) -> Iterator[tuple[str, list[str]]]:
        """The cells of each row, behind where it stands."""
        for line, cells in self._cells:
            if not any(cells):
                continue  # spreadsheets keep rows that were emptied
            where = f"{self._name}, line {line}"
            require_row(where, cells, self.header)
            yield where, list(map(unescaped, cells)) if self._is_tsv else cells

    def rows(self, scores: Scores, clocks: Clocks) -> Rows:
        """The labels, a row each."""
        if "label" in self._roles:
            clocks.are_given = "clock" in self._roles
            return self._long(scores, clocks)
        return self._wide(scores, clocks) if "duration_s" in self.header[:2] else self._matrix(scores)

    def _long(self, scores: Scores, clocks: Clocks) -> Rows:
        role = self._roles
        for where, cells in self.cells():

            def cell(name: str, missing: str = "", cells: list[str] = cells) -> str:
                return cells[role[name]] if name in role else missing

            kept = was_kept(cell("decision", "keep"), where)
            if not kept:
                if kept is not None:
                    yield Row(cell("source"))
                continue
            start_s = time_of(cell("start_s"), where)
            clocks.note(cell("source"), cell("clock"), start_s)
            yield Row(
                cell("source"),
                cell("channel", "mix") or "mix",
                start_s,
                time_of(cell("end_s"), where),
                cell("label").strip(),
                cell("mid") if "mid" in role else None,
                scores.of(cell("score"), where),
                scores.of(cell("mean_score"), where),
                _count(cell("n_windows"), where),
                rank=_count(cell("rank"), where),
            ).checked(where)

    def _wide(self, scores: Scores, clocks: Clocks) -> Rows:
        pairs = [
            (self.header.index(f"label_{n}"), self.header.index(f"score_{n}"))
            for n in range(1, len(self.header))
            if f"label_{n}" in self.header and f"score_{n}" in self.header
        ]
        channel = self.header.index("channel") if "channel" in self.header else None
        clock = self.header.index("clock") if "clock" in self.header else None
        clocks.are_given = clock is not None
        for where, cells in self.cells():
            clocks.note(cells[0], "" if clock is None else cells[clock], 0.0)
            place = (cells[0], "mix" if channel is None else cells[channel], 0.0, time_of(cells[1], where))
            given = [(cells[label], cells[score]) for label, score in pairs if cells[label]]
            for rank, (label, score) in enumerate(given, start=1):
                yield Row(*place, label, score=scores.of(score, where), rank=rank)
            if not given:
                yield Row(*place)

    def _matrix(self, scores: Scores) -> Rows:
        labels = self.header[len(PLACE) :]
        if len(set(labels)) < len(labels):
            raise InputError(f"{self._name}, line 1: two columns have the same name")
        for where, cells in self.cells():
            place = (cells[0], cells[1], time_of(cells[2], where), time_of(cells[3], where))
            values = [scores.of(text, where) for text in cells[len(PLACE) :]]
            best = sorted(range(len(labels)), key=lambda n: -values[n])
            for rank, n in enumerate(best, start=1):
                yield Row(*place, labels[n], score=values[n], rank=rank)


def without_clock(cells: Sequence[str]) -> Sequence[str]:
    """The cells of a row of ours without names of columns, but for those that `AFTERWARDS` names."""
    is_tag = len(cells) > len(PLACE) and cells[4].isdecimal()
    n_usual = len(TAG_COLUMNS if is_tag else EVENT_COLUMNS)
    has_more = n_usual < len(cells) <= n_usual + len(AFTERWARDS) and CLOCK.fullmatch(cells[n_usual])
    return cells[:n_usual] if has_more else cells


def _usual_header(cells: Sequence[str]) -> list[str]:
    """The columns of a tsv that does not name them."""
    n_cells = len(without_clock(cells))
    more = AFTERWARDS[: len(cells) - n_cells]
    if n_cells == len(TAG_COLUMNS) and cells[4].isdecimal() and not is_number(cells[5]):
        return [*TAG_COLUMNS, *more]
    if len(cells) > len(PLACE) and all(map(is_number, cells[4:])):
        return [*PLACE, *(f"e{n}" for n in range(len(cells) - len(PLACE)))]
    return [*EVENT_COLUMNS, *more]


def _count(text: str, where: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise InputError(f"{where}: {text!r} is not a whole number")
    return int(text)


def embedding_cells(table: Table) -> Iterator[tuple[tuple[str, str, float, float], list[float]]]:
    """The place and the values of each row of a table of embeddings.

    Raises:
        InputError: a value is no number.
    """
    for where, cells in table.cells():
        place = (cells[0], cells[1], time_of(cells[2], where), time_of(cells[3], where))
        try:
            values = [float(text) for text in cells[4:]]
        except ValueError as exc:
            raise InputError(f"{where}: a value of the embedding is not a number") from exc
        yield place, values


def _named_rows(file: ResultFile, separator: str, *, pad: bool) -> Iterator[tuple[str, dict[str, str]]]:
    """Each row as cells by column, behind where it stands; the header alone, as names, comes first."""
    header: list[str] = []
    for line, cells in cells_of(file.text(), file.name, separator):
        where = f"{file.name}, line {line}"
        if not header:
            header = [cell.strip() for cell in cells]
            yield where, dict(zip(header, header, strict=True))
            continue
        # Editors drop empty cells at the end of a line.
        full = [*cells, *[""] * (len(header) - len(cells))] if pad else cells
        require_row(where, full, header)
        yield where, dict(zip(header, full, strict=True))


def sed_rows(file: ResultFile, scores: Scores) -> Rows:
    """DCASE's table; a row without times and label says that the recording has no event."""
    rows = _named_rows(file, "\t", pad=True)
    next(rows, None)
    for where, one in rows:
        name = one["filename"]
        if not any(one.get(column, "").strip() for column in ("onset", "offset", "event_label")):
            yield Row(name)
            continue
        times = time_of(one["onset"], where), time_of(one["offset"], where)
        score = scores.of(one.get("score", ""), where)
        yield Row(name, "mix", *times, one["event_label"].strip(), score=score).checked(where)


def raven_rows(
    file: ResultFile, scores: Scores, clocks: Clocks, track: str, channel_of: Callable[[int], str]
) -> Rows:
    """Raven's selections; with several recordings, times count from the start of each.

    Args:
        file: the table.
        scores: reads scores.
        clocks: reads clock times.
        track: the recording of a table that names none.
        channel_of: the channel that Raven's number, less 1, stands for.
    """
    rows = _named_rows(file, "\t", pad=True)
    _, header = next(rows, ("", {}))
    label = next((name for name in RAVEN_LABELS if name in header), None)
    source = next((name for name in ("Begin Path", "Begin File") if name in header), None)
    if label is None:
        raise InputError(f"{file.name}: no column with labels", hint="Annotation, Label or Species")
    clocks.are_given = "Clock" in header
    is_empty = True
    for where, one in rows:
        is_empty = False
        if one.get("View", "").startswith("Waveform"):
            continue  # Raven lists a selection once for each view
        begin, end = time_of(one["Begin Time (s)"], where), time_of(one["End Time (s)"], where)
        if source is not None and one.get("File Offset (s)", "").strip():
            offset = time_of(one["File Offset (s)"], where)
            begin, end = offset, round(offset + (end - begin), 6)
        number = one.get("Channel", "").strip()
        channel = channel_of(max(0, _count(number, where) - 1))
        score = scores.of(one.get("Score", one.get("Confidence", "")), where)
        if one[label].strip():
            name = track if source is None else one[source]
            clocks.note(name, one.get("Clock"), begin)
            yield Row(name, channel, begin, end, one[label].strip(), score=score).checked(where)
    if is_empty and source is None:
        yield Row(track)


def kaleidoscope_rows(file: ResultFile, scores: Scores, channel_of: Callable[[int], str]) -> Rows:
    """Kaleidoscope's rows; what a person has said counts, else what a program has."""
    rows = _named_rows(file, separator_of(file.first_line, CSV_SEPARATORS), pad=False)
    _, header = next(rows, ("", {}))
    label = next((name for name in ("TOP1MATCH", "AUTO ID", "common_name") if name in header), None)
    for where, one in rows:
        parts = (one.get("INDIR", ""), one.get("FOLDER", ""), one["IN FILE"])
        slash = "\\" if "\\" in parts[0] and "/" not in parts[0] else "/"
        source = slash.join(part.rstrip(slash) if part != slash else "" for part in parts if part)
        text = (one.get("MANUAL ID", "").strip() or (one[label] if label else "")).strip()
        start_s = time_of(one["OFFSET"], where)
        end_s = round(start_s + time_of(one["DURATION"], where), 6)
        score = scores.of(one.get("SCORE", one.get("confidence", "")), where)
        if not text:
            yield Row(source)
            continue
        channel = channel_of(_count(one.get("CHANNEL", "").strip(), where))
        yield Row(source, channel, start_s, end_s, text, score=score)
