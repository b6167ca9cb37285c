"""Hears live sound: the newest window again and again, and events as they begin and end.

    listener = Listener(tagger, EventOptions(), name="-")
    with Reader(source) as reader:
        for update in listener.listen(reader):
            ...

Every hop, the model is asked about the last ten seconds. Only the newest steps of its answer count, so that
an event is known as soon as it is heard. Less than ten seconds after the start, what there is is mirrored:
were it repeated, the newest step would hear the beginning again.

**Keeping up.** Where the model is slower than the sound, windows are left out: the newest one still covers
all that came since the one before, up to ten seconds. Beyond that, sound is lost. `Slow` tells of both. A
source that gives sound faster than it lasts, such as a file in a pipe, waits instead: nothing is left out.

**Drop-outs.** After five seconds without sound, or where a stream begins anew, events end, and a new stretch
of sound begins. Times are seconds of sound since listening began. Clock times are measured by the blocks that
came with the least delay in the last minutes: a server may send the past in a burst, and no device has
exactly the rate that it says. Later sound never has an earlier time, also where a source such as a file in a
pipe gains on the clock to its end.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dymn_cli.audio.resample import RATE_HZ, LiveResampler, mix
from dymn_cli.audio.windows import MIN_SAMPLES, SampleBuffer, WindowPlan
from dymn_cli.errors import InputError, UsageError
from dymn_cli.live.sources import Notice, Pause, Sound
from dymn_cli.tagging.events import frame_detector
from dymn_cli.tagging.tagger import Cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.live.reader import Reader
    from dymn_cli.results import Event, WindowScores
    from dymn_cli.tagging.event_options import EventOptions
    from dymn_cli.tagging.frame_events import FrameDetector
    from dymn_cli.tagging.tagger import Tagger

__all__ = ["DropOut", "Heard", "Listener", "LiveEvent", "Slow", "Totals", "Update"]

STALLED_S = 5.0
POLL_S = 0.2
BEHIND_HOPS = 1.0  # hops of lag from which on windows are left out
TELL_SLOW_S = 60.0
CLOCK_S = 60.0  # after which an older measure of the clock is given up


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """The newest window.

    Args:
        window: its scores; times are seconds since listening began.
        clock: when it began.
        lag_s: from the arrival of its last sample to this answer.
    """

    window: WindowScores
    clock: datetime
    lag_s: float


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """An event that begins, ends, or has become longer than a clip.

    Args:
        number: counts from 1; the same at its beginning and at its end.
        event: what is known of it; times are seconds since listening began.
        clock: when it began.
        phase: "begin", "long" or "end".
    """

    number: int
    event: Event
    clock: datetime
    phase: str


@dataclass(frozen=True, slots=True)
class DropOut:
    """Sound stopped: events have ended.

    Args:
        reason: why.
        at_s: seconds since listening began.
        is_told: a `Notice` of the source says so, too.
    """

    reason: str
    at_s: float
    is_told: bool = False


@dataclass(frozen=True, slots=True)
class Slow:
    """The model does not keep up.

    Args:
        n_skipped: windows left out since this was told the last time.
        lost_s: seconds of sound that no window covered, likewise.
        hop_s: from one window to the next, on average.
    """

    n_skipped: int
    lost_s: float
    hop_s: float


Update = Heard | LiveEvent | DropOut | Slow | Notice


@dataclass(slots=True)
class Totals:
    """What has been heard by now.

    Args:
        sound_s: seconds of sound.
        n_windows: windows that the model was asked about.
        n_events: events that have ended.
        n_drop_outs: interruptions.
        n_skipped: windows left out because the model was too slow.
        lost_s: seconds of sound that no window covered.
        n_repaired: blocks with samples that are no numbers, taken as silence.
    """

    sound_s: float = 0.0
    n_windows: int = 0
    n_events: int = 0
    n_drop_outs: int = 0
    n_skipped: int = 0
    lost_s: float = 0.0
    n_repaired: int = 0


class _Open(NamedTuple):
    """An event that has begun: its number, whether it is long, and when it began by the clock."""

    number: int
    is_long: bool
    clock: datetime
    start_s: float


class _Stretch:
    """Sound without a break, and the events in it.

    Args:
        offset_s: where it begins, in seconds since listening began.
        plan: how windows lie in it.
    """

    def __init__(self, offset_s: float, plan: WindowPlan) -> None:
        self.offset_s, self.plan = offset_s, plan
        self._length_s = 0.0
        self._begins: deque[tuple[float, float]] = deque(maxlen=2)  # a minute's first arrival, least delay
        self._last_clock: tuple[float, datetime] | None = None  # of the latest sound whose time was told
        self.buffer = SampleBuffer()
        self.next_end = plan.n_hop
        self.last_end = 0
        self.origin = 0  # where the detector began to listen
        self._form: tuple[int, int] | None = None
        self._resampler: LiveResampler | None = None
        self.last: Sound | None = None

    def add(self, sound: Sound, channel: str) -> None:
        """Take sound in; its rate may change."""
        form = sound.rate_hz, sound.samples.shape[1]
        if self._resampler is None or self._form is None or form[0] != self._form[0]:
            if self._resampler is not None:
                self.buffer.append(self._resampler.add(np.empty(0, np.float32), last=True))
            self._resampler = LiveResampler(form[0])
        self._form, self.last = form, sound
        self._length_s += sound.length_s
        begin = sound.arrived - self._length_s
        if not self._begins or sound.arrived >= self._begins[-1][0] + CLOCK_S:
            self._begins.append((sound.arrived, begin))
        else:
            since, least = self._begins[-1]
            self._begins[-1] = since, min(least, begin)
        self.buffer.append(self._resampler.add(_one_channel(sound.samples, channel)))

    def window(self) -> tuple[int, NDArray[np.float32]] | None:
        """Start and samples of the window that ends at `next_end`, once its sound is there."""
        if self.buffer.end < self.next_end or self.next_end < MIN_SAMPLES:
            return None
        n_window = self.plan.n_window
        start = max(0, self.next_end - n_window)
        samples = self.buffer.cut(start, self.next_end)
        return start, np.pad(samples, (0, n_window - len(samples)), "symmetric")

    def clock(self, at_s: float) -> datetime:
        """When the sound at this second of the stretch was heard."""
        began = min(begin for _, begin in self._begins)
        clock = datetime.now(UTC) - timedelta(seconds=time.monotonic() - began - at_s)
        if self._last_clock is not None:
            last_s, last = self._last_clock
            clock = max(clock, last) if at_s >= last_s else min(clock, last)
        if self._last_clock is None or at_s >= self._last_clock[0]:
            self._last_clock = at_s, clock
        return clock


class Listener:
    """Asks a model about live sound.

    Args:
        tagger: with frame scores where events are wanted; its options say window, hop and channel.
        events: what counts as an event; None to look for none.
        name: what events call their source.
        on_sound: is given each block, and where it ends in seconds since listening began.
        long_s: an event of this length is told of before its end; None for never.

    Raises:
        UsageError: an unknown label in the options, or a model without frame scores.
    """

    def __init__(
        self,
        tagger: Tagger,
        events: EventOptions | None,
        *,
        name: str,
        on_sound: Callable[[Sound, float], None] | None = None,
        long_s: float | None = None,
    ) -> None:
        plan = tagger.options.plan
        if not isinstance(plan, WindowPlan):
            raise UsageError("live sound is heard in windows")
        if tagger.options.channel == "each":
            raise UsageError("dymn listen hears one channel", hint="--channel mix, or a number")
        self._tagger, self._events, self._plan, self._name = tagger, events, plan, name
        self._on_sound, self._long_s = on_sound, math.inf if long_s is None else long_s
        self.totals = Totals()
        self._stretch: _Stretch | None = None
        self._anchor = 0.0  # when the stretch began, by `time.monotonic`
        self._open: dict[int, _Open] = {}  # the event of a label
        self._number = 0
        self._is_stopped = False
        self._told: float = -math.inf
        self._untold = Slow(0, 0.0, 0.0)
        self._detector = self._new_detector()

    def stop(self) -> None:
        """End `listen` in order; may be called from a signal handler."""
        self._is_stopped = True

    def listen(self, reader: Reader) -> Iterator[Update]:
        """What is heard, to the end of the source.

        Raises:
            InputError: the source cannot be read.
            ModelError: the model fails.
        """
        quiet_since = time.monotonic()
        while not self._is_stopped:
            try:
                item = reader.get(POLL_S)
            except EOFError:
                break
            except InputError:
                yield from self._end()
                raise
            if item is None:
                if self._stretch is not None and time.monotonic() - quiet_since > STALLED_S:
                    yield from self._drop_out(f"no sound for {STALLED_S:g} s")
                continue
            quiet_since = time.monotonic()
            yield from self._take(item)
            while self._is_behind() and not self._is_stopped and (more := self._more(reader)) is not None:
                yield from self._take(more)
            yield from self._windows()
        yield from self._end()

    @staticmethod
    def _more(reader: Reader) -> Sound | Pause | Notice | None:
        try:
            return reader.get(0.0)
        except (EOFError, InputError):  # the next call raises it again
            return None

    def _take(self, item: Sound | Pause | Notice) -> Iterator[Update]:
        if isinstance(item, Notice):
            yield item
            return
        if isinstance(item, Pause):
            yield from self._windows()
            yield from self._drop_out(item.reason, is_told=True)
            return
        samples = item.samples
        if not np.isfinite(samples).all():
            self.totals.n_repaired += 1
            item = replace(item, samples=np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0))
        if self._stretch is None:
            self._anchor = item.arrived - item.length_s
            self._stretch = _Stretch(self.totals.sound_s, self._plan)
            self._mels = self._tagger.mels_of(self._plan)
        self._stretch.add(item, self._tagger.options.channel)
        self.totals.sound_s += item.length_s
        if self._on_sound is not None:
            self._on_sound(item, self.totals.sound_s)

    def _is_behind(self) -> bool:
        return self._lag_s() > BEHIND_HOPS * self._plan.n_hop / RATE_HZ

    def _lag_s(self) -> float:
        """Seconds by which we are behind the sound: none for a source that is ahead of the clock itself."""
        stretch, now = self._stretch, time.monotonic()
        if stretch is None or stretch.last is None:
            return 0.0
        behind_clock_s = now - self._anchor - stretch.buffer.end / RATE_HZ
        return max(0.0, min(now - stretch.last.arrived, behind_clock_s))

    # ------------------------------------------------------------------ windows

    def _windows(self) -> Iterator[Update]:
        """Ask the model about every window whose sound is there; only the newest, where we are behind."""
        stretch = self._stretch
        if stretch is None:
            return
        n_hop = self._plan.n_hop
        if self._is_behind_by_windows(stretch):
            n_skipped = (stretch.buffer.end - stretch.next_end) // n_hop
            stretch.next_end += n_skipped * n_hop
            lost = max(0, stretch.next_end - self._plan.n_window - stretch.last_end)
            yield from self._skip(n_skipped, lost)
        while not self._is_stopped and (found := stretch.window()) is not None:
            yield from self._answer(stretch, *found)
            stretch.last_end = stretch.next_end
            stretch.next_end += n_hop
            # The last window may end before the next hop does: that much more is kept.
            stretch.buffer.discard_before(stretch.next_end - n_hop - self._plan.n_window)

    def _is_behind_by_windows(self, stretch: _Stretch) -> bool:
        return stretch.buffer.end >= stretch.next_end + self._plan.n_hop and self._is_behind()

    def _skip(self, n_skipped: int, lost: int) -> Iterator[Update]:
        totals, lost_s = self.totals, lost / RATE_HZ
        totals.n_skipped += n_skipped
        totals.lost_s += lost_s
        hop_s = (n_skipped + 1) * self._plan.n_hop / RATE_HZ
        before = self._untold
        self._untold = Slow(before.n_skipped + n_skipped, before.lost_s + lost_s, max(before.hop_s, hop_s))
        if lost and self._stretch is not None:
            yield from self._finish_events()
            self._stretch.origin = self._stretch.next_end - self._plan.n_window
        if time.monotonic() - self._told >= TELL_SLOW_S:
            self._told = time.monotonic()
            yield self._untold
            self._untold = Slow(0, 0.0, 0.0)

    def _answer(self, stretch: _Stretch, start: int, samples: NDArray[np.float32]) -> Iterator[Update]:
        origin, end = stretch.origin, stretch.next_end
        cut = Cut(
            self._tagger.options.channel, start, (start - origin) / RATE_HZ, (end - origin) / RATE_HZ, samples
        )
        with_frames = self._events is not None
        window = self._tagger.answer([cut], self._mels([cut]), frames=with_frames)[0].window
        self.totals.n_windows += 1
        shown = replace(
            window,
            start_s=stretch.offset_s + start / RATE_HZ,
            end_s=stretch.offset_s + end / RATE_HZ,
        )
        arrived = self._anchor + end / RATE_HZ
        newest = arrived if stretch.last is None else max(arrived, stretch.last.arrived)
        clock = stretch.clock(start / RATE_HZ)
        if self._detector is not None:
            ended = self._detector.add(window)
            yield from self._tell(ended, self._detector.under_way())
        yield Heard(shown, clock, max(0.0, time.monotonic() - newest))

    # ------------------------------------------------------------------ events

    def _new_detector(self) -> FrameDetector | None:
        if self._events is None:
            return None
        channel = self._tagger.options.channel
        return frame_detector(self._tagger, self._events, source=self._name, channel=channel, live=True)

    def _tell(self, ended: list[Event], under_way: list[Event]) -> Iterator[LiveEvent]:
        """The events that have begun or ended since the last window."""
        for event in sorted(ended, key=lambda event: (event.start_s, event.index)):
            if event.index not in self._open:
                yield self._live(event, "begin")
            yield self._live(event, "end")
            del self._open[event.index]
            self.totals.n_events += 1
        for event in under_way:
            if event.index not in self._open:
                yield self._live(event, "begin")
            known = self._open[event.index]
            if not known.is_long and event.end_s - event.start_s >= self._long_s:
                self._open[event.index] = known._replace(is_long=True)
                yield self._live(event, "long")

    def _live(self, event: Event, phase: str) -> LiveEvent:
        stretch = self._stretch
        assert stretch is not None
        origin_s = stretch.origin / RATE_HZ
        if phase == "begin":
            self._number += 1
            clock = stretch.clock(origin_s + event.start_s)
            self._open[event.index] = _Open(self._number, False, clock, event.start_s)
        known = self._open[event.index]
        shift_s = stretch.offset_s + origin_s
        moved = replace(event, start_s=event.start_s + shift_s, end_s=event.end_s + shift_s)
        clock = known.clock + timedelta(seconds=event.start_s - known.start_s)
        return LiveEvent(known.number, moved, clock, phase)

    def _finish_events(self) -> Iterator[Update]:
        if self._detector is not None and self._stretch is not None:
            yield from self._tell(self._detector.finish(), [])
        self._open.clear()
        self._detector = self._new_detector()

    def _drop_out(self, reason: str, *, is_told: bool = False) -> Iterator[Update]:
        if self._stretch is None:
            return
        yield from self._finish_events()
        self._stretch = None
        self.totals.n_drop_outs += 1
        yield DropOut(reason, self.totals.sound_s, is_told)

    def _end(self) -> Iterator[Update]:
        """The last of the sound, if it is no whole hop, and the events that are left."""
        stretch = self._stretch
        if stretch is not None and not self._is_stopped:
            yield from self._windows()
            end = stretch.buffer.end
            if end > stretch.last_end and end >= MIN_SAMPLES:
                stretch.next_end = end
                if (found := stretch.window()) is not None:
                    yield from self._answer(stretch, *found)
        yield from self._finish_events()
        if self._untold.n_skipped:
            yield self._untold
            self._untold = Slow(0, 0.0, 0.0)


def _one_channel(samples: NDArray[np.float32], channel: str) -> NDArray[np.float32]:
    if channel == "mix":
        return mix(samples)
    if not (channel.isascii() and channel.isdigit()):
        raise UsageError(f"no channel {channel!r}", hint="mix, or a number: 0 is the first channel")
    if int(channel) >= samples.shape[1]:
        raise InputError(f"no channel {channel}: there are {samples.shape[1]}, counted from 0")
    return np.ascontiguousarray(samples[:, int(channel)])
