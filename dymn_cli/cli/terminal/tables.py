"""Facts in three forms: a table on a terminal, tab-separated rows in a pipe, one JSON document.

The rows hold whole values (bytes, hertz, seconds); only the table rounds them for reading.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.streams import is_terminal
from dymn_cli.errors import UsageError
from dymn_cli.values import nearest

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from dymn_cli.cli.options.groups import ListOptions

__all__ = [
    "LIST_FORMATS",
    "MAX_WIDTH",
    "Listing",
    "choose_form",
    "draw",
    "grid",
    "print_bytes",
    "rendered",
    "show",
    "write_listing",
]

LIST_FORMATS = ("table", "tsv", "json")
MAX_WIDTH = 110  # a wider table only tears its columns apart


@dataclass(frozen=True, slots=True)
class Listing:
    """The same facts in each form.

    Args:
        columns: names of the columns of tsv and csv.
        rows: their cells; None is an empty one.
        document: the JSON object; its first field is `schema`.
        table: makes what is drawn on a terminal, for a console.
    """

    columns: Sequence[str]
    rows: Iterable[Sequence[object]]
    document: Mapping[str, Any]
    table: Callable[[Console], RenderableType]


def show(listing: Listing, options: ListOptions, messages: Messages) -> None:
    """Print a listing in the form that is asked for.

    Raises:
        UsageError: there is no such form.
        OutputError: standard output takes no more.
    """
    write_listing(listing, choose_form(options.format), messages, header=options.header)


def write_listing(
    listing: Listing,
    form: str,
    messages: Messages,
    out: str | None = None,
    *,
    header: bool | None = None,
    force: bool = False,
) -> None:
    """Write a listing to a file or standard output.

    Args:
        listing: what to write.
        form: table, tsv, csv or json.
        messages: knows the terminal.
        out: the file, or None for standard output.
        header: whether csv and tsv have the names of the columns; None for csv only.
        force: replace the file if it exists.

    Raises:
        OutputError: it cannot be written.
    """
    from dymn_cli.writers.target import open_target
    from dymn_cli.writers.to_csv import csv_line
    from dymn_cli.writers.to_json import json_document
    from dymn_cli.writers.to_tsv import tsv_line

    if form == "json":
        data = json_document(listing.document)
    elif form == "table":
        console = messages.stdout_console()
        data = rendered(console, listing.table(console))
    else:
        line = csv_line if form == "csv" else tsv_line
        head = [listing.columns] if (form == "csv" if header is None else header) else []
        data = b"".join(line(_cells(row)) for row in (*head, *listing.rows))
    with open_target(out, force=force, styled=form == "table") as target:
        target.stream.write(data)


def _cells(row: Sequence[object]) -> list[object]:
    return ["" if cell is None else cell for cell in row]


def choose_form(name: str | None, forms: Sequence[str] = LIST_FORMATS) -> str:
    """The form by name, or else the one that suits standard output.

    Raises:
        UsageError: there is no such form.
    """
    if name is None:
        return "table" if is_terminal(sys.stdout) else "tsv"
    if name.lower() in forms:
        return name.lower()
    raise UsageError(f"unknown format {name!r}", hint=f"{nearest(name.lower(), forms)} (--format NAME)")


def print_bytes(data: bytes, *, styled: bool = False) -> None:
    """Hand bytes to standard output.

    Args:
        data: UTF-8 text.
        styled: it is drawn: a terminal gets its colours.

    Raises:
        OutputError: it takes no more.
    """
    from dymn_cli.writers.target import open_target

    with open_target(None, styled=styled) as target:
        target.stream.write(data)


# ---------------------------------------------------------------------- tables


def draw(console: Console, *parts: RenderableType, wrap: bool = True) -> None:
    """Print what rich draws: see `rendered`.

    Raises:
        OutputError: standard output takes no more.
    """
    print_bytes(rendered(console, *parts, wrap=wrap), styled=True)


def rendered(console: Console, *parts: RenderableType, wrap: bool = True) -> bytes:
    """What rich draws, in the encoding of the console and without blanks at the ends of lines.

    Args:
        console: its width, colours and encoding count.
        parts: what to draw, one below the other.
        wrap: fold lines at the width of the console; else that is left to the terminal.
    """
    width = min(console.width, MAX_WIDTH)
    with console.capture() as capture:  # not printed: on a broken pipe rich would end the process by itself
        for part in parts:
            console.print(part, width=width if wrap else None, soft_wrap=not wrap, crop=False)
    lines = "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())
    return lines.encode(console.encoding, "backslashreplace")


def grid(*columns: tuple[str, Mapping[str, Any]], heading: bool = True) -> Table:
    """A table without lines: (heading, settings of rich's `add_column`) for each column; nothing is cut.

    What is set to the right are figures, which are never wrapped.
    """
    from dymn_cli.cli.terminal.grid import GAP, Grid

    table = Grid(
        box=None,
        show_header=heading,
        pad_edge=False,
        padding=(0, GAP, 0, 0),
        header_style="bold",
        highlight=False,
    )
    for name, settings in columns:
        figures = settings.get("justify") == "right"
        table.add_column(name, **{"overflow": "fold", "no_wrap": figures, **settings})
    return table
