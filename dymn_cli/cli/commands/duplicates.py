"""`dymn duplicates`: groups of recordings that are copies of each other."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import arg, opt
from dymn_cli.cli.options.groups import ListOptions, ModelOptions
from dymn_cli.cli.options.panels import OUTPUT
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.tables import Listing, grid, show
from dymn_cli.errors import InputError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from dymn_cli.search import Index

__all__ = ["register"]

HELP = """Find near-duplicates: re-encoded, trimmed, louder, or pitched a little.

  dymn duplicates lib.npy
  dymn duplicates recordings/ --threshold 0.9

LIBRARY is what dymn embed wrote, or a folder with an index as of dymn search. Every two of a
group have a similarity of the threshold or more. auto lies two thirds of the way from what 1 in 100
random pairs of the library exceeds to 1; the value is said. Nothing is deleted.

Length, format, rate and size tell which one to keep; they are empty where a file is not there any more.
In a pipe, tab-separated: group, similarity, source, seconds, format, rate_hz, channels, bytes; similarity is
that to the first of the group. Exit code 1: no duplicates.
"""

COLUMNS = ("group", "similarity", "source", "seconds", "format", "rate_hz", "channels", "bytes")


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "duplicates", help=HELP)(duplicates)


def duplicates(
    library: Annotated[str, arg("LIBRARY", "Embeddings, or a folder.")],
    *,
    threshold: Annotated[
        str, opt("--threshold", "auto|X", "The lowest similarity of two in a group.", "Which pairs")
    ] = "auto",
    index: Annotated[
        str | None, opt("--index", "FILE.npy", "Keep the index of a folder here.", OUTPUT)
    ] = None,
    listing: ListOptions,
    model: ModelOptions,
    messages: Messages,
) -> None:
    """Print groups of near-duplicates."""
    from dymn_cli.cli.batch_run.library import library_of
    from dymn_cli.search import Index, group_duplicates
    from dymn_cli.writers.spelling import counted

    least = _threshold(threshold)
    searched = Index(library_of(library, index, model, messages))
    grouping = group_duplicates(searched, least)
    messages.note(
        f"{counted(len(grouping.groups), 'group')} at a similarity of {grouping.threshold:g} or more"
        f"{' (auto)' if least is None else ''}"
    )
    facts = [
        {"group": number, "similarity": similarity, **_facts(searched, row)}
        for number, group in enumerate(grouping.groups, start=1)
        for row, similarity in zip(group.rows, group.similarity, strict=True)
    ]
    document = {"schema": "dymn.duplicates/1", "threshold": grouping.threshold, "duplicates": facts}
    rows = [tuple(one[name] for name in COLUMNS) for one in facts]
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


def _facts(index: Index, row: int) -> dict[str, Any]:
    from dymn_cli.audio.decode import open_audio
    from dymn_cli.writers.spelling import readable

    place = index.library.places[row]
    facts: dict[str, Any] = {
        "source": readable(place.source),
        "seconds": round(place.end_s - place.start_s, 3),
        "format": None,
        "rate_hz": None,
        "channels": None,
        "bytes": None,
    }
    try:
        with open_audio(place.source) as reader:
            info = reader.info
        facts |= {
            "format": f"{info.container} {info.codec}",
            "rate_hz": info.rate_hz,
            "channels": info.channels,
        }
        facts["bytes"] = os.path.getsize(place.source)  # noqa: PTH202 - names may be bytes
    except (InputError, OSError):
        pass  # said by the empty cells
    return facts


def _table(facts: list[dict[str, Any]]) -> Table:
    from dymn_cli.writers.spelling import visible

    right = {"justify": "right"}
    table = grid(
        ("group", right), ("similarity", right), ("length", right), ("format", {}), ("rate", right),
        ("bytes", right), ("source", {}),
    )  # fmt: skip
    for one in facts:
        cells = ["" if one[name] is None else str(one[name]) for name in ("format", "rate_hz", "bytes")]
        table.add_row(
            str(one["group"]),
            f"{one['similarity']:.3f}",
            f"{one['seconds']:.2f} s",
            *cells,
            visible(one["source"]),
        )
    return table
