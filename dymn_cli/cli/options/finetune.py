"""The options of end-to-end fine-tuning."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated

import typer

from dymn_cli.cli.options.training import (
    CHECKPOINT_EVERY_MIN,
    CacheDir,
    CheckpointEvery,
    Resume,
    Threads,
    WorkDir,
)

__all__ = ["TuningOptions"]

RECIPE_PANEL = "End-to-end training"


@dataclass(frozen=True, slots=True)
class TuningOptions:
    """How a whole network is trained; None for what depends on the data."""

    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            metavar="N",
            help="How often each recording is heard (default: see above).",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = None
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            metavar="X",
            help="Peak learning rate (default: see above).",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = None
    batch: Annotated[
        int | None,
        typer.Option("--batch", metavar="N", help="Recordings in a step.", rich_help_panel=RECIPE_PANEL),
    ] = None
    fit_head: Annotated[
        bool | None,
        typer.Option(
            "--fit-head/--random-head",
            metavar="",
            help="What the last layer begins as (default: see above).",
            rich_help_panel=RECIPE_PANEL,
            show_default=False,
        ),
    ] = None
    window: Annotated[
        float | None,
        typer.Option(
            "--window",
            metavar="S",
            help="Seconds heard of a recording (default: the longest, up to 10).",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = None
    mixup: Annotated[
        bool,
        typer.Option(
            "--mixup/--no-mixup",
            metavar="",
            help="Mix recordings with each other, as waveforms and as log-mels.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = True
    spec_augment: Annotated[
        bool,
        typer.Option(
            "--spec-augment/--no-spec-augment",
            metavar="",
            help="Blank stripes of bands and frames.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = False
    patience: Annotated[
        int,
        typer.Option(
            "--patience",
            metavar="N",
            help="Stop after N epochs without a gain on recordings held out for that; 0: never.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = 0
    threads: Threads = None
    cache: CacheDir = None
    work: WorkDir = None
    resume: Resume = True
    checkpoint_every: CheckpointEvery = CHECKPOINT_EVERY_MIN

    @property
    def given(self) -> list[str]:
        """The options that were given, as they are spelled."""
        names = [
            field.name for field in dataclasses.fields(self) if getattr(self, field.name) != field.default
        ]
        return [f"--{name.replace('_', '-')}" for name in names]
