"""How well `dymn events` finds sounds and their ends: known sounds in known places of a long recording.

    python -m dymn_cli.bench.placing SOUNDS/ [MODEL ...] [--labels FILE.csv | --said-by MODEL] [--on X ...]

Recordings in the folder that last 0.3 to 20 s are the sounds, at most five seconds of each; those of a minute
and more, music and places, are heard behind them. There are two recordings: all sounds on a bed that is as
good as silent, and all of them on noise, music and places.

What a sound is, a table says (file,label; several rows or labels are several that will do), or a model that
hears it alone: the labels that it is sure of, `--said-by`, or else the first model. A label is accepted for a
sound if it is one of these, a kind of one, or what one is a kind of. A row of events is right if a sound that
it meets accepts its label. Labels that the bed has by itself do not count.

    found      share of the sounds that a right row meets
    right      share of the rows that meet a sound and are right
    off_s      median distance of the ends of found sounds from the right places, in seconds
    start_s    median of how late they begin, and
    end_s      of how late they end
    gaps_min   rows a minute where no sound is
    psds1      see `dymn_cli.evaluation.event_metrics`; for the first label of each sound
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.audio.decode import open_audio
from dymn_cli.audio.discover import find
from dymn_cli.audio.resample import RATE_HZ, to_mono_32k
from dymn_cli.datasets.label_tables import read_label_table
from dymn_cli.datasets.name_matching import match_names
from dymn_cli.errors import DymnError, InputError, UsageError
from dymn_cli.evaluation.event_metrics import PSDS1, ladder_of_events, ladder_of_scores, psds, rocs_of
from dymn_cli.labels import Ontology
from dymn_cli.tagging.event_options import EventOptions, Method, default_hop_s, default_window_s
from dymn_cli.tagging.events import SourceDetector
from dymn_cli.tagging.frame_events import FrameCurve
from dymn_cli.tagging.options import TagOptions
from dymn_cli.tagging.tagger import Tagger

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.labels import Vocabulary
    from dymn_cli.results import Event

__all__ = ["Placed", "Sound", "Verdict", "accepted", "judge", "open_for_events", "put_together", "sounds_in"]

SHORTEST_S, LONGEST_S, MAX_S = 0.3, 20.0, 5.0
SHORT_S = 1.5
BEHIND_S, MAX_BEHIND_S = 60.0, 600.0
MAX_BEHIND = 4
SILENCE = 1e-2  # of the peak: what is quieter at the ends of a recording is no part of its sound
MAX_OF_A_LABEL = 4
MAX_SOUNDS = 120
GAP_S = (4.0, 11.0)  # from one sound to the next, at least and at most
SOUND_PEAK = (-24.0, -4.0)  # dB of full scale, at least and at most
BED_RMS = {"quiet": 1e-4, "noisy": 0.01}
SURE, SURE_SHARE = 0.1, 0.5  # what a model hears in a sound alone: this score, and this share of the highest
LOW = 0.02  # of events that stand for all thresholds


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """A sound to be placed.

    Args:
        index: the label that it counts for.
        accepted: the labels that are right for it.
        samples: (n,) at 32 kHz.
    """

    index: int
    accepted: frozenset[int]
    samples: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Placed:
    """A sound and where it was put."""

    index: int
    accepted: frozenset[int]
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the sounds.

    Args:
        n_sounds: that were placed.
        n_found: of them meet a row that is right.
        n_rows: rows that meet a sound.
        n_right: of these are right.
        n_gaps: rows that meet none.
        off_s: median distance of the ends of found sounds from the right places, in seconds.
        start_s: median of how late they begin.
        end_s: median of how late they end.
        n_pieces: sounds with several right rows of one label.
        n_short: sounds of at most 1.5 s.
        n_found_short: of these are found.
    """

    n_sounds: int
    n_found: int
    n_rows: int
    n_right: int
    n_gaps: int
    off_s: float
    start_s: float
    end_s: float
    n_pieces: int
    n_short: int
    n_found_short: int


