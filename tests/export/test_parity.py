"""What is measured between a file and PyTorch, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")

from dymn_cli.demo import demo_clips  # noqa: E402
from dymn_cli.errors import AudioNotFoundError, ModelError  # noqa: E402
from dymn_cli.export.onnx_file import ExportOptions, self_contained  # noqa: E402
from dymn_cli.export.parity import (  # noqa: E402
    Bounds,
    ExportedFile,
    ExportTiming,
    ParityCase,
    Reference,
    bounds_of,
    compare,
    measure,
    require,
)
from dymn_cli.model.config import BLOCK_MASKS, ModelConfig  # noqa: E402
from dymn_cli.store.weights import Weights  # noqa: E402

TINY = ModelConfig(width=0.1, n_classes=5, dynamic_blocks=BLOCK_MASKS["last-5"])
GOOD = ParityCase(("a.wav",), 1000, 1e-6, 2e-6, 3e-6, is_clip=True)


@pytest.fixture(scope="module")
def tiny(lively: Callable[[ModelConfig], Weights]) -> Weights:
    return lively(TINY)


@pytest.fixture(scope="module")
def reference(tiny: Weights) -> Reference:
    return Reference(tiny)


def exported(
    weights: Weights, change: Callable[[onnx.ModelProto], None] = lambda model: None
) -> ExportedFile:
    model = self_contained(weights)
    change(model)
    return ExportedFile(model.SerializeToString())


def edit(model: onnx.ModelProto, name: str, how: Callable[[np.ndarray], np.ndarray]) -> None:
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(onnx.numpy_helper.from_array(how(onnx.numpy_helper.to_array(tensor)), name))


def test_bounds_are_those_that_the_help_states() -> None:
    every = ("logit", "score", "embedding")
    assert bounds_of("float32", with_frontend=False) == Bounds(1e-4, every)
    framed = bounds_of("float32", with_frontend=False, frames=True)
    assert framed == Bounds(1e-4, (*every, "frame_logit", "frame_score"))
    assert bounds_of("float32", with_frontend=True) == Bounds(1e-4, ("score",), 5e-5)
    assert bounds_of("float16", with_frontend=False) == Bounds(1e-2, ("score",))
    assert bounds_of("int8", with_frontend=True) == Bounds(5e-2, ("score",), 5e-5)


@pytest.mark.parametrize("part", ["logit", "score", "embedding"])
@pytest.mark.parametrize("value", [1.1e-4, math.nan, math.inf])
def test_each_difference_is_bounded(part: str, value: float) -> None:
    bounds = bounds_of("float32", with_frontend=False)
    require(GOOD, bounds, "m")
    with pytest.raises(ModelError, match=r"differs from PyTorch by .* on a\.wav of 1000 frames"):
        require(replace(GOOD, **{part: value}), bounds, "m")


@pytest.mark.parametrize("part", ["frame_logit", "frame_score"])
def test_frames_are_bounded_where_they_are_judged(part: str) -> None:
    good = replace(GOOD, frame_logit=1e-6, frame_score=1e-6)
    require(good, bounds_of("float32", with_frontend=False, frames=True), "m")
    for value in (1.1e-4, math.nan):
        off = replace(good, **{part: value})
        require(off, bounds_of("float32", with_frontend=False), "m")
        with pytest.raises(ModelError, match="differs from PyTorch"):
            require(off, bounds_of("float32", with_frontend=False, frames=True), "m")


def test_only_scores_are_bounded_where_precision_is_given_up() -> None:
    bounds = bounds_of("int8", with_frontend=False)
    require(replace(GOOD, logit=3.0, embedding=0.5, score=0.049), bounds, "m")
    with pytest.raises(ModelError, match=r"more than 0\.05") as caught:
        require(replace(GOOD, score=0.051), bounds, "m")
    assert "--int8" in (caught.value.hint or "")


@pytest.mark.parametrize("value", [6e-5, math.nan, None])
def test_log_mels_are_bounded_where_they_are_judged(value: float | None) -> None:
    bounds = bounds_of("float32", with_frontend=True)
    require(replace(GOOD, log_mel=4e-5), bounds, "m")
    if value is not None:
        require(replace(GOOD, log_mel=value), replace(bounds, log_mel=None), "m")
    with pytest.raises(ModelError, match="front end in ONNX"):
        require(replace(GOOD, log_mel=value), bounds, "m")


def test_another_class_on_top_is_refused_unless_the_two_are_close() -> None:
    bounds = bounds_of("int8", with_frontend=False)
    require(replace(GOOD, n_same_top=0, lead_lost=0.03), bounds, "m")
    with pytest.raises(ModelError, match="another top class"):
        require(replace(GOOD, n_same_top=0, lead_lost=0.06), bounds, "m")


def test_a_recording_is_heard_window_by_window(tmp_path: Path, reference: Reference, tiny: Weights) -> None:
    path = tmp_path / "long one.wav"
    rng = np.random.default_rng(0)
    soundfile.write(path, rng.normal(0, 0.1, 8000 * 25), 8000)
    heard = list(reference.windows(path))
    assert [one.samples.shape for one in heard] == [(1, 320_000)] * 3
    case = compare(exported(tiny), heard)
    assert (case.signals, case.is_clip, case.n_windows, case.n_same_top) == (("long one.wav",), True, 3, 3)
    each = [compare(exported(tiny), [one]) for one in heard]
    assert case.logit == max(one.logit for one in each) > 0
    assert case.embedding == max(one.embedding for one in each)
    with pytest.raises(AudioNotFoundError):
        list(reference.windows(tmp_path / "gone.wav"))


def test_the_synthetic_sounds_come_alone_and_together(reference: Reference) -> None:
    heard = list(reference.sounds(one_clip=False))
    assert {(len(one.samples), one.mels.shape[-1]) for one in heard} == {
        (n, n_frames) for n in (1, 3) for n_frames in (1000, 437, 63)
    }
    assert any(one.answer.logits.std() > 0 for one in heard)


def test_a_wrong_weight_shows(reference: Reference, tiny: Weights) -> None:
    heard = list(reference.windows(demo_clips()[0].path))
    right = compare(exported(tiny), heard)
    assert right.worst() < 1e-4

    def biased(model: onnx.ModelProto) -> None:
        edit(model, "head.2.bias", lambda bias: bias + np.float32(0.01))

    off = compare(exported(tiny, biased), heard)
    assert off.logit == pytest.approx(0.01 / np.abs(heard[0].answer.logits).max(), rel=0.01)
    assert 0 < off.score <= 0.0026
    assert off.embedding == right.embedding

    def other_top(model: onnx.ModelProto) -> None:
        lead = np.full(5, -10, np.float32)
        lead[heard[0].answer.logits[0].argmin()] = 10
        edit(model, "head.2.bias", lambda bias: bias + lead)

    swapped = compare(exported(tiny, other_top), heard)
    assert swapped.n_same_top == 0
    scores = 1 / (1 + np.exp(-heard[0].answer.logits[0]))
    assert swapped.lead_lost == pytest.approx(scores.max() - scores.min(), abs=1e-6)

    def lost(model: onnx.ModelProto) -> None:
        edit(model, "head.2.bias", lambda bias: bias * np.float32(np.nan))

    assert math.isnan(compare(exported(tiny, lost), heard).worst(("score",)))


def test_large_logits_are_judged_by_the_largest_of_their_sound(tiny: Weights) -> None:
    last = {key: tiny.tensors[key] * np.float32(20) for key in ("classifier.5.weight", "classifier.5.bias")}
    large = replace(tiny, tensors={**tiny.tensors, **last})
    heard = list(Reference(large).windows(demo_clips()[0].path))
    largest = float(np.abs(heard[0].answer.logits).max())
    assert largest > 20

    def biased(model: onnx.ModelProto) -> None:
        edit(model, "head.2.bias", lambda bias: bias + np.float32(0.01))

    assert compare(exported(large, biased), heard).logit == pytest.approx(0.01 / largest, rel=0.01)


def test_each_sound_of_a_batch_has_its_own_largest_logit(reference: Reference, tiny: Weights) -> None:
    heard = next(one for one in reference.sounds(one_clip=False) if len(one.samples) == 3)
    wanted = np.array([[300.0, 1.0], [0.5, 0.0], [2.0, -4.0]], np.float32)
    got = wanted + np.array([[0.03, 0.0], [0.0, 2e-4], [0.0, -4e-4]], np.float32)
    answer = heard.answer._replace(logits=wanted, frame_logits=None)

    def file(samples: np.ndarray, mels: np.ndarray) -> tuple[np.ndarray, object]:
        return 1 / (1 + np.exp(-got)), answer._replace(logits=got)

    file.mels = lambda samples: None
    assert compare(file, [replace(heard, answer=answer)]).logit == pytest.approx(2e-4, rel=0.01)
    got[2] = math.nan
    assert math.isnan(compare(file, [replace(heard, answer=answer)]).logit)


def test_a_wrong_front_end_shows(reference: Reference, tiny: Weights) -> None:
    heard = list(reference.windows(demo_clips()[2].path))
    model = self_contained(tiny, ExportOptions(with_frontend=True))
    case = compare(ExportedFile(model.SerializeToString()), heard)
    assert 0 < case.log_mel <= 5e-5
    edit(model, "front_end.preemphasis.value", lambda value: value * np.float32(0.999))
    case = compare(ExportedFile(model.SerializeToString()), heard)
    assert case.log_mel > 5e-5
    with pytest.raises(ModelError, match=r"the front end in ONNX differs|differs from PyTorch"):
        require(case, bounds_of("float32", with_frontend=True), "m")


def test_answers_of_another_shape_are_refused(reference: Reference, lively: Callable) -> None:
    other = exported(lively(replace(TINY, n_classes=4)))
    with pytest.raises(ModelError, match="differ in shape"):
        compare(other, reference.windows(demo_clips()[0].path))


def test_what_onnxruntime_cannot_load_is_one_line() -> None:
    with pytest.raises(ModelError, match="onnxruntime cannot load") as caught:
        ExportedFile(b"no model")
    assert "\n" not in caught.value.message


def test_speed_is_a_ratio(tiny: Weights, reference: Reference) -> None:
    timing = measure(exported(tiny), exported(tiny), reference.log_mel)
    assert timing.plain_ms > 0 and timing.file_ms > 0
    assert ExportTiming(plain_ms=30.0, file_ms=20.0).ratio == 1.5
