"""Calibrate a model: make a score of frames mean the same for every label.

    python -m dymn_cli.bench.calibrate SOUNDS/ [MODEL] -o OUT.calibration.json
        [--labels FILE.csv | --said-by MODEL] [--rounds N]

Sounds are placed in long recordings, as in `dymn_cli.bench.placing`, with new neighbours, levels and
backgrounds in each round. The model finds events in them with a threshold so low that most are wrong. An
event is right if it overlaps a sound that accepts its label. Logistic regression then gives the chance that
an event is right: on the scale of logits, a slope times the score plus a shift for each label. Shifts of
labels with few events are kept near the mean (a normal prior).

The file holds the difference of each label from the mean, so that scores and thresholds keep their scale: at
any `--on`, events of each label are right as often as those of the average label were. Use recordings that
the model has not learned from; a stronger model (`--said-by`) may label them if no table does.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dymn_cli.audio.resample import RATE_HZ
from dymn_cli.bench.placing import open_for_events, put_together, sounds_in
from dymn_cli.errors import DymnError, InputError
from dymn_cli.tagging.calibration import Calibration, calibration_document
from dymn_cli.tagging.event_options import EventOptions
from dymn_cli.tagging.events import events_of
from dymn_cli.tagging.tagger import Tagger
from dymn_cli.writers.target import check_target, open_target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.labels import Vocabulary

__all__ = ["Fit", "calibration_of", "fit", "trials"]

LOW = 0.03  # threshold of the events to learn from
SPREAD = 1.0  # standard deviation of the prior of a shift, on the scale of logits
SLOPES = (0.2, 5.0)
MAX_STEPS = 100
SOUNDS_A_ROUND = 300
TINY = 1e-6


class Fit(NamedTuple):
    """The chance that an event is right: sigmoid(slope · logit + shift of its label).

    Args:
        slope: of all labels.
        mean: the shift of the average label.
        shifts: (n_labels,) of each.
    """

    slope: float
    mean: float
    shifts: NDArray[np.float64]


def fit(
    scores: NDArray[np.float64], labels: NDArray[np.int64], right: NDArray[np.bool_], n_labels: int
) -> Fit:
    """Fit by Newton's method; the optimum is unique.

    Args:
        scores: (n,) of events, in (0, 1).
        labels: (n,) of the events, as indices.
        right: (n,) whether each event is right.
        n_labels: of the model.

    Raises:
        InputError: all events are right, or all are wrong.
    """
    if not right.any() or right.all():
        raise InputError("all events are right or all are wrong: nothing can be learned", hint="add sounds")
    safe = np.clip(scores, TINY, 1 - TINY)
    logits = np.log(safe / (1 - safe))
    slope, mean = 1.0, 0.0
    shifts = np.zeros(n_labels)  # from the mean
    for _ in range(MAX_STEPS):
        chance = 1 / (1 + np.exp(-(slope * logits + mean + shifts[labels])))
        off, weight = right - chance, chance * (1 - chance)
        # Eliminate the shifts: each has one equation, in itself and the two common numbers.
        own = np.bincount(labels, weight, n_labels) + 1 / SPREAD**2
        own_slope = np.bincount(labels, weight * logits, n_labels)
        own_mean = own - 1 / SPREAD**2
        gradient = np.bincount(labels, off, n_labels) - shifts / SPREAD**2
        common = np.array([off @ logits, off.sum()])
        matrix = np.array(
            [[weight @ logits**2, weight @ logits], [weight @ logits, weight.sum()]]
        ) + 1e-9 * np.eye(2)
        both = np.stack([own_slope, own_mean])
        change = np.linalg.solve(matrix - (both / own) @ both.T, common - both @ (gradient / own))
        step = (gradient - change @ both) / own
        size = max(1.0, float(np.abs(change).max()))  # no leap beyond where the quadratic holds
        slope, mean = slope + change[0] / size, mean + change[1] / size
        shifts = shifts + step / size
        if max(np.abs(change).max(), np.abs(step).max()) < 1e-8:
            break
    return Fit(float(np.clip(slope, *SLOPES)), float(mean), mean + shifts)


def trials(
    tagger: Tagger, folder: Path, speaker: Tagger, *, labels: Path | None, n_rounds: int, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]:
    """Find events in recordings of placed sounds: their scores, labels, and whether they are right.

    Args:
        tagger: finds them, as `dymn events` does.
        folder: of sounds.
        speaker: labels the sounds if no table does.
        labels: the table.
        n_rounds: recordings of each bed.
        seed: of the recordings.

    Raises:
        InputError: no sounds.
    """
    sounds, behind = sounds_in(folder, speaker, labels=labels)
    scores: list[float] = []
    indices: list[int] = []
    right: list[bool] = []
    for n in range(n_rounds):
        chosen = np.random.default_rng((seed, n)).permutation(len(sounds))[:SOUNDS_A_ROUND]
        for bed in ("quiet", "noisy") if behind else ("quiet",):
            few = [sounds[number] for number in chosen]
            recording, background, placed = put_together(few, behind, bed=bed, seed=seed + n)
            found = events_of(tagger, (recording, RATE_HZ), EventOptions(on=LOW)).events
            own = {event.index for event in events_of(tagger, (background, RATE_HZ)).events}
            for event in found:
                if event.index in own:
                    continue
                met = [s for s in placed if event.start_s < s.end_s and s.start_s < event.end_s]
                scores.append(event.score)
                indices.append(event.index)
                right.append(any(event.index in sound.accepted for sound in met))
    return np.array(scores), np.array(indices, np.int64), np.array(right, np.bool_)


def calibration_of(fitted: Fit, vocabulary: Vocabulary) -> Calibration:
    """The difference of each label from the average one, on the scale of the model's scores."""
    shifts = (fitted.shifts - fitted.mean) / fitted.slope
    return Calibration(1.0, np.round(shifts, 4), np.ones(len(vocabulary), np.int64))


def main(
    folder: Path,
    model: str,
    out: str,
    *,
    labels: Path | None = None,
    said_by: str | None = None,
    n_rounds: int = 3,
    force: bool = False,
) -> str:
    """Make a calibration file; returns a line about it.

    Raises:
        InputError: no sounds, or nothing to learn from.
        OutputError: the file cannot be written.
    """
    check_target(out, force=force)
    with open_for_events(model, "frames") as tagger, Tagger(said_by or model) as speaker:
        tagger.frames = dataclasses.replace(tagger.frames, calibration=None)  # not its present one
        scores, indices, right = trials(tagger, folder, speaker, labels=labels, n_rounds=n_rounds)
        fitted = fit(scores, indices, right, len(tagger.vocabulary))
        made = calibration_of(fitted, tagger.vocabulary)
        n_labels = len(np.unique(indices))
        words = (
            f"{len(scores)} events of {n_labels} labels, {right.mean():.0%} right, slope {fitted.slope:.2f}"
        )
        document = calibration_document(
            made, tagger.vocabulary, tagger.model.sha256, common=0.0, made_with=words
        )
    with open_target(out, force=force) as target:
        target.stream.write(document)
    return words


def _arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m dymn_cli.bench.calibrate", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model", nargs="?", default="dymn04_kd")
    parser.add_argument("-o", "--out", required=True)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--said-by")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--force", action="store_true")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    given = _arguments()
    try:
        said = main(
            given.folder,
            given.model,
            given.out,
            labels=given.labels,
            said_by=given.said_by,
            n_rounds=given.rounds,
            force=given.force,
        )
    except DymnError as error:
        sys.exit(f"{error.message} ({error.hint})" if error.hint else error.message)
    sys.stdout.write(f"{given.out}: {said}\n")
