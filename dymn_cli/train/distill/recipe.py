"""The recipes of distillation: every number that a run depends on, besides its data and models.

The built-in ones are the TOML files in `recipes/`:

small           what works with hours of audio on two cores: first the blocks, each on the teacher's feature
                maps, then the whole network, on mixes made as it goes, which the teacher hears as well
small-further   the same for a student that is trained already: no blocks, a lower rate, frozen statistics
paper           Section IV of the paper: Adam, 200 epochs of 100,000 clips, mixup, perturbed mel bands,
                temperature from 30 to 1. Made for AudioSet and a GPU.
labels          Section VI-A of the paper: no teacher, but the labels of AudioSet; a rate of 5e-4, and the
                augmentation of Section V-B with SpecAugment. Otherwise as in paper.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

from dymn_cli.errors import UsageError
from dymn_cli.train.distill.mixing import MixOptions
from dymn_cli.train.recipe_file import check, dump, parse, setting
from dymn_cli.train.schedule import RateSchedule, ShapeName, peak_rate

__all__ = ["RECIPES", "Budget", "Mode", "Recipe", "Stage", "built_in", "recipe_toml"]

Mode = Literal["blockwise", "end-to-end"]
OptimizerName = Literal["adam", "adamw"]

RECIPES = ("small", "small-further", "paper", "labels")
"""The built-in recipes."""
OF_LENGTH = ("hours", "epochs", "clips_per_epoch", "measurements")  # a run may go on with others
ON_SAMPLES = ("gain_db", "roll_s", "mix_waves", "spec_augment")
"""Augmentation of the samples. While off, it is not in fingerprints: older runs, which lack it, go on."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a run with an optimizer of its own.

    In mode "blockwise", each of the 17 stages of the network and its classifier learn from the teacher's
    feature maps, none from another; in mode "end-to-end" the network learns as a whole. Where
    `frozen_norm_share` begins, batch normalisation uses its running statistics as it will ever after, so that
    the student learns from rare sounds that fit them badly, too.
    """

    mode: Mode = setting('"blockwise" or "end-to-end"')
    share: float = setting("of the run's time, relative to the other stages; 0 leaves the stage out", least=0)
    batch: int = setting("clips in a step", least=2)  # batch normalisation compares them
    window_s: float = setting("seconds of a clip", least=0.5, most=60)
    optimizer: OptimizerName = setting('"adam" or "adamw"', "adamw")
    weight_decay: float = setting("of AdamW", 0.0, least=0)
    schedule: ShapeName = setting(
        'of the learning rate: "cosine", or "distillation" as in the paper', "cosine"
    )
    relative_rate: float = setting("peak learning rate as a multiple of the paper's", 0.0, least=0)
    rate: float = setting("peak learning rate as a number; 0: relative_rate counts", 0.0, least=0)
    hint_weight: float = setting("loss on feature maps beside the loss on scores, end to end", 0.0, least=0)
    frame_weight: float = setting("loss on each step's scores beside the clip's; 0: none", 0.0, least=0)
    ema_decay: float = setting("of the moving average of the weights; 0: none", 0.0, least=0, below=1)
    max_grad_norm: float = setting("longer gradients are shortened; 0: no limit", 0.0, least=0)
    frozen_norm_share: float = setting(
        "share of the stage, its end, with frozen batch statistics", 0.0, least=0, most=1
    )
    dropout: bool = setting("whether the classifier drops units", True)

    def __post_init__(self) -> None:
        check(self)
        if not (self.rate or self.relative_rate):
            raise UsageError("rate 0 and relative_rate 0: one of them must be a positive number")

    @property
    def rates(self) -> RateSchedule:
        """Learning rate over the stage."""
        return RateSchedule(self.schedule, self.rate)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a student is trained."""

    stages: tuple[Stage, ...] = setting("one after the other")
    label_weight: float = setting(
        "λ of equation 8: share of the labels, where they are known", 0.1, least=0, most=1
    )
    mixup: float = setting("alpha of the Beta distribution for mixed log-mels; 0: none", 0.0, least=0)
    perturb_bands: bool = setting("draw the edges of the mel bank anew for each step", False)
    gain_db: float = setting("a clip is made louder or softer by up to so much", 0.0, least=0)
    roll_s: float = setting("a clip is shifted in a circle by up to so much, either way", 0.0, least=0)
    mix_waves: float = setting("share of the clips that another one is added to", 0.0, least=0, most=1)
    spec_augment: bool = setting("blank a stripe of bands and one of frames for the student", False)
    fitted_start: bool = setting("a random student begins with the teacher's means and spreads", False)
    temperature: float = setting("of the Dy-Convs at the beginning; it ends at 1", 1.0, least=1)
    temperature_share: float = setting("of the run, until it is 1", 0.15, above=0, most=1)
    shards: int = setting("parts of a batch that are computed side by side on a CPU", 1, least=1)
    hours: float = setting("length of the run; 0: epochs", 0.0, least=0, below=1e5)
    epochs: float = setting("length of the run; 0: hours", 0.0, least=0, most=1e9)
    clips_per_epoch: int = setting("clips in an epoch", 100_000, least=1, most=10**9)
    measurements: int = setting("in each stage, on what is held out", 10, least=1)
    mixes: MixOptions | None = setting("what a mix may be made of", None)

    def __post_init__(self) -> None:
        check(self)
        if not sum(stage.share for stage in self.stages):
            raise UsageError("stages: a recipe needs one with a share of more than 0")
        if bool(self.hours) == bool(self.epochs):
            raise UsageError(
                f"hours {self.hours:g} and epochs {self.epochs:g}: exactly one must be more than 0"
            )
        if self.mixes is not None and (self.mixup or self.perturb_bands):
            raise UsageError("mixup and perturb_bands are for a recipe without [mixes]")
        if self.mixes is not None and any(getattr(self, name) for name in ON_SAMPLES):
            raise UsageError(f"{', '.join(ON_SAMPLES)} are for a recipe without [mixes]")
        if self.mixes is None and self.has_frames:
            raise UsageError(
                "frame_weight needs [mixes]: only there it is known where each sound lies",
                hint="--recipe small has them",
            )

    @property
    def needs_teacher(self) -> bool:
        """Whether labels alone are not enough."""
        of_stages = any(stage.mode == "blockwise" or stage.hint_weight for stage in self.stages)
        return self.label_weight < 1 or self.mixes is not None or self.fitted_start or of_stages

    @property
    def has_frames(self) -> bool:
        """Whether the student learns which sound is heard when."""
        return any(stage.frame_weight for stage in self.stages)

    @property
    def teacher_level_db(self) -> float:
        """See `MixOptions`; 0 without mixes."""
        return 0.0 if self.mixes is None else self.mixes.teacher_level_db

    def for_student(self, width: float, *, blocks: bool = True) -> Recipe:
        """The recipe with all rates as numbers and without the stages that it leaves out.

        Args:
            width: of the student; the paper's rates depend on it.
            blocks: whether the student can be trained block by block.
        """
        kept = [one for one in self.stages if one.share and (blocks or one.mode != "blockwise")]
        if not kept:
            raise UsageError(
                "no teacher has the student's channels in every block, and the recipe has no other stage",
                hint='for example mn04_as for dymn04; or add a stage with mode = "end-to-end"',
            )
        stages = tuple(
            dataclasses.replace(one, rate=one.rate or one.relative_rate * peak_rate(width)) for one in kept
        )
        return dataclasses.replace(self, stages=stages)

    def to_dict(self) -> dict[str, Any]:
        """What the result depends on as JSON values, for fingerprints; the length is not part of it."""
        document: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        off = {name for name in ON_SAMPLES if not document[name]}
        return {key: value for key, value in document.items() if key not in off.union(OF_LENGTH)}


