"""`dymn duplicates`: groups of recordings that are copies of each other."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dymn_cli.cli.batch_run.library import LibraryName, UseIndex, index_of, library_of, recordings_of
from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import flag, opt
from dymn_cli.cli.options.filters import AudioRoot
from dymn_cli.cli.options.groups import ListOptions, ModelOptions
from dymn_cli.cli.options.panels import SELECT
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.tables import Listing, choose_form, grid, show
from dymn_cli.errors import InputError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from dymn_cli.report.locate import Recordings
    from dymn_cli.search import Place

__all__ = ["register"]

HELP = """Find near-duplicates: re-encoded, trimmed, louder, or pitched a little.

  dymn duplicates lib.npy
  dymn duplicates recordings/ --threshold 0.9

LIBRARY is what dymn embed wrote, or a folder, whose index is kept as by dymn search. Any two recordings of
a group have a similarity of the threshold or more, or hold the same sound moment by moment, where the files
are at hand (--no-check compares embeddings only). The automatic threshold adapts to how alike random pairs of
the library are; dymn prints it. Nothing is deleted.

Length, format, rate and size help you decide which one to keep; they are empty where a file is missing.
In a pipe, tab-separated: group, similarity (to the first of the group), source, seconds, format, rate_hz,
channels, bytes, same_sound (as the first, moment by moment: true, false, or empty where unknown). Exit code
1: no duplicates.
"""

COLUMNS = ("group", "similarity", "source", "seconds", "format", "rate_hz", "channels", "bytes", "same_sound")


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "duplicates", help=HELP)(duplicates)


def duplicates(
    library: LibraryName,
    *,
    threshold: Annotated[
        str, opt("--threshold", "auto|X", "Lowest similarity of any two in a group.", SELECT)
    ] = "auto",
    check: Annotated[
        bool, flag("--check/--no-check", "Compare the sound of likely copies, too.", SELECT)
    ] = True,
    use_index: UseIndex = None,
    audio: AudioRoot = None,
    listing: ListOptions,
    model: ModelOptions,
    messages: Messages,
) -> None:
    """Print groups of near-duplicates."""
    from dymn_cli.cli.terminal.progress import Share
    from dymn_cli.search import SameSound, group_duplicates
    from dymn_cli.values import counted
    from dymn_cli.writers.to_json import provenance_fields, source_fields

    least = _threshold(threshold)
    choose_form(listing.format)
    recordings = recordings_of(library, audio)
    index = index_of(library_of(library, model, messages), use_index, messages)
    same = SameSound(recordings.path_of) if check else None
    with Share(messages.display()) as progress:
        grouping = group_duplicates(index, least, same=same, progress=progress.at)
    messages.note(
        f"{counted(len(grouping.groups), 'group')} at a similarity of {grouping.threshold:g} or more"
        f"{' (auto)' if least is None else ''}{' or with the same sound' if check else ''}"
    )
    facts = []
    for number, group in enumerate(grouping.groups, start=1):
        of_group = [_facts(index.library.places[row], recordings) for row in group.rows]
        for n, (one, similarity) in enumerate(zip(of_group, group.similarity, strict=True)):
            same_sound = group.same_sound[n] if n and group.same_sound else None
            facts.append({"group": number, "similarity": similarity, **one, "same_sound": same_sound})
    document = {
        "schema": "dymn.duplicates/1",
        "threshold": grouping.threshold,
        "duplicates": [one | source_fields(one["source"]) for one in facts],
        **provenance_fields(index.library.provenance),
    }
    rows = [
        tuple(str(cell).lower() if isinstance(cell, bool) else cell for cell in map(one.get, COLUMNS))
        for one in facts
    ]
    show(Listing(COLUMNS, rows, document, lambda console: _table(facts)), listing, messages)
    if not facts:
        raise typer.Exit(1)


def _threshold(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--threshold {text!r}", hint="auto, or a number up to 1") from None


def _facts(place: Place, recordings: Recordings) -> dict[str, Any]:
    from dymn_cli.audio.decode import open_audio

    facts: dict[str, Any] = {
        "source": place.source,
        "seconds": round(place.end_s - place.start_s, 3),
        "format": None,
        "rate_hz": None,
        "channels": None,
        "bytes": None,
    }
    try:
        path = recordings.path_of(place.source)
        with open_audio(path) as reader:
            info = reader.info
        facts |= {
            "format": f"{info.container} {info.codec}",
            "rate_hz": info.rate_hz,
            "channels": info.channels,
            "bytes": os.path.getsize(path),  # noqa: PTH202 - names may be bytes
        }
    except (InputError, OSError):
        pass  # the empty cells say it
    return facts


def _table(facts: list[dict[str, Any]]) -> Table:
    from dymn_cli.writers.spelling import visible

    right = {"justify": "right"}
    table = grid(
        ("group", right), ("similarity", right), ("length", right), ("format", {}), ("rate", right),
        ("bytes", right), ("same", {}), ("source", {}),
    )  # fmt: skip
    for one in facts:
        cells = ["" if one[name] is None else str(one[name]) for name in ("format", "rate_hz", "bytes")]
        table.add_row(
            str(one["group"]),
            f"{one['similarity']:.3f}",
            f"{one['seconds']:.2f} s",
            *cells,
            "yes" if one["same_sound"] else "",
            visible(one["source"]),
        )
    return table
