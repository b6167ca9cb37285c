"""Scores for each step of a window's time line."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from dymn_cli.audio.frames import FramePlan
from dymn_cli.errors import ModelError, UsageError
from dymn_cli.tagging.options import TagOptions
from dymn_cli.tagging.tagger import Tagger

RATE_HZ = 32_000


def test_each_step_hears_its_own_moment(
    backend: object, tone: Callable[..., np.ndarray], animals: SimpleNamespace
) -> None:
    sound = np.concatenate([tone(animals.cat, 4.8), tone(animals.duck, 5.2)])
    with Tagger(options=TagOptions(frame_scores=True)) as tagger:
        assert tagger.step_s == 0.32
        with tagger.analyse((sound, RATE_HZ)) as analysis:
            ((_, window),) = analysis
    assert window.frame_scores.shape == window.frame_logits.shape == (32, 527)
    heard = window.frame_scores.argmax(axis=1)
    assert heard.tolist() == [animals.cat] * 15 + [animals.duck] * 17
    assert window.frame_scores.max() == pytest.approx(0.9)


def test_steps_of_what_fills_up_a_window_are_left_out(
    backend: object, tone: Callable[..., np.ndarray], animals: SimpleNamespace
) -> None:
    with Tagger(options=TagOptions(frame_scores=True)) as tagger:
        for seconds, n_steps in ((0.3, 1), (3.0, 10), (3.21, 11), (9.59, 30), (9.61, 31), (10.0, 32)):
            with tagger.analyse((tone(animals.cat, seconds), RATE_HZ)) as analysis:
                ((_, window),) = analysis
            assert window.frame_scores.shape == (n_steps, 527)


def test_they_are_there_where_they_were_asked_for(backend: object, tone: Callable[..., np.ndarray]) -> None:
    sound = (tone(72, 25), RATE_HZ)
    with Tagger(threads=2) as tagger:
        with tagger.analyse(sound) as analysis:
            assert [window.frame_scores for _, window in analysis] == [None] * 3
        with tagger.analyse(sound, frame_scores=True, hop_s=2.5) as analysis:
            assert {window.frame_scores.shape for _, window in analysis} == {(32, 527)}
    with pytest.raises(UsageError, match="not for a cut into frames"):
        TagOptions(frame_scores=True, frames=FramePlan())


def test_models_that_cannot_are_refused_before_anything_is_decoded(
    backend: object, tone: Callable[..., np.ndarray]
) -> None:
    backend.has_frames = False
    said = "^exported/m.onnx scores whole windows only: the file was exported without frames"
    with Tagger("exported/m.onnx") as tagger, pytest.raises(UsageError, match=said):
        tagger.analyse((tone(72, 1), RATE_HZ), frame_scores=True)


def test_frames_of_nan_are_an_error(backend: object, tone: Callable[..., np.ndarray]) -> None:
    plain = backend.run
    backend.run = lambda mels, *, frames: plain(mels)._replace(frame_logits=np.full((1, 32, 527), np.nan))
    sound = (tone(72, 1), RATE_HZ)
    with Tagger() as tagger, tagger.analyse(sound, frame_scores=True) as found, pytest.raises(ModelError):
        list(found)


def test_the_shipped_model_says_when(shared: object) -> None:
    """A chirp of noise after silence: steps of the silence score lower than those of the noise."""
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 0.2, 5 * RATE_HZ).astype(np.float32)
    sound = np.concatenate([np.zeros(5 * RATE_HZ, np.float32), noise])
    with Tagger(options=TagOptions(frame_scores=True)) as tagger:
        with tagger.analyse((sound, RATE_HZ)) as analysis:
            ((_, window),) = analysis
        best = window.scores.argmax()
    steps = window.frame_scores[:, best]
    assert steps[18:].mean() > 2 * steps[:14].mean()
