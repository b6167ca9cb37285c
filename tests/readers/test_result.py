from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import sys
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from stores import Objects

from dymn_cli.errors import InputError, UsageError
from dymn_cli.readers import EmbeddingRows, Result, open_result
from dymn_cli.results import AudioInfo, ClipResult, Event, Failure, ModelInfo, SourceEvents, Tag, WindowTags
from dymn_cli.writers import (
    EmbeddingOptions,
    EmbeddingRow,
    Provenance,
    WriterOptions,
    open_embeddings,
    open_events,
    open_tags,
)

MODEL = ModelInfo("dymn04_kd", "ab" * 32, "onnx", "CPUExecutionProvider")
MADE = Provenance("0.1.0", MODEL, (("channel", "mix"), ("labels", ("Owl", "Train")), ("window_s", 10.0)))
AUDIO = AudioInfo(22_050, 2, None, "", "")
NAMES = (
    "D/the farm.flac", 'a, "b".wav', "two\nlines.wav", "a\tb.wav", r"C:\new\take.wav", "=1+2.wav",
    "na\udcefve.wav",
)  # fmt: skip


def event(source: str, start_s: float, end_s: float, label: str = "Dog", score: float = 0.5) -> Event:
    mids = {"Dog": ("/m/0bt9lr", 74), "Subway, metro, underground": ("/m/0195fx", 334)}
    mid, index = mids.get(label, ("", 3))
    return Event(source, "mix", start_s, end_s, index, label, mid, score, 0.25, 7)


def farm(source: str = "D/the farm.flac") -> SourceEvents:
    events = event(source, 0.25, 12.5, "Subway, metro, underground", 0.75), event(source, 3.0, 3.5)
    return SourceEvents(source, AUDIO, 60.0, events, (), MODEL)


def write_events(path: Path, name: str, *results: SourceEvents | Failure, **options: object) -> str:
    with open_events(str(path), name, WriterOptions(provenance=MADE, **options)) as writer:  # type: ignore[arg-type]
        for one in results:
            writer.fail(one) if isinstance(one, Failure) else writer.write(one)
    return str(path)


def read(path: str | Path, **how: object) -> list[object]:
    with open_result(str(path), **how) as result:  # type: ignore[arg-type]
        return list(result)


def events_in(path: str | Path) -> list[Event]:
    return [one for item in read(path) if isinstance(item, SourceEvents) for one in item.events]


def places(events: Sequence[Event]) -> list[tuple[str, float, float, str]]:
    return [(one.source, one.start_s, one.end_s, one.label) for one in events]


ALL = ["csv", "tsv", "json", "jsonl", "parquet", "raven", "kaleidoscope", "sed", "rttm"]
ONE = ["audacity", "srt", "vtt"]
SCORELESS = ("audacity", "sed")


@pytest.mark.parametrize("name", ALL)
def test_events_of_several_recordings_are_read_back(name: str, tmp_path: Path) -> None:
    if name == "parquet":
        pytest.importorskip("pyarrow")
    written = farm(), farm("night.wav")
    path = write_events(tmp_path / "events", name, *written)
    with open_result(path) as result:
        assert (result.format_name, result.kind, result.precision) == (name, "events", 4)
        assert result.provenance == MADE
        items = list(result)
    assert [item.source for item in items if isinstance(item, SourceEvents)] == [
        "D/the farm.flac",
        "night.wav",
    ]
    want = [one for item in written for one in item.events]
    got = [one for item in items if isinstance(item, SourceEvents) for one in item.events]
    assert places(got) == places(want)
    assert [(one.mid, one.index) for one in got] == [(one.mid, one.index) for one in want]
    if name in SCORELESS:
        assert all(math.isnan(one.score) for one in got)
    else:
        assert [one.score for one in got] == [one.score for one in want]
    if name in ("csv", "json", "jsonl", "parquet"):
        assert got == want


