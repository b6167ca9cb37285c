"""Exported files: what other tools find in them, and that they are only there if PyTorch agrees."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from dymn_cli.errors import BackendUnavailableError, ModelError, OutputError, UsageError
from dymn_cli.export import onnx_file
from dymn_cli.export.onnx_file import ExportReport, ParityCase, export_onnx, exportable
from dymn_cli.frontend.melbank import FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.model.backbone import Backbone
from dymn_cli.model.build import build, restore
from dymn_cli.model.config import BLOCK_MASKS, ModelConfig
from dymn_cli.runtime.select import open_backend
from dymn_cli.store.registry import model_spec
from dymn_cli.store.weights import ModelHeader, Weights

SMALL = ModelConfig(width=0.1, n_classes=3, dynamic_blocks=BLOCK_MASKS["last-5"])


@pytest.fixture(scope="module")
def shipped() -> Weights:
    return exportable("dymn04_kd")


@pytest.fixture(scope="module")
def exported(shipped: Weights, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportReport]:
    path = tmp_path_factory.mktemp("export") / "shipped.onnx"
    return path, export_onnx(shipped, path)


@pytest.fixture(scope="module")
def small() -> Weights:
    """A model that the package has no graph for, with labels and a front end of its own."""
    state = build(SMALL, generator=torch.Generator().manual_seed(1)).state_dict()
    tensors = {key: tensor.numpy().astype(np.float32) for key, tensor in state.items()}
    for key, tensor in tensors.items():
        depthwise = tensor.ndim == 4 and tensor.shape[1] == 1 and (len(tensor) > 1 or "depth_conv" in key)
        if depthwise:  # its initial values let signals die out
            tensor *= np.sqrt(len(tensors[key.replace("_conv.", "_norm.")]))
    tensors["classifier.5.weight"] *= 100  # initial logits are all but zero
    names = Vocabulary.from_names(["Amsel", "Kläffen, laut", "雨"])
    return Weights(ModelHeader("small", SMALL, FrontEndConfig(n_mels=64), names), "4" * 64, tensors)


def run(path: Path, mels: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(["logits", "embedding"], {"mel": mels})


def sizes(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_the_report_holds_single_clips_batches_and_odd_lengths(exported: tuple[Path, ExportReport]) -> None:
    _, report = exported
    assert (report.name, report.form, report.opset, report.tolerance) == ("dymn04_kd", "any", 18, 1e-4)
    assert {(len(case.signals), case.n_frames) for case in report.cases} == {
        (n, n_frames) for n in (1, 3) for n_frames in (1000, 437, 63)
    }
    assert {name for case in report.cases for name in case.signals} == {"noise", "chirp", "clicks", "silence"}
    assert 0 < report.worst.worst <= 1e-4
    assert all(max(case.logit, case.score, case.embedding) <= report.worst.worst for case in report.cases)


def test_the_report_describes_the_file(exported: tuple[Path, ExportReport]) -> None:
    path, report = exported
    data = path.read_bytes()
    assert report.size_bytes == len(data)
    assert report.sha256 == hashlib.sha256(data).hexdigest()


def test_other_tools_find_inputs_outputs_and_weights(exported: tuple[Path, ExportReport]) -> None:
    model = onnx.load(exported[0])
    assert {value.name: sizes(value) for value in model.graph.input} == {"mel": ["batch", 1, 128, "n_frames"]}
    assert {value.name: sizes(value) for value in model.graph.output} == {
        "logits": ["batch", 527],
        "embedding": ["batch", 384],
    }
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)
    assert "logits" in model.doc_string and "dymn.front_end" in model.doc_string


def test_the_metadata_say_what_goes_in_and_what_comes_out(
    exported: tuple[Path, ExportReport], shared: Path
) -> None:
    meta = {entry.key: entry.value for entry in onnx.load(exported[0]).metadata_props}
    names = json.loads(meta["dymn.label_names"])
    listed = (shared / "audioset" / "class_labels_indices.csv").read_text("utf-8")
    assert len(names) == 527
    assert names[0] == "Speech" and names[500] in listed and names[-1] == "Field recording"
    assert meta["dymn.sha256"] == model_spec("dymn04_kd").sha256
    assert (meta["dymn.rate_hz"], meta["dymn.window_s"]) == ("32000", "10")
    assert json.loads(meta["dymn.front_end"])["n_hop"] == 320


def test_the_file_is_a_model_that_dymn_takes(exported: tuple[Path, ExportReport], shipped: Weights) -> None:
    path, report = exported
    by_file = open_backend(str(path), n_samples=320_000)
    by_name = open_backend("dymn04_kd", n_samples=320_000)
    assert by_file.header == by_name.header == shipped.header
    assert by_file.info.sha256 == report.sha256
    mels = np.random.default_rng(3).normal(0, 0.5, (2, 1, 128, 1000)).astype(np.float32)
    for got, want in zip(by_file.run(mels), by_name.run(mels), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_the_same_model_gives_the_same_bytes(small: Weights, tmp_path: Path) -> None:
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    reports = [export_onnx(small, path) for path in (first, second)]
    assert first.read_bytes() == second.read_bytes()
    assert reports[0] == reports[1]


def test_a_model_without_a_shipped_graph_runs_once_exported(
    small: Weights, mels: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "small.onnx"
    export_onnx(small, path)
    backend = open_backend(str(path), n_samples=320_000)
    assert backend.header.config == SMALL
    assert backend.header.front_end == small.header.front_end
    assert backend.header.vocabulary.names == ("Amsel", "Kläffen, laut", "雨")
    module = restore({k: torch.from_numpy(v) for k, v in small.tensors.items()}, SMALL)
    with torch.inference_mode():
        expected = [part.numpy() for part in module(torch.from_numpy(mels))]
    for got, want in zip(backend.run(mels), expected, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_the_form_for_one_clip_takes_one_clip(small: Weights, mels: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "one.onnx"
    report = export_onnx(small, path, form="one")
    assert {len(case.signals) for case in report.cases} == {1}
    assert sizes(onnx.load(path).graph.input[0]) == [1, 1, 64, "n_frames"]
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.InvalidArgument):
        run(path, mels)
    backend = open_backend(str(path), n_samples=320_000)
    assert backend.run(mels).logits.shape == (3, 3)


@pytest.mark.parametrize("error", [1e-3, np.nan])
def test_a_file_that_departs_from_pytorch_is_never_there(
    error: float, small: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(tensors: dict[str, torch.Tensor], config: ModelConfig) -> Backbone:
        module = restore(tensors, config)
        with torch.no_grad():
            module.classifier[-1].bias += error
        return module

    monkeypatch.setattr(onnx_file, "restore", wrong)
    old = tmp_path / "old.onnx"
    old.write_bytes(b"what was there")
    for path, force in ((tmp_path / "new.onnx", False), (old, True)):
        with pytest.raises(ModelError, match="differs from PyTorch") as caught:
            export_onnx(small, path, force=force)
        assert "\n" not in caught.value.message
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"old.onnx": b"what was there"}


def test_a_file_that_exists_is_only_replaced_by_force(
    small: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"mine")
    with monkeypatch.context() as patch:
        patch.setattr(onnx_file, "build_graph", lambda *_: pytest.fail("refuse before any work"))
        with pytest.raises(OutputError, match="exists"):
            export_onnx(small, path)
    assert path.read_bytes() == b"mine"
    export_onnx(small, path, force=True)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert [found.name for found in tmp_path.iterdir()] == ["model.onnx"]


def test_an_onnx_file_is_not_exported_again(exported: tuple[Path, ExportReport]) -> None:
    with pytest.raises(ModelError, match="ONNX file already") as caught:
        exportable(str(exported[0]))
    assert "safetensors" in (caught.value.hint or "")


def test_what_does_not_fit_together_is_refused(small: Weights, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no form") as caught:
        export_onnx(small, tmp_path / "x.onnx", form="one-blocked-16")  # type: ignore[arg-type]
    assert "any, one" in (caught.value.hint or "")
    other = replace(small, header=replace(small.header, config=replace(SMALL, width=0.2)))
    with pytest.raises(ModelError, match="the architecture has"):
        export_onnx(other, tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_worst_case_counts_every_difference() -> None:
    assert ParityCase(("noise",), 1000, 1e-6, 2e-6, 3e-5).worst == 3e-5
    assert np.isnan(ParityCase(("noise",), 1000, 1e-6, np.nan, 3e-5).worst)


@pytest.mark.parametrize("library", ["torch", "onnx"])
def test_without_its_libraries_the_export_says_how_to_get_them(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, "dymn_cli.export.onnx_file")
    with pytest.raises(BackendUnavailableError) as caught:
        importlib.import_module("dymn_cli.export.onnx_file")
    assert "pip install 'dymn[export]'" in (caught.value.hint or "")
    assert caught.value.exit_code == 4
