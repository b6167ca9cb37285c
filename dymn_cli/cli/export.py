"""`dymn export`: a model as an ONNX file, with the proof that it is the same model."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dymn_cli.cli.console import Talk, is_terminal
from dymn_cli.cli.listing import Listing, bytes_text, choose_form, grid, show
from dymn_cli.cli.params import OUTPUT as OUTPUT_PANEL
from dymn_cli.cli.params import ListOptions, TalkOptions, command, complete_model
from dymn_cli.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from dymn_cli.export.onnx_file import ExportForm, ExportReport, ParityCase

__all__ = ["register"]

HELP = """Write a model as one ONNX file, and prove that it answers as before.

  dymn export dymn04_kd -o model.onnx
  dymn export dymn04_kd -o fast.onnx --batch one

Prints the parity report: on each synthetic sound, the largest differences of logits, scores and embedding (of
this one relative to its largest value). Above 1e-4 nothing is written and the exit code is 4.
In a pipe, tab-separated: signals, n_frames, logit, score, embedding. Formats: table, tsv, json.
Needs: pip install 'dymn[export]'.
"""

SCHEMA = "dymn.export/1"
COLUMNS = ("signals", "n_frames", "logit", "score", "embedding")


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "export", help=HELP)(export)


def export(
    *,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A model by name, or a .safetensors file.",
            show_default=False,
            autocompletion=complete_model,
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help="Write to FILE; - for standard output, without the report.",
            show_default=False,
            rich_help_panel=OUTPUT_PANEL,
        ),
    ],
    batch: Annotated[
        str,
        typer.Option(
            "--batch",
            metavar="any|one",
            help="Clips a call: any number, or one, which a CPU computes faster.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = "any",
    force: Annotated[
        bool,
        typer.Option("--force", metavar="", help="Replace FILE if it exists.", rich_help_panel=OUTPUT_PANEL),
    ] = False,
    listing: ListOptions,
    talking: TalkOptions,
) -> None:
    """Export a model and print the parity report."""
    talk = Talk.of(talking)
    choose_form(listing.format)
    form = _form(batch)
    to_stdout = out in ("-", "/dev/stdout")
    if to_stdout and is_terminal(sys.stdout):
        raise UsageError("an ONNX file is no text for a terminal", hint="--out model.onnx")
    from dymn_cli.store.registry import resolve
    from dymn_cli.writers import check_target

    resolve(model)  # before PyTorch is loaded, which takes seconds; so is the place to write to
    if not to_stdout:
        check_target(out, force=force)
    from dymn_cli.export.onnx_file import export_onnx, exportable

    report = export_onnx(exportable(model), out, form=form, force=force)
    if not to_stdout:
        show(_listing(report, out), listing, talk)
    worst = report.worst
    talk.note(
        f"{out}: {bytes_text(report.size_bytes)}, opset {report.opset}, SHA-256 {report.sha256[:12]}…;"
        f" within {worst.worst:.1e} of PyTorch ({report.tolerance:g} allowed)"
    )


def _form(batch: str) -> ExportForm:
    if batch == "any":
        return "any"
    if batch == "one":
        return "one"
    raise UsageError(f"--batch {batch!r}", hint="any or one")


def _listing(report: ExportReport, out: str) -> Listing:
    from pathlib import Path

    from dymn_cli.writers.spelling import readable

    rows = [
        (" ".join(case.signals), str(case.n_frames), *(f"{value:.2e}" for value in _differences(case)))
        for case in report.cases
    ]

    def table(console: Console) -> Table:
        right = {"justify": "right"}
        drawn = grid(("sounds", {}), *((name, right) for name in ("frames", "logits", "scores", "embedding")))
        for signals, *figures in rows:
            drawn.add_row(signals.replace(" ", ", "), *figures)
        return drawn

    document = {
        "schema": SCHEMA,
        "model": report.name,
        "file": readable(Path(out).name),
        "batch": report.form,
        "sha256": report.sha256,
        "size_bytes": report.size_bytes,
        "opset": report.opset,
        "tolerance": report.tolerance,
        "worst": report.worst.worst,
        "cases": [
            {
                "signals": list(case.signals),
                "n_frames": case.n_frames,
                "logit": case.logit,
                "score": case.score,
                "embedding": case.embedding,
            }
            for case in report.cases
        ],
    }
    return Listing(COLUMNS, rows, document, table)


def _differences(case: ParityCase) -> tuple[float, float, float]:
    return case.logit, case.score, case.embedding
