"""Exported files: what other tools find in them, and that they are only there if PyTorch agrees."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import soundfile

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")

from dymn_cli.demo import demo_clips  # noqa: E402
from dymn_cli.errors import (  # noqa: E402
    BackendUnavailableError,
    ModelError,
    OutputError,
    UnsupportedAudioError,
    UsageError,
)
from dymn_cli.export import onnx_file, parity, precision  # noqa: E402
from dymn_cli.export.onnx_file import (  # noqa: E402
    ExportOptions,
    ExportReport,
    TensorInfo,
    export_onnx,
    exportable,
    self_contained,
)
from dymn_cli.export.parity import ParityCase  # noqa: E402
from dymn_cli.export.precision import Precision  # noqa: E402
from dymn_cli.frontend.logmel import LogMel  # noqa: E402
from dymn_cli.frontend.melbank import FRAMEWISE, FrontEndConfig  # noqa: E402
from dymn_cli.labels import Vocabulary  # noqa: E402
from dymn_cli.model.backbone import Backbone  # noqa: E402
from dymn_cli.model.build import build, restore  # noqa: E402
from dymn_cli.model.config import BLOCK_MASKS, ModelConfig  # noqa: E402
from dymn_cli.runtime.select import open_backend  # noqa: E402
from dymn_cli.store.header import ModelHeader  # noqa: E402
from dymn_cli.store.registry import model_spec  # noqa: E402
from dymn_cli.store.weights import Weights  # noqa: E402

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


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Synthetic sounds of one length only, for exports whose report is not looked at."""
    monkeypatch.setattr(parity, "LENGTHS", (63,))


