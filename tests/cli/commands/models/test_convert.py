"""`dymn models convert` and `import`: models of one's own get a name, or a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from checkpoints import checkpoint_of, state_dict
from fuzzing.torchfile import Call, archive, described, pickled

from dymn_cli.cli.commands.models import convert as own_module
from dymn_cli.cli.options.groups import complete_model
from dymn_cli.errors import ModelError
from dymn_cli.labels import Vocabulary
from dymn_cli.model.config import ARCHITECTURES
from dymn_cli.store import local
from dymn_cli.store.registry import resolve
from dymn_cli.store.weights import read_weights

BIRDS = ("Great tit", "Blackbird, male", "Noise")
CONFIG = ARCHITECTURES["mn01"].with_classes(3)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with a checkpoint of three classes and their names; the store is empty."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "best.pt").write_bytes(checkpoint_of(CONFIG))
    (folder / "birds.txt").write_text("\n".join(BIRDS), "utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DYMN_HOME", str(tmp_path / "home"))
    return folder


CONVERT = ("convert", "best.pt", "--labels", "birds.txt")


def test_a_converted_model_has_its_name_and_its_labels(models, folder):
    code, out, err = models(*CONVERT, "--name", "my-birds")
    assert (code, out) == (0, "")
    assert err.startswith("dymn: my-birds: ready, ")
    weights = read_weights(resolve("my-birds"))
    assert weights.header.name == "my-birds"
    assert weights.header.vocabulary.names == BIRDS
    np.testing.assert_array_equal(
        weights.tensors["classifier.5.weight"], state_dict(CONFIG)["classifier.5.weight"]
    )
    (row,) = [row for row in models("list")[1].splitlines() if row.startswith("my-birds\t")]
    assert row.split("\t")[1] == "ready"
    assert row.split("\t")[8] == "own"
    assert models("verify", "my-birds")[1].startswith("my-birds\tok\t")
    assert models("path", "my-birds")[1].strip() == str(resolve("my-birds").path)


def test_it_is_used_like_any_other(models, folder, record, dymn):
    assert models(*CONVERT, "--name", "my-birds")[0] == 0
    env = {"DYMN_HOME": str(local.cache_folder())}
    tagged = dymn("tag", record("a.wav", (81, 1)), "-m", "my-birds", "-k", 0, env=env)
    assert {row[5] for row in tagged.rows} == set(BIRDS)
    assert [row[2] for row in dymn("labels", "-m", "my-birds", env=env).rows] == list(BIRDS)


def test_its_name_is_completed(models):
    models(*CONVERT, "--name", "my-birds")
    assert complete_model("my") == ["my-birds"]
    assert "mn10_as_hop_15" in complete_model("mn10")


def test_a_name_that_is_taken_is_replaced_only_on_demand(models, folder):
    models(*CONVERT, "--name", "my-birds")
    first = resolve("my-birds").sha256
    (folder / "best.pt").write_bytes(checkpoint_of(CONFIG, seed=1))
    code, _, err = models(*CONVERT, "--name", "my-birds")
    assert (code, "--force" in err) == (5, True)
    assert resolve("my-birds").sha256 == first
    assert models(*CONVERT, "--name", "my-birds", "--force")[0] == 0
    assert resolve("my-birds").sha256 != first
    assert len(list(local.model_folder("my-birds").iterdir())) == 2


def test_a_converted_model_may_be_a_file(models, folder):
    code, out, err = models(*CONVERT, "-o", "birds.safetensors")
    assert (code, out) == (0, "")
    assert "3 classes, SHA-256 " in err
    assert read_weights(folder / "birds.safetensors").header.vocabulary.names == BIRDS
    assert models(*CONVERT, "-o", "birds.safetensors")[0] == 5
    assert models(*CONVERT, "-o", "birds.safetensors", "--force")[0] == 0
    assert {path.name for path in folder.iterdir()} == {"best.pt", "birds.txt", "birds.safetensors"}
    assert local.own_names() == ()


def test_a_front_end_and_a_temperature_of_its_own(models):
    options = ("--hop-ms", 15, "--mels", 64, "--temperature", 30)
    assert models(*CONVERT, "--name", "mine", *options)[0] == 0
    header = read_weights(resolve("mine")).header
    assert (header.front_end.n_hop, header.front_end.n_mels, header.config.temperature) == (480, 64, 30.0)
    (model,) = [m for m in json.loads(models("list", "-f", "json")[1])["models"] if m["name"] == "mine"]
    assert (model["hop_ms"], model["n_mels"], model["temperature"]) == (15, 64, 30.0)


def test_classes_that_are_no_sounds_need_no_names(models):
    code, _, err = models("convert", "best.pt", "--name", "mine")
    assert code == 4
    assert "--labels" in err
    assert models("convert", "best.pt", "--name", "mine", "--embeddings")[0] == 0
    assert read_weights(resolve("mine")).header.purpose == "embeddings"


def test_527_classes_are_those_of_audioset(models, folder):
    (folder / "full.pt").write_bytes(checkpoint_of(ARCHITECTURES["mn01"]))
    assert models("convert", "full.pt", "--name", "mine")[0] == 0
    assert read_weights(resolve("mine")).header.vocabulary.names == Vocabulary.audioset().names


def test_a_checkpoint_that_wants_more_than_tensors_is_refused_by_name(models, folder):
    entries, storages = described(state_dict(CONFIG))
    (folder / "bad.pt").write_bytes(
        archive(pickled({**entries, "x": Call("os.system", ("touch harm",))}), storages)
    )
    code, _, err = models("convert", "bad.pt", "--labels", "birds.txt", "--name", "mine")
    assert code == 4
    assert "os.system" in err
    assert not (folder / "harm").exists()
    assert local.own_names() == ()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["best.pt"], 2, "no place for the model"),
        (["best.pt", "--name", "x", "-o", "x.safetensors"], 2, "--name and --out exclude each other"),
        (["best.pt", "--name", "mn04_as"], 2, "the name of a published model"),
        (["best.pt", "--name", "dymn04_kd"], 2, "the name of a published model"),
        (["best.pt", "--name", "../x"], 2, "cannot be the name"),
        (["best.pt", "--name", "x", "--labels", "gone.txt"], 2, "no such file"),
        (["best.pt", "--name", "x", "--labels", "two.txt"], 2, "3 classes"),
        (["gone.pt", "--name", "x"], 4, "no such file"),
        ([".", "--name", "x"], 4, "a folder"),
        (["birds.txt", "--name", "x"], 4, "not a PyTorch checkpoint"),
        (["best.pt", "-o", "x.pt"], 2, ".safetensors"),
        (["best.pt", "-o", "no/x.safetensors"], 5, "no folder"),
        (["best.pt", "--name", "x", "--embeddings", "--hop-ms", "0"], 2, "--hop-ms: '0' is not 1 or more"),
        (["best.pt", "--name", "x", "--embeddings", "--mels", "513"], 2, "--mels: '513' is not 512 or less"),
        (["dymn04_as_mels_999.pt", "--name", "x"], 2, "dymn04_as_mels_999.pt: the log-mel that its name"),
        (["best.pt", "--name", "x", "--embeddings", "--temperature", "-1"], 2, "temperature"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(models, folder, arguments, code, words):
    (folder / "two.txt").write_text("a\nb\n")
    (folder / "dymn04_as_mels_999.pt").write_bytes((folder / "best.pt").read_bytes())
    got, out, err = models("convert", *arguments)
    assert (got, out) == (code, "")
    assert words in err
    assert err.count("\n") == 1
    assert local.own_names() == ()


def test_a_model_that_fails_its_test_gets_neither_name_nor_file(models, folder, monkeypatch):
    def fail(file):
        raise ModelError(f"{file}: answers with NaN")

    monkeypatch.setattr(own_module, "self_test", fail)
    for place in (("--name", "mine"), ("-o", "mine.safetensors")):
        code, _, err = models(*CONVERT, *place)
        assert code == 4
        assert "the self-test failed: answers with NaN" in err
    assert local.own_names() == ()
    assert not (folder / "mine.safetensors").exists()
    assert not local.model_folder("mine").exists()


# ---------------------------------------------------------------------- import


@pytest.fixture
def onnx_file(models, folder) -> Path:
    """The model as `dymn export` writes it."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from dymn_cli.export.onnx_file import self_contained

    models(*CONVERT, "-o", "birds.safetensors")
    path = folder / "birds.onnx"
    path.write_bytes(self_contained(read_weights(folder / "birds.safetensors")).SerializeToString())
    return path


