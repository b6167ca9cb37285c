"""`dymn embed`: recordings as vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import opt
from dymn_cli.cli.options.groups import (
    Concat,
    InputOptions,
    ModelOptions,
    ResultOptions,
    TimeOptions,
    UpdateOptions,
)
from dymn_cli.cli.options.panels import TIME
from dymn_cli.cli.terminal.messages import Messages

__all__ = ["register"]

HELP = """Write embeddings of clips, windows or frames.

  dymn embed recordings/ --out emb.npy
  dymn embed clip.wav --per frame -o frames.npy

An .npy file is a float32 matrix; emb.index.csv says what each row is, emb.meta.json what made it. Without
--out, or a suffix in its name: a line of JSON per row. With --out-dir: .npy files. Formats: npy, jsonl, csv,
tsv, parquet.

A frame is a moment and what surrounds it: there is one for every --hop from 0 to the end of the source, and
each has a --window of its own around it (the source is mirrored at its ends). start_s and end_s of a row
enclose the moments nearest to it, so rows follow each other without a gap. dymn_cli.hear, for the HEAR
benchmark, has the same frames.

How long should frames be? Pieces of 0.4 to 1.6 s from 32 recordings were put in a row, and a linear
classifier had to tell from a frame of the bundled model which recording it is in. It was right, by window, in

  0.08 s   81 %      0.32 s   82 %      0.64 s   78 %
  0.16 s   84 %      0.48 s   80 %      1 s      71 %

A frame costs a sixth of a window of 10 s, so --per frame takes some thirty times as long.
"""


@dataclass(frozen=True, slots=True)
class EmbedTime(TimeOptions):
    """How a source is cut: into windows, or into frames."""

    window: Annotated[
        float | None,
        opt("--window", "S", "Seconds per window (default: 10; frames: 0.16, or a longer --hop).", TIME),
    ] = None
    hop: Annotated[
        float | None,
        opt("--hop", "S", "Seconds from one to the next (default: the window; frames: 0.05).", TIME),
    ] = None


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "embed", help=HELP)(embed)


def embed(
    inputs: InputOptions,
    model: ModelOptions,
    time: EmbedTime,
    output: ResultOptions,
    batch: UpdateOptions,
    messages: Messages,
    *,
    per: Annotated[
        str, opt("--per", "clip|window|frame", "A row per source, window or frame.", TIME)
    ] = "clip",
    concat: Concat = False,
) -> None:
    """Embed every source."""
    from dymn_cli.cli.batch_run.embeddings import EmbeddingAnalysis
    from dymn_cli.cli.batch_run.run import write_results

    analysis = EmbeddingAnalysis(inputs, model, time, output, per=per, concat=concat)
    write_results(analysis, inputs, output, batch, messages, threads=model.threads)
