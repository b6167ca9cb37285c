from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from written import written

from dymn_cli.labels import Label
from dymn_cli.results import ClipResult, Failure, SourceEvents
from dymn_cli.writers.base import EmbeddingOptions, EmbeddingRow, WriterOptions
from dymn_cli.writers.to_csv import CsvEmbeddings, CsvEvents, CsvTags, MatrixCsvTags, WideCsvTags

Options = Callable[..., WriterOptions]


def test_long(clip: ClipResult, failure: Failure, options: Options) -> None:
    writer = CsvTags(io.BytesIO(), options())
    writer.fail(failure)
    assert written(writer, clip) == (
        b"source,channel,start_s,end_s,rank,label,mid,score\n"
        b"metro.wav,mix,0.0,10.3,1,Train,/m/07jdr,0.7471\n"
        b'metro.wav,mix,0.0,10.3,2,"Subway, metro, underground",/m/0195fx,0.5991\n'
    )


def test_long_windows_without_header(clip: ClipResult, options: Options) -> None:
    assert written(CsvTags(io.BytesIO(), options(windows=True, header=False)), clip) == (
        b"metro.wav,mix,0.0,10.0,1,Train,/m/07jdr,0.7471\n"
        b'metro.wav,mix,0.3,10.3,1,"Subway, metro, underground",/m/0195fx,0.5991\n'
    )


def test_wide(clip: ClipResult, options: Options) -> None:
    silent = dataclasses.replace(clip, source="silent, empty.wav", tags=(), duration_s=2.0)
    assert written(WideCsvTags(io.BytesIO(), options(layout="wide", top=3)), clip, silent) == (
        b"source,duration_s,label_1,score_1,label_2,score_2,label_3,score_3\n"
        b'metro.wav,10.3,Train,0.7471,"Subway, metro, underground",0.5991,,\n'
        b'"silent, empty.wav",2.0,,,,,,\n'
    )


def test_wide_tells_channels_apart_without_moving_a_column(clip: ClipResult, options: Options) -> None:
    left, right = (dataclasses.replace(clip, channel=channel) for channel in "01")
    data = written(WideCsvTags(io.BytesIO(), options(layout="wide", top=2, channel="each")), left, right)
    assert data == (
        b"source,duration_s,label_1,score_1,label_2,score_2,channel\n"
        b'metro.wav,10.3,Train,0.7471,"Subway, metro, underground",0.5991,0\n'
        b'metro.wav,10.3,Train,0.7471,"Subway, metro, underground",0.5991,1\n'
    )


def test_matrix(clip: ClipResult, options: Options) -> None:
    scores = np.linspace(0, 1, 527, dtype=np.float32)
    labels = (Label(325, "/m/07jdr", "Train"), Label(0, "", "Subway, metro, underground"))
    mono = dataclasses.replace(clip, scores=scores)
    right = dataclasses.replace(clip, source="b.wav", channel="1", scores=1 - scores, tags=())
    data = written(MatrixCsvTags(io.BytesIO(), options(layout="matrix", labels=labels)), mono, right)
    assert data == (
        b'source,channel,start_s,end_s,Train,"Subway, metro, underground"\n'
        b"metro.wav,mix,0.0,10.3,0.6179,0.0000\n"
        b"b.wav,1,0.0,10.3,0.3821,1.0000\n"
    )
    frame = pd.read_csv(io.BytesIO(data), index_col="source")
    assert frame.loc["b.wav", "Subway, metro, underground"] == 1.0
    assert frame["Train"].dtype == np.float64


def test_events(found: SourceEvents, options: Options) -> None:
    data = written(CsvEvents(io.BytesIO(), options()), found)
    assert data == (
        b"source,channel,start_s,end_s,label,mid,score,mean_score,n_windows\n"
        b'farm.flac,mix,0.3,5400.0,"Subway, metro, underground",/m/0195fx,0.5991,0.4000,5396\n'
        b"farm.flac,mix,3723.0,3725.5,Dog,/m/0bt9lr,0.7471,0.6123,7\n"
    )
    frame = pd.read_csv(io.BytesIO(data))
    assert (frame["end_s"] - frame["start_s"]).tolist() == [5399.7, 2.5]
    assert frame["n_windows"].tolist() == [5396, 7]


