"""Named models: the manifest tells the truth, and names and paths are found."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from dymn_cli.errors import UsageError, WeightsMissingError
from dymn_cli.model.complexity import complexity
from dymn_cli.model.config import ARCHITECTURES
from dymn_cli.store import registry
from dymn_cli.store.registry import (
    DEFAULT_MODEL,
    ModelSpec,
    model_spec,
    model_specs,
    resolve,
    weights_folder,
)
from dymn_cli.store.weights import read_weights


@pytest.mark.parametrize("spec", model_specs(), ids=lambda spec: spec.name)
def test_the_manifest_describes_the_file(spec: ModelSpec) -> None:
    data = spec.path.read_bytes()
    assert hashlib.sha256(data).hexdigest() == spec.sha256
    assert len(data) == spec.size_bytes
    header = read_weights(spec).header
    assert header.name == spec.name
    assert header.config == ARCHITECTURES[spec.architecture]
    assert header.config.temperature == spec.temperature
    assert header.config.embedding_size == spec.embedding_size
    cost = complexity(header.config)
    assert (cost.parameters, cost.macs) == (spec.parameters, spec.macs)
    assert spec.licence and spec.source and spec.summary


def test_the_default_model_is_in_the_manifest_and_on_disk() -> None:
    spec = resolve(DEFAULT_MODEL)
    assert isinstance(spec, ModelSpec)
    assert spec.path.is_file()
    assert len({spec.name for spec in model_specs()}) == len(model_specs())


@pytest.mark.parametrize("typo", ["dymn04", "dymn04-kd", "DYMN04_KD", "nothing like it"])
def test_an_unknown_name_is_answered_with_the_nearest(typo: str) -> None:
    with pytest.raises(UsageError, match="no model is called") as caught:
        resolve(typo)
    assert "dymn04_kd" in (caught.value.hint or "")
    assert "dymn models list" in (caught.value.hint or "")


def test_what_looks_like_a_path_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.safetensors", "mine.onnx"):
        (tmp_path / name).touch()
        assert resolve(name) == Path(name)
        assert resolve(f"./{name}") == Path(name)
    (tmp_path / "checkpoint.pt").touch()
    assert resolve(str(tmp_path / "checkpoint.pt")) == tmp_path / "checkpoint.pt"


@pytest.mark.parametrize("path", ["gone.safetensors", "no/such/model", "gone.onnx", "x" * 5000 + ".onnx"])
def test_a_path_without_a_file_is_missing(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsMissingError, match="no such file"):
        resolve(path)


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError):
        resolve(str(tmp_path))


@pytest.fixture
def package_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Pretend that the package is installed in `tmp_path/site/dymn_cli`, and look for its weights."""
    module = tmp_path / "site" / "dymn_cli" / "store" / "registry.py"
    monkeypatch.setattr(registry, "__file__", str(module))
    return weights_folder.__wrapped__


def lay_out(folder: Path, manifest: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / "models.toml").write_text(manifest, "utf-8")
    return folder


def test_a_wheel_has_its_weights_inside_the_package(package_at: Callable[[], Path], tmp_path: Path) -> None:
    inside = lay_out(tmp_path / "site" / "dymn_cli" / "weights")
    assert package_at() == inside
    lay_out(tmp_path / "site" / "weights")  # somebody else's folder, in site-packages
    assert package_at() == inside


def test_a_checkout_has_its_weights_beside_the_package(
    package_at: Callable[[], Path], tmp_path: Path
) -> None:
    beside = lay_out(tmp_path / "site" / "weights")
    assert package_at() == beside


def test_a_folder_without_a_manifest_is_not_taken(package_at: Callable[[], Path], tmp_path: Path) -> None:
    (tmp_path / "site" / "weights").mkdir(parents=True)
    with pytest.raises(WeightsMissingError, match="no folder of weights") as caught:
        package_at()
    assert "reinstall" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "manifest",
    ["[[model]", "", "[[model]]\nname = 'x'", "model = 5", "[[model]]\nflavour = 'sweet'", b"\xff\xfe"],
)
def test_a_broken_manifest_is_a_broken_installation(
    manifest: str | bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "models.toml"
    path.write_bytes(manifest if isinstance(manifest, bytes) else manifest.encode())
    monkeypatch.setattr(registry, "weights_folder", lambda: tmp_path)
    with pytest.raises(WeightsMissingError, match="not a readable manifest"):
        model_specs.__wrapped__()


def test_a_named_model_whose_file_is_gone_says_how_to_get_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = model_spec(DEFAULT_MODEL)
    monkeypatch.setattr(registry, "weights_folder", lambda: tmp_path)
    assert spec.path.parent == tmp_path
    with pytest.raises(WeightsMissingError, match="are missing") as caught:
        resolve(DEFAULT_MODEL)
    assert "reinstall" in (caught.value.hint or "")
