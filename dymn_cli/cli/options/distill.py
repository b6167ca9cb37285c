"""The options of `dymn distill`, in groups."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import typer

from dymn_cli.cli.options.declare import flag, opt
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
        opt("--ext", "wav,flac,...", "In folders: only files that end so.", INPUT),
    ] = None
    group_by: Annotated[
        str,
        opt(
            "--group-by",
            "folder|file|COLUMN",
            "What is held out as a whole; COLUMN is one of --manifest.",
            INPUT,
        ),
    ] = "folder"
    manifest: Annotated[
        str | None,
        opt("--manifest", "FILE.csv", "Paths and their groups.", INPUT),
    ] = None
    labels: Annotated[
        str | None,
        opt(
            "--labels",
            "FILE",
            "What is to be heard in the files, as for dymn eval; for --recipe paper.",
            INPUT,
        ),
    ] = None
    holdout: Annotated[
        str,
        opt("--holdout", "X|NAME,...", "Share of the recordings to hold out, or names of groups.", INPUT),
    ] = "0.1"
    split: Annotated[
        str | None,
        opt("--split", "FILE", "Hold out what this split.json holds out.", INPUT),
    ] = None
    held_out_clips: Annotated[
        int,
        opt("--held-out-clips", "N", "Measure on at most N held-out clips; 0 for all.", INPUT),
    ] = 512


@dataclass(frozen=True, slots=True)
class PupilOptions:
    """Who learns from whom, and who is measured."""

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
        opt(
            "--teacher-index",
            "FILE",
            "Which clip has which row of .npy logits (default: beside them).",
            MODEL,
        ),
    ] = field(default_factory=list)
    student: Annotated[
        str | None,
        opt(
            "--student",
            "NAME|JSON",
            "Architecture: dymn04, mn10, ..., or a config as JSON or a file of it (default: dymn04).",
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
    device: DeviceName = "auto"


@dataclass(frozen=True, slots=True)
class RecipeOptions:
    """How, and how long."""

    recipe: Annotated[str, opt("--recipe", "small|paper", "See above.", TRAINING)] = "small"
    hours: Annotated[
        float | None,
        opt("--hours", "H", "Train for H hours, pauses not counted (default of small: 1).", TRAINING),
    ] = None
    steps: Annotated[
        str | None,
        opt(
            "--steps",
            "N[,N]",
            "Train for N steps in all, or for so many in each stage: the same result anywhere.",
            TRAINING,
        ),
    ] = None
    epochs: Annotated[
        float | None,
        opt("--epochs", "E", "Train for E epochs (default of paper: 200).", TRAINING),
    ] = None
    clips_per_epoch: Annotated[
        int | None,
        opt("--clips-per-epoch", "N", "Clips in an epoch (default: 100000).", TRAINING),
    ] = None
    blockwise: Annotated[
        float | None,
        opt(
            "--blockwise",
            "X",
            "Share of the run that trains block by block (small: 0.25; 0 with --init MODEL).",
            TRAINING,
        ),
    ] = None
    hints: Annotated[
        float | None,
        opt(
            "--hints",
            "X",
            "Weight of the feature maps beside the scores (small: 0.5, or 0.3 with --init; paper: 0).",
            TRAINING,
        ),
    ] = None
    frame_weight: Annotated[
        float | None,
        opt(
            "--frame-weight",
            "X",
            "Weight of each step's scores beside the clip's (small: 0.5); 0 teaches no frames.",
            TRAINING,
        ),
    ] = None
    settled: Annotated[
        float | None,
        opt(
            "--settled",
            "X",
            "Share of the end-to-end stage, its end, that trains with batch normalisation as it will be "
            "used (small: 0.25, or 1 with --init; paper: 0).",
            TRAINING,
        ),
    ] = None
    label_share: Annotated[
        float | None,
        opt("--label-share", "X", "Weight of labels where there are any (0.1).", TRAINING),
    ] = None
    batch: Annotated[
        int | None,
        opt("--batch", "N", "Clips in a step (paper: 120).", TRAINING),
    ] = None
    window: Annotated[
        float | None,
        opt("--window", "S", "Seconds of a clip in training (paper: 10, small: 4 and 8).", TRAINING),
    ] = None
    rate: Annotated[
        float | None,
        opt(
            "--rate",
            "X",
            "Peak learning rate (paper: 2e-3, 1e-3, 5e-4 for widths 0.4, 1, 2; small: 0.75 of that, or "
            "0.3 with --init).",
            TRAINING,
        ),
    ] = None
    seed: Annotated[
        int,
        opt("--seed", "N", "Of the split and the training.", TRAINING, min=0),
    ] = 0


@dataclass(frozen=True, slots=True)
class WorkOptions:
    """Where the student and its checkpoint go."""

    out: Annotated[
        str | None,
        opt("-o --out", "FILE", "The student, as a .safetensors file.", RUN),
    ] = None
    force: Annotated[bool, flag("--force", "Replace FILE if it exists.", RUN)] = False
    work: WorkDir = None
    resume: Resume = True
    checkpoint_every: CheckpointEvery = CHECKPOINT_EVERY_MIN
    threads: Threads = None
    cache: CacheDir = None
    measure: Annotated[
        int,
        opt("--measure", "N", "Measure the agreement N times in a stage.", RUN),
    ] = 10
