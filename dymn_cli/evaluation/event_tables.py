"""Read events from tables: results of `dymn events`, and what people or other programs have marked.

`dymn_cli.readers` finds out which format a file has, and reads it. A label track does not name its recording:
it belongs to the recording of the same name, `street.txt` or `street.wav.audacity.txt` to `street.wav`.

In a table with decisions, only events that a person kept count; a recording all of whose events were rejected
has none.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dymn_cli.datasets.label_tables import LabelRow
from dymn_cli.errors import InputError
from dymn_cli.readers import event_format, open_result
from dymn_cli.results import Event, Failure, SourceEvents

__all__ = ["EventTable", "event_form", "read_events", "tables_in"]

TABLE_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".txt", ".rttm", ".parquet", ".pq")
NAME_ALL = ("json", "jsonl", "audacity")  # formats that name recordings without events, too


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


def event_form(path: str | Path) -> str | None:
    """The format of a file of events; None for any other file, and for a folder.

    Raises:
        InputError: it cannot be read.
    """
    return None if os.path.isdir(path) else event_format(str(path))  # noqa: PTH112 - names may be bytes


def read_events(paths: Sequence[str]) -> EventTable:
    """Read tables of events; several are parts of one, and a folder stands for the tables in it.

    Raises:
        InputError: one cannot be read, is no table of events, or has a bad time or score; or two have the
            same recording. In a folder they may.
    """
    rows: dict[str, list[LabelRow]] = {}
    durations: dict[str, float] = {}
    failed: dict[str, None] = {}
    part_of: dict[str, int] = {}
    is_complete = True
    for part, path in _files(paths):
        if event_form(path) is None:
            raise InputError(
                f"{path}: not a table of events", hint="give a result of dymn events, or sed, raven, audacity"
            )
        with open_result(path, complete=False) as result:
            is_complete &= result.format_name in NAME_ALL
            for item in result:
                if isinstance(item, Failure):
                    failed[item.source] = None
                elif isinstance(item, SourceEvents):
                    other = part_of.setdefault(item.source, part)
                    if other != part:
                        raise InputError(
                            f"{item.source} is in {paths[other]} and in {path}",
                            hint="leave one of them out",
                        )
                    rows.setdefault(item.source, []).extend(map(_row, item.events))
                    if not math.isnan(item.duration_s):
                        durations[item.source] = item.duration_s
    name = paths[0] if len(paths) == 1 else f"{paths[0]} and others"
    return EventTable(name, rows, durations, tuple(one for one in failed if one not in rows), is_complete)


def _row(event: Event) -> LabelRow:
    return LabelRow(
        event.source,
        (event.label or event.mid,),
        (event.mid,) if event.mid else (),
        start_s=event.start_s,
        end_s=event.end_s,
        score=None if math.isnan(event.score) else event.score,
    )


def tables_in(folder: str) -> list[str]:
    """The tables of events in a folder and those below it, by name.

    Raises:
        InputError: a file cannot be read.
    """
    inside = (os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)  # noqa: PTH118
    return [name for name in sorted(inside) if _may_be_table(name) and event_form(name) is not None]


def _files(paths: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Each file, behind the number of the path that stands for it."""
    for n, path in enumerate(paths):
        if not os.path.isdir(path):  # noqa: PTH112 - names may be bytes that no Path holds
            yield n, path
            continue
        found = tables_in(path)
        if not found:
            raise InputError(f"{path}: no table of events in this folder")
        yield from ((n, one) for one in found)


def _may_be_table(path: str) -> bool:
    name = path.lower()
    return name.endswith(TABLE_SUFFIXES) and not name.endswith((".meta.json", ".failures.csv"))
