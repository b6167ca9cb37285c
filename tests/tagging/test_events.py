"""Events of a source that goes on: which of them are settled, and in which order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dymn_cli.audio.windows import WindowPlan, windows
from dymn_cli.labels import Vocabulary
from dymn_cli.results import Event, WindowScores
from dymn_cli.tagging.events import EventOptions, SourceDetector
from dymn_cli.tagging.options import TagOptions
from dymn_cli.tagging.tagger import ChannelWindow

RATE_HZ = 32_000
STEP_S = 0.32
NAMES = ("Dog", "Bark", "Cat", "Meow", "Siren", "Speech")
VOCABULARY = Vocabulary.audioset()


def rows(seed: int, cut: WindowPlan, channels: int) -> list[ChannelWindow]:
    """Windows of two minutes in which sounds come and go by chance."""
    rng = np.random.default_rng(seed)
    columns = [VOCABULARY.find(name).index for name in NAMES]
    by_time = rng.choice([0.01, 0.2, 0.9], (channels, 20, len(NAMES)), p=[0.6, 0.2, 0.2])
    found = []
    for window in windows([np.zeros(120 * RATE_HZ, np.float32)], cut):
        for channel in range(channels):
            n_steps = round((window.end_s - window.start_s) / STEP_S)
            clip, steps = np.zeros(527, np.float32), np.zeros((n_steps, 527), np.float32)
            clip[columns] = by_time[channel, int(window.start_s // 6)]
            steps[:, columns] = rng.random((n_steps, len(NAMES))) ** 2
            scores = WindowScores(window.start_s, window.end_s, clip, clip, clip[:1], steps, steps)
            found.append(ChannelWindow(str(channel), scores))
    return found


def detector(options: EventOptions, cut: WindowPlan) -> SourceDetector:
    tagger: Any = SimpleNamespace(
        vocabulary=VOCABULARY,
        options=TagOptions(window_s=cut.window_s, hop_s=cut.hop_s),
        frames=SimpleNamespace(step_s=STEP_S, head="trained", calibration=None),
    )
    return SourceDetector(options, tagger, source="-")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("method", "cut"),
    [("frames", WindowPlan(10, 8)), ("frames", WindowPlan(10, 1)), ("windows", WindowPlan(5, 1))],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_events_settle_in_the_order_that_they_have_in_the_end(
    seed: int, method: Any, cut: WindowPlan, channels: int
) -> None:
    options = EventOptions(method=method, on=0.5, off=0.3, labels=NAMES)
    found, settled = detector(options, cut), list[Event]()
    for row in rows(seed, cut, channels):
        found.add(row)
        settled += found.settled()
    early = len(settled)
    whole = found.finish()
    assert [*settled, *found.settled()] == list(whole)
    places = [(event.start_s, event.end_s, event.index, event.channel) for event in whole]
    assert places == sorted(places)
    assert early > 0.6 * len(whole) > 6


def test_events_wait_where_more_specific_ones_may_replace_them() -> None:
    cut = WindowPlan(10, 8)
    found = detector(EventOptions(on=0.5, off=0.3, labels=NAMES, specific=True), cut)
    for row in rows(1, cut, 1):
        found.add(row)
        assert found.settled() == []
    whole = found.finish()
    assert found.settled() == list(whole) != []
