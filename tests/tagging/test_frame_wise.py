"""A model that scores steps of 40 ms from sound at 16 kHz, from the file to the event."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sounds
from checkpoints import state_dict

from dymn_cli.errors import UsageError
from dymn_cli.frontend.melbank import FRAMEWISE
from dymn_cli.labels import Vocabulary
from dymn_cli.model.config import ARCHITECTURES
from dymn_cli.store.header import ModelHeader
from dymn_cli.store.weights import save_weights
from dymn_cli.tagging.event_options import EventOptions
from dymn_cli.tagging.events import events_of
from dymn_cli.tagging.options import TagOptions
from dymn_cli.tagging.tagger import Tagger

RATE = 32_000
BEGIN_S, END_S = 4.0, 6.0


@pytest.fixture(scope="module")
def burst() -> np.ndarray:
    """Ten seconds, of which two are noise."""
    samples = np.zeros(10 * RATE, np.float32)
    inside = slice(round(BEGIN_S * RATE), round(END_S * RATE))
    samples[inside] = sounds.noise(inside.stop - inside.start, level=0.1, seed=4)
    return samples


@pytest.fixture(scope="module")
def model(burst: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An FMN with drawn weights, whose label "Dog" is fitted to the noise."""
    path = tmp_path_factory.mktemp("fmn") / "fmn04.safetensors"
    header = ModelHeader("fmn04", ARCHITECTURES["fmn04"], FRAMEWISE, Vocabulary.audioset_strong())
    tensors = {key: np.asarray(value, np.float32) for key, value in state_dict(header.config).items()}
    save_weights(path, header, tensors)
    with Tagger(path) as tagger, tagger.analyse((burst, RATE), frame_scores=True) as analysis:
        ((_, window),) = analysis
    logits = window.frame_logits.astype(np.float64)
    middle_s = 0.04 * np.arange(len(logits)) + 0.02
    wanted = np.where((middle_s > BEGIN_S) & (middle_s < END_S), 4.0, -4.0)
    shares = np.linalg.solve(logits.T @ logits + 30.0 * np.eye(447), logits.T @ wanted)
    dog = header.vocabulary.find("Dog").index
    weight, bias = (shares @ tensors[f"strong_head.{part}"] for part in ("weight", "bias"))
    tensors["strong_head.weight"][dog], tensors["strong_head.bias"][dog] = weight, bias
    save_weights(path, header, tensors)
    return path


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_an_event_begins_and_ends_where_its_sound_does(model: Path, burst: np.ndarray, backend: str) -> None:
    if backend == "torch":
        pytest.importorskip("torch")
    with Tagger(model, backend=backend, options=TagOptions(frame_scores=True)) as tagger:
        found = events_of(tagger, (burst, RATE), EventOptions(labels=("Dog",), on=0.5))
    (event,) = found.events
    assert (event.label, event.mid) == ("Dog", "/m/0bt9lr")
    assert event.start_s == pytest.approx(BEGIN_S, abs=0.2)
    assert event.end_s == pytest.approx(END_S, abs=0.2)


def test_steps_are_40_ms_and_none_lies_behind_the_end(model: Path, burst: np.ndarray) -> None:
    with Tagger(model) as tagger:
        assert tagger.step_s == pytest.approx(0.04)
        assert tagger.frames.head == "alone"
        for n_samples, n_steps in ((320_000, 250), (105_600, 83)):
            with tagger.analyse((burst[:n_samples], RATE), frame_scores=True) as analysis:
                ((_, window),) = analysis
            assert window.frame_scores.shape == (n_steps, 447)
            assert np.all(window.scores >= window.frame_scores.max(axis=0))


def test_windows_that_overlap_share_frames_and_have_the_same_bits(model: Path, burst: np.ndarray) -> None:
    hop = round(2.5 * RATE)
    long = np.concatenate([burst, burst[::-1]])
    with Tagger(model, threads=1) as tagger:
        with tagger.analyse((long, RATE), hop_s=2.5) as analysis:
            together = [window for _, window in analysis]
        for window in together[:3]:
            start = round(window.start_s * RATE)
            assert start % hop == 0
            with tagger.analyse((long[start : start + 10 * RATE], RATE)) as analysis:
                ((_, alone),) = analysis
            assert np.array_equal(alone.logits, window.logits)


def test_the_rate_of_a_recording_makes_no_difference_to_what_is_heard(model: Path, burst: np.ndarray) -> None:
    import soxr

    with Tagger(model) as tagger:
        usual = tagger.tag((burst, RATE)).scores
        other = tagger.tag((soxr.resample(burst, RATE, 48_000, quality="HQ"), 48_000)).scores
    assert np.abs(usual - other).max() < 0.05


def test_it_answers_alone_but_not_beside_a_model_of_527_labels(model: Path) -> None:
    with pytest.raises(UsageError, match="do not have the same labels"):
        Tagger([model, "dymn04_kd"])


def test_kinds_of_a_sound_are_those_that_the_model_has(model: Path, burst: np.ndarray) -> None:
    """Groups of AudioSet's 527 are labels here: "Human voice" is a kind of "Human sounds"."""
    with Tagger(model) as tagger:
        tags = tagger.tag((burst, RATE), labels=("Human sounds",), descendants=True, top=0).tags
    names = {tag.label for tag in tags}
    assert {"Human sounds", "Human voice", "Speech"} <= names
    assert "Dog" not in names
