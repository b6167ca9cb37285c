"""`dymn models variants`: the networks of the paper's study."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.groups import ListOptions
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.tables import Listing, choose_form, grid, show

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from dymn_cli.model.study import Variant

__all__ = ["register"]

HELP = """List the networks of the paper's study.

  dymn models variants
  dymn models variants -f json | jq '.variants[] | select(.name == "mn10-ta") | .config'

In a pipe, tab-separated: name, table, row, parameters, macs, published_parameters_m, published_macs_m, map,
note, config. Published figures are those of arXiv 2310.15648; what is not known is empty. A config is JSON
for dymn distill --student, which takes a name as well. MACs are multiply-accumulates for 10 s of audio. json
also has the systems that the paper compares with, with their sources. Formats: table, tsv, json.
"""

COLUMNS = (
    "name",
    "table",
    "row",
    "parameters",
    "macs",
    "published_parameters_m",
    "published_macs_m",
    "map",
    "note",
    "config",
)


def register(group: typer.Typer) -> None:
    """Add the command."""
    command(group, "variants", help=HELP)(list_variants)


def list_variants(listing: ListOptions, messages: Messages) -> None:
    """Print the paper's figures and ours."""
    import json

    from dymn_cli.model.study import systems, variants

    rows, objects = [], []
    for one in variants():
        config, counted = one.config.to_json(), one.complexity
        published = (one.parameters_m, one.macs_m, one.mean_ap)
        row = (one.name, one.table, one.row, counted.parameters, counted.macs, *published, one.note, config)
        rows.append(row)
        objects.append({**dict(zip(COLUMNS, row, strict=True)), "config": json.loads(config)})

    def table(console: Console) -> Table:
        right = {"justify": "right"}
        drawn = grid(
            ("name", {}),
            ("table", {}),
            *((name, right) for name in ("params", "paper", "MACs", "paper", "mAP")),
        )
        for one in variants():
            drawn.add_row(*_cells(one))
        return drawn

    others = [
        {
            "name": one.name,
            "parameters_m": one.parameters_m,
            "macs_m": one.macs_m,
            "map": one.mean_ap,
            "source": one.source,
        }
        for one in systems()
    ]
    document = {"schema": "dymn.variants/1", "variants": objects, "systems": others}
    show(Listing(COLUMNS, rows, document, table), listing, messages)
    if choose_form(listing.format) == "table":  # which has no room for them
        for one in variants():
            if one.note:
                messages.note(f"{one.name}: {one.note}")


def _cells(one: Variant) -> tuple[str, ...]:
    counted = one.complexity
    return (
        one.name,
        one.table,
        f"{counted.parameters / 1e6:.2f} M",
        "" if one.parameters_m is None else f"{one.parameters_m:.2f}",
        f"{counted.macs / 1e6:,.0f} M",
        "" if one.macs_m is None else f"{one.macs_m:,.0f}",
        "" if one.mean_ap is None else f"{one.mean_ap:.1f}",
    )
