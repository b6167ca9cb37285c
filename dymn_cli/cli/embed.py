"""`dymn embed`: recordings as vectors."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dymn_cli.cli.console import Talk, is_terminal
from dymn_cli.cli.params import TIME as TIME_PANEL
from dymn_cli.cli.params import InputOptions, ModelOptions, OutputOptions, TalkOptions, TimeOptions, command
from dymn_cli.errors import UsageError

if TYPE_CHECKING:
    from dymn_cli.cli.sources import Worked
    from dymn_cli.tagging.tagger import Tagger
    from dymn_cli.writers import EmbeddingRow

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
    talking: TalkOptions,
    *,
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
    from dymn_cli.cli.analysis import open_tagger, provenance_of, tag_options
    from dymn_cli.cli.sources import dry_run, found_sources, save_failures, work_through
    from dymn_cli.writers import (
        EMBEDDING_FORMATS,
        EmbeddingOptions,
        check_target,
        choose_format,
        open_embeddings,
    )

    if per not in ("clip", "window"):
        raise UsageError(f"--per {per!r}", hint="clip or window")
    talk = Talk.of(talking)
    sources = found_sources(inputs)
    if inputs.dry_run:
        dry_run(sources)
        return
    format_name = choose_format(output.format, output.out, default="jsonl", formats=EMBEDDING_FORMATS)
    to_terminal = output.out in (None, "-") and is_terminal(sys.stdout)
    if to_terminal and format_name == "npy":
        raise UsageError("an .npy file is no text for a terminal", hint="--out emb.npy")
    if output.out is not None:
        check_target(output.out, force=output.force)
    with open_tagger(model, tag_options(inputs, time)) as tagger:
        writing = EmbeddingOptions(
            provenance=provenance_of(tagger, per=per), size=tagger.embedding_size, header=output.header
        )
        with open_embeddings(output.out, format_name, writing, force=output.force) as writer:

            def work(name: str) -> Worked:
                rows, worked = (_clip_rows if per == "clip" else _window_rows)(tagger, name)
                writer.write(rows)
                return worked

            outcome = work_through(
                sources, inputs, talk, work=work, fail=writer.fail, results_on_terminal=to_terminal
            )
            outcome.require_complete(output.out, fail_fast=inputs.fail_fast)
    save_failures(outcome, inputs, output.out, talk)
    outcome.raise_for_exit()


def _clip_rows(tagger: Tagger, name: str) -> tuple[list[EmbeddingRow], Worked]:
    from dymn_cli.cli.sources import Worked, open_source
    from dymn_cli.writers import EmbeddingRow

    results = tagger.tag_channels(open_source(name), name=name)
    worked = Worked(results[0].duration_s, results[0].warnings)
    return [EmbeddingRow.of_clip(result) for result in results], worked


def _window_rows(tagger: Tagger, name: str) -> tuple[list[EmbeddingRow], Worked]:
    from dymn_cli.cli.sources import Worked, open_source
    from dymn_cli.writers import EmbeddingRow

    with tagger.analyse(open_source(name), name=name) as analysis:
        rows = [
            EmbeddingRow(name, channel, window.start_s, window.end_s, window.embedding)
            for channel, window in analysis
        ]
    return rows, Worked(analysis.duration_s, analysis.warnings)