@pytest.mark.parametrize("name", ONE)
def test_a_track_belongs_to_the_recording_of_its_name(name: str, tmp_path: Path) -> None:
    end = "audacity.txt" if name == "audacity" else name
    path = write_events(tmp_path / f"the farm.flac.{end}", name, farm())
    got = events_in(path)
    assert places(got) == places(farm(str(tmp_path / "the farm.flac")).events)
    assert [one.mid for one in got] == ["/m/0195fx", "/m/0bt9lr"]
    if name != "audacity":
        assert [one.score for one in got] == [0.75, 0.5]


@pytest.mark.parametrize("source", NAMES, ids=repr)
@pytest.mark.parametrize("name", ["csv", "tsv", "json", "jsonl", "parquet", "rttm", "kaleidoscope"])
def test_names_of_recordings_survive(name: str, source: str, tmp_path: Path) -> None:
    if name == "parquet":
        pytest.importorskip("pyarrow")
    path = write_events(tmp_path / "events", name, farm(source))
    assert places(events_in(path)) == places(farm(source).events)


@pytest.mark.parametrize("name", ["json", "jsonl"])
def test_json_keeps_all_that_is_known_of_a_recording(name: str, tmp_path: Path) -> None:
    failure = Failure("br\udcf6ken.wav", "CorruptAudioError", "cut short", "decode it again", 3)
    quiet = SourceEvents("quiet.flac", AUDIO, 3.0, (), ("müde",), MODEL)
    assert read(write_events(tmp_path / "e", name, failure, farm(), quiet)) == [
        dataclasses.replace(failure),
        farm(),
        quiet,
    ]


def test_what_a_format_lacks_is_unknown(tmp_path: Path) -> None:
    (item,) = read(write_events(tmp_path / "e.tsv", "tsv", farm()))
    assert isinstance(item, SourceEvents)
    assert math.isnan(item.duration_s) and item.audio.rate_hz == 0 and item.model == MODEL
    assert math.isnan(item.events[0].mean_score) and item.events[0].n_windows == 0  # type: ignore[index]


def test_labels_of_a_model_of_ones_own_get_no_ids(tmp_path: Path) -> None:
    own = dataclasses.replace(event("a.wav", 1, 2), mid="", index=0)
    (item,) = read(
        write_events(tmp_path / "e.csv", "csv", SourceEvents("a.wav", AUDIO, 9.0, (own,), (), MODEL))
    )
    assert isinstance(item, SourceEvents)
    assert [(one.label, one.mid, one.index) for one in item.events] == [("Dog", "", -1)]


def test_channels_come_back_where_they_were_heard_one_by_one(tmp_path: Path) -> None:
    each = Provenance("0.1.0", MODEL, (("channel", "each"),))
    events = tuple(dataclasses.replace(event("a.wav", n, n + 1), channel=str(n)) for n in range(2))
    for name in ("raven", "kaleidoscope", "rttm"):
        path = str(tmp_path / name)
        with open_events(path, name, WriterOptions(provenance=each, channel="each")) as writer:
            writer.write(SourceEvents("a.wav", AUDIO, 9.0, events, (), MODEL))
        assert [one.channel for one in events_in(path)] == ["0", "1"]


# ---------------------------------------------------------------------- tags


def clip(source: str, *windows: WindowTags) -> ClipResult:
    none = np.zeros(0, np.float32)
    tags = (Tag(1, 74, "Dog", "/m/0bt9lr", 0.875), Tag(2, 137, "Music", "/m/04rlf", 0.25))
    return ClipResult(source, "mix", AUDIO, 20.0, tags, none, none, len(windows), windows, ("müde",), MODEL)


WINDOWS = (
    WindowTags(0.0, 10.0, (Tag(1, 74, "Dog", "/m/0bt9lr", 0.875),)),
    WindowTags(10.0, 20.0, (Tag(1, 137, "Music", "/m/04rlf", 0.25), Tag(2, 74, "Dog", "/m/0bt9lr", 0.125))),
)


def write_tags(path: Path, name: str, *clips: ClipResult, windows: bool = False, **options: object) -> str:
    made = dataclasses.replace(MADE, options=(("windows", windows),))
    how = WriterOptions(provenance=made, windows=windows, **options)  # type: ignore[arg-type]
    with open_tags(str(path), name, how) as writer:
        for one in clips:
            writer.write(one)
    return str(path)


