"""Find events in recordings with a model, at its threshold and at all others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.evaluation.evaluate_events import Detections
from dymn_cli.evaluation.event_metrics import ladder_of_scores
from dymn_cli.tagging.events import SourceDetector
from dymn_cli.tagging.frame_events import FrameCurve

if TYPE_CHECKING:
    from dymn_cli.audio.decode import Source
    from dymn_cli.evaluation.evaluate_events import TrueEvents
    from dymn_cli.tagging.event_options import EventOptions
    from dymn_cli.tagging.tagger import Tagger

__all__ = ["detect"]


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
    columns = np.array([tagger.vocabulary.find(mid or label).index for label, mid in truth.classes], np.int64)
    frames = tagger.frames
    curve = FrameCurve(frames.step_s, columns, frame_head=frames.trained, calibration=frames.calibration)
    events: dict[int, list[tuple[float, float]]] = {}
    with tagger.analyse(source) as analysis:
        detector = SourceDetector(options, tagger, source=analysis.name)
        found = []
        for row in analysis:
            found += detector.add(row)
            curve.add(row.window)
        found += detector.finish()
    n_other = 0
    for event in found:
        n = numbers.get(event.label)
        if n is None:
            n_other += 1
        else:
            events.setdefault(n, []).append((event.start_s, event.end_s))
    scores, edges = curve.finish()
    ladders = {n: list(ladder_of_scores(scores[:, n], edges)) for n in range(len(columns))}
    return Detections(events, ladders, n_other), analysis.duration_s
