"""The self-test must find a model or a runtime that answers wrongly."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import sounds

from dymn_cli.demo import demo_clips
from dymn_cli.doctor import self_test
from dymn_cli.errors import BackendUnavailableError, ChecksumError, ModelError, UsageError
from dymn_cli.runtime.base import Answer
from dymn_cli.runtime.onnx import OnnxBackend
from dymn_cli.store.registry import DEFAULT_MODEL, Example, model_spec


@pytest.fixture
def answers(monkeypatch):
    """Lets a test change what onnxruntime answers: a function of the answer and the number of the call."""

    def change(how) -> None:
        real, calls = OnnxBackend.run, []

        def run(self, mels, *, frames=False):
            calls.append(None)
            return how(real(self, mels, frames=frames), len(calls))

        monkeypatch.setattr(OnnxBackend, "run", run)

    return change


@pytest.fixture
def without_torch(monkeypatch):
    monkeypatch.setattr(self_test, "find_spec", lambda name: None)


def test_the_shipped_model_passes(without_torch):
    passed = self_test.check_model(DEFAULT_MODEL)
    assert passed.info.name == DEFAULT_MODEL
    assert passed.info.backend == "onnx"
    assert (passed.difference, passed.unasked) == (None, "PyTorch is not installed")


def test_a_runtime_that_differs_from_pytorch_is_found(answers):
    pytest.importorskip("torch")
    answers(lambda answer, n: Answer(answer.logits + np.float32(0.01), answer.embedding))
    with pytest.raises(ModelError, match="PyTorch differ"):
        self_test.check_model(DEFAULT_MODEL)


def test_answers_that_change_from_one_call_to_the_next_are_found(answers, without_torch):
    answers(lambda answer, n: Answer(answer.logits, answer.embedding + np.float32(1e-3 * n)))
    with pytest.raises(ModelError, match="two runs on the same sound"):
        self_test.check_model(DEFAULT_MODEL)


def test_wrong_frames_are_found(answers):
    pytest.importorskip("torch")
    answers(lambda answer, n: answer._replace(frame_logits=answer.frame_logits[:, ::-1]))
    with pytest.raises(ModelError, match="PyTorch differ"):
        self_test.check_model(DEFAULT_MODEL)


def test_an_answer_of_nan_is_found(answers, without_torch):
    answers(lambda answer, n: Answer(answer.logits * np.float32(np.nan), answer.embedding))
    with pytest.raises(ModelError, match="NaN"):
        self_test.check_model(DEFAULT_MODEL)


def test_a_pytorch_that_cannot_be_loaded_is_no_fault_of_the_model(monkeypatch):
    pytest.importorskip("torch")
    real = self_test.open_backend

    def open_backend(model, *, backend="auto", **rest):
        if backend == "torch":
            raise BackendUnavailableError("PyTorch cannot be loaded: a missing library")
        return real(model, backend=backend, **rest)

    monkeypatch.setattr(self_test, "open_backend", open_backend)
    passed = self_test.check_model(DEFAULT_MODEL)
    assert passed.difference is None
    assert passed.unasked == "PyTorch cannot be loaded: a missing library"


def test_a_file_that_is_not_the_manifests_is_found(monkeypatch, without_torch):
    from dymn_cli.runtime import select
    from dymn_cli.store.registry import model_spec

    wrong = dataclasses.replace(model_spec(DEFAULT_MODEL), sha256="0" * 64)
    monkeypatch.setattr(select, "resolve", lambda name: wrong)
    with pytest.raises(ChecksumError):
        self_test.check_model(DEFAULT_MODEL)


def test_a_clip_is_answered_as_well_as_the_synthetic_sound(answers, without_torch):
    seen = []
    answers(lambda answer, n: seen.append(len(answer.logits)) or answer)
    passed = self_test.check_model(DEFAULT_MODEL, clip=demo_clips()[0].path)
    assert seen == [2, 2]
    assert passed.header.name == DEFAULT_MODEL


# ---------------------------------------------------------------------- published scores


@pytest.fixture
def example(monkeypatch):
    """As if these scores had been published for the default model and the example clip."""

    def publish(scores, tolerance=0.01):
        published = dataclasses.replace(
            model_spec(DEFAULT_MODEL), example=Example("a test", tolerance, tuple(scores.items()))
        )
        monkeypatch.setattr(self_test, "model_spec", lambda name: published)

    return publish


@pytest.fixture(scope="module")
def ten_seconds():
    return sounds.noise(320_000), 32_000


def test_scores_are_held_to_the_published_ones(example, ten_seconds):
    from dymn_cli import Tagger

    with Tagger() as tagger:
        tags = tagger.tag(ten_seconds, top=3).tags
    example({tag.label: tag.score for tag in tags})
    found = self_test.check_example(DEFAULT_MODEL, ten_seconds)
    assert found.difference < 1e-6
    assert found.holds
    example({**{tag.label: tag.score for tag in tags}, tags[0].label: tags[0].score - 0.05})
    found = self_test.check_example(DEFAULT_MODEL, ten_seconds)
    assert found.difference == pytest.approx(0.05, abs=1e-6)
    assert not found.holds
    assert [row[0] for row in found.rows] == [tag.label for tag in tags]


@pytest.mark.parametrize("seconds", [3, 9.4, 10.6, 25])
def test_a_clip_of_another_length_is_not_the_example(example, ten_seconds, seconds):
    example({"Speech": 0.5})
    samples = np.resize(ten_seconds[0], round(seconds * 32_000))
    with pytest.raises(UsageError, match="more" if seconds > 10 else "less"):
        self_test.check_example(DEFAULT_MODEL, (samples, 32_000))


def test_a_model_without_published_scores_says_which_have_some(ten_seconds):
    with pytest.raises(UsageError) as caught:
        self_test.check_example(DEFAULT_MODEL, ten_seconds)
    assert caught.value.hint == "dymn10_as, mn04_as"


def test_an_unknown_model_is_a_usage_error():
    with pytest.raises(UsageError):
        self_test.check_model("nope")


def test_a_clip_is_tagged_and_every_stage_timed():
    clip = demo_clips()[0]
    trial = self_test.try_clip(clip.path, DEFAULT_MODEL)
    assert len(set(trial.labels)) == 527
    assert clip.labels[0] in trial.labels[:5]
    times = dataclasses.astuple(trial.times)
    assert len(times) == 3
    assert all(0 < ms < 5000 for ms in times)
    assert trial.form is not None


def test_a_clip_says_the_same_as_the_tagger():
    from dymn_cli import Tagger

    clip = demo_clips()[1]
    with Tagger() as tagger:
        expected = [tag.label for tag in tagger.tag(clip.path, top=10).tags]
    assert list(self_test.try_clip(clip.path, DEFAULT_MODEL).labels[:10]) == expected
