"""The options of commands that look for events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from dymn_cli.cli.options.declare import flag, opt
from dymn_cli.cli.options.groups import Descendants, Exclude, Label, TimeOptions
from dymn_cli.cli.options.panels import SELECT, TIME

__all__ = ["EventSelect", "EventTime"]


@dataclass(frozen=True, slots=True)
class EventTime(TimeOptions):
    """How a source is cut into windows that overlap."""

    window: Annotated[
        float | None, opt("--window", "S", "Seconds per window (default: 10; method windows: 5).", TIME)
    ] = None
    hop: Annotated[
        float | None,
        opt("--hop", "S", "Seconds to the next window (default: 4/5 of it; --method windows: 1/5).", TIME),
    ] = None


@dataclass(frozen=True, slots=True)
class EventSelect:
    """What counts as an event."""

    label: Label = field(default_factory=list)
    exclude: Exclude = field(default_factory=list)
    descendants: Descendants = False
    specific: Annotated[
        bool,
        flag("--specific", "Drop events mostly covered by their own kinds.", SELECT),
    ] = False
    on: Annotated[
        float | None,
        opt(
            "-t --on",
            "X",
            "An event reaches this score (default: 0.16; --method windows: 0.3).",
            SELECT,
        ),
    ] = None
    off: Annotated[
        float | None,
        opt("--off", "X", "It ends when the score falls below X (default: 0.4 or 0.25 times --on).", SELECT),
    ] = None
    thresholds: Annotated[
        str | None,
        opt("--thresholds", "FILE.csv", "--on by label (--off follows): mid,label,threshold.", SELECT),
    ] = None
    max_gap: Annotated[
        float | None,
        opt(
            "--max-gap",
            "S",
            "Join events up to S apart (default: 0.64; --method windows: 0).",
            SELECT,
        ),
    ] = None
    min_length: Annotated[float, opt("--min-length", "S", "Then drop events below S seconds.", SELECT)] = 0.0
    method: Annotated[str, opt("--method", "frames|windows", "How start and end are found.", SELECT)] = (
        "frames"
    )
