"""`dymn schema`: what the JSON looks like that dymn writes."""

from __future__ import annotations

from typing import Annotated

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import arg
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.errors import UsageError
from dymn_cli.values import nearest

__all__ = ["register"]

HELP = """Print the JSON Schema (draft 2020-12) of the JSON that dymn writes.

  dymn schema clip > clip.schema.json
  dymn schema events

clip: an object of dymn tag; events: of dymn events; embedding: of dymn embed; live: of dymn listen;
search: of dymn search; duplicates: of dymn duplicates; info: of dymn info; error: a source that failed, in
all of them; meta: the .meta.json beside csv, tsv, npy and parquet files. The field schema of an object
says which of them it is, as in dymn.clip/1; changes within that number only add fields. This also holds
for the JSON of other commands, such as dymn.eval/1, dymn.finetune/1 and dymn.labels/1, which no schema
here describes.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "schema", help=HELP)(schema)


def schema(
    name: Annotated[
        str, arg("NAME", "clip, events, embedding, live, search, duplicates, info, error or meta.")
    ],
    *,
    messages: Messages,
) -> None:
    """Print one schema."""
    import json

    from dymn_cli.cli.terminal.tables import print_bytes
    from dymn_cli.writers.schemas import SCHEMAS

    wanted = name.lower().removeprefix("dymn.").removesuffix("/1")
    if wanted not in SCHEMAS:
        raise UsageError(f"no schema {name!r}", hint=nearest(wanted, SCHEMAS))
    print_bytes(f"{json.dumps(SCHEMAS[wanted], ensure_ascii=False, indent=2)}\n".encode())
