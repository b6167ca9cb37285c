"""The options of `dymn distill`, in groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from dymn_cli.cli.options.declare import arg, opt
from dymn_cli.cli.options.groups import Force, complete_model
from dymn_cli.cli.options.panels import INPUT, MODEL, OUTPUT
from dymn_cli.cli.options.training import RECIPE, Settings, ShowRecipe
from dymn_cli.errors import UsageError

if TYPE_CHECKING:
    from dymn_cli.train.distill.recipe import Recipe

__all__ = ["CorpusOptions", "RecipeOptions", "StudentFile", "StudentOptions"]


@dataclass(frozen=True, slots=True)
class CorpusOptions:
    """Which recordings, and which of them are held out."""

    data: Annotated[list[str], arg("DATA", "Files and folders of audio, or HDF5 files.")] = field(
        default_factory=list
    )
    ext: Annotated[str | None, opt("--ext", "wav,flac,...", "In folders: only files that end so.", INPUT)] = (
        None
    )
    group_by: Annotated[
        str,
        opt("--group-by", "folder|file|COLUMN", "What is held out as a whole; COLUMN of --manifest.", INPUT),
    ] = "folder"
    manifest: Annotated[str | None, opt("--manifest", "FILE.csv", "Paths and their groups.", INPUT)] = None
    labels: Annotated[
        str | None,
        opt("--labels", "FILE", "Labels of the files, or of some, as for dymn eval.", INPUT),
    ] = None
    holdout: Annotated[
        str, opt("--holdout", "X|NAME,...", "Share of the recordings to hold out, or names of groups.", INPUT)
    ] = "0.1"
    split: Annotated[
        str | None, opt("--split", "FILE", "Hold out what this split.json holds out.", INPUT)
    ] = None
    held_out_clips: Annotated[
        int, opt("--held-out-clips", "N", "Measure on at most N held-out clips; 0 for all.", INPUT, min=0)
    ] = 512


@dataclass(frozen=True, slots=True)
class StudentOptions:
    """Student and teachers, and which models are measured."""

    teacher: Annotated[
        list[str],
        opt(
            "--teacher",
            "NAME|PATH",
            "A model, or .npy or HDF5 logits. Repeat it for more.",
            MODEL,
            autocompletion=complete_model,
        ),
    ] = field(default_factory=list)
    teacher_index: Annotated[
        list[str],
        opt("--teacher-index", "FILE", "Rows of the clips in .npy logits (default: beside them).", MODEL),
    ] = field(default_factory=list)
    student: Annotated[
        str | None,
        opt(
            "--student",
            "NAME|JSON",
            "dymn04 (default), mn10, another of dymn models variants, or JSON.",
            MODEL,
        ),
    ] = None
    init: Annotated[
        str,
        opt("--init", "random|MODEL", "What the student begins as.", MODEL, autocompletion=complete_model),
    ] = "random"
    compare: Annotated[
        list[str],
        opt(
            "--compare",
            "MODEL",
            "Measure this model, too. Repeat it for more.",
            MODEL,
            autocompletion=complete_model,
        ),
    ] = field(default_factory=list)
    evaluate: Annotated[
        list[str],
        opt(
            "--evaluate",
            "MODEL",
            "Train nothing, only measure this model. Repeat it for more.",
            MODEL,
            autocompletion=complete_model,
        ),
    ] = field(default_factory=list)
    device: Annotated[
        str, opt("--device", "cpu|cuda[:N]|mps", "Where it trains; auto: cpu.", MODEL, envvar="DYMN_DEVICE")
    ] = "auto"


@dataclass(frozen=True, slots=True)
class StudentFile:
    """Where the student goes."""

    out: Annotated[str | None, opt("-o --out", "FILE", "The student, as a .safetensors file.", OUTPUT)] = None
    force: Force = False


def _former(name: str) -> Any:
    """An option from before recipes were files; it changes a setting of the recipe."""
    return opt(name, "X", "A setting of the recipe.", RECIPE, hidden=True)


@dataclass(frozen=True, slots=True)
class RecipeOptions:
    """How the student is trained, and how long."""

    recipe: Annotated[
        str,
        opt(
            "--recipe",
            "NAME|FILE",
            "small, paper, labels, or a TOML file as --show-recipe prints it.",
            RECIPE,
        ),
    ] = "small"
    settings: Settings = field(default_factory=list)
    show_recipe: ShowRecipe = False
    hours: Annotated[
        float | None,
        opt("--hours", "H", "Train for H hours, pauses not counted (default: as the recipe says).", RECIPE),
    ] = None
    steps: Annotated[
        str | None,
        opt("--steps", "N[,N]", "Train for N steps, or for so many in each stage: reproducible.", RECIPE),
    ] = None
    seed: Annotated[int, opt("--seed", "N", "Of the split and the training.", RECIPE, min=0)] = 0
    epochs: Annotated[float | None, _former("--epochs")] = None
    clips_per_epoch: Annotated[int | None, _former("--clips-per-epoch")] = None
    blockwise: Annotated[float | None, _former("--blockwise")] = None
    hints: Annotated[float | None, _former("--hints")] = None
    frame_weight: Annotated[float | None, _former("--frame-weight")] = None
    settled: Annotated[float | None, _former("--settled")] = None
    label_share: Annotated[float | None, _former("--label-share")] = None
    batch: Annotated[int | None, _former("--batch")] = None
    window: Annotated[float | None, _former("--window")] = None
    rate: Annotated[float | None, _former("--rate")] = None
    measure: Annotated[int | None, _former("--measure")] = None

    def read_recipe(self) -> Recipe:
        """The recipe that the options ask for.

        Raises:
            InputError: its file cannot be read.
            UsageError: no such recipe, or a setting that is unknown or out of range.
        """
        from dymn_cli.train import recipe_file
        from dymn_cli.train.distill.recipe import Recipe, built_in

        name = self.recipe
        recipe = recipe_file.read(Recipe, name) if name.endswith(".toml") else built_in(name)
        changes = [*self._former(recipe), *map(recipe_file.parse_assignment, self.settings)]
        return recipe_file.change(recipe, changes, f"recipe {name}") if changes else recipe

    def _former(self, recipe: Recipe) -> Iterator[tuple[str, Any]]:
        """What the former options set."""
        whole = [n for n, stage in enumerate(recipe.stages, 1) if stage.mode == "end-to-end"]
        if self.blockwise is not None:
            yield from self._shares(recipe, self.blockwise)
        if self.epochs is not None or self.clips_per_epoch is not None:
            yield "hours", 0.0
            yield "epochs", (recipe.epochs or 200.0) if self.epochs is None else self.epochs
        values = {
            "clips_per_epoch": self.clips_per_epoch,
            "label_weight": self.label_share,
            "measurements": self.measure,
            "batch": self.batch,
            "window_s": self.window,
            "frame_weight": self.frame_weight,
            **{f"stages.{n}.rate": self.rate for n in whole},
            **{f"stages.{n}.hint_weight": self.hints for n in whole},
            **{f"stages.{n}.frozen_norm_share": self.settled for n in whole},
        }
        yield from ((key, value) for key, value in values.items() if value is not None)

    def _shares(self, recipe: Recipe, share: float) -> Iterator[tuple[str, float]]:
        """Shares of the stages where those that train block by block have one together."""
        if not 0 <= share < 1:
            raise UsageError(f"--blockwise {share:g} is not a share from 0 and below 1")
        modes = [stage.mode for stage in recipe.stages]
        if "blockwise" not in modes and share:
            raise UsageError(
                f"recipe {self.recipe} does not train block by block",
                hint="add such a stage to a recipe file",
            )
        for mode, of_mode in (("blockwise", share), ("end-to-end", 1 - share)):
            total = sum(stage.share for stage in recipe.stages if stage.mode == mode)
            for n, stage in enumerate(recipe.stages, 1):
                if stage.mode == mode and total:
                    yield f"stages.{n}.share", stage.share / total * of_mode
