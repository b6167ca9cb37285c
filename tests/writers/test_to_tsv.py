from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable

import numpy as np
import pytest
from written import written

from dymn_cli.results import ClipResult, Failure, SourceEvents
from dymn_cli.writers.base import EmbeddingOptions, EmbeddingRow, WriterOptions
from dymn_cli.writers.to_tsv import TsvEmbeddings, TsvEvents, TsvTags

Options = Callable[..., WriterOptions]


def test_rows_of_a_clip(clip: ClipResult, failure: Failure, options: Options) -> None:
    assert written(TsvTags(io.BytesIO(), options()), clip, failure) == (
        b"metro.wav\tmix\t0.0\t10.3\t1\tTrain\t0.7471\n"
        b"metro.wav\tmix\t0.0\t10.3\t2\tSubway, metro, underground\t0.5991\n"
    )


def test_rows_of_windows_with_a_header(clip: ClipResult, options: Options) -> None:
    out = io.BytesIO()
    writer = TsvTags(out, options(windows=True, header=True, precision=2))
    writer.begin()
    writer.write(clip)
    assert out.getvalue() == (
        b"source\tchannel\tstart_s\tend_s\trank\tlabel\tscore\n"
        b"metro.wav\tmix\t0.0\t10.0\t1\tTrain\t0.75\n"
        b"metro.wav\tmix\t0.3\t10.3\t1\tSubway, metro, underground\t0.60\n"
    )


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("a\tb\nc\rd\\e.wav", rb"a\tb\nc\rd\\e.wav"),
        ("\\n is no newline.wav", rb"\\n is no newline.wav"),
        ('"quoted", [1].wav', b'"quoted", [1].wav'),
        ("=1+2.wav", b"=1+2.wav"),
        ("na\udcefve.wav", b"na\xefve.wav"),
        ("owl 🦉.wav", "owl 🦉.wav".encode()),
    ],
)
def test_spelling_of_a_name(name: str, cell: bytes, clip: ClipResult, options: Options) -> None:
    out = io.BytesIO()
    TsvTags(out, options()).write(dataclasses.replace(clip, source=name))
    lines = out.getvalue().split(b"\n")
    assert len(lines) == 3
    assert [line.split(b"\t")[0] for line in lines[:2]] == [cell, cell]
    assert {line.count(b"\t") for line in lines[:2]} == {6}


def test_scores_keep_their_decimals(clip: ClipResult, rail_tag: object, options: Options) -> None:
    faint = dataclasses.replace(clip, tags=(rail_tag,))
    out = io.BytesIO()
    TsvTags(out, options()).write(faint)
    TsvTags(out, options(precision=6)).write(faint)
    assert [line.split(b"\t")[-1] for line in out.getvalue().splitlines()] == [b"0.0000", b"0.000040"]


class Pipe(io.BytesIO):
    """Counts what a reader at the other end sees arrive, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bytes] = []

    def flush(self) -> None:
        self.seen.append(self.getvalue())


def test_a_source_reaches_the_reader_whole_and_at_once(clip: ClipResult, options: Options) -> None:
    pipe = Pipe()
    writer = TsvTags(pipe, options())
    writer.begin()
    writer.write(clip)
    assert [seen.count(b"\n") for seen in pipe.seen] == [2]
    writer.write(clip)
    assert [seen.count(b"\n") for seen in pipe.seen] == [2, 4]


class ClosedPipe(io.BytesIO):
    def flush(self) -> None:
        raise BrokenPipeError


def test_a_reader_that_is_gone_is_for_the_caller_to_judge(clip: ClipResult, options: Options) -> None:
    with pytest.raises(BrokenPipeError):
        TsvTags(ClosedPipe(), options()).write(clip)


def test_embeddings(rows: list[EmbeddingRow], embedding_options: Callable[..., EmbeddingOptions]) -> None:
    out = io.BytesIO()
    writer = TsvEmbeddings(out, embedding_options())
    writer.begin()
    writer.write(rows)
    assert out.getvalue() == (
        b"metro.wav\tmix\t0.0\t10.3\t0.1\t-2.5\t1e-07\n"  #
        b"a,b.wav\t1\t0.3\t10.3\t1.0\t2.0\t3.0\n"
    )
    cells = out.getvalue().splitlines()[0].split(b"\t")[4:]
    np.testing.assert_array_equal(np.array(cells, np.float32), rows[0].embedding)


def test_events(found: SourceEvents, options: Options) -> None:
    assert written(TsvEvents(io.BytesIO(), options(header=True)), found) == (
        b"source\tchannel\tstart_s\tend_s\tlabel\tscore\n"
        b"farm.flac\tmix\t0.3\t5400.0\tSubway, metro, underground\t0.5991\n"
        b"farm.flac\tmix\t3723.0\t3725.5\tDog\t0.7471\n"
    )
