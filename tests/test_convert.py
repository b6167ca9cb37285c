"""Convert is held to what dymn would have written directly, byte for byte where the information is there."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dymn_cli.cli.app import run
from dymn_cli.live.lines import event_row
from dymn_cli.live.listener import LiveEvent
from dymn_cli.readers import event_format, open_result
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
MADE = Provenance("0.1.0", MODEL, (("window_s", 10.0), ("channel", "mix"), ("labels", ("Owl", "Train"))))
AUDIO = AudioInfo(22_050, 2, None, "", "")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def dymn(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        code = run([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return code, out.decode("utf-8", "surrogateescape"), err.decode()

    return call


def farm(source: str = "D/the farm.flac", n_s: float = 60.0) -> SourceEvents:
    train = Event(source, "mix", 0.25, 12.5, 334, "Subway, metro, underground", "/m/0195fx", 0.75, 0.4375, 5)
    dog = Event(source, "mix", 3.0, 3.5, 74, "Dog", "/m/0bt9lr", 0.5, 0.25, 1)
    return SourceEvents(source, AUDIO, n_s, (train, dog), (), MODEL)


def owls(source: str = "night.wav") -> SourceEvents:
    owl = Event(source, "mix", 9.0, 11.0, 119, "Owl", "/m/09d5_", 0.875, 0.5, 2)
    return SourceEvents(source, AUDIO, 20.0, (owl,), ("müde",), MODEL)


ALL = (farm(), owls("na\udcefve night.wav"))


def write(path: Path, name: str, *results: SourceEvents | Failure) -> Path:
    with open_events(str(path), name, WriterOptions(provenance=MADE)) as writer:
        for one in results:
            writer.fail(one) if isinstance(one, Failure) else writer.write(one)
    return path


SEVERAL = ["csv", "tsv", "json", "jsonl", "raven", "kaleidoscope", "sed", "rttm"]
ROWS_ONLY = ["tsv", "kaleidoscope", "sed", "rttm"]
PAIRS = [
    *((one, other) for one in ("json", "jsonl") for other in SEVERAL),
    *(("csv", other) for other in ("csv", *ROWS_ONLY)),
    *((one, other) for one in ("tsv", "kaleidoscope", "raven", "rttm") for other in ROWS_ONLY),
    ("sed", "sed"),
    ("parquet", "csv"),
    ("parquet", "tsv"),
    ("csv", "parquet"),
    ("jsonl", "parquet"),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_converted_result_is_what_would_have_been_written(
    one: str, other: str, tmp_path: Path, dymn: Run
) -> None:
    if "parquet" in (one, other):
        pytest.importorskip("pyarrow")
    write(tmp_path / f"in.{one}", one, *ALL)
    want = write(tmp_path / "want", other, *ALL)
    code, out, _ = dymn("convert", f"in.{one}", "-f", other, "-o", "got")
    assert (code, out) == (0, "")
    if other == "parquet":
        import pyarrow.parquet

        assert pyarrow.parquet.read_table("got").equals(pyarrow.parquet.read_table(want))
        return
    assert Path("got").read_bytes() == want.read_bytes()
    meta = Path("got.meta.json")
    assert meta.is_file() == (other not in ("json", "jsonl"))
    if meta.is_file():
        assert meta.read_bytes() == Path("want.meta.json").read_bytes()


CLOCKED = Provenance(MADE.version, MODEL, (*MADE.options, ("clock", "auto")))
BEGAN = {
    "D/the farm.flac": datetime.fromisoformat("2024-05-01T23:59:59.9876"),
    "tape.wav": datetime.fromisoformat("2024-05-01T05:30:00+02:00"),
}


def write_clocked(path: str, name: str) -> None:
    options = WriterOptions(provenance=CLOCKED, clock=BEGAN.get)
    with open_events(path, name, options) as writer:
        for one in (farm(), owls(), owls("tape.wav")):
            writer.write(one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("jsonl", other) for other in ("csv", "tsv", "json", "jsonl", "raven", "parquet")),
        ("json", "csv"),
        *((one, "tsv") for one in ("csv", "tsv", "raven", "parquet")),
        *((one, "csv") for one in ("csv", "parquet")),
    ],
)
def test_clock_times_are_kept(one: str, other: str, dymn: Run) -> None:
    if "parquet" in (one, other):
        pytest.importorskip("pyarrow")
    write_clocked(f"in.{one}", one)
    write_clocked("want", other)
    assert dymn("convert", f"in.{one}", "-f", other, "-o", "got") == (0, "", "")
    if other == "parquet":
        import pyarrow.parquet

        assert pyarrow.parquet.read_table("got").equals(pyarrow.parquet.read_table("want"))
        return
    assert Path("got").read_bytes() == Path("want").read_bytes()
    if other not in ("json", "jsonl"):
        assert Path("got.meta.json").read_bytes() == Path("want.meta.json").read_bytes()


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize(("one", "other"), [("jsonl", "csv"), ("csv", "tsv"), ("json", "jsonl")])
def test_clock_times_of_tags_are_kept(one: str, other: str, windows: bool, dymn: Run) -> None:
    none, (dog, music) = np.zeros(0, np.float32), (Tag(1, 74, "Dog", "", 0.75), Tag(1, 137, "Music", "", 0.5))
    parts = WindowTags(0.0, 10.0, (dog,)), WindowTags(10.0, 20.0, (music,))
    clip = ClipResult("tape.wav", "mix", AUDIO, 20.0, (dog,), none, none, 2, parts, (), MODEL)
    made = Provenance("0.1.0", MODEL, (("windows", windows), ("clock", "auto")))
    for path, name in ((f"in.{one}", one), ("want", other)):
        options = WriterOptions(provenance=made, windows=windows, clock=BEGAN.get)
        with open_tags(path, name, options) as writer:
            writer.write(clip)
    assert dymn("convert", f"in.{one}", "-f", other, "-o", "got") == (0, "", "")
    assert Path("got").read_bytes() == Path("want").read_bytes()


def test_tags_of_clips_side_by_side_keep_their_clock_times(dymn: Run) -> None:
    Path("in.csv").write_text(
        "source,duration_s,label_1,score_1,clock\na.wav,9.0,Dog,0.5000,2024-05-01T05:30:00.000\n"
    )
    code, out, _ = dymn("convert", "in.csv", "-f", "tsv")
    assert (code, out) == (0, "a.wav\tmix\t0.0\t9.0\t1\tDog\t0.5000\t2024-05-01T05:30:00.000\n")


def test_clock_times_that_a_format_does_not_hold_are_told_of(dymn: Run) -> None:
    write_clocked("in.csv", "csv")
    code, _, said = dymn("convert", "in.csv", "-f", "rttm", "-o", "got")
    assert code == 0
    assert "rttm has no place for clock times" in said
    assert "clock" not in json.loads(Path("got.meta.json").read_text())["options"]


def test_a_clock_that_breaks_moved_is_kept(dymn: Run) -> None:
    rows = (
        "-\tmix\t1.0\t2.5\tSiren\t0.5000\t2024-05-01T05:30:00.000+00:00\n"
        "-\tmix\t9.0\t9.5\tSiren\t0.5000\t2024-05-01T07:00:00.000+00:00\n"
    )
    Path("in.tsv").write_text(rows)
    assert dymn("convert", "in.tsv", "-f", "tsv")[:2] == (0, rows)


@pytest.mark.parametrize("name", ["audacity", "srt", "vtt", "tsv", "csv", "json"])
def test_one_recording_goes_anywhere(name: str, tmp_path: Path, dymn: Run) -> None:
    write(tmp_path / "in.jsonl", "jsonl", farm())
    want = write(tmp_path / "want", name, farm())
    assert dymn("convert", "in.jsonl", "-f", name)[:2] == (0, want.read_bytes().decode())


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("jsonl", "csv"),
        ("jsonl", "json"),
        ("json", "tsv"),
        ("csv", "csv"),
        ("csv", "tsv"),
        ("jsonl", "raven"),
    ],
)
def test_tags_are_converted_as_well(one: str, other: str, windows: bool, tmp_path: Path, dymn: Run) -> None:
    none = np.zeros(0, np.float32)
    dog, music = Tag(1, 74, "Dog", "/m/0bt9lr", 0.875), Tag(2, 137, "Music", "/m/04rlf", 0.25)
    parts = WindowTags(0.0, 10.0, (dog,)), WindowTags(10.0, 20.0, (music,))
    made = Provenance("0.1.0", MODEL, (("top", 5), ("windows", windows)))
    for path, name in ((f"in.{one}", one), ("want", other)):
        with open_tags(path, name, WriterOptions(provenance=made, windows=windows)) as writer:
            for source in ("a.wav", "b.wav"):
                clip = ClipResult(source, "mix", AUDIO, 20.0, (dog, music), none, none, 2, parts, (), MODEL)
                writer.write(clip)
    assert dymn("convert", f"in.{one}", "-f", other, "-o", "got")[0] == 0
    assert Path("got").read_bytes() == Path("want").read_bytes()


@pytest.mark.parametrize("one", ["npy", "csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("other", ["npy", "csv", "tsv", "parquet"])
def test_embeddings_go_from_any_format_to_any(one: str, other: str, dymn: Run) -> None:
    if "parquet" in (one, other):
        pytest.importorskip("pyarrow")
    rows = [
        EmbeddingRow("a.wav", "mix", 0.0, 10.0, np.array([0.1, -2.5, 1e-7], np.float32)),
        EmbeddingRow("na\udcefve.wav", "1", 0.3, 10.3, np.array([1, 2, 3], np.float32)),
    ]
    for path, name in ((f"in.{one}", one), (f"want.{other}", other)):
        with open_embeddings(path, name, EmbeddingOptions(provenance=MADE, size=3)) as writer:
            for row in rows:
                writer.write([row])
    assert dymn("convert", f"in.{one}", f"got.{other}")[0] == 0
    if other == "parquet":
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.parquet.read_table("got.parquet")
        assert table.schema.field("embedding").type == pyarrow.list_(pyarrow.float32(), 3)
        assert table.equals(pyarrow.parquet.read_table("want.parquet"))
        return
    assert Path(f"got.{other}").read_bytes() == Path(f"want.{other}").read_bytes()
    if other == "npy":
        assert Path("got.index.csv").read_bytes() == Path("want.index.csv").read_bytes()
        assert json.loads(Path("got.meta.json").read_text())["shape"] == [2, 3]


# ---------------------------------------------------------------------- selecting


def labels(path: str) -> list[str]:
    with open_result(path) as result:
        return [one.label for item in result if isinstance(item, SourceEvents) for one in item.events]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["-l", "owl"], ["Owl"]),
        (["-l", "/m/0bt9lr", "-l", "Owl"], ["Dog", "Owl"]),
        (["-l", "Animal", "--descendants"], ["Dog", "Owl"]),
        (["--exclude", "Animal", "--descendants"], ["Subway, metro, underground"]),
        (["-t", "0.75"], ["Subway, metro, underground", "Owl"]),
        (["--top", "1"], ["Subway, metro, underground", "Owl"]),
        (["--exclude", "dog", "-t", "0.8"], ["Owl"]),
        (["--thresholds", "t.csv"], ["Dog", "Owl"]),
    ],
)
def test_rows_are_selected(options: list[str], left: list[str], tmp_path: Path, dymn: Run) -> None:
    write(tmp_path / "in.csv", "csv", *ALL)
    Path("t.csv").write_text('label,threshold\n"Subway, metro, underground",0.9\n')
    assert dymn("convert", "in.csv", "out.csv", *options)[0] == 0
    assert labels("out.csv") == left
    assert json.loads(Path("out.csv.meta.json").read_text())["options"]["selected"]


def test_a_file_beside_a_result_that_is_gone_is_not_in_the_way(tmp_path: Path, dymn: Run) -> None:
    write(tmp_path / "in.csv", "csv", *ALL)
    assert dymn("convert", "in.csv", "out.csv")[0] == 0
    Path("out.csv").unlink()
    assert dymn("convert", "in.csv", "out.csv", "-l", "Owl")[0] == 0
    assert "selected" in json.loads(Path("out.csv.meta.json").read_text())["options"]
    Path("out.csv").unlink()
    Path("out.csv.meta.json").write_text("mine")
    code, _, said = dymn("convert", "in.csv", "out.csv")
    assert (code, "out.csv.meta.json: the file exists; --force replaces it" in said) == (5, True)
    assert Path("out.csv.meta.json").read_text() == "mine"


def test_nothing_left_says_why(tmp_path: Path, dymn: Run) -> None:
    write(tmp_path / "in.csv", "csv", *ALL)
    code, _, said = dymn("convert", "in.csv", "out.csv", "-l", "Owl", "-t", "0.9")
    assert code == 0
    assert 'no event of "Owl" passes -t 0.9; the best is 0.88 (Owl)' in said
    code, _, said = dymn("convert", "in.csv", "-o", "2.csv", "-l", "Cat")
    assert "no event has a label that is wanted; the result has" in said
    code, _, said = dymn("convert", "in.csv", "-o", "3.csv", "-l", "Owll")
    assert code == 2
    assert "unknown label 'Owll'" in said


def test_labels_of_ones_own_are_found_by_their_names(dymn: Run) -> None:
    Path("own.csv").write_text(
        "source,start_s,end_s,label,score\na.wav,0,1,Hyla arborea,0.5\na.wav,2,3,x,0.5\n"
    )
    assert dymn("convert", "own.csv", "-l", "hyla-arborea", "-f", "sed")[1].splitlines()[1:] == [
        "a.wav\t0.0\t1.0\tHyla arborea"
    ]


def test_scores_that_are_not_there_cannot_be_compared(tmp_path: Path, dymn: Run) -> None:
    write(tmp_path / "in.sed", "sed", *ALL)
    code, _, said = dymn("convert", "in.sed", "-f", "csv", "-t", "0.5")
    assert (code, "no scores" in said) == (2, True)


@pytest.mark.parametrize("name", ["sed", "audacity"])
def test_rows_without_scores_are_read_back(name: str, tmp_path: Path, dymn: Run) -> None:
    write(tmp_path / "in.txt", name, farm())
    direct = dymn("convert", "in.txt", "-f", "csv")
    assert dymn("convert", "in.txt", "-f", "tsv", "-o", "rows")[0] == 0
    assert dymn("convert", "rows", "-f", "csv")[:2] == direct[:2]
    Path("tags").write_text("a.wav\tmix\t0.0\t10.0\t1\tDog\t\n")
    assert dymn("convert", "tags", "-f", "tsv")[:2] == (0, Path("tags").read_text())


@pytest.mark.parametrize("file", [None, "clips/12-30-05_siren.wav", ""])
def test_lines_of_live_sound_are_a_result(file: str | None, dymn: Run) -> None:
    siren = Event("-", "mix", 12.0, 16.5, 396, "Siren", "/m/03kmc9", 0.8125, 0.5, 3)
    clock = datetime.fromisoformat("2024-05-01T05:30:12.250+00:00")
    Path("live.tsv").write_bytes(event_row(LiveEvent(1, siren, clock, "end"), 4, file))
    code, out, _ = dymn("convert", "live.tsv", "-f", "csv")
    assert (code, out.splitlines()[1]) == (
        0, "-,mix,12.0,16.5,Siren,/m/03kmc9,0.8125,,,2024-05-01T05:30:12.250+00:00",
    )  # fmt: skip
    assert event_format("live.tsv") == "tsv"


# ---------------------------------------------------------------------- what is lost or not known


def test_what_is_lost_is_said_once(tmp_path: Path, dymn: Run) -> None:
    failure = Failure("x.wav", "CorruptAudioError", "x.wav: cut short", None, 3)
    quiet = SourceEvents("q.wav", AUDIO, 3.0, (), (), MODEL)
    write(tmp_path / "in.jsonl", "jsonl", *ALL, failure, quiet)
    code, _, said = dymn("convert", "in.jsonl", "out.tsv", "-f", "sed")
    assert code == 0
    assert said.count("warning") == 1
    assert "sed has no place for scores, 1 recording that failed, 1 recording without a row" in said


def test_several_recordings_are_refused_before_a_byte_is_out(tmp_path: Path, dymn: Run) -> None:
    write(tmp_path / "in.csv", "csv", *ALL)
    code, out, said = dymn("convert", "in.csv", "-f", "audacity")
    assert (code, out) == (2, "")
    assert "--out-dir makes a file for each" in said
    assert dymn("convert", "in.csv", "-f", "audacity", "--out-dir", "labels")[0] == 0
    want = write(tmp_path / "want", "audacity", farm())
    assert Path("labels/D/the farm.flac.audacity.txt").read_bytes() == want.read_bytes()
    code, _, said = dymn("convert", "in.csv", "-f", "audacity", "--out-dir", "labels")
    assert (code, "exists" in said) == (5, True)
    assert dymn("convert", "in.csv", "-f", "audacity", "--out-dir", "labels", "--force")[0] == 0


def test_headers_of_recordings_say_what_rows_do_not(tmp_path: Path, dymn: Run) -> None:
    (tmp_path / "audio" / "D").mkdir(parents=True)
    for name, n_s in (("D/the farm.flac", 60), ("night.wav", 20)):
        soundfile.write(tmp_path / "audio" / name, np.zeros((n_s * 22_050, 2), np.float32), 22_050)
    write(tmp_path / "in.csv", "csv", farm(), owls())
    code, out, said = dymn("convert", "in.csv", "-f", "raven", "-o", "x.txt")
    assert (code, out) == (2, "")
    assert "how long D/the farm.flac is is not known; --audio ROOT" in said
    assert not Path("x.txt").exists()
    assert dymn("convert", "in.csv", "-f", "raven", "-o", "x.txt", "--audio", "audio")[0] == 0
    assert Path("x.txt").read_bytes() == write(tmp_path / "want", "raven", farm(), owls()).read_bytes()


@pytest.mark.parametrize("windows", [False, True])
def test_a_header_that_claims_too_much_counts_for_rows_of_windows_only(dymn: Run, windows: bool) -> None:
    soundfile.write("a.wav", np.zeros(60 * 22_050), 22_050)
    Path("in.csv").write_text(
        "source,channel,start_s,end_s,rank,label,mid,score\na.wav,mix,0,10,1,Owl,/m/09d5_,0.5\n"
    )
    made = {"schema": "dymn.meta/1", "dymn": "0.1.0", "options": {"windows": windows}}
    model = {"name": "m", "sha256": "0" * 64, "backend": "onnx", "provider": "CPUExecutionProvider"}
    Path("in.csv.meta.json").write_text(json.dumps({**made, "model": model}))
    code, out, _ = dymn("convert", "in.csv", "-f", "jsonl")
    assert (code, json.loads(out)["duration_s"]) == (0, 60.0 if windows else 10.0)


def test_columns_of_a_matrix_are_found_among_the_labels(dymn: Run) -> None:
    Path("in.csv").write_text("source,channel,start_s,end_s,Bark,Siren\na.wav,mix,0,10,0.25,0.75\n")
    code, out, _ = dymn("convert", "in.csv", "-f", "jsonl")
    tags = json.loads(out)["tags"]
    assert code == 0
    assert [(tag["label"], tag["mid"], tag["index"]) for tag in tags] == [
        ("Siren", "/m/03kmc9", 396), ("Bark", "/m/05tny_", 75),
    ]  # fmt: skip


def test_parquet_says_which_model_made_it(tmp_path: Path, dymn: Run) -> None:
    pytest.importorskip("pyarrow")
    write(tmp_path / "in.parquet", "parquet", farm())
    code, out, _ = dymn("convert", "in.parquet", "-f", "jsonl")
    assert (code, json.loads(out)["model"]["sha256"]) == (0, MODEL.sha256)


def test_objects_have_null_for_what_nobody_knows(dymn: Run) -> None:
    Path("hand.tsv").write_text("file\tstart\tend\tlabel\nn.wav\t3\t6.5\tOwl\n")
    code, out, said = dymn("convert", "hand.tsv", "-f", "jsonl")
    assert code == 0
    document = json.loads(out)
    nulls = ("duration_s", "rate_hz", "channels", "model", "dymn")
    assert [document[name] for name in nulls] == [None] * 5
    (event,) = document["events"]
    assert (event["label"], event["mid"], event["score"]) == ("Owl", "/m/09d5_", None)
    assert "nothing says which model made it" in said
    with open_result("hand.tsv") as result:
        (item,) = list(result)
    assert isinstance(item, SourceEvents)
    assert math.isnan(item.duration_s)


def test_rows_that_do_not_stand_together_make_no_objects(tmp_path: Path, dymn: Run) -> None:
    write(tmp_path / "in.csv", "csv", farm("a.wav"), farm("b.wav"), farm("a.wav"))
    code, _, said = dymn("convert", "in.csv", "out.jsonl")
    assert (code, "sort the table by recording" in said) == (2, True)
    assert not Path("out.jsonl").exists()


def test_what_makes_no_sense_is_refused(tmp_path: Path, dymn: Run) -> None:
    pytest.importorskip("pyarrow")
    write(tmp_path / "in.csv", "csv", farm())
    for arguments, said in (
        (["in.csv", "in.csv"], "in.csv is also an input"),
        (["in.csv", "a.csv", "-o", "b.csv"], "two places to write to"),
        (["in.csv", "out.txt"], "does not say which format"),
        (["in.csv", "out.npy"], "npy holds embeddings, and in.csv has events"),
        (["in.csv", "out.xyz"], "unknown format"),
        (["in.csv", "--descendants"], "--descendants needs --label or --exclude"),
        (["-", "--out-dir", "d"], "standard input comes once"),
    ):
        code, out, err = dymn("convert", *arguments)
        assert (code, out) == (2, ""), arguments
        assert said in err
    Path("half.csv").write_bytes(Path("in.csv").read_bytes()[:-20])
    code, _, err = dymn("convert", "half.csv", "out.csv")
    assert code == 3
    assert re.search(r"half\.csv, line 3: \d cells for 9 columns; the file may be cut short", err)
    assert not Path("out.csv").exists()
