"""Every knob of tagging that changes a result, in one frozen dataclass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from dymn_cli.errors import UsageError

if TYPE_CHECKING:
    from dymn_cli.audio.frames import FramePlan

__all__ = ["Aggregate", "TagOptions"]

Aggregate = Literal["max", "mean"]
Pad = Literal["repeat", "zero", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TagOptions:
    """How a source is cut, how the answers of its windows are joined, and which tags are kept.

    Args:
        window_s: length of a window; the models were trained on 10 s.
        hop_s: from one window's start to the next; None for the window.
        pad: what fills up a source shorter than a window: "repeat", "zero" or "none".
        channel: "mix" (mean of the channels), "each", or the number of one, from "0".
        aggregate: clip scores are the "max" or the "mean" of the windows' scores.
        top: tags to keep at most; 0 for all.
        min_score: tags below are dropped, unless `thresholds` has a value of their own for them.
        labels: keep only these: names, `/m/…` ids or slugs; empty for all.
        thresholds: (label, lowest score) pairs, the label spelled in any of those ways.
        windows: also keep the tags of every window.
        frames: cut the source into these frames instead of windows; `window_s`, `hop_s` and `pad` do not
            count then.
        frame_scores: also score each step of a window's time line, 0.32 s with most models.

    Raises:
        UsageError: a value outside its range.
    """

    window_s: float = 10.0
    hop_s: float | None = None
    pad: Pad = "repeat"
    channel: str = "mix"
    aggregate: Aggregate = "max"
    top: int = 5
    min_score: float = 0.0
    labels: tuple[str, ...] = ()
    thresholds: tuple[tuple[str, float], ...] = ()
    windows: bool = False
    frames: FramePlan | None = None
    frame_scores: bool = False

    def __post_init__(self) -> None:
        if self.aggregate not in get_args(Aggregate):
            raise UsageError(f"no aggregation {self.aggregate!r}", hint="max or mean")
        if self.channel not in ("mix", "each") and not (self.channel.isascii() and self.channel.isdigit()):
            raise UsageError(f"no channel {self.channel!r}", hint="mix, each, or a number from 0")
        if self.frame_scores and self.frames is not None:
            raise UsageError("frame scores are for windows, not for a cut into frames")
        if self.top < 0:
            raise UsageError(f"top {self.top} is negative", hint="0 keeps all labels")
        for score in (self.min_score, *(value for _, value in self.thresholds)):
            if not (math.isfinite(score) and 0 <= score <= 1):
                raise UsageError(f"a score of {score:g} is not between 0 and 1")
