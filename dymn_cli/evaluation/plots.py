"""Plot an evaluation: average precision by class, reliability of scores, and confusions.

Plots need matplotlib, which `pip install 'dymn[plot]'` brings; see `dymn_cli.plotting.picture`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dymn_cli.plotting.picture import save_picture
from dymn_cli.values import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dymn_cli.evaluation.evaluate import ClassResult, Evaluation

__all__ = ["draw_evaluation"]

MAX_BARS = 60
MAX_CONFUSED = 30
BLUE, GREY, RED = "#3b6ea5", "#9aa0a6", "#c0504d"
LONGEST_NAME = 34


def draw_evaluation(evaluation: Evaluation, out: str, *, title: str, force: bool = False) -> None:
    """Plot an evaluation to a file.

    Args:
        evaluation: what to plot.
        out: path; its suffix is the kind of picture.
        title: what was evaluated.
        force: replace an existing file.

    Raises:
        UsageError, BackendUnavailableError: see `dymn_cli.plotting.picture.check_picture`.
        OutputError: it cannot be written.
    """
    save_picture(out, lambda: _figure(evaluation, title), force=force)


def _figure(evaluation: Evaluation, title: str) -> Figure:
    from matplotlib.figure import Figure

    shown = _shown(evaluation.classes)
    confusion = evaluation.confusion
    has_matrix = confusion is not None and 2 <= len(confusion.labels) <= MAX_CONFUSED
    right = 4.2
    height = max(4.4 if not has_matrix else 7.4, 1.4 + 0.19 * len(shown))
    figure = Figure(figsize=(5.6 + right, height), layout="constrained")
    figure.suptitle(_plain(title), fontweight="bold")
    grid = figure.add_gridspec(2 if has_matrix else 1, 2, width_ratios=(5.6, right))
    _bars(figure.add_subplot(grid[:, 0]), shown, evaluation)
    _reliability(figure.add_subplot(grid[0, 1]), evaluation)
    if has_matrix:
        _matrix(figure.add_subplot(grid[1, 1]), evaluation)
    return figure


def _shown(classes: tuple[ClassResult, ...]) -> list[ClassResult | None]:
    """The classes by average precision; if too many, the best and the worst with a gap between them."""
    ranked = sorted(classes, key=lambda one: (-one.average_precision, one.label))
    if len(ranked) <= MAX_BARS:
        return list(ranked)
    half = MAX_BARS // 2
    return [*ranked[:half], None, *ranked[-half:]]


def _bars(axes: Axes, shown: list[ClassResult | None], evaluation: Evaluation) -> None:
    places = [n for n, one in enumerate(shown) if one is not None]
    bars = [one for one in shown if one is not None]
    axes.barh(places, [one.average_precision for one in bars], color=BLUE, height=0.72)
    mean = evaluation.mean_average_precision
    axes.axvline(mean, color=RED, linewidth=1.2, linestyle="--")
    for place, one in zip(places, bars, strict=True):
        inside = one.average_precision > 0.86
        axes.text(
            one.average_precision + (-0.012 if inside else 0.012),
            place,
            f"{one.average_precision:.2f}",
            va="center",
            ha="right" if inside else "left",
            fontsize=7,
            color="white" if inside else "black",
        )
    labels = [f"{_cut(one.label)} ({one.n_positive})" for one in bars]
    axes.set_yticks(places, labels, fontsize=8)
    if None in shown:
        between = len(evaluation.classes) - len(bars)
        axes.text(0.5, shown.index(None), f"⋮ {between} more", va="center", ha="center", color=GREY)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel("average precision (in brackets: recordings with the class)")
    axes.set_title(f"{counted(len(evaluation.classes), 'class')}, mean {mean:.3f} (dashed)", fontsize=10)
    axes.grid(axis="x", color="#e3e5e8")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(left=False)


def _reliability(axes: Axes, evaluation: Evaluation) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    most = max(one.count for one in evaluation.bins)
    for one in evaluation.bins:
        # The counts of bins span decades: small ones are drawn faint, not small.
        axes.plot(
            one.mean_score,
            one.share,
            "o",
            color=BLUE,
            markersize=5,
            alpha=0.35 + 0.65 * (one.count / most) ** 0.25,
            markeredgewidth=0,
        )
        axes.annotate(
            f"{one.count:,}",
            (one.mean_score, one.share),
            textcoords="offset points",
            xytext=(5, -9) if one.share > 0.06 else (5, 4),
            fontsize=6.5,
            color=GREY,
        )
    axes.plot(
        [one.mean_score for one in evaluation.bins],
        [one.share for one in evaluation.bins],
        color=BLUE,
        linewidth=1,
        alpha=0.6,
    )
    axes.set_box_aspect(0.82)
    axes.set_anchor("N")
    axes.set_xlim(-0.02, 1.06)
    axes.set_ylim(-0.04, 1.04)
    axes.set_xlabel("score")
    axes.set_ylabel("share that is right")
    axes.set_title(f"Reliability (mean error {evaluation.calibration_error:.3f})", fontsize=10)
    axes.grid(color="#e3e5e8")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _matrix(axes: Axes, evaluation: Evaluation) -> None:
    confusion = evaluation.confusion
    if confusion is None:
        return
    shares = [[cell / max(sum(row), 1) for cell in row] for row in confusion.counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    numbers = range(len(confusion.labels))
    size = 8 if len(confusion.labels) <= 12 else 5
    axes.set_xticks(
        numbers,
        [_cut(one, 14) for one in confusion.labels],
        rotation=60,
        ha="right",
        fontsize=size,
        parse_math=False,
    )
    axes.set_yticks(numbers, [_cut(one, 14) for one in confusion.labels], fontsize=size)
    for row in numbers:
        for column in numbers:
            if confusion.counts[row][column]:
                axes.text(
                    column,
                    row,
                    str(confusion.counts[row][column]),
                    ha="center",
                    va="center",
                    fontsize=size - 1,
                    color="white" if shares[row][column] > 0.5 else "black",
                )
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"Accuracy among these classes {evaluation.accuracy_among:.1%}", fontsize=10)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)


def _cut(label: str, most: int = LONGEST_NAME) -> str:
    text = _plain(label)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _plain(text: str) -> str:
    """One line of valid text."""
    from dymn_cli.writers.spelling import visible

    return visible(text)
