"""`dymn events`: when does it happen?"""

from __future__ import annotations

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.events import EventSelect, EventTime
from dymn_cli.cli.options.groups import (
    BatchOptions,
    ClockTime,
    InputOptions,
    ModelOptions,
    Precision,
    ResultOptions,
    Scores,
)
from dymn_cli.cli.terminal.messages import Messages

__all__ = ["register"]

HELP = """Find sound events: start, end, label and score of each.

  dymn events meeting.wav -l Laughter -t 0.2
  dymn events night.flac -l Animal --descendants -f audacity -o night.txt

Prints a table on a terminal; in a pipe, tab-separated: source, channel, start_s, end_s, label, score.
Formats: table, tsv, csv, json, jsonl, audacity, raven, kaleidoscope, sed (filename, onset, offset,
event_label), rttm, srt, vtt, parquet. An audacity, srt or vtt file holds one recording; --out-dir writes one
for each.

The model scores windows of 10 s as a whole and each step of 0.32 s in them; the two are combined. An event
reaches --on somewhere and lasts while the score stays at --off or above. Start and end lie where the score
crosses half of its height, so they are finer than a step. Events of a label less than --max-gap apart are
joined. A lower --on finds more, there and elsewhere.

--method windows is for models without scores of steps (ONNX files exported without frames): it takes windows
of 5 s that overlap by four fifths, and an event lasts as long as all windows around a moment score it. It
takes about three times as long and is less exact.

Measure both methods with sounds of your own: python -m dymn_cli.bench.placing SOUNDS/. Judge events by
annotations: dymn eval EVENTS --truth TABLE.
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
    batch: BatchOptions,
    messages: Messages,
    *,
    precision: Precision = 4,
    clock: ClockTime = None,
    scores: Scores = False,
) -> None:
    """Find the events of every source."""
    from dymn_cli.cli.batch_run.events import EventAnalysis
    from dymn_cli.cli.batch_run.run import write_results

    analysis = EventAnalysis(
        inputs, model, time, select, output, precision=precision, clock=clock, scores=scores
    )
    write_results(analysis, inputs, output, batch, messages, threads=model.threads)
