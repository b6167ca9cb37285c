"""What a model reports of a recording, at its threshold and at all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.evaluation.evaluate_events import Heard
from dymn_cli.evaluation.event_metrics import ladder_of_scores
from dymn_cli.tagging.events import SourceDetector
from dymn_cli.tagging.frame_events import FrameCurve

if TYPE_CHECKING:
    from dymn_cli.audio.decode import Source
    from dymn_cli.evaluation.evaluate_events import TrueEvents
    from dymn_cli.tagging.event_options import EventOptions
    from dymn_cli.tagging.tagger import Tagger

__all__ = ["hear"]


def hear(tagger: Tagger, source: Source, truth: TrueEvents, options: EventOptions) -> tuple[Heard, float]:
    """Find the events of a source, and what each threshold would report of the classes of the truth.

    At any threshold, an event is there a run of steps that reach it: neither `off` nor gaps count.

    Args:
        tagger: its options ask for frame scores.
        source: one channel of it is heard.
        truth: says which classes are judged.
        options: what counts as an event.

    Returns:
        What was reported, and how many seconds were heard.

    Raises:
        InputError: the source cannot be used.
    """
    numbers = {label: n for n, (label, _) in enumerate(truth.classes)}
    columns = np.array([tagger.vocabulary.find(mid or label).index for label, mid in truth.classes], np.int64)
    curve = FrameCurve(tagger.frames.steps_of(columns))
    heard = Heard()
    with tagger.analyse(source) as analysis:
        detector = SourceDetector(options, tagger, source=analysis.name)
        for row in analysis:
            detector.add(row)
            curve.add(row.window)
    n_other = 0
    for event in detector.finish():
        n = numbers.get(event.label)
        if n is None:
            n_other += 1
        else:
            heard.events.setdefault(n, []).append((event.start_s, event.end_s))
    scores, edges = curve.finish()
    for n in range(len(columns)):
        heard.ladders[n] = list(ladder_of_scores(scores[:, n], edges))
    return Heard(heard.events, heard.ladders, n_other), analysis.duration_s
