from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from written import written

from dymn_cli.errors import UsageError
from dymn_cli.labels import Label
from dymn_cli.results import ClipResult, Failure, SourceEvents
from dymn_cli.writers.base import EmbeddingOptions, EmbeddingRow, Provenance, WriterOptions
from dymn_cli.writers.formats import (
    BINARY,
    EMBEDDING_FORMATS,
    EVENT_FORMATS,
    ONE_SOURCE,
    TAG_FORMATS,
    WITH_CSV,
    choose_format,
    embedding_writer,
    event_writer,
    format_for_suffix,
    tag_writer,
)

Options = Callable[..., WriterOptions]


@pytest.mark.parametrize(
    ("suffix", "name"),
    [
        (".csv", "csv"),
        (".CSV", "csv"),
        (".tsv", "tsv"),
        (".json", "json"),
        (".jsonl", "jsonl"),
        (".ndjson", "jsonl"),
        (".srt", "srt"),
        (".vtt", "vtt"),
        (".parquet", "parquet"),
    ],
)
def test_suffixes(suffix: str, name: str) -> None:
    assert format_for_suffix(suffix) == name


@pytest.mark.parametrize(
    ("name", "out", "chosen"),
    [
        (None, None, "tsv"),
        (None, "-", "tsv"),
        (None, "results/tags.csv", "csv"),
        (None, "v1.2/tags", "tsv"),
        (None, "/dev/fd/63", "tsv"),
        ("jsonl", "tags.csv", "jsonl"),
        ("JSON", None, "json"),
    ],
)
def test_what_is_said_wins_over_the_suffix_and_that_over_the_default(
    name: str | None, out: str | None, chosen: str
) -> None:
    assert choose_format(name, out, default="tsv", formats=TAG_FORMATS) == chosen


@pytest.mark.parametrize(
    ("name", "out", "nearest"),
    [("jsn", None, "json, jsonl, "), (None, "tags.jsonn", "json, jsonl, "), ("hdf5", None, "")],
)
def test_an_unknown_format_names_the_nearest_three(name: str | None, out: str | None, nearest: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_format(name, out, default="tsv", formats=TAG_FORMATS)
    assert caught.value.hint is not None
    listed = caught.value.hint.removeprefix("nearest: ").removesuffix(" (--format NAME)")
    assert listed.startswith(nearest)
    assert len(set(listed.split(", ")) & set(TAG_FORMATS)) == 3


def test_a_format_of_the_other_command_is_unknown() -> None:
    with pytest.raises(UsageError):
        choose_format("npy", None, default="tsv", formats=TAG_FORMATS)
    with pytest.raises(UsageError):
        choose_format(None, "emb.json", default="jsonl", formats=EMBEDDING_FORMATS)


def test_a_text_file_may_be_two_things() -> None:
    with pytest.raises(UsageError, match="does not say which format") as caught:
        choose_format(None, "night.txt", default="tsv", formats=EVENT_FORMATS)
    assert caught.value.hint == "--format audacity, raven, srt, vtt, kaleidoscope, sed or rttm"
    with pytest.raises(UsageError) as caught:
        choose_format(None, "night.txt", default="tsv", formats=TAG_FORMATS)
    assert caught.value.hint == "--format audacity, raven, srt or vtt"
    assert choose_format("raven", "night.txt", default="tsv", formats=EVENT_FORMATS) == "raven"
    with pytest.raises(UsageError, match=r"unknown format '\.txt'"):
        choose_format(None, "emb.txt", default="npy", formats=EMBEDDING_FORMATS)


@pytest.mark.parametrize("name", sorted(set(TAG_FORMATS) - BINARY))
def test_every_format_of_tags_writes(name: str, clip: ClipResult, failure: Failure, options: Options) -> None:
    data = written(tag_writer(name, io.BytesIO(), options()), clip, failure)
    assert b"Subway, metro, underground" in data
    assert b"\r" not in data
    assert data.endswith(b"\n")


@pytest.mark.parametrize("name", sorted(set(EVENT_FORMATS) - BINARY))
def test_every_format_of_events_writes(
    name: str, found: SourceEvents, failure: Failure, options: Options
) -> None:
    data = written(event_writer(name, io.BytesIO(), options()), found, failure)
    assert b"subway" in data.lower()
    assert b"\r" not in data
    assert data.endswith(b"\n")


@pytest.mark.parametrize("name", ["audacity", "srt", "vtt"])
def test_formats_that_do_not_name_their_source_refuse_a_second(
    name: str, clip: ClipResult, options: Options
) -> None:
    assert name in ONE_SOURCE
    writer = tag_writer(name, io.BytesIO(), options())
    writer.begin()
    writer.write(clip)
    writer.write(clip)
    with pytest.raises(UsageError, match=f"{name} is about one recording"):
        writer.write(dataclasses.replace(clip, source="other.wav"))


@pytest.mark.parametrize("name", EMBEDDING_FORMATS)
def test_every_format_of_embeddings_writes(
    name: str, rows: list[EmbeddingRow], failure: Failure, embedding_options: Callable[..., EmbeddingOptions]
) -> None:
    assert len(written(embedding_writer(name, io.BytesIO(), embedding_options()), rows, failure)) > 60


def test_only_csv_is_wide(options: Options) -> None:
    with pytest.raises(UsageError, match="jsonl has no wide layout"):
        tag_writer("jsonl", io.BytesIO(), options(layout="wide"))
    with pytest.raises(UsageError, match="one row a clip"):
        options(layout="wide", windows=True)


def test_csv_and_parquet_have_a_matrix(options: Options) -> None:
    labels = (Label(0, "/m/09x0r", "Speech"),)
    with pytest.raises(UsageError, match="jsonl has no matrix layout"):
        tag_writer("jsonl", io.BytesIO(), options(layout="matrix", labels=labels))
    with pytest.raises(UsageError, match="one row a clip"):
        options(layout="matrix", labels=labels, windows=True)
    with pytest.raises(UsageError, match="no layout 'tall'"):
        options(layout="tall")


@pytest.mark.parametrize("name", ["tsv", "jsonl", "raven"])
def test_only_csv_can_be_made_safe(name: str, options: Options) -> None:
    with pytest.raises(UsageError, match="--csv-safe is about csv"):
        tag_writer(name, io.BytesIO(), options(csv_safe=True))
    with pytest.raises(UsageError, match="--csv-safe is about csv"):
        event_writer(name, io.BytesIO(), options(csv_safe=True))


@pytest.mark.parametrize("name", ["csv", "npy", "tsv", "jsonl"])
def test_embeddings_that_a_spreadsheet_may_open_can_be_made_safe(name: str, provenance: Provenance) -> None:
    writing = EmbeddingOptions(provenance=provenance, size=3, csv_safe=True)
    if name in WITH_CSV:
        embedding_writer(name, io.BytesIO(), writing)
        return
    with pytest.raises(UsageError, match="--csv-safe is about csv"):
        embedding_writer(name, io.BytesIO(), writing)


@pytest.mark.parametrize("precision", [-1, 10])
def test_a_precision_that_no_score_has(precision: int, options: Options) -> None:
    with pytest.raises(UsageError, match=f"precision {precision}"):
        options(precision=precision)


def test_help_can_list_the_formats_without_loading_what_they_need() -> None:
    code = (
        "import sys, dymn_cli.writers; "
        "sys.exit(','.join({'numpy', 'rich', 'pandas', 'pyarrow', 'onnxruntime'} & set(sys.modules)) or 0)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, cwd=root)
    assert (done.returncode, done.stderr) == (0, b"")
