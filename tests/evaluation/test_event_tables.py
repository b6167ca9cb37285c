from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from written import written

from dymn_cli.datasets.label_tables import LabelRow
from dymn_cli.errors import InputError
from dymn_cli.evaluation.event_tables import event_form, read_events, tables_in
from dymn_cli.results import AudioInfo, Event, Failure, ModelInfo, SourceEvents
from dymn_cli.writers import Provenance, WriterOptions, event_writer

MODEL = ModelInfo("dymn04_kd", "ab" * 32, "onnx", "CPUExecutionProvider")
AUDIO = AudioInfo(22_050, 1, None, "FLAC", "PCM_16")


def result(source: str, *events: tuple[float, float, str, str, float], n_s: float = 60.0) -> SourceEvents:
    made = tuple(
        Event(source, "mix", start_s, end_s, 0, label, mid, score, score, 1)
        for start_s, end_s, label, mid, score in events
    )
    return SourceEvents(source, AUDIO, n_s, made, (), MODEL)


FARM = result(
    "D/the farm.flac",
    (0.25, 12.5, "Subway, metro, underground", "/m/0195fx", 0.75),
    (3.0, 3.5, "Dog", "/m/0bt9lr", 0.5),
)
QUIET = result("quiet.flac")


def saved(form: str, path: Path, *results: SourceEvents | Failure) -> str:
    writer = event_writer(form, io.BytesIO(), WriterOptions(provenance=Provenance("0", MODEL)))
    path.write_bytes(written(writer, *results))
    return str(path)


def names(rows: list[LabelRow]) -> list[tuple[float, float, str]]:
    return [(row.start_s, row.end_s, row.labels[0]) for row in rows]


SLUGS = {"Subway, metro, underground": "subway-metro-underground", "Dog": "dog"}


@pytest.mark.parametrize(
    "form", ["csv", "tsv", "json", "jsonl", "raven", "kaleidoscope", "sed", "rttm", "audacity", "parquet"]
)
def test_what_we_write_is_read_back(form: str, tmp_path: Path) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    alone = form == "audacity"
    path = saved(form, tmp_path / f"the farm.{form}", *((FARM,) if alone else (FARM, QUIET)))
    if alone:
        Path(path).rename(tmp_path / "the farm.txt")
        path = str(tmp_path / "the farm.txt")
    table = read_events([path])
    source = str(tmp_path / "the farm") if alone else "D/the farm.flac"
    assert [name for name, rows in table.rows.items() if rows] == [source]
    labels = [label for _, _, label in names(table.rows[source])]
    assert labels == [SLUGS[e.label] if form == "rttm" else e.label for e in FARM.events]
    assert [(row.start_s, row.end_s) for row in table.rows[source]] == [(0.25, 12.5), (3.0, 3.5)]
    scores = [row.score for row in table.rows[source]]
    assert scores == ([None, None] if form in ("audacity", "sed") else [0.75, 0.5])
    assert table.complete == (form in ("json", "jsonl", "audacity"))


def test_json_knows_lengths_silence_and_failures(tmp_path: Path) -> None:
    failure = Failure("broken.wav", "CorruptAudioError", "cut short", None, 3)
    table = read_events([saved("jsonl", tmp_path / "e.jsonl", FARM, failure, QUIET)])
    assert table.rows["quiet.flac"] == []
    assert table.durations == {"D/the farm.flac": 60.0, "quiet.flac": 60.0}
    assert table.failed == ("broken.wav",)


