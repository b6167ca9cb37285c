"""`dymn models list` and `path`: which models have a name, and where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import arg
from dymn_cli.cli.options.groups import ListOptions, complete_model
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.tables import Listing, print_bytes, show
from dymn_cli.errors import ModelError
from dymn_cli.values import bytes_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, Group

    from dymn_cli.store.registry import Figure, ModelSpec

__all__ = ["ModelArgument", "register"]

LIST_HELP = """List the models that -m takes by name.

  dymn models list
  dymn models list -f json

In a pipe, tab-separated: name, state, size_bytes, parameters, macs, embedding_size, licence, summary, origin,
map, map_source, purpose, download_bytes, psds1. The state is ready, available (to be pulled), missing, or
damaged (its size is wrong; verify says more); the origin is bundled, published, or own. What is not known is
empty. MACs are multiply-accumulates for 10 s of audio. mAP is in percent, on the evaluation set of AudioSet,
as published: in the paper (an average over runs), in the README of the release, or in the file's name. PSDS1
is in percent, on the evaluation set of AudioSet Strong.
Formats: table, tsv, json.
"""

PATH_HELP = """Print the path of a model file.

  dymn models path dymn04_kd
  sha256sum "$(dymn models path dymn04_kd)"

Exit code 4: the file is missing.
"""

COLUMNS = (
    "name",
    "state",
    "size_bytes",
    "parameters",
    "macs",
    "embedding_size",
    "licence",
    "summary",
    "origin",
    "map",
    "map_source",
    "purpose",
    "download_bytes",
    "psds1",
)
HEADINGS = ("name", "state", "size", "params", "MACs", "mAP", "licence")
RIGHT = ("size", "params", "MACs")
READY = {"bundled": "bundled", "published": "pulled", "own": "own"}
STYLES = {
    "bundled": "green",
    "pulled": "green",
    "own": "green",
    "available": "dim",
    "missing": "yellow",
    "damaged": "red",
}
SOURCES = {"file name": "file"}
GAP = "  "
BYTES_EACH = 4  # of a number in a model file of ours
NOTES = (
    "{default} is the default. ~ is an estimate from the parameters. mAP: percent, on",
    "AudioSet, by the paper (average) or the file's name; PSDS1: percent, on AudioSet",
    "Strong, by the release; more figures: -f json",
)

State = Literal["ready", "available", "missing", "damaged"]

ModelArgument = Annotated[
    str,
    arg("NAME", "A model by name.", autocompletion=complete_model),
]


def register(group: typer.Typer) -> None:
    """Add the commands."""
    command(group, "list", help=LIST_HELP)(list_models)
    command(group, "path", help=PATH_HELP)(path)


def path(*, name: ModelArgument, messages: Messages) -> None:
    """Print the path of a model that is there."""
    from dymn_cli.store.registry import resolve
    from dymn_cli.writers.spelling import name_bytes

    found = resolve(name)
    print_bytes(name_bytes(str(found if isinstance(found, Path) else found.path)) + b"\n")


def list_models(listing: ListOptions, messages: Messages) -> None:
    """Print what is known of every model."""
    from dymn_cli.store.registry import known_specs

    specs = known_specs()

    def table(console: Console) -> Group:
        return _table(specs, console)

    objects = [_object(spec) for spec in specs]
    rows = ([_cells(facts)[column] for column in COLUMNS] for facts in objects)
    show(Listing(COLUMNS, rows, {"schema": "dymn.models/1", "models": objects}, table), listing, messages)


def _state(spec: ModelSpec) -> State:
    from dymn_cli.store.local import record_of

    if not spec.file:
        try:
            record_of(spec.name)
        except ModelError:
            return "damaged"
        return "available"
    try:
        size = spec.path.stat().st_size
    except OSError:
        return "missing"
    return "ready" if size == spec.size_bytes else "damaged"


def _object(spec: ModelSpec) -> dict[str, Any]:
    from dymn_cli.store.registry import DEFAULT_MODEL

    checkpoint = spec.checkpoint
    return {
        "name": spec.name,
        "state": _state(spec),
        "default": spec.name == DEFAULT_MODEL,
        "architecture": spec.architecture,
        "size_bytes": spec.size_bytes,
        "parameters": spec.parameters,
        "macs": spec.macs,
        "embedding_size": spec.embedding_size,
        "licence": spec.licence or None,
        "sha256": spec.sha256 or None,
        "source": spec.source,
        "summary": spec.summary,
        "origin": spec.origin,
        "purpose": spec.purpose,
        "n_classes": spec.n_classes,
        "temperature": spec.temperature,
        "hop_ms": spec.hop_ms,
        "n_mels": spec.n_mels,
        "figures": [{figure.measure: figure.value, "source": figure.source} for figure in spec.figures],
        "download": None
        if checkpoint is None
        else {
            "file": checkpoint.file,
            "url": checkpoint.url,
            "size_bytes": checkpoint.size_bytes,
            "sha256": checkpoint.sha256,
            "git_blob": checkpoint.git_blob,
        },
    }


def _cells(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts of a model with the first figure of each kind on its own, which is the one of the table."""
    figures: dict[str, dict[str, Any]] = {
        measure: next((f for f in facts["figures"] if measure in f), {}) for measure in ("mAP", "PSDS1")
    }
    download = facts["download"] or {"size_bytes": None}
    return {
        **facts,
        "map": figures["mAP"].get("mAP"),
        "map_source": figures["mAP"].get("source"),
        "psds1": figures["PSDS1"].get("PSDS1"),
        "download_bytes": download["size_bytes"],
    }


def _table(specs: Sequence[ModelSpec], console: Console) -> Group:
    """A line for each model or, where that does not fit, one with its name above that of its figures."""
    from rich.console import Group
    from rich.text import Text

    from dymn_cli.store.registry import DEFAULT_MODEL

    lines = [HEADINGS, *map(_figures, specs)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    fits = sum(widths) + len(GAP) * (len(widths) - 1) <= console.width
    drawn = []
    for n, line in enumerate(lines):
        name, state, *figures = (
            cell.rjust(width) if heading in RIGHT else cell.ljust(width)
            for cell, width, heading in zip(line, widths, HEADINGS, strict=True)
        )
        shown = Text.assemble(
            (name, "bold cyan" if n else ""),
            GAP,
            (state, STYLES[line[1]] if n else ""),
            GAP if fits else f"\n{GAP}",
            GAP.join(figures).rstrip(),
            no_wrap=True,  # a terminal that is narrower still wraps by itself, and nothing is cut
            overflow="ignore",
        )
        if not n:
            shown.stylize("bold")
        drawn.append(shown)
    drawn.extend(Text(note.format(default=DEFAULT_MODEL), "dim") for note in NOTES)
    return Group(*drawn)


def _shown(figure: Figure) -> str:
    source = SOURCES.get(figure.source, figure.source)
    return f"{figure.value:.1f} {source if figure.measure == 'mAP' else figure.measure}"


def _figures(spec: ModelSpec) -> tuple[str, ...]:
    state = _state(spec)
    size = f"~{bytes_text(spec.parameters * BYTES_EACH)}"
    figure = spec.figures[0] if spec.figures else None
    return (
        spec.name,
        READY[spec.origin] if state == "ready" else state,
        size if spec.size_bytes is None else bytes_text(spec.size_bytes),
        f"{spec.parameters / 1e6:.2f} M",
        f"{spec.macs / 1e6:,.0f} M",
        "" if figure is None else _shown(figure),
        spec.licence,
    )
