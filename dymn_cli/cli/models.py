"""`dymn models`: which there are, where they lie, and whether they are what they should be."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dymn_cli.cli.console import Talk
from dymn_cli.cli.help import Program
from dymn_cli.cli.listing import (
    Listing,
    bytes_text,
    choose_form,
    draw,
    grid,
    json_document,
    print_bytes,
    show,
)
from dymn_cli.cli.params import CONTEXT, ListOptions, TalkOptions, command, complete_model
from dymn_cli.errors import ModelError, WeightsMissingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, Group

    from dymn_cli.store.registry import ModelSpec

__all__ = ["register"]

HELP = """The models that have a name: list them, find them, verify them.

  dymn models list
  dymn models verify

The model of a command is chosen with -m or DYMN_MODEL.
"""

LIST_HELP = """List the models that -m knows by name.

  dymn models list
  dymn models list -f json

In a pipe, tab-separated: name, state, size_bytes, parameters, macs, embedding_size, licence, summary.
The state is ready, missing, or damaged (its size is wrong; verify says more). MACs are multiply-accumulates
for 10 s of audio. Formats: table, tsv, json.
"""

PATH_HELP = """Print where the file of a model lies.

  dymn models path dymn04_kd
  sha256sum "$(dymn models path dymn04_kd)"

Exit code 4: it is not there.
"""

VERIFY_HELP = """Check the files of models, and that each model loads and answers as it should.

  dymn models verify
  dymn models verify my-model.safetensors

Per model: the SHA-256 of its file, finite answers to a synthetic sound, the same ones twice and, where
PyTorch is installed, the same from it within 1e-4. Exit code 1: one of them failed; 4: its file is missing.
In a pipe, tab-separated: name, state (ok, failed, missing), detail. Formats: table, tsv, json.
"""

FAILED = 1
VERDICT_COLUMNS = ("name", "state", "detail")
RIGHT = ("size", "parameters", "MACs", "embedding")
STATE_STYLES = {
    "ready": "green",
    "missing": "yellow",
    "damaged": "red",
    "ok": "bold green",
    "failed": "bold red",
}


def register(app: typer.Typer) -> None:
    """Add the group and its commands."""
    group = typer.Typer(cls=Program, rich_markup_mode=None, context_settings=CONTEXT, help=HELP)
    command(group, "list", help=LIST_HELP)(list_models)
    command(group, "path", help=PATH_HELP)(path)
    command(group, "verify", help=VERIFY_HELP)(verify)
    app.add_typer(group, name="models")


# ---------------------------------------------------------------------- list


def list_models(listing: ListOptions, talking: TalkOptions) -> None:
    """Print what the manifest says."""
    from dymn_cli.store.registry import model_specs

    talk = Talk.of(talking)
    specs = model_specs()

    def table(console: Console) -> Group:
        return _table(specs)

    columns = ("name", "state", "size_bytes", "parameters", "macs", "embedding_size", "licence", "summary")
    objects = [_object(spec) for spec in specs]
    rows = ([facts[column] for column in columns] for facts in objects)
    show(Listing(columns, rows, {"schema": "dymn.models/1", "models": objects}, table), listing, talk)


def _state(spec: ModelSpec) -> Literal["ready", "missing", "damaged"]:
    try:
        size = spec.path.stat().st_size
    except OSError:
        return "missing"
    return "ready" if size == spec.size_bytes else "damaged"


def _object(spec: ModelSpec) -> dict[str, Any]:
    from dymn_cli.store.registry import DEFAULT_MODEL

    return {
        "name": spec.name,
        "state": _state(spec),
        "default": spec.name == DEFAULT_MODEL,
        "architecture": spec.architecture,
        "size_bytes": spec.size_bytes,
        "parameters": spec.parameters,
        "macs": spec.macs,
        "embedding_size": spec.embedding_size,
        "licence": spec.licence,
        "sha256": spec.sha256,
        "source": spec.source,
        "summary": spec.summary,
    }


def _table(specs: Sequence[ModelSpec]) -> Group:
    """A line of figures for each model, and what it is below."""
    from rich.console import Group
    from rich.text import Text

    from dymn_cli.store.registry import DEFAULT_MODEL

    headings = ("name", "state", "size", "parameters", "MACs", "embedding", "licence")
    lines = [headings, *map(_figures, specs)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    drawn = []
    for n, line in enumerate(lines):
        cells = [
            cell.rjust(width) if heading in RIGHT else cell.ljust(width)
            for cell, width, heading in zip(line, widths, headings, strict=True)
        ]
        drawn.append(Text("  ".join(cells), "" if n else "bold"))
        if n:
            spec = specs[n - 1]
            drawn[-1].stylize("bold cyan", 0, len(spec.name))
            drawn[-1].stylize(STATE_STYLES[line[1]], widths[0] + 2, widths[0] + 2 + len(line[1]))
            default = " (the default)" if spec.name == DEFAULT_MODEL else ""
            drawn.append(Text(f"  {spec.summary}{default}", "dim"))
    return Group(*drawn)


def _figures(spec: ModelSpec) -> tuple[str, ...]:
    return (
        spec.name,
        _state(spec),
        bytes_text(spec.size_bytes),
        f"{spec.parameters / 1e6:.2f} M",
        f"{spec.macs / 1e6:,.0f} M",
        str(spec.embedding_size),
        spec.licence,
    )


# ---------------------------------------------------------------------- path


def path(
    *,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A model by name.", show_default=False, autocompletion=complete_model
        ),
    ],
    talking: TalkOptions,
) -> None:
    """Print the path of a model that is there."""
    from dymn_cli.store.registry import resolve
    from dymn_cli.writers.spelling import name_bytes

    Talk.of(talking)
    found = resolve(name)
    print_bytes(name_bytes(str(found if isinstance(found, Path) else found.path)) + b"\n")


# ---------------------------------------------------------------------- verify


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found out about a model: ok, failed or missing, and one line that says more."""

    name: str
    state: Literal["ok", "failed", "missing"]
    detail: str
    sha256: str | None = None
    difference: float | None = None


