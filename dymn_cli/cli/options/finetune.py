"""The options of training a whole network in `dymn finetune`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from dymn_cli.cli.options.declare import flag, opt
from dymn_cli.cli.options.training import RECIPE, Settings, ShowRecipe

if TYPE_CHECKING:
    from dymn_cli.train.finetune.recipe import FinetuneRecipe

__all__ = ["FinetuneOptions"]


@dataclass(frozen=True, slots=True)
class FinetuneOptions:
    """How a whole network is trained; None for what the recipe says."""

    recipe: Annotated[
        str | None, opt("--recipe", "FILE.toml", "Settings, in a file such as --show-recipe prints.", RECIPE)
    ] = None
    settings: Settings = field(default_factory=list)
    show_recipe: ShowRecipe = False
    epochs: Annotated[
        int | None, opt("--epochs", "N", "How often each recording is used (default: see above).", RECIPE)
    ] = None
    rate: Annotated[float | None, opt("--rate", "X", "Peak learning rate (default: see above).", RECIPE)] = (
        None
    )
    batch: Annotated[
        int | None, opt("--batch", "N", "Recordings in a step (default: see above).", RECIPE)
    ] = None
    patience: Annotated[
        int | None, opt("--patience", "N", "Stop after N epochs without a gain; 0: never.", RECIPE)
    ] = None
    # From before recipes were files.
    fit_head: Annotated[
        bool | None, flag("--fit-head/--random-head", "A setting of the recipe.", RECIPE, hidden=True)
    ] = None
    window: Annotated[float | None, opt("--window", "S", "A setting of the recipe.", RECIPE, hidden=True)] = (
        None
    )
    mixup: Annotated[
        bool | None, flag("--mixup/--no-mixup", "A setting of the recipe.", RECIPE, hidden=True)
    ] = None
    spec_augment: Annotated[
        bool | None, flag("--spec-augment/--no-spec-augment", "A setting of the recipe.", RECIPE, hidden=True)
    ] = None

    def read_recipe(self, dataset: str | None) -> FinetuneRecipe:
        """The recipe that the options ask for.

        Args:
            dataset: a published data set by name, or None for one's own.

        Raises:
            InputError: its file cannot be read.
            UsageError: a setting that is unknown or out of range.
        """
        from dymn_cli.train import recipe_file
        from dymn_cli.train.finetune.recipe import FinetuneRecipe, default_recipe

        recipe = default_recipe(dataset)
        if self.recipe is not None:
            recipe = recipe_file.read(FinetuneRecipe, self.recipe)
        changes = [*self._changes(), *map(recipe_file.parse_assignment, self.settings)]
        return recipe_file.change(recipe, changes, self.recipe or "recipe") if changes else recipe

    def _changes(self) -> Iterator[tuple[str, Any]]:
        values = {
            "epochs": self.epochs,
            "rate": self.rate,
            "batch": self.batch,
            "patience": self.patience,
            "fit_head": self.fit_head,
            "window_s": self.window,
            "spec_augment": self.spec_augment,
            **({"mixup": 0.0, "mix_waves": 0.0} if self.mixup is False else {}),
        }
        yield from ((key, value) for key, value in values.items() if value is not None)
