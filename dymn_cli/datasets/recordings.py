"""Find the recordings that the user names, their groups, and a split that keeps groups together.

A group holds what must stay on one side when some of the data is held out: excerpts of one recording, or all
files of one origin. By default it is the folder of a file.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from dymn_cli.audio.discover import find
from dymn_cli.datasets.seeding import step_generator
from dymn_cli.datasets.tables import small_table
from dymn_cli.errors import InputError, UsageError
from dymn_cli.small_files import LARGE

__all__ = ["Recording", "Split", "find_recordings", "groups_of_manifest", "named_split", "split_groups"]

PATH_COLUMNS = ("path", "file", "filename", "fname")
OVERSHOOT = 1.5  # no group may take the held-out part beyond this many times the share
SPLITTING = 101  # a purpose of `step_generator`


@dataclass(frozen=True, slots=True)
class Recording:
    """A file of audio.

    Args:
        name: relative to the folder it was found in; the file name where it was given itself.
        path: of the file.
        group: recordings of one group stay on one side of a split.
    """

    name: str
    path: str
    group: str


def find_recordings(
    names: Sequence[str],
    *,
    groups: Mapping[str, str] | None = None,
    extensions: frozenset[str] | None = None,
) -> tuple[list[Recording], list[tuple[str, InputError]]]:
    """Find the recordings of files and folders, in the order of the names.

    Args:
        names: files and folders.
        groups: real path → group, from a manifest; other recordings are grouped by folder.
        extensions: in folders, only files with one of these.

    Returns:
        The recordings; and names without any, with their errors.

    Raises:
        InputError: there is no recording at all.
    """
    recordings, problems = [], []
    for found in find(names, extensions=extensions):
        if found.problem is not None:
            problems.append((found.name, found.problem))
            continue
        top = found.name[: found.n_folder]
        relative = os.path.relpath(found.name, top) if top else os.path.basename(found.name)  # noqa: PTH119
        folder = os.path.dirname(relative) or os.path.basename(os.path.dirname(os.path.abspath(found.name)))  # noqa: PTH100, PTH119, PTH120
        if len(names) > 1 and top:
            folder = os.path.join(os.path.basename(os.path.abspath(top)), folder)  # noqa: PTH100, PTH118, PTH119
        group = folder if groups is None else groups.get(os.path.realpath(found.name), folder)
        recordings.append(Recording(Path(relative).as_posix(), found.name, Path(group).as_posix()))
    if not recordings:
        raise (
            problems[0][1]
            if problems
            else InputError("no audio files found", hint="name a folder of recordings")
        )
    return recordings, problems


def groups_of_manifest(manifest: Path, column: str) -> dict[str, str]:
    """Real path → group, from a table with a column of paths, relative to the table, and one of groups.

    Raises:
        InputError: it cannot be read, or has no column of paths.
        UsageError: it has no column of that name.
    """
    table = small_table(str(manifest), InputError, limit=LARGE)
    paths = table.first(PATH_COLUMNS)
    if paths is None:
        raise InputError(f"{manifest}: no column of paths", hint=f"one of {', '.join(PATH_COLUMNS)}")
    if column not in table.columns:
        raise UsageError(
            f"{manifest}: no column {column!r}",
            hint=f"--group-by folder, or one of {', '.join(table.columns)}",
        )
    return {
        os.path.realpath(manifest.parent / row[paths]): row[column]
        for _, row in table
        if row[paths] and row[column]
    }


@dataclass(frozen=True, slots=True)
class Split:
    """The groups to learn from and those that are held out."""

    training: tuple[str, ...]
    held_out: tuple[str, ...]


def named_split(groups: Iterable[str], names: Sequence[str]) -> Split:
    """Hold out groups by name.

    Args:
        groups: the group of each item.
        names: of groups, or of folders in their names: "animalia" also means "corpus/animalia/cats".

    Raises:
        UsageError: no group has that name.
    """
    there = sorted(set(groups))
    held: set[str] = set()
    for name in names:
        wanted = f"/{name.strip('/')}/"
        found = {group for group in there if wanted in f"/{group}/"}
        if not found:
            near = get_close_matches(name, [part for group in there for part in group.split("/")], n=3)
            raise UsageError(
                f"no group {name!r} to hold out",
                hint=f"{'nearest' if near else 'groups here'}: {', '.join(near or there[:3])}",
            )
        held |= found
    return Split(tuple(group for group in there if group not in held), tuple(sorted(held)))


def split_groups(groups: Iterable[str], share: float, seed: int) -> Split:
    """Hold out whole groups, drawn at random, until they have about a share of all items.

    Args:
        groups: the group of each item.
        share: of the items, in [0, 1]; 0 holds out none, 1 all of them.
        seed: of the draw.

    Raises:
        UsageError: a share outside that range, or a single group, which cannot be divided.
    """
    if not 0 <= share <= 1:
        raise UsageError(f"cannot hold out a share of {share:g}: it must be between 0 and 1")
    counts = Counter(groups)
    names = sorted(counts)
    if share == 0:
        return Split(tuple(names), ())
    if share == 1:
        return Split((), tuple(names))
    if len(names) < 2:
        raise UsageError(
            "cannot hold anything out: all recordings are in one group",
            hint="--holdout 0, or --group-by file",
        )
    wanted = share * counts.total()
    order = [names[n] for n in step_generator(seed, SPLITTING, 0).permutation(len(names))]
    held: list[str] = []
    n_held = 0
    for name in order:
        if n_held < wanted and n_held + counts[name] <= OVERSHOOT * wanted:
            held.append(name)
            n_held += counts[name]
    if not held:  # each group is too large
        held = [min(order, key=lambda name: counts[name])]
    kept = set(held)
    return Split(tuple(name for name in names if name not in kept), tuple(sorted(kept)))
