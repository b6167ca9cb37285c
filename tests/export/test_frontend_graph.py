"""The front end in ONNX hears what the front end in NumPy hears."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest
import soundfile
import sounds

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")

from onnx.reference import ReferenceEvaluator  # noqa: E402

from dymn_cli.demo import demo_clips  # noqa: E402
from dymn_cli.errors import ModelError  # noqa: E402
from dymn_cli.export.frontend_graph import build_front_end, with_front_end  # noqa: E402
from dymn_cli.export.graph import IR_VERSION, OPSET  # noqa: E402
from dymn_cli.export.onnx_file import ExportForm, ExportOptions, self_contained  # noqa: E402
from dymn_cli.frontend.logmel import LogMel  # noqa: E402
from dymn_cli.frontend.melbank import FRAMEWISE, FrontEndConfig  # noqa: E402
from dymn_cli.model.config import BLOCK_MASKS, ModelConfig  # noqa: E402
from dymn_cli.store.weights import Weights  # noqa: E402

ON_CLIPS = 5e-5
PUBLISHED = {
    "default": FrontEndConfig(),
    **{f"hop_{ms}": FrontEndConfig(n_hop=32 * ms) for ms in (5, 15, 20, 25)},
    **{f"mels_{n}": FrontEndConfig(n_mels=n) for n in (40, 64, 256)},
}
OTHERS = {
    "odd window": FrontEndConfig(n_window=799, n_hop=301),
    "full window": FrontEndConfig(n_window=1024),
    "short transform": FrontEndConfig(n_fft=512, n_window=400, n_hop=160, n_mels=40),
    "no pre-emphasis": FrontEndConfig(preemphasis=0.0),
    "a middle band": FrontEndConfig(fmin_hz=500.0, fmax_hz=4000.0, n_mels=20),
    "up to Nyquist": FrontEndConfig(fmax_hz=16_000.0),
    "bands between two bins": FrontEndConfig(fmin_hz=40.0, fmax_hz=60.0, n_mels=2),
    "other logarithm": FrontEndConfig(log_offset=1e-3, shift=2.0, scale=3.0),
}


def graph(config: FrontEndConfig) -> onnx.ModelProto:
    """The front end alone."""
    front = build_front_end(config)
    value = functools.partial(onnx.helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT)
    made = onnx.helper.make_graph(
        front.nodes,
        "front-end",
        [value("waveform", shape=["batch", "n_samples"])],
        [value("mel", shape=["batch", 1, config.n_mels, "n_frames"])],
        list(front.constants.values()),
    )
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    return onnx.helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION)


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@functools.cache
def clips() -> np.ndarray:
    """Three seconds of each demo clip: (3, 96000)."""
    return np.stack([soundfile.read(clip.path, 96_000, dtype="float32")[0] for clip in demo_clips()])


def noise(n: int, n_samples: int) -> np.ndarray:
    return sounds.noise((n, n_samples), seed=n_samples)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_front_end_on_recordings_in_a_batch(name: str) -> None:
    config = PUBLISHED[name]
    (got,) = session(graph(config)).run(None, {"waveform": clips()})
    wanted = LogMel(config)(clips())
    assert got.shape == wanted.shape == (3, 1, config.n_mels, config.n_frames(96_000))
    assert np.abs(got - wanted).max() <= ON_CLIPS


@pytest.mark.parametrize("name", OTHERS)
def test_front_ends_of_other_shapes(name: str) -> None:
    config = OTHERS[name]
    samples = noise(2, 16_001)
    (got,) = session(graph(config)).run(None, {"waveform": samples})
    np.testing.assert_allclose(got, LogMel(config)(samples), atol=ON_CLIPS)


def test_a_front_end_of_16_khz_takes_32_khz_too() -> None:
    """In the quietest bands, near the floor, float32 leaves its rounding; elsewhere it is as exact as any."""
    front, log_mel = session(graph(FRAMEWISE)), LogMel(FRAMEWISE)
    for samples in (clips(), noise(2, 16_001), noise(1, FRAMEWISE.min_samples), noise(1, 961)):
        (got,) = front.run(None, {"waveform": samples})
        wanted = log_mel(samples)
        assert got.shape == wanted.shape
        audible = wanted > (np.log(1e-5) + 4.5) / 5
        assert np.abs(got - wanted).max() <= 5e-3
        assert np.abs(got - wanted)[audible].max() <= 2e-4


def test_any_length_from_the_shortest_on() -> None:
    config = FrontEndConfig()
    front, log_mel = session(graph(config)), LogMel(config)
    for n_samples in (config.min_samples, 639, 640, 641, 960, 961, 12_345):
        samples = noise(1, n_samples)
        (got,) = front.run(None, {"waveform": samples})
        assert got.shape[-1] == config.n_frames(n_samples)
        np.testing.assert_allclose(got, log_mel(samples), atol=ON_CLIPS)


def test_loud_quiet_and_pure_sounds() -> None:
    """Where float32 is at its end: a chirp's power is next to nothing but in a few bins."""
    time_s = np.arange(32_000) / 32_000
    signals = np.stack(
        [
            np.zeros(32_000),
            np.full(32_000, 0.5),
            np.sign(np.sin(2 * np.pi * 440 * time_s)),
            noise(1, 32_000)[0],
        ]
    ).astype(np.float32)
    front = session(graph(FrontEndConfig()))
    np.testing.assert_allclose(front.run(None, {"waveform": signals})[0], LogMel()(signals), atol=ON_CLIPS)
    chirp = (0.5 * np.sin(np.pi * 15_000 * time_s**2)).astype(np.float32)[np.newaxis]
    np.testing.assert_allclose(front.run(None, {"waveform": chirp})[0], LogMel()(chirp), atol=3e-4)


