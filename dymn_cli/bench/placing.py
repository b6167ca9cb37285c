"""How well `dymn events` finds sounds and their ends: known sounds in known places of a long recording.

    python -m dymn_cli.bench.placing SOUNDS/ [MODEL]

Recordings in the folder that last 1 to 20 s are the sounds; those of a minute and more, music and places, are
heard behind them. What a sound is, the model says itself when it hears it alone: its best label, if that
reaches the threshold of an event. So it is not measured how well the model knows sounds, but what becomes of
them in a recording: how many are found again, how far off their ends are, how many come out in pieces, and
how many rows there are where nothing was put. Labels that the background has by itself do not count.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.audio.decode import open_audio
from dymn_cli.audio.resample import RATE_HZ, to_mono_32k
from dymn_cli.batch.discover import find
from dymn_cli.errors import InputError
from dymn_cli.tagging.events import EventOptions, default_hop_s, events_of
from dymn_cli.tagging.options import TagOptions
from dymn_cli.tagging.tagger import Tagger

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.results import Event

__all__ = ["Placed", "Verdict", "judge", "put_together"]

SHORTEST_S, LONGEST_S = 1.0, 20.0
SHORT_S = 1.5
BEHIND_S, MOST_BEHIND_S = 60.0, 600.0
MOST_BEHIND = 4
SILENCE = 1e-3  # of the peak: what is quieter at the ends of a recording is no part of its sound
MOST_OF_A_LABEL = 4
GAP_S = (8.0, 16.0)  # from one sound to the next, at least and at most
SOUND_RMS, BACKGROUND_RMS = 0.1, 0.01
SETTINGS = ((10.0, 10.0), (10.0, None), (5.0, None), (2.0, None), (1.0, None))  # window and hop in seconds


@dataclass(frozen=True, slots=True)
class Placed:
    """A sound and where it was put."""

    index: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the sounds.

    Args:
        n_found: of them have an event of their label.
        off_s: median distance of the ends of those from the right places, in seconds.
        n_pieces: sounds with more than one event.
        n_more: events of the sounds' labels where no sound is.
        n_short: sounds of at most 1.5 s.
        n_found_short: of these are found.
    """

    n_found: int
    off_s: float
    n_pieces: int
    n_more: int
    n_short: int
    n_found_short: int


def judge(placed: Sequence[Placed], events: Collection[Event]) -> Verdict:
    """Compare events with what was put where; an event belongs to a sound of its label that it meets."""
    labels = {sound.index for sound in placed}
    of_sound = [
        [event for event in events if event.index == sound.index and _meet(event, sound)] for sound in placed
    ]
    offs = [
        off
        for sound, own in zip(placed, of_sound, strict=True)
        if own
        for off in (
            abs(min(event.start_s for event in own) - sound.start_s),
            abs(max(event.end_s for event in own) - sound.end_s),
        )
    ]
    short = [
        bool(own) for sound, own in zip(placed, of_sound, strict=True) if sound.end_s - sound.start_s <= 1.5
    ]
    return Verdict(
        n_found=sum(map(bool, of_sound)),
        off_s=median(offs) if offs else float("nan"),
        n_pieces=sum(len(own) > 1 for own in of_sound),
        n_more=sum(
            event.index in labels and not any(_meet(event, sound) for sound in placed) for event in events
        ),
        n_short=len(short),
        n_found_short=sum(short),
    )


def _meet(event: Event, sound: Placed) -> bool:
    return event.start_s < sound.end_s and sound.start_s < event.end_s


def put_together(
    sounds: Sequence[tuple[int, NDArray[np.float32]]], behind: Sequence[NDArray[np.float32]], seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[Placed]]:
    """A recording of all sounds with gaps between them, over stretches of quiet, noise and what is given.

    Args:
        sounds: label and (n,) samples at 32 kHz of each.
        behind: (n,) samples at 32 kHz, repeated as long as their stretch lasts.
        seed: of order, gaps and noise.

    Returns:
        The recording, its background alone, and what was put where.
    """
    rng = np.random.default_rng(seed)
    order = [sounds[n] for n in rng.permutation(len(sounds))]
    gaps = (rng.uniform(*GAP_S, len(order) + 1) * RATE_HZ).astype(int)
    n_samples = int(gaps.sum()) + sum(len(samples) for _, samples in order)
    ends = np.linspace(0, n_samples, len(behind) + 3).astype(int)
    noise = rng.standard_normal(ends[2] - ends[1])
    stretches = [np.zeros(ends[1]), noise, *behind]
    background = np.concatenate(
        [
            BACKGROUND_RMS * _of_rms_1(np.resize(stretch, end - start))
            for stretch, start, end in zip(stretches, ends[:-1], ends[1:], strict=True)
        ]
    ).astype(np.float32)
    recording, placed, position = background.copy(), [], 0
    for (index, samples), gap in zip(order, gaps[:-1], strict=True):
        position += int(gap)
        end = position + len(samples)
        recording[position:end] += np.float32(SOUND_RMS) * _of_rms_1(samples)
        placed.append(Placed(index, position / RATE_HZ, end / RATE_HZ))
        position = end
    return recording, background, placed


