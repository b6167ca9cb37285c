"""The listener with a model whose answers are known: one second of the newest sound decides."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
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


def test_what_a_stream_begins_with_is_not_heard_again() -> None:
    class Rounded(LevelTagger):
        """Each step hears a second beyond its end, as a network does."""

        def answer(self, cuts: list, mels: object, *, frames: bool = False) -> list[ChannelWindow]:
            (cut,) = cuts
            level = np.pad(np.abs(cut.samples), (0, RATE_HZ)).cumsum()
            heard = cut._replace(samples=(level[RATE_HZ:] - level[:-RATE_HZ]) / RATE_HZ)
            return super().answer([heard], mels, frames=frames)

    (event,) = ended(heard(several(sound(1, 0.5), sound(12, 0)), Rounded()))
    assert event.event.start_s == 0
    assert event.event.end_s == pytest.approx(1, abs=1)


@pytest.mark.parametrize(
    ("arrival_s", "at_s"),
    [
        pytest.param(lambda end_s: end_s, 200, id="on time"),
        pytest.param(lambda end_s: max(end_s, 4.0), 200, id="the past in a burst"),
        pytest.param(lambda end_s: end_s + 0.3 * (round(10 * end_s) % 7), 200, id="unevenly"),
        pytest.param(lambda end_s: 0.99 * end_s, 198, id="a fast device"),
        pytest.param(lambda end_s: 1.01 * end_s, 202, id="a slow device"),
    ],
)
def test_the_clock_says_when_a_sound_was(arrival_s: Callable[[float], float], at_s: float) -> None:
    begins, now = time.monotonic() + 1000, datetime.now(UTC)

    def timed() -> Iterator[Sound]:
        end_s = 0.0
        for block in several(sound(200, 0), sound(2, 0.5), sound(2, 0)):
            end_s += block.length_s
            yield replace(block, arrived=begins + arrival_s(end_s))

    begin, end = (update for update in heard(timed()) if isinstance(update, LiveEvent))
    assert begin.clock == end.clock
    assert (begin.clock - now).total_seconds() == pytest.approx(1000 + at_s, abs=1.3)


@pytest.mark.parametrize(
    "arrival_s",
    [
        pytest.param(lambda end_s: 0.02 * end_s, id="a file in a pipe"),
        pytest.param(lambda end_s: 0.02 * end_s + 3 * (end_s > 20), id="a file in a pipe that stalls"),
        pytest.param(lambda end_s: 0.8 * end_s, id="a little faster than it lasts"),
        pytest.param(lambda end_s: max(end_s, 15.0), id="the past in a burst"),
    ],
)
def test_what_sounds_later_has_no_earlier_time(arrival_s: Callable[[float], float]) -> None:
    begins = time.monotonic()

    def timed() -> Iterator[Sound]:
        end_s = 0.0
        for block in several(
            *(part for _ in range(12) for part in (sound(2, 0), sound(1, 0.5), sound(1, 0)))
        ):
            end_s += block.length_s
            yield replace(block, arrived=begins + arrival_s(end_s))

    clocks = [event.clock for event in ended(heard(timed()))]
    assert len(clocks) == 12
    assert clocks == sorted(clocks)


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