def run(path: Path, mels: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(["logits", "embedding"], {"mel": mels})


def sizes(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_the_report_holds_single_clips_batches_and_odd_lengths(exported: tuple[Path, ExportReport]) -> None:
    _, report = exported
    assert (report.name, report.options, report.opset) == ("dymn04_kd", ExportOptions(), 18)
    sounds = [case for case in report.cases if not case.is_clip]
    assert {(len(case.signals), case.n_frames) for case in sounds} == {
        (n, n_frames) for n in (1, 3) for n_frames in (1000, 437, 63)
    }
    assert {name for case in sounds for name in case.signals} == {"noise", "chirp", "clicks", "silence"}
    assert 0 < report.worst <= report.bounds.largest == 1e-4
    assert all(max(case.logit, case.score, case.embedding) <= report.worst for case in report.cases)


def test_the_report_holds_recordings(exported: tuple[Path, ExportReport]) -> None:
    _, report = exported
    assert [case.signals for case in report.clips] == [(f"{clip.name}.flac",) for clip in demo_clips()]
    assert report.n_same_top == report.n_windows == 3
    assert report.timing is None


def test_the_report_describes_the_file(exported: tuple[Path, ExportReport]) -> None:
    path, report = exported
    data = path.read_bytes()
    assert report.size_bytes == report.float32_bytes == len(data)
    assert list(map(str, report.inputs)) == ["mel (batch, 1, 128, n_frames)"]
    assert report.outputs == (TensorInfo("logits", ("batch", 527)), TensorInfo("embedding", ("batch", 384)))
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
    assert meta["dymn.precision"] == "float32"


def test_the_file_is_a_model_that_dymn_takes(exported: tuple[Path, ExportReport], shipped: Weights) -> None:
    path, report = exported
    by_file = open_backend(str(path), n_samples=320_000)
    by_name = open_backend("dymn04_kd", n_samples=320_000)
    assert by_file.header == by_name.header == shipped.header
    assert by_file.info.sha256 == report.sha256
    mels = np.random.default_rng(3).normal(0, 0.5, (2, 1, 128, 1000)).astype(np.float32)
    assert not by_file.has_frames
    for got, want in zip(by_file.run(mels)[:2], by_name.run(mels)[:2], strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.usefixtures("short")
def test_the_same_model_gives_the_same_bytes(small: Weights, tmp_path: Path) -> None:
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    reports = [export_onnx(small, path) for path in (first, second)]
    assert first.read_bytes() == second.read_bytes()
    assert reports[0] == reports[1]


@pytest.mark.usefixtures("short")
def test_a_model_without_a_shipped_graph_runs_once_exported(
    small: Weights, mels: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "small.onnx"
    export_onnx(small, path)
    backend = open_backend(str(path), n_samples=320_000)
    assert backend.header.config == SMALL
    assert backend.header.front_end == small.header.front_end
    assert backend.header.vocabulary.names == ("Amsel", "Kläffen, laut", "雨")
    module = restore(small.tensors, SMALL)
    with torch.inference_mode():
        expected = [part.numpy() for part in module(torch.from_numpy(mels))]
    for got, want in zip(backend.run(mels)[:2], expected, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.fixture(scope="module")
def framewise() -> Weights:
    """A small FMN, its signals kept alive."""
    config = ModelConfig("fmn", 0.1, n_classes=3)
    tensors = {
        key: tensor.numpy().astype(np.float32)
        for key, tensor in build(config, generator=torch.Generator().manual_seed(1)).state_dict().items()
    }
    for key, tensor in tensors.items():
        if (
            tensor.ndim == 4
            and tensor.shape[1] == 1
            and len(tensor) > 1
            and not key.startswith("features.0.")
        ):
            tensor *= np.sqrt(len(tensor))
    tensors["strong_head.weight"] *= 100
    names = Vocabulary.from_names(["Amsel", "Kläffen, laut", "雨"])
    return Weights(ModelHeader("framewise", config, FRAMEWISE, names), "4" * 64, tensors)


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_an_fmn_with_its_front_end_takes_sound_at_32_khz(framewise: Weights, tmp_path: Path) -> None:
    path = tmp_path / "framewise.onnx"
    report = export_onnx(framewise, path, ExportOptions(with_frontend=True, frames=True))
    assert report.bounds.log_mel == 5e-3
    assert [output.name for output in report.outputs] == ["scores", "logits", "embedding", "frame_logits"]
    meta = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert (meta["dymn.rate_hz"], json.loads(meta["dymn.front_end"])["rate_hz"]) == ("32000", 16_000)
    samples = np.stack([soundfile.read(demo_clips()[0].path, 64_000, dtype="float32")[0]])
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    scores, logits, _, steps = session.run(None, {"waveform": samples})
    assert steps.shape == (1, 50, 3)
    assert np.array_equal(logits, steps.max(axis=1))
    network = restore(framewise.tensors)
    with torch.inference_mode():
        expected = torch.sigmoid(network(torch.from_numpy(LogMel(FRAMEWISE)(samples)))[0]).numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("short")
def test_an_exported_fmn_answers_as_the_model_does(
    framewise: Weights, mels: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "framewise.onnx"
    report = export_onnx(framewise, path, ExportOptions(frames=True))
    assert [output.name for output in report.outputs] == ["logits", "embedding", "frame_logits"]
    backend = open_backend(str(path), n_samples=320_000)
    assert (backend.header.config, backend.header.front_end) == (framewise.header.config, FRAMEWISE)
    got = backend.run(np.concatenate([mels, mels], axis=2), frames=True)
    assert np.array_equal(got.logits, got.frame_logits.max(axis=1))


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("form", ["any", "one"])
@pytest.mark.parametrize("own_head", [True, False])
def test_a_file_with_frames_scores_steps_as_pytorch_does(
    form: str, own_head: bool, small: Weights, mels: np.ndarray, tmp_path: Path
) -> None:
    weights = with_frame_head(small) if own_head else small
    path = tmp_path / "frames.onnx"
    report = export_onnx(weights, path, ExportOptions(form, frames=True))
    assert [output.name for output in report.outputs] == ["logits", "embedding", "frame_logits"]
    assert report.outputs[2].shape == ("batch" if form == "any" else 1, "n_steps", 3)
    assert report.bounds.parts[-2:] == ("frame_logit", "frame_score")
    assert all(0 <= case.frame_logit <= report.worst for case in report.cases)
    assert all(0 <= case.frame_score <= report.worst for case in report.cases)
    backend = open_backend(str(path), n_samples=320_000)
    assert (backend.has_frames, backend.header.config) == (True, weights.header.config)
    network = restore(weights.tensors, weights.header.config)
    with torch.inference_mode():
        expected = network.forward_frames(network.forward_features(torch.from_numpy(mels))).numpy()
    got = backend.run(mels, frames=True).frame_logits
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert backend.run(mels).frame_logits is None
    assert np.ptp(got, axis=1).max() > 0.01  # steps differ


@pytest.mark.usefixtures("short")
def test_frames_that_depart_from_pytorch_are_no_file(
    small: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(self: Backbone, features: torch.Tensor) -> torch.Tensor:
        return self.classifier(features.mean(dim=2).transpose(1, 2)) + 1e-2

    monkeypatch.setattr(Backbone, "forward_frames", wrong)
    with pytest.raises(ModelError, match="differs from PyTorch"):
        export_onnx(small, tmp_path / "m.onnx", ExportOptions(frames=True))
    export_onnx(small, tmp_path / "m.onnx")


@pytest.mark.usefixtures("short")
def test_a_frame_head_stays_out_of_a_file_without_frames(small: Weights, tmp_path: Path) -> None:
    export_onnx(with_frame_head(small), tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    assert not any("frame" in tensor.name for tensor in model.graph.initializer)
    assert open_backend(str(tmp_path / "m.onnx"), n_samples=320_000).header.config.frame_head


def with_frame_head(weights: Weights) -> Weights:
    """The same model with a frame head of its own, with drawn weights."""
    network = restore(weights.tensors, weights.header.config)
    network.add_frame_head(from_classifier=False, generator=torch.Generator().manual_seed(1))
    for tensor in network.strong_head.parameters():
        tensor.data.mul_(20)
    tensors = {key: tensor.numpy().astype(np.float32) for key, tensor in network.state_dict().items()}
    return Weights(replace(weights.header, config=network.config), "6" * 64, tensors)


@pytest.mark.usefixtures("short")
def test_the_form_for_one_clip_takes_one_clip(small: Weights, mels: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "one.onnx"
    report = export_onnx(small, path, ExportOptions("one"))
    assert {len(case.signals) for case in report.cases} == {1}
    assert sizes(onnx.load(path).graph.input[0]) == [1, 1, 64, "n_frames"]
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.InvalidArgument):
        run(path, mels)
    backend = open_backend(str(path), n_samples=320_000)
    assert backend.run(mels).logits.shape == (3, 3)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("error", [1e-3, np.nan])
def test_a_file_that_departs_from_pytorch_is_never_there(
    error: float, small: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(tensors: dict[str, torch.Tensor], config: ModelConfig) -> Backbone:
        module = restore(tensors, config)
        with torch.no_grad():
            module.classifier[-1].bias += error
        return module

    monkeypatch.setattr(parity, "restore", wrong)
    old = tmp_path / "old.onnx"
    old.write_bytes(b"what was there")
    for path, force in ((tmp_path / "new.onnx", False), (old, True)):
        with pytest.raises(ModelError, match="differs from PyTorch") as caught:
            export_onnx(small, path, force=force)
        assert "\n" not in caught.value.message
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"old.onnx": b"what was there"}


@pytest.mark.usefixtures("short")
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
    with pytest.raises(ModelError, match="already an ONNX file") as caught:
        exportable(str(exported[0]))
    assert "came from" in (caught.value.hint or "")


def test_what_does_not_fit_together_is_refused(small: Weights, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no form") as caught:
        ExportOptions("one-blocked-16")  # type: ignore[arg-type]
    assert "any or one" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="no precision") as caught:
        ExportOptions(precision="int4")  # type: ignore[arg-type]
    assert "float32, float16 or int8" in (caught.value.hint or "")
    other = replace(small, header=replace(small.header, config=replace(SMALL, width=0.2)))
    with pytest.raises(ModelError, match="these weights do not fit"):
        export_onnx(other, tmp_path / "x.onnx")
    with pytest.raises(ModelError, match="the architecture has"):
        self_contained(other)
    assert list(tmp_path.iterdir()) == []


def test_the_worst_case_counts_every_difference() -> None:
    case = ParityCase(("noise",), 1000, 1e-6, 2e-6, 3e-5)
    assert case.worst() == 3e-5
    assert case.worst(("score",)) == 2e-6
    assert np.isnan(ParityCase(("noise",), 1000, 1e-6, np.nan, 3e-5).worst())


# ---------------------------------------------------------------------- fewer bits, and the front end inside


@pytest.mark.slow
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(("kind", "bound", "share"), [("float16", 1e-2, 0.53), ("int8", 5e-2, 0.35)])
def test_the_shipped_model_in_fewer_bits_keeps_its_answers(
    kind: Precision, bound: float, share: float, shipped: Weights, tmp_path: Path
) -> None:
    path = tmp_path / "small.onnx"
    report = export_onnx(shipped, path, ExportOptions(precision=kind))
    assert report.size_bytes == path.stat().st_size < share * report.float32_bytes
    assert bound / 1000 < report.worst <= bound == report.bounds.largest
    assert report.n_same_top == report.n_windows == 3
    assert report.timing is not None
    meta = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert meta["dymn.precision"] == kind

    by_file = open_backend(str(path), n_samples=320_000)
    assert by_file.header == shipped.header
    assert by_file.info.sha256 == report.sha256
    samples, rate_hz = soundfile.read(demo_clips()[0].path, dtype="float32")
    assert rate_hz == 32_000
    mels = LogMel()(samples)
    scores, others = (
        1 / (1 + np.exp(-backend.run(mels).logits))
        for backend in (by_file, open_backend("dymn04_kd", n_samples=320_000))
    )
    assert scores.argmax() == others.argmax()
    np.testing.assert_allclose(scores, others, atol=bound)


@pytest.mark.usefixtures("short")
def test_with_its_front_end_a_file_takes_samples(small: Weights, tmp_path: Path) -> None:
    path = tmp_path / "whole.onnx"
    report = export_onnx(small, path, ExportOptions(precision="int8", with_frontend=True))
    assert list(map(str, report.inputs)) == ["waveform (batch, n_samples)"]
    assert [output.name for output in report.outputs] == ["scores", "logits", "embedding"]
    assert report.outputs[0].shape == report.outputs[1].shape == ("batch", 3)
    assert all(0 < case.log_mel <= report.bounds.log_mel == 5e-5 for case in report.clips)
    model = onnx.load(path)
    assert [(value.name, sizes(value)) for value in model.graph.input] == [
        ("waveform", ["batch", "n_samples"])
    ]
    assert "waveform" in model.doc_string and "32000 Hz" in model.doc_string
    with pytest.raises(ModelError, match="front end") as caught:
        open_backend(str(path), n_samples=320_000)
    assert "--with-frontend" in (caught.value.hint or "")


@pytest.mark.usefixtures("short")
def test_recordings_of_the_user_are_compared_too(small: Weights, tmp_path: Path) -> None:
    clip = tmp_path / "mine.wav"
    soundfile.write(clip, np.random.default_rng(0).normal(0, 0.1, 16_000 * 12), 16_000)
    report = export_onnx(small, tmp_path / "m.onnx", ExportOptions("one"), clips=[clip])
    assert (report.clips[-1].signals, report.clips[-1].n_windows) == (("mine.wav",), 2)
    clip.write_bytes(b"no sound")
    with pytest.raises(UnsupportedAudioError):
        export_onnx(small, tmp_path / "other.onnx", ExportOptions("one"), clips=[clip])
    assert not (tmp_path / "other.onnx").exists()


@pytest.mark.usefixtures("short")
def test_a_broken_quantisation_is_refused(
    shipped: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "LEVELS", 3)  # not 255 different weights but seven
    with pytest.raises(ModelError, match=r"more than 0\.05; nothing was written") as caught:
        export_onnx(shipped, tmp_path / "m.onnx", ExportOptions(precision="int8"))
    assert "--int8" in (caught.value.hint or "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("short")
def test_weights_beyond_half_precision_are_refused(small: Weights, tmp_path: Path) -> None:
    tensors = dict(small.tensors)
    tensors["classifier.2.weight"] = tensors["classifier.2.weight"] * np.float32(1e8)
    tensors["classifier.5.weight"] = tensors["classifier.5.weight"] * np.float32(1e-8)
    huge = replace(small, tensors=tensors)
    assert export_onnx(huge, tmp_path / "whole.onnx").size_bytes > 0
    with pytest.raises(ModelError, match="nothing was written"):
        export_onnx(huge, tmp_path / "half.onnx", ExportOptions(precision="float16"))
    assert not (tmp_path / "half.onnx").exists()


@pytest.mark.parametrize("library", ["torch", "onnx"])
def test_without_its_libraries_the_export_says_how_to_get_them(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    for name in [name for name in sys.modules if name.startswith("dymn_cli.export.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(BackendUnavailableError) as caught:
        importlib.import_module("dymn_cli.export.onnx_file")
    assert "pip install 'dymn[export]'" in (caught.value.hint or "")
    assert caught.value.exit_code == 4
