"""`dymn finetune` where PyTorch is installed: the whole network is trained."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from dymn_cli.frontend import FrontEndConfig  # noqa: E402
from dymn_cli.labels import Vocabulary  # noqa: E402
from dymn_cli.model.build import build  # noqa: E402
from dymn_cli.model.config import ModelConfig  # noqa: E402
from dymn_cli.store.header import ModelHeader  # noqa: E402
from dymn_cli.store.weights import save_weights  # noqa: E402

Record = Callable[..., str]
Fake = Callable[..., Any]

BANDS = {"low": 40, "mid": 70, "high": 104}
TINY = (
    "-m",
    "tiny.safetensors",
    "--random-head",
    "--epochs",
    2,
    "--batch",
    4,
    "--window",
    0.5,
    "--threads",
    1,
)


@pytest.fixture
def sounds(dymn: Any, record: Record) -> str:
    """A folder of tones, four recordings of half a second in each of three classes, and a tiny model."""
    for label, band in BANDS.items():
        for n in range(4):
            record(f"sounds/{label}/{n}.wav", (band + n, 0.5))
    config = ModelConfig("mn", width=0.1, n_classes=5)
    network = build(config, generator=torch.Generator().manual_seed(0))
    tensors = {k: v.numpy() for k, v in network.state_dict().items() if not k.endswith("tracked")}
    names = Vocabulary.from_names([f"object {n}" for n in range(5)])
    header = ModelHeader("tiny", config, FrontEndConfig(), names, "embeddings")
    save_weights(dymn.cwd / "tiny.safetensors", header, tensors)
    dymn.env["OMP_WAIT_POLICY"] = "PASSIVE"
    return "sounds"


@pytest.fixture
def home(fake: Fake, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a run in this process keeps decoded audio."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("DYMN_HOME", str(folder))
    return folder


def results(folder: Path) -> list[bytes]:
    return [(folder / f"my.{end}").read_bytes() for end in ("safetensors", "thresholds.csv", "log.json")]


def test_a_folder_becomes_a_model_like_any_other(fake: Fake, home: Path, dymn: Any, sounds: str) -> None:
    ran = fake("finetune", sounds, "-o", "my.safetensors", *TINY, "--folds", 2, "--header")
    assert ran.returncode == 0, ran.err
    assert ran.rows[0][:4] == ["label", "mid", "n_positive", "average_precision"]
    assert [row[0] for row in ran.rows[1:]] == ["high", "low", "mid"]
    said = ran.err.splitlines()
    assert said[:4] == [
        "dymn: sounds: 12 recordings, 3 classes, one label a recording",
        "dymn: 3 trainings: 2 folds with about the same share of each class (seed 0), then all",
        "dymn: tiny, end to end: 2 epochs in batches of 4, 0.5 s of a recording, peak rate 0.0001;"
        " 12 steps on cpu",
        "dymn: checkpoint and log: my.safetensors.train",
    ]
    assert any(line.startswith("dymn: fold 1/2: 6 recordings held out: loss ") for line in said)
    assert said[-1] == "dymn: my.safetensors: 3 classes; dymn tag -m my.safetensors clip.wav"

    tagged = dymn("tag", "-m", "my.safetensors", f"{sounds}/low/0.wav", "-k", 0)
    assert {row[5] for row in tagged.rows} == set(BANDS)
    assert fake("export", "my.safetensors", "-o", "my.onnx").returncode == 0
    log = json.loads((dymn.cwd / "my.log.json").read_text())
    assert log["schema"] == "dymn.finetune/1"
    assert log["training"]["recipe"] == "end to end"
    assert log["training"]["settings"]["epochs"] == 2
    assert [len(one["history"]) for one in log["training"]["trainings"] if "history" in one] == [2, 2]
    text = (dymn.cwd / "my.safetensors.train/log.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert {line["schema"] for line in lines} == {"dymn.log/1"}
    assert [line["step"] for line in lines if "held_out" not in line] == [1, 2, 3, 1, 2, 3, 1, 2, 3, 4, 5, 6]
    assert {"loss", "map", "accuracy"} == set(next(line for line in lines if "held_out" in line)["held_out"])
    left = {path.name for path in (dymn.cwd / "my.safetensors.train").iterdir()} - {".lock"}
    assert left == {"log.jsonl"}


@pytest.mark.process
def test_a_killed_run_ends_with_the_same_bytes(fake: Fake, home: Path, dymn: Any, sounds: str) -> None:
    command = ("finetune", sounds, *TINY, "--epochs", 6, "--folds", 2, "--checkpoint-every", 0, "-o")
    (dymn.cwd / "whole").mkdir()
    assert fake(*command, "whole/my.safetensors", "-q").returncode == 0
    checkpoint = dymn.cwd / "my.safetensors.train/checkpoint.safetensors"
    err, written = b"", 0
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        process = dymn.start(*command, "my.safetensors")
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns > written:
                break
            time.sleep(0.01)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        assert not (dymn.cwd / "my.safetensors").exists()
        written = checkpoint.stat().st_mtime_ns
    assert b"the checkpoint is written; run the same command to continue" in err
    assert err.endswith(b"dymn: interrupted\n")

    refused = fake(*command, "my.safetensors", "--rate", 0.002)
    assert refused.returncode == 5
    assert refused.err.splitlines()[-1] == (
        "dymn: error: my.safetensors.train holds a run that differs in recipe; "
        "--no-resume starts over, --work DIR trains elsewhere"
    )
    again = fake(*command, "my.safetensors")
    assert again.returncode == 0, again.err
    assert "dymn: going on at " in again.err
    assert results(dymn.cwd) == results(dymn.cwd / "whole")


@pytest.mark.parametrize("way", ["--head-only", "--epochs=2"])
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere"], 3, "nowhere: no such file or directory"),
        (["sounds/low"], 3, "no class in this folder"),
        (["one"], 3, "only the class 'low', where two or more are needed"),
        (["empty.csv"], 3, "empty.csv"),
        (["gone.csv"], 3, "3 of 3 recordings are missing, the first is x.wav"),
        (["nan.csv", "--audio", "sounds"], 3, "nan.csv"),
        (["broken"], 3, "the first: "),
        (["sounds", "--folds", 1], 2, "--folds 1: must be at least 2"),
        (["sounds", "--holdout", 2], 2, "--holdout 2: must be above 0 and at most 0.5"),
        (["sounds", "-m", "dymn40"], 2, "no model is called 'dymn40'"),
        (["sounds", "-m", "gone.safetensors"], 4, "gone.safetensors: no such file"),
    ],
)
def test_bad_data_get_the_same_sentence_both_ways(
    fake: Fake, home: Path, dymn: Any, sounds: str, way: str, arguments: list[Any], code: int, said: str
) -> None:
    (dymn.cwd / "one").mkdir()
    (dymn.cwd / "one/low").symlink_to(dymn.cwd / sounds / "low")
    for label in ("a", "b"):
        (dymn.cwd / f"broken/{label}").mkdir(parents=True)
        for name in ("x", "y"):
            (dymn.cwd / f"broken/{label}/{name}.wav").write_bytes(b"RIFF")
    (dymn.cwd / "empty.csv").touch()
    (dymn.cwd / "gone.csv").write_text("file,label\nx.wav,a\ny.wav,b\nz.wav,a\n")
    (dymn.cwd / "nan.csv").write_text("file,label\nlow/0.wav,low\nmid/0.wav,nan\nhigh/0.wav,\n")
    ran = fake("finetune", *arguments, "-o", "my.safetensors", way, "-q")
    assert (ran.returncode, ran.stdout) == (code, b""), ran.err
    assert said in ran.err.splitlines()[-1]
    assert not (dymn.cwd / "my.safetensors").exists()


def test_a_recipe_is_shown_and_read_from_a_file(fake: Fake, home: Path, dymn: Any) -> None:
    shown = fake("finetune", "--dataset", "esc50", "--show-recipe")
    assert (shown.returncode, shown.err) == (0, "")
    assert "rate = 4e-05 " in shown.out
    (dymn.cwd / "mine.toml").write_text(shown.out.replace("epochs = 80 ", "epochs = 3 "))
    former = ("--random-head", "--no-mixup", "--spec-augment", "--window", 2, "--batch", 64, "--rate", 4e-5)
    settings = ("spec_augment=true", "window_s=2", "mixup=0", "mix_waves=0")
    changes = [word for setting in settings for word in ("--set", setting)]
    mine = fake("finetune", "--recipe", "mine.toml", *changes, "--show-recipe")
    assert mine.out == fake("finetune", *former, "--epochs", 3, "--show-recipe").out
    assert fake("finetune", "--show-recipe").out != mine.out


def test_data_and_output_are_asked_for(fake: Fake, home: Path, dymn: Any) -> None:
    for arguments, said in (
        ([], "no data; give a folder with a sub-folder per class, or a table of labels"),
        (["sounds"], "no output file for the model; -o my.safetensors"),
    ):
        ran = fake("finetune", *arguments)
        assert (ran.returncode, ran.err) == (2, f"dymn: error: {said}\n")


@pytest.mark.slow
def test_recordings_that_are_broken_cost_only_themselves(
    fake: Fake, home: Path, dymn: Any, sounds: str
) -> None:
    (dymn.cwd / sounds / "low/broken.wav").write_bytes(b"RIFF")
    ran = fake("finetune", sounds, "-o", "my.safetensors", *TINY, "--holdout", 0.5)
    assert ran.returncode == 6
    assert "dymn: failed: sounds/low/broken.wav: " in ran.err
    assert ran.err.splitlines()[-1] == "dymn: error: 1 of 13 recordings could not be used"
    assert (dymn.cwd / "my.safetensors").is_file()


@pytest.mark.slow
def test_partial_and_several_labels(fake: Fake, home: Path, dymn: Any, sounds: str) -> None:
    splits = ("train", "train", "val", "test")
    lines = [
        f"{sounds}/{label}/{n}.wav,{label}{';odd' if n % 2 else ''},{split}"
        for label in BANDS
        for n, split in enumerate(splits)
    ]
    (dymn.cwd / "t.csv").write_text("\n".join(["file,label,split", *lines, ""]))
    ran = fake("finetune", "t.csv", "-o", "t.safetensors", *TINY, "--patience", 1, "-f", "json")
    assert ran.returncode == 0, ran.err
    assert "several labels a recording (multi-label)" in ran.err
    document = json.loads(ran.out)
    (training,) = document["training"]["trainings"]
    assert training["n_learned"] == 6  # not val, which says when to end, and not test
    assert document["evaluation"]["n_clips"] == 3
    assert document["evaluation"]["confusion"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--head-only", "--epochs", 3], 2, "--epochs is about end-to-end training; not with --head-only"),
        (["--head-only", "--no-mixup"], 2, "--mixup is about end-to-end training"),
        (["--penalty", 1], 2, "--penalty is about the last layer alone; add --head-only"),
        (["--epochs", 0], 2, "recipe: epochs 0 is not at least 1"),
        (["--batch", 1], 2, "recipe: batch 1 is not at least 2"),
        (["--rate", "nan"], 2, "rate nan is not more than 0"),
        (["--window", 99], 2, "window_s 99 is not at most 60"),
        (["--set", "patience=-1"], 2, "patience -1 is not at least 0"),
        (["--set", "epoch=3"], 2, "there is no setting 'epoch'; nearest: epochs"),
        (["--head-only", "--set", "epochs=3"], 2, "--set is about end-to-end training"),
        (["--head-only", "--threads", 1], 2, "--threads is about end-to-end training"),
        (["--recipe", "gone.toml"], 3, "gone.toml: no such file"),
        (["--threads", 0], 2, "--threads 0: at least 1"),
        (["--checkpoint-every", -1], 2, "--checkpoint-every -1: at least 0"),
        (["--device", "gpu7"], 2, "no device 'gpu7'"),
        (["--work", "tiny.safetensors"], 5, "tiny.safetensors: file exists"),
    ],
)
def test_options_that_make_no_sense(
    fake: Fake, home: Path, dymn: Any, sounds: str, arguments: list[Any], code: int, said: str
) -> None:
    ran = fake("finetune", sounds, "-o", "my.safetensors", "-m", "tiny.safetensors", *arguments, "-q")
    assert (ran.returncode, ran.stdout) == (code, b"")
    assert said in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.slow
def test_without_pytorch_only_the_last_layer_is_trained(dymn: Any, sounds: str) -> None:
    code = (
        "import sys\nfor name in ('torch', 'torchaudio', 'sklearn'): sys.modules[name] = None\n"
        "from dymn_cli.cli.app import run\n"
        "assert run('finetune sounds -o my.safetensors --epochs 3'.split()) == 4\n"
        "assert run('finetune sounds -o my.safetensors'.split()) == 0"
    )
    ran = dymn.python(code)
    assert ran.returncode == 0, ran.err
    first, second, *_ = ran.err.splitlines()
    assert first.startswith("dymn: error: --epochs: PyTorch cannot be loaded: ")
    assert first.endswith("; pip install 'dymn[train]', or --head-only")
    assert second.endswith("; only the last layer is trained, pip install 'dymn[train]' for more")
    assert json.loads((dymn.cwd / "my.log.json").read_text())["training"]["recipe"] == "linear head"


@pytest.mark.slow
def test_what_was_decoded_is_used_again(fake: Fake, home: Path, dymn: Any, sounds: str) -> None:
    command = ("finetune", sounds, *TINY, "--holdout", 0.5, "--cache", "decoded", "-o", "my.safetensors")
    assert fake(*command).returncode == 0
    entries = {path: path.stat().st_ino for path in (dymn.cwd / "decoded").rglob("*.clips")}
    assert len(entries) == len(list((dymn.cwd / sounds).rglob("*.wav")))
    shutil.copytree(dymn.cwd, dymn.cwd.parent / "before")
    again = fake(*command, "--force")
    assert again.returncode == 0, again.err
    assert {path: path.stat().st_ino for path in (dymn.cwd / "decoded").rglob("*.clips")} == entries
    assert results(dymn.cwd) == results(dymn.cwd.parent / "before")


@pytest.mark.slow
def test_it_says_beforehand_how_long_it_takes_and_then_which_epoch_it_is(dymn: Any, sounds: str) -> None:
    long = ("--epochs", 30, "--holdout", 0.5)  # a bar appears after a second
    ran = dymn.terminal("finetune", sounds, "-o", "my.safetensors", *TINY, *long, columns=100)
    assert ran.returncode == 0, ran.err
    assert re.search(r"about [\d.]+ (s|min) to go; --head-only would take about [\d.]+ (s|min)", ran.err)
    assert re.search(r"epoch \d+ of 30, loss [\d.]+.*clips/s", ran.err)
    assert "mean average precision" in ran.out


@pytest.mark.slow
def test_a_default_device_that_trains_nothing_leaves_the_cpu(
    fake: Fake, home: Path, sounds: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYMN_DEVICE", "coreml")
    ran = fake("finetune", sounds, *TINY, "--epochs", 1, "-o", "my.safetensors")
    assert ran.returncode == 0, ran.err
    assert "DYMN_DEVICE=coreml cannot train" in ran.err
    monkeypatch.delenv("DYMN_DEVICE")
    refused = fake("finetune", sounds, *TINY, "-o", "other.safetensors", "--device", "coreml")
    assert refused.returncode == 2
    assert "--device coreml: nothing can be trained there" in refused.err