def test_the_graph_is_valid_and_means_the_same_to_the_reference_evaluator() -> None:
    """onnx's own evaluator knows no optimisation and no kernel of onnxruntime."""
    model = graph(FrontEndConfig())
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    samples = np.ascontiguousarray(clips()[:2, 20_000:22_001])
    (got,) = ReferenceEvaluator(model).run(None, {"waveform": samples})
    np.testing.assert_allclose(got, LogMel()(samples), atol=ON_CLIPS)


def test_it_is_small() -> None:
    assert graph(FrontEndConfig()).ByteSize() < 300_000


@pytest.mark.parametrize("n_fft", [1022, 16_384])
def test_a_transform_without_tables_is_refused(n_fft: int) -> None:
    with pytest.raises(ModelError, match=f"n_fft {n_fft}: only multiples of 4") as caught:
        build_front_end(FrontEndConfig(n_fft=n_fft))
    assert "--with-frontend" in (caught.value.hint or "")


@pytest.mark.parametrize("form", ["any", "one"])
def test_before_a_network_it_gives_what_the_network_gives_for_its_log_mel(
    form: ExportForm, lively: Callable[[ModelConfig], Weights]
) -> None:
    config = ModelConfig(width=0.1, n_classes=5, dynamic_blocks=BLOCK_MASKS["last-5"])
    weights = lively(config)
    network = self_contained(weights, ExportOptions(form))
    before = network.SerializeToString(deterministic=True)
    whole = with_front_end(network, weights.header.front_end)
    assert network.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(whole, full_check=True)

    samples = clips()[: 1 if form == "one" else 3]
    mels = LogMel(weights.header.front_end)(samples)
    logits, embedding = session(network).run(["logits", "embedding"], {"mel": mels})
    got = session(whole)
    assert [(given.name, given.shape) for given in got.get_inputs()] == [
        ("waveform", ["batch" if form == "any" else 1, "n_samples"])
    ]
    assert [output.name for output in got.get_outputs()] == ["scores", "logits", "embedding"]
    scores, *parts = got.run(None, {"waveform": samples})
    for one, other in zip(parts, (logits, embedding), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3 * np.abs(other).max())
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-parts[0].astype(np.float64))), atol=1e-6)


def test_models_of_another_front_end_hear_through_their_own(lively: Callable[[ModelConfig], Weights]) -> None:
    config = ModelConfig("mn", 0.1, n_classes=5)
    weights = lively(config)
    header = replace(weights.header, front_end=FrontEndConfig(n_hop=640, n_mels=64))
    whole = self_contained(replace(weights, header=header), ExportOptions(with_frontend=True))
    del whole.graph.output[:]
    whole.graph.output.append(
        onnx.helper.make_tensor_value_info("mel", onnx.TensorProto.FLOAT, ["b", 1, 64, "t"])
    )
    (mels,) = session(whole).run(["mel"], {"waveform": clips()})
    np.testing.assert_allclose(mels, LogMel(header.front_end)(clips()), atol=ON_CLIPS)