def test_an_exported_file_gets_a_name(models, onnx_file):
    assert models("import", "birds.onnx", "--name", "birds-2")[0] == 0
    assert models("import", "birds.onnx")[0] == 0  # is called as the file is
    assert local.own_names() == ("birds", "birds-2")
    onnx_file.unlink()
    assert models("verify", "birds")[1].startswith("birds\tok\t")
    assert Path(models("path", "birds")[1].strip()) == resolve("birds")
    assert resolve("birds").parent == local.model_folder("birds")
    assert models("import", "birds.onnx", "--name", "birds")[0] == 4


def test_a_file_that_is_converted_already_gets_a_name(models, folder):
    models(*CONVERT, "-o", "birds.safetensors")
    code, out, err = models("import", "birds.safetensors", "--name", "my-birds")
    assert (code, out) == (0, "")
    assert err.startswith("dymn: my-birds: ready, ")
    weights, file = read_weights(resolve("my-birds")), read_weights(folder / "birds.safetensors")
    assert (weights.header.name, weights.header.vocabulary.names) == ("my-birds", BIRDS)
    for key, values in file.tensors.items():
        np.testing.assert_array_equal(weights.tensors[key], values)
    assert models("verify", "my-birds")[1].startswith("my-birds\tok\t")
    code, _, err = models("convert", "birds.safetensors", "--name", "others")
    assert code == 4
    assert err.endswith("; -m takes it as it is, and dymn models import gives it a name\n")


