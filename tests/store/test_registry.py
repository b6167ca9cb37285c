"""Named models: the manifest tells the truth, and names and paths are found."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dymn_cli.audio.resample import RATE_HZ
from dymn_cli.errors import ChecksumError, ModelError, UsageError, WeightsMissingError
from dymn_cli.frontend.melbank import FRAMEWISE
from dymn_cli.labels import Vocabulary
from dymn_cli.model.complexity import complexity
from dymn_cli.model.config import ARCHITECTURES
from dymn_cli.store import registry
from dymn_cli.store.local import Record, adopt, locked
from dymn_cli.store.registry import (
    DEFAULT_MODEL,
    Figure,
    ModelSpec,
    known_names,
    known_specs,
    model_spec,
    model_specs,
    resolve,
    weights_folder,
)
from dymn_cli.store.weights import read_weights

BUNDLED = [spec for spec in model_specs() if spec.origin == "bundled"]
PUBLISHED = [spec for spec in model_specs() if spec.origin == "published"]
EFFICIENT_SED = [spec for spec in PUBLISHED if spec.source.startswith("EfficientSED")]
EFFICIENT_AT = [spec for spec in PUBLISHED if spec not in EFFICIENT_SED]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store."""
    monkeypatch.setenv("DYMN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize("spec", BUNDLED, ids=lambda spec: spec.name)
def test_the_manifest_describes_the_file(spec: ModelSpec) -> None:
    data = spec.path.read_bytes()
    assert hashlib.sha256(data).hexdigest() == spec.sha256
    assert len(data) == spec.size_bytes
    header = read_weights(spec).header
    assert header.name == spec.name
    assert header.config == spec.config
    assert header.config.temperature == spec.temperature
    assert header.config.embedding_size == spec.embedding_size
    cost = complexity(header.config)
    assert (cost.parameters, cost.macs) == (spec.parameters, spec.macs)
    assert spec.licence and spec.source and spec.summary


def test_the_manifest_says_whether_a_model_has_a_frame_head() -> None:
    framed = dataclasses.replace(BUNDLED[0], frame_head=True)
    assert framed.config == dataclasses.replace(ARCHITECTURES["dymn04"], frame_head=True)
    assert not any(spec.config.frame_head for spec in PUBLISHED)


@pytest.mark.parametrize("spec", PUBLISHED, ids=lambda spec: spec.name)
def test_the_figures_of_a_published_model_follow_from_its_architecture(spec: ModelSpec) -> None:
    cost = complexity(
        spec.config, n_mels=spec.front_end.n_mels, n_frames=spec.front_end.n_frames(10 * RATE_HZ)
    )
    assert (spec.parameters, spec.macs) == (cost.parameters, cost.macs)
    assert spec.embedding_size == spec.config.embedding_size
    n_classes = {"im": 1000, "strong": 447}
    assert spec.config.n_classes == n_classes.get(spec.name.rpartition("_")[2], 527)
    assert spec.purpose == ("embeddings" if spec.name.endswith("_im") else "tags")
    assert spec.temperature == (30.0 if spec.name.endswith("_im") else 1.0)
    assert (spec.file, spec.sha256, spec.size_bytes) == ("", "", None)
    assert spec.licence == "MIT"
    assert spec.source and spec.summary


@pytest.mark.parametrize("spec", EFFICIENT_AT, ids=lambda spec: spec.name)
def test_names_files_and_figures_of_published_models_agree(spec: ModelSpec) -> None:
    found = spec.checkpoint
    assert found is not None
    assert found.url == f"https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/{found.file}"
    assert re.sub(r"(_mAP_\d+)?\.pt$", "", found.file) == re.sub(r"_as_\d$", "_as", spec.name)
    assert spec.name.startswith((f"{spec.architecture}_as", f"{spec.architecture}_im"))
    figures = {figure.source: figure.value for figure in spec.figures}
    assert set(figures) <= {"paper", "README", "file name"}
    in_name = re.search(r"_mAP_(\d{3})\.pt$", found.file)
    assert figures.get("file name") == (int(in_name[1]) / 10 if in_name else None)
    hop, mels = re.search(r"_hop_(\d+)$", spec.name), re.search(r"_mels_(\d+)$", spec.name)
    assert spec.front_end.n_hop == (32 * int(hop[1]) if hop else 320)
    assert spec.front_end.n_mels == (int(mels[1]) if mels else 128)


@pytest.mark.parametrize("spec", EFFICIENT_SED, ids=lambda spec: spec.name)
def test_frame_wise_models_have_a_release_and_a_front_end_of_their_own(spec: ModelSpec) -> None:
    found = spec.checkpoint
    assert found is not None
    assert found.file == f"{spec.name}.pt" == f"{spec.architecture}_strong.pt"
    assert found.url == f"https://github.com/theMoro/EfficientSED/releases/download/v0.0.1/{found.file}"
    assert spec.front_end == FRAMEWISE
    assert [(figure.measure, figure.source) for figure in spec.figures] == [("PSDS1", "README")]


def test_frame_wise_models_come_in_five_widths() -> None:
    assert {spec.name: spec.figures[0].value for spec in EFFICIENT_SED} == {
        "fmn04_strong": 39.52,
        "fmn06_strong": 40.75,
        "fmn10_strong": 42.28,
        "fmn20_strong": 43.86,
        "fmn30_strong": 44.24,
    }


def test_what_is_known_of_checkpoints_has_the_form_of_a_hash() -> None:
    known = {spec.name: spec.checkpoint for spec in PUBLISHED if spec.checkpoint and spec.checkpoint.is_known}
    assert set(known) == {
        *("dymn04_as", "dymn10_as", "mn04_as", "mn05_as", "mn10_as", "mn20_as"),
        "fmn10_strong",
    }
    for checkpoint in known.values():
        assert re.fullmatch(r"[0-9a-f]{64}", checkpoint.sha256 or "0" * 64)
        assert re.fullmatch(r"[0-9a-f]{40}", checkpoint.git_blob or "0" * 40)
        assert (checkpoint.sha256 is None) != (checkpoint.git_blob is None)


def test_the_known_hash_of_mn04_as_is_that_of_the_published_file(shared: Path) -> None:
    data = (shared / "weights/mn04_as_mAP_432.pt").read_bytes()
    checkpoint = model_spec("mn04_as").checkpoint
    assert checkpoint is not None
    assert (hashlib.sha256(data).hexdigest(), len(data)) == (checkpoint.sha256, checkpoint.size_bytes)


def test_the_paper_says_how_good_the_dynamic_models_are() -> None:
    averages = {spec.name: spec.figures[0] for spec in PUBLISHED if spec.figures[:1]}
    for name, value in (("dymn04_as", 45.0), ("dymn10_as", 47.7), ("dymn20_as", 49.0)):
        assert averages[name] == Figure(value, "paper")


def test_published_scores_are_of_labels_that_there_are() -> None:
    examples = {spec.name: spec.example for spec in model_specs() if spec.example}
    assert set(examples) == {"mn04_as", "dymn10_as"}
    for example in examples.values():
        assert len(example.scores) == 10
        assert all(Vocabulary.audioset().find(label).name == label for label, _ in example.scores)
        scores = [score for _, score in example.scores]
        assert scores == sorted(scores, reverse=True)


def test_a_published_model_that_has_not_been_pulled_says_how_to_get_it() -> None:
    with pytest.raises(WeightsMissingError, match="dymn10_as is not on this machine") as caught:
        resolve("dymn10_as")
    assert caught.value.hint == "dymn models pull dymn10_as"
    assert not model_spec("dymn10_as").is_there
    assert model_spec(DEFAULT_MODEL).is_there


def put(name: str, data: bytes = b"numbers", suffix: str = ".safetensors", **changes: object) -> Record:
    """A model in the local store."""
    record = Record(
        name=name,
        origin="own",
        file=f"{name}-1{suffix}",
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        checkpoint_sha256="0" * 64,
        checkpoint_from="best.pt",
        recognised_by="user",
        architecture="mn01",
        n_classes=3,
        purpose="tags",
        hop_ms=15,
        n_mels=64,
        parameters=1,
        macs=2,
        embedding_size=96,
        temperature=1.0,
    )
    record = dataclasses.replace(record, **changes)
    with locked(name, lambda: None) as folder:
        (folder / "untested").write_bytes(data)
        adopt(record, folder / "untested")
    return record


def test_a_pulled_model_is_what_the_manifest_says_with_the_file_of_the_store() -> None:
    record = put("dymn10_as", origin="published")
    spec = resolve("dymn10_as")
    assert isinstance(spec, ModelSpec)
    assert (spec.path, spec.sha256, spec.size_bytes) == (record.path, record.sha256, 7)
    assert (spec.parameters, spec.origin) == (10_548_479, "published")
    record.path.unlink()
    with pytest.raises(WeightsMissingError, match="are missing") as caught:
        resolve("dymn10_as")
    assert caught.value.hint == "dymn models pull dymn10_as"


def test_a_model_of_ones_own_has_a_name_beside_the_others() -> None:
    put("my-birds", purpose="embeddings")
    spec = resolve("my-birds")
    assert isinstance(spec, ModelSpec)
    assert (spec.origin, spec.architecture, spec.n_classes, spec.purpose) == ("own", "mn01", 3, "embeddings")
    assert (spec.hop_ms, spec.n_mels, spec.embedding_size) == (15, 64, 96)
    assert known_names()[-1] == "my-birds"
    assert known_specs()[-1] == spec
    with pytest.raises(UsageError) as caught:
        resolve("my-bird")
    assert "my-birds" in (caught.value.hint or "")


def test_a_model_of_the_store_is_held_to_its_hash_whenever_it_is_read() -> None:
    record = put("my-birds")
    record.path.write_bytes(b"other numbers")
    with pytest.raises(ChecksumError, match="SHA-256"):
        read_weights(resolve("my-birds"))


def test_an_imported_onnx_file_is_a_path_that_has_been_checked() -> None:
    record = put("mine", suffix=".onnx")
    assert resolve("mine") == record.path
    record.path.write_bytes(b"other numbers")
    with pytest.raises(ChecksumError, match="when it was imported") as caught:
        resolve("mine")
    assert "dymn models remove mine" in (caught.value.hint or "")


def test_a_name_that_the_user_had_first_stays_the_users() -> None:
    record = put("mn01_as")
    assert model_spec("mn01_as").origin == "own"
    assert resolve("mn01_as").path == record.path  # type: ignore[union-attr]


def test_what_ships_cannot_be_replaced_by_the_store() -> None:
    put(DEFAULT_MODEL)
    assert model_spec(DEFAULT_MODEL).origin == "bundled"
    assert model_spec(DEFAULT_MODEL).path.parent == weights_folder()


def test_a_damaged_record_spoils_no_list_and_no_other_model(home: Path) -> None:
    put("mine")
    put("mn01_as", origin="published")
    for name in ("mine", "mn01_as"):
        (home / "models" / name / "record.json").write_text("{")
    specs = {spec.name: spec for spec in known_specs()}
    assert "mine" not in specs
    assert specs["mn01_as"].file == ""
    for name in ("mine", "mn01_as"):
        with pytest.raises(ModelError, match="not a readable record"):
            resolve(name)
    assert resolve(DEFAULT_MODEL)


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
    for name in ("mine.safetensors", "mine.onnx", "mine.pt", "mine.pth", "mine.ckpt"):
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
    with pytest.raises(WeightsMissingError, match="a folder, not a model"):
        resolve(str(tmp_path))


def test_a_folder_that_may_not_be_searched_is_not_said_to_be_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)  # root may search every folder
    with pytest.raises(WeightsMissingError, match="no permission to look for it"):
        resolve(str(tmp_path / "closed" / "my.safetensors"))


@pytest.mark.parametrize("ask", [model_spec, resolve])
def test_only_who_takes_paths_is_told_of_paths(ask: Callable[[str], object]) -> None:
    with pytest.raises(UsageError) as caught:
        ask("dymn04")
    assert ("or the path of a .safetensors" in (caught.value.hint or "")) is (ask is resolve)


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
