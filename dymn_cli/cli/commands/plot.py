"""`dymn plot`: a picture of a recording for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import arg, opt
from dymn_cli.cli.options.events import EventSelect, EventTime
from dymn_cli.cli.options.groups import Force, InputOptions, ModelOptions
from dymn_cli.cli.options.panels import INPUT, OUTPUT, SELECT
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.errors import InputError, UsageError

if TYPE_CHECKING:
    from dymn_cli.plotting.recording import Curves
    from dymn_cli.results import Event
    from dymn_cli.tagging.tagger import Tagger

__all__ = ["register"]

HELP = """Draw a recording: spectrogram with its events, or the highest scores over time.

  dymn plot night.flac -o night.png
  dymn plot night.flac -o owl.pdf --start 3600 --end 3660 --events events.csv -l Owl

The suffix of the picture is .png, .svg or .pdf. Events are those that dymn events finds, or those of a result
(--events). --top N draws scores over time instead. Needs matplotlib: pip install 'dymn[plot]'.
"""

MAX_CURVES = 14
MAX_STRETCH_S = 1800.0  # that is analysed alone, from memory; of longer ones, the whole recording is
CONTEXT_S = 10.0  # heard before and behind a stretch


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "plot", help=HELP)(plot)


def plot(
    recording: Annotated[str, arg("RECORDING", "An audio file.")],
    out: Annotated[
        str | None, opt("-o --out", "FILE", "The picture: .png, .svg or .pdf.", OUTPUT, show_default=False)
    ] = None,
    *,
    force: Force = False,
    dpi: Annotated[int, opt("--dpi", "N", "Dots per inch of a .png.", OUTPUT)] = 200,
    title: Annotated[
        str | None, opt("--title", "TEXT", "Above the picture (default: the file's name).", OUTPUT)
    ] = None,
    start: Annotated[float, opt("--start", "S", "Begin at S seconds.", INPUT)] = 0.0,
    end: Annotated[float | None, opt("--end", "S", "End at S seconds (default: its end).", INPUT)] = None,
    channel: Annotated[
        str, opt("--channel", "mix|N", "Mean of the channels, or one (from 0).", INPUT)
    ] = "mix",
    events: Annotated[
        str | None, opt("--events", "RESULT", "Draw the events of this file; csv, jsonl, raven, ...", INPUT)
    ] = None,
    top: Annotated[
        int | None, opt("-k --top", "N", "Draw the N labels with the highest scores over time.", SELECT)
    ] = None,
    model: ModelOptions,
    select: EventSelect,
    messages: Messages,
) -> None:
    """Draw the picture."""
    from dymn_cli.plotting.picture import check_picture, save_picture
    from dymn_cli.plotting.recording import MAX_LANES, draw_recording
    from dymn_cli.plotting.spectrogram import read_spectrogram
    from dymn_cli.writers.target import check_target, input_guard

    if out is None:
        raise UsageError("no name for the picture", hint="-o picture.png")
    _require_sense(recording, start, end, channel, events, top, dpi)
    check_picture(out)
    check_target(out, force=force)
    input_guard(out)(recording, events, select.thresholds)
    curves: Curves | None = None
    if events is not None:
        found: Sequence[Event] = _read_events(events, recording, select)
    spectrogram = read_spectrogram(recording, channel=channel, start_s=start, end_s=end)
    span = spectrogram.start_s, spectrogram.end_s
    if events is None:
        is_part = start > 0 or end is not None
        found, curves = _analyse(recording, span, channel, top, model, select, is_part=is_part)
    shown = [event for event in found if event.end_s > span[0] and event.start_s < span[1]]
    n_labels = len({event.label for event in shown})
    if n_labels > MAX_LANES:
        messages.warning(f"{n_labels - MAX_LANES} of {n_labels} labels are not drawn", "-l LABEL, --specific")
    if not shown and curves is None:
        messages.warning("no event in this stretch")
    name = Path(recording).name if title is None else title
    save_picture(
        out,
        lambda: draw_recording(spectrogram, title=name, events=shown, curves=curves),
        force=force,
        dpi=dpi,
    )


def _require_sense(
    recording: str,
    start: float,
    end: float | None,
    channel: str,
    events: str | None,
    top: int | None,
    dpi: int,
) -> None:
    """Refuse options that go together badly, before anything is read."""
    if recording == "-":
        raise UsageError(
            "dymn plot reads a recording twice, and standard input comes once", hint="name a file"
        )
    if channel == "each":
        raise UsageError("a picture shows one channel", hint="--channel mix, or its number from 0")
    if not 0 <= start < float("inf") or (end is not None and not start < end < float("inf")):
        raise UsageError(f"no stretch from {start:g} s to {'the end' if end is None else f'{end:g} s'}")
    if top is not None and events is not None:
        raise UsageError("--top draws scores, and --events has none over time", hint="leave out one of them")
    if top is not None and not 1 <= top <= MAX_CURVES:
        raise UsageError(f"--top {top} is not from 1 to {MAX_CURVES} curves")
    if not 20 <= dpi <= 1200:
        raise UsageError(f"--dpi {dpi} is not from 20 to 1200")


def _read_events(result: str, recording: str, select: EventSelect) -> list[Event]:
    """The events of a recording in a result, selected as the options say.

    Raises:
        InputError: it cannot be read, has something else than events, or does not name the recording.
    """
    from dymn_cli.readers import Selection, SelectionOptions, open_result
    from dymn_cli.remote.uri import named
    from dymn_cli.results import SourceEvents
    from dymn_cli.tagging.thresholds import read_thresholds

    result = named(result)
    selection = Selection(
        SelectionOptions(
            labels=tuple(select.label),
            exclude=tuple(select.exclude),
            descendants=select.descendants,
            min_score=select.on or 0.0,
            thresholds=read_thresholds(select.thresholds).pairs,
        )
    )
    by_source: dict[str, list[Event]] = {}
    with open_result(result) as items:
        if items.kind != "events":
            raise InputError(f"{items.name}: has {items.kind}, not events", hint="dymn events makes them")
        for item in items:
            if isinstance(item, SourceEvents):
                by_source.setdefault(item.source, []).extend(selection.events(item).events)
    selection.require_known()
    name = Path(recording).name
    same = [source for source in by_source if source == recording] or [
        source
        for source in by_source
        if source.replace("\\", "/").rpartition("/")[2] in (name, Path(name).stem)
    ]
    if len(same) != 1:
        known = ", ".join(list(by_source)[:3])
        raise InputError(
            f"{result}: {'several recordings are' if same else 'no recording is'} called {name}",
            hint=f"it has {known}" if known else None,
        )
    return by_source[same[0]]


def _analyse(
    recording: str,
    span: tuple[float, float],
    channel: str,
    top: int | None,
    model: ModelOptions,
    select: EventSelect,
    *,
    is_part: bool,
) -> tuple[Sequence[Event], Curves | None]:
    """The events of a stretch, or the curves of its highest scores."""
    import dataclasses

    from dymn_cli.cli.batch_run.events import EventAnalysis
    from dymn_cli.tagging.events import events_of

    analysis = EventAnalysis(InputOptions(channel=channel), model, EventTime(), select)
    job = analysis.job
    if top is not None and not job.options.frame_scores:
        raise UsageError("--top needs scores of frames", hint="leave out --method windows")
    heard: Any = recording
    offset_s = 0.0
    if is_part and span[1] - span[0] <= MAX_STRETCH_S:
        heard, offset_s = _stretch(recording, *span, channel)
        job = dataclasses.replace(job, options=dataclasses.replace(job.options, channel="mix"))
    with job.open_tagger(model.threads) as tagger:
        if top is not None:
            return (), _curves(tagger, heard, recording, offset_s, span, top, select)
        found = events_of(tagger, heard, job.events, name=recording).events
    return [
        dataclasses.replace(event, start_s=event.start_s + offset_s, end_s=event.end_s + offset_s)
        for event in found
    ], None


def _stretch(recording: str, start_s: float, end_s: float, channel: str) -> tuple[Any, float]:
    """The samples of a stretch with some context, and where they begin."""
    import numpy as np

    from dymn_cli.audio.resample import RATE_HZ
    from dymn_cli.plotting.spectrogram import read_stretch

    begin_s = max(start_s - CONTEXT_S, 0.0)
    blocks = read_stretch(recording, channel=channel, start_s=begin_s, end_s=end_s + CONTEXT_S)
    return (np.concatenate(list(blocks)), RATE_HZ), begin_s


def _curves(
    tagger: Tagger,
    heard: Any,
    name: str,
    offset_s: float,
    span: tuple[float, float],
    top: int,
    select: EventSelect,
) -> Curves:
    """The scores over time of the labels whose scores are highest in a stretch."""
    import numpy as np

    from dymn_cli.audio.resample import RATE_HZ
    from dymn_cli.plotting.recording import Curves
    from dymn_cli.plotting.spectrogram import Columns
    from dymn_cli.tagging.event_options import EventOptions
    from dymn_cli.tagging.frame_events import Step
    from dymn_cli.tagging.selection import wanted_labels

    options = EventOptions(
        labels=tuple(select.label), exclude=tuple(select.exclude), descendants=select.descendants
    )
    labels = wanted_labels(options, tagger.vocabulary, silence=False)
    indices = np.array([label.index for label in labels], np.int64)
    frames = tagger.frames
    steps = frames.steps_of(indices)
    columns, first, n_steps = Columns(), 0.0, 0

    def keep(step: Step) -> None:
        nonlocal first, n_steps
        middle_s = step.middle / RATE_HZ + offset_s
        if span[0] - frames.step_s <= middle_s <= span[1] + frames.step_s:
            first = middle_s if not n_steps else first
            n_steps += 1
            columns.add(step.scores.astype(np.float32)[:, np.newaxis])

    with tagger.analyse(heard, name=name) as analysis:
        for row in analysis:
            for step in steps.add(row.window):
                keep(step)
        for step in steps.finish():
            keep(step)
    scores, n_joined = columns.result()
    first += frames.step_s * (n_joined - 1) / 2  # the middle of the first joined ones
    times_s = first + frames.step_s * n_joined * np.arange(scores.shape[1], dtype=np.float64)
    best = np.argsort(-scores.max(axis=1), kind="stable")[:top]
    return Curves(tuple(labels[n].name for n in best), times_s, scores[best])
