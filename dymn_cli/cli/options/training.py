"""Options that the commands that train share."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from dymn_cli.cli.options.declare import flag, opt
from dymn_cli.errors import UsageError

if TYPE_CHECKING:
    from dymn_cli.train.run import RunOptions

__all__ = ["RECIPE", "RUN", "Settings", "ShowRecipe", "WorkOptions", "given"]

RECIPE, RUN = "How to train", "The run"

Settings = Annotated[
    list[str], opt("--set", "KEY=VALUE", "Change a setting of the recipe. Repeat it for more.", RECIPE)
]

ShowRecipe = Annotated[
    bool, flag("--show-recipe", "Print the recipe as TOML, to save and edit, and stop.", RECIPE)
]


@dataclass(frozen=True, slots=True)
class WorkOptions:
    """Where a run works, and on what."""

    work: Annotated[
        str | None, opt("--work", "DIR", "Folder for checkpoint and log (default: OUT.train).", RUN)
    ] = None
    resume: Annotated[
        bool, flag("--resume/--no-resume", "Go on where an earlier run to the same output stopped.", RUN)
    ] = True
    checkpoint_every: Annotated[
        float, opt("--checkpoint-every", "MIN", "Minutes between checkpoints.", RUN)
    ] = 5.0
    threads: Annotated[
        int | None, opt("--threads", "N", "Threads on the CPU (default: one a core).", RUN)
    ] = None
    cache: Annotated[
        str | None,
        opt(
            "--cache",
            "DIR",
            "Folder for decoded audio, DYMN_CACHE_GB at most (default: in the cache of dymn, 20 GB).",
            RUN,
        ),
    ] = None

    @property
    def cache_folder(self) -> Path:
        """Where decoded audio lies."""
        from dymn_cli.datasets.audio_cache import CLIPS_FOLDER
        from dymn_cli.store.local import cache_folder

        return Path(self.cache) if self.cache else cache_folder() / CLIPS_FOLDER

    def check(self) -> None:
        """Refuse values out of range before any work is done.

        Raises:
            UsageError: there is one.
        """
        if not self.checkpoint_every >= 0:  # so put, NaN fails
            raise UsageError(f"--checkpoint-every {self.checkpoint_every:g}: at least 0")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"--threads {self.threads}: at least 1")

    def run_options(self, out: str, name: str, seed: int) -> RunOptions:
        """Options of a run for an output file."""
        from dymn_cli.train.run import RunOptions

        work = Path(self.work or f"{out}.train")
        return RunOptions(work, name, seed, checkpoint_every_s=60 * self.checkpoint_every, resume=self.resume)


def given(*groups: Any) -> list[str]:
    """The options of groups that have another value than their default, as they are spelled."""
    names = []
    for group in groups:
        hints = get_type_hints(type(group), include_extras=True)
        for field in dataclasses.fields(group):
            default = (
                field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            )
            if getattr(group, field.name) != default:
                option = hints[field.name].__metadata__[0]
                # In annotations, Typer takes the first name for the default until it reads the command.
                names.append(next(n for n in (option.default, *option.param_decls) if n.startswith("--")))
    return [name.partition("/")[0] for name in names]
