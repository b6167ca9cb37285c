"""Frames through the whole way of the data: each is a window of its own around its moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dymn_cli.audio.frames import FramePlan
from dymn_cli.tagging.options import TagOptions
from dymn_cli.tagging.tagger import Tagger

RATE_HZ = 32_000


@pytest.fixture(scope="module")
def shipped() -> Iterator[Tagger]:
    """The model that comes with the package, on one thread."""
    with Tagger(threads=1) as tagger:
        yield tagger


def noise(seconds: float) -> np.ndarray:
    """Noise that gets louder and softer, so that no moment is like another."""
    rng = np.random.default_rng(3)
    n = round(seconds * RATE_HZ)
    return (0.2 * rng.standard_normal(n) * np.sin(np.arange(n) / 3_000) ** 2).astype(np.float32)


def frames_of(tagger: Tagger, samples: np.ndarray, plan: FramePlan, **changes: Any) -> list[Any]:
    with tagger.analyse((samples, RATE_HZ), frames=plan, **changes) as analysis:
        found = list(analysis)
    assert analysis.warnings == ()  # nothing is said of windows
    return found


def test_what_is_heard_follows_the_sound(
    backend: object, tone: Callable[..., np.ndarray], animals: SimpleNamespace
) -> None:
    sound = np.concatenate([tone(animals.cat, 0.5), tone(animals.duck, 0.5)])
    with Tagger(threads=2) as tagger:
        found = frames_of(tagger, sound, FramePlan())
    heard = [int(row.window.scores.argmax()) for row in found]
    assert heard[:9] == [animals.cat] * 9
    assert heard[12:] == [animals.duck] * 9
    assert [(row.window.start_s, row.window.end_s) for row in found[:2]] == [(0, 0.025), (0.025, 0.075)]


def test_channels_are_heard_apart(
    backend: object, tone: Callable[..., np.ndarray], animals: SimpleNamespace
) -> None:
    stereo = np.stack([tone(animals.cat, 0.3), tone(animals.duck, 0.3)], axis=1)
    with Tagger(threads=1) as tagger:
        found = frames_of(tagger, stereo, FramePlan(), channel="each")
    assert [row.channel for row in found] == ["0", "1"] * 7
    heard = [int(row.window.scores.argmax()) for row in found]
    assert heard == [animals.cat, animals.duck] * 7


def test_a_frame_is_a_window_of_its_own(shipped: Tagger) -> None:
    samples = noise(1.2)
    found = frames_of(shipped, samples, FramePlan(0.5, 0.25))
    assert len(found) == 5
    for number in (1, 2, 3):
        own = samples[number * 8_000 - 8_000 : number * 8_000 + 8_000]
        alone = shipped.embed((own, RATE_HZ), window_s=0.5)
        np.testing.assert_array_equal(found[number].window.embedding, alone)


def test_a_frame_does_not_depend_on_where_the_file_was_cut_nor_on_threads(shipped: Tagger) -> None:
    samples, plan = noise(2), FramePlan(0.16, 0.1)
    whole = frames_of(shipped, samples, plan)
    part = frames_of(shipped, samples[16_000:48_000], plan)  # from 0.5 to 1.5 s
    for number in range(1, 10):  # the first and the last one are mirrored
        np.testing.assert_array_equal(part[number].window.embedding, whole[5 + number].window.embedding)
    with Tagger(threads=3) as tagger:
        threaded = frames_of(tagger, samples, plan)
    for one, other in zip(whole, threaded, strict=True):
        np.testing.assert_array_equal(one.window.embedding, other.window.embedding)


def test_options_without_frames_are_windows() -> None:
    assert TagOptions().frames is None
