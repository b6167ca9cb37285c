"""The recipes of distillation: every number that a run depends on, besides its data and models.

paper   Section IV of the paper: Adam, 200 epochs of 100,000 clips, mixup, perturbed mel bands, temperature
        from 30 to 1. Made for AudioSet and a GPU.
small   what works with hours of audio on two cores: first the blocks, each on the teacher's feature maps,
        then the whole, on mixes that are made as it goes; the teacher hears the same mixes.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from dymn_cli.errors import UsageError
from dymn_cli.train.distill.mixing import MixOptions
from dymn_cli.train.schedule import RateSchedule, ShapeName, peak_rate

__all__ = ["EPOCHS", "RECIPES", "Mode", "Recipe", "Stage", "paper", "scaled_steps", "small"]

Mode = Literal["blockwise", "end-to-end"]
OptimizerName = Literal["adam", "adamw"]

EPOCHS, CLIPS_PER_EPOCH = 200, 100_000
LANES = 2  # of the small recipe: for the two cores that it is made for
FRAMES = 0.5


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a run with an optimizer of its own.

    Args:
        mode: "blockwise" (each of the 17 stages and the classifier learn from the teacher's maps, none from
            another) or "end-to-end".
        share: of the run's time.
        batch: clips in a step.
        window_s: seconds of a clip.
        optimizer: "adam" or "adamw".
        weight_decay: of AdamW.
        shape: of the learning rate over the stage.
        rate: peak of it.
        hints: weight of the sum over the feature maps' hint losses, beside the loss on scores.
        average: decay of the moving average of the weights; 0 for none.
        clip_norm: largest norm of the gradient; 0 for no limit.
        settled: share of the stage, its end, in which batch normalisation uses its running statistics as it
            will ever after, so that rare sounds on which they fit badly are learned from, too.
        frames: weight of the loss on each step's scores, beside the loss on the clip's; 0 for none.
        dropout: whether the classifier drops units.
    """

    mode: Mode
    share: float
    batch: int
    window_s: float
    optimizer: OptimizerName
    weight_decay: float
    shape: ShapeName
    rate: float
    hints: float = 0.0
    average: float = 0.0
    clip_norm: float = 0.0
    settled: float = 0.0
    frames: float = 0.0
    dropout: bool = True

    def __post_init__(self) -> None:
        def require(holds: bool, message: str) -> None:
            if not holds:
                raise UsageError(f"recipe: {message}")

        require(self.mode in get_args(Mode), f"no mode {self.mode!r}")
        require(self.optimizer in get_args(OptimizerName), f"no optimizer {self.optimizer!r}")
        require(self.batch >= 2, "a step needs two clips at least: batch normalisation compares them")
        require(0.5 <= self.window_s <= 60, "a window must have 0.5 to 60 seconds")
        require(
            math.isfinite(self.rate) and self.rate > 0, f"a rate of {self.rate:g} is not a positive number"
        )
        require(math.isfinite(self.hints) and self.hints >= 0, "the weight of hints cannot be negative")
        require(math.isfinite(self.frames) and self.frames >= 0, "the weight of frames cannot be negative")
        require(0 <= self.average < 1, "the decay of the average is not in [0, 1)")
        require(0 <= self.settled <= 1, "the settled share of a stage is not in [0, 1]")

    @property
    def rates(self) -> RateSchedule:
        """Learning rate over the stage."""
        return RateSchedule(self.shape, self.rate)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a student is trained.

    Args:
        name: "paper" or "small".
        stages: one after the other.
        label_share: λ of equation 8; 0 where there are no labels.
        mixup: alpha of the Beta distribution that log-mels are mixed by; 0 for none. Not with `mixes`.
        perturb_bands: draw the edges of the mel bank anew for each step. Not with `mixes`.
        mixes: mixes in the power domain instead, or None.
        fitted_start: whether a random student begins with the teacher's means and spreads.
        temperature: of the Dy-Convs at the beginning; it ends at 1.
        temperature_share: of the run, until it is 1.
        lanes: parts of a batch that are computed side by side (`dymn_cli.train.parallel.lanes_for`), where
            its clips are not mixed with each other.
    """

    name: str
    stages: tuple[Stage, ...]
    label_share: float = 0.1
    mixup: float = 0.0
    perturb_bands: bool = False
    mixes: MixOptions | None = None
    fitted_start: bool = False
    temperature: float = 1.0
    temperature_share: float = 0.15
    lanes: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.label_share <= 1:
            raise UsageError(f"a share of {self.label_share:g} for labels is not between 0 and 1")
        if not self.stages:
            raise UsageError("a recipe needs a stage")
        if self.mixes is None and self.has_frames:
            raise UsageError(
                "frames can be taught where it is known where sounds lie, in mixes", hint="--recipe small"
            )

    @property
    def has_frames(self) -> bool:
        """Whether the student learns to say what is heard when."""
        return any(stage.frames for stage in self.stages)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, for fingerprints and logs."""
        document: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return document


def paper(width: float, *, continues: bool = False) -> Recipe:
    """The published recipe for a student of a width (Section IV-B), trained or not."""
    stage = Stage(
        mode="end-to-end",
        share=1.0,
        batch=120,
        window_s=10.0,
        optimizer="adam",
        weight_decay=0.0,
        shape="distillation",
        rate=peak_rate(width),
        average=0.999,
    )
    return Recipe(
        "paper", (stage,), mixup=0.3, perturb_bands=True, temperature=30.0, temperature_share=30 / EPOCHS
    )


def small(width: float, *, continues: bool = False) -> Recipe:
    """The recipe for a small corpus and a CPU.

    Args:
        width: of the student.
        continues: whether the student is trained already: then its blocks are not trained one by one, the
            rate is lower, and batch normalisation keeps its running statistics from the start.
    """
    blockwise = Stage(
        mode="blockwise",
        share=0.25,
        batch=24,
        window_s=4.0,
        optimizer="adamw",
        weight_decay=0.01,
        shape="cosine",
        rate=10 * peak_rate(width),
        frames=FRAMES,
        dropout=False,
    )
    whole = Stage(
        mode="end-to-end",
        share=0.75,
        batch=16,
        window_s=8.0,
        optimizer="adamw",
        weight_decay=0.01,
        shape="cosine",
        rate=(0.3 if continues else 0.75) * peak_rate(width),
        hints=0.3 if continues else 0.5,
        average=0.999,
        clip_norm=20.0,
        settled=1.0 if continues else 0.25,
        frames=FRAMES,
        dropout=False,
    )
    stages = (whole,) if continues else (blockwise, whole)
    return Recipe("small", stages, mixes=MixOptions(), fitted_start=True, lanes=LANES)


RECIPES = {"small": small, "paper": paper}
"""The recipes by name: functions of the student's width and whether it is trained already."""


def scaled_steps(stages: tuple[Stage, ...], n_steps: int) -> tuple[int, ...]:
    """Share steps out to the stages, one at least for each."""
    total = sum(stage.share for stage in stages)
    return tuple(max(round(n_steps * stage.share / total), 1) for stage in stages)
