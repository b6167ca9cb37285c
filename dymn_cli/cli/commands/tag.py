"""`dymn tag`: what is in it?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import flag, opt
from dymn_cli.cli.options.groups import (
    BatchOptions,
    Concat,
    CsvSafe,
    InputOptions,
    ModelOptions,
    OutDir,
    OutputOptions,
    SelectOptions,
    TalkOptions,
    TimeOptions,
)
from dymn_cli.cli.options.panels import OUTPUT as OUTPUT_PANEL
from dymn_cli.cli.options.panels import TIME as TIME_PANEL
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.streams import is_terminal
from dymn_cli.errors import UsageError

if TYPE_CHECKING:
    from dymn_cli.batch.job import ModelDescription
    from dymn_cli.writers import Provenance

__all__ = ["register"]

HELP = """Tag audio with AudioSet labels.

  dymn tag clip.wav
  dymn tag recordings/ -k 3 -o tags.csv

A table on a terminal; in a pipe, tab-separated: source, channel, start_s, end_s, rank, label, score.
Formats: table, tsv, csv, json, jsonl, audacity, raven, srt, vtt, parquet. Of these, audacity, srt and vtt
hold one recording; --out-dir makes a file for each.
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
    out_dir: OutDir = None,
    embed: Annotated[
        str | None,
        opt(
            "--embed",
            "FILE",
            "Embeddings as well, of the same pass: FILE.npy, or .jsonl, .csv, .tsv.",
            OUTPUT_PANEL,
        ),
    ] = None,
    windows: Annotated[
        bool,
        flag("--windows", "The tags of every window.", TIME_PANEL),
    ] = False,
    layout: Annotated[
        str,
        opt(
            "--layout",
            "long|wide|matrix",
            "csv: a row a tag, or a row a clip with its best tags or (also parquet) all scores.",
            OUTPUT_PANEL,
        ),
    ] = "long",
    precision: Annotated[
        int,
        opt("--precision", "N", "Decimals of scores.", OUTPUT_PANEL),
    ] = 4,
    concat: Concat = False,
    csv_safe: CsvSafe = False,
) -> None:
    """Tag every source and write what was kept."""
    from dymn_cli.cli.batch_run.embeddings import embedding_format, open_beside
    from dymn_cli.cli.batch_run.places import Places, require_writable
    from dymn_cli.cli.batch_run.provenance import job_of, provenance_of, tag_options
    from dymn_cli.cli.batch_run.run import dry_run, finish, open_run, save_lists
    from dymn_cli.tagging.thresholds import read_thresholds
    from dymn_cli.writers import (
        BINARY,
        ONE_SOURCE,
        TAG_FORMATS,
        WriterOptions,
        choose_format,
        open_tags,
        tag_writer,
    )
    from dymn_cli.writers.target import is_stdout

    if layout not in ("long", "wide", "matrix"):
        raise UsageError(f"--layout {layout!r}", hint="long, wide or matrix")
    talk = Messages.of(talking)
    if inputs.dry_run:
        dry_run(inputs, batch, talk)
        return
    to_stdout = out_dir is None and is_stdout(output.out)
    to_terminal = to_stdout and is_terminal(sys.stdout)
    default = "csv" if out_dir is not None else "table" if to_terminal else "tsv"
    format_name = choose_format(output.format, output.out, default=default, formats=TAG_FORMATS)
    places = Places(output.out, out_dir, format_name, embed)
    vectors = embedding_format(embed)
    if to_terminal and format_name in BINARY:
        raise UsageError(f"{format_name} is no text for a terminal", hint=f"--out tags.{format_name}")
    require_writable(output, places, failures=inputs.failures)
    thresholds = read_thresholds(select.thresholds)
    options = tag_options(inputs, time, select, thresholds=thresholds, windows=windows)
    per = ("window" if windows else "clip") if vectors is not None else None
    if concat and per is None:
        raise UsageError("--concat is for embeddings", hint="--embed FILE writes them beside the tags")
    job = job_of(model, options, scores=layout == "matrix", embeddings=per, concat=concat)

    def describe(description: ModelDescription) -> Provenance:
        thresholds.require_known(description.vocabulary)
        return provenance_of(description, options)

    with open_run(
        job,
        inputs,
        output,
        batch,
        talk,
        threads=model.threads,
        describe=describe,
        one_source_format=format_name if format_name in ONE_SOURCE and out_dir is None else None,
        places=places,
    ) as run:
        vocabulary = run.engine.description.vocabulary
        writing = WriterOptions(
            provenance=run.provenance,
            header=output.header,
            precision=precision,
            windows=windows,
            layout=layout,  # type: ignore[arg-type]  # checked above
            top=min(select.top or len(vocabulary), len(vocabulary)),
            channel=inputs.channel,
            labels=tuple(dict.fromkeys(map(vocabulary.find, select.label))) or vocabulary.labels,
            csv_safe=csv_safe,
        )
        console = talk.stdout_console() if format_name == "table" and to_stdout else None
        with (
            run.results(
                lambda: open_tags(output.out, format_name, writing, force=run.force, console=console),
                lambda stream, _: tag_writer(format_name, stream, writing),
            ) as results,
            open_beside(embed, vectors, run, options, per, force=run.force, csv_safe=csv_safe) as embeddings,
        ):

            def write(name: str) -> None:
                with results.of(name) as writer:
                    for clip in run.reader.clips(name):
                        writer.write(clip)
                if embeddings is not None:
                    for rows in run.reader.embedding_rows(name):
                        embeddings.write(rows)

            outcome = run.go(
                write,
                results.fail,
                fail_fast=inputs.fail_fast,
                results_on_terminal=to_terminal,
                notes_in_result=format_name == "table",
            )
            save_lists(outcome, run, inputs, places, csv_safe=csv_safe)
            run.require_result(outcome)
        run.end(outcome)
    finish(outcome, alone=run.total == 1)
