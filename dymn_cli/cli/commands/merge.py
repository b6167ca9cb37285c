"""`dymn merge`: the outputs of shares, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import flag, opt
from dymn_cli.cli.options.panels import OUTPUT as OUTPUT_PANEL
from dymn_cli.cli.terminal.messages import Messages

__all__ = ["register"]

HELP = """Merge the outputs of shards, as one run would have written them.

  dymn tag DIR --shard 1/2 -o 1.csv; dymn tag DIR --shard 2/2 -o 2.csv
  dymn merge 1.csv 2.csv -o all.csv

Each share knows its place, so their order does not matter. Formats: csv, tsv, jsonl, json, npy (with index
and meta). Shares that were made by other models or with other options are refused, and so are files that have
a source in common.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "merge", help=HELP)(merge)


def merge(
    shares: Annotated[
        list[str], typer.Argument(metavar="OUT", help="The outputs of all shares.", show_default=False)
    ],
    out: Annotated[
        str,
        opt("-o --out", "WHOLE", "The file to write.", OUTPUT_PANEL, show_default=False),
    ],
    format: Annotated[  # noqa: A002 - the option's name
        str | None,
        opt("-f --format", "FORMAT", "Default: by the suffix of WHOLE.", OUTPUT_PANEL),
    ] = None,
    force: Annotated[
        bool,
        flag("--force", "Replace WHOLE if it exists.", OUTPUT_PANEL),
    ] = False,
    *,
    messages: Messages,
) -> None:
    """Put the shares together."""
    from dymn_cli.batch import merge as merging

    merged = merging.merge(shares, out, format_name=format, force=force)
    if merged.missing:
        messages.warning(f"not the whole: share {', '.join(merged.missing)} is not among them")
    if merged.failures is not None:
        messages.note(f"what failed is listed in {merged.failures}")
    if merged.warnings is not None:
        messages.note(f"what could be read in part only is listed in {merged.warnings}")
