"""`dymn embed`: recordings as vectors."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import opt
from dymn_cli.cli.options.groups import (
    BatchOptions,
    Concat,
    CsvSafe,
    InputOptions,
    ModelOptions,
    OutDir,
    OutputOptions,
    TalkOptions,
)
from dymn_cli.cli.options.panels import TIME as TIME_PANEL
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.streams import is_terminal
from dymn_cli.errors import UsageError

if TYPE_CHECKING:
    from dymn_cli.tagging.options import TagOptions

__all__ = ["register"]

HELP = """Write embeddings of clips, windows or frames.

  dymn embed recordings/ --out emb.npy
  dymn embed clip.wav --per frame -o frames.npy

An .npy file is a float32 matrix; emb.index.csv says which row is what, emb.meta.json what made it.
Without --out, or a suffix in its name: a line of JSON for each row. With --out-dir: .npy files. Formats: npy,
jsonl, csv, tsv.

A frame is a moment and what surrounds it: one for every --hop, from 0 to the end of the source, each heard in
a --window of its own around it (the source is mirrored at its ends). A row's start_s and end_s enclose the
moments that are nearest to it: rows follow each other without a gap. dymn_cli.hear, for the HEAR benchmark,
has the same frames. How long should they be? Of 32 recordings, pieces of 0.4 to 1.6 s were put in a row; a
linear classifier told from a frame of the bundled model which of them it is in, for windows of

  0.08 s   81 %      0.32 s   82 %      0.64 s   78 %
  0.16 s   84 %      0.48 s   80 %      1 s      71 %

A frame costs a sixth of what a window of 10 s does: --per frame takes some thirty times as long.
"""


@dataclass(frozen=True, slots=True)
class EmbedTime:
    """How a source is cut: into windows, or into frames."""

    window: Annotated[
        float | None,
        opt(
            "--window",
            "S",
            "Seconds in a window (default: 10; for frames 0.16, or the hop if that is longer).",
            TIME_PANEL,
        ),
    ] = None
    hop: Annotated[
        float | None,
        opt("--hop", "S", "Seconds from one to the next (default: the window; for frames 0.05).", TIME_PANEL),
    ] = None
    pad: Annotated[
        str | None,
        opt(
            "--pad",
            "repeat|zero|none",
            "What fills up a source shorter than a window (default: repeat).",
            TIME_PANEL,
        ),
    ] = None


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "embed", help=HELP)(embed)


def embed(
    inputs: InputOptions,
    model: ModelOptions,
    time: EmbedTime,
    output: OutputOptions,
    batch: BatchOptions,
    talking: TalkOptions,
    *,
    out_dir: OutDir = None,
    per: Annotated[
        str,
        opt("--per", "clip|window|frame", "A row for each source, window, or frame.", TIME_PANEL),
    ] = "clip",
    concat: Concat = False,
    csv_safe: CsvSafe = False,
) -> None:
    """Embed every source."""
    from dymn_cli.cli.batch_run.places import Places, require_writable
    from dymn_cli.cli.batch_run.provenance import job_of, provenance_of
    from dymn_cli.cli.batch_run.run import dry_run, finish, open_run, save_lists
    from dymn_cli.writers import (
        EMBEDDING_FORMATS,
        EmbeddingOptions,
        choose_format,
        embedding_writer,
        open_embeddings,
    )
    from dymn_cli.writers.target import is_stdout

    if per not in ("clip", "window", "frame"):
        raise UsageError(f"--per {per!r}", hint="clip, window or frame")
    talk = Messages.of(talking)
    if inputs.dry_run:
        dry_run(inputs, batch, talk)
        return
    default = "jsonl" if out_dir is None else "npy"
    format_name = choose_format(output.format, output.out, default=default, formats=EMBEDDING_FORMATS)
    to_terminal = out_dir is None and is_stdout(output.out) and is_terminal(sys.stdout)
    places = Places(output.out, out_dir, format_name)
    if to_terminal and format_name == "npy":
        raise UsageError("an .npy file is no text for a terminal", hint="--out emb.npy")
    require_writable(output, places, failures=inputs.failures)
    options = _cut(inputs, time, per)
    job = job_of(model, options, embeddings=per, concat=concat, tags=False)
    with open_run(
        job,
        inputs,
        output,
        batch,
        talk,
        threads=model.threads,
        describe=lambda description: provenance_of(description, options, per=per),
        places=places,
    ) as run:
        writing = EmbeddingOptions(
            provenance=run.provenance,
            size=run.engine.description.embedding_size,
            header=output.header,
            csv_safe=csv_safe,
        )
        with run.results(
            lambda: open_embeddings(output.out, format_name, writing, force=run.force),
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
            save_lists(outcome, run, inputs, places, csv_safe=csv_safe)
            run.require_result(outcome)
        run.end(outcome)
    finish(outcome, alone=run.total == 1)


def _cut(inputs: InputOptions, time: EmbedTime, per: str) -> TagOptions:
    """The options as what the library takes.

    Raises:
        UsageError: a value out of range, or padding for frames.
    """
    from dymn_cli.audio.frames import FRAME_HOP_S, FRAME_WINDOW_S, FramePlan
    from dymn_cli.cli.batch_run.provenance import tag_options
    from dymn_cli.cli.options.groups import TimeOptions
    from dymn_cli.tagging.options import TagOptions

    if per != "frame":
        usual = TimeOptions()
        window = usual.window if time.window is None else time.window
        pad = usual.pad if time.pad is None else time.pad
        return tag_options(inputs, TimeOptions(window, time.hop, pad))
    if time.pad is not None:
        raise UsageError("--pad is for windows; frames are mirrored at the ends of a source")
    hop_s = FRAME_HOP_S if time.hop is None else time.hop
    window_s = max(FRAME_WINDOW_S, hop_s) if time.window is None else time.window
    return TagOptions(channel=inputs.channel, strict=inputs.strict, frames=FramePlan(window_s, hop_s))
