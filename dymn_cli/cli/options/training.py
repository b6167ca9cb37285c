"""Options that the commands that train share."""

from __future__ import annotations

from typing import Annotated

from dymn_cli.cli.options.declare import flag, opt

__all__ = ["CHECKPOINT_EVERY_MIN", "RUN", "CacheDir", "CheckpointEvery", "Resume", "Threads", "WorkDir"]

RUN = "The run"
CHECKPOINT_EVERY_MIN = 5.0

Threads = Annotated[
    int | None,
    opt("--threads", "N", "Threads on the CPU (default: one a core).", RUN),
]

CacheDir = Annotated[
    str | None,
    opt(
        "--cache",
        "DIR",
        "Folder for decoded audio, DYMN_CACHE_GB at most (default: in the cache of dymn, 20 GB).",
        RUN,
    ),
]

WorkDir = Annotated[
    str | None,
    opt("--work", "DIR", "Folder for checkpoint and log (default: OUT.train).", RUN),
]

Resume = Annotated[
    bool,
    flag("--resume/--no-resume", "Go on where an earlier run to the same output stopped.", RUN),
]

CheckpointEvery = Annotated[
    float,
    opt("--checkpoint-every", "MIN", "Minutes between checkpoints.", RUN),
]
