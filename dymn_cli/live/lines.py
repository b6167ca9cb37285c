"""What is heard as lines: tab-separated for shells, JSON for programs.

    source  channel  start_s  end_s  label  score  clock  [file]      events, when they end
    source  channel  start_s  end_s  rank  label  score  clock        tags of each window

A line of JSON is of the schema "dymn.live/1"; `type` says what it is: "begin" and "end" of an event, which
have the same `number`; "tags" of a window; "dropout". `clock` is when it began, in UTC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dymn_cli.writers.spelling import clock_text, readable, seconds
from dymn_cli.writers.to_json import json_lines, source_fields, tag_objects
from dymn_cli.writers.to_tsv import tsv_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from dymn_cli.live.listener import DropOut, Heard, LiveEvent
    from dymn_cli.results import Tag

__all__ = ["EVENT_COLUMNS", "SCHEMA", "TAG_COLUMNS", "drop_out_json", "event_json", "event_row", "tags_json",
           "tags_rows"]  # fmt: skip

SCHEMA = "dymn.live/1"
EVENT_COLUMNS = ("source", "channel", "start_s", "end_s", "label", "score", "clock")
TAG_COLUMNS = ("source", "channel", "start_s", "end_s", "rank", "label", "score", "clock")


def event_row(live: LiveEvent, precision: int, file: str | None = None) -> bytes:
    """An event that has ended; `file` is a column where clips are kept."""
    event = live.event
    place = event.source, event.channel, seconds(event.start_s), seconds(event.end_s)
    cells = (*place, event.label, f"{event.score:.{precision}f}", _utc(live.clock))
    return tsv_line(cells if file is None else (*cells, file))


def event_json(live: LiveEvent, precision: int, file: str | None = None) -> bytes:
    """The beginning or the end of an event."""
    event = live.event
    line: dict[str, Any] = {"schema": SCHEMA, "type": live.phase, "number": live.number}
    line |= source_fields(event.source)
    line |= {"channel": event.channel, "start_s": seconds(event.start_s)}
    if live.phase == "end":
        line["end_s"] = seconds(event.end_s)
    line |= {"label": event.label, "mid": event.mid, "index": event.index}
    line |= {"score": round(event.score, precision), "clock": _utc(live.clock)}
    if file is not None:
        line["file"] = readable(file)
    return json_lines([line])


def tags_rows(source: str, channel: str, heard: Heard, tags: Sequence[Tag], precision: int) -> bytes:
    """The tags of a window, a line each."""
    window = heard.window
    place = source, channel, seconds(window.start_s), seconds(window.end_s)
    return b"".join(
        tsv_line((*place, tag.rank, tag.label, f"{tag.score:.{precision}f}", _utc(heard.clock)))
        for tag in tags
    )


def tags_json(source: str, channel: str, heard: Heard, tags: Sequence[Tag], precision: int) -> bytes:
    """The tags of a window."""
    window = heard.window
    line = {"schema": SCHEMA, "type": "tags", **source_fields(source), "channel": channel}
    line |= {"start_s": seconds(window.start_s), "end_s": seconds(window.end_s), "clock": _utc(heard.clock)}
    return json_lines([line | {"tags": tag_objects(tags, precision)}])


def drop_out_json(source: str, drop_out: DropOut) -> bytes:
    """A break in the sound."""
    line = {"schema": SCHEMA, "type": "dropout", **source_fields(source)}
    return json_lines([line | {"at_s": seconds(drop_out.at_s), "reason": readable(drop_out.reason)}])


def _utc(clock: datetime) -> str:
    return clock_text(clock, 0.0).replace("+00:00", "Z")