def judge(placed: Sequence[Placed], events: Collection[Event], own: Collection[int] = frozenset()) -> Verdict:
    """Compare events with what was put where.

    Args:
        placed: the sounds.
        events: what was reported.
        own: labels that the bed has by itself, which do not count.
    """
    rows = [event for event in events if event.index not in own]
    right: list[list[Event]] = [[] for _ in placed]
    n_right = n_gaps = 0
    for event in rows:
        met = [n for n, sound in enumerate(placed) if _meet(event, sound)]
        good = [n for n in met if event.index in placed[n].accepted]
        n_gaps += not met
        n_right += bool(good)
        for n in good:
            right[n].append(event)
    late = [
        (min(e.start_s for e in own_rows) - sound.start_s, max(e.end_s for e in own_rows) - sound.end_s)
        for sound, own_rows in zip(placed, right, strict=True)
        if own_rows
    ]
    short = [
        bool(found)
        for sound, found in zip(placed, right, strict=True)
        if sound.end_s - sound.start_s <= SHORT_S
    ]
    return Verdict(
        n_sounds=len(placed),
        n_found=len(late),
        n_rows=len(rows) - n_gaps,
        n_right=n_right,
        n_gaps=n_gaps,
        off_s=median(abs(off) for both in late for off in both) if late else math.nan,
        start_s=median(start for start, _ in late) if late else math.nan,
        end_s=median(end for _, end in late) if late else math.nan,
        n_pieces=sum(max(Counter(e.index for e in found).values(), default=0) > 1 for found in right),
        n_short=len(short),
        n_found_short=sum(short),
    )


def _meet(event: Event, sound: Placed) -> bool:
    return event.start_s < sound.end_s and sound.start_s < event.end_s


def put_together(
    sounds: Sequence[Sound], behind: Sequence[NDArray[np.float32]], *, bed: str = "quiet", seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[Placed]]:
    """A recording of all sounds with gaps between them, on a bed.

    Args:
        sounds: what to place, at levels that differ by up to 20 dB.
        behind: (n,) samples at 32 kHz, each repeated as long as its stretch of a noisy bed lasts.
        bed: "quiet" is white noise at -80 dB; "noisy" has stretches of noise and of what is given, at -40 dB.
        seed: of order, gaps, levels and noise.

    Returns:
        The recording, its bed alone, and what was put where.
    """
    rng = np.random.default_rng(seed)
    order = [sounds[n] for n in rng.permutation(len(sounds))]
    gaps = (rng.uniform(*GAP_S, len(order) + 1) * RATE_HZ).astype(int)
    n_samples = int(gaps.sum()) + sum(len(sound.samples) for sound in order)
    given = list(behind) if bed == "noisy" else []
    ends = np.linspace(0, n_samples, len(given) + 2).astype(int)
    stretches = [rng.standard_normal(ends[1]), *given]
    background = np.concatenate(
        [
            BED_RMS[bed] * _of_rms_1(np.resize(stretch, end - start))
            for stretch, start, end in zip(stretches, ends[:-1], ends[1:], strict=True)
        ]
    ).astype(np.float32)
    recording, placed, position = background.copy(), [], 0
    for sound, gap in zip(order, gaps[:-1], strict=True):
        position += int(gap)
        end = position + len(sound.samples)
        peak = np.float32(10 ** (rng.uniform(*SOUND_PEAK) / 20))
        recording[position:end] += peak * sound.samples / np.abs(sound.samples).max()
        placed.append(Placed(sound.index, sound.accepted, position / RATE_HZ, end / RATE_HZ))
        position = end
    return recording, background, placed


def _of_rms_1(samples: NDArray[np.float64] | NDArray[np.float32]) -> NDArray[np.float32]:
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    return (samples / rms if rms else samples).astype(np.float32)


# ---------------------------------------------------------------------- what a sound is


def accepted(indices: Collection[int], vocabulary: Vocabulary) -> frozenset[int]:
    """Those labels, their kinds, and what they are kinds of."""
    ontology = Ontology.audioset()
    mids = {vocabulary[n].mid for n in indices}
    found = set(indices)
    for label in vocabulary:
        try:
            kinds = {kind.mid for kind in ontology.labels_under(label.mid)} if label.mid else set()
        except UsageError:  # a label that is none of AudioSet's
            continue
        if kinds & mids:
            found.add(label.index)
        if label.index in indices:
            found |= {other.index for other in vocabulary if other.mid in kinds}
    return frozenset(found)


