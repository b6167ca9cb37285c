"""What a page shows: frozen dataclasses, filled by `gather` and `sound`, written by `page`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from dymn_cli.results import Failure

__all__ = [
    "Decision",
    "HeatMap",
    "Key",
    "LabelCount",
    "LibraryMap",
    "Overview",
    "Point",
    "Report",
    "Sound",
    "Source",
    "Span",
    "Tile",
]

Key = tuple[str, str, int, int, str]
"""What tells one event from another: source, channel, start and end in milliseconds, label."""


@dataclass(frozen=True, slots=True)
class Span:
    """A label of a stretch of a recording.

    Args:
        start_s: where it begins, in seconds.
        end_s: where it ends.
        label: its name.
        mid: its AudioSet id, "" where it has none.
        score: in [0, 1]; None where the result has none.
        channel: "mix", or the channel's number from 0.
    """

    start_s: float
    end_s: float
    label: str
    mid: str = ""
    score: float | None = None
    channel: str = "mix"

    def key(self, source: str) -> Key:
        """What tells it from all others of a result."""
        return source, self.channel, round(self.start_s * 1000), round(self.end_s * 1000), self.label


@dataclass(frozen=True, slots=True)
class Source:
    """A recording and the events of it that the page holds.

    Args:
        name: as the result spells it.
        duration_s: its length; None where unknown.
        rate_hz: samples per second; 0 where unknown.
        channels: their number; 0 where unknown.
        notes: what is worth knowing, a line each: damage, a repeated window.
        clock: the time of its first sample, where its name says so.
        spans: in the order of their starts.
        n_found: how many there were before any were left out.
    """

    name: str
    duration_s: float | None
    rate_hz: int
    channels: int
    notes: tuple[str, ...]
    clock: datetime | None
    spans: tuple[Span, ...]
    n_found: int


@dataclass(frozen=True, slots=True)
class LabelCount:
    """How often and how long a label was found in all recordings."""

    label: str
    n: int
    seconds: float


@dataclass(frozen=True, slots=True)
class HeatMap:
    """How many events of each label begin in each stretch of time.

    Args:
        title: what the columns are.
        columns: their names.
        rows: a label and its counts, a number a column.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True)
class Overview:
    """Figures over all events, those that the page leaves out included."""

    n_sources: int
    seconds: float
    n_spans: int
    n_labels: int
    labels: tuple[LabelCount, ...]
    heat_maps: tuple[HeatMap, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a reviewer says of an event.

    Args:
        key: of the event, with the label that was found.
        verdict: "keep", "reject" or "relabel".
        label: what it is; of a rejected event, what it is not.
        mid: its AudioSet id, or "".
        score: of the event; None where unknown.
    """

    key: Key
    verdict: str
    label: str
    mid: str = ""
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All that was gathered.

    Args:
        sources: in the order of the inputs.
        failures: inputs that gave nothing.
        overview: figures over all events.
        left_out: what the page does not hold and why, in a sentence; "" where it holds everything.
        decisions: those that fit events of the page.
        carried: those that fit none; they are exported again, so that none is lost.
    """

    sources: tuple[Source, ...]
    failures: tuple[Failure, ...]
    overview: Overview
    left_out: str
    decisions: tuple[Decision, ...]
    carried: tuple[Decision, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """A recording, or a stretch of it, on a map.

    Args:
        source: its number among those of the page.
        start_s: where the stretch begins, in seconds.
        end_s: where it ends.
        x: from 0 to 1.
        y: likewise, from the bottom.
    """

    source: int
    start_s: float
    end_s: float
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class LibraryMap:
    """Recordings in two dimensions: what sounds alike lies near each other.

    Args:
        method: that found the places, such as "PCA".
        points: in any order.
    """

    method: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Tile:
    """A picture of a stretch of a recording: PNG bytes, low frequencies at the bottom."""

    start_s: float
    end_s: float
    png: bytes


@dataclass(frozen=True, slots=True)
class Sound:
    """What of a recording's audio is in the page.

    Args:
        href: a link to it, relative to the page, or a copy as a data URI; "" where there is none.
        tiles: its spectrogram, first the coarse pictures, then finer ones of stretches.
        duration_s: seconds that were decoded; None where it was not.
        problem: why there is no sound, in a sentence; "" where there is.
    """

    href: str = ""
    tiles: tuple[Tile, ...] = ()
    duration_s: float | None = None
    problem: str = ""
