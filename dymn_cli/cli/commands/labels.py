"""`dymn labels`: what a model can name, and how the sounds of AudioSet belong together."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import arg, flag, opt
from dymn_cli.cli.options.groups import ListOptions, complete_model
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.streams import is_terminal
from dymn_cli.cli.terminal.tables import Listing, grid, show
from dymn_cli.errors import UsageError, with_hint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from dymn_cli.labels import Label, TreeRow, Vocabulary

__all__ = ["register"]

HELP = """Search the labels, or show them as a list or a tree.

  dymn labels bark
  dymn labels Animal --tree

Exit code 1: nothing found. Options elsewhere take a name in any case, an id, a slug, or a word that
only one label contains.
In a pipe, tab-separated: index, mid, name; of a tree: depth, index, mid, name. Formats: table, tsv, json.
"""

NOTHING_FOUND = 1
NO_INDEX = "–"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "labels", help=HELP)(labels)


def labels(
    *,
    query: Annotated[
        list[str] | None, arg("QUERY", "Words of a name, or an id; all labels without it.")
    ] = None,
    tree: Annotated[
        bool, flag("--tree", "Show the ontology, from the sound or from its roots.", "Which labels")
    ] = False,
    model: Annotated[
        str | None,
        opt(
            "-m --model",
            "NAME|PATH",
            "Labels of this model (default: the 527 of AudioSet).",
            "Which labels",
            envvar="DYMN_MODEL",
            autocompletion=complete_model,
        ),
    ] = None,
    listing: ListOptions,
    messages: Messages,
) -> None:
    """Print the labels that answer a query."""
    wanted = " ".join(query or [])
    vocabulary = _vocabulary(model)
    if tree:
        _require_ontology(vocabulary)
    try:
        found = _tree_listing(wanted) if tree else _list_listing(_search(vocabulary, wanted))
    except UsageError as error:
        messages.note(with_hint(error.message, error.hint))
        raise typer.Exit(NOTHING_FOUND) from error
    show(found, listing, messages)
    if tree and is_terminal(sys.stdout) and any(sound["index"] is None for sound in found.document["sounds"]):
        messages.note(f"{NO_INDEX} marks sounds that only group others; no model scores them")


def _vocabulary(model: str | None) -> Vocabulary:
    if model is None:
        from dymn_cli.labels import Vocabulary

        return Vocabulary.audioset()
    from dymn_cli.store.registry import resolve

    found = resolve(model)
    if isinstance(found, Path) and found.suffix == ".onnx":
        from dymn_cli.runtime.onnx import OnnxFileBackend

        return OnnxFileBackend(found).header.vocabulary
    from dymn_cli.store.weights import read_weights

    return read_weights(found).header.vocabulary


def _search(vocabulary: Vocabulary, wanted: str) -> list[Label]:
    """What answers the query, best first.

    Raises:
        UsageError: nothing does; the hint has the nearest names.
    """
    return vocabulary.search(wanted) or [vocabulary.find(wanted)]


def _require_ontology(vocabulary: Vocabulary) -> None:
    from dymn_cli.labels import Vocabulary

    if vocabulary.names != Vocabulary.audioset().names:
        raise UsageError("--tree is the ontology of AudioSet, and this model has labels of its own")


def _list_listing(found: Sequence[Label]) -> Listing:
    def table(console: Console) -> Table:
        return _list_table(found)

    return Listing(
        columns=("index", "mid", "name"),
        rows=((label.index, label.mid, label.name) for label in found),
        document={
            "schema": "dymn.labels/1",
            "labels": [
                {"index": label.index, "mid": label.mid, "name": label.name, "slug": label.slug}
                for label in found
            ],
        },
        table=table,
    )


def _list_table(found: Sequence[Label]) -> Table:
    from dymn_cli.writers.spelling import visible

    has_ids = any(label.mid for label in found)
    table = grid(
        ("index", {"justify": "right"}),
        *([("id", {"no_wrap": True, "style": "dim"})] if has_ids else []),
        ("name", {"style": "bold"}),
        ("slug", {"style": "dim"}),
    )
    for label in found:
        ids = [label.mid] if has_ids else []
        table.add_row(str(label.index), *ids, visible(label.name), label.slug)
    return table


def _tree_listing(wanted: str) -> Listing:
    """The ontology from a sound downwards.

    Raises:
        UsageError: no sound is called that; the hint has the nearest names.
    """
    from dymn_cli.labels import Ontology

    ontology = Ontology.audioset()
    rows = tuple(ontology.tree(ontology.find(wanted) if wanted else None))

    def table(console: Console) -> Table:
        return _tree_table(rows)

    return Listing(
        columns=("depth", "index", "mid", "name"),
        rows=((row.depth, _index(row), row.node.mid, row.name) for row in rows),
        document={"schema": "dymn.label_tree/1", "sounds": [_tree_object(row) for row in rows]},
        table=table,
    )


def _index(row: TreeRow) -> int | None:
    return row.node.label.index if row.node.label is not None else None


def _tree_object(row: TreeRow) -> dict[str, Any]:
    return {"depth": row.depth, "index": _index(row), "mid": row.node.mid, "name": row.name}


def _tree_table(rows: Sequence[TreeRow]) -> Table:
    from rich.padding import Padding
    from rich.text import Text

    table = grid(("index", {"justify": "right"}), ("id", {"no_wrap": True, "style": "dim"}), ("name", {}))
    for row in rows:
        index = NO_INDEX if row.node.label is None else str(row.node.label.index)
        name = Text(row.name, "bold" if row.is_class else "dim italic", overflow="fold")
        table.add_row(index, row.node.mid, Padding(name, (0, 0, 0, 2 * row.depth)))
    return table
