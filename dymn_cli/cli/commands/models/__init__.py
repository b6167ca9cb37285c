"""`dymn models`: list the models that have a name, pull, verify, convert and import them.

list      list, path
variants  variants, of the paper's study
pull      pull, remove
verify    verify
convert   convert, import
"""

from __future__ import annotations

import typer

from dymn_cli.cli.commands.models import convert, pull, variants, verify
from dymn_cli.cli.commands.models import list as list_
from dymn_cli.cli.options.command import CONTEXT, Program

__all__ = ["register"]

HELP = """Manage models: list, pull, verify, convert, import.

  dymn models list
  dymn models pull dymn10_as
  dymn models verify

The model of a command is chosen with -m or DYMN_MODEL. Only pull goes to the network.
"""


def register(app: typer.Typer) -> None:
    """Add the group and its commands."""
    group = typer.Typer(cls=Program, rich_markup_mode=None, context_settings=CONTEXT, help=HELP)
    for part in (list_, variants, pull, verify, convert):
        part.register(group)
    app.add_typer(group, name="models")
