"""`dymn models`: list, path and verify; test_pull.py and test_own_models.py have the rest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dymn_cli.cli.app import run
from dymn_cli.store import registry
from dymn_cli.store.identity import identify
from dymn_cli.store.registry import DEFAULT_MODEL, model_spec
from dymn_cli.store.weights import read_weights, save_weights


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty store."""
    monkeypatch.setenv("DYMN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def other_weights(tmp_path, monkeypatch):
    """A folder of weights that may be spoiled, in place of the real one; returns the default model's file."""
    real, folder = registry.weights_folder(), tmp_path / "weights"
    folder.mkdir()
    for name in ("models.toml", model_spec(DEFAULT_MODEL).file):
        shutil.copy(real / name, folder / name)
    monkeypatch.setattr(registry, "weights_folder", lambda: folder)
    registry.model_specs.cache_clear()
    yield folder / model_spec(DEFAULT_MODEL).file
    registry.model_specs.cache_clear()


def rows(capsysbinary) -> list[list[str]]:
    return [line.split("\t") for line in capsysbinary.readouterr().out.decode().splitlines()]


def test_list_in_a_pipe_has_whole_numbers(dymn):
    ran = dymn("models", "list", "--header")
    assert ran.returncode == 0
    header, *models = ran.rows
    assert header == [
        "name",
        "state",
        "size_bytes",
        "parameters",
        "macs",
        "embedding_size",
        "licence",
        "summary",
        "origin",
        "map",
        "map_source",
        "purpose",
        "download_bytes",
        "psds1",
    ]
    assert all(len(row) == len(header) for row in models)
    (default,) = [row for row in models if row[0] == DEFAULT_MODEL]
    assert default[1] == "ready"
    assert int(default[2]) == model_spec(DEFAULT_MODEL).path.stat().st_size
    assert [int(cell) for cell in default[3:6]] == [2_428_710, 132_358_528, 384]
    assert default[8:] == ["bundled", "", "", "tags", "", ""]
    (published,) = [row for row in models if row[0] == "mn10_as"]
    assert published[1:4] == ["available", "", "4876831"]
    assert published[8:] == ["published", "47.1", "file name", "tags", "19708753", ""]
    (frames,) = [row for row in models if row[0] == "fmn10_strong"]
    assert frames[8:] == ["published", "", "", "tags", "15538778", "42.28"]


def test_list_as_json(in_process):
    document = json.loads(in_process("models", "list", "-f", "json").stdout)
    assert document["schema"] == "dymn.models/1"
    (default,) = [model for model in document["models"] if model["default"]]
    assert default["name"] == DEFAULT_MODEL
    assert default["sha256"] == identify(model_spec(DEFAULT_MODEL).path).sha256
    assert default["download"] is None
    (published,) = [model for model in document["models"] if model["name"] == "dymn20_as"]
    assert (published["state"], published["sha256"], published["size_bytes"]) == ("available", None, None)
    assert [figure["mAP"] for figure in published["figures"]] == [49.0, 49.1, 49.3]
    assert [figure["source"] for figure in published["figures"]] == ["paper", "README", "file name"]
    assert published["download"]["url"].endswith("/v0.0.1/dymn20_as_mAP_493.pt")
    (frames,) = [model for model in document["models"] if model["name"] == "fmn10_strong"]
    assert frames["figures"] == [{"PSDS1": 42.28, "source": "README"}]
    assert frames["n_classes"] == 447
    assert frames["download"]["url"].startswith("https://github.com/theMoro/EfficientSED/releases/")
    (hop,) = [model for model in document["models"] if model["name"] == "mn10_as_hop_15"]
    assert (hop["hop_ms"], hop["n_mels"]) == (15, 128)


def test_list_on_a_terminal_fits_80_columns(dymn):
    ran = dymn.terminal("models", "list", columns=80, env={"NO_COLOR": "1"})
    heading, model, published = ran.out.splitlines()[:3]
    assert heading.split() == ["name", "state", "size", "params", "MACs", "mAP", "licence"]
    assert model.split() == [DEFAULT_MODEL, "bundled", "9.8", "MB", "2.43", "M", "132", "M", "MIT"]
    assert published.split()[:4] == ["dymn04_as", "available", "~7.8", "MB"]
    assert published.split()[-3:] == ["45.0", "paper", "MIT"]
    assert "dymn04_kd is the default" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    (frames,) = [line.split() for line in ran.out.splitlines() if line.startswith("fmn04_strong")]
    assert frames[-3:] == ["39.5", "PSDS1", "MIT"]
    assert len(ran.out.splitlines()) == 1 + len(registry.model_specs()) + 3


@pytest.mark.parametrize("columns", [40, 60])
def test_list_on_a_narrow_terminal_has_names_above_figures(dymn, columns):
    lines = dymn.terminal("models", "list", columns=columns, env={"NO_COLOR": "1"}).out.splitlines()
    headings, models = lines[:2], lines[2 : 2 + 2 * len(registry.model_specs())]
    assert [line.split() for line in headings] == [
        ["name", "state"],
        ["size", "params", "MACs", "mAP", "licence"],
    ]
    assert models[0].split() == [DEFAULT_MODEL, "bundled"]
    assert models[1].split() == ["9.8", "MB", "2.43", "M", "132", "M", "MIT"]
    assert [line.split()[0] for line in models[::2]] == [spec.name for spec in registry.model_specs()]
    assert all(line.count(" M ") == 2 for line in models[1::2])


@pytest.mark.parametrize(("spoil", "state"), [("remove", "missing"), ("shorten", "damaged")])
def test_list_says_what_is_missing_or_damaged(other_weights, capsysbinary, spoil, state):
    if spoil == "remove":
        other_weights.unlink()
    else:
        other_weights.write_bytes(other_weights.read_bytes()[:-1])
    assert run(["models", "list"]) == 0
    assert rows(capsysbinary)[0][:2] == [DEFAULT_MODEL, state]


def test_path_is_that_of_a_file_which_is_the_model(in_process):
    ran = in_process("models", "path", DEFAULT_MODEL)
    assert ran.returncode == 0
    path = Path(ran.out.removesuffix("\n"))
    assert path.is_absolute()
    assert read_weights(path).header.name == DEFAULT_MODEL


def test_path_of_an_unknown_model_names_the_nearest(in_process):
    ran = in_process("models", "path", "dymn4_kd")
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert f"nearest: {DEFAULT_MODEL}" in ran.err


def test_path_of_a_model_that_was_not_pulled_says_how_to_get_it(in_process):
    ran = in_process("models", "path", "dymn10_as")
    assert (ran.returncode, ran.stdout) == (4, b"")
    assert ran.err == "dymn: error: dymn10_as is not on this machine yet; dymn models pull dymn10_as\n"


def test_path_of_missing_weights_is_exit_code_4(other_weights, capsysbinary):
    other_weights.unlink()
    assert run(["models", "path", DEFAULT_MODEL]) == 4


def test_verify_finds_the_shipped_models_sound(in_process):
    ran = in_process("models", "verify")
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert [row[:2] for row in ran.rows] == [[DEFAULT_MODEL, "ok"]]  # of published ones none has been pulled
    assert identify(model_spec(DEFAULT_MODEL).path).sha256[:12] in ran.rows[0][2]


def test_verify_asks_pytorch_too_where_it_is_installed(capsysbinary):
    pytest.importorskip("torch")
    assert run(["models", "verify", DEFAULT_MODEL, "-f", "json"]) == 0
    document = json.loads(capsysbinary.readouterr().out)
    assert document["schema"] == "dymn.verification/1"
    (verdict,) = document["models"]
    assert verdict["state"] == "ok"
    assert 0 < verdict["difference"] < 1e-4  # zero would mean that one runtime was asked twice


def test_verify_works_without_pytorch_and_says_so(without_torch, capsysbinary):
    assert run(["models", "verify", "--header"]) == 0
    header, first, *_ = rows(capsysbinary)
    assert header == ["name", "state", "detail"]
    assert first[1] == "ok"
    assert "PyTorch is not installed" in first[2]


def test_verify_fails_on_one_changed_byte(other_weights, without_torch, capsysbinary):
    data = bytearray(other_weights.read_bytes())
    data[-1] ^= 1
    other_weights.write_bytes(data)
    assert run(["models", "verify"]) == 1
    name, state, detail = rows(capsysbinary)[0]
    assert (name, state) == (DEFAULT_MODEL, "failed")
    assert "SHA-256" in detail


def test_verify_of_missing_weights_is_exit_code_4(other_weights, capsysbinary):
    other_weights.unlink()
    assert run(["models", "verify"]) == 4
    assert rows(capsysbinary)[0][:2] == [DEFAULT_MODEL, "missing"]


def test_verify_goes_on_after_a_model_that_failed(other_weights, without_torch, capsysbinary, tmp_path):
    bad = tmp_path / "text.safetensors"
    bad.write_text("no model\n")
    assert run(["models", "verify", str(bad), DEFAULT_MODEL, str(tmp_path / "gone.safetensors")]) == 1
    assert [row[1] for row in rows(capsysbinary)] == ["failed", "ok", "missing"]


def test_verify_finds_values_that_are_not_finite(tmp_path, without_torch, capsysbinary):
    weights = read_weights(model_spec(DEFAULT_MODEL))
    tensors = {key: np.array(value) for key, value in weights.tensors.items()}
    tensors["classifier.5.bias"][3] = np.nan
    path = tmp_path / "nan.safetensors"
    save_weights(path, weights.header, tensors)
    assert run(["models", "verify", str(path)]) == 1
    assert "not finite" in rows(capsysbinary)[0][2]


def test_verify_of_an_unknown_name_checks_nothing(in_process):
    ran = in_process("models", "verify", DEFAULT_MODEL, "nope")
    assert (ran.returncode, ran.stdout) == (2, b"")


def test_verify_as_a_table_folds_within_the_width(without_torch, monkeypatch, capsysbinary):
    monkeypatch.setenv("COLUMNS", "60")
    assert run(["models", "verify", "-f", "table"]) == 0
    out = capsysbinary.readouterr().out.decode()
    assert out.startswith(f"ok       {DEFAULT_MODEL}  SHA-256 ")
    assert max(map(len, out.splitlines())) <= 60


def test_the_group_explains_its_commands(in_process):
    ran = in_process("models", "-h")
    assert ran.returncode == 0
    assert "\n  dymn models list\n  dymn models pull dymn10_as\n  dymn models verify\n" in ran.out
    names = ("list", "path", "pull", "remove", "verify", "convert", "import")
    assert all(f"\n  {name} " in ran.out for name in names)
