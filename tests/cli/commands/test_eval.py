"""`dymn eval`: how good is a model, or a finished result?"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dymn_cli.labels import Vocabulary

Record = Callable[..., str]
Fake = Callable[..., Any]

LABELS = Vocabulary.audioset()
BANDS = (72, 81, 87)  # the fake model hears the label of the loudest band


@pytest.fixture
def home(fake: Fake, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a run in this process remembers what it has computed."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("DYMN_HOME", str(folder))
    return folder


@pytest.fixture
def truth(home: Path, dymn: Any, record: Record) -> str:
    """Six recordings and a table of what they are; of one of them it is wrong."""
    rows = []
    for n, band in enumerate((*BANDS, *BANDS)):
        record(f"sounds/{n}.wav", (band, 0.5))
        said = BANDS[0] if n == 5 else band
        rows.append([f"{n}.wav", LABELS[said].name])
    write_csv(dymn.cwd / "truth.csv", [["file", "label"], *rows])
    return "truth.csv"


def write_csv(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.mark.parametrize("option", ["--out", "--write-thresholds"])
def test_no_output_replaces_the_ground_truth(option: str, fake: Fake, dymn: Any, truth: str) -> None:
    before = (dymn.cwd / truth).read_bytes()
    ran = fake("eval", "sounds", "--truth", truth, option, truth, "--force")
    assert (ran.returncode, (dymn.cwd / truth).read_bytes()) == (2, before)
    assert "truth.csv is also an input" in ran.err


def test_two_outputs_are_two_files(fake: Fake, dymn: Any, truth: str) -> None:
    ran = fake("eval", "sounds", "--truth", truth, "-o", "zz.csv", "--write-thresholds", "./zz.csv")
    assert ran.returncode == 2
    assert "./zz.csv: --out and --write-thresholds would both write it" in ran.err
    assert not (dymn.cwd / "zz.csv").exists()


def test_audio_is_tagged_and_judged(fake: Fake, truth: str) -> None:
    ran = fake("eval", "sounds", "--truth", truth, "-f", "csv")
    assert ran.returncode == 0, ran.err
    rows = list(csv.DictReader(io.StringIO(ran.out)))
    assert [row["label"] for row in rows] == [LABELS[band].name for band in BANDS]
    assert [row["mid"] for row in rows] == [LABELS[band].mid for band in BANDS]
    assert [row["n_positive"] for row in rows] == ["3", "2", "1"]
    assert float(rows[1]["average_precision"]) == 1
    assert float(rows[0]["average_precision"]) < 1
    assert "6 recordings, 3 classes: mean average precision" in ran.err
    assert "accuracy 83.3%" in ran.err


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_figures_are_whole_however_narrow_the_terminal(
    fake: Fake, truth: str, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    wide = fake("eval", "sounds", "--truth", truth, "-f", "table").out.split("\n\n")[0]
    monkeypatch.setenv("COLUMNS", str(columns))
    narrow = fake("eval", "sounds", "--truth", truth, "-f", "table").out.split("\n\n")[0]
    figures = [row.replace("━", "").split()[-8:] for row in wide.splitlines()[1:]]
    assert len(figures) == len(BANDS)
    # A name may take several lines; the figures of a class stand on the first of them.
    assert [row.split()[-8:] for row in narrow.splitlines()[1:] if row[-1:].isdigit()] == figures


@pytest.mark.parametrize(
    "options", [["-f", "csv", "--layout", "matrix"], ["-f", "csv", "-k", "0"], ["-f", "jsonl", "-k", "0"]]
)
def test_a_finished_result_gives_the_same_figures(fake: Fake, truth: str, options: list[str]) -> None:
    form = options[1]
    assert fake("tag", "sounds", "-o", f"tags.{form}", "--precision", 9, *options).returncode == 0
    one = fake("eval", "sounds", "--truth", truth, "-f", "json")
    other = fake("eval", f"tags.{form}", "--truth", truth, "-f", "json")
    assert (one.returncode, other.returncode) == (0, 0), other.err
    first, second = json.loads(one.out), json.loads(other.out)
    assert second["schema"] == "dymn.eval/1"
    assert second["mean_average_precision"] == pytest.approx(first["mean_average_precision"])
    assert second["accuracy"] == pytest.approx(first["accuracy"])
    assert {c["label"]: c["threshold"] for c in second["classes"]} == {
        c["label"]: c["threshold"] for c in first["classes"]
    }


@pytest.mark.parametrize(
    ("options", "spelled"),
    [(["--model", "none"], "-m"), (["--device", "auto"], "--device"), (["-j", "2"], "-j")],
)
def test_a_finished_result_takes_no_options_of_audio(
    fake: Fake, truth: str, options: list[str], spelled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fake("tag", "sounds", "-o", "tags.csv", "-k", 0).returncode == 0
    ran = fake("eval", "tags.csv", "--truth", truth, *options)
    assert ran.returncode == 2
    assert f"{spelled} is about audio; tags.csv is a finished result" in ran.err
    for variable, value in (("MODEL", "none"), ("DEVICE", "cuda"), ("JOBS", "2")):
        monkeypatch.setenv(f"DYMN_{variable}", value)
    assert fake("eval", "tags.csv", "--truth", truth).returncode == 0


def test_a_result_that_was_cut_is_said_to_be_rough(fake: Fake, truth: str) -> None:
    assert fake("tag", "sounds", "-o", "tags.csv", "-k", 3).returncode == 0
    ran = fake("eval", "tags.csv", "--truth", truth)
    assert ran.returncode == 0
    assert "warning: tags.csv holds 3 of 527 scores of a recording, the others count as 0" in ran.err


def test_thresholds_are_what_the_tagger_takes(fake: Fake, truth: str, dymn: Any) -> None:
    ran = fake("eval", "sounds", "--truth", truth, "--write-thresholds", "limits.csv", "--at-precision", 0.9)
    assert ran.returncode == 0, ran.err
    assert (dymn.cwd / "limits.csv").read_text().startswith("mid,label,threshold\n")
    tagged = fake("tag", "sounds/0.wav", "--thresholds", "limits.csv", "-k", 1)
    assert tagged.rows[0][5] == LABELS[BANDS[0]].name


def test_classes_that_no_threshold_makes_precise_enough_are_named(fake: Fake, truth: str) -> None:
    ran = fake("eval", "sounds", "--truth", truth, "--write-thresholds", "t.csv", "--at-precision", 0.99)
    name = LABELS[BANDS[2]].name
    assert f'warning: no threshold brings 1 class to precision 0.99, so it is 1 there: "{name}"' in ran.err
    assert "warning" not in fake("eval", "sounds", "--truth", truth).err


def test_a_figure_may_be_infinite(fake: Fake, truth: str) -> None:
    rows = {row[0]: row for row in fake("eval", "sounds", "--truth", truth).rows}
    assert rows[LABELS[BANDS[1]].name][4:6] == ["1", "inf"]
    found = json.loads(fake("eval", "sounds", "--truth", truth, "-f", "json").out)
    assert {one["label"]: one["d_prime"] for one in found["classes"]}[LABELS[BANDS[1]].name] is None


def test_one_of_a_kind_is_singular(fake: Fake, home: Path, record: Record, dymn: Any) -> None:
    record("a.wav", (BANDS[0], 0.5))
    write_csv(dymn.cwd / "t.csv", [["file", "label"], ["a.wav", LABELS[BANDS[0]].name]])
    assert "1 recording, 1 class: " in fake("eval", "a.wav", "--truth", "t.csv").err


def test_sub_folders_are_the_classes(fake: Fake, home: Path, record: Record, dymn: Any) -> None:
    for band in BANDS[:2]:
        for n in range(2):
            record(f"named/{LABELS[band].slug}/{n}.wav", (band, 0.5))
    ran = fake("eval", "named", "-f", "table")
    assert ran.returncode == 0, ran.err
    assert "accuracy 100.0%" in ran.out
    assert "is ↓ taken for →" in ran.out


def test_words_of_the_truth_are_mapped_or_left_out(fake: Fake, home: Path, record: Record, dymn: Any) -> None:
    for name, band in (("a", BANDS[0]), ("b", BANDS[1]), ("c", BANDS[2])):
        record(f"{name}.wav", (band, 0.5))
    write_csv(
        dymn.cwd / "t.csv",
        [["file", "label"], ["a.wav", "klong"], ["b.wav", LABELS[BANDS[1]].name], ["c.wav", "pling"]],
    )
    refused = fake("eval", "a.wav", "b.wav", "c.wav", "--truth", "t.csv")
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert 't.csv: 2 labels unknown to the model: "klong", "pling"' in refused.err
    write_csv(dymn.cwd / "map.csv", [["truth", "label"], ["klong", LABELS[BANDS[0]].name]])
    ran = fake("eval", "a.wav", "b.wav", "c.wav", "--truth", "t.csv", "--map", "map.csv", "--ignore-unknown")
    assert ran.returncode == 0, ran.err
    assert [row[0] for row in ran.rows] == [LABELS[BANDS[0]].name, LABELS[BANDS[1]].name]
    assert 'labels that are left out: "pling"' in ran.err
    assert "recordings without another label, which are left out: 1" in ran.err


def test_what_is_on_one_side_only_is_told(fake: Fake, truth: str, dymn: Any, record: Record) -> None:
    record("sounds/more.wav", (BANDS[0], 0.5))
    with (dymn.cwd / truth).open("a") as file:
        file.write(f"gone.wav,{LABELS[BANDS[0]].name}\n")
    ran = fake("eval", "sounds", "--truth", truth)
    assert ran.returncode == 0
    assert (
        "recordings that are not in the truth, which are left out: 1, the first is sounds/more.wav" in ran.err
    )
    assert "warning: recordings of the truth without scores: 1, the first is gone.wav" in ran.err


def test_broken_recordings_cost_only_themselves(fake: Fake, truth: str, dymn: Any) -> None:
    (dymn.cwd / "sounds/0.wav").write_bytes(b"RIFF")
    ran = fake("eval", "sounds", "--truth", truth, "-f", "json")
    assert ran.returncode == 6
    assert json.loads(ran.out)["n_clips"] == 5
    assert "dymn: error: 1 of 6 recordings could not be used" in ran.err


def test_a_published_data_set_and_one_of_its_folds(fake: Fake, home: Path, dymn: Any, record: Record) -> None:
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for n, band in enumerate((*BANDS, *BANDS)):
        record(f"ESC-50-master/audio/{n}.wav", (band, 0.5))
        lines.append(f"{n}.wav,{1 + n // 3},0,{LABELS[band].slug},False,{n},A")
    (dymn.cwd / "ESC-50-master/meta").mkdir()
    (dymn.cwd / "ESC-50-master/meta/esc50.csv").write_text("\n".join([*lines, ""]))
    every = fake("eval", "ESC-50-master", "--dataset", "esc50", "-f", "json")
    part = fake("eval", "ESC-50-master", "--dataset", "esc50", "--part", 2, "-f", "json")
    assert (every.returncode, part.returncode) == (0, 0), every.err
    assert (json.loads(every.out)["n_clips"], json.loads(part.out)["n_clips"]) == (6, 3)
    assert "has no part '9'; 1, 2" in fake("eval", "ESC-50-master", "--dataset", "esc50", "--part", 9).err


def test_results_go_into_files_by_their_suffix(fake: Fake, truth: str, dymn: Any) -> None:
    pytest.importorskip("matplotlib")
    ran = fake("eval", "sounds", "--truth", truth, "-o", "eval.json", "--plot", "eval.svg")
    assert (ran.returncode, ran.stdout) == (0, b"")
    assert json.loads((dymn.cwd / "eval.json").read_text())["n_classes"] == 3
    assert (dymn.cwd / "eval.svg").read_text().startswith("<?xml")
    again = fake("eval", "sounds", "--truth", truth, "-o", "eval.json")
    assert (again.returncode, again.err) == (
        5,
        "dymn: error: eval.json: the file exists; --force replaces it\n",
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["sounds/0.wav"], 2, "no ground truth; --truth FILE.csv"),
        (["none.wav", "--truth", "truth.csv"], 3, "none.wav: no such file"),
        (["sounds", "--truth", "none.csv"], 3, "none.csv: no such file"),
        (["sounds", "--truth", "empty.csv"], 3, "empty.csv: empty"),
        (["sounds", "--truth", "other.csv"], 3, "other.csv: no row matches a recording"),
        (["nan.csv", "--truth", "truth.csv"], 3, "nan.csv, line 2: 'nan' is not a score between 0 and 1"),
        (["nan.csv", "sounds", "--truth", "truth.csv"], 2, "sounds is audio, nan.csv is a result"),
        (["p.csv.out", "--truth", "truth.csv"], 2, "p.csv.out: not a result that can be evaluated; one of"),
        (["sounds", "--truth", "truth.csv", "-f", "xml"], 2, "unknown format 'xml'"),
        (
            ["sounds", "--truth", "truth.csv", "-o", "eval.xlsx"],
            2,
            "eval.xlsx: the suffix does not say which format",
        ),
        (["sounds", "--truth", "truth.csv", "--at-precision", 0], 2, "is not between 0 and 1"),
        (["sounds", "--truth", "truth.csv", "--plot", "x.gif"], 2, "x.gif: not a kind of picture"),
        (["sounds", "--truth", "truth.csv", "--map", "truth.csv"], 2, "must name the columns truth,label"),
        (["sounds", "--truth", "truth.csv", "--batch-size", 0], 2, "batch size must be at least 1, not 0"),
        (["sounds", "--truth", "truth.csv", "--map", "latin.csv"], 2, "latin.csv: not text in UTF-8; save"),
        (["sounds", "--truth", "truth.csv", "--dataset", "esc50"], 2, "--dataset takes one folder"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_line(
    fake: Fake, truth: str, dymn: Any, arguments: list[Any], code: int, said: str
) -> None:
    (dymn.cwd / "empty.csv").touch()
    (dymn.cwd / "latin.csv").write_text("truth,label\nm\u00f6we,Gull\n", "latin-1")
    (dymn.cwd / "other.csv").write_text("file,label\nx.wav,Dog\n")
    header = "source,channel,start_s,end_s,rank,label,mid,score"
    (dymn.cwd / "nan.csv").write_text(f"{header}\n0.wav,mix,0.0,1.0,1,Dog,,nan\n")
    (dymn.cwd / "p.csv.out").write_text(f"{header}\n0.wav,mix,0.0,1.0,1,Dog,,0.5\n")
    ran = fake("eval", *arguments, "-q")
    assert (ran.returncode, ran.stdout) == (code, b"")
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_the_bundled_model_in_a_process_of_its_own(dymn: Any, record: Record) -> None:
    record("a.wav", (81, 0.5))
    (dymn.cwd / "t.csv").write_text("file,label\na.wav,Speech\n")
    ran = dymn("eval", "a.wav", "--truth", "t.csv")
    assert ran.returncode == 0, ran.err
    assert ran.rows[0][:4] == ["Speech", "/m/09x0r", "1", "1"]
