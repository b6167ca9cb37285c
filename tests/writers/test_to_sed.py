from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable

import pandas as pd
from written import written

from dymn_cli.results import SourceEvents
from dymn_cli.writers.base import WriterOptions
from dymn_cli.writers.to_sed import SedEvents

Options = Callable[..., WriterOptions]


def sed(options: WriterOptions, *results: SourceEvents) -> bytes:
    return written(SedEvents(io.BytesIO(), options), *results)


def test_a_row_an_event(found: SourceEvents, options: Options) -> None:
    assert sed(options(), found).decode() == (
        "filename\tonset\toffset\tevent_label\n"
        "farm.flac\t0.3\t5400.0\tSubway, metro, underground\n"
        "farm.flac\t3723.0\t3725.5\tDog\n"
    )


def test_pandas_reads_it_as_the_tools_of_dcase_do(found: SourceEvents, options: Options) -> None:
    table = pd.read_csv(io.BytesIO(sed(options(), found)), sep="\t")
    assert table.columns.tolist() == ["filename", "onset", "offset", "event_label"]
    assert table["offset"].tolist() == [5400.0, 3725.5]


def test_names_stay_in_their_cell(found: SourceEvents, options: Options, awkward_name: str) -> None:
    data = sed(options(), dataclasses.replace(found, source=awkward_name))
    rows = data.decode("utf-8", "surrogateescape").split("\n")[1:-1]
    assert [len(row.split("\t")) for row in rows] == [4, 4]
    shown = rows[0].split("\t")[0]
    assert shown == awkward_name.translate(str.maketrans("\t\r\n", "   "))
