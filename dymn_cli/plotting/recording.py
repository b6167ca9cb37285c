"""A picture of a recording for a paper: spectrogram, and below it its events or its highest scores over time.

The hertz axis has the spacing of the mel scale, as the network hears. Levels are in decibels below the
loudest value of the picture, after the front end's pre-emphasis.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

import numpy as np

from dymn_cli.frontend.melbank import MEL_BREAK_HZ, MEL_FACTOR
from dymn_cli.writers.spelling import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from dymn_cli.plotting.spectrogram import Spectrogram
    from dymn_cli.results import Event

__all__ = ["MAX_LANES", "Curves", "draw_recording", "lanes_of"]

MAX_LANES = 15
RANGE_DB = 80
WIDTH_IN = 7.2  # of two columns of a paper
TICKS_HZ = (250, 500, 1000, 2000, 4000, 8000, 12000)
LONGEST_NAME = 30
BLUE = "#2b6ca3"
# Okabe and Ito's colours, which people with colour blindness tell apart; then again, dashed.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Scores of some labels over time.

    Args:
        labels: their names.
        times_s: (n_steps,) the middle of each step in the recording.
        scores: (n_labels, n_steps) in [0, 1].
    """

    labels: tuple[str, ...]
    times_s: NDArray[np.float64]
    scores: NDArray[np.float32]


def lanes_of(events: Iterable[Event]) -> list[tuple[str, list[Event]]]:
    """The events of each label; the labels with the highest scores, `MAX_LANES` at most, as they begin."""
    lanes: dict[str, list[Event]] = {}
    for event in sorted(events, key=lambda event: event.start_s):
        lanes.setdefault(event.label, []).append(event)
    best = sorted(lanes, key=lambda label: -max(_score(event) for event in lanes[label]))[:MAX_LANES]
    return [(label, lanes[label]) for label in lanes if label in best]


def _score(event: Event) -> float:
    return 1.0 if math.isnan(event.score) else event.score


def draw_recording(
    spectrogram: Spectrogram, *, title: str = "", events: Sequence[Event] = (), curves: Curves | None = None
) -> Figure:
    """Draw a recording.

    Args:
        spectrogram: of the stretch that is shown.
        title: above it; "" for none.
        events: those that reach into it, each label in a lane of its own.
        curves: scores over time.
    """
    from matplotlib.figure import Figure

    lanes = lanes_of(events)
    heights = [2.5, *([0.19 * len(lanes) + 0.12] if lanes else []), *([1.7] if curves else [])]
    figure = Figure(figsize=(WIDTH_IN, sum(heights) + 0.75), layout="constrained")
    if title:
        figure.suptitle(_short(title, 80), fontsize=10)
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    top = figure.add_subplot(grid[0])
    every = [top, *(figure.add_subplot(grid[n], sharex=top) for n in range(1, len(heights)))]
    _draw_spectrogram(top, spectrogram, figure)
    if lanes:
        _draw_lanes(every[1], lanes)
    if curves is not None:
        _draw_curves(every[-1], curves)
    for axes in every:
        axes.set_xlim(spectrogram.start_s, spectrogram.end_s)
        axes.tick_params(labelbottom=axes is every[-1])
    _label_times(every[-1], spectrogram.end_s)
    return figure


def _draw_spectrogram(axes: Axes, spectrogram: Spectrogram, figure: Figure) -> None:
    config, levels = spectrogram.config, spectrogram.levels - spectrogram.levels.max()
    low, high = _mel(config.fmin_hz), _mel(config.fmax_hz)
    half = (high - low) / (config.n_mels + 1) / 2  # of a band: triangles overlap by half
    end_s = spectrogram.start_s + spectrogram.column_s * levels.shape[1]
    image = axes.imshow(
        levels,
        origin="lower",
        aspect="auto",
        extent=(spectrogram.start_s, end_s, low + half, high - half),
        cmap="magma",
        vmin=max(-RANGE_DB, float(levels.min())),
        vmax=0,
        interpolation="nearest" if levels.shape[1] < WIDTH_IN * 100 else "antialiased",
    )
    ticks = [hz for hz in TICKS_HZ if config.fmin_hz <= hz <= config.fmax_hz]
    axes.set_yticks([_mel(hz) for hz in ticks], [f"{hz / 1000:g}" for hz in ticks])
    axes.set_ylim(low + half, high - half)
    axes.set_ylabel("frequency (kHz)")
    bar = figure.colorbar(image, ax=axes, pad=0.012, fraction=0.04, aspect=22)
    bar.set_label("level (dB re maximum)")
    bar.outline.set_linewidth(0.5)


def _draw_lanes(axes: Axes, lanes: list[tuple[str, list[Event]]]) -> None:
    for n, (_, events) in enumerate(lanes):
        axes.broken_barh(
            [(event.start_s, event.end_s - event.start_s) for event in events],
            (n - 0.36, 0.72),
            facecolors=[(*_rgb(BLUE), 0.3 + 0.7 * _score(event)) for event in events],
            edgecolors=BLUE,
            linewidth=0.6,
        )
    axes.set_yticks(range(len(lanes)), [_short(label) for label, _ in lanes], fontsize=8)
    axes.set_ylim(len(lanes) - 0.4, -0.6)
    axes.tick_params(left=False)
    axes.grid(axis="x", color="#e3e5e8", linewidth=0.6)
    _open_frame(axes)


def _draw_curves(axes: Axes, curves: Curves) -> None:
    for n, (label, scores) in enumerate(zip(curves.labels, curves.scores, strict=True)):
        axes.plot(
            curves.times_s,
            scores,
            color=COLOURS[n % len(COLOURS)],
            linestyle="-" if n < len(COLOURS) else "--",
            linewidth=1.2,
            label=_short(label),
        )
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("score")
    axes.grid(color="#e3e5e8", linewidth=0.6)
    _open_frame(axes)
    n_columns = 1 if len(curves.labels) == 1 else 2 if max(map(len, curves.labels)) > 22 else 3
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.34), ncols=n_columns, fontsize=8, frameon=False)


def _open_frame(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _label_times(axes: Axes, end_s: float) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

    low, high = axes.get_xlim()
    if end_s < 120:
        axes.xaxis.set_major_locator(MaxNLocator(8))
        axes.set_xlabel("time (s)")
        return
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 4 * 3600, 6 * 3600, 12 * 3600)
    step = next((step for step in steps if (high - low) / step <= 8), 24 * 3600)
    axes.xaxis.set_major_locator(MultipleLocator(step))
    has_hours = end_s >= 3600
    axes.xaxis.set_major_formatter(FuncFormatter(lambda s, _: _clock(s, has_hours=has_hours)))
    axes.set_xlabel("time (h:min:s)" if has_hours else "time (min:s)")


def _clock(time_s: float, *, has_hours: bool) -> str:
    minutes, seconds = divmod(round(time_s), 60)
    if not has_hours:
        return f"{minutes}:{seconds:02d}"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def _mel(hz: float) -> float:
    return MEL_FACTOR * math.log1p(hz / MEL_BREAK_HZ)


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5))
    return red, green, blue


def _short(text: str, most: int = LONGEST_NAME) -> str:
    shown = visible(text)
    ends = list(accumulate(2 if east_asian_width(letter) in "WF" else 1 for letter in shown))
    return shown if not ends or ends[-1] <= most else f"{shown[: bisect_right(ends, most - 1)]}…"
