"""`dymn events`: when does it happen?"""

from __future__ import annotations

import os
from pathlib import Path

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.cutting import CutFolder
from dymn_cli.cli.options.events import EventSelect, EventTime
from dymn_cli.cli.options.groups import (
    ClockTime,
    InputOptions,
    ModelOptions,
    Precision,
    ResultOptions,
    Scores,
    UpdateOptions,
)
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.views.clips import require_clips
from dymn_cli.errors import UsageError

__all__ = ["register"]

HELP = """Find sound events: start, end, label and score of each.

  dymn events meeting.wav -l Laughter -t 0.2
  dymn events night.flac -l Animal --descendants -f audacity -o night.txt
  dymn events night.flac -l Owl -o owls.csv --cut clips/

Prints a table on a terminal; in a pipe, tab-separated: source, channel, start_s, end_s, label, score.
Formats: table, tsv, csv, json, jsonl, audacity, raven, kaleidoscope, sed (filename, onset, offset,
event_label), rttm, srt, vtt, parquet. An audacity, srt or vtt file holds one recording: use --out-dir.

The model scores windows of 10 s as a whole and each step of 0.32 s in them; an fmn model, steps of 40 ms
alone. An event lasts while both together stay at --off or above and reach --on somewhere. Start and end lie
where the score crosses half of its height, so they are finer than a step. Events of a label less than
--max-gap apart are joined. --method windows compares windows of 5 s instead: slower, less exact, for ONNX
files exported without frames.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "events", help=HELP)(events)


def events(
    inputs: InputOptions,
    model: ModelOptions,
    time: EventTime,
    select: EventSelect,
    output: ResultOptions,
    batch: UpdateOptions,
    messages: Messages,
    *,
    precision: Precision = 4,
    cut: CutFolder = None,
    clock: ClockTime = None,
    scores: Scores = False,
) -> None:
    """Find the events of every source."""
    from dymn_cli.cli.batch_run.events import EventAnalysis
    from dymn_cli.cli.batch_run.run import write_results

    cutter = None
    if cut is not None:
        from dymn_cli.audio.locate import Locator
        from dymn_cli.cutting import CutOptions, Cutter

        if "-" in inputs.inputs:
            raise UsageError("--cut reads recordings again, standard input comes once", hint="save it first")
        if any(
            Path(name).is_dir() and os.path.realpath(name) == os.path.realpath(cut) for name in inputs.inputs
        ):
            raise UsageError(f"--cut {cut} is an input: its clips would be, too", hint="--cut clips/")
        if batch.update:
            raise UsageError("--update and --cut exclude each other", hint="dymn cut cuts finished events")
        cutter = Cutter(cut, CutOptions(force=output.force), Locator())
    analysis = EventAnalysis(
        inputs,
        model,
        time,
        select,
        output,
        precision=precision,
        cutter=cutter,
        clock=clock,
        scores=scores,
    )
    write_results(analysis, inputs, output, batch, messages, threads=model.threads)
    if cutter is not None and not inputs.dry_run:
        require_clips(cutter.summary)
