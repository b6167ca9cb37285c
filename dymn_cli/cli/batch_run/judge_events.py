"""Events to judge: those of finished results, or those that a model finds in recordings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dymn_cli.errors import InputError, UsageError
from dymn_cli.values import listed_labels, with_first

if TYPE_CHECKING:
    from dymn_cli.cli.options.groups import ModelOptions
    from dymn_cli.cli.terminal.messages import Messages
    from dymn_cli.evaluation.evaluate_events import Detections, EventEvaluation, Pairing, TrueEvents
    from dymn_cli.evaluation.event_tables import EventTable
    from dymn_cli.evaluation.ground_truth import LabelMap

__all__ = ["are_events", "evaluate_inputs", "recordings_in", "require_audio"]


def are_events(truth: str | None) -> bool:
    """Whether the truth has starts and ends: a table of events, or a folder of label tracks.

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


def evaluate_inputs(
    inputs: list[str],
    truth: str,
    mapping: LabelMap,
    *,
    ignore_unknown: bool,
    model: ModelOptions,
    about_audio: Sequence[str] = (),
    messages: Messages,
) -> tuple[EventEvaluation, int]:
    """Judge finished events, or those of a model in recordings.

    Args:
        inputs: results of `dymn events`, or audio.
        truth: the table, or the folder of tables.
        mapping: what its words mean.
        ignore_unknown: drop events whose label is none of the model's.
        model: finds the events in audio.
        about_audio: options that were given for it.
        messages: writes messages.

    Returns:
        The figures, and how many recordings could not be used.

    Raises:
        InputError: something cannot be read, or nothing can be judged.
        UsageError: an unknown label, results beside audio, or options for audio where there is none.
    """
    from dymn_cli.evaluation.event_tables import read_events
    from dymn_cli.report.finished import are_results

    true_table = read_events([truth])
    if not are_results(inputs):
        return _of_audio(inputs, true_table, mapping, ignore_unknown, model, messages)
    require_audio(about_audio, inputs)
    return _of_results(inputs, true_table, mapping, ignore_unknown, messages)


def require_audio(options: Sequence[str], results: Sequence[str]) -> None:
    """Refuse options that say how audio is heard, as results were heard already.

    Raises:
        UsageError: there are some.
    """
    if options:
        raise UsageError(f"{options[0]} is about audio; {results[0]} is a finished result")


def _of_results(
    inputs: list[str], true_table: EventTable, mapping: LabelMap, ignore_unknown: bool, messages: Messages
) -> tuple[EventEvaluation, int]:
    from dymn_cli.evaluation.evaluate_events import (
        FROM_EVENTS,
        Detections,
        detections_in,
        evaluate_events,
        pair,
        true_events,
        vocabulary_of,
    )
    from dymn_cli.evaluation.event_tables import read_events

    table = read_events(inputs)
    if table.failed:
        messages.warning(f"recordings without a result: {with_first(table.failed)}")
    vocabulary = vocabulary_of(table, true_table)
    truth = true_events(true_table, vocabulary, mapping=mapping, ignore_unknown=ignore_unknown)
    pairing = pair(truth, [*table.rows, *table.failed])
    failed = {pairing.of_source[name] for name in table.failed if name in pairing.of_source}
    heard: dict[str, Detections] = {}
    durations: list[float] = []
    for source, name in pairing.of_source.items():
        if name not in failed:
            heard[name] = detections_in(table.rows[source], truth, vocabulary)
            durations.append(table.durations.get(source) or _length_s(source, inputs[0]))
    silent: tuple[str, ...] = ()
    if not table.complete:  # recordings without events are not named there
        silent = pairing.without_source
        heard |= {name: Detections() for name in silent}
        durations += [_length_s(name, inputs[0]) for name in silent]
    _tell(truth, pairing, silent, messages)
    duration_s = math.fsum(durations)
    if math.isnan(duration_s):
        messages.note("no PSDS: the result lacks the lengths of the recordings (json has them)")
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


def recordings_in(inputs: list[str], messages: Messages) -> tuple[list[str], int]:
    """The names of all recordings, and how many inputs lead to none, which is said of each.

    Raises:
        InputError: there is no recording.
    """
    from dymn_cli.audio.discover import find

    names, n_failed = [], 0
    for found in find(inputs):
        if found.problem is None:
            names.append(found.name)
        else:
            messages.warning(found.problem.message, found.problem.hint)
            n_failed += 1
    if not names:
        raise InputError(f"{inputs[0]}: no recordings")
    return names, n_failed


def _of_audio(
    inputs: list[str],
    true_table: EventTable,
    mapping: LabelMap,
    ignore_unknown: bool,
    model: ModelOptions,
    messages: Messages,
) -> tuple[EventEvaluation, int]:
    from dymn_cli.cli.batch_run.run import require_counts
    from dymn_cli.evaluation.evaluate_events import FROM_FRAMES, evaluate_events, pair, true_events
    from dymn_cli.evaluation.event_predictions import detect
    from dymn_cli.results import Failure
    from dymn_cli.tagging.event_options import EventOptions, default_hop_s, default_window_s
    from dymn_cli.tagging.options import TagOptions

    require_counts(None, model.threads)
    names, n_failed = recordings_in(inputs, messages)
    window_s = default_window_s("frames")
    cut = TagOptions(window_s=window_s, hop_s=default_hop_s(window_s, "frames"), frame_scores=True)
    with model.open_tagger(cut) as tagger:
        tagger.require_tags()
        truth = true_events(true_table, tagger.vocabulary, mapping=mapping, ignore_unknown=ignore_unknown)
        pairing = pair(truth, names)
        _tell(truth, pairing, (), messages)
        wanted = EventOptions(labels=tagger.vocabulary.names)  # Silence too: the ground truth may have it
        heard: dict[str, Detections] = {}
        duration_s = 0.0
        with messages.progress(len(pairing.of_source), shared_with_results=False) as tally:
            for source, name in pairing.of_source.items():
                try:
                    heard[name], seconds = detect(tagger, source, truth, wanted)
                except InputError as error:
                    messages.failure(Failure.of(source, error))
                    tally.advance(source, 0.0, failed=True)
                    n_failed += 1
                    continue
                duration_s += seconds
                tally.advance(source, seconds)
    if not heard:
        raise InputError("no recording could be read")
    return evaluate_events(truth, heard, duration_s=duration_s, curve=FROM_FRAMES), n_failed


def _tell(truth: TrueEvents, pairing: Pairing, silent: Sequence[str], messages: Messages) -> None:
    """Say how truth and recordings fit together."""
    if pairing.without_truth:
        what = "recordings that are not in the truth, which are left out"
        messages.note(f"{what}: {with_first(pairing.without_truth)}")
    if silent:
        what = "recordings of the truth that the result does not name, which count as without events"
        messages.note(f"{what}: {with_first(silent)}")
    elif pairing.without_source:
        messages.warning(f"recordings of the truth without a result: {with_first(pairing.without_source)}")
    if truth.ignored:
        messages.note(f"labels that are left out: {listed_labels(truth.ignored, 8)}")
