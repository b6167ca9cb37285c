"""`dymn info`: what a source says of itself and, when it is decoded, what is really there."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import flag, opt
from dymn_cli.cli.options.groups import FileOptions
from dymn_cli.cli.options.panels import INPUT as INPUT_PANEL
from dymn_cli.cli.options.panels import OUTPUT as OUTPUT_PANEL
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.streams import is_terminal
from dymn_cli.cli.terminal.tables import choose_form

if TYPE_CHECKING:
    from dymn_cli.cli.batch_run.sources import Worked

__all__ = ["register"]

HELP = """Show format, rate, channels, duration and size of audio files.

  dymn info clip.wav
  dymn info recordings/ --decode -f jsonl

Only headers are read, unless --decode asks for what is really there. In a pipe, tab-separated: source,
container, codec, rate_hz, channels, duration_s, size_bytes; with --decode also decoded_s and warnings.
What is not known is empty. Formats: table, tsv, json, jsonl.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "info", help=HELP)(info)


def info(
    inputs: FileOptions,
    *,
    decode: Annotated[
        bool,
        flag("--decode", "Decode everything and say what is there.", INPUT_PANEL),
    ] = False,
    form: Annotated[
        str | None,
        opt("-f --format", "table|tsv|json|jsonl", "Default: a table on a terminal, else tsv.", OUTPUT_PANEL),
    ] = None,
    header: Annotated[
        bool,
        flag("--header/--no-header", "Column names in tsv.", OUTPUT_PANEL),
    ] = False,
    messages: Messages,
) -> None:
    """Probe every source."""
    from dymn_cli.cli.batch_run.sources import (
        Worked,
        found_sources,
        parse_size,
        print_names,
        save_failures,
        work_through,
    )
    from dymn_cli.cli.views.info import FORMS, printer, probe

    chosen = choose_form(form, FORMS)
    most_bytes = parse_size(inputs.max_input)
    sources = found_sources(inputs, messages)
    if inputs.dry_run:
        print_names(sources, messages)
        return
    writer = printer(chosen, messages, decode=decode, header=header)
    writer.begin()

    def work(name: str) -> Worked:
        found = probe(name, decode=decode, most_bytes=most_bytes, strict=inputs.strict)
        writer.write(found)
        return Worked(found.decoded_s or 0.0, found.warnings, already_shown=chosen == "table")

    streams_to_terminal = chosen in ("tsv", "jsonl") and is_terminal(sys.stdout)
    outcome = work_through(
        sources, inputs, messages, work=work, fail=writer.fail, results_on_terminal=streams_to_terminal
    )
    writer.end()
    save_failures(outcome, inputs, None, messages)
    outcome.raise_for_exit()