def verify(
    *,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="Models by name, or model files; none for all that have a name.",
            show_default=False,
            autocompletion=complete_model,
        ),
    ] = None,
    listing: ListOptions,
    talking: TalkOptions,
) -> None:
    """Check models one by one and print a line each."""
    from dymn_cli.store.registry import model_specs, resolve
    from dymn_cli.writers.to_tsv import tsv_line

    talk = Talk.of(talking)
    form = choose_form(listing.format)
    wanted = names or [spec.name for spec in model_specs()]
    for name in wanted:
        with contextlib.suppress(WeightsMissingError):
            resolve(name)  # a name that is none is said before any work is done
    if form == "tsv" and listing.header:
        print_bytes(tsv_line(VERDICT_COLUMNS))
    verdicts = []
    for name in wanted:
        verdicts.append(_verdict(name))
        if form != "json":
            _print_verdict(verdicts[-1], form, talk, name_width=max(map(len, wanted)))
    if form == "json":
        objects = [dataclasses.asdict(verdict) for verdict in verdicts]
        print_bytes(json_document({"schema": "dymn.verification/1", "models": objects}))
    states = {verdict.state for verdict in verdicts}
    if "failed" in states:
        raise typer.Exit(FAILED)
    if "missing" in states:
        raise typer.Exit(WeightsMissingError.exit_code)


def _verdict(name: str) -> Verdict:
    from dymn_cli.tagging.check import check_model

    try:
        check = check_model(name)
    except WeightsMissingError as error:
        return Verdict(name, "missing", _one_line(error))
    except ModelError as error:
        return Verdict(name, "failed", _one_line(error))
    against = f"PyTorch not asked: {check.unasked}"
    if check.difference is not None:
        against = f"PyTorch within {check.difference:.1e}"
    detail = f"SHA-256 {check.info.sha256[:12]}…, {check.info.backend} answers, {against}"
    return Verdict(name, "ok", detail, check.info.sha256, check.difference)


def _one_line(error: ModelError) -> str:
    return error.message if error.hint is None else f"{error.message}; {error.hint}"


def _print_verdict(verdict: Verdict, form: str, talk: Talk, *, name_width: int) -> None:
    """Print a verdict at once: the next one takes its time."""
    if form == "tsv":
        from dymn_cli.writers.to_tsv import tsv_line

        print_bytes(tsv_line((verdict.name, verdict.state, verdict.detail)))
        return
    from rich.text import Text

    from dymn_cli.writers.spelling import visible

    table = grid(
        ("", {"min_width": 7}), ("", {"style": "bold", "min_width": name_width}), ("", {}), heading=False
    )
    state = Text(verdict.state, STATE_STYLES[verdict.state])
    table.add_row(state, visible(verdict.name), visible(verdict.detail))
    draw(talk.stdout_console(), table)
