"""The figures of `dymn eval` for events."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dymn_cli.cli.terminal.tables import Listing, grid, write_listing
from dymn_cli.cli.views.evaluation import number, short

if TYPE_CHECKING:
    from rich.console import Console, Group

    from dymn_cli.cli.options.groups import OutputOptions
    from dymn_cli.cli.terminal.messages import Messages
    from dymn_cli.evaluation.evaluate_events import EventEvaluation
    from dymn_cli.evaluation.event_metrics import Counts

__all__ = ["COLUMNS", "write_event_evaluation"]

COLUMNS = (
    "label", "mid", "n_events", "event_precision", "event_recall", "event_f1", "intersection_precision",
    "intersection_recall", "intersection_f1", "psds1", "psds2",
)  # fmt: skip


def write_event_evaluation(
    evaluation: EventEvaluation, output: OutputOptions, form: str, messages: Messages
) -> None:
    """Write figures in a form, and the ones over all classes as a message.

    Raises:
        OutputError: they cannot be written.
    """
    from dymn_cli.values import counted
    from dymn_cli.writers.target import is_stdout

    document = evaluation.document()
    listing = Listing(COLUMNS, _rows(evaluation), document, lambda console: _tables(evaluation, console))
    write_listing(listing, form, messages, output.out, header=output.header, force=output.force)
    if form != "table" or not is_stdout(output.out):
        size = f"{counted(evaluation.n_recordings, 'recording')}, {counted(len(evaluation.classes), 'class')}"
        messages.note(f"{size}: {_figures(evaluation)}")


def _rows(evaluation: EventEvaluation) -> Iterator[tuple[object, ...]]:
    for one in evaluation.classes:
        figures = (*_quality(one.by_ends), *_quality(one.by_intersection), one.psds1, one.psds2)
        yield (one.label, one.mid, one.by_ends.n_true, *map(number, figures))


def _quality(counts: Counts) -> tuple[float, float, float]:
    return counts.precision, counts.recall, counts.f1


def _figures(evaluation: EventEvaluation) -> str:
    """The figures over all classes, in a line."""
    parts = [
        f"event-based F1 {evaluation.event_f1:.3f}",
        f"intersection-based F1 {evaluation.intersection_f1:.3f}",
    ]
    if not math.isnan(evaluation.psds1):
        parts += [f"PSDS1 {evaluation.psds1:.3f}", f"PSDS2 {evaluation.psds2:.3f} (of {evaluation.curve})"]
    return ", ".join(parts)


def _tables(evaluation: EventEvaluation, console: Console) -> Group:
    from rich.console import Group
    from rich.text import Text

    from dymn_cli.values import counted
    from dymn_cli.writers.spelling import visible

    right = {"justify": "right"}
    names = ("events", "prec.", "recall", "F1", "prec. ∩", "recall ∩", "F1 ∩", "PSDS1", "PSDS2")
    table = grid(("class", {}), *((name, right) for name in names))
    for one in sorted(evaluation.classes, key=lambda one: (-one.by_intersection.f1, one.label)):
        quality = (*_quality(one.by_ends), *_quality(one.by_intersection))
        table.add_row(
            Text(visible(one.label, console.encoding)),
            str(one.by_ends.n_true),
            *(short(value, 2) for value in quality),
            *(short(value, 3) for value in (one.psds1, one.psds2)),
        )
    size = counted(evaluation.n_recordings, "recording"), counted(evaluation.event_total.n_true, "true event")
    n_other = evaluation.n_other
    other = f"; {counted(n_other, 'event')} of other labels not judged" if n_other else ""
    what = f"{size[0]}, {size[1]} of {counted(len(evaluation.classes), 'class')}{other}"
    what += "; first by the events' ends, ∩ by what they share"
    return Group(table, Text(), Text(what), Text(_figures(evaluation), style="bold"))