@pytest.mark.parametrize("name", ["csv", "tsv", "json", "jsonl", "parquet"])
@pytest.mark.parametrize("windows", [False, True])
def test_tags_are_read_back(name: str, windows: bool, tmp_path: Path) -> None:
    if name == "parquet":
        pytest.importorskip("pyarrow")
    path = write_tags(
        tmp_path / "tags", name, clip("a.wav", *WINDOWS), clip("b.wav", *WINDOWS), windows=windows
    )
    with open_result(path) as result:
        assert (result.kind, result.windows) == ("tags", windows)
        items = [one for one in result if isinstance(one, ClipResult)]
    assert [one.source for one in items] == ["a.wav", "b.wav"]
    assert items[0].tags == clip("").tags
    assert items[0].duration_s == 20.0
    if windows:
        assert items[0].windows == WINDOWS


def test_tags_of_a_clip_whose_windows_alone_are_known_are_the_highest(tmp_path: Path) -> None:
    path = write_tags(tmp_path / "tags.tsv", "tsv", clip("a.wav", *WINDOWS), windows=True)
    (tmp_path / "tags.tsv.meta.json").unlink()
    with open_result(path) as result:
        assert result.windows is None and result.provenance is None
        (item,) = list(result)
    assert isinstance(item, ClipResult)
    assert [(tag.rank, tag.label, tag.score) for tag in item.tags] == [(1, "Dog", 0.875), (2, "Music", 0.25)]


def test_layouts_with_a_row_a_clip_are_read(tmp_path: Path) -> None:
    wide = write_tags(tmp_path / "wide.csv", "csv", clip("a.wav"), layout="wide")
    (item,) = read(wide)
    assert isinstance(item, ClipResult)
    assert item.tags == clip("").tags and item.duration_s == 20.0
    matrix = tmp_path / "matrix.csv"
    matrix.write_text('source,channel,start_s,end_s,Music,"Male speech, man"\na.wav,mix,0.0,5.0,0.2,0.75\n')
    (item,) = read(matrix)
    assert isinstance(item, ClipResult)
    assert [(tag.rank, tag.label, tag.score) for tag in item.tags] == [
        (1, "Male speech, man", 0.75),
        (2, "Music", 0.2),
    ]


# ---------------------------------------------------------------------- embeddings

VECTORS = [
    EmbeddingRow("a.wav", "mix", 0.0, 10.0, np.array([0.1, -2.5, 1e-7], np.float32)),
    EmbeddingRow("na\udcefve.wav", "1", 0.3, 10.3, np.array([1, 2, 3], np.float32)),
]


@pytest.mark.parametrize("name", ["npy", "csv", "tsv", "jsonl"])
def test_embeddings_are_read_back_to_the_bit(name: str, tmp_path: Path) -> None:
    path = str(tmp_path / f"emb.{name}")
    with open_embeddings(path, name, EmbeddingOptions(provenance=MADE, size=3)) as writer:
        for row in VECTORS:
            writer.write([row])
    with open_result(path) as result:
        assert (result.format_name, result.kind, result.size) == (name, "embeddings", 3)
        assert result.provenance == MADE
        got = [row for item in result if isinstance(item, list) for row in item]
    for row, want in zip(got, VECTORS, strict=True):
        assert (row.source, row.channel, row.start_s, row.end_s) == (
            want.source, want.channel, want.start_s, want.end_s
        )  # fmt: skip
        assert row.embedding.tobytes() == want.embedding.tobytes()


def test_a_matrix_and_its_index_must_agree(tmp_path: Path) -> None:
    path = str(tmp_path / "emb.npy")
    with open_embeddings(path, "npy", EmbeddingOptions(provenance=MADE, size=3)) as writer:
        writer.write(VECTORS)
    index = tmp_path / "emb.index.csv"
    lines = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(InputError, match=r"emb\.index\.csv: 1 rows, and .*emb\.npy has 2"):
        read(path)
    index.unlink()
    with pytest.raises(InputError, match=r"emb\.index\.csv: no such file"):
        read(path)


# ---------------------------------------------------------------------- whose, and from where


