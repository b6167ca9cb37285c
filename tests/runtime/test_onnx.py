"""The onnxruntime backend: published numbers, the same bits always, and every way to fail in our words."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from checkpoints import state_dict

from dymn_cli.errors import BackendUnavailableError, ModelError, WeightsMissingError
from dymn_cli.frontend.melbank import FRAMEWISE
from dymn_cli.labels import Vocabulary
from dymn_cli.model.config import ARCHITECTURES, ModelConfig
from dymn_cli.runtime import onnx as backend_module
from dymn_cli.runtime.onnx import (
    OnnxBackend,
    OnnxFileBackend,
    block_size,
    graph_path,
    mel_input,
)
from dymn_cli.store.header import ModelHeader
from dymn_cli.store.weights import Weights
from dymn_cli.tagging.aggregate import sigmoid

RECORDINGS = ("metro_station-paris", "speech", "music", "typing")


def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor for which onnxruntime has no blocked layout."""
    monkeypatch.setattr(backend_module, "block_size", lambda: 0)


# ---------------------------------------------------------------------- the published numbers


@pytest.mark.parametrize("blocked", [True, False], ids=["blocked", "plain"])
@pytest.mark.parametrize("name", ["dymn04", "dymn10", "mn04", "mn10"])
def test_golden_answers_of_the_published_implementation(
    name: str,
    blocked: bool,
    shared: Path,
    golden: Callable[[str], Weights],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not blocked:
        plain(monkeypatch)
    answers = np.load(shared / "golden" / "backbone.npz")
    backend = OnnxBackend(golden(name), n_frames=437)
    sounds = ("noise", "metro") if name.endswith("04") else ("noise",)  # a second length is a second session
    for sound in sounds:
        got = backend.run(answers[f"{sound}/mel"])
        for part in ("logits", "embedding"):
            expected = answers[f"{name}/{sound}/{part}"]
            assert np.abs(getattr(got, part) - expected).max() <= 1e-4 * np.abs(expected).max()


def test_the_published_checkpoint_gives_the_published_scores(shared: Path, published: Weights) -> None:
    answers = np.load(shared / "golden" / "published.npz")
    best = json.loads((shared / "golden" / "mn04_as_top10.json").read_text("utf-8"))
    backend = OnnxBackend(published, n_frames=1000)
    for recording in RECORDINGS:
        mel = answers[f"{recording}/mel"].astype(np.float32)[None, None]
        got = backend.run(mel)
        scores = sigmoid(got.logits[0])
        for label, score in best[recording]:
            assert scores[published.header.vocabulary.find(label).index] == pytest.approx(score, abs=5e-4)
        # Only the metro clip's log-mel is stored in full precision.
        tolerance = 5e-4 if answers[f"{recording}/mel"].dtype == np.float32 else 5e-3
        np.testing.assert_allclose(got.logits[0], answers[f"{recording}/mn04_logits"], atol=tolerance)
        embedding = answers[f"{recording}/mn04_embedding"]
        np.testing.assert_allclose(got.embedding[0], embedding, atol=tolerance)


# ---------------------------------------------------------------------- determinism


def test_the_same_input_gives_the_same_bits(onnx_backend: OnnxBackend, mels: np.ndarray) -> None:
    first, second = onnx_backend.run(mels), onnx_backend.run(mels)
    assert first.logits.dtype == first.embedding.dtype == np.float32
    assert (first.logits.shape, first.embedding.shape) == ((3, 527), (3, 384))
    assert np.array_equal(first.logits, second.logits)
    assert np.array_equal(first.embedding, second.embedding)


def test_a_window_does_not_depend_on_its_batch(onnx_backend: OnnxBackend, mels: np.ndarray) -> None:
    together = onnx_backend.run(mels)
    for n in range(3):
        alone = onnx_backend.run(mels[n : n + 1])
        assert np.array_equal(alone.logits[0], together.logits[n])
        assert np.array_equal(alone.embedding[0], together.embedding[n])
    assert np.abs(np.diff(together.logits, axis=0)).max() > 1  # the windows do differ


def test_threads_share_a_backend(onnx_backend: OnnxBackend, shipped: Weights, mels: np.ndarray) -> None:
    """The odd length makes all of them ask for the dynamic session at once."""
    fresh = OnnxBackend(shipped, n_frames=1000)
    batches = [mels[n % 3 : n % 3 + 1, ..., : (1000 if n % 2 else 501)] for n in range(12)]
    expected = [onnx_backend.run(batch).logits for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        got = [answer.logits for answer in pool.map(fresh.run, batches)]
    assert all(np.array_equal(one, other) for one, other in zip(got, expected, strict=True))


def test_the_number_of_threads_does_not_change_the_answer(
    onnx_backend: OnnxBackend, shipped: Weights, mels: np.ndarray
) -> None:
    two = OnnxBackend(shipped, n_frames=1000, threads=2).run(mels[:1])
    np.testing.assert_allclose(two.logits, onnx_backend.run(mels[:1]).logits, atol=1e-4)


# ---------------------------------------------------------------------- frames


def test_frames_cost_nothing_where_nobody_asks(
    shipped: Weights, mels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime computes every output that a graph declares, so the usual session has none for frames."""
    made: list[ort.InferenceSession] = []
    plain = ort.InferenceSession

    def note(*args: Any, **options: Any) -> ort.InferenceSession:
        made.append(plain(*args, **options))
        return made[-1]

    monkeypatch.setattr(ort, "InferenceSession", note)
    backend = OnnxBackend(shipped, n_frames=200)
    usual = backend.run(mels[..., :200])
    assert usual.frame_logits is None
    assert [output.name for output in made[0].get_outputs()] == ["logits", "embedding"]
    assert len(made) == 1
    asked = backend.run(mels[..., :200], frames=True)
    assert asked.frame_logits.shape == (3, 7, 527)
    assert len(made) == 2
    assert np.array_equal(asked.logits, usual.logits)

    made.clear()
    ready = OnnxBackend(shipped, n_frames=200, frames=True)
    ready.run(mels[..., :200], frames=True)
    assert len(made) == 1


def test_a_frame_head_is_asked_and_not_the_classifier(shipped: Weights, mels: np.ndarray) -> None:
    """The classifier stands in for a head that is not there: a copy of it with another bias shifts frames."""
    config = replace(shipped.header.config, frame_head=True)
    plain = Weights(
        replace(shipped.header, config=replace(config, frame_head=False)),
        shipped.sha256,
        {key: values for key, values in shipped.tensors.items() if not key.startswith("strong_head.")},
    )
    copied = {
        key.replace("classifier.2", "strong_head.0").replace("classifier.5", "strong_head.2"): values
        for key, values in shipped.tensors.items()
        if key.startswith("classifier.")
    }
    copied["strong_head.2.bias"] = copied["strong_head.2.bias"] + np.float32(1.5)
    header = replace(shipped.header, config=config)
    own = OnnxBackend(Weights(header, shipped.sha256, {**plain.tensors, **copied}), n_frames=200, frames=True)
    standing_in = OnnxBackend(plain, n_frames=200, frames=True)
    got, without = (backend.run(mels[..., :200], frames=True) for backend in (own, standing_in))
    assert np.array_equal(got.logits, without.logits)
    np.testing.assert_allclose(got.frame_logits, without.frame_logits + 1.5, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["fmn04", *(pytest.param(f"fmn{n}", marks=pytest.mark.slow) for n in ("06", "10", "20", "30"))]
)
def test_an_fmn_answers_for_steps_of_40_ms_in_one_session(name: str, mels: np.ndarray) -> None:
    pytest.importorskip("torch")
    from dymn_cli.runtime.torch import TorchBackend

    config = ARCHITECTURES[name]
    header = ModelHeader(f"{name}_strong", config, FRAMEWISE, Vocabulary.audioset_strong())
    weights = Weights(header, "7" * 64, state_dict(config))
    backend = OnnxBackend(weights, n_frames=200)
    got = backend.run(mels[..., :200], frames=True)
    assert got.frame_logits.shape == (3, 50, 447)
    assert np.array_equal(got.logits, got.frame_logits.max(axis=1))
    plain = backend.run(mels[..., :200])
    assert plain.frame_logits is None
    assert np.array_equal(plain.logits, got.logits)
    assert len(backend._sessions) == 1
    for one, other in zip(TorchBackend(weights).run(mels[..., :200], frames=True), got, strict=True):
        assert np.abs(one - other).max() <= 1e-4 * max(1.0, np.abs(one).max())


# ---------------------------------------------------------------------- sizes and forms


def test_the_fixed_and_the_dynamic_session_agree(
    onnx_backend: OnnxBackend, shipped: Weights, mels: np.ndarray
) -> None:
    dynamic = OnnxBackend(shipped)
    for n_frames in (1000, 437, 63, 1):
        part = np.ascontiguousarray(mels[..., :n_frames])
        answers = onnx_backend.run(part, frames=True), dynamic.run(part, frames=True)
        for name, tolerance in (("logits", 1e-5), ("embedding", 1e-5), ("frame_logits", 1e-4)):
            got, want = (getattr(answer, name) for answer in answers)
            np.testing.assert_allclose(got, want, atol=tolerance)


def test_the_plain_form_agrees_with_the_blocked_one(
    onnx_backend: OnnxBackend, shipped: Weights, mels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not block_size():
        pytest.skip("this processor has no blocked layout in onnxruntime")
    assert onnx_backend.form == f"one-blocked-{block_size()}"
    plain(monkeypatch)
    backend = OnnxBackend(shipped, n_frames=1000)
    assert backend.form == "one"
    answers = backend.run(mels, frames=True), onnx_backend.run(mels, frames=True)
    for name, tolerance in (("logits", 1e-5), ("embedding", 1e-5), ("frame_logits", 1e-4)):
        got, want = (getattr(answer, name) for answer in answers)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=tolerance)


def test_where_the_probe_fails_the_plain_form_runs(shipped: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise ort.capi.onnxruntime_pybind11_state.NotImplemented("no such operator")

    with monkeypatch.context() as patch:
        patch.setattr(ort, "InferenceSession", refuse)
        assert block_size.__wrapped__() == 0
    with monkeypatch.context() as patch:  # the operators are there, but mean something else
        patch.setattr(ort, "InferenceSession", lambda *_a, **_k: SimpleNamespace(run=wrong_sums))
        assert block_size.__wrapped__() == 0
    with monkeypatch.context() as patch:  # the graph is not there
        patch.setattr(backend_module, "weights_folder", lambda: Path("/nowhere"))
        assert block_size.__wrapped__() == 0
    assert block_size.__wrapped__() in (0, 8, 16)


def wrong_sums(_outputs: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [feeds["x"] * 2]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((1, 128, 1000), [1, 1, 128, 1000]),
        ((None, 128, 1000), ["batch", 1, 128, 1000]),
        ((None, None, None), ["batch", 1, "n_mels", "n_frames"]),
        ((300, 40, 2**31), [300, 1, 40, 2**31]),
    ],
)
def test_the_declaration_of_the_input_is_what_onnx_reads(
    sizes: tuple[int | None, ...], expected: list[int | str]
) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.ModelProto.FromString(mel_input(*sizes))
    declared = onnx.helper.make_tensor_value_info("mel", onnx.TensorProto.FLOAT, expected)
    assert [value.SerializeToString() for value in model.graph.input] == [declared.SerializeToString()]
    del model.graph.input[:]
    model.ClearField("graph")
    assert model.SerializeToString() == b""


def test_a_graph_is_extended_not_changed_by_the_declaration() -> None:
    onnx = pytest.importorskip("onnx")
    path = graph_path(ModelConfig(width=0.4), "one")
    shipped = onnx.load(path, load_external_data=False)
    extended = onnx.ModelProto.FromString(path.read_bytes() + mel_input(1, 128, 1000))
    assert [value.name for value in extended.graph.input][-1] == "mel"
    del extended.graph.input[-1]
    assert extended == shipped


# ---------------------------------------------------------------------- what can go wrong


def test_an_architecture_without_a_graph_names_the_ways_out(shipped: Weights) -> None:
    header = replace(shipped.header, config=replace(shipped.header.config, coordinate_attention="time"))
    with pytest.raises(BackendUnavailableError, match="dymn ships no onnxruntime graph") as caught:
        OnnxBackend(replace(shipped, header=header))
    assert "use the backend torch" in (caught.value.hint or "")
    assert "dymn export" in (caught.value.hint or "")


def test_weights_of_another_architecture_are_refused(shipped: Weights) -> None:
    header = replace(shipped.header, config=ModelConfig(width=1.0))
    with pytest.raises(ModelError, match="the architecture has"):
        OnnxBackend(replace(shipped, header=header))


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("cuda", "CUDAExecutionProvider"),
        ("cuda:1", "CUDAExecutionProvider"),
        ("coreml", "CoreMLExecutionProvider"),
        ("directml", "DmlExecutionProvider"),
        ("openvino:GPU", "OpenVINOExecutionProvider"),
        ("mps", "no device 'mps'"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_the_reason_and_the_remedy(
    device: str, said: str, shipped: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(BackendUnavailableError, match=f"no device '{device}'") as caught:
        OnnxBackend(shipped, device=device)
    assert said in caught.value.message
    assert "install" in (caught.value.hint or "") or "macOS" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("device", "name", "options"),
    [
        ("cuda", "CUDAExecutionProvider", {"use_tf32": "0"}),
        ("cuda:1", "CUDAExecutionProvider", {"use_tf32": "0", "device_id": "1"}),
        ("directml:2", "DmlExecutionProvider", {"device_id": "2"}),
        ("openvino", "OpenVINOExecutionProvider", {"device_type": "CPU"}),
        ("openvino:gpu.1", "OpenVINOExecutionProvider", {"device_type": "GPU.1", "precision": "FP32"}),
        ("coreml", "CoreMLExecutionProvider", {}),
        ("migraphx", "MIGraphXExecutionProvider", {}),
    ],
)
def test_a_provider_is_asked_for_by_its_name_and_does_the_rest_itself(
    device: str,
    name: str,
    options: dict[str, str],
    shipped: Weights,
    onnx_backend: OnnxBackend,
    mels: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The CPU's session stands in for the provider's, which gets whole batches of any size."""
    asked: list[tuple[str, dict[str, str]]] = []
    shapes: list[tuple[int, ...]] = []
    plain = ort.InferenceSession
    expected = onnx_backend.run(
        mels[..., :200], frames=True
    )  # before anything pretends: it opens sessions when asked

    def pretend(graph: bytes, given: ort.SessionOptions, *, providers: list[Any], **_: object) -> Any:
        asked.extend(providers)
        assert given.enable_mem_pattern == (not device.startswith("directml"))
        session = plain(graph, given, providers=["CPUExecutionProvider"])

        def run(outputs: list[str], feeds: dict[str, np.ndarray]) -> Any:
            shapes.append(feeds["mel"].shape)
            return session.run(outputs, feeds)

        return SimpleNamespace(get_providers=lambda: [name, "CPUExecutionProvider"], run=run)

    monkeypatch.setattr(ort, "get_available_providers", lambda: [name, "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", pretend)
    backend = OnnxBackend(shipped, device=device)
    answer = backend.run(mels[..., :200], frames=True)
    assert asked[0] == (name, options)
    assert (backend.info.provider, backend.on_cpu, backend.form) == (name, False, "any")
    assert shapes == [(3, 1, 128, 200)]
    for got, want in zip(answer, expected, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_a_gpu_that_does_not_start_is_an_error_not_a_slow_run(
    shipped: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime falls back to the CPU by itself; who asked for a GPU would never know."""
    asked: list[object] = []

    def fall_back(*_args: object, providers: list[object], **_options: object) -> SimpleNamespace:
        asked.extend(providers)
        return SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])

    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: names)
    monkeypatch.setattr(ort, "InferenceSession", fall_back)
    with pytest.raises(BackendUnavailableError, match="could not start CUDA"):
        OnnxBackend(shipped, device="cuda:1")
    assert asked == [("CUDAExecutionProvider", {"use_tf32": "0", "device_id": "1"})]


def test_an_input_of_another_size_is_a_model_error(onnx_backend: OnnxBackend) -> None:
    with pytest.raises(ModelError, match="cannot run the model") as caught:
        onnx_backend.run(np.zeros((1, 2, 128, 1000), np.float32))
    assert "\n" not in caught.value.message


def test_the_answer_says_who_computed_it(onnx_backend: OnnxBackend, shipped: Weights) -> None:
    info = onnx_backend.info
    assert (info.name, info.sha256) == ("dymn04_kd", shipped.sha256)
    assert (info.backend, info.provider) == ("onnx", "CPUExecutionProvider")
    assert onnx_backend.on_cpu


def foreign(outputs: dict[str, int], metadata: dict[str, str]) -> bytes:
    """A valid ONNX file whose outputs are means of its input."""
    onnx = pytest.importorskip("onnx")
    nodes = [onnx.helper.make_node("ReduceMean", ["mel", "axes"], [name], keepdims=0) for name in outputs]
    values = [
        onnx.helper.make_tensor_value_info(name, 1, ["batch", size] if size else ["batch", "n"])
        for name, size in outputs.items()
    ]
    axes = onnx.numpy_helper.from_array(np.array([2, 3]), "axes")
    mel = onnx.helper.make_tensor_value_info("mel", 1, ["batch", 1, "n_mels", "n_frames"])
    graph = onnx.helper.make_graph(nodes, "foreign", [mel], values, [axes])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.helper.set_model_props(model, metadata)
    return model.SerializeToString()


def test_files_that_are_no_model_of_ours_are_refused(tmp_path: Path, shipped: Weights) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(WeightsMissingError, match=r"model\.onnx"):
        OnnxFileBackend(path)
    for data in (b"", b"no protocol buffer", b"\x08"):
        path.write_bytes(data)
        with pytest.raises(ModelError):
            OnnxFileBackend(path)
    path.write_bytes(foreign({"logits": 0, "embedding": 0}, {}))
    with pytest.raises(ModelError, match=r"its metadata lacks dymn\.format"):
        OnnxFileBackend(path)
    ours = shipped.header.to_metadata()
    for outputs in ({"logits": 0}, {"logits": 0, "vector": 0}, {"logits": 10, "embedding": 384}):
        path.write_bytes(foreign(outputs, ours))
        with pytest.raises(ModelError, match="do not match its metadata"):
            OnnxFileBackend(path)
