"""`dymn embed`: recordings as vectors."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dymn_cli.cli.console import Talk, is_stdout, is_terminal
from dymn_cli.cli.params import TIME as TIME_PANEL
from dymn_cli.cli.params import (
    BatchOptions,
    InputOptions,
    ModelOptions,
    OutDir,
    OutputOptions,
    TalkOptions,
    TimeOptions,
    command,
)
from dymn_cli.errors import UsageError

__all__ = ["register"]

HELP = """Write embeddings: a vector for each source, or for each of its windows.

  dymn embed recordings/ --out emb.npy
  dymn embed clip.wav --per window -f csv

An .npy file is a float32 matrix; emb.index.csv says which row is what, emb.meta.json what made it.
Without --out: a line of JSON for each row. Formats: npy, jsonl, csv, tsv.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "embed", help=HELP)(embed)


def embed(
    inputs: InputOptions,
    model: ModelOptions,
    time: TimeOptions,
    output: OutputOptions,
    batch: BatchOptions,
    talking: TalkOptions,
    *,
    out_dir: OutDir = None,
    per: Annotated[
        str,
        typer.Option(
            "--per",
            metavar="clip|window",
            help="A row for each source, or for each window.",
            rich_help_panel=TIME_PANEL,
        ),
    ] = "clip",
) -> None:
    """Embed every source."""
    from dymn_cli.cli.analysis import provenance_of, tag_options, work_of
    from dymn_cli.cli.running import Places, dry_run, finish, open_run, require_writable, save_failures
    from dymn_cli.writers import (
        EMBEDDING_FORMATS,
        EmbeddingOptions,
        choose_format,
        embedding_writer,
        open_embeddings,
    )

    if per not in ("clip", "window"):
        raise UsageError(f"--per {per!r}", hint="clip or window")
    talk = Talk.of(talking)
    if inputs.dry_run:
        dry_run(inputs, batch)
        return
    default = "jsonl" if out_dir is None else "npy"
    format_name = choose_format(output.format, output.out, default=default, formats=EMBEDDING_FORMATS)
    to_terminal = out_dir is None and is_stdout(output.out) and is_terminal(sys.stdout)
    places = Places(output.out, out_dir, format_name)
    if to_terminal and format_name == "npy":
        raise UsageError("an .npy file is no text for a terminal", hint="--out emb.npy")
    require_writable(output, places)
    options = tag_options(inputs, time)
    work = work_of(model, options, embeddings=per)
    with open_run(
        work,
        inputs,
        output,
        batch,
        talk,
        threads=model.threads,
        describe=lambda facts: provenance_of(facts, options, per=per),
        places=places,
    ) as run:
        writing = EmbeddingOptions(
            provenance=run.provenance, size=run.engine.facts.embedding_size, header=output.header
        )
        force = output.force or run.continues
        with run.results(
            lambda: open_embeddings(output.out, format_name, writing, force=force),
            lambda stream, index: embedding_writer(format_name, stream, writing, index=index),
        ) as results:

            def write(name: str) -> None:
                with results.of(name) as writer:
                    for rows in run.reader.embedding_rows(name):
                        writer.write(rows)

            outcome = run.go(
                write,
                results.fail,
                fail_fast=inputs.fail_fast,
                results_on_terminal=to_terminal,
                notes_in_result=False,
            )
            save_failures(outcome, inputs, places.failures, talk)
            run.require_result(outcome)
        run.journal.close(discard=outcome.is_complete)
    finish(outcome, alone=run.total == 1)
