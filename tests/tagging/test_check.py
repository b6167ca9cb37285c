"""The self-test must find a model or a runtime that answers wrongly."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dymn_cli.demo import demo_clips
from dymn_cli.errors import BackendUnavailableError, ChecksumError, ModelError, UsageError
from dymn_cli.runtime.base import Answer
from dymn_cli.runtime.onnx import OnnxBackend
from dymn_cli.store.registry import DEFAULT_MODEL
from dymn_cli.tagging import check


@pytest.fixture
def answers(monkeypatch):
    """Lets a test change what onnxruntime answers: a function of the answer and the number of the call."""

    def change(how) -> None:
        real, calls = OnnxBackend.run, []

        def run(self, mels):
            calls.append(None)
            return how(real(self, mels), len(calls))

        monkeypatch.setattr(OnnxBackend, "run", run)

    return change


@pytest.fixture
def without_torch(monkeypatch):
    monkeypatch.setattr(check, "find_spec", lambda name: None)


def test_the_shipped_model_passes(without_torch):
    passed = check.check_model(DEFAULT_MODEL)
    assert passed.info.name == DEFAULT_MODEL
    assert passed.info.backend == "onnx"
    assert (passed.difference, passed.unasked) == (None, "PyTorch is not installed")


def test_a_runtime_that_differs_from_pytorch_is_found(answers):
    pytest.importorskip("torch")
    answers(lambda answer, n: Answer(answer.logits + np.float32(0.01), answer.embedding))
    with pytest.raises(ModelError, match="PyTorch differ"):
        check.check_model(DEFAULT_MODEL)


def test_answers_that_change_from_one_call_to_the_next_are_found(answers, without_torch):
    answers(lambda answer, n: Answer(answer.logits, answer.embedding + np.float32(1e-3 * n)))
    with pytest.raises(ModelError, match="two answers"):
        check.check_model(DEFAULT_MODEL)


def test_an_answer_of_nan_is_found(answers, without_torch):
    answers(lambda answer, n: Answer(answer.logits * np.float32(np.nan), answer.embedding))
    with pytest.raises(ModelError, match="NaN"):
        check.check_model(DEFAULT_MODEL)


def test_a_pytorch_that_cannot_be_loaded_is_no_fault_of_the_model(monkeypatch):
    pytest.importorskip("torch")
    real = check.open_backend

    def open_backend(model, *, backend="auto", **rest):
        if backend == "torch":
            raise BackendUnavailableError("PyTorch cannot be loaded: a missing library")
        return real(model, backend=backend, **rest)

    monkeypatch.setattr(check, "open_backend", open_backend)
    passed = check.check_model(DEFAULT_MODEL)
    assert passed.difference is None
    assert passed.unasked == "PyTorch cannot be loaded: a missing library"


def test_a_file_that_is_not_the_manifests_is_found(monkeypatch, without_torch):
    from dymn_cli.runtime import select
    from dymn_cli.store.registry import model_spec

    wrong = dataclasses.replace(model_spec(DEFAULT_MODEL), sha256="0" * 64)
    monkeypatch.setattr(select, "resolve", lambda name: wrong)
    with pytest.raises(ChecksumError):
        check.check_model(DEFAULT_MODEL)


def test_an_unknown_model_is_a_usage_error():
    with pytest.raises(UsageError):
        check.check_model("nope")


def test_a_clip_is_tagged_and_every_stage_timed():
    clip = demo_clips()[0]
    trial = check.try_clip(clip.path, DEFAULT_MODEL)
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
    assert list(check.try_clip(clip.path, DEFAULT_MODEL).labels[:10]) == expected
