"""What counts as an event, and how a source is cut to find them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, SupportsIndex, TypedDict

import numpy as np

from dymn_cli.audio.windows import MIN_HOP_S
from dymn_cli.errors import UsageError
from dymn_cli.values import (
    names_of,
    require_choice,
    require_flag,
    require_named,
    require_number,
    require_score,
    scores_of,
)

if TYPE_CHECKING:
    from typing import Unpack

    from numpy.typing import NDArray

    from dymn_cli.labels import Vocabulary
    from dymn_cli.tagging.options import Names, Pad, Scores

__all__ = ["EventChanges", "EventOptions", "Method", "default_hop_s", "default_window_s", "label_thresholds"]

Method = Literal["frames", "windows"]

# Chosen with `dymn_cli.bench.placing`; each by method.
WINDOW_S = {"frames": 10.0, "windows": 5.0}
ON = {"frames": 0.16, "windows": 0.3}
OFF_SHARE = {"frames": 0.4, "windows": 0.25}  # of `on`
MAX_GAP_S = {"frames": 0.64, "windows": 0.0}

OVERLAP_SHARE = 0.2  # of a window, which the next one shares: no sound is cut at an edge that both have
LOOKS = 5  # windows that look at a moment where they are all there is


def default_window_s(method: Method) -> float:
    """Seconds in a window: frames are best scored as the models were trained, on 10 s."""
    return WINDOW_S[method]


def default_hop_s(window_s: float, method: Method = "windows") -> float:
    """Seconds from one window to the next, in hundredths, so that windows can share log-mel frames.

    Four fifths of the window for frames, a fifth where windows themselves are compared.
    """
    share = 1 - OVERLAP_SHARE if method == "frames" else 1 / LOOKS
    return max(MIN_HOP_S, round(window_s * share, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class EventOptions:
    """What counts as an event.

    Args:
        method: "frames" asks the model about each step of a window (0.32 s with most models); "windows"
            compares windows that overlap.
        on: an event's score reaches this somewhere; None for the method's default, 0.16 or 0.3.
        off: and falls below this nowhere; None for a share of `on`: 0.4, or a quarter.
        thresholds: (label, on) pairs: labels with an `on` of their own. Their `off` is the same share of it
            as it is for the others.
        labels: keep only these: names, `/m/…` ids, slugs, or words of a name that no other label has; empty
            for all but "Silence".
        exclude: drop these, spelled likewise.
        descendants: of the labels of both, also their kinds in AudioSet's ontology, however many levels down;
            then a sound of the ontology that is no label itself, such as "Human sounds", is accepted too.
        specific: drop an event where events of its kinds cover half of it or more.
        max_gap_s: events of a label that are no further apart become one; None for 0.64 s, or 0.
        min_length_s: events shorter than this are dropped.

    Raises:
        UsageError: a value outside its range.
    """

    method: Method = "frames"
    on: float | None = None
    off: float | None = None
    thresholds: tuple[tuple[str, float], ...] = ()
    labels: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    descendants: bool = False
    specific: bool = False
    max_gap_s: float | None = None
    min_length_s: float = 0.0

    if TYPE_CHECKING:  # it takes more types than its fields have

        def __init__(self, **options: Unpack[EventFields]) -> None: ...

    def __post_init__(self) -> None:
        require_choice("method", self.method, Method)
        require_score(self.on_score)
        require_score(self.off_score)
        object.__setattr__(self, "thresholds", scores_of("thresholds", self.thresholds))
        for field in ("labels", "exclude"):
            object.__setattr__(self, field, names_of(field, getattr(self, field)))
        if self.off_score > self.on_score:
            raise UsageError(f"off ({self.off_score:g}) is above on ({self.on_score:g})")
        for what, value in (("gap", self.gap_s), ("length", self.min_length_s)):
            require_number(f"a {what} of", value)
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"a {what} of {value:g} s is not 0 s or more")
        for flag in ("descendants", "specific"):
            require_flag(flag, getattr(self, flag))
        require_named(self.labels, self.exclude, descendants=self.descendants)

    @property
    def on_score(self) -> float:
        """`on`, or its default."""
        return ON[self.method] if self.on is None else self.on

    @property
    def off_score(self) -> float:
        """`off`, or its default."""
        return OFF_SHARE[self.method] * self.on_score if self.off is None else self.off

    @property
    def off_share(self) -> float:
        """`off` as a share of `on`."""
        return self.off_score / self.on_score if self.on_score else OFF_SHARE[self.method]

    @property
    def gap_s(self) -> float:
        """`max_gap_s`, or its default."""
        return MAX_GAP_S[self.method] if self.max_gap_s is None else self.max_gap_s


class EventFields(TypedDict, total=False):
    """Fields of `EventOptions` as keyword arguments, of all types that they take."""

    method: Method
    on: float | None
    off: float | None
    thresholds: Scores
    labels: Names
    exclude: Names
    descendants: bool
    specific: bool
    max_gap_s: float | None
    min_length_s: float


class EventChanges(EventFields, total=False):
    """Those, and the fields of `TagOptions` that count for events."""

    window_s: float
    hop_s: float | None
    pad: Pad
    channel: str | SupportsIndex
    strict: bool


def label_thresholds(
    options: EventOptions, vocabulary: Vocabulary, columns: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """`on` and `off` of each wanted label; float32 as scores are, so that a score of 0.7 reaches 0.7."""
    on = np.full(len(vocabulary), options.on_score)
    off = np.full(len(vocabulary), options.off_score)
    for name, threshold in options.thresholds:
        index = vocabulary.find(name).index
        on[index], off[index] = threshold, threshold * options.off_share
    return on[columns].astype(np.float32), off[columns].astype(np.float32)
