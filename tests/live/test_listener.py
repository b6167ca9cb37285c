"""The listener with a model whose answers are known: one second of the newest sound decides."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from dymn_cli.errors import InputError, UsageError
from dymn_cli.labels import Vocabulary
from dymn_cli.live.listener import DropOut, Heard, Listener, LiveEvent, Slow, Update
from dymn_cli.live.reader import Reader
from dymn_cli.live.sources import Pause, Sound
from dymn_cli.results import WindowScores
from dymn_cli.tagging.event_options import EventOptions
from dymn_cli.tagging.options import TagOptions
from dymn_cli.tagging.tagger import ChannelWindow

RATE_HZ = 32_000
STEP = 0.32
SPEECH = 0


class LevelTagger:
    """Hears label 0 wherever a step of the window is loud."""

    def __init__(self, seconds: float = 0.0, **options: object) -> None:
        self.vocabulary = Vocabulary.audioset()
        self.options = TagOptions(hop_s=1.0, frame_scores=True, **options)  # type: ignore[arg-type]
        self.frames = SimpleNamespace(step_s=STEP, head="trained", calibration=None)
        self.seconds = seconds
        self.ends: list[float] = []

    def mels_of(self, plan: object) -> object:
        return lambda cuts: []

    def answer(self, cuts: list, mels: object, *, frames: bool = False) -> list[ChannelWindow]:
        time.sleep(self.seconds)
        (cut,) = cuts
        n_steps = int((cut.end_s - cut.start_s) / STEP)
        scores = np.full((n_steps, 527), 0.001, np.float32)
        for n in range(n_steps):
            part = cut.samples[round(n * STEP * RATE_HZ) : round((n + 1) * STEP * RATE_HZ)]
            scores[n, SPEECH] = 0.9 if np.abs(part).mean() > 0.1 else 0.001
        clip = scores.max(axis=0)
        self.ends.append(cut.end_s)
        window = WindowScores(cut.start_s, cut.end_s, clip, clip, clip[:1], scores, scores)
        return [ChannelWindow(cut.channel, window)]


class Script:
    """A source that gives what it is told."""

    name = "script"

    def __init__(self, items: Iterator[Sound | Pause], error: Exception | None = None) -> None:
        self._items, self._error = items, error

    def blocks(self) -> Iterator[Sound | Pause]:
        yield from self._items
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        pass


def sound(seconds: float, level: float, rate_hz: int = RATE_HZ, channels: int = 1) -> Iterator[Sound]:
    for _ in range(round(seconds * 10)):
        yield Sound(np.full((rate_hz // 10, channels), level, np.float32), rate_hz)


def several(*parts: Iterator[Sound | Pause]) -> Iterator[Sound | Pause]:
    for part in parts:
        yield from part


def heard(
    items: Iterator[Sound | Pause], tagger: LevelTagger | None = None, **options: object
) -> list[Update]:
    listener = Listener(tagger or LevelTagger(), EventOptions(), name="script", **options)  # type: ignore[arg-type]
    with Reader(Script(items)) as reader:
        return list(listener.listen(reader))


def ended(updates: list[Update]) -> list[LiveEvent]:
    return [update for update in updates if isinstance(update, LiveEvent) and update.phase == "end"]


def test_a_sound_across_many_windows_is_one_event() -> None:
    updates = heard(several(sound(12, 0), sound(15, 0.5), sound(10, 0)))
    (event,) = ended(updates)
    assert event.event.start_s == pytest.approx(12, abs=STEP)
    assert event.event.end_s == pytest.approx(27, abs=STEP)
    phases = [update.phase for update in updates if isinstance(update, LiveEvent)]
    assert phases == ["begin", "end"]


def test_two_sounds_are_two_events_and_numbered() -> None:
    events = ended(heard(several(sound(2, 0), sound(3, 0.5), sound(3, 0), sound(3, 0.5), sound(1.5, 0))))
    assert [event.number for event in events] == [1, 2]
    assert [event.event.start_s for event in events] == pytest.approx([2, 8], abs=STEP)


def test_the_end_of_the_sound_ends_its_event() -> None:
    (event,) = ended(heard(several(sound(2, 0), sound(2.5, 0.5))))
    assert event.event.end_s == pytest.approx(4.5, abs=STEP)


def test_the_rate_may_change_on_the_way() -> None:
    parts = (sound(3, 0, 44_100, 2), sound(2, 0.5, 44_100, 2), sound(2, 0.5, 16_000), sound(4, 0, 48_000, 6))
    (event,) = ended(heard(several(*parts)))
    assert event.event.start_s == pytest.approx(3, abs=STEP)
    assert event.event.end_s == pytest.approx(7, abs=STEP)


def test_a_drop_out_ends_events_and_times_go_on() -> None:
    updates = heard(several(sound(3, 0.5), iter([Pause("gone")]), sound(3, 0), sound(2, 0.5), sound(2, 0)))
    first, second = ended(updates)
    assert first.event.end_s == pytest.approx(3, abs=STEP)
    assert second.event.start_s == pytest.approx(6, abs=STEP)
    (drop_out,) = [update for update in updates if isinstance(update, DropOut)]
    assert (drop_out.reason, drop_out.at_s) == ("gone", pytest.approx(3))


def test_samples_that_are_no_numbers_are_silence() -> None:
    bad = Sound(np.full((3200, 1), np.nan, np.float32), RATE_HZ)
    listener = Listener(LevelTagger(), EventOptions(), name="x")  # type: ignore[arg-type]
    with Reader(Script(several(sound(2, 0), iter([bad]), sound(2, 0)))) as reader:
        assert not ended(list(listener.listen(reader)))
    assert listener.totals.n_repaired == 1


def test_a_fast_source_waits_and_no_window_is_left_out() -> None:
    tagger = LevelTagger(seconds=0.02)
    updates = heard(sound(60, 0), tagger)
    assert tagger.ends == [float(n) for n in range(1, 61)]
    assert not [update for update in updates if isinstance(update, Slow)]


@pytest.mark.process
def test_a_slow_model_leaves_windows_out_says_so_and_loses_no_event() -> None:
    def paced() -> Iterator[Sound]:
        """As fast as the clock."""
        for n, block in enumerate(several(sound(2, 0), sound(2, 0.5), sound(2, 0))):
            time.sleep(max(0.0, begun + n / 10 - time.monotonic()))
            assert isinstance(block, Sound)
            yield Sound(block.samples, block.rate_hz)

    begun = time.monotonic()
    tagger = LevelTagger(seconds=2.0)
    updates = heard(paced(), tagger)
    slow = [update for update in updates if isinstance(update, Slow)]
    assert slow and sum(update.n_skipped for update in slow) >= 1
    assert sum(update.lost_s for update in slow) == 0
    assert len(ended(updates)) == 1


def test_an_event_longer_than_a_clip_is_told_of_once() -> None:
    updates = heard(several(sound(1, 0), sound(12, 0.5), sound(3, 0)), long_s=5.0)
    phases = [update.phase for update in updates if isinstance(update, LiveEvent)]
    assert phases == ["begin", "long", "end"]


@pytest.mark.slow
def test_an_hour_takes_no_more_memory_than_a_minute() -> None:
    listener = Listener(LevelTagger(), EventOptions(), name="x")  # type: ignore[arg-type]
    parts = (part for _ in range(360) for part in (sound(7, 0), sound(3, 0.5)))
    n_events, early = 0, 0
    tracemalloc.start()
    with Reader(Script(item for part in parts for item in part)) as reader:
        for update in listener.listen(reader):
            n_events += isinstance(update, LiveEvent) and update.phase == "end"
            if isinstance(update, Heard) and update.window.end_s == 120:
                early = tracemalloc.get_traced_memory()[0]
        late = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert n_events == 360
    assert late < early + 1_000_000


def test_the_error_of_a_source_comes_after_its_events() -> None:
    listener = Listener(LevelTagger(), EventOptions(), name="x")  # type: ignore[arg-type]
    updates: list[Update] = []
    source = Script(several(sound(2, 0), sound(2, 0.5)), InputError("the cable is out"))
    with Reader(source) as reader, pytest.raises(InputError, match="cable"):
        for update in listener.listen(reader):
            updates.append(update)  # noqa: PERF402 - what came before the error counts
    assert len(ended(updates)) == 1


def test_each_channel_is_refused() -> None:
    with pytest.raises(UsageError, match="one channel"):
        Listener(LevelTagger(channel="each"), EventOptions(), name="x")  # type: ignore[arg-type]
