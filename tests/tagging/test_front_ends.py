"""Models that hear through a front end of their own: another hop, other mel bands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dymn_cli.audio.windows import WindowPlan, windows
from dymn_cli.doctor.self_test import check_model, try_clip
from dymn_cli.frontend.logmel import LogMel
from dymn_cli.frontend.melbank import FrontEndConfig
from dymn_cli.runtime.select import open_backend
from dymn_cli.tagging.aggregate import sigmoid
from dymn_cli.tagging.events import EventOptions, events_of
from dymn_cli.tagging.options import TagOptions
from dymn_cli.tagging.tagger import Tagger

RATE = 32_000
VARIANTS = {
    "hop_5": {"n_hop": 160},
    "hop_15": {"n_hop": 480},
    "hop_20": {"n_hop": 640},
    "hop_25": {"n_hop": 800},
    "mels_40": {"n_mels": 40},
    "mels_64": {"n_mels": 64},
    "mels_256": {"n_mels": 256},
}

SmallModel = Callable[..., Path]


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """7 s: noise that changes its colour, and a chirp."""
    rng = np.random.default_rng(4)
    time_s = np.arange(7 * RATE) / RATE
    noise = np.convolve(rng.normal(0, 0.1, len(time_s)), [1, 0.9], mode="same") * np.cos(time_s) ** 2
    return (noise + 0.2 * np.sin(2 * np.pi * 400 * time_s**2)).astype(np.float32)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("hop_s", [3.0, 0.5])
def test_scores_are_those_of_its_own_log_mel_window_by_window(
    name: str, hop_s: float, small_model: SmallModel, sound: np.ndarray
) -> None:
    """Overlapping windows share frames where their hop is a multiple of the model's; no bit may change."""
    path = small_model(name, **VARIANTS[name])
    log_mel = LogMel(FrontEndConfig(**VARIANTS[name]))
    plan = WindowPlan(3.0, hop_s)
    backend = open_backend(str(path), n_samples=plan.n_window)
    expected = [backend.run(log_mel(window.samples)) for window in windows([sound], plan)]
    with (
        Tagger(path, threads=2, options=TagOptions(window_s=3.0, hop_s=hop_s)) as tagger,
        tagger.analyse((sound, RATE)) as analysis,
    ):
        found = [row.window for row in analysis]
    assert len(found) == len(expected)
    for window, answer in zip(found, expected, strict=True):
        assert np.array_equal(window.scores, sigmoid(answer.logits)[0])
        assert np.array_equal(window.embedding, answer.embedding[0])
    assert len({window.scores.tobytes() for window in found}) > 1


@pytest.mark.parametrize("name", ["hop_5", "hop_25", "mels_40", "mels_256"])
def test_both_runtimes_hear_it_alike(name: str, small_model: SmallModel, sound: np.ndarray) -> None:
    pytest.importorskip("torch")
    path = small_model(name, **VARIANTS[name])
    scores = []
    for backend in ("onnx", "torch"):
        with Tagger(path, backend=backend, threads=1, options=TagOptions(window_s=2.0)) as tagger:
            scores.append(tagger.tag((sound, RATE)).scores)
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)


def test_a_dynamic_model_may_have_one_too(small_model: SmallModel, sound: np.ndarray) -> None:
    path = small_model("dymn_mels_64", architecture="dymn04", n_mels=64, n_hop=640)
    with Tagger(path, options=TagOptions(window_s=2.0)) as tagger:
        (config,) = tagger.front_ends
        assert (config.n_mels, config.n_hop) == (64, 640)
        assert np.ptp(tagger.tag((sound, RATE)).scores) > 0


@pytest.mark.parametrize("name", VARIANTS)
def test_the_shortest_sources_will_do(name: str, small_model: SmallModel, sound: np.ndarray) -> None:
    with Tagger(small_model(name, **VARIANTS[name]), options=TagOptions(pad="none")) as tagger:
        result = tagger.tag((sound[: RATE // 20], RATE))
    assert np.isfinite(result.scores).all()


def test_events_follow_it(small_model: SmallModel, sound: np.ndarray) -> None:
    path = small_model("hop_15", **VARIANTS["hop_15"])
    options = TagOptions(window_s=2.0, hop_s=0.4)
    with Tagger(path, options=options) as tagger, tagger.analyse((sound, RATE)) as analysis:
        scores = np.stack([row.window.scores for row in analysis])
        label = int(np.ptp(scores, axis=0).argmax())
        on = float(scores[:, label].mean())
        wanted = EventOptions(method="windows", on=on, labels=(tagger.vocabulary[label].name,))
        found = events_of(tagger, (sound, RATE), wanted)
    assert found.events
    assert all(event.index == label and event.score >= on - 1e-6 for event in found.events)


def test_models_verify_and_doctor_use_it(small_model: SmallModel, sound: np.ndarray) -> None:
    path = str(small_model("mels_64", **VARIANTS["mels_64"]))
    assert check_model(path).info.name == "mels_64"
    trial = try_clip((sound, RATE), path)
    with Tagger(path) as tagger:
        first = tagger.tag((sound, RATE), top=1).tags[0]
    assert trial.labels[0] == first.label
