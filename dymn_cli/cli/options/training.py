"""Options that the commands that train share."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["CHECKPOINT_EVERY_MIN", "RUN", "CacheDir", "CheckpointEvery", "Resume", "Threads", "WorkDir"]

RUN = "The run"
CHECKPOINT_EVERY_MIN = 5.0

Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", metavar="N", help="Threads on the CPU (default: one a core).", rich_help_panel=RUN
    ),
]

CacheDir = Annotated[
    str | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="Folder for decoded audio, DYMN_CACHE_GB at most (default: in the cache of dymn, 20 GB).",
        rich_help_panel=RUN,
    ),
]

WorkDir = Annotated[
    str | None,
    typer.Option(
        "--work",
        metavar="DIR",
        help="Folder for checkpoint and log (default: OUT.train).",
        rich_help_panel=RUN,
    ),
]

Resume = Annotated[
    bool,
    typer.Option(
        "--resume/--no-resume",
        metavar="",
        help="Go on where an earlier run to the same output stopped.",
        rich_help_panel=RUN,
    ),
]

CheckpointEvery = Annotated[
    float,
    typer.Option(
        "--checkpoint-every", metavar="MIN", help="Minutes between checkpoints.", rich_help_panel=RUN
    ),
]
