"""The options of `dymn distill`, in groups."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import typer

from dymn_cli.cli.options.groups import DeviceName, complete_model
from dymn_cli.cli.options.panels import INPUT, MODEL
from dymn_cli.cli.options.training import (
    CHECKPOINT_EVERY_MIN,
    RUN,
    CacheDir,
    CheckpointEvery,
    Resume,
    Threads,
    WorkDir,
)

__all__ = ["CorpusOptions", "PupilOptions", "RecipeOptions", "WorkOptions"]

TRAINING = "How to train"


@dataclass(frozen=True, slots=True)
class CorpusOptions:
    """Which recordings, and which of them are held out."""

    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA", help="Files and folders of audio, or HDF5 files.", show_default=False),
    ] = field(default_factory=list)
    ext: Annotated[
        str | None,
        typer.Option(
            "--ext", metavar="wav,flac,...", help="In folders: only files that end so.", rich_help_panel=INPUT
        ),
    ] = None
    group_by: Annotated[
        str,
        typer.Option(
            "--group-by",
            metavar="folder|file|COLUMN",
            help="What is held out as a whole; COLUMN is one of --manifest.",
            rich_help_panel=INPUT,
        ),
    ] = "folder"
    manifest: Annotated[
        str | None,
        typer.Option("--manifest", metavar="FILE.csv", help="Paths and their groups.", rich_help_panel=INPUT),
    ] = None
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="What is to be heard in the files, as for dymn eval; for --recipe paper.",
            rich_help_panel=INPUT,
        ),
    ] = None
    holdout: Annotated[
        str,
        typer.Option(
            "--holdout",
            metavar="X|NAME,...",
            help="Share of the recordings to hold out, or names of groups.",
            rich_help_panel=INPUT,
        ),
    ] = "0.1"
    split: Annotated[
        str | None,
        typer.Option(
            "--split", metavar="FILE", help="Hold out what this split.json holds out.", rich_help_panel=INPUT
        ),
    ] = None
    held_out_clips: Annotated[
        int,
        typer.Option(
            "--held-out-clips",
            metavar="N",
            help="Measure on at most N held-out clips; 0 for all.",
            rich_help_panel=INPUT,
        ),
    ] = 512


@dataclass(frozen=True, slots=True)
class PupilOptions:
    """Who learns from whom, and who is measured."""

    teacher: Annotated[
        list[str],
        typer.Option(
            "--teacher",
            metavar="NAME|PATH",
            help="A model, or .npy or HDF5 logits. Repeat it for more.",
            rich_help_panel=MODEL,
            autocompletion=complete_model,
        ),
    ] = field(default_factory=list)
    teacher_index: Annotated[
        list[str],
        typer.Option(
            "--teacher-index",
            metavar="FILE",
            help="Which clip has which row of .npy logits (default: beside them).",
            rich_help_panel=MODEL,
        ),
    ] = field(default_factory=list)
    student: Annotated[
        str | None,
        typer.Option(
            "--student",
            metavar="NAME|JSON",
            help="Architecture: dymn04, mn10, ..., or a config as JSON or a file of it (default: dymn04).",
            rich_help_panel=MODEL,
        ),
    ] = None
    init: Annotated[
        str,
        typer.Option(
            "--init",
            metavar="random|MODEL",
            help="What the student begins as.",
            rich_help_panel=MODEL,
            autocompletion=complete_model,
        ),
    ] = "random"
    compare: Annotated[
        list[str],
        typer.Option(
            "--compare",
            metavar="MODEL",
            help="Measure this model, too. Repeat it for more.",
            rich_help_panel=MODEL,
            autocompletion=complete_model,
        ),
    ] = field(default_factory=list)
    evaluate: Annotated[
        list[str],
        typer.Option(
            "--evaluate",
            metavar="MODEL",
            help="Train nothing, only measure this model. Repeat it for more.",
            rich_help_panel=MODEL,
            autocompletion=complete_model,
        ),
    ] = field(default_factory=list)
    device: DeviceName = "auto"


@dataclass(frozen=True, slots=True)
class RecipeOptions:
    """How, and how long."""

    recipe: Annotated[
        str, typer.Option("--recipe", metavar="small|paper", help="See above.", rich_help_panel=TRAINING)
    ] = "small"
    hours: Annotated[
        float | None,
        typer.Option(
            "--hours",
            metavar="H",
            help="Train for H hours, pauses not counted (default of small: 1).",
            rich_help_panel=TRAINING,
        ),
    ] = None
    steps: Annotated[
        str | None,
        typer.Option(
            "--steps",
            metavar="N[,N]",
            help="Train for N steps in all, or for so many in each stage: the same result anywhere.",
            rich_help_panel=TRAINING,
        ),
    ] = None
    epochs: Annotated[
        float | None,
        typer.Option(
            "--epochs",
            metavar="E",
            help="Train for E epochs (default of paper: 200).",
            rich_help_panel=TRAINING,
        ),
    ] = None
    clips_per_epoch: Annotated[
        int | None,
        typer.Option(
            "--clips-per-epoch",
            metavar="N",
            help="Clips in an epoch (default: 100000).",
            rich_help_panel=TRAINING,
        ),
    ] = None
    blockwise: Annotated[
        float | None,
        typer.Option(
            "--blockwise",
            metavar="X",
            help="Share of the run that trains block by block (small: 0.25; 0 with --init MODEL).",
            rich_help_panel=TRAINING,
        ),
    ] = None
    hints: Annotated[
        float | None,
        typer.Option(
            "--hints",
            metavar="X",
            help="Weight of the feature maps beside the scores (small: 0.5, or 0.3 with --init; paper: 0).",
            rich_help_panel=TRAINING,
        ),
    ] = None
    frame_weight: Annotated[
        float | None,
        typer.Option(
            "--frame-weight",
            metavar="X",
            help="Weight of each step's scores beside the clip's (small: 0.5); 0 teaches no frames.",
            rich_help_panel=TRAINING,
        ),
    ] = None
    settled: Annotated[
        float | None,
        typer.Option(
            "--settled",
            metavar="X",
            help="Share of the end-to-end stage, its end, that trains with batch normalisation as it will be "
            "used (small: 0.25, or 1 with --init; paper: 0).",
            rich_help_panel=TRAINING,
        ),
    ] = None
    label_share: Annotated[
        float | None,
        typer.Option(
            "--label-share",
            metavar="X",
            help="Weight of labels where there are any (0.1).",
            rich_help_panel=TRAINING,
        ),
    ] = None
    batch: Annotated[
        int | None,
        typer.Option("--batch", metavar="N", help="Clips in a step (paper: 120).", rich_help_panel=TRAINING),
    ] = None
    window: Annotated[
        float | None,
        typer.Option(
            "--window",
            metavar="S",
            help="Seconds of a clip in training (paper: 10, small: 4 and 8).",
            rich_help_panel=TRAINING,
        ),
    ] = None
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            metavar="X",
            help="Peak learning rate (paper: 2e-3, 1e-3, 5e-4 for widths 0.4, 1, 2; small: 0.75 of that, or "
            "0.3 with --init).",
            rich_help_panel=TRAINING,
        ),
    ] = None
    seed: Annotated[
        int,
        typer.Option(
            "--seed", metavar="N", min=0, help="Of the split and the training.", rich_help_panel=TRAINING
        ),
    ] = 0


@dataclass(frozen=True, slots=True)
class WorkOptions:
    """Where the student and its checkpoint go."""

    out: Annotated[
        str | None,
        typer.Option(
            "-o", "--out", metavar="FILE", help="The student, as a .safetensors file.", rich_help_panel=RUN
        ),
    ] = None
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="Replace FILE if it exists.", rich_help_panel=RUN)
    ] = False
    work: WorkDir = None
    resume: Resume = True
    checkpoint_every: CheckpointEvery = CHECKPOINT_EVERY_MIN
    threads: Threads = None
    cache: CacheDir = None
    measure: Annotated[
        int,
        typer.Option(
            "--measure", metavar="N", help="Measure the agreement N times in a stage.", rich_help_panel=RUN
        ),
    ] = 10
