"""The split of a run as a file: which groups were held out, for others to hold out as well.

{"schema": "dymn.split/1", "group_by", "seed", "n_clips", "n_held_out", "held_out": [...], "training": [...]}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dymn_cli.atomic import atomic_write
from dymn_cli.datasets.recordings import Split
from dymn_cli.errors import InputError, OutputError, os_errors_as
from dymn_cli.small_files import LARGE, read_small_text

__all__ = ["read_split", "write_split"]

SCHEMA = "dymn.split/1"
MAX_LISTED = 10_000  # groups to learn from; a corpus with one group a clip would list everything


def write_split(path: Path, split: Split, groups: Sequence[str], *, group_by: str, seed: int) -> None:
    """Write a split.

    Args:
        path: of the file.
        split: the groups.
        groups: of every clip.
        group_by: what a group is.
        seed: of the draw.

    Raises:
        OutputError: it cannot be written.
    """
    held = set(split.held_out)
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "group_by": group_by,
        "seed": seed,
        "n_clips": len(groups),
        "n_held_out": sum(group in held for group in groups),
        "held_out": list(split.held_out),
    }
    if len(split.training) <= MAX_LISTED:
        document["training"] = list(split.training)
    with os_errors_as(OutputError, path), atomic_write(path) as file:
        file.write(json.dumps(document, indent=1, ensure_ascii=True).encode() + b"\n")


def read_split(path: Path, groups: Sequence[str]) -> Split:
    """Read which groups are held out, and hold them out here.

    Args:
        path: of the file.
        groups: of every clip that there is; those that the file does not hold out are learnt from.

    Raises:
        InputError: it cannot be read, is no split, or names none of the groups.
    """
    try:
        document = json.loads(read_small_text(path, InputError, max_bytes=LARGE))
        held = {str(name) for name in document["held_out"]} if document["schema"] == SCHEMA else set()
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise InputError(f"{path}: not a split that dymn wrote") from exc
    there = set(groups)
    if not held & there:
        raise InputError(
            f"{path}: none of its {len(held)} held-out groups is in this data",
            hint=f"groups here: {', '.join(sorted(there)[:3])}",
        )
    return Split(tuple(sorted(there - held)), tuple(sorted(there & held)))
