from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable

import pytest
from written import written

from dymn_cli.results import SourceEvents
from dymn_cli.writers.base import WriterOptions
from dymn_cli.writers.to_kaleidoscope import COLUMNS, KaleidoscopeEvents

Options = Callable[..., WriterOptions]


def kaleidoscope(options: WriterOptions, *results: SourceEvents) -> list[dict[str, str]]:
    text = written(KaleidoscopeEvents(io.BytesIO(), options), *results).decode("utf-8", "surrogateescape")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_row_an_event_with_room_for_who_listens(found: SourceEvents, options: Options) -> None:
    rows = kaleidoscope(options(), dataclasses.replace(found, source="site 1/June/farm.flac"))
    assert tuple(rows[0]) == COLUMNS
    assert list(rows[1].values()) == [
        "site 1/June", "", "farm.flac", "0", "3723.0", "2.5", "Dog", "0.7471", ""
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "folder", "name"),
    [
        ("farm.flac", "", "farm.flac"),
        ("/farm.flac", "/", "farm.flac"),
        ("/data/farm.flac", "/data", "farm.flac"),
        (r"D:\data\farm.flac", r"D:\data", "farm.flac"),
    ],
)
def test_folder_and_name(source: str, folder: str, name: str, found: SourceEvents, options: Options) -> None:
    row = kaleidoscope(options(), dataclasses.replace(found, source=source))[0]
    assert (row["INDIR"], row["IN FILE"]) == (folder, name)


def test_channels_count_from_0(found: SourceEvents, options: Options) -> None:
    second = tuple(dataclasses.replace(event, channel="1") for event in found.events)
    rows = kaleidoscope(options(channel="each"), dataclasses.replace(found, events=second))
    assert [row["CHANNEL"] for row in rows] == ["1", "1"]


def test_names_stay_as_they_are(found: SourceEvents, options: Options, awkward_name: str) -> None:
    row = kaleidoscope(options(), dataclasses.replace(found, source=awkward_name))[0]
    assert awkward_name in {f"{row['INDIR']}{between}{row['IN FILE']}" for between in ("", "/", "\\")}


def test_formulas_are_disarmed_where_that_is_asked_for(found: SourceEvents, options: Options) -> None:
    evil = dataclasses.replace(found, source="=1+2.wav")
    assert kaleidoscope(options(), evil)[0]["IN FILE"] == "=1+2.wav"
    assert kaleidoscope(options(csv_safe=True), evil)[0]["IN FILE"] == "'=1+2.wav"
