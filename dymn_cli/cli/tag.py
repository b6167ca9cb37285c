"""`dymn tag`: what is in it?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dymn_cli.cli.console import Talk, is_terminal
from dymn_cli.cli.params import OUTPUT as OUTPUT_PANEL
from dymn_cli.cli.params import TIME as TIME_PANEL
from dymn_cli.cli.params import (
    InputOptions,
    ModelOptions,
    OutputOptions,
    SelectOptions,
    TalkOptions,
    TimeOptions,
    command,
)

if TYPE_CHECKING:
    from dymn_cli.cli.sources import Worked

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
    from dymn_cli.cli.analysis import open_tagger, provenance_of, tag_options
    from dymn_cli.cli.sources import dry_run, found_sources, open_source, save_failures, work_through
    from dymn_cli.writers import TAG_FORMATS, WriterOptions, check_target, choose_format, open_tags

    talk = Talk.of(talking)
    sources = found_sources(inputs)
    if inputs.dry_run:
        dry_run(sources)
        return
    to_terminal = output.out in (None, "-") and is_terminal(sys.stdout)
    format_name = choose_format(
        output.format, output.out, default="table" if to_terminal else "tsv", formats=TAG_FORMATS
    )
    if output.out is not None:
        check_target(output.out, force=output.force)
    with open_tagger(model, tag_options(inputs, time, select, windows=windows)) as tagger:
        writing = WriterOptions(
            provenance=provenance_of(tagger, thresholds=select.thresholds),
            header=output.header,
            precision=precision,
            windows=windows,
            layout=layout,  # type: ignore[arg-type]  # checked there
            top=select.top or len(tagger.vocabulary.labels),
            channel=inputs.channel,
        )
        console = talk.stdout_console() if format_name == "table" and output.out in (None, "-") else None
        with open_tags(output.out, format_name, writing, force=output.force, console=console) as writer:

            def work(name: str) -> Worked:
                from dymn_cli.cli.sources import Worked

                results = tagger.tag_channels(open_source(name), name=name)
                for result in results:
                    writer.write(result)
                first = results[0]
                return Worked(first.duration_s, first.warnings, already_shown=format_name == "table")

            outcome = work_through(
                sources, inputs, talk, work=work, fail=writer.fail, results_on_terminal=to_terminal
            )
            outcome.require_complete(output.out, fail_fast=inputs.fail_fast)
    save_failures(outcome, inputs, output.out, talk)
    outcome.raise_for_exit()