BIRDNET = """Start (s),End (s),Scientific name,Common name,Confidence,File
3.0,6.0,Strix aluco,Tawny Owl,0.87,n.wav
"""
BY_HAND = "file\tstart\tend\tlabel\nn.wav\t3\t6.5\tOwl\n"


def test_tables_of_other_programs_are_read_by_their_columns(tmp_path: Path) -> None:
    (tmp_path / "birds.csv").write_text(BIRDNET)
    (tmp_path / "hand.tsv").write_text(BY_HAND)
    (bird,), (owl,) = (events_in(tmp_path / name) for name in ("birds.csv", "hand.tsv"))
    assert (bird.source, bird.start_s, bird.end_s, bird.label, bird.score) == (
        "n.wav",
        3.0,
        6.0,
        "Tawny Owl",
        0.87,
    )
    assert (owl.source, owl.end_s, owl.label, owl.mid) == ("n.wav", 6.5, "Owl", "/m/09d5_")


def test_only_what_a_reviewer_kept_is_read(tmp_path: Path) -> None:
    review = tmp_path / "review.csv"
    rows = "a.wav,1,2,Dog,keep\na.wav,3,4,Dog,reject\nb.wav,0,1,Cat,reject\nc.wav,,,Cat,\n"
    review.write_text(f"source,start_s,end_s,label,decision\n{rows}")
    found = [item for item in read(review) if isinstance(item, SourceEvents)]
    assert [(item.source, [one.start_s for one in item.events]) for item in found] == [
        ("a.wav", [1.0]),
        ("b.wav", []),
    ]
    review.write_text(f"source,start_s,end_s,label,decision\n{rows.replace('keep', 'yes')}")
    with pytest.raises(InputError, match=r"line 2: the decision is 'yes', neither keep nor reject"):
        read(review)


