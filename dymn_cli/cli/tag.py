"""`dymn tag`: what is in it?"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dymn_cli.cli.console import Talk, is_terminal
from dymn_cli.cli.params import OUTPUT as OUTPUT_PANEL
from dymn_cli.cli.params import TIME as TIME_PANEL
from dymn_cli.cli.params import (
    BatchOptions,
    InputOptions,
    ModelOptions,
    OutputOptions,
    SelectOptions,
    TalkOptions,
    TimeOptions,
    command,
)

__all__ = ["register"]

HELP = """Say what is to be heard: the best AudioSet labels of each source.

  dymn tag clip.wav
  dymn tag recordings/ -k 3 -o tags.csv

A table on a terminal; in a pipe, tab-separated: source, channel, start_s, end_s, rank, label, score.
Formats: table, tsv, csv, json, jsonl.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "tag", help=HELP)(tag)


def tag(
    inputs: InputOptions,
    model: ModelOptions,
    time: TimeOptions,
    select: SelectOptions,
    output: OutputOptions,
    batch: BatchOptions,
    talking: TalkOptions,
    *,
    windows: Annotated[
        bool,
        typer.Option("--windows", metavar="", help="The tags of every window.", rich_help_panel=TIME_PANEL),
    ] = False,
    layout: Annotated[
        str,
        typer.Option(
            "--layout",
            metavar="long|wide",
            help="csv: a row a tag, or a row a clip.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = "long",
    precision: Annotated[
        int,
        typer.Option("--precision", metavar="N", help="Decimals of scores.", rich_help_panel=OUTPUT_PANEL),
    ] = 4,
) -> None:
    """Tag every source and write what was kept."""
    from dymn_cli.cli.analysis import provenance_of, tag_options, work_of
    from dymn_cli.cli.running import dry_run, finish, open_run, require_writable, save_failures
    from dymn_cli.writers import TAG_FORMATS, WriterOptions, choose_format, open_tags

    talk = Talk.of(talking)
    if inputs.dry_run:
        dry_run(inputs, batch)
        return
    to_terminal = output.out in (None, "-") and is_terminal(sys.stdout)
    format_name = choose_format(
        output.format, output.out, default="table" if to_terminal else "tsv", formats=TAG_FORMATS
    )
    require_writable(output)
    options = tag_options(inputs, time, select, windows=windows)
    work = work_of(model, options)
    with open_run(
        work,
        inputs,
        output,
        batch,
        talk,
        threads=model.threads,
        describe=lambda facts: provenance_of(facts, options),
    ) as run:
        writing = WriterOptions(
            provenance=run.provenance,
            header=output.header,
            precision=precision,
            windows=windows,
            layout=layout,  # type: ignore[arg-type]  # checked there
            top=select.top or len(run.engine.facts.vocabulary.labels),
            channel=inputs.channel,
        )
        console = talk.stdout_console() if format_name == "table" and output.out in (None, "-") else None
        with open_tags(
            output.out, format_name, writing, force=output.force or run.continues, console=console
        ) as writer:

            def write(name: str) -> None:
                for clip in run.reader.clips(name):
                    writer.write(clip)

            outcome = run.go(
                write,
                writer.fail,
                fail_fast=inputs.fail_fast,
                results_on_terminal=to_terminal,
                notes_in_result=format_name == "table",
            )
            run.require_result(outcome)
        run.journal.close(discard=outcome.is_complete)
    save_failures(outcome, inputs, output.out, talk)
    finish(outcome)
