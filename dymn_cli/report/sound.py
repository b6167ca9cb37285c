"""What of a recording goes into the page: its spectrogram, and a link to its audio or a copy of it.

A recording is decoded once for both. How fine its pictures are depends on all recordings together, so that
the page stays of a size that a telephone opens: short collections get all that the log-mel has, long ones a
coarse picture of everything and finer ones around events.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.audio.decode import open_audio
from dymn_cli.audio.encode import write_audio
from dymn_cli.audio.resample import RATE_HZ, to_mono_32k
from dymn_cli.errors import InputError, with_hint
from dymn_cli.report.locate import Recordings, link_to
from dymn_cli.report.model import Sound, Source
from dymn_cli.report.spectrogram import N_BANDS, Stretch, spectrogram

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["EMBEDDED_S", "Plan", "duration_of", "hear_source", "plan_pictures"]

EMBEDDED_S = 60.0
"""Recordings up to this length are copied into the page, where that is asked for."""

MAX_EMBEDDED_S = 3600.0  # in all: about 30 MB
PIXELS = 12 << 20  # of all coarse pictures: 6 MB at most
FINE_PIXELS = 6 << 20  # of all finer ones
MAX_PER_S, FINE_PER_S, ENOUGH_PER_S = 50.0, 25.0, 15.0
MIN_WIDTH = 200
AROUND_S = 3.0
UNKNOWN_S = 600.0  # taken for the length of a recording whose header does not say


@dataclass(frozen=True, slots=True)
class Plan:
    """How a recording is shown.

    Args:
        width: columns of its picture.
        finer: stretches with pictures of their own.
        embeds: whether its audio is copied into the page.
    """

    width: int
    finer: tuple[Stretch, ...]
    embeds: bool


def plan_pictures(
    sources: Sequence[Source], durations: Sequence[float | None], *, embed: bool
) -> tuple[Plan, ...]:
    """Share the size of the page out among recordings.

    Args:
        sources: all of them.
        durations: of each, where it is known.
        embed: copy short ones.
    """
    lengths = [UNKNOWN_S if length is None else length for length in durations]
    per_s = min(MAX_PER_S, PIXELS / N_BANDS / max(sum(lengths), 1.0))
    fewest = min(MIN_WIDTH, max(1, PIXELS // N_BANDS // max(len(sources), 1)))
    left, left_s = FINE_PIXELS / N_BANDS, MAX_EMBEDDED_S
    plans = []
    for source, known, length in zip(sources, durations, lengths, strict=True):
        width = max(1, round(min(max(length * per_s, fewest), max(length, 0.1) * 100)))
        finer: list[Stretch] = []
        if width / max(length, 0.1) < ENOUGH_PER_S:
            for stretch in _around(source, length):
                if (stretch[1] - stretch[0]) * FINE_PER_S <= left:
                    left -= (stretch[1] - stretch[0]) * FINE_PER_S
                    finer.append(stretch)
        embeds = embed and known is not None and known <= min(EMBEDDED_S, left_s)
        if embeds:
            left_s -= length
        plans.append(Plan(width, tuple(finer), embeds))
    return tuple(plans)


def _around(source: Source, length_s: float) -> list[Stretch]:
    """The surroundings of its events, joined where they overlap."""
    joined: list[Stretch] = []
    for span in source.spans:
        start, end = max(span.start_s - AROUND_S, 0.0), min(span.end_s + AROUND_S, length_s)
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        elif end > start:
            joined.append((start, end))
    return joined


def duration_of(name: str, recordings: Recordings) -> float | None:
    """What the header of a recording says of its length; None where it says nothing or cannot be read."""
    try:
        reader = open_audio(recordings.path_of(name))
    except InputError:
        return None
    with reader:
        return reader.info.duration_s


def hear_source(source: Source, plan: Plan, recordings: Recordings, page: Path | None, channel: str) -> Sound:
    """Decode a recording for the page.

    What goes wrong is told in the result: a page without one of its recordings is still of use.

    Args:
        source: which one.
        plan: how it is shown.
        recordings: finds it.
        page: the file of the page, or None for standard output.
        channel: that is shown: "mix", or a number; "each" is shown as the mix.
    """
    try:
        path = recordings.path_of(source.name)
    except InputError as error:
        return Sound(problem=with_hint(error.message, error.hint))
    href = link_to(path, page)
    kept: list[NDArray[np.float32]] = []

    def blocks() -> Iterator[NDArray[np.float32]]:
        for block in to_mono_32k(reader, "mix" if channel == "each" else channel):
            if plan.embeds:
                kept.append(block)
            yield block

    try:
        with open_audio(path) as reader:
            tiles = spectrogram(
                blocks(),
                width=plan.width,
                duration_s=reader.info.duration_s,
                finer=plan.finer,
                finer_per_s=FINE_PER_S if plan.finer else 0.0,
            )
            duration_s = reader.duration_s
    except InputError as error:
        return Sound(href, problem=with_hint(error.message, error.hint))
    problem = ""
    if kept:
        href = _copied(np.concatenate(kept))
    elif not href:
        problem = f"{source.name}: a page plays files and web addresses only; --embed-audio copies short ones"
    return Sound(href, tuple(tiles), duration_s, problem)


def _copied(samples: NDArray[np.float32]) -> str:
    """An MP3 as a data URI: every browser plays it, and equal samples give equal bytes."""
    file = io.BytesIO()
    write_audio(file, np.clip(samples, -1, 1), RATE_HZ, container="MP3")
    return "data:audio/mpeg;base64," + base64.b64encode(file.getvalue()).decode()