class _Piped(io.RawIOBase):
    """Standard input from a pipe: it cannot seek, and gives little at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        piece = self._data.read(min(7, len(view)))
        view[: len(piece)] = piece
        return len(piece)


@pytest.mark.parametrize("name", ["csv", "tsv", "json", "jsonl", "parquet", "raven", "vtt"])
def test_a_result_comes_through_a_pipe(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "parquet":
        pytest.importorskip("pyarrow")
    data = Path(write_events(tmp_path / "events", name, farm())).read_bytes()
    piped = io.TextIOWrapper(io.BufferedReader(_Piped(data)))
    monkeypatch.setattr(sys, "stdin", piped)
    got = events_in("-")
    assert [(one.start_s, one.end_s, one.label) for one in got] == [
        (one.start_s, one.end_s, one.label) for one in farm().events
    ]


def test_a_long_table_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    n_rows = 20_000
    with path.open("w") as file:
        file.write("source,channel,start_s,end_s,label,mid,score,mean_score,n_windows\n")
        for n in range(n_rows):
            file.write(f"night.wav,mix,{n}.0,{n}.5,Dog,/m/0bt9lr,0.5,0.25,2\n")
    tracemalloc.start()
    with open_result(str(path), chunk=1000) as result:
        n_read = sum(len(item.events) for item in result if isinstance(item, SourceEvents))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_read == n_rows
    assert peak < 4 << 20


# ---------------------------------------------------------------------- what is wrong

HEADER = "source,channel,start_s,end_s,label,mid,score,mean_score,n_windows\n"
ROW = "a.wav,mix,0.0,1.0,Dog,/m/0bt9lr,0.5,0.25,2\n"
OBJECT = json.dumps({"schema": "dymn.events/1", "source": "a", "duration_s": 1, "events": []}) + "\n"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("e.csv", HEADER + ROW + "a.wav,mix,0.0,1.0,Do", "e.csv, line 3: 5 cells for 9 columns"),
        ("e.csv", HEADER + ROW + '"a.wav,mix', "e.csv, line 3: not a table: unexpected end of data"),
        ("e.csv", HEADER + ROW.replace("0.5,", "1.5,"), "e.csv, line 2: '1.5' is not a score"),
        ("e.csv", HEADER + ROW.replace("0.0", "now"), "e.csv, line 2: 'now' is not a time in seconds"),
        ("e.csv", HEADER + ROW.replace("0.0", "3.0"), "e.csv, line 2: the event ends at 1 s, before it"),
        ("e.csv", HEADER + ROW.replace(",2\n", ",many\n"), "e.csv, line 2: 'many' is not a whole number"),
        ("e.csv", "name,price\nx,1\n", "e.csv: not a result: it begins with 'name,price'"),
        ("e.csv", "", "e.csv: empty"),
        ("e.csv", "source,error,message,hint\n", "e.csv: a list of sources that failed, not a result"),
        ("e.index.csv", "row,source,channel,start_s,end_s\n", "the index of a matrix; name the .npy file"),
        ("e.jsonl", OBJECT + OBJECT[:30], "e.jsonl, line 2: not JSON"),
        ("e.jsonl", OBJECT + '{"schema": "x"}\n', "e.jsonl, line 2: no result of dymn, but x"),
        ("e.jsonl", OBJECT.replace('"events": []', '"events": [{}]'), "e.jsonl, line 1: not what dymn"),
        ("e.jsonl", OBJECT.replace('"source": "a", ', ""), "e.jsonl, line 1: no source"),
        ("e.json", "[\n  {\n", "e.json, line 2: not JSON: the array has no end"),
        ("e.json", "[1, 2", "e.json, line 1: not JSON"),
        ("e.rttm", "SPEAKER a 1 0 1 <NA> <NA> dog 1 <NA>\nSPEAKER a\n", "e.rttm, line 2: not a line of RTTM"),
        ("e.txt", "0.5\t1.5\tDog\n7\n", "e.txt, line 2: no label with begin and end"),
        ("e.vtt", "WEBVTT\n\n00:01 --> x\nDog\n", "e.vtt, line 3: not a line of times"),
        ("e.raven", "Begin Time (s)\tEnd Time (s)\n", "e.raven: no column with labels"),
        ("meta.json", '{\n  "dymn": "0.1.0",\n', "meta.json: what made a result, not the result itself"),
        ("e.bin", "RIFF\0\0", "e.bin: not a result: binary data"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read(tmp_path / name)
    assert said in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "head"),
    [("a.wav", b"RIFF\x24\0\0\0WAVEfmt "), ("take 1", b"fLaC\0\0"), ("a.mp3", b"\xff\xfb\x90\0")],
)
def test_a_recording_is_no_result(
    name: str, head: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(head)
    with pytest.raises(InputError, match="a recording, not a result") as caught:
        read(name)
    shown = "'take 1'" if " " in name else name
    assert caught.value.hint == f"find its sounds first: dymn events {shown} -o events.csv"


def test_other_encodings_and_places_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "e.csv").write_bytes((HEADER + ROW).encode("utf-16"))
    with pytest.raises(InputError, match="UTF-16"):
        read(tmp_path / "e.csv")
    with pytest.raises(InputError, match="a folder"):
        read(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "gone.csv")
    with pytest.raises(InputError, match="no name for a file"):
        read("a\0b")
    with pytest.raises(UsageError, match="unknown format 'ravn'"):
        read(tmp_path / "e.csv", format_name="ravn")
    tty = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(tty, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", tty)
    with pytest.raises(UsageError, match="a terminal"):
        read("-")


def test_a_damaged_parquet_file_is_said_to_be_one(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = Path(write_events(tmp_path / "e.parquet", "parquet", farm()))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="not a whole parquet file"):
        read(path)


def test_parquet_without_pyarrow_is_an_input_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "e.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"e\.parquet: parquet needs pyarrow") as caught:
        read(tmp_path / "e.parquet")
    assert caught.value.hint == "pip install 'dymn[parquet]'"


def test_a_result_without_events_has_none(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text(HEADER)
    (tmp_path / "e.tsv").write_text("")
    assert read(tmp_path / "e.csv") == [] == read(tmp_path / "e.tsv")
    track = tmp_path / "a.wav.audacity.txt"
    track.write_text("")
    (item,) = read(track)
    assert isinstance(item, SourceEvents)
    assert (item.source, item.events) == (os.fspath(tmp_path / "a.wav"), ())


def test_a_result_is_open_as_long_as_it_is_read(tmp_path: Path) -> None:
    path = write_events(tmp_path / "e.jsonl", "jsonl", farm())
    with open_result(path) as result:
        assert isinstance(result, Result)
        rows: EmbeddingRows = [one for item in result if isinstance(item, list) for one in item]
    assert rows == []


# ---------------------------------------------------------------------- at a URI


def test_a_signed_address_is_that_of_one_object(objects: Objects) -> None:
    address = objects.put("e.csv", HEADER.encode() + b"a.wav,mix,1.0,2.0,Dog,/m/0bt9lr,0.5,0.2,7\n")
    with open_result(f"{address}?X-Amz-Signature={'5ig' * 20}") as result:
        assert (result.name, result.provenance, len(list(result))) == (address, None, 1)
    assert {path for _, path, _ in objects.asked} == {f"/e.csv?X-Amz-Signature={'5ig' * 20}"}


@pytest.mark.parametrize("gives_ranges", [True, False])
@pytest.mark.parametrize("name", ["csv", "tsv", "json", "jsonl", "parquet", "raven"])
def test_a_result_at_a_uri_is_read_as_a_file_is(
    name: str, gives_ranges: bool, objects: Objects, tmp_path: Path
) -> None:
    if name == "parquet":
        pytest.importorskip("pyarrow")
    path = Path(write_events(tmp_path / f"e.{name}", name, farm(), farm("night.wav")))
    for file in tmp_path.iterdir():
        objects.put(file.name, file.read_bytes(), gives_ranges=gives_ranges)
    address = f"http://{objects.host}/e.{name}"
    with open_result(address) as result:
        assert (result.name, result.format_name, result.provenance) == (address, name, MADE)
        items = list(result)
    assert items == read(path)


def test_a_long_result_comes_piece_by_piece(objects: Objects) -> None:
    rows = b"a.wav,mix,1.0,2.0,Dog,/m/0bt9lr,0.5000,0.2500,7\n" * 60_000
    address = objects.put("long.csv", HEADER.encode() + rows)
    with open_result(address, chunk=1000) as result:
        first = next(iter(result))
        assert isinstance(first, SourceEvents)
        assert len(first.events) == 1000
        assert objects.n_sent < 2_000_000
        assert sum(len(item.events) for item in result if isinstance(item, SourceEvents)) == 59_000


def test_a_track_at_a_uri_belongs_to_the_recording_beside_it(objects: Objects) -> None:
    address = objects.put("day/farm.wav.audacity.txt", b"0.5\t1.0\tOwl\n")
    assert [(one.source, one.label) for one in events_in(address)] == [
        (f"http://{objects.host}/day/farm.wav", "Owl")
    ]


def test_a_result_at_an_address_with_a_secret_is_called_without_it(objects: Objects) -> None:
    objects.put(
        "e.csv", HEADER.encode() + b"a.wav,mix,2.0,1.0,Dog,/m/0bt9lr,0.5,0.2,7\n", login="Basic bWU6cGFzcw=="
    )
    objects.put("u.csv", "source".encode("utf-16"), login="Basic bWU6cGFzcw==")
    for file, said in (("e.csv", "e.csv, line 2: "), ("u.csv", "u.csv: text in UTF-16")):
        with pytest.raises(InputError) as caught:
            read(f"http://me:pass@{objects.host}/{file}")
        assert str(caught.value).startswith(f"http://{objects.host}/{said}")


def test_what_cannot_be_read_at_a_uri_is_said(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"/none\.csv: no such file$"):
        read(f"http://{objects.host}/none.csv")
    with pytest.raises(InputError, match=r"/emb\.npy: a matrix is read where it lies, and not at a URI$"):
        read(objects.put("emb.npy", b"\x93NUMPY\x01\x00"))
    with pytest.raises(InputError, match=r"/cut\.json: empty$"):
        read(objects.put("cut.json", b""))
    monkeypatch.setenv("DYMN_OFFLINE", "1")
    with pytest.raises(InputError, match="so the network is not used"):
        read("https://h/e.csv")
