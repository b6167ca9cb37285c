"""`dymn eval` for events: what was reported against what is really to be heard, from when to when."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dymn_cli.cli.terminal.tables import grid, json_document, rendered
from dymn_cli.cli.views import evaluation as evaluation_view
from dymn_cli.errors import InputError, UsageError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from dymn_cli.cli.options.groups import ModelOptions, OutputOptions
    from dymn_cli.cli.terminal.messages import Messages
    from dymn_cli.evaluation.evaluate_events import EventEvaluation, Heard, Pairing, TrueEvents
    from dymn_cli.evaluation.event_metrics import Counts
    from dymn_cli.evaluation.event_tables import EventTable
    from dymn_cli.evaluation.ground_truth import LabelMap

__all__ = ["COLUMNS", "are_events", "judge_events"]

COLUMNS = (
    "label", "mid", "n_events", "event_precision", "event_recall", "event_f1", "intersection_precision",
    "intersection_recall", "intersection_f1", "psds1", "psds2",
)  # fmt: skip


def are_events(truth: str | None) -> bool:
    """Whether the truth says from when to when: a table of events, or a folder of label tracks.

    Raises:
        InputError: it cannot be read.
    """
    if truth is None:
        return False
    import os

    from dymn_cli.evaluation.event_tables import event_form, tables_in

    if os.path.isdir(truth):  # noqa: PTH112 - names may be bytes that no Path holds
        return bool(tables_in(truth))
    return event_form(truth) is not None


def judge_events(
    inputs: list[str],
    truth: str,
    mapping: LabelMap,
    *,
    ignore_unknown: bool,
    model: ModelOptions,
    output: OutputOptions,
    form: str,
    messages: Messages,
) -> None:
    """Judge finished events, or those of a model in recordings.

    Args:
        inputs: results of `dymn events`, or audio.
        truth: the table, or the folder of tables.
        mapping: what its words mean.
        ignore_unknown: drop events whose label is none of the model's.
        model: finds the events in audio.
        output: where the figures go.
        form: of the figures.
        messages: says what is worth knowing.

    Raises:
        InputError: something cannot be read, or nothing can be judged.
        UsageError: an unknown label.
        PartialFailure: some recordings could not be used.
    """
    from dymn_cli.evaluation.event_tables import TABLE_SUFFIXES, read_events
    from dymn_cli.writers.spelling import counted
    from dymn_cli.writers.target import is_stdout, open_target

    said = read_events([truth])
    finished = [name for name in inputs if name.lower().endswith(TABLE_SUFFIXES)]
    if finished and len(finished) < len(inputs):
        raise UsageError("results and audio are judged one by one", hint=f"without {finished[0]}")
    judge = _of_results if finished else _of_audio
    evaluation, n_failed = judge(inputs, said, mapping, ignore_unknown, model, messages)
    if form == "json":
        data = json_document(evaluation.document())
    elif form == "table":
        console = messages.stdout_console()
        data = rendered(console, *_tables(evaluation, console))
    else:
        data = _rows(evaluation, form, header=output.header)
    with open_target(output.out, force=output.force) as target:
        target.stream.write(data)
    if form != "table" or not is_stdout(output.out):
        size = f"{counted(evaluation.n_recordings, 'recording')}, {len(evaluation.classes)} classes"
        messages.note(f"{size}: {_figures(evaluation)}")
    evaluation_view.end_with(n_failed, evaluation.n_recordings)


def _of_results(
    inputs: list[str],
    said: EventTable,
    mapping: LabelMap,
    ignore_unknown: bool,
    model: ModelOptions,
    messages: Messages,
) -> tuple[EventEvaluation, int]:
    from dymn_cli.evaluation.evaluate_events import (
        FROM_EVENTS,
        Heard,
        evaluate_events,
        heard_of_rows,
        pair,
        true_events,
        vocabulary_of,
    )
    from dymn_cli.evaluation.event_tables import read_events

    table = read_events(inputs)
    if table.failed:
        messages.warning(f"recordings without a result: {len(table.failed)}, the first is {table.failed[0]}")
    vocabulary = vocabulary_of(table, said)
    truth = true_events(said, vocabulary, mapping=mapping, ignore_unknown=ignore_unknown)
    pairing = pair(truth, [*table.rows, *table.failed])
    failed = {pairing.of_source[name] for name in table.failed if name in pairing.of_source}
    heard: dict[str, Heard] = {}
    durations: list[float] = []
    for source, name in pairing.of_source.items():
        if name not in failed:
            heard[name] = heard_of_rows(table.rows[source], truth, vocabulary)
            durations.append(table.durations.get(source) or _length_s(source, inputs[0]))
    silent: tuple[str, ...] = ()
    if not table.complete:  # recordings without events are not named there
        silent = pairing.without_source
        heard |= {name: Heard() for name in silent}
        durations += [_length_s(name, inputs[0]) for name in silent]
    evaluation_view.tell(messages, list(_notes(truth, pairing, silent)))
    duration_s = math.fsum(durations)
    if math.isnan(duration_s):
        messages.note("no PSDS: the result does not say how long the recordings are; json does")
    return evaluate_events(truth, heard, duration_s=duration_s, curve=FROM_EVENTS), len(failed)


def _length_s(source: str, table: str) -> float:
    """How long a recording is, as its header says; NaN where it is not found."""
    import os

    from dymn_cli.audio.decode import open_audio

    for path in (source, os.path.join(os.path.dirname(table), source)):  # noqa: PTH118, PTH120
        if os.path.isfile(path):  # noqa: PTH113 - names may be bytes that no Path holds
            try:
                with open_audio(path) as reader:
                    return reader.info.duration_s or math.nan
            except InputError:
                continue
    return math.nan


def _of_audio(
    inputs: list[str],
    said: EventTable,
    mapping: LabelMap,
    ignore_unknown: bool,
    model: ModelOptions,
    messages: Messages,
) -> tuple[EventEvaluation, int]:
    from dymn_cli.audio.discover import find
    from dymn_cli.cli.batch_run.run import require_counts
    from dymn_cli.evaluation.evaluate_events import FROM_FRAMES, evaluate_events, pair, true_events
    from dymn_cli.evaluation.event_predictions import hear
    from dymn_cli.tagging.event_options import EventOptions, default_hop_s, default_window_s
    from dymn_cli.tagging.failure import failure_of
    from dymn_cli.tagging.options import TagOptions
    from dymn_cli.tagging.tagger import Tagger

    require_counts(None, model.threads)
    found = list(find(inputs))
    problems = [one.problem for one in found if one.problem is not None]
    names = [one.name for one in found if one.problem is None]
    for problem in problems:
        messages.warning(problem.message, problem.hint)
    if not names:
        raise InputError(f"{inputs[0]}: no recordings")
    window_s = default_window_s("frames")
    cut = TagOptions(window_s=window_s, hop_s=default_hop_s(window_s, "frames"), frame_scores=True)
    with Tagger(
        model.models,
        backend=model.backend,
        device=model.device,
        threads=model.threads,
        batch_size=model.batch_size,
        options=cut,
    ) as tagger:
        tagger.require_tags()
        truth = true_events(said, tagger.vocabulary, mapping=mapping, ignore_unknown=ignore_unknown)
        pairing = pair(truth, names)
        evaluation_view.tell(messages, list(_notes(truth, pairing, ())))
        wanted = EventOptions(labels=tagger.vocabulary.names)  # "Silence", too: the truth may have it
        heard: dict[str, Heard] = {}
        duration_s, n_failed = 0.0, len(problems)
        with messages.progress(len(pairing.of_source), shared_with_results=False) as tally:
            for source, name in pairing.of_source.items():
                try:
                    heard[name], seconds = hear(tagger, source, truth, wanted)
                except InputError as error:
                    messages.failure(failure_of(source, error))
                    tally.advance(source, 0.0, failed=True)
                    n_failed += 1
                    continue
                duration_s += seconds
                tally.advance(source, seconds)
    if not heard:
        raise InputError("no recording could be read")
    return evaluate_events(truth, heard, duration_s=duration_s, curve=FROM_FRAMES), n_failed


def _notes(truth: TrueEvents, pairing: Pairing, silent: Sequence[str]) -> Iterator[str]:
    if pairing.without_truth:
        yield (
            f"recordings that are not in the truth, which are left out: {len(pairing.without_truth)},"
            f" the first is {pairing.without_truth[0]}"
        )
    if silent:
        yield (
            "recordings of the truth that the result does not name, which count as without events:"
            f" {len(silent)}, the first is {silent[0]}"
        )
    elif pairing.without_source:
        yield (
            f"recordings of the truth without a result: {len(pairing.without_source)},"
            f" the first is {pairing.without_source[0]}"
        )
    if truth.ignored:
        from dymn_cli.datasets.dataset import listed

        yield f"labels that are left out: {listed(truth.ignored, 8)}"


# ---------------------------------------------------------------------- showing


def _rows(evaluation: EventEvaluation, form: str, *, header: bool | None) -> bytes:
    from dymn_cli.writers.to_csv import csv_line
    from dymn_cli.writers.to_tsv import tsv_line

    line = csv_line if form == "csv" else tsv_line
    lines = [line(COLUMNS)] if (form == "csv" if header is None else header) else []
    for one in evaluation.classes:
        figures = (*_quality(one.by_ends), *_quality(one.by_intersection), one.psds1, one.psds2)
        lines.append(line((one.label, one.mid, one.by_ends.n_true, *map(evaluation_view.number, figures))))
    return b"".join(lines)


def _quality(counts: Counts) -> tuple[float, float, float]:
    return counts.precision, counts.recall, counts.f1


def _figures(evaluation: EventEvaluation) -> str:
    """The figures over all classes, in a line."""
    parts = [
        f"event-based F1 {evaluation.event_f1:.3f}",
        f"intersection-based F1 {evaluation.intersection_f1:.3f}",
    ]
    if not math.isnan(evaluation.psds1):
        parts += [f"PSDS1 {evaluation.psds1:.3f}", f"PSDS2 {evaluation.psds2:.3f} (of {evaluation.curve})"]
    return ", ".join(parts)


def _tables(evaluation: EventEvaluation, console: Console) -> Iterator[RenderableType]:
    from rich.text import Text

    from dymn_cli.writers.spelling import counted, visible

    right = {"justify": "right"}
    names = ("events", "prec.", "recall", "F1", "prec. ∩", "recall ∩", "F1 ∩", "PSDS1", "PSDS2")
    table = grid(("class", {}), *((name, right) for name in names))
    for one in sorted(evaluation.classes, key=lambda one: (-one.by_intersection.f1, one.label)):
        quality = (*_quality(one.by_ends), *_quality(one.by_intersection))
        table.add_row(
            Text(visible(one.label, console.encoding)),
            str(one.by_ends.n_true),
            *(evaluation_view.short(value, 2) for value in quality),
            *(evaluation_view.short(value, 3) for value in (one.psds1, one.psds2)),
        )
    yield table
    yield Text()
    size = counted(evaluation.n_recordings, "recording"), counted(evaluation.event_total.n_true, "true event")
    n_other = evaluation.n_other
    other = f"; {counted(n_other, 'event')} of other labels not judged" if n_other else ""
    yield Text(
        f"{size[0]}, {size[1]} of {len(evaluation.classes)} classes{other}; first by the events' ends,"
        " ∩ by what they share"
    )
    yield Text(_figures(evaluation), style="bold")
