"""`dymn finetune`: from a folder of recordings to a tagger."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dymn_cli.cli.commands import finetune
from dymn_cli.errors import OutputError
from dymn_cli.train.run_folder import claimed

Record = Callable[..., str]
Fake = Callable[..., Any]

BANDS = {"low": 40, "mid": 70, "high": 104}


@pytest.fixture
def sounds(dymn: Any, record: Record) -> str:
    """A folder of tones: three classes of four recordings each."""
    for label, band in BANDS.items():
        for n in range(4):
            record(f"sounds/{label}/{n}.wav", (band + n, 0.5))
    return "sounds"


@pytest.fixture
def home(fake: Fake, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a run in this process remembers what it has computed."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("DYMN_HOME", str(folder))
    return folder


def test_classes_that_differ_only_in_case_are_told(in_process: Any, home: Path, sounds: str) -> None:
    rows = "".join(f"{label}/{n}.wav,{label}\n" for label in BANDS for n in range(4))
    (in_process.cwd / "sounds/t.csv").write_text("file,label\n" + rows.replace("3.wav,mid", "3.wav,Mid"))
    ran = in_process("finetune", "sounds/t.csv", "-o", "my.safetensors", "--head-only")
    assert ran.returncode == 0, ran.err
    assert 'warning: classes that differ only in case: "Mid" (1), "mid" (3)' in ran.err


def test_a_class_that_is_not_judged_has_a_threshold_too(
    in_process: Any, home: Path, sounds: str, record: Record
) -> None:
    record("sounds/rare/0.wav", (60, 0.5))
    ran = in_process("finetune", sounds, "-o", "my.safetensors", "--head-only")
    assert ran.returncode == 0, ran.err
    assert '"rare"; the threshold of "rare" is 0.5' in ran.err
    rows = (in_process.cwd / "my.thresholds.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows] == ["label", "high", "low", "mid", "rare"]
    assert rows[-1] == ",rare,0.5"


def test_a_folder_becomes_a_tagger(dymn: Any, in_process: Any, sounds: str, record: Record) -> None:
    ran = dymn("finetune", sounds, "-o", "my.safetensors", "--head-only", "--header")
    assert ran.returncode == 0, ran.err
    assert ran.rows[0][:4] == ["label", "mid", "n_positive", "average_precision"]
    assert [row[0] for row in ran.rows[1:]] == ["high", "low", "mid"]
    assert all(row[2] == "4" for row in ran.rows[1:])
    said = ran.err.splitlines()
    assert said[0] == "dymn: sounds: 12 recordings, 3 classes, one label a recording"
    assert "dymn: 5 folds with about the same share of each class (seed 0): mean average" in ran.err
    assert said[-1] == "dymn: my.safetensors: 3 classes; dymn tag -m my.safetensors clip.wav"

    new = record("new.wav", (BANDS["high"] + 1, 0.5))
    tagged = in_process("tag", "-m", "my.safetensors", new, "-k", 1)
    assert (tagged.returncode, tagged.rows[0][5]) == (0, "high")
    assert in_process("tag", "-m", "my.safetensors", new, "--thresholds", "my.thresholds.csv").returncode == 0
    log = json.loads((in_process.cwd / "my.log.json").read_text())
    assert log["schema"] == "dymn.finetune/1"
    assert log["data"]["classes"] == {"high": 4, "low": 4, "mid": 4}
    assert sorted(fold["n_recordings"] for fold in log["folds"]) == [2, 2, 2, 3, 3]
    assert log["evaluation"]["confusion"]["labels"] == ["high", "low", "mid"]

    judged = in_process("eval", sounds, "-m", "my.safetensors", "-f", "json")
    assert judged.returncode == 0, judged.err
    assert json.loads(judged.out)["accuracy"] == 1


def test_nothing_beyond_a_plain_installation_is_needed(dymn: Any, sounds: str) -> None:
    extras = ("torch", "torchaudio", "sklearn", "scipy", "matplotlib", "h5py", "onnx", "pandas")
    code = (
        f"import sys\nfor name in {extras}: sys.modules[name] = None\n"
        "from dymn_cli.cli.app import run\n"
        "for line in ('finetune sounds -o my.safetensors --head-only', 'eval sounds -m my.safetensors'):\n"
        "    assert run(line.split()) == 0\n"
        "assert run('eval sounds -m my.safetensors --plot x.png'.split()) == 4"
    )
    ran = dymn.python(code)
    assert ran.returncode == 0, ran.err
    assert "pictures need matplotlib" in ran.err
    assert "pip install 'dymn[plot]'" in ran.err


def test_the_same_run_gives_the_same_bytes_and_computes_nothing_again(
    fake: Fake, home: Path, dymn: Any, sounds: str
) -> None:
    one = fake("finetune", sounds, "-o", "a.safetensors", "--head-only", "-v")
    (dymn.cwd / "b").mkdir()
    other = fake("finetune", sounds, "-o", "b/a.safetensors", "--head-only", "-v")
    assert (one.returncode, other.returncode) == (0, 0), one.err
    assert "were analysed before" not in one.err
    assert "12 of 12 recordings were analysed before" in other.err
    for name in ("a.safetensors", "a.thresholds.csv", "a.log.json"):
        assert (dymn.cwd / name).read_bytes() == (dymn.cwd / "b" / name).read_bytes()


def test_a_table_with_several_labels_and_folds(fake: Fake, home: Path, dymn: Any, sounds: str) -> None:
    lines = [
        f"{sounds}/{label}/{n}.wav,{label}{';odd' if n % 2 else ''},{n}" for label in BANDS for n in range(4)
    ]
    (dymn.cwd / "t.csv").write_text("\n".join(["file,label,fold", *lines, ""]))
    ran = fake("finetune", "t.csv", "-o", "t.safetensors", "--head-only", "-f", "json")
    assert ran.returncode == 0, ran.err
    assert "12 recordings, 4 classes, several labels a recording (multi-label)" in ran.err
    assert "6 of 12 recordings have several labels" in ran.err
    document = json.loads(ran.out)
    assert document["plan"] == "the 4 folds of the data"
    assert document["evaluation"]["confusion"] is None


def test_a_review_of_one_long_recording_teaches_its_stretches(
    fake: Fake, home: Path, dymn: Any, record: Record
) -> None:
    order = [*BANDS.items()] * 4
    record("night.wav", *((band + n % 4, 0.5) for n, (_, band) in enumerate(order)))
    rows = [f"night.wav,{n / 2},{n / 2 + 0.5},{label},keep" for n, (label, _) in enumerate(order)]
    rows.append("night.wav,0,0.5,high,reject")
    (dymn.cwd / "decisions.csv").write_text("\n".join(["source,start_s,end_s,label,decision", *rows, ""]))
    ran = fake("finetune", "decisions.csv", "-o", "my.safetensors", "--head-only", "--header")
    assert ran.returncode == 0, ran.err
    assert "dymn: decisions.csv: 12 recordings, 3 classes, several labels a recording" in ran.err
    assert "dymn: each judged stretch counts as a recording: 12, of 1 file" in ran.err
    assert {row[0]: row[2] for row in ran.rows[1:]} == {"high": "4", "low": "4", "mid": "4"}
    assert {path.name for path in (home / "stretches").glob("*/*")} <= {".lock"}  # what was cut is gone
    log = json.loads((dymn.cwd / "my.log.json").read_text())
    assert log["data"]["classes"] == {"high": 4, "low": 4, "mid": 4}


def test_a_review_is_not_cut_again_under_a_run_that_learns_from_it(
    fake: Fake, home: Path, dymn: Any, record: Record
) -> None:
    record("night.wav", (BANDS["high"], 0.5), (BANDS["low"], 0.5))
    (dymn.cwd / "decisions.csv").write_text(
        "source,start_s,end_s,label,decision\nnight.wav,0,0.5,high,keep\nnight.wav,0.5,1,low,keep\n"
    )
    place = finetune._folder_of_stretches("my.safetensors")
    with claimed(place):
        (place / "cut.wav").touch()
        ran = fake("finetune", "decisions.csv", "-o", "my.safetensors", "--head-only")
        assert (place / "cut.wav").exists()
    assert ran.returncode == 5
    assert "another run is training there; wait for it, or give another output" in ran.err


def test_recordings_that_are_missing_or_broken_cost_only_themselves(
    fake: Fake, home: Path, dymn: Any, sounds: str
) -> None:
    (dymn.cwd / sounds / "low/broken.wav").write_bytes(b"RIFF")
    lines = [f"{sounds}/{label}/{n}.wav,{label}" for label in BANDS for n in range(4)]
    lines += [f"{sounds}/low/broken.wav,low", f"{sounds}/low/gone.wav,low"]
    (dymn.cwd / "t.csv").write_text("\n".join(["file,label", *lines, ""]))
    ran = fake("finetune", "t.csv", "-o", "t.safetensors", "--head-only")
    assert ran.returncode == 6
    assert "recordings that have labels and are not there: 1, the first is sounds/low/gone.wav" in ran.err
    assert "failed: " in ran.err
    assert ran.err.splitlines()[-1] == "dymn: error: 2 of 14 recordings could not be used"
    assert (dymn.cwd / "t.safetensors").is_file()


def test_a_share_can_be_held_out(fake: Fake, home: Path, sounds: str) -> None:
    ran = fake(
        "finetune", sounds, "-o", "h.safetensors", "--head-only", "--holdout", 0.25, "-f", "json", "--seed", 3
    )
    assert ran.returncode == 0, ran.err
    document = json.loads(ran.out)
    assert document["plan"] == "25% of the recordings are held out (seed 3)"
    assert document["evaluation"]["n_clips"] == 3


@pytest.mark.process
def test_figures_are_a_table_on_a_terminal(dymn: Any, sounds: str) -> None:
    ran = dymn.terminal("finetune", sounds, "-o", "my.safetensors", "--head-only", streams="out", columns=80)
    assert ran.returncode == 0, ran.err
    assert "is ↓ taken for →" in ran.out
    assert "mean average precision" in ran.out
    plain = re.sub(r"\x1b\[[0-9;]*m", "", ran.out)
    assert max(map(len, plain.splitlines())) <= 80


def test_nothing_is_replaced_unasked(fake: Fake, home: Path, dymn: Any, sounds: str) -> None:
    (dymn.cwd / "my.log.json").write_text("precious")
    ran = fake("finetune", sounds, "-o", "my.safetensors", "--head-only")
    assert ran.returncode == 5
    assert ran.err == "dymn: error: my.log.json: the file exists; --force replaces it\n"
    assert fake("finetune", sounds, "-o", "my.safetensors", "--head-only", "--force").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere", "-o", "m.safetensors"], 3, "nowhere: no such file or directory"),
        (["sounds/low", "-o", "m.safetensors"], 3, "no class in this folder"),
        (["one", "-o", "m.safetensors"], 3, "only the class 'low', where two or more are needed"),
        (["sounds", "-o", "m.onnx"], 2, "a model is a .safetensors file"),
        (["sounds", "-o", "gone/m.safetensors"], 5, "there is no folder gone"),
        (
            ["sounds", "-o", "m.safetensors", "--folds", 3, "--holdout", 0.2],
            2,
            "--folds and --holdout exclude each other",
        ),
        (["sounds", "-o", "m.safetensors", "--task", "two"], 2, "no task 'two'"),
        (["sounds", "-o", "m.safetensors", "--dataset", "esc"], 2, "no data set 'esc'"),
        (["sounds", "-o", "m.safetensors", "--dataset", "esc50"], 3, "no meta/esc50.csv in this folder"),
        (["sounds", "-o", "m.safetensors", "--audio", "x"], 2, "--audio is about the recordings of a table"),
        (["sounds", "-o", "m.safetensors", "--penalty", -1], 2, "a penalty of -1 is not more than 0"),
        (["sounds", "-o", "m.safetensors", "--at-precision", 2], 2, "is not between 0 and 1"),
        (["sounds", "-o", "m.safetensors", "-m", "dymn40"], 2, "no model is called 'dymn40'"),
        (["sounds", "-o", "m.safetensors", "-j", 0], 2, "jobs must be at least 1, not 0"),
        (["sounds", "-o", "m.safetensors", "-f", "csv"], 2, "unknown format 'csv'; nearest: tsv, "),
        (["sounds", "-o", "m.safetensors", "--plot", "m.bmp"], 2, "m.bmp: not a kind of picture"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_line(
    fake: Fake, home: Path, dymn: Any, sounds: str, arguments: list[Any], code: int, said: str
) -> None:
    (dymn.cwd / "one").mkdir()
    (dymn.cwd / "one/low").symlink_to(dymn.cwd / sounds / "low")
    ran = fake("finetune", *arguments, "--head-only", "-q")
    assert (ran.returncode, ran.stdout) == (code, b"")
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert not (dymn.cwd / "m.safetensors").exists()


@pytest.mark.parametrize("broken", ["safetensors", "thresholds.csv", "log.json"])
def test_of_model_thresholds_and_log_there_are_all_or_none(
    fake: Fake, sounds: str, home: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    from dymn_cli.writers import target

    plain = target.open_target

    def open_target(out: str, **options: Any) -> Any:
        opened = plain(out, **options)
        if out.endswith(broken):

            def finish() -> None:
                raise OutputError(f"{out}: no space left on device")

            monkeypatch.setattr(opened, "finish", finish)
        return opened

    monkeypatch.setattr(target, "open_target", open_target)
    before = sorted(Path().iterdir())
    ran = fake("finetune", sounds, "-o", "my.safetensors", "--head-only")
    assert (ran.returncode, ran.rows) == (5, [])
    assert "no space left on device" in ran.err
    assert sorted(Path().iterdir()) == before
    monkeypatch.undo()
    monkeypatch.setenv("DYMN_HOME", str(home))
