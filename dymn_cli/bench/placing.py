"""Measure how well `dymn events` finds known sounds at known times of a long recording, and their ends.

    python -m dymn_cli.bench.placing SOUNDS/ [MODEL ...] [--labels FILE.csv | --said-by MODEL] [--on X ...]

Recordings in the folder that last 0.3 to 20 s are the sounds, cut to five seconds; those of a minute or more,
music and places, are the background. Two recordings are made: all sounds on an almost silent background, and
all of them on noise, music and places.

The labels of a sound are in a table (file,label; any one of several labels is right), or are those that a
model, `--said-by` or else the first one, gives the sound alone with a high score. A label is accepted for a
sound if it is one of these, a kind of one, or what one is a kind of. An event is right if it overlaps a sound
that accepts its label. Labels that the background has by itself do not count.

    found      share of the sounds that a right event overlaps
    right      share of the events that overlap a sound and are right
    off_s      median distance of the ends of found sounds from the true ends, in seconds
    start_s    median delay of their starts
    end_s      median delay of their ends
    gaps_min   events a minute where there is no sound
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
from dymn_cli.datasets.name_matching import pair_names
from dymn_cli.errors import DymnError, InputError, UsageError
from dymn_cli.evaluation.event_metrics import PSDS1, ladder_of_events, psds, rocs_of
from dymn_cli.evaluation.event_predictions import find_events
from dymn_cli.labels import Ontology
from dymn_cli.tagging.event_options import EventOptions, Method, default_hop_s, default_window_s
from dymn_cli.tagging.options import TagOptions
from dymn_cli.tagging.tagger import Tagger

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.labels import Vocabulary
    from dymn_cli.results import Event

__all__ = ["Placed", "Sound", "Verdict", "accepted", "judge", "open_for_events", "put_together", "sounds_in"]

SHORTEST_S, LONGEST_S, MAX_S = 0.3, 20.0, 5.0
BEHIND_S, MAX_BEHIND_S = 60.0, 600.0
MAX_BEHIND = 4
SILENCE = 1e-2  # of the peak: quieter ends of a recording are cut off
MAX_OF_A_LABEL = 4
MAX_SOUNDS = 120
GAP_S = (4.0, 11.0)  # between two sounds, at least and at most
SOUND_PEAK = (-24.0, -4.0)  # dB of full scale, at least and at most
BED_RMS = {"quiet": 1e-4, "noisy": 0.01}
SURE, SURE_SHARE = 0.1, 0.5  # labels that a model gives a sound: this score, and this share of the highest
LOW = 0.02  # threshold of the events that stand for all thresholds


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """A sound to place.

    Args:
        index: its first label.
        accepted: the labels that are right for it.
        samples: (n,) at 32 kHz.
    """

    index: int
    accepted: frozenset[int]
    samples: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Placed:
    """The labels of a sound and its time in a recording."""

    index: int
    accepted: frozenset[int]
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """How well the events fit the sounds.

    Args:
        n_sounds: that were placed.
        n_found: sounds that a right event overlaps.
        n_rows: events that overlap a sound.
        n_right: of these are right.
        n_gaps: events that overlap none.
        off_s: median distance of the ends of found sounds from the true ends, in seconds.
        start_s: median delay of their starts.
        end_s: median delay of their ends.
    """

    n_sounds: int
    n_found: int
    n_rows: int
    n_right: int
    n_gaps: int
    off_s: float
    start_s: float
    end_s: float


def judge(placed: Sequence[Placed], events: Collection[Event], own: Collection[int] = frozenset()) -> Verdict:
    """Compare events with the sounds that were placed.

    Args:
        placed: the sounds.
        events: that were found.
        own: labels that the background has by itself, which do not count.
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
    return Verdict(
        n_sounds=len(placed),
        n_found=len(late),
        n_rows=len(rows) - n_gaps,
        n_right=n_right,
        n_gaps=n_gaps,
        off_s=median(abs(off) for both in late for off in both) if late else math.nan,
        start_s=median(start for start, _ in late) if late else math.nan,
        end_s=median(end for _, end in late) if late else math.nan,
    )


def _meet(event: Event, sound: Placed) -> bool:
    return event.start_s < sound.end_s and sound.start_s < event.end_s