@pytest.mark.parametrize("name", ["=1+2.wav", "+1.wav", "-.wav", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_formula_stays_data_and_becomes_text_where_that_is_asked_for(
    name: str, clip: ClipResult, found: SourceEvents, options: Options
) -> None:
    named = dataclasses.replace(clip, source=name)
    event = dataclasses.replace(found, events=[dataclasses.replace(e, source=name) for e in found.events])
    label = (Label(0, "", "=cmd|' /C calc'!A0"),)
    writers = (
        (CsvTags, named, {}),
        (WideCsvTags, named, {"layout": "wide"}),
        (MatrixCsvTags, named, {"layout": "matrix", "labels": label}),
        (CsvEvents, event, {}),
    )
    for kind, result, layout in writers:
        plain = written(kind(io.BytesIO(), options(**layout)), result).decode()
        safe = written(kind(io.BytesIO(), options(csv_safe=True, **layout)), result).decode()
        first, *rest = list(csv.reader(io.StringIO(safe, newline="")))
        assert list(csv.reader(io.StringIO(plain, newline="")))[1][0] == name
        assert rest[0][0] == f"'{name}"
        assert not any(
            cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in (first, *rest) for cell in row
        )


def test_a_safe_csv_leaves_other_cells_alone(clip: ClipResult, options: Options) -> None:
    assert written(CsvTags(io.BytesIO(), options(csv_safe=True)), clip) == written(
        CsvTags(io.BytesIO(), options()), clip
    )


def test_nothing_but_the_header_without_a_source(options: Options) -> None:
    assert written(CsvTags(io.BytesIO(), options())) == b"source,channel,start_s,end_s,rank,label,mid,score\n"


def test_names_are_read_back_by_pandas(clip: ClipResult, awkward_names: list[str], options: Options) -> None:
    results = [dataclasses.replace(clip, source=name) for name in awkward_names]
    data = written(CsvTags(io.BytesIO(), options()), *results)
    # Not as pandas' own strings, which cannot hold bytes that are no UTF-8.
    frame = pd.read_csv(io.BytesIO(data), encoding_errors="surrogateescape", dtype={"source": object})
    assert list(frame["source"].unique()) == awkward_names
    assert list(frame["rank"]) == [1, 2] * len(awkward_names)
    assert frame["score"].tolist() == [0.7471, 0.5991] * len(awkward_names)
    assert frame["start_s"].dtype == np.float64


def test_names_are_read_back_by_the_standard_library(
    clip: ClipResult, awkward_names: list[str], options: Options
) -> None:
    results = [dataclasses.replace(clip, source=name) for name in awkward_names]
    text = written(CsvTags(io.BytesIO(), options()), *results).decode("utf-8", "surrogateescape")
    read = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["source"] for row in read[::2]] == awkward_names


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ('the "take".wav', b'"the ""take"".wav"'),
        ("two\rlines.wav", b'"two\rlines.wav"'),
        ("=1+2.wav", b"=1+2.wav"),
        ("na\udcefve.wav", b"na\xefve.wav"),
        ("take [1].wav", b"take [1].wav"),
    ],
)
def test_spelling_of_a_name(name: str, cell: bytes, clip: ClipResult, options: Options) -> None:
    renamed = dataclasses.replace(clip, source=name)
    data = written(CsvTags(io.BytesIO(), options(header=False)), renamed)
    assert data.startswith(cell + b",mix,0.0,")


def test_embeddings_are_the_same_float32_when_read_back(
    rows: list[EmbeddingRow], embedding_options: Callable[..., EmbeddingOptions]
) -> None:
    noise = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    rows += [EmbeddingRow("noise", "mix", n, n + 1, row) for n, row in enumerate(noise)]
    out = io.BytesIO()
    writer = CsvEmbeddings(out, embedding_options())
    writer.begin()
    writer.write(rows)
    assert out.getvalue().startswith(
        b"source,channel,start_s,end_s,e0,e1,e2\n"
        b"metro.wav,mix,0.0,10.3,0.1,-2.5,1e-07\n"
        b'"a,b.wav",1,0.3,10.3,1.0,2.0,3.0\n'
    )
    frame = pd.read_csv(io.BytesIO(out.getvalue()))
    matrix = frame[["e0", "e1", "e2"]].to_numpy(np.float32)
    np.testing.assert_array_equal(matrix, np.stack([row.embedding for row in rows]))
