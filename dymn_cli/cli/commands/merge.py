"""`dymn merge`: the outputs of shares, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import arg, flag, opt
from dymn_cli.cli.options.panels import OUTPUT as OUTPUT_PANEL
from dymn_cli.cli.terminal.messages import Messages

__all__ = ["register"]

HELP = """Merge the outputs of shards, as one run would have written them.

  dymn tag DIR --shard 1/2 -o 1.csv; dymn tag DIR --shard 2/2 -o 2.csv
  dymn merge 1.csv 2.csv -o all.csv

Shares know their place, so their order does not matter. Shares made with other models or options are refused,
and so are files with a source in common. Formats: csv, tsv, jsonl, json, npy (with index and meta).
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "merge", help=HELP)(merge)


def merge(
    shares: Annotated[list[str], arg("SHARE", "The outputs of all shares.")],
    out: Annotated[str, opt("-o --out", "WHOLE", "The file to write.", OUTPUT_PANEL, show_default=False)],
    format: Annotated[  # noqa: A002 - the option's name
        str | None, opt("-f --format", "FORMAT", "Default: by the suffix of WHOLE.", OUTPUT_PANEL)
    ] = None,
    force: Annotated[bool, flag("--force", "Replace WHOLE if it exists.", OUTPUT_PANEL)] = False,
    *,
    messages: Messages,
) -> None:
    """Put the shares together."""
    from dymn_cli.batch import merge as merging

    merged = merging.merge(shares, out, format_name=format, force=force)
    if merged.missing:
        messages.warning(f"incomplete: share {', '.join(merged.missing)} is missing")
    if merged.failures is not None:
        messages.note(f"failed inputs are listed in {merged.failures}")
    if merged.warnings is not None:
        messages.note(f"damaged inputs are listed in {merged.warnings}")
