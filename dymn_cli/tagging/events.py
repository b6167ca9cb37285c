"""From a source to its events: what is to be heard, from when to when.

`event_options` says what counts as one, `frame_events` and `window_events` find them: two ways, of which the
first takes a third of the time and finds the ends more exactly; see there for what they do with scores.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Protocol

from dymn_cli.audio.windows import WindowPlan
from dymn_cli.results import Event, SourceEvents
from dymn_cli.tagging.event_options import (
    EventOptions,
    default_hop_s,
    default_window_s,
)
from dymn_cli.tagging.frame_events import FrameDetector
from dymn_cli.tagging.options import TagOptions
from dymn_cli.tagging.selection import specific_events, wanted_labels
from dymn_cli.tagging.window_events import WindowDetector

if TYPE_CHECKING:
    from dymn_cli.audio.decode import Source
    from dymn_cli.results import WindowScores
    from dymn_cli.tagging.tagger import ChannelWindow, Tagger

__all__ = [
    "CUT",
    "Detector",
    "EventOptions",
    "SourceDetector",
    "default_hop_s",
    "default_window_s",
    "events_of",
    "frame_detector",
]


CUT = ("window_s", "hop_s", "pad", "channel", "strict")
"""The fields of `TagOptions` that count for events."""


class Detector(Protocol):
    """Takes the windows of one channel in order, gives its events as they end."""

    def add(self, window: WindowScores) -> list[Event]:
        """Take the next window in; give the events that are finished now."""
        ...

    def finish(self) -> list[Event]:
        """The source is at its end: give the events that are left."""
        ...

    @property
    def frontier_s(self) -> float:
        """No event that is still to come starts before."""
        ...


class SourceDetector:
    """Finds the events of all channels of a source in what a `tagger.Analysis` gives, row by row.

    Args:
        options: what counts as an event; for the method "frames", the rows must have frame scores.
        tagger: says the labels, and by its own options how the source is cut.
        source: what the events call their source.
        cut: how it is cut, where not as by those options.

    Raises:
        UsageError: an unknown label in the options, when the first row comes.
    """

    def __init__(
        self, options: EventOptions, tagger: Tagger, *, source: str, cut: TagOptions | None = None
    ) -> None:
        self._options, self._tagger, self._source = options, tagger, source
        self._cut = cut or tagger.options
        self._channels: dict[str, Detector] = {}
        self._events: list[Event] = []
        self._settled: list[Event] = []
        self._is_over = False

    def add(self, row: ChannelWindow) -> None:
        """Take the next row in."""
        if row.channel not in self._channels:
            self._channels[row.channel] = self._detector(row.channel)
        self._events += self._channels[row.channel].add(row.window)

    def settled(self) -> list[Event]:
        """The events that no later one can come before, each once, in the order that `finish` gives.

        An event that lasts holds back those that began after it; with `specific`, all wait for the end.
        """
        frontier_s = self._frontier_s()
        settled = sorted((event for event in self._events if event.start_s < frontier_s), key=_place)
        self._events = [event for event in self._events if event.start_s >= frontier_s]
        self._settled += settled
        return settled

    def finish(self) -> tuple[Event, ...]:
        """The source is at its end: give its events, in the order of starts, ends, labels and channels."""
        for detector in self._channels.values():
            self._events += detector.finish()
        if self._options.specific:
            self._events = specific_events(self._events, self._tagger.vocabulary)
        self._is_over = True
        return (*self._settled, *sorted(self._events, key=_place))

    def _frontier_s(self) -> float:
        if self._is_over:
            return math.inf
        if self._options.specific or not self._channels:
            return -math.inf
        return min(detector.frontier_s for detector in self._channels.values())

    def _detector(self, channel: str) -> Detector:
        tagger, cut = self._tagger, self._cut
        if self._options.method == "windows":
            plan = WindowPlan(cut.window_s, cut.hop_s, cut.pad)
            return WindowDetector(
                self._options, tagger.vocabulary, plan, source=self._source, channel=channel
            )
        return frame_detector(tagger, self._options, source=self._source, channel=channel)


def frame_detector(
    tagger: Tagger, options: EventOptions, *, source: str, channel: str, live: bool = False
) -> FrameDetector:
    """The detector for the frame scores of a tagger; arguments as of `FrameDetector`.

    Raises:
        UsageError: an unknown label in the options, or models whose frames do not go together.
    """
    frames = tagger.frames
    return FrameDetector(
        options,
        tagger.vocabulary,
        frames.step_s,
        frame_head=frames.head,
        calibration=frames.calibration,
        source=source,
        channel=channel,
        live=live,
    )


def events_of(
    tagger: Tagger,
    source: Source,
    options: EventOptions | None = None,
    *,
    name: str | None = None,
    **changes: Any,
) -> SourceEvents:
    """All events of one source, in the order of their starts; windows and channel as the tagger has them.

    Where its options name no hop, windows overlap as `default_hop_s` says; and where they do not name another
    length than 10 s either, windows of the method "windows" have 5 s.

    Only the events are held, never windows; they are given together, because a source that turns out to be
    damaged gives none.

    Args:
        tagger: answers; its own options say how the source is cut and which channel is heard.
        source: path, binary file object, or (samples, rate_hz).
        options: what counts as an event.
        name: what the events call the source; the path by default.
        **changes: those of the fields `CUT` that differ from the tagger's own.

    Raises:
        InputError: the source cannot be used.
        UsageError: an unknown label in the options, a value out of range, a model that does not tag, or
            models whose frames do not go together.
    """
    options = options or EventOptions()
    tagger.require_tags()
    wanted_labels(options, tagger.vocabulary)  # an unknown label is said before the source is read
    for label, _ in options.thresholds:
        tagger.vocabulary.find(label)
    changes |= {"frame_scores": options.method == "frames", "frames": None}
    cut = dataclasses.replace(tagger.options, **changes)
    if cut.hop_s is None:
        is_usual = "window_s" not in changes and cut.window_s == TagOptions().window_s
        window_s = default_window_s(options.method) if is_usual else cut.window_s
        hop_s = default_hop_s(window_s, options.method)
        cut = dataclasses.replace(cut, window_s=window_s, hop_s=hop_s)
        changes |= {"window_s": window_s, "hop_s": hop_s}
    with tagger.analyse(source, name=name, **changes) as analysis:
        detector = SourceDetector(options, tagger, source=analysis.name, cut=cut)
        for row in analysis:
            detector.add(row)
        events = detector.finish()
    return SourceEvents(
        source=analysis.name,
        audio=analysis.audio,
        duration_s=analysis.duration_s,
        events=events,
        warnings=analysis.warnings,
        model=tagger.model,
    )


def _place(event: Event) -> tuple[float, float, int, str]:
    return event.start_s, event.end_s, event.index, event.channel
