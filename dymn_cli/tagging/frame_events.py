"""Events from the scores of frames: the model says itself in which steps of a window a sound is.

    windows ──▶ time line of steps ──▶ median filter ──▶ hysteresis ──▶ ends ──▶ gaps closed ──▶ Event

**What a score says.** A model has two answers for a window: which sounds are in it (the clip score), and
which are in each step of it (the frame score; a step is 0.32 s with most models). The clip score has seen ten
seconds and is the surer one, the frame score knows when. The score of a step is their geometric mean. Where
a frame head was trained, the frame score counts twice in it: with equal weights the clip score would hold
events open in the neighbourhood of a sound. Where there is none, the classifier has been asked about single
steps, which it was not trained for: it is too sure there, so that both count alike, and the odds of the mean
are lowered to those of a trained model. A model that knows steps alone (EfficientSED) has no other clip score
than the highest of its steps, so the frame score counts as it is. Where a model has been calibrated (see
`calibration`), its score is then mapped label by label.

**The time line.** Windows overlap, by a fifth unless told otherwise, so that a sound at the edge of one is
away from the edge of the next. Each moment belongs to the window whose edge is further away: the time line
changes over in the middle of what two windows share. The last window ends with the source, off the grid of
the others; so do its steps. A source shorter than a window is repeated up to it, and its first copy counts.

**Hysteresis.** An event is a run of steps that reach `off`, if one of them reaches `on`. A label whose
calibration says so is smoothed by a median over a few steps before: it takes out what is shorter than half of
them, so it suits sounds that last. All labels of a model that knows steps alone are, by a median over 9 of
its steps of 40 ms, as its authors do.

**Ends.** A step has seen more than itself: a sound raises the scores of its whole window a little, and those
of the steps next to it a lot. So steps at the ends of an event, up to ten seconds of them, do not count where
they are below a quarter of its highest score. Then an end is not where the score falls below `off`, but where
it crosses half of the highest score within two seconds of it, inside the event; between the middles of two
steps, in proportion. With 240 known sounds in quiet, half of the ends were within 0.13 s of the right place.

**Afterwards** events of one label whose gap is at most `max_gap_s` become one, and then those shorter than
`min_length_s` are dropped. Labels do not know of each other: a bark may be an event of "Dog" and of "Bark",
unless `specific` asks for one.

A detector holds one window, and of each label that is being heard the ten seconds at either end: its memory
does not grow with the length of the source.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from dymn_cli.audio.resample import RATE_HZ
from dymn_cli.results import Event
from dymn_cli.tagging.calibration import Calibration
from dymn_cli.tagging.event_options import ON, label_thresholds
from dymn_cli.tagging.selection import wanted_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.labels import Vocabulary
    from dymn_cli.results import WindowScores
    from dymn_cli.tagging.event_options import EventOptions

__all__ = ["FrameCurve", "FrameDetector", "FrameHead", "SmoothSteps", "Step", "TimeLine", "joint_scores"]

FrameHead = Literal["trained", "stand-in", "alone"]
"""What scores frames: a head beside that of clips, the latter in its place, or the only head there is."""

LAGS: dict[FrameHead, float] = {"trained": 0.1, "stand-in": 0.5, "alone": 0.5}
"""Steps by which a head hears behind the middle of what it looks at: then starts and ends are off alike."""
CLIP_SHARES: dict[FrameHead, float] = {"trained": 1 / 3, "stand-in": 1 / 2, "alone": 0.0}  # in the mean
MEDIANS: dict[FrameHead, int] = {"trained": 1, "stand-in": 1, "alone": 9}  # steps, without a calibration
# 0.3 becomes the default of `on`.
STAND_IN = Calibration.common(math.log(ON["frames"] / (1 - ON["frames"])) - math.log(0.3 / 0.7))
EDGE_SHARE = 0.5  # of the highest score near an end: there is the end
EDGE_S = 2.0  # what is near
FAINT_SHARE = 0.25  # of the highest score of an event: steps below are cut off its ends
FAINT_S = 10.0  # at most so much of them at either end: a window


def joint_scores(window: WindowScores, *, frame_head: FrameHead) -> NDArray[np.float64]:
    """The scores of a window's steps, (n_steps, n_classes): geometric mean of frame and clip score.

    Args:
        window: with frame scores.
        frame_head: what scored the steps.
    """
    if window.frame_scores is None:
        raise ValueError("the window has no frame scores: they must be asked for (`TagOptions.frame_scores`)")
    frames, clip = window.frame_scores.astype(np.float64), window.scores.astype(np.float64)
    if not (share := CLIP_SHARES[frame_head]):
        return frames
    scores = np.asarray(frames ** (1 - share) * clip**share)
    return STAND_IN.mapped(scores) if frame_head == "stand-in" else scores


class Step(NamedTuple):
    """A step of the time line.

    Args:
        middle: of it, in samples at 32 kHz.
        window: the number of the window that it comes from.
        scores: (n_labels,) of it.
    """

    middle: int
    window: int
    scores: NDArray[np.float64]


class TimeLine:
    """Puts the steps of windows that overlap in a row.

    Args:
        step_s: seconds from one step to the next.
        columns: the labels that are wanted, as indices.
        frame_head: what scores frames.
        calibration: maps the scores; None leaves them.
        live: give the newest steps of each window at once, however near its edge they are.
    """

    def __init__(
        self,
        step_s: float,
        columns: NDArray[np.int64],
        *,
        frame_head: FrameHead = "trained",
        calibration: Calibration | None = None,
        live: bool = False,
    ) -> None:
        self._live = live
        self._step = round(step_s * RATE_HZ)
        self._lag = round(LAGS[frame_head] * step_s * RATE_HZ)
        self._frame_head = frame_head
        self._columns = columns
        self._calibration = calibration
        self._last: tuple[int, int, NDArray[np.float64]] | None = None
        self._from = 0  # where the last window takes over
        self._n_windows = 0
        self.end = 0

    def add(self, window: WindowScores) -> Iterator[Step]:
        """Take the next window in; give the steps up to where it takes over from the one before."""
        start = round(window.start_s * RATE_HZ)
        if self._live:
            self._from = self.end
        elif self._last is not None:
            change = (start + self.end) // 2
            yield from self._steps(change)
            self._from = change
        scores = joint_scores(window, frame_head=self._frame_head)
        if self._calibration is not None:
            scores = self._calibration.mapped(scores)
        self._last = start, self._n_windows, scores[:, self._columns]
        self._n_windows += 1
        self.end = round(window.end_s * RATE_HZ)
        if self._live:
            yield from self._steps(self.end)
            self._last = None

    def finish(self) -> Iterator[Step]:
        """The source is at its end: give the steps that are left."""
        yield from self._steps(self.end)
        self._last = None

    def _steps(self, until: int) -> Iterator[Step]:
        if self._last is None:
            return
        start, number, scores = self._last
        for n, row in enumerate(scores):
            middle = min(start + n * self._step + self._lag, self.end - 1)  # the last one may lie beyond
            if self._from <= middle < until:
                yield Step(middle, number, row)


class _Median:
    """Smooths each label by a median over steps; at both ends of the source the last step is repeated.

    Args:
        widths: (n_labels,) steps, odd numbers; 1 leaves a label as it is.
    """

    def __init__(self, widths: NDArray[np.int64]) -> None:
        self._groups = [(int(width), np.flatnonzero(widths == width)) for width in np.unique(widths)]
        self._half = int(widths.max(initial=1)) // 2
        self._steps: deque[Step] = deque(maxlen=2 * self._half + 1)
        self._n_left = 0

    def add(self, step: Step) -> Iterator[Step]:
        """Take the next step in; give the one that all its neighbours are known of."""
        if not self._half:
            yield step
            return
        if not self._steps:
            self._steps.extend([step] * self._half)
        self._steps.append(step)
        self._n_left += 1
        if len(self._steps) == self._steps.maxlen:
            yield self._middle()

    def finish(self) -> Iterator[Step]:
        """Give the steps that are left."""
        while self._n_left:
            self._steps.append(self._steps[-1])
            if len(self._steps) == self._steps.maxlen:
                yield self._middle()

    def _middle(self) -> Step:
        self._n_left -= 1
        step = self._steps[self._half]
        rows = np.stack([neighbour.scores for neighbour in self._steps])
        scores = step.scores.copy()
        for width, columns in self._groups:
            if width > 1:
                near = rows[self._half - width // 2 : self._half + width // 2 + 1, columns]
                scores[columns] = np.median(near, axis=0)
        return step._replace(scores=scores)


class SmoothSteps:
    """The steps of one channel in a row, as a detector sees them: calibrated, and smoothed label by label.

    Args:
        step_s: seconds from one step to the next.
        columns: the labels that are wanted, as indices.
        frame_head: what scores frames.
        calibration: of the model, or None.
        live: see `TimeLine`.
    """

    def __init__(
        self,
        step_s: float,
        columns: NDArray[np.int64],
        *,
        frame_head: FrameHead = "trained",
        calibration: Calibration | None = None,
        live: bool = False,
    ) -> None:
        self._line = TimeLine(step_s, columns, frame_head=frame_head, calibration=calibration, live=live)
        widths = (
            np.full(len(columns), MEDIANS[frame_head]) if calibration is None else calibration.widths[columns]
        )
        self._median = _Median(widths)

    @property
    def end(self) -> int:
        """Where the last window ends, in samples at 32 kHz."""
        return self._line.end

    def add(self, window: WindowScores) -> Iterator[Step]:
        """Take the next window in; give the steps that are known now."""
        for step in self._line.add(window):
            yield from self._median.add(step)

    def finish(self) -> Iterator[Step]:
        """The source is at its end: give the steps that are left."""
        for step in self._line.finish():
            yield from self._median.add(step)
        yield from self._median.finish()


Point = tuple[int, float]  # the middle of a step in samples, and a label's score there


@dataclass(slots=True)
class _Run:
    """Steps of one label in a row that reach `off`.

    Args:
        before: the step before the first, None at the start of the source.
        first: the first window that it has steps of.
        last: the last one.
        head: its first steps, no more than ten seconds.
        tail: its last ones, likewise.
        total: the sum of all scores.
        n_steps: their number.
        peak: the highest of them.
    """

    before: Point | None
    first: int
    last: int
    head: list[Point] = field(default_factory=list)
    tail: deque[Point] = field(default_factory=deque)
    total: float = 0.0
    n_steps: int = 0
    peak: float = 0.0

    def add(self, point: Point, window: int) -> None:
        """Take in the next step."""
        if not self.head or point[0] - self.head[0][0] < FAINT_S * RATE_HZ:
            self.head.append(point)
        self.tail.append(point)
        while point[0] - self.tail[0][0] >= FAINT_S * RATE_HZ:
            self.tail.popleft()
        self.total += point[1]
        self.n_steps += 1
        self.peak = max(self.peak, point[1])
        self.last = window


@dataclass(slots=True)
class _Stretch:
    """An event that a later one may be joined to; its sum is that of the steps between its ends."""

    start: int
    end: int
    first: int
    last: int
    total: float
    n_steps: int
    peak: float


def _joined(one: _Stretch, other: _Stretch) -> _Stretch:
    """Two events of a label, the second a short gap behind the first, as one."""
    return _Stretch(
        one.start,
        other.end,
        one.first,
        other.last,
        one.total + other.total,
        one.n_steps + other.n_steps,
        max(one.peak, other.peak),
    )


class FrameDetector:
    """Takes the windows of one channel in order, gives its events as they end.

        detector = FrameDetector(options, tagger.vocabulary, tagger.step_s, source="night.flac")
        for window in windows:                 # with frame scores
            events += detector.add(window)
        events += detector.finish()

    An event comes out once nothing can be joined to it any more; those of one moment in the order of the
    labels. See the module for what an event is.

    Args:
        options: what counts as an event.
        vocabulary: the labels of the scores.
        step_s: seconds from one step to the next.
        frame_head: what scores frames.
        calibration: of the model, or None.
        source: what the events call their source.
        channel: and their channel.
        live: whether windows come while the sound is heard: events then lag by no more than `max_gap_s`
            behind the newest window, and their ends are less exact.

    Raises:
        UsageError: an unknown label in the options.
    """

    def __init__(
        self,
        options: EventOptions,
        vocabulary: Vocabulary,
        step_s: float,
        *,
        frame_head: FrameHead = "trained",
        calibration: Calibration | None = None,
        source: str = "",
        channel: str = "mix",
        live: bool = False,
    ) -> None:
        self._source, self._channel = source, channel
        self._labels = wanted_labels(options, vocabulary, silence=False)
        columns = np.array([label.index for label in self._labels], np.int64)
        self._on, self._off = (
            values.astype(np.float64).tolist() for values in label_thresholds(options, vocabulary, columns)
        )
        self._off_array = np.array(self._off)
        self._line = SmoothSteps(step_s, columns, frame_head=frame_head, calibration=calibration, live=live)
        self._half_step = round(step_s * RATE_HZ) // 2
        self._max_gap = round(options.gap_s * RATE_HZ)
        self._min_length = round(options.min_length_s * RATE_HZ)
        self._before: Step | None = None
        self._runs: dict[int, _Run] = {}
        self._waiting: dict[int, _Stretch] = {}

    def add(self, window: WindowScores) -> list[Event]:
        """Take the next window in; give the events that are finished now."""
        events: list[Event] = []
        for step in self._line.add(window):
            self._take(step, events)
        return events

    def finish(self) -> list[Event]:
        """The source is at its end: give the events that are left."""
        events: list[Event] = []
        for step in self._line.finish():
            self._take(step, events)
        for n in sorted(self._runs):
            self._settle(n, self._runs[n], None, events)
        self._runs.clear()
        for n in sorted(self._waiting):
            self._give(n, events)
        return events

    @property
    def frontier_s(self) -> float:
        """No event that is still to come starts before."""
        befores = [self._before, *(run.before for run in self._runs.values())]
        start = min(0 if before is None else before[0] for before in befores)
        # An event begins behind that step; where it is widened, a moment earlier.
        starts = [start - self._half_step, *(stretch.start for stretch in self._waiting.values())]
        return min(starts) / RATE_HZ

    def under_way(self) -> list[Event]:
        """The events that have begun and have not been given yet, as far as they are known."""
        found = []
        for n in sorted(self._runs.keys() | self._waiting.keys()):
            run, stretch = self._runs.get(n), self._waiting.get(n)
            if run is not None and run.peak >= self._on[n]:
                now = self._stretch_of(n, run, None)
                joins = stretch is not None and now.start - stretch.end <= self._max_gap
                found.append(self._event(n, _joined(stretch, now) if stretch and joins else now))
            elif stretch is not None:
                found.append(self._event(n, stretch))
        return found

    def _take(self, step: Step, events: list[Event]) -> None:
        heard = np.flatnonzero(step.scores >= self._off_array).tolist()
        ended = self._runs.keys() - heard
        for n in sorted(ended):
            self._settle(n, self._runs.pop(n), (step.middle, float(step.scores[n])), events)
        for n in heard:
            if n not in self._runs:
                before = self._before
                point = None if before is None else (before.middle, float(before.scores[n]))
                self._runs[n] = _Run(point, step.window, step.window)
            self._runs[n].add((step.middle, float(step.scores[n])), step.window)
        for n in sorted(self._waiting.keys() - self._runs.keys()):
            if step.middle - self._waiting[n].end > self._max_gap:  # a later run starts after this step
                self._give(n, events)
        self._before = step

    def _settle(self, n: int, run: _Run, after: Point | None, events: list[Event]) -> None:
        """A run has ended: it becomes an event, joins the one that waits for it, or is nothing."""
        if run.peak < self._on[n]:
            return
        stretch, waiting = self._stretch_of(n, run, after), self._waiting.get(n)
        if waiting is not None and stretch.start - waiting.end <= self._max_gap:
            self._waiting[n] = _joined(waiting, stretch)
            return
        if waiting is not None:
            self._give(n, events)
        self._waiting[n] = stretch

    def _stretch_of(self, n: int, run: _Run, after: Point | None) -> _Stretch:
        """A run as an event; `after` is the step behind it, None where it is the newest or the last."""
        faint = FAINT_SHARE * run.peak
        start = _edge(run.head, run.before, self._off[n], faint, 0)
        end = _edge(list(reversed(run.tail)), after, self._off[n], faint, self._line.end)
        if end - start < self._half_step:  # where `off` is as high as the peak
            middle = (start + end) // 2
            start = max(middle - self._half_step // 2, 0)
            end = min(start + self._half_step, self._line.end)
        cut = {middle: score for middle, score in (*run.head, *run.tail) if not start <= middle <= end}
        total, n_steps = run.total - sum(cut.values()), run.n_steps - len(cut)
        if not n_steps:  # it is shorter than a step, near the highest one
            total, n_steps = run.peak, 1
        return _Stretch(start, end, run.first, run.last, total, n_steps, run.peak)

    def _give(self, n: int, events: list[Event]) -> None:
        """Nothing can be joined to this one any more: it comes out, unless it is too short."""
        stretch = self._waiting.pop(n)
        if stretch.end - stretch.start >= self._min_length:
            events.append(self._event(n, stretch))

    def _event(self, n: int, stretch: _Stretch) -> Event:
        label = self._labels[n]
        return Event(
            source=self._source,
            channel=self._channel,
            start_s=stretch.start / RATE_HZ,
            end_s=stretch.end / RATE_HZ,
            index=label.index,
            label=label.name,
            mid=label.mid,
            score=stretch.peak,
            mean_score=min(stretch.peak, stretch.total / stretch.n_steps),  # sums round
            n_windows=stretch.last - stretch.first + 1,
        )


class FrameCurve:
    """Keeps the scores of some labels along one channel of a source, as a detector sees them.

    Its memory grows with the source: 4 bytes a label and step.

    Args:
        line: puts the steps of that channel in a row.
    """

    def __init__(self, line: SmoothSteps) -> None:
        self._line = line
        self._steps: list[tuple[int, NDArray[np.float32]]] = []

    def add(self, window: WindowScores) -> None:
        """Take the next window in."""
        self._keep(self._line.add(window))

    def finish(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Scores (n_steps, n_labels), and (n_steps + 1,) seconds where they begin and the last one ends."""
        self._keep(self._line.finish())
        middles = np.array([middle for middle, _ in self._steps], np.float64)
        edges = np.concatenate([[0.0], (middles[:-1] + middles[1:]) / 2, [self._line.end]])
        return np.stack([scores for _, scores in self._steps]), edges / RATE_HZ

    def _keep(self, steps: Iterable[Step]) -> None:
        self._steps += [(step.middle, step.scores.astype(np.float32)) for step in steps]


def _edge(points: Sequence[Point], outside: Point | None, off: float, faint: float, border: int) -> int:
    """Where an event begins or ends, in samples.

    Args:
        points: its steps near that end, from the end inwards.
        outside: the step beyond the end; None where the source begins or ends there.
        off: what a step in the event reaches at least.
        faint: below, the first steps do not count, unless all are.
        border: where the source begins or ends.
    """
    first = next((n for n, (_, score) in enumerate(points) if score >= faint), 0)
    if first:
        outside = points[first - 1]
    begin = points[first][0]
    near = [point for point in points[first:] if abs(point[0] - begin) < EDGE_S * RATE_HZ]
    level = max(off, EDGE_SHARE * max(score for _, score in near))
    for inside, score in near:
        if score >= level:
            break
        outside = inside, score
    if outside is None:
        return border
    place, lower = outside
    return place + round((level - lower) / (score - lower) * (inside - place))