def _of_rms_1(samples: NDArray[np.float64] | NDArray[np.float32]) -> NDArray[np.float32]:
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    return (samples / rms if rms else samples).astype(np.float32)


def _read(folder: Path) -> Iterator[NDArray[np.float32]]:
    """What can be read in a folder, ten minutes of it at most, at 32 kHz without the silence at its ends."""
    for path in sorted(Path(found.name) for found in find([str(folder)]) if found.problem is None):
        blocks, n_samples = [], 0
        try:
            with open_audio(path) as reader:
                for block in to_mono_32k(reader):
                    blocks.append(block)
                    n_samples += len(block)
                    if n_samples >= MOST_BEHIND_S * RATE_HZ:
                        break
        except InputError:
            continue
        samples = np.concatenate(blocks)
        heard = np.flatnonzero(np.abs(samples) > SILENCE * np.abs(samples).max())
        if heard.size:
            yield samples[heard[0] : heard[-1] + 1]


def main(folder: Path, model: str) -> Iterator[str]:
    """Measure with the sounds of a folder: the lines of a table, one for each way to cut.

    Raises:
        InputError: no sound in it that the model knows.
    """
    with Tagger(model) as tagger:
        sounds, behind = _chosen(folder, tagger)
        _, background, _ = put_together(sounds, behind)
        own = {event.index for event in events_of(tagger, (background, RATE_HZ)).events}
    sounds = [sound for sound in sounds if sound[0] not in own]
    if not sounds:
        raise InputError(f"{folder}: no sounds of 1 to 20 s that the model knows")
    recording, _, placed = put_together(sounds, behind)
    n_labels = len({sound.index for sound in placed})
    yield f"# {len(placed)} sounds of {n_labels} labels in {len(recording) / RATE_HZ / 60:.0f} min"
    yield "\t".join(("window_s", "hop_s", "found", "off_s", "more", "pieces", "short", "found_short"))
    for window_s, hop_s in SETTINGS:
        options = TagOptions(window_s=window_s, hop_s=hop_s or default_hop_s(window_s))
        with Tagger(model, options=options) as tagger:
            verdict = judge(placed, events_of(tagger, (recording, RATE_HZ)).events)
        share = f"{verdict.n_found / len(placed):.0%}"
        cells = (share, f"{verdict.off_s:.2f}", verdict.n_more, verdict.n_pieces)
        short = (verdict.n_short, verdict.n_found_short)
        yield "\t".join(map(str, (window_s, options.hop_s, *cells, *short)))


def _chosen(
    folder: Path, tagger: Tagger
) -> tuple[list[tuple[int, NDArray[np.float32]]], list[NDArray[np.float32]]]:
    """Sounds that the model knows, a few of each label, and what is heard behind them."""
    threshold = EventOptions(method="windows").on_score
    sounds: list[tuple[int, NDArray[np.float32]]] = []
    behind: list[NDArray[np.float32]] = []
    counts: Counter[int] = Counter()
    for samples in _read(folder):
        duration_s = len(samples) / RATE_HZ
        if duration_s >= BEHIND_S:
            behind.append(samples)
        elif SHORTEST_S <= duration_s <= LONGEST_S:
            best = tagger.tag((samples, RATE_HZ)).tags[0]
            if best.score >= threshold and counts[best.index] < MOST_OF_A_LABEL:
                counts[best.index] += 1
                sounds.append((best.index, samples))
    return sounds, behind[:: max(1, len(behind) // MOST_BEHIND)][:MOST_BEHIND]


if __name__ == "__main__":
    for line in main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "dymn04_kd"):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
