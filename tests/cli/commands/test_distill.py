"""`dymn distill` as it is typed, on a world so small that it takes seconds."""

from __future__ import annotations

import importlib.util
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

pytest.importorskip("torch")

from dymn_cli.cli.app import run
from dymn_cli.store.identity import identify

TINY = '{"family": "dymn", "width": 0.1, "n_classes": 12}'


@pytest.fixture(scope="module")
def teaching() -> ModuleType:
    path = Path(__file__).parents[2] / "train" / "teaching.py"
    spec = importlib.util.spec_from_file_location("teaching_for_cli", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def world(teaching: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings in `data` and a teacher."""
    place = tmp_path_factory.mktemp("distill")
    teaching.write_recordings(place / "data", groups=4, each=2, seconds=0.6)
    teaching.write_teacher(place / "teacher.safetensors")
    return place


@pytest.fixture
def arguments(world: Path, tmp_path: Path) -> list[str]:
    """A whole command but for the output and the length."""
    return [
        *("distill", str(world / "data"), "--teacher", str(world / "teacher.safetensors")),
        *(
            "--student",
            TINY,
            "--recipe",
            "paper",
            "--batch",
            "2",
            "--window",
            "0.5",
            "--holdout",
            "0.3",
            "--threads",
            "1",
        ),
        *("--cache", str(world / "cache"), "--measure", "1"),
    ]


def test_the_reference_is_the_teacher_at_the_level_that_it_teaches_at(
    world: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def kl_of_teacher(*options: str) -> float:
        teacher = str(world / "teacher.safetensors")
        command = ["distill", str(world / "data"), "--teacher", teacher, "--evaluate", teacher]
        command += ["--holdout", "0.3", "--threads", "1", "--cache", str(world / "cache"), "-f", "json"]
        assert run([*command, *options]) == 0
        return json.loads(capfd.readouterr().out)["models"][0]["kl"]

    assert kl_of_teacher("--set", "mixes.teacher_level_db=0") == pytest.approx(0, abs=1e-6)
    assert kl_of_teacher() > 1e-5
    assert kl_of_teacher("--set", "mixes.teacher_level_db=-60") > 1e-3


def test_a_student_is_trained_measured_and_tags(
    arguments: list[str], world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "student.safetensors"
    compare = ["--compare", str(world / "teacher.safetensors")]
    assert run([*arguments, *compare, "-o", str(out), "--steps", "2", "-f", "json"]) == 0
    printed = capfd.readouterr()
    document = json.loads(printed.out)
    assert document["schema"] == "dymn.agreement/1"
    student, teacher = document["models"]
    assert student["model"] == "student"
    assert teacher["kl"] == pytest.approx(0, abs=1e-6)
    assert (teacher["top1"], teacher["top5"]) == (1.0, 1.0)
    assert teacher["rank"] == pytest.approx(1.0)
    assert "held out: KL" in printed.err
    work = tmp_path / "student.safetensors.train"
    assert json.loads((work / "split.json").read_text())["held_out"] == document["held_out"]
    assert not (work / "skipped.csv").exists()
    assert run(["tag", "-m", str(out), str(world / "data" / "source0" / "take0.wav"), "-k", "2"]) == 0
    assert len(capfd.readouterr().out.splitlines()) == 2

    again = [*arguments[:-2], "--evaluate", str(out), "--split", str(work / "split.json")]
    assert run(again) == 0
    ((name, *figures),) = [line.split("\t") for line in capfd.readouterr().out.splitlines()]
    assert name == str(out)
    assert float(figures[1]) == pytest.approx(student["kl"], abs=1e-4)


@pytest.mark.process
def test_a_run_that_is_killed_goes_on_to_the_same_result(
    dymn: Any, arguments: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    length = ["--steps", "30", "--checkpoint-every", "0"]
    assert run([*arguments, *length, "-o", str(tmp_path / "whole.safetensors")]) == 0

    process = dymn.start(*arguments, *length, "-o", tmp_path / "part.safetensors")
    log = tmp_path / "part.safetensors.train" / "log.jsonl"
    wait_for(lambda: log.exists() and log.read_text().count("\n") > 3)
    process.kill()
    process.communicate()
    assert not (tmp_path / "part.safetensors").exists()

    process = dymn.start(*arguments, *length, "-o", tmp_path / "part.safetensors")
    wait_for(lambda: log.read_text().count("\n") > 12)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert b"run the same command to continue" in err

    capfd.readouterr()
    assert run([*arguments, *length, "-o", str(tmp_path / "part.safetensors")]) == 0
    assert "going on at end-to-end, step" in capfd.readouterr().err
    # Its name is in the file; apart from it the two are the same bytes.
    one, other = ((tmp_path / f"{name}.safetensors").read_bytes() for name in ("whole", "part"))
    assert tensors(one) == tensors(other)


def tensors(data: bytes) -> bytes:
    return data[8 + int.from_bytes(data[:8], "little") :]


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("it did not come")


def test_what_is_there_is_not_overwritten(arguments: list[str], tmp_path: Path, capfd: Any) -> None:
    out = tmp_path / "student.safetensors"
    out.write_bytes(b"precious")
    assert run([*arguments, "-o", str(out), "--steps", "1"]) == 5
    assert "the file exists; --force replaces it" in capfd.readouterr().err
    assert out.read_bytes() == b"precious"


@pytest.mark.slow
def test_damaged_recordings_are_listed(
    arguments: list[str], world: Path, tmp_path: Path, teaching: ModuleType, capfd: Any
) -> None:
    data = teaching.write_recordings(tmp_path / "data", groups=2, each=1, seconds=0.6)
    (data / "source0" / "broken.wav").write_bytes(b"RIFF")
    arguments[1] = str(data)
    out = tmp_path / "student.safetensors"
    assert run([*arguments, "-o", str(out), "--steps", "1"]) == 0
    assert "1 recording cannot be used; the first: source0/broken.wav" in capfd.readouterr().err
    lines = (tmp_path / "student.safetensors.train" / "skipped.csv").read_text().splitlines()
    assert lines[0] == "recording,reason"
    assert lines[1].startswith("source0/broken.wav,")


@pytest.mark.slow
def test_a_settled_run_goes_on_from_a_student_and_leaves_its_running_statistics(
    arguments: list[str], tmp_path: Path
) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    assert run([*arguments, "-o", str(first), "--steps", "2"]) == 0
    assert run([*arguments, "-o", str(second), "--steps", "2", "--init", str(first), "--settled", "1"]) == 0
    before, after = load_file(first), load_file(second)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert not any("running" in name for name in changed)
    assert "classifier.5.weight" in changed


@pytest.mark.slow
def test_a_student_learns_frames_for_some_seconds_and_goes_on_later(
    arguments: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    small = [*arguments, "--recipe", "small", "--batch", "4", "--holdout", "source1,source3"]
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    assert run([*small, "-o", str(first), "--hours", "0.0002", "-f", "json"]) == 0
    printed = capfd.readouterr()
    assert json.loads(printed.out)["held_out"] == ["source1", "source3"]
    assert "blockwise: " in printed.err
    assert "frames" in printed.err
    before = load_file(first)
    assert "strong_head.2.weight" in before
    held_out = (first.parent / "first.safetensors.train" / "student.safetensors").read_bytes()
    assert tensors(held_out) == tensors(first.read_bytes())

    assert run([*small, "-o", str(second), "--init", str(first), "--steps", "2"]) == 0
    after = load_file(second)
    assert set(after) == set(before)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert not any("running" in name for name in changed)
    assert {"strong_head.0.weight", "in_c.1.weight"} < changed

    third = tmp_path / "third.safetensors"
    assert run([*small, "-o", str(third), "--init", str(first), "--steps", "1", "--frame-weight", "0"]) == 0
    assert set(before) - set(load_file(third)) == {
        f"strong_head.{layer}.{name}" for layer in (0, 2) for name in ("weight", "bias")
    }


@pytest.mark.parametrize(
    ("changed", "code", "words"),
    [
        (["-o", "s.safetensors", "--steps", "x"], 2, "--steps 'x' is not a number"),
        (["-o", "s.safetensors", "--steps", "1", "--hours", "1"], 2, "both set the length"),
        (["-o", "s.safetensors", "--steps", "1,2,3"], 2, "steps for 3 stages"),
        (["-o", "s.pt", "--steps", "1"], 2, "a student is a .safetensors file"),
        (["--steps", "1"], 2, "no output file for the student"),
        (["-o", "s.safetensors", "--recipe", "large"], 2, "no recipe 'large'; small, small-further, paper"),
        (["-o", "s.safetensors", "--student", "dymn4"], 2, "no architecture 'dymn4'; nearest: dymn04"),
        (["-o", "s.safetensors", "--student", '{"widht": 1}'], 2, "unknown field widht"),
        (["-o", "s.safetensors", "--student", "none.json"], 3, "none.json: no such file"),
        (["-o", "s.safetensors", "--manifest", "m.csv"], 2, "m.csv: no column of groups"),
        (["-o", "s.safetensors", "--holdout", "1.5"], 2, "cannot hold out a share of 1.5"),
        (["-o", "s.safetensors", "--holdout", "source1,sauce2"], 2, "no group 'sauce2' to hold out"),
        (["-o", "s.safetensors", "--holdout", ","], 2, "neither a share nor names of groups"),
        (["-o", "s.safetensors", "--frame-weight", "1"], 2, "frame_weight needs [mixes]"),
        (["-o", "s.safetensors", "--frame-weight", "-1"], 2, "frame_weight -1 is not at least 0"),
        (["-o", "s.safetensors", "--compare", "dymn05"], 2, "no model is called 'dymn05'"),
        (["-o", "s.safetensors", "--batch", "1"], 2, "batch 1 is not at least 2"),
        (["-o", "s.safetensors", "--label-share", "2"], 2, "label_weight 2 is not at most 1"),
        (["-o", "s.safetensors", "--blockwise", "1"], 2, "not a share"),
        (["-o", "s.safetensors", "--rate", "-1"], 2, "rate -1 is not at least 0"),
        (["-o", "s.safetensors", "--settled", "2"], 2, "frozen_norm_share 2 is not at most 1"),
        (["-o", "s.safetensors", "--epochs", "0"], 2, "epochs 0: exactly one must be more than 0"),
        (["-o", "s.safetensors", "--measure", "0"], 2, "measurements 0 is not at least 1"),
        (["-o", "s.safetensors", "--blockwise", "0.5"], 2, "recipe paper does not train block by block"),
        (["-o", "s.safetensors", "--set", "bacth=8"], 2, "there is no setting 'bacth'; nearest: batch"),
        (["-o", "s.safetensors", "--set", "batch"], 2, "--set 'batch' is not KEY=VALUE"),
        (["-o", "s.safetensors", "--set", "batch=x"], 2, "stages.1: batch 'x' is not a whole number"),
        (["-o", "s.safetensors", "--recipe", "none.toml"], 3, "none.toml: no such file"),
        (["-o", "s.safetensors", "--threads", "0"], 2, "--threads 0: at least 1"),
        (["-o", "s.safetensors", "--checkpoint-every", "nan"], 2, "--checkpoint-every nan: at least 0"),
        (["-o", "s.safetensors", "--device", "cuda:77"], 4, "PyTorch has no device 'cuda:77'"),
        (["-o", "s.safetensors", "--device", "coreml"], 2, "--device coreml: nothing can be trained there"),
        (["-o", "s.safetensors", "--device", "gpu"], 2, "no device 'gpu'"),
        (["-o", "s.safetensors", "--split", "none.json"], 3, "none.json: no such file"),
        (["--evaluate", "none.safetensors"], 4, "none.safetensors: no such file"),
        (["--evaluate", "dymn04_kd"], 2, "dymn04_kd has other classes than the teachers"),
        (["-o", "s.safetensors", "--compare", "dymn04_kd"], 2, "has other classes than the teachers"),
    ],
)
def test_mistakes_get_a_sentence(
    arguments: list[str],
    changed: list[str],
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*arguments, *changed]) == code
    err = capfd.readouterr().err
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [([], 2, "no data"), (["nowhere"], 3, "nowhere: no such file"), (["empty"], 3, "no audio files")],
)
def test_data_that_is_not_there(
    arguments: list[str], data: list[str], code: int, words: str, tmp_path: Path, capfd: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert run([arguments[0], *data, *arguments[2:], "-o", "s.safetensors", "--steps", "1"]) == code
    assert words in capfd.readouterr().err


def shown(arguments: list[str], capfd: Any) -> str:
    assert run(["distill", *arguments, "--show-recipe"]) == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    return printed.out


def test_a_recipe_is_shown_saved_edited_and_used(
    arguments: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(shown(["--recipe", "paper"], capfd))
    assert shown(["--recipe", str(mine)], capfd) == mine.read_text()
    changes = {
        "batch = 120": "batch = 2",
        "window_s = 10.0": "window_s = 0.5",
        "measurements = 10": "measurements = 1",
    }
    text = mine.read_text()
    for old, new in changes.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    mine.write_text(text)
    options = ["--recipe", "paper", "--set", "batch=2", "--set", "window_s=0.5", "--set", "measurements=1"]
    assert shown(["--recipe", str(mine)], capfd) == shown(options, capfd)
    former = ["--recipe", "paper", "--batch", "2", "--window", "0.5", "--measure", "1"]
    assert shown(["--recipe", str(mine)], capfd) == shown(former, capfd)

    begin = arguments[: arguments.index("--recipe")]
    end = arguments[arguments.index("--holdout") : arguments.index("--measure")]
    out = tmp_path / "student.safetensors"
    assert run([*begin, "--recipe", str(mine), *end, "-o", str(out), "--steps", "1"]) == 0
    recipe = json.loads((tmp_path / "student.safetensors.train" / "run.json").read_text())["recipe"]
    assert (recipe["mixup"], recipe["stages"][0]["batch"], recipe["stages"][0]["rate"]) == (0.3, 2, 2e-3)
    other = [*begin, *options, "--set", "batch=4", *end, "-o", str(out), "--steps", "1", "--force"]
    assert run(other) == 5
    assert "holds a run that differs in recipe" in capfd.readouterr().err


def test_a_trained_student_has_a_recipe_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    small, further = shown([], capfd), shown(["--init", "dymn04_kd"], capfd)
    assert small == shown(["--recipe", "small"], capfd) != further
    assert further == shown(["--recipe", "small-further"], capfd)
    assert "blockwise" in small
    assert 'mode = "blockwise"' not in further


@pytest.mark.parametrize(
    ("former", "settings"),
    [
        (["--rate", "1e-3"], ["stages.2.rate=1e-3"]),
        (["--hints", "0.2"], ["stages.2.hint_weight=0.2"]),
        (["--settled", "1"], ["stages.2.frozen_norm_share=1"]),
        (["--frame-weight", "0"], ["frame_weight=0"]),
        (["--label-share", "0"], ["label_weight=0"]),
        (["--blockwise", "0.4"], ["stages.1.share=0.4", "stages.2.share=0.6"]),
        (["--blockwise", "0"], ["stages.1.share=0", "stages.2.share=1"]),
        (["--epochs", "3", "--clips-per-epoch", "50"], ["hours=0", "epochs=3", "clips_per_epoch=50"]),
        (["--clips-per-epoch", "50"], ["hours=0", "epochs=200", "clips_per_epoch=50"]),
    ],
)
def test_former_options_change_the_recipe(former: list[str], settings: list[str], capfd: Any) -> None:
    changes = [word for setting in settings for word in ("--set", setting)]
    assert shown(former, capfd) == shown(changes, capfd) != shown([], capfd)


def test_the_hash_that_is_told_is_that_of_the_file(
    arguments: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "student.safetensors"
    assert run([*arguments, "-o", str(out), "--steps", "1", "--holdout", "0"]) == 0
    printed = capfd.readouterr()
    assert f"SHA-256 {identify(out).sha256[:12]}" in printed.err
    assert printed.out == ""  # nothing is held out, so nothing is measured


@pytest.mark.parametrize("device", ["coreml", pytest.param("openvino:GPU", marks=pytest.mark.slow), "auto"])
def test_a_default_device_that_trains_nothing_leaves_the_cpu(
    device: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: Any
) -> None:
    monkeypatch.setenv("DYMN_DEVICE", device)
    out = tmp_path / "s.safetensors"
    assert run([*arguments, "-o", str(out), "--steps", "2"]) == 0
    assert out.is_file()
    assert ("cannot train" in capfd.readouterr().err) == (device != "auto")
    assert json.loads((tmp_path / "s.safetensors.train" / "run.json").read_text())["device"] == "cpu"


def test_auto_is_the_cpu_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from dymn_cli.cli.terminal.messages import Messages
    from dymn_cli.cli.training_run.session import training_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert training_device("auto", Messages()) == torch.device("cpu")
