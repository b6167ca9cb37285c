"""The options of end-to-end fine-tuning."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated

from dymn_cli.cli.options.declare import flag, opt
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
        opt("--epochs", "N", "How often each recording is heard (default: see above).", RECIPE_PANEL),
    ] = None
    rate: Annotated[
        float | None,
        opt("--rate", "X", "Peak learning rate (default: see above).", RECIPE_PANEL),
    ] = None
    batch: Annotated[
        int | None,
        opt("--batch", "N", "Recordings in a step.", RECIPE_PANEL),
    ] = None
    fit_head: Annotated[
        bool | None,
        flag(
            "--fit-head/--random-head",
            "What the last layer begins as (default: see above).",
            RECIPE_PANEL,
            show_default=False,
        ),
    ] = None
    window: Annotated[
        float | None,
        opt("--window", "S", "Seconds heard of a recording (default: the longest, up to 10).", RECIPE_PANEL),
    ] = None
    mixup: Annotated[
        bool,
        flag(
            "--mixup/--no-mixup",
            "Mix recordings with each other, as waveforms and as log-mels.",
            RECIPE_PANEL,
        ),
    ] = True
    spec_augment: Annotated[
        bool,
        flag("--spec-augment/--no-spec-augment", "Blank stripes of bands and frames.", RECIPE_PANEL),
    ] = False
    patience: Annotated[
        int,
        opt(
            "--patience",
            "N",
            "Stop after N epochs without a gain on recordings held out for that; 0: never.",
            RECIPE_PANEL,
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