def test_a_file_whose_weights_lie_beside_it_is_refused(models, onnx_file, folder):
    import onnx

    onnx.save(
        onnx.load(onnx_file), "two.onnx", save_as_external_data=True, location="two.bin", size_threshold=0
    )
    code, _, err = models("import", "two.onnx")
    assert code == 4
    assert "a single file with all its weights" in err
    assert local.own_names() == ()


def test_an_imported_file_that_changes_is_not_used(models, onnx_file):
    models("import", "birds.onnx")
    path = resolve("birds")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    code, out, _ = models("verify", "birds")
    assert code == 1
    assert "SHA-256" in out


@pytest.mark.parametrize(
    ("name", "arguments", "code", "words"),
    [
        ("x.onnx", [], 4, "self-test failed"),
        ("x.onnx", ["--name", "mn04_as"], 2, "published model"),
        ("X.onnx", [], 2, "cannot be the name"),
        ("best.pt", [], 2, "dymn models convert"),
        ("gone.onnx", [], 4, "no such file"),
    ],
)
def test_what_is_no_exported_file_is_told_in_a_line(models, folder, name, arguments, code, words):
    for file in ("x.onnx", "X.onnx"):
        (folder / file).write_bytes(b"no graph")
    got, out, err = models("import", name, *arguments)
    assert (got, out) == (code, "")
    assert words in err
    assert err.count("\n") == 1
    assert local.own_names() == ()


@pytest.fixture
def elsewhere(folder, tmp_path) -> Path:
    """A folder of the user's, to which the folder of model `linked` is a link."""
    place = tmp_path / "elsewhere"
    place.mkdir()
    (place / "thesis.txt").write_text("years of work")
    (place / "record.json").write_text("{}")
    models = tmp_path / "home" / "models"
    models.mkdir(parents=True)
    (models / "linked").symlink_to(place)
    return place


@pytest.mark.parametrize(
    "arguments",
    [
        ("import", "birds.safetensors", "--name", "linked", "--force"),
        ("convert", "best.pt", "--name", "linked", "--labels", "birds.txt", "--force"),
        ("remove", "linked"),
    ],
)
def test_a_model_folder_that_is_a_link_is_left_alone(models, elsewhere, arguments):
    models("convert", "best.pt", "-o", "birds.safetensors", "--labels", "birds.txt")
    code, _, err = models(*arguments)
    assert code in (4, 5)
    assert err.count("\n") == 1
    assert (elsewhere / "thesis.txt").read_text() == "years of work"
    assert (elsewhere / "record.json").read_text() == "{}"
    assert sorted(path.name for path in elsewhere.iterdir()) == ["record.json", "thesis.txt"]


def test_a_link_in_a_model_folder_is_replaced_not_followed(models, onnx_file, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    place = tmp_path / "home" / "models" / "birds-3"
    place.mkdir(parents=True)
    (place / "untested.onnx").symlink_to(precious)
    assert models("import", "birds.onnx", "--name", "birds-3")[0] == 0
    assert precious.read_text() == "mine"
