"""Find events in recordings with a model, at its threshold and at all others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.evaluation.evaluate_events import Detections
from dymn_cli.evaluation.event_metrics import ladder_of_scores
from dymn_cli.tagging.events import SourceDetector
from dymn_cli.tagging.frame_events import FrameCurve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dymn_cli.audio.decode import Source
    from dymn_cli.evaluation.evaluate_events import TrueEvents
    from dymn_cli.evaluation.event_metrics import Rung
    from dymn_cli.results import Event
    from dymn_cli.tagging.event_options import EventOptions
    from dymn_cli.tagging.tagger import Tagger

__all__ = ["detect", "find_events"]


def detect(
    tagger: Tagger, source: Source, truth: TrueEvents, options: EventOptions
) -> tuple[Detections, float]:
    """Find the events of a source, and those of the classes of the ground truth at every threshold.

    For the latter an event is a run of steps that reach the threshold: neither `off` nor gaps count.

    Args:
        tagger: with frame scores.
        source: of one channel.
        truth: has the classes.
        options: what counts as an event.

    Returns:
        The detections, and the seconds of audio.

    Raises:
        InputError: the source cannot be used.
    """
    numbers = {label: n for n, (label, _) in enumerate(truth.classes)}
    indices = [tagger.vocabulary.find(mid or label).index for label, mid in truth.classes]
    (found,), ladders, duration_s = find_events(tagger, source, [options], indices)
    events: dict[int, list[tuple[float, float]]] = {}
    for event in found:
        if event.label in numbers:
            events.setdefault(numbers[event.label], []).append((event.start_s, event.end_s))
    n_other = len(found) - sum(map(len, events.values()))
    return Detections(events, {n: ladders[index] for n, index in enumerate(indices)}, n_other), duration_s


def find_events(
    tagger: Tagger, source: Source, every: Sequence[EventOptions], classes: Sequence[int] = ()
) -> tuple[list[tuple[Event, ...]], dict[int, list[Rung]], float]:
    """Find the events of a source by several options at once.

    Args:
        tagger: with frame scores, if there are classes.
        source: of one channel.
        every: the options.
        classes: labels, as indices, whose events at every threshold are wanted, too.

    Returns:
        The events for each of the options, the ladder of each class, and the seconds of audio.

    Raises:
        InputError: the source cannot be used.
    """
    curve = None
    if classes:
        curve = FrameCurve(tagger.frames.steps_of(np.array(classes, np.int64)))
    with tagger.analyse(source) as analysis:
        detectors = [SourceDetector(options, tagger, source=analysis.name) for options in every]
        for row in analysis:
            for detector in detectors:
                detector.add(row)
            if curve is not None:
                curve.add(row.window)
    found = [detector.finish() for detector in detectors]
    ladders: dict[int, list[Rung]] = {}
    if curve is not None:
        scores, edges = curve.finish()
        ladders = {n: list(ladder_of_scores(scores[:, at], edges)) for at, n in enumerate(classes)}
    return found, ladders, analysis.duration_s
