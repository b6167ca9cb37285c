from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable

import pandas as pd
import pytest
from written import written

from dymn_cli.results import ClipResult, SourceEvents
from dymn_cli.writers.base import WriterOptions
from dymn_cli.writers.to_raven import RavenSelections

Options = Callable[..., WriterOptions]

HEADER = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\t"
    "Begin File\tBegin Path\tFile Offset (s)\tAnnotation\tScore\n"
)
NEEDED = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)")


def raven(options: WriterOptions, *results: ClipResult | SourceEvents) -> bytes:
    return written(RavenSelections(io.BytesIO(), options), *results)


def read(data: bytes) -> pd.DataFrame:
    """As analysts read a selection table; in R it is read.delim, with the same defaults."""
    return pd.read_csv(io.BytesIO(data), sep="\t")


def test_a_row_an_event(found: SourceEvents, options: Options) -> None:
    assert raven(options(), found).decode() == HEADER + (
        "1\tSpectrogram 1\t1\t0.3\t5400.0\t0\t11025\tfarm.flac\tfarm.flac\t0.3\t"
        "Subway, metro, underground\t0.5991\n"
        "2\tSpectrogram 1\t1\t3723.0\t3725.5\t0\t11025\tfarm.flac\tfarm.flac\t3723.0\tDog\t0.7471\n"
    )


def test_it_has_what_raven_needs_in_the_form_it_needs(found: SourceEvents, options: Options) -> None:
    table = read(raven(options(), found))
    assert tuple(table.columns[:7]) == NEEDED
    assert table["Selection"].tolist() == [1, 2], "unique numbers"
    assert (table["Channel"] >= 1).all(), "Raven counts channels from 1"
    assert (table["End Time (s)"] > table["Begin Time (s)"]).all()
    assert (table["High Freq (Hz)"] > table["Low Freq (Hz)"]).all()


def test_several_recordings_as_one_sequence_and_one_by_one(
    found: SourceEvents, clip: ClipResult, options: Options
) -> None:
    """Begin times count from the start of the sequence, offsets from the start of the recording."""
    first = dataclasses.replace(found, source="D/one.flac", duration_s=5400.25)
    silent = dataclasses.replace(found, source="D/two.flac", events=(), duration_s=60.0)
    third = dataclasses.replace(found, source="D/three.flac")
    table = read(raven(options(), first, silent, third))
    assert table["Begin File"].tolist() == ["one.flac"] * 2 + ["three.flac"] * 2
    assert table["Begin Path"].tolist() == ["D/one.flac"] * 2 + ["D/three.flac"] * 2
    assert table["File Offset (s)"].tolist() == [0.3, 3723.0] * 2
    assert table["Begin Time (s)"].tolist() == [0.3, 3723.0, 5460.55, 9183.25]
    assert table["Selection"].tolist() == [1, 2, 3, 4]


def test_channels_of_one_recording_begin_together(clip: ClipResult, options: Options) -> None:
    left, right = (dataclasses.replace(clip, channel=channel) for channel in "01")
    table = read(raven(options(channel="each", windows=True), left, right))
    assert table["Channel"].tolist() == [1, 1, 2, 2]
    assert table["Begin Time (s)"].tolist() == [0.0, 0.3, 0.0, 0.3]
    assert table["High Freq (Hz)"].tolist() == [15_000] * 4, "the model hears nothing above"


@pytest.mark.parametrize(
    ("name", "file"),
    [("a\tb\nc.wav", "a b c.wav"), (r"C:\new\take.wav", "take.wav"), ("x/=1+2.wav", "=1+2.wav"), ("-", "-")],
)
def test_names(name: str, file: str, clip: ClipResult, options: Options) -> None:
    table = read(raven(options(), dataclasses.replace(clip, source=name)))
    assert table["Begin File"].tolist() == [file] * 2
    assert table.shape == (2, 12)


def test_a_name_that_is_no_utf8_keeps_its_bytes(clip: ClipResult, options: Options) -> None:
    data = raven(options(), dataclasses.replace(clip, source="d/na\udcefve.wav"))
    assert b"\tna\xefve.wav\td/na\xefve.wav\t" in data


def test_without_a_selection_there_is_the_header(options: Options) -> None:
    assert raven(options()).decode() == HEADER
