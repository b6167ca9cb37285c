"""The map of `dymn report --map`: where the recordings of a page lie among the embeddings of a library."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dymn_cli.cli.batch_run.library import index_of, library_of
from dymn_cli.errors import InputError

if TYPE_CHECKING:
    from dymn_cli.cli.options.groups import ModelOptions
    from dymn_cli.cli.terminal.messages import Messages
    from dymn_cli.report.locate import Recordings
    from dymn_cli.report.model import LibraryMap, Report

__all__ = ["map_of"]

MAX_POINTS = 20_000


def map_of(
    path: str, found: Report, recordings: Recordings, model: ModelOptions, messages: Messages
) -> LibraryMap:
    """Project the rows of a library that are of recordings of the page.

    Args:
        path: of the library: see `library_of`.
        found: the page.
        recordings: finds the recordings of both by their names.
        model: makes the index of a folder.
        messages: says what is left out.

    Raises:
        InputError: the library cannot be read, or has none of the recordings.
        DymnError: see `library_of`.
    """
    import numpy as np

    from dymn_cli.report.model import LibraryMap, Point
    from dymn_cli.search.projection import project

    def place(name: str) -> str:
        try:
            return os.path.realpath(recordings.path_of(name))
        except InputError:
            return name

    numbers = {place(source.name): n for n, source in enumerate(found.sources)}
    index = index_of(library_of(path, model, messages), False, messages)
    of_name = {source.name: n for n, source in enumerate(found.sources)}
    known: dict[str, int | None] = {}
    for one in index.library.places:
        if one.source not in known:
            known[one.source] = of_name.get(one.source, numbers.get(place(one.source)))
    rows = [row for row, one in enumerate(index.library.places) if known[one.source] is not None]
    if not rows:
        raise InputError(f"--map {path}: none of the recordings of the page is in it")
    chosen = np.array(rows)[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MAX_POINTS)).astype(int))]
    if len(chosen) < len(index):
        messages.note(f"the map shows {len(chosen):,} of {len(index):,} embeddings")
    points, method = project(index.white(chosen))
    shown = []
    for row, (x, y) in zip(chosen.tolist(), points.tolist(), strict=True):
        one = index.library.places[row]
        source = known[one.source]
        if source is not None:
            shown.append(Point(source, one.start_s, one.end_s, x, y))
    return LibraryMap(method, tuple(shown))
