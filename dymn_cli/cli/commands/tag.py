"""`dymn tag`: what is in it?"""

from __future__ import annotations

from typing import Annotated

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import flag, opt
from dymn_cli.cli.options.groups import (
    ClockTime,
    Concat,
    InputOptions,
    ModelOptions,
    Precision,
    ResultOptions,
    Scores,
    SelectOptions,
    TimeOptions,
    UpdateOptions,
)
from dymn_cli.cli.options.panels import OUTPUT, TIME
from dymn_cli.cli.terminal.messages import Messages

__all__ = ["register"]

HELP = """Tag audio with AudioSet labels.

  dymn tag clip.wav
  dymn tag recordings/ -k 3 -o tags.csv

Prints a table on a terminal; in a pipe, tab-separated: source, channel, start_s, end_s, rank, label, score.
Formats: table, tsv, csv, json, jsonl, audacity, raven, srt, vtt, parquet. An audacity, srt or vtt file holds
one recording; --out-dir writes one for each.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "tag", help=HELP)(tag)


def tag(
    inputs: InputOptions,
    model: ModelOptions,
    time: TimeOptions,
    select: SelectOptions,
    output: ResultOptions,
    batch: UpdateOptions,
    messages: Messages,
    *,
    embed: Annotated[
        str | None,
        opt("--embed", "FILE", "Also write embeddings, to FILE.npy, .jsonl, .csv or .tsv.", OUTPUT),
    ] = None,
    windows: Annotated[bool, flag("--windows", "The tags of every window.", TIME)] = False,
    layout: Annotated[
        str,
        opt(
            "--layout",
            "long|wide|matrix",
            "csv: a row per tag, a row per clip, or a row per clip with all scores (also parquet).",
            OUTPUT,
        ),
    ] = "long",
    precision: Precision = 4,
    clock: ClockTime = None,
    scores: Scores = False,
    concat: Concat = False,
) -> None:
    """Tag every source and write what was kept."""
    from dymn_cli.cli.batch_run.run import write_results
    from dymn_cli.cli.batch_run.tags import TagAnalysis

    analysis = TagAnalysis(
        inputs,
        model,
        time,
        select,
        output,
        windows=windows,
        layout=layout,
        precision=precision,
        clock=clock,
        scores=scores,
        embed=embed,
        concat=concat,
    )
    write_results(analysis, inputs, output, batch, messages, threads=model.threads)