def sounds_in(
    folder: Path, tagger: Tagger, *, labels: Path | None = None
) -> tuple[list[Sound], list[NDArray[np.float32]]]:
    """The sounds of a folder, a few of each label, and what may be heard behind them.

    Args:
        folder: is searched as every command does.
        tagger: says what a sound is where no table does, and gives the vocabulary.
        labels: a table that says it: see `dymn_cli.datasets.label_tables`.

    Raises:
        InputError: no sound, or a table that says nothing of them.
    """
    paths = sorted(found.name for found in find([str(folder)]) if found.problem is None)
    said = None if labels is None else _said(labels, paths, tagger.vocabulary)
    sounds: list[Sound] = []
    behind: list[NDArray[np.float32]] = []
    counts: Counter[int] = Counter()
    known: dict[tuple[int, ...], frozenset[int]] = {}
    for path in paths:
        samples = _read(path)
        duration_s = len(samples) / RATE_HZ
        if duration_s >= BEHIND_S:
            behind.append(samples)
        if not SHORTEST_S <= duration_s <= LONGEST_S:
            continue
        samples = samples[: round(MAX_S * RATE_HZ)]
        own = _heard(tagger, samples) if said is None else said.get(path, ())
        if own and counts[own[0]] < MAX_OF_A_LABEL:
            counts[own[0]] += 1
            if own not in known:
                known[own] = accepted(own, tagger.vocabulary)
            sounds.append(Sound(own[0], known[own], samples))
    if not sounds:
        raise InputError(f"{folder}: no sounds of {SHORTEST_S:g} to {LONGEST_S:g} s that are known")
    return sounds, behind[:: max(1, len(behind) // MAX_BEHIND)][:MAX_BEHIND]


def _heard(tagger: Tagger, samples: NDArray[np.float32]) -> tuple[int, ...]:
    tags = tagger.tag((samples, RATE_HZ), top=5).tags
    least = max(SURE, SURE_SHARE * tags[0].score)
    return tuple(tag.index for tag in tags if tag.score >= least)


def _said(labels: Path, paths: Sequence[str], vocabulary: Vocabulary) -> Mapping[str, tuple[int, ...]]:
    table = read_label_table(labels)
    rows = match_names(paths, [row.name for row in table.rows])
    said: dict[str, tuple[int, ...]] = {}
    for path, n in zip(paths, rows, strict=True):
        if n is not None:
            words = table.rows[n].labels
            said[path] = tuple(vocabulary.find(word).index for word in words)
    if not said:
        raise InputError(f"{labels}: says nothing of these sounds")
    return said


def _read(path: str) -> NDArray[np.float32]:
    """Ten minutes of a recording at most, at 32 kHz without the silence at its ends; nothing if damaged."""
    blocks, n_samples = [np.zeros(0, np.float32)], 0
    try:
        with open_audio(path) as reader:
            for block in to_mono_32k(reader):
                blocks.append(block)
                n_samples += len(block)
                if n_samples >= MAX_BEHIND_S * RATE_HZ:
                    break
    except InputError:
        return blocks[0]
    samples = np.concatenate(blocks)
    heard = np.flatnonzero(np.abs(samples) > SILENCE * np.abs(samples).max(initial=0))
    return samples[heard[0] : heard[-1] + 1] if heard.size else blocks[0]


# ---------------------------------------------------------------------- the table


def open_for_events(model: str, method: Method) -> Tagger:
    """A tagger that cuts sources as `dymn events` does."""
    window_s = default_window_s(method)
    hop_s = default_hop_s(window_s, method)
    return Tagger(model, options=TagOptions(window_s=window_s, hop_s=hop_s, frame_scores=method == "frames"))


def main(
    folder: Path,
    models: Sequence[str],
    *,
    labels: Path | None = None,
    said_by: str | None = None,
    thresholds: Sequence[float] = (),
    methods: Sequence[Method] = ("windows", "frames"),
    seed: int = 0,
) -> Iterator[str]:
    """Measure with the sounds of a folder: the lines of a table.

    Args:
        folder: of sounds.
        models: to be measured.
        labels: a table of what the sounds are.
        said_by: or the model that says it; the first of `models` otherwise.
        thresholds: `on` of the events; the default of the method is always among them.
        methods: to be measured.
        seed: of the recordings.

    Raises:
        InputError: no sound in it that is known.
    """
    with Tagger(said_by or models[0]) as tagger:
        sounds, behind = sounds_in(folder, tagger, labels=labels)
    rng = np.random.default_rng(seed)
    sounds = [sounds[n] for n in sorted(rng.permutation(len(sounds))[:MAX_SOUNDS])]
    n_labels = len({sound.index for sound in sounds})
    yield f"# {len(sounds)} sounds of {n_labels} labels"
    columns = ("bed", "model", "method", "on", "found", "right", "off_s", "start_s", "end_s", "gaps_min")
    yield "\t".join((*columns, "psds1", "pieces", "short", "found_short"))
    for bed in ("quiet", "noisy") if behind else ("quiet",):
        recording, background, placed = put_together(sounds, behind, bed=bed, seed=seed)
        minutes = len(recording) / RATE_HZ / 60
        for model in models:
            for method in methods:
                default = EventOptions(method=method).on_score
                wanted = [EventOptions(method=method, on=on) for on in sorted({default, *thresholds})]
                with open_for_events(model, method) as tagger:
                    area, found = _heard_in(tagger, recording, wanted, placed)
                    own = _events(tagger, background, wanted)
                for options, events, of_bed in zip(wanted, found, own, strict=True):
                    verdict = judge(placed, events, {event.index for event in of_bed})
                    place = (bed, Path(model).stem, method, f"{options.on_score:g}")
                    yield "\t".join((*place, *_cells(verdict, minutes, area)))


def _events(
    tagger: Tagger,
    samples: NDArray[np.float32],
    wanted: Sequence[EventOptions],
    curve: FrameCurve | None = None,
) -> list[tuple[Event, ...]]:
    """Events by several options, from one pass over a recording; a curve takes its windows, too."""
    with tagger.analyse((samples, RATE_HZ)) as analysis:
        detectors = [SourceDetector(options, tagger, source=analysis.name) for options in wanted]
        for row in analysis:
            if curve is not None:
                curve.add(row.window)
            for detector in detectors:
                detector.add(row)
    return [detector.finish() for detector in detectors]


def _heard_in(
    tagger: Tagger,
    recording: NDArray[np.float32],
    wanted: Sequence[EventOptions],
    placed: Sequence[Placed],
) -> tuple[float, list[tuple[Event, ...]]]:
    """PSDS1 and events; PSDS1 by the scores of frames, or of events above a low threshold."""
    classes = sorted({sound.index for sound in placed})
    method = wanted[0].method
    if method == "frames":
        curve = FrameCurve(tagger.frames.steps_of(np.array(classes, np.int64)))
        events = _events(tagger, recording, wanted, curve)
        scores, edges = curve.finish()
        ladders = {n: list(ladder_of_scores(scores[:, at], edges)) for at, n in enumerate(classes)}
    else:
        *events, low = _events(tagger, recording, [*wanted, EventOptions(method=method, on=LOW)])
        by_class = {n: [event for event in low if event.index == n] for n in classes}
        ladders = {
            n: list(ladder_of_events([(e.start_s, e.end_s) for e in own], [e.score for e in own]))
            for n, own in by_class.items()
        }
    true = {n: [(s.start_s, s.end_s) for s in placed if s.index == n] for n in classes}
    rocs = rocs_of([(true, ladders)], classes, len(recording) / RATE_HZ, PSDS1)
    return psds(rocs, PSDS1), events


def _cells(verdict: Verdict, minutes: float, area: float) -> Iterator[str]:
    yield f"{verdict.n_found / verdict.n_sounds:.3f}"
    yield f"{verdict.n_right / verdict.n_rows:.3f}" if verdict.n_rows else "nan"
    for value in (verdict.off_s, verdict.start_s, verdict.end_s, verdict.n_gaps / minutes):
        yield f"{value:.2f}"
    yield f"{area:.3f}"
    for number in (verdict.n_pieces, verdict.n_short, verdict.n_found_short):
        yield str(number)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m dymn_cli.bench.placing", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="*", default=["dymn04_kd"])
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--said-by")
    parser.add_argument("--on", type=float, action="append", default=[])
    parser.add_argument("--method", choices=["frames", "windows"], action="append")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    try:
        for line in main(
            given.folder,
            given.models,
            labels=given.labels,
            said_by=given.said_by,
            thresholds=given.on,
            methods=given.method or ("windows", "frames"),
            seed=given.seed,
        ):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    except DymnError as error:
        sys.exit(f"{error.message} ({error.hint})" if error.hint else error.message)
