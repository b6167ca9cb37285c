"""Events from the scores of windows that overlap: the way for a model that scores no frames.

    windows ──▶ cells of the time line ──▶ hysteresis ──▶ gaps closed ──▶ short ones dropped ──▶ Event

**What a score says.** The models were trained on clips of 10 s that are labelled as a whole. A window's score
says that a sound is somewhere in the window, not where, and it says so nearly as surely for a sound at the
window's edge as for one in its middle. With one window after the other, an event is therefore as coarse as
the windows. Where they overlap, each moment is looked at by several, and what they disagree about tells
where the sound is: a moment belongs to it if *every* window that looks at the moment hears it.

**The time line.** It consists of cells one hop long: [0, hop), [hop, 2 hop), ...; the last one ends with the
source. A window looks at a cell if the cell's middle lies within it. This holds for the last window too,
which ends at the end of the source, off the grid of the others. A cell has two scores for each label:

    mean     of the windows that look at it: is the sound here? robust, but smeared over the windows' length
    lowest   of them: do all of them hear it? sharp, but one doubtful window is enough to miss a sound

**Hysteresis.** An event is a run of cells whose lowest score is at least `off`, if the mean reaches `on` in
one of them. So `on`, with the robust score, decides whether there is something, and the much lower `off`,
with the sharp one, decides from when to when. Without overlap both scores are the window's own, and this is
the usual hysteresis. With 95 known sounds in quiet and in noise, windows of 10 s one second apart and the
first model that shipped, events began and ended within 0.2 s of the right place in the median. The mean for
both decisions found hardly more (72 instead of 70), but began them 6.8 s too early and ended them 6.5 s too
late; the lowest score for both found 62.

**Afterwards** events of one label whose gap is at most `max_gap_s` become one, and then those shorter than
`min_length_s` are dropped. Labels do not know of each other: a bark may be an event of "Dog" and of "Bark",
unless `specific` asks for one.

All positions are whole samples at 32 kHz. A detector holds the windows that still look at an unfinished cell
(the window's length over the hop), and a few numbers for each label: its memory does not grow with the
length of the source.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dymn_cli.audio.resample import RATE_HZ
from dymn_cli.results import Event
from dymn_cli.tagging.event_options import label_thresholds
from dymn_cli.tagging.selection import wanted_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.audio.windows import WindowPlan
    from dymn_cli.labels import Vocabulary
    from dymn_cli.results import WindowScores
    from dymn_cli.tagging.event_options import EventOptions

__all__ = ["WindowDetector"]


class _Placed(NamedTuple):
    """A window on the time line: its number, its place in samples, and the scores that are wanted."""

    number: int
    start: int
    end: int
    scores: NDArray[np.float32]


class _Cell(NamedTuple):
    """A cell of the time line: its place, the numbers of the first and last window that look at it."""

    start: int
    end: int
    first: int
    last: int
    mean: NDArray[np.float64]
    lowest: NDArray[np.float32]


class _Stretches:
    """For each label at most one stretch of the time line.

    Attributes:
        there: whether the label has one.
        start: its first sample.
        end: the sample after its last.
        first: the number of the first window that looks at it.
        last: the number of the last one.
        before: the area under the mean up to its start, in score · samples.
        after: the same up to its end.
        peak: the highest mean in it.
    """

    def __init__(self, n_labels: int) -> None:
        self.there = np.zeros(n_labels, np.bool_)
        self.start, self.end, self.first, self.last = np.zeros((4, n_labels), np.int64)
        self.before, self.after, self.peak = np.zeros((3, n_labels))

    def take(self, n: int, other: _Stretches) -> None:
        """Become what another one is, for one label."""
        self.there[n] = True
        for name in ("start", "end", "first", "last", "before", "after", "peak"):
            getattr(self, name)[n] = getattr(other, name)[n]

    def extend(self, n: int, other: _Stretches) -> None:
        """Go on to the end of a later one, for one label."""
        self.peak[n] = max(self.peak[n], other.peak[n])
        for name in ("end", "last", "after"):
            getattr(self, name)[n] = getattr(other, name)[n]


class WindowDetector:
    """Takes the windows of one channel in order, gives its events as they end.

        detector = WindowDetector(options, tagger.vocabulary, plan, source="night.flac")
        for window in windows:
            events += detector.add(window)
        events += detector.finish()

    An event comes out once nothing can be joined to it any more; those of one moment in the order of the
    labels. See the module for what an event is.

    Args:
        options: what counts as an event.
        vocabulary: the labels of the scores.
        plan: how the source is cut into windows.
        source: what the events call their source.
        channel: and their channel.

    Raises:
        UsageError: an unknown label in the options.
    """

    def __init__(
        self,
        options: EventOptions,
        vocabulary: Vocabulary,
        plan: WindowPlan,
        *,
        source: str = "",
        channel: str = "mix",
    ) -> None:
        self._source, self._channel = source, channel
        self._labels = wanted_labels(options, vocabulary, silence=False)
        self._columns = np.array([label.index for label in self._labels])
        self._on, self._off = label_thresholds(options, vocabulary, self._columns)
        self._hop = plan.n_hop
        self._max_gap = round(options.gap_s * RATE_HZ)
        self._min_length = round(options.min_length_s * RATE_HZ)
        self._windows: deque[_Placed] = deque()
        self._n_windows = 0
        self._next = 0  # where the first unfinished cell starts
        self._area = np.zeros(len(self._labels))  # under the mean, up to there
        self._running = _Stretches(len(self._labels))  # cells that all their windows hear
        self._waiting = _Stretches(len(self._labels))  # events that a later one may be joined to

    def add(self, window: WindowScores) -> list[Event]:
        """Take the next window in; give the events that are finished now."""
        start, end = round(window.start_s * RATE_HZ), round(window.end_s * RATE_HZ)
        events: list[Event] = []
        while 2 * start > 2 * self._next + self._hop:  # no later window looks at the middle of that cell
            events += self._close_cell(self._next + self._hop)
        while self._windows and self._windows[0].end <= self._next:
            self._windows.popleft()
        self._windows.append(_Placed(self._n_windows, start, end, window.scores[self._columns]))
        self._n_windows += 1
        return events

    def finish(self) -> list[Event]:
        """The source is at its end: give the events that are left."""
        events: list[Event] = []
        if self._windows:
            end = self._windows[-1].end
            while self._next < end:
                events += self._close_cell(min(self._next + self._hop, end))
            self._windows.clear()
        self._settle(self._running.there & (self._running.peak >= self._on), events)
        return events + self._emit(self._waiting.there)

    @property
    def frontier_s(self) -> float:
        """No event that is still to come starts before."""
        both = (self._running, self._waiting)
        return min(int(part.start[part.there].min(initial=self._next)) for part in both) / RATE_HZ

    def _close_cell(self, end: int) -> list[Event]:
        cell = self._cell(self._next, end)
        self._next = end
        run, waiting = self._running, self._waiting
        heard = cell.lowest >= self._off
        starts, ends = heard & ~run.there, run.there & ~heard
        events: list[Event] = []
        if ends.any():
            self._settle(ends & (run.peak >= self._on), events)
        run.start[starts], run.first[starts] = cell.start, cell.first
        run.before[starts], run.peak[starts] = self._area[starts], 0.0
        self._area += cell.mean * (cell.end - cell.start)
        run.there = heard
        run.end[heard], run.last[heard] = cell.end, cell.last
        run.after[heard] = self._area[heard]
        np.maximum(run.peak, cell.mean, out=run.peak, where=heard)
        may_join = heard & (run.start - waiting.end <= self._max_gap)
        too_late = cell.end - waiting.end > self._max_gap
        return events + self._emit(waiting.there & too_late & ~may_join)

    def _cell(self, start: int, end: int) -> _Cell:
        """Mean and lowest score of the windows that the cell's middle lies within."""
        middle = start + end  # doubled, as are the windows' ends below, to stay in whole numbers
        windows = [w for w in self._windows if 2 * w.start <= middle < 2 * w.end]
        scores = np.stack([window.scores for window in windows])
        mean = scores.mean(axis=0, dtype=np.float64)  # of equal scores it is that score, to the last bit
        return _Cell(start, end, windows[0].number, windows[-1].number, mean, scores.min(axis=0))

    def _settle(self, ended: NDArray[np.bool_], events: list[Event]) -> None:
        """Join runs that have ended to the events that wait for them, or let them wait themselves."""
        run, waiting = self._running, self._waiting
        for n in np.flatnonzero(ended).tolist():
            if waiting.there[n] and run.start[n] - waiting.end[n] <= self._max_gap:
                waiting.extend(n, run)
                continue
            if waiting.there[n]:
                events += self._emit(np.arange(len(self._labels)) == n)
            waiting.take(n, run)

    def _emit(self, which: NDArray[np.bool_]) -> list[Event]:
        """The waiting events of these labels, without those that are too short."""
        waiting = self._waiting
        numbers = np.flatnonzero(which).tolist()
        waiting.there[numbers] = False
        return [self._event(n) for n in numbers if waiting.end[n] - waiting.start[n] >= self._min_length]

    def _event(self, n: int) -> Event:
        stretch, label = self._waiting, self._labels[n]
        start, end = int(stretch.start[n]), int(stretch.end[n])
        return Event(
            source=self._source,
            channel=self._channel,
            start_s=start / RATE_HZ,
            end_s=end / RATE_HZ,
            index=label.index,
            label=label.name,
            mid=label.mid,
            score=float(stretch.peak[n]),
            mean_score=float((stretch.after[n] - stretch.before[n]) / (end - start)),
            n_windows=int(stretch.last[n] - stretch.first[n]) + 1,
        )