def built_in(name: str) -> Recipe:
    """A built-in recipe by name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in RECIPES:
        raise UsageError(f"no recipe {name!r}", hint=f"{', '.join(RECIPES)}, or a file NAME.toml")
    text = resources.files("dymn_cli.train.distill").joinpath("recipes", f"{name}.toml").read_text("utf-8")
    return parse(Recipe, text, name)


def recipe_toml(recipe: Recipe) -> str:
    """A recipe as TOML, with every setting."""
    return dump(recipe, "A recipe: dymn distill --recipe FILE.toml, with this text in FILE.toml.")


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a run is: hours, or steps.

    With hours, stages end by the clock and rates follow it; interruptions do not count, and a run that goes
    on may be given more hours or fewer. The result depends on the speed of the machine. With steps, it is
    the same bits again, interrupted or not.

    Args:
        hours: or None, where steps are given.
        steps: of the whole run, or of each of its stages.

    Raises:
        UsageError: both or none, or numbers out of range.
    """

    hours: float | None = None
    steps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if (self.hours is None) == (not self.steps):
            raise UsageError("a run is so many hours or so many steps long", hint="give one of them")
        if self.hours is not None and not 0 < self.hours < 1e5:
            raise UsageError(f"hours {self.hours:g} is not a number between 0 and 100,000")
        if not all(1 <= n < 1 << 40 for n in self.steps):
            raise UsageError(f"steps {min(self.steps)}: at least 1")

    @classmethod
    def of(cls, recipe: Recipe) -> Budget:
        """The length that a recipe has of itself."""
        if recipe.hours:
            return cls(hours=recipe.hours)
        n_clips, total = recipe.epochs * recipe.clips_per_epoch, sum(one.share for one in recipe.stages)
        return cls(steps=tuple(max(round(n_clips * s.share / total / s.batch), 1) for s in recipe.stages))

    def steps_of(self, stages: tuple[Stage, ...]) -> tuple[int, ...]:
        """Steps of each stage, at least one; none where the clock ends them.

        Raises:
            UsageError: steps for another number of stages.
        """
        if len(self.steps) not in (0, 1, len(stages)):
            raise UsageError(
                f"steps for {len(self.steps)} stages, and the run has {len(stages)}",
                hint="one number for the whole run, or one for each stage",
            )
        if len(self.steps) == 1:
            total = sum(stage.share for stage in stages)
            return tuple(max(round(self.steps[0] * stage.share / total), 1) for stage in stages)
        return self.steps
