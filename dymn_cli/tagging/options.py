"""All options of tagging that change a result, in one frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Literal, SupportsIndex, TypedDict

from dymn_cli.errors import UsageError
from dymn_cli.values import (
    names_of,
    require_choice,
    require_flag,
    require_named,
    require_score,
    require_whole,
    scores_of,
)

if TYPE_CHECKING:
    from typing import Unpack

    from dymn_cli.audio.frames import FramePlan
    from dymn_cli.audio.windows import WindowPlan

__all__ = ["Aggregate", "Names", "Pad", "Scores", "TagChanges", "TagOptions"]

Aggregate = Literal["max", "mean"]
Pad = Literal["repeat", "zero", "none"]
Names = tuple[str, ...] | list[str]
Scores = tuple[tuple[str, float], ...] | list[tuple[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TagOptions:
    """How a source is cut, how the answers of its windows are joined, and which tags are kept.

    Args:
        window_s: length of a window; the models were trained on 10 s.
        hop_s: from one window's start to the next; None for the window.
        pad: what fills up a source shorter than a window: "repeat", "zero" or "none".
        channel: "mix" (mean of the channels; a warning says if they cancel each other), "each", or the number
            of one, from 0.
        aggregate: clip scores are the "max" or the "mean" of the windows' scores.
        top: tags to keep at most; 0 for all.
        min_score: tags below are dropped, unless `thresholds` has a value of their own for them.
        labels: keep only these: names, `/m/…` ids, slugs, or words of a name that no other label has; empty
            for all.
        exclude: drop these, spelled likewise.
        descendants: of the labels of both, also their kinds in AudioSet's ontology, however many levels down;
            then a sound of the ontology that is no label itself, such as "Human sounds", is accepted too.
        specific: drop a label where one of its kinds passes as well: of "Dog" and "Bark", keep "Bark". Needs
            a lowest score, as all labels pass without.
        thresholds: (label, lowest score) pairs, the label spelled in any of those ways.
        windows: also keep the tags of every window.
        strict: refuse a damaged source instead of analysing what is left of it.
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
    exclude: tuple[str, ...] = ()
    descendants: bool = False
    specific: bool = False
    thresholds: tuple[tuple[str, float], ...] = ()
    windows: bool = False
    strict: bool = False
    frames: FramePlan | None = None
    frame_scores: bool = False

    if TYPE_CHECKING:  # it takes more types than its fields have

        def __init__(self, **options: Unpack[TagChanges]) -> None: ...

    def __post_init__(self) -> None:
        self.plan  # noqa: B018 - it refuses what no window can be
        require_choice("aggregation", self.aggregate, Aggregate)
        channel: object = self.channel
        if not isinstance(channel, bool) and isinstance(channel, Integral):
            channel = str(channel)
            object.__setattr__(self, "channel", channel)
        if not isinstance(channel, str) or (
            channel not in ("mix", "each") and not (channel.isascii() and channel.isdigit())
        ):
            raise UsageError(f"no channel {channel!r}", hint="mix, each, or a number from 0")
        require_whole("top", self.top)
        for flag in ("descendants", "specific", "windows", "strict", "frame_scores"):
            require_flag(flag, getattr(self, flag))
        if self.frame_scores and self.frames is not None:
            raise UsageError("frame scores are for windows, not for a cut into frames")
        if self.top < 0:
            raise UsageError(f"top {self.top} is negative", hint="0 keeps all labels")
        require_score(self.min_score)
        for field in ("labels", "exclude"):
            object.__setattr__(self, field, names_of(field, getattr(self, field)))
        object.__setattr__(self, "thresholds", scores_of("thresholds", self.thresholds))
        require_named(self.labels, self.exclude, descendants=self.descendants)
        if self.specific and not (self.min_score or self.thresholds):
            raise UsageError(
                "--specific needs a lowest score: without one all labels pass",
                hint="-t 0.1 (in Python, min_score=0.1)",
            )

    @property
    def plan(self) -> WindowPlan | FramePlan:
        """How a source is cut."""
        from dymn_cli.audio.frames import FramePlan
        from dymn_cli.audio.windows import WindowPlan

        plan = WindowPlan(self.window_s, self.hop_s, self.pad)
        if self.frames is None:
            return plan
        if not isinstance(self.frames, FramePlan):
            raise UsageError(f"frames {self.frames!r} is not a FramePlan")
        return self.frames


class TagChanges(TypedDict, total=False):
    """Fields of `TagOptions` as keyword arguments, of all types that they take."""

    window_s: float
    hop_s: float | None
    pad: Pad
    channel: str | SupportsIndex
    aggregate: Aggregate
    top: SupportsIndex
    min_score: float
    labels: Names
    exclude: Names
    descendants: bool
    specific: bool
    thresholds: Scores
    windows: bool
    strict: bool
    frames: FramePlan | None
    frame_scores: bool
