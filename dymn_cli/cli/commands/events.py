"""`dymn events`: when does it happen?"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import flag, opt
from dymn_cli.cli.options.groups import (
    BatchOptions,
    CsvSafe,
    InputOptions,
    ModelOptions,
    OutDir,
    OutputOptions,
    TalkOptions,
    complete_label,
)
from dymn_cli.cli.options.panels import OUTPUT as OUTPUT_PANEL
from dymn_cli.cli.options.panels import TIME as TIME_PANEL
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.streams import is_terminal
from dymn_cli.errors import UsageError

if TYPE_CHECKING:
    from dymn_cli.batch.pool import ModelDescription
    from dymn_cli.tagging.events import EventOptions
    from dymn_cli.tagging.options import TagOptions
    from dymn_cli.tagging.thresholds import Thresholds
    from dymn_cli.writers import Provenance

__all__ = ["EventSelect", "EventTime", "cut_options", "event_options", "event_provenance", "register"]

HELP = """Find sound events: start, end, label and score of each.

  dymn events meeting.wav -l Laughter -t 0.2
  dymn events night.flac -l Animal --descendants -f audacity -o night.txt

A table on a terminal; in a pipe, tab-separated: source, channel, start_s, end_s, label, score.
Formats: table, tsv, csv, json, jsonl, audacity, raven, kaleidoscope, sed (filename, onset, offset,
event_label), rttm, srt, vtt, parquet. Of these, audacity, srt and vtt hold one recording; --out-dir makes a
file for each.

How it is found: the model scores windows of 10 s as a whole, and each step of 0.32 s in them. An event lasts
while both together reach --off, if they reach --on somewhere; its ends lie where the score crosses half of
its height, so they are finer than a step. Sounds of a kind with less than --max-gap between them become one.
A lower --on finds more, there and elsewhere.

--method windows is for models that have to be asked about whole windows (an ONNX file exported without
frames): windows of 5 s that overlap by four fifths, and an event lasts as long as all windows that look at a
moment hear it. It takes about three times as long and is less exact.

