"""From the names on the command line to recordings, their groups, and a split that keeps groups together.

A group is what must not be torn apart when some of the data is held out: excerpts of one recording, or all
files of one source. By default it is the folder that a file lies in.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from dymn_cli.audio.discover import find
from dymn_cli.datasets.seeding import step_generator
from dymn_cli.errors import InputError, UsageError
from dymn_cli.small_files import LARGE, read_small_text

__all__ = ["Recording", "Split", "find_recordings", "groups_of_manifest", "named_split", "split_groups"]

PATH_COLUMNS = ("path", "file", "filename", "fname")
OVERSHOOT = 1.5  # a group that would take the held-out share beyond so many times what is wanted stays out
SPLITTING = 101  # a purpose of `step_generator`


@dataclass(frozen=True, slots=True)
class Recording:
    """A file of audio.

    Args:
        name: relative to the folder it was found in; the file name where it was given itself.
        path: where it lies.
        group: what it must not be separated from.
    """

    name: str
    path: str
    group: str


def find_recordings(
    names: Sequence[str],
    *,
    groups: Mapping[str, str] | None = None,
    extensions: frozenset[str] | None = None,
) -> tuple[list[Recording], list[InputError]]:
    """The recordings that files and folders lead to, in the order of the names.

    Args:
        names: files and folders.
        groups: real path → group, where a manifest says it; others are grouped by folder.
        extensions: in folders, only files that end so.

    Returns:
        The recordings, and why some of the names lead to none.

    Raises:
        InputError: not a single recording.
    """
    recordings, problems = [], []
    for found in find(names, extensions=extensions):
        if found.problem is not None:
            problems.append(found.problem)
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
            problems[0]
            if problems
            else InputError("no audio files there", hint="name a folder of recordings")
        )
    return recordings, problems


def groups_of_manifest(manifest: Path, column: str) -> dict[str, str]:
    """Real path → group, from a CSV with a column of paths (relative to the CSV) and one of groups.

    Raises:
        InputError: it cannot be read, or has no column of paths.
        UsageError: it has no such column of groups.
    """
    text = read_small_text(manifest, InputError, max_bytes=LARGE)
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        columns = reader.fieldnames or []
        paths = next((name for name in PATH_COLUMNS if name in columns), None)
        if paths is None:
            raise InputError(f"{manifest}: no column of paths", hint=f"one of {', '.join(PATH_COLUMNS)}")
        if column not in columns:
            raise UsageError(
                f"{manifest}: no column {column!r}",
                hint=f"--group-by folder, or one of {', '.join(columns)}",
            )
        return {
            os.path.realpath(manifest.parent / row[paths]): row[column]
            for row in reader
            if row.get(paths) and row.get(column)
        }
    except (ValueError, csv.Error) as exc:  # ValueError: a path with a zero byte
        raise InputError(f"{manifest}: not a table of paths: {exc}") from exc


@dataclass(frozen=True, slots=True)
class Split:
    """Which groups are learnt from, and which are kept to see what was learnt."""

    training: tuple[str, ...]
    held_out: tuple[str, ...]


def named_split(groups: Iterable[str], names: Sequence[str]) -> Split:
    """Hold out the groups that go by some names.

    Args:
        groups: the group of each item.
        names: of groups, or of folders above or below them: "animalia" is "corpus/animalia/cats", too.

    Raises:
        UsageError: a name that no group goes by.
    """
    there = sorted(set(groups))
    held: set[str] = set()
    for name in names:
        wanted = f"/{name.strip('/')}/"
        found = {group for group in there if wanted in f"/{group}/"}
        if not found:
            near = get_close_matches(name, [part for group in there for part in group.split("/")], n=3)
            raise UsageError(
                f"no group is called {name!r}, so it cannot be held out",
                hint=f"{'nearest' if near else 'groups here'}: {', '.join(near or there[:3])}",
            )
        held |= found
    return Split(tuple(group for group in there if group not in held), tuple(sorted(held)))


def split_groups(groups: Iterable[str], share: float, seed: int) -> Split:
    """Hold out whole groups, drawn at random, until they have about a share of all items.

    Args:
        groups: the group of each item.
        share: of the items, in [0, 1]; with 0 none is held out, with 1 all of them.
        seed: of the draw.

    Raises:
        UsageError: a share outside that range, or one group only, which cannot be in both parts.
    """
    if not 0 <= share <= 1:
        raise UsageError(f"a share of {share:g} cannot be held out: it must be from 0 to 1")
    counts = Counter(groups)
    names = sorted(counts)
    if share == 0:
        return Split(tuple(names), ())
    if share == 1:
        return Split((), tuple(names))
    if len(names) < 2:
        raise UsageError(
            "nothing can be held out: all recordings are of one group",
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
    if not held:  # each is larger than what is wanted
        held = [min(order, key=lambda name: counts[name])]
    kept = set(held)
    return Split(tuple(name for name in names if name not in kept), tuple(sorted(kept)))