Made = Callable[[str, str], str]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    def make(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return make


def test_a_table_of_dcase_may_name_recordings_without_events(made: Made) -> None:
    text = "filename\tonset\toffset\tevent_label\na.wav\t0.5\t1\tDog\nb.wav\t\t\t\nc.wav\n"
    table = read_events([made("truth.tsv", text)])
    assert {name: names(rows) for name, rows in table.rows.items()} == {
        "a.wav": [(0.5, 1.0, "Dog")],
        "b.wav": [],
        "c.wav": [],
    }


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_table_that_a_spreadsheet_wrote(made: Made, mark: str) -> None:
    rows = ("filename;onset;offset;event_label;confidence", "a.wav;0,5;2;Chirp, tweet;0,75", ";;;;", "")
    path = made("t.csv", mark + "\r\n".join(rows))
    assert event_form(path) == "csv"
    (row,) = read_events([path]).rows["a.wav"]
    assert (row.start_s, row.end_s, row.labels, row.score) == (0.5, 2.0, ("Chirp, tweet",), 0.75)


def test_a_table_behind_another_is_said(made: Made) -> None:
    table = "source,start_s,end_s,label\na.wav,0,1,Dog\n"
    with pytest.raises(InputError, match="line 3: the names of the columns again"):
        read_events([made("t.csv", table + table)])


def test_audacity_with_frequencies_a_decimal_comma_and_a_channel(made: Made) -> None:
    text = "0,5\t1,25\tDog\n\\\t100.0\t200.0\n2.0\t3.0\tBark (channel 1)\n4\t5\t\n"
    path = made("street.wav.audacity.txt", text)
    table = read_events([path])
    assert names(table.rows[path.removesuffix(".audacity.txt")]) == [(0.5, 1.25, "Dog"), (2.0, 3.0, "Bark")]


def test_raven_lists_a_selection_once_for_each_view(made: Made) -> None:
    text = (
        "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies\n"
        "1\tWaveform 1\t1\t0.5\t1.0\t0\t8000\tOwl\n"
        "1\tSpectrogram 1\t1\t0.5\t1.0\t0\t8000\tOwl\n"
        "2\tSpectrogram 1\t1\t2\t3\t0\t8000\n"
    )
    path = made("night.txt", text)
    assert names(read_events([path]).rows[path.removesuffix(".txt")]) == [(0.5, 1.0, "Owl")]


def test_kaleidoscope_counts_what_a_person_said(made: Made) -> None:
    text = "INDIR,FOLDER,IN FILE,CHANNEL,OFFSET,DURATION,TOP1MATCH,MANUAL ID\nD,x,a.wav,0,1,2,Dog,Wolf\n"
    assert names(read_events([made("cluster.csv", text)]).rows["D/x/a.wav"]) == [(1.0, 3.0, "Wolf")]


def test_only_events_that_a_person_kept_count(made: Made) -> None:
    head = "source,start_s,end_s,label,decision,note\n"
    rows = "a.wav,1,2,Dog,keep,\na.wav,3,4,Dog,reject,\nb.wav,0,1,Cat,reject,wind\nc.wav,0,1,Cat,,\n"
    table = read_events([made("review.csv", head + rows)])
    assert {name: names(found) for name, found in table.rows.items()} == {
        "a.wav": [(1.0, 2.0, "Dog")],
        "b.wav": [],  # nothing that was found there is right; of c.wav nobody has said anything
    }
    own = "source,channel,start_s,end_s,label,mid,score,decision\na.wav,mix,1,2,Dog,/m/0bt9lr,0.5,"
    assert len(read_events([made("own.csv", f"{own}keep\n")]).rows["a.wav"]) == 1
    assert read_events([made("own.csv", f"{own}reject\n")]).rows == {"a.wav": []}
    with pytest.raises(InputError, match=r"own\.csv, line 2: the decision is 'yes', neither keep nor reject"):
        read_events([made("own.csv", f"{own}yes\n")])


def test_a_folder_of_label_tracks(made: Made, tmp_path: Path) -> None:
    made("a.txt", "0\t1\tDog\n")
    made("b.txt", "")  # nothing to be heard there
    made("events.csv.meta.json", "{}")
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    table = read_events([str(tmp_path)])
    assert {Path(name).name: len(rows) for name, rows in table.rows.items()} == {"a": 1, "b": 0}
    assert [Path(path).name for path in tables_in(str(tmp_path))] == ["a.txt", "b.txt"]


def test_a_recording_is_in_one_result_only(made: Made, tmp_path: Path) -> None:
    head = "source,start_s,end_s,label\n"
    (tmp_path / "marks").mkdir()
    one, other = (
        made("marks/dogs.csv", f"{head}a.wav,0,1,Dog\n"),
        made("marks/cats.csv", f"{head}a.wav,2,3,Cat\n"),
    )
    third = made("third.csv", f"{head}b.wav,0,1,Dog\n")
    with pytest.raises(InputError, match=r"^a\.wav is in .*dogs\.csv and in .*cats\.csv$"):
        read_events([one, third, other])
    with pytest.raises(InputError, match=r"^a\.wav is in .*dogs\.csv and in .*dogs\.csv$"):
        read_events([one, one])
    assert list(read_events([one, third]).rows) == ["a.wav", "b.wav"]
    # Who marks each kind of sound in a table of its own has one truth, in one folder.
    assert [label for *_, label in names(read_events([str(tmp_path / "marks")]).rows["a.wav"])] == [
        "Cat",
        "Dog",
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("truth.csv", "file,label\na.wav,Dog\n"),
        ("tags.csv", "source,channel,start_s,end_s,rank,label,mid,score\n"),
        ("tags.tsv", "a.wav\tmix\t0.0\t10.0\t1\tDog\t0.5\n"),
        ("clips.jsonl", '{"schema": "dymn.clip/1", "source": "a.wav"}\n'),
        ("reviewed-tags.csv", "source,start_s,end_s,label,decision\na.wav,,,Dog,keep\n"),
        ("reviewed-windows.csv", "source,start_s,end_s,rank,label,decision\na.wav,0,10,1,Dog,keep\n"),
        ("notes.txt", "heard two dogs\n"),
        ("zero.txt", "\0\0"),
    ],
)
def test_other_files_are_no_events(name: str, text: str, made: Made) -> None:
    path = made(name, text)
    assert event_form(path) is None
    with pytest.raises(InputError, match="not a table of events"):
        read_events([path])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.tsv", "filename\tonset\toffset\tevent_label\na\t2\t1\tDog\n", "line 2: the event ends at 1 s"),
        ("a.tsv", "filename\tonset\toffset\tevent_label\na\tx\t1\tDog\n", "line 2: 'x' is not a time"),
        ("a.tsv", "filename\tonset\toffset\tevent_label\na\tnan\t1\tDog\n", "line 2: 'nan' is not a time"),
        ("a.tsv", "filename\tonset\toffset\tevent_label\na\t0\t1\t\n", "line 2: no label"),
        ("a.tsv", "filename\tonset\toffset\tevent_label\na\t0\t1\tb\tc\n", "line 2: 5 cells for 4 columns"),
        ("a.txt", "0\t1\tDog\nhello\n", "line 2: no label with begin and end"),
        ("a.rttm", "SPEAKER a 1 0 1 <NA> <NA> dog <NA> <NA>\nSPEAKER a\n", "line 2: not a line of RTTM"),
        ("a.tsv", "a\tmix\t0.0\t1.0\tDog\t0.5\na\tmix\t0.0\t1.0\tDog\t2\n", "line 2: '2' is not a score"),
        (
            "a.jsonl",
            '{"schema": "dymn.events/1", "source": "a", "duration_s": 1}\n',
            "line 1: not what dymn",
        ),
        (
            "a.txt",
            "Selection\tBegin Time (s)\tEnd Time (s)\n1\t0\t1\n",
            "no column with labels",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(name: str, text: str, message: str, made: Made) -> None:
    with pytest.raises(InputError) as caught:
        read_events([made(name, text)])
    assert message in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        event_form(tmp_path / "none.tsv")