python -m dymn_cli.bench.placing SOUNDS/ measures both methods with sounds of your own. dymn eval EVENTS
--truth TABLE judges events by annotations.
"""

EVENTS_PANEL = "Which events"


@dataclass(frozen=True, slots=True)
class EventTime:
    """How a source is cut into windows that overlap."""

    window: Annotated[
        float | None,
        opt("--window", "S", "Seconds in a window (default: 10; of --method windows 5).", TIME_PANEL),
    ] = None
    hop: Annotated[
        float | None,
        opt(
            "--hop",
            "S",
            "Seconds from one window to the next (default: 4/5 of it; of --method windows 1/5).",
            TIME_PANEL,
        ),
    ] = None
    pad: Annotated[
        str,
        opt("--pad", "repeat|zero|none", "What fills up a source shorter than a window.", TIME_PANEL),
    ] = "repeat"


@dataclass(frozen=True, slots=True)
class EventSelect:
    """What counts as an event."""

    label: Annotated[
        list[str],
        opt(
            "-l --label",
            "LABEL",
            "Only this label: name, /m/... id or slug. Repeat it for more.",
            EVENTS_PANEL,
            autocompletion=complete_label,
        ),
    ] = field(default_factory=list)
    descendants: Annotated[
        bool,
        flag(
            "--descendants",
            "Also all kinds of these labels; -l takes any sound of the ontology then.",
            EVENTS_PANEL,
        ),
    ] = False
    method: Annotated[
        str,
        opt("--method", "NAME", "frames, or windows: what is compared to find the ends.", EVENTS_PANEL),
    ] = "frames"
    on: Annotated[
        float | None,
        opt(
            "-t --on",
            "X",
            "An event reaches this score somewhere (default: 0.15; of --method windows 0.3).",
            EVENTS_PANEL,
        ),
    ] = None
    off: Annotated[
        float | None,
        opt(
            "--off",
            "X",
            "It lasts while it falls below this nowhere (default: 0.4, or 0.25 times --on).",
            EVENTS_PANEL,
        ),
    ] = None
    thresholds: Annotated[
        str | None,
        opt(
            "--thresholds",
            "FILE.csv",
            "--on by label: columns mid,label,threshold; their --off in proportion.",
            EVENTS_PANEL,
        ),
    ] = None
    max_gap: Annotated[
        float | None,
        opt(
            "--max-gap",
            "S",
            "Join events of a label that are no further apart (default: 0.64; of --method windows 0).",
            EVENTS_PANEL,
        ),
    ] = None
    min_length: Annotated[
        float,
        opt("--min-length", "S", "Drop events that are shorter, once they are joined.", EVENTS_PANEL),
    ] = 0.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "events", help=HELP)(events)


def events(
    inputs: InputOptions,
    model: ModelOptions,
    time: EventTime,
    select: EventSelect,
    output: OutputOptions,
    batch: BatchOptions,
    talking: TalkOptions,
    *,
    out_dir: OutDir = None,
    precision: Annotated[
        int,
        opt("--precision", "N", "Decimals of scores.", OUTPUT_PANEL),
    ] = 4,
    csv_safe: CsvSafe = False,
) -> None:
    """Find the events of every source."""
    from dymn_cli.cli.batch_run.places import Places, require_writable
    from dymn_cli.cli.batch_run.provenance import work_of
    from dymn_cli.cli.batch_run.run import dry_run, finish, open_run, save_lists
    from dymn_cli.tagging.thresholds import read_thresholds
    from dymn_cli.writers import (
        BINARY,
        EVENT_FORMATS,
        ONE_SOURCE,
        WriterOptions,
        choose_format,
        event_writer,
        open_events,
    )
    from dymn_cli.writers.target import is_stdout

    talk = Messages.of(talking)
    if inputs.dry_run:
        dry_run(inputs, batch, talk)
        return
    to_stdout = out_dir is None and is_stdout(output.out)
    to_terminal = to_stdout and is_terminal(sys.stdout)
    default = "csv" if out_dir is not None else "table" if to_terminal else "tsv"
    format_name = choose_format(output.format, output.out, default=default, formats=EVENT_FORMATS)
    places = Places(output.out, out_dir, format_name)
    if to_terminal and format_name in BINARY:
        raise UsageError(f"{format_name} is no text for a terminal", hint=f"--out events.{format_name}")
    require_writable(output, places, failures=inputs.failures)
    thresholds = read_thresholds(select.thresholds)
    wanted = event_options(select, thresholds)
    cut = cut_options(inputs, time, wanted)

    def describe(facts: ModelDescription) -> Provenance:
        thresholds.require_known(facts.vocabulary)
        return event_provenance(facts, cut, wanted)

    with open_run(
        work_of(model, cut, events=wanted),
        inputs,
        output,
        batch,
        talk,
        threads=model.threads,
        describe=describe,
        one_source_format=format_name if format_name in ONE_SOURCE and out_dir is None else None,
        places=places,
    ) as run:
        writing = WriterOptions(
            provenance=run.provenance,
            header=output.header,
            precision=precision,
            channel=inputs.channel,
            csv_safe=csv_safe,
        )
        console = talk.stdout_console() if format_name == "table" and to_stdout else None
        with run.results(
            lambda: open_events(output.out, format_name, writing, force=run.force, console=console),
            lambda stream, _: event_writer(format_name, stream, writing),
        ) as results:

            def write(name: str) -> None:
                with results.of(name) as writer:
                    writer.write(run.reader.events(name))

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


def cut_options(inputs: InputOptions, time: EventTime, wanted: EventOptions) -> TagOptions:
    """How sources are cut for these events."""
    from dymn_cli.tagging.events import default_hop_s, default_window_s
    from dymn_cli.tagging.options import TagOptions

    window_s = default_window_s(wanted.method) if time.window is None else time.window
    hop_s = default_hop_s(window_s, wanted.method) if time.hop is None else time.hop
    return TagOptions(
        window_s=window_s,
        hop_s=hop_s,
        pad=time.pad,  # type: ignore[arg-type]  # checked there
        channel=inputs.channel,
        strict=inputs.strict,
        frame_scores=wanted.method == "frames",
    )


def event_options(select: EventSelect, thresholds: Thresholds) -> EventOptions:
    """What counts as an event, as the options say it."""
    from dymn_cli.tagging.events import EventOptions

    return EventOptions(
        method=select.method,  # type: ignore[arg-type]  # checked there
        on=select.on,
        off=select.off,
        thresholds=thresholds.pairs,
        labels=tuple(select.label),
        descendants=select.descendants,
        max_gap_s=select.max_gap,
        min_length_s=select.min_length,
    )


def event_provenance(facts: ModelDescription, cut: TagOptions, wanted: EventOptions) -> Provenance:
    """What made the result; an unknown label is said here, before any work is done."""
    from dymn_cli.cli.batch_run.provenance import provenance_of
    from dymn_cli.tagging.events import wanted_labels
    from dymn_cli.writers import Provenance

    labels = wanted_labels(wanted, facts.vocabulary) if wanted.labels else ()
    thresholds = ((facts.vocabulary.find(label).name, score) for label, score in wanted.thresholds)
    base = provenance_of(facts, cut, per="event")
    options = (
        ("method", wanted.method),
        ("on", wanted.on_score),
        ("off", wanted.off_score),
        ("thresholds", tuple(f"{name}={score:g}" for name, score in thresholds)),
        ("labels", tuple(label.name for label in labels)),
        ("max_gap_s", wanted.gap_s),
        ("min_length_s", wanted.min_length_s),
        ("calibration", facts.calibration_digest),
    )
    return Provenance(base.version, base.model, (*base.options, *options))