def put_together(
    sounds: Sequence[Sound], behind: Sequence[NDArray[np.float32]], *, bed: str = "quiet", seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[Placed]]:
    """Make a recording of all sounds with gaps between them, on a background.

    Args:
        sounds: to place, at levels that differ by up to 20 dB.
        behind: (n,) samples at 32 kHz of backgrounds, each repeated to fill its part of a noisy bed.
        bed: "quiet" is white noise at -80 dB; "noisy" has parts of noise and of the backgrounds, at -40 dB.
        seed: of order, gaps, levels and noise.

    Returns:
        The recording, its background alone, and the times of the sounds.
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


# ---------------------------------------------------------------------- labels of sounds


def accepted(indices: Collection[int], vocabulary: Vocabulary) -> frozenset[int]:
    """These labels, all kinds of them, and what they are kinds of."""
    ontology = Ontology.audioset()
    mids = {vocabulary[n].mid for n in indices}
    found = set(indices)
    for label in vocabulary:
        try:
            kinds = {kind.mid for kind in ontology.labels_under(label.mid)} if label.mid else set()
        except UsageError:  # not a label of AudioSet
            continue
        if kinds & mids:
            found.add(label.index)
        if label.index in indices:
            found |= {other.index for other in vocabulary if other.mid in kinds}
    return frozenset(found)


def sounds_in(
    folder: Path, tagger: Tagger, *, labels: Path | None = None
) -> tuple[list[Sound], list[NDArray[np.float32]]]:
    """The sounds of a folder, a few of each label, and backgrounds.

    Args:
        folder: searched as by every command.
        tagger: labels the sounds if no table does, and has the vocabulary.
        labels: a table of labels: see `dymn_cli.datasets.label_tables`.

    Raises:
        InputError: no sound, or a table without any of them.
    """
    paths = sorted(found.name for found in find([str(folder)]) if found.problem is None)
    said = None if labels is None else _labels_by_table(labels, paths, tagger.vocabulary)
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
        own = _labels_by_model(tagger, samples) if said is None else said.get(path, ())
        if own and counts[own[0]] < MAX_OF_A_LABEL:
            counts[own[0]] += 1
            if own not in known:
                known[own] = accepted(own, tagger.vocabulary)
            sounds.append(Sound(own[0], known[own], samples))
    if not sounds:
        raise InputError(f"{folder}: no sounds of {SHORTEST_S:g} to {LONGEST_S:g} s with known labels")
    return sounds, behind[:: max(1, len(behind) // MAX_BEHIND)][:MAX_BEHIND]


def _labels_by_model(tagger: Tagger, samples: NDArray[np.float32]) -> tuple[int, ...]:
    tags = tagger.tag((samples, RATE_HZ), top=5).tags
    least = max(SURE, SURE_SHARE * tags[0].score)
    return tuple(tag.index for tag in tags if tag.score >= least)


def _labels_by_table(
    labels: Path, paths: Sequence[str], vocabulary: Vocabulary
) -> Mapping[str, tuple[int, ...]]:
    table = read_label_table(labels)
    rows = pair_names(table.path, paths, [row.source for row in table.rows])
    return {
        path: tuple(vocabulary.find(word).index for word in table.rows[n].labels)
        for path, n in zip(paths, rows, strict=True)
        if n is not None
    }


def _read(path: str) -> NDArray[np.float32]:
    """At most ten minutes of a recording at 32 kHz, without silence at its ends; nothing if damaged."""
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
    """Open a tagger that cuts sources as `dymn events` does."""
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
    """Measure with the sounds of a folder; yields the lines of a table.

    Args:
        folder: of sounds.
        models: to measure.
        labels: a table of the labels of the sounds.
        said_by: or a model that labels them; the first of `models` by default.
        thresholds: `on` of the events, besides the default of the method.
        methods: to measure.
        seed: of the recordings.

    Raises:
        InputError: no sound in the folder has a known label.
    """
    with Tagger(said_by or models[0]) as tagger:
        sounds, behind = sounds_in(folder, tagger, labels=labels)
    rng = np.random.default_rng(seed)
    sounds = [sounds[n] for n in sorted(rng.permutation(len(sounds))[:MAX_SOUNDS])]
    n_labels = len({sound.index for sound in sounds})
    yield f"# {len(sounds)} sounds of {n_labels} labels"
    columns = ("bed", "model", "method", "on", "found", "right", "off_s", "start_s", "end_s", "gaps_min")
    yield "\t".join((*columns, "psds1"))
    for bed in ("quiet", "noisy") if behind else ("quiet",):
        recording, background, placed = put_together(sounds, behind, bed=bed, seed=seed)
        minutes = len(recording) / RATE_HZ / 60
        for model in models:
            for method in methods:
                default = EventOptions(method=method).on_score
                wanted = [EventOptions(method=method, on=on) for on in sorted({default, *thresholds})]
                with open_for_events(model, method) as tagger:
                    area, found = _found_in(tagger, recording, wanted, placed)
                    own, _, _ = find_events(tagger, (background, RATE_HZ), wanted)
                for options, events, of_bed in zip(wanted, found, own, strict=True):
                    verdict = judge(placed, events, {event.index for event in of_bed})
                    place = (bed, Path(model).stem, method, f"{options.on_score:g}")
                    yield "\t".join((*place, *_cells(verdict, minutes, area)))


def _found_in(
    tagger: Tagger, recording: NDArray[np.float32], wanted: Sequence[EventOptions], placed: Sequence[Placed]
) -> tuple[float, list[tuple[Event, ...]]]:
    """PSDS1 and the events; PSDS1 from scores of frames, or from events above a low threshold."""
    classes = sorted({sound.index for sound in placed})
    source, method = (recording, RATE_HZ), wanted[0].method
    if method == "frames":
        events, ladders, _ = find_events(tagger, source, wanted, classes)
    else:
        (*events, low), _, _ = find_events(tagger, source, [*wanted, EventOptions(method=method, on=LOW)])
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
