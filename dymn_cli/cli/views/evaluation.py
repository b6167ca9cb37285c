"""What `dymn eval` and `dymn finetune` share: asking a model about recordings, and showing how good it is."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

from dymn_cli.cli.options.declare import opt
from dymn_cli.cli.options.panels import BATCH as BATCH_PANEL
from dymn_cli.cli.terminal.tables import Listing, choose_form, grid
from dymn_cli.errors import PartialFailure, UsageError
from dymn_cli.values import listed_labels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console, Group, RenderableType
    from rich.table import Table

    from dymn_cli.cli.options.groups import OutputOptions
    from dymn_cli.cli.terminal.messages import Messages
    from dymn_cli.evaluation.evaluate import ClassResult, Confusion, Evaluation

__all__ = [
    "COLUMNS",
    "FORMATS",
    "Jobs",
    "Ticker",
    "check_outputs",
    "choose_output",
    "end_with",
    "figures",
    "listing_of",
    "number",
    "short",
    "warn_of_thresholds",
]

FORMATS = ("table", "tsv", "csv", "json")
COLUMNS = (
    "label", "mid", "n_positive", "average_precision", "auc", "d_prime", "threshold", "precision", "recall",
    "f1",
)  # fmt: skip
MAX_CONFUSED = 12  # classes whose confusions fit on a terminal
ROOM_FOR_BARS = 90  # columns of a terminal
TICK_S = 10.0
STRAIGHT = {"justify": "right"}

Jobs = Annotated[
    int | None,
    opt(
        "-j --jobs",
        "N",
        "Files at a time, each in a process (default: one a core).",
        BATCH_PANEL,
        envvar="DYMN_JOBS",
    ),
]


# ---------------------------------------------------------------------- asking


class Ticker:
    """Says now and then how far a long computation is."""

    def __init__(self, messages: Messages, what: str) -> None:
        self._messages = messages
        self._what = what
        self._next = time.monotonic() + TICK_S

    def __call__(self, done: int, of: int) -> None:
        """So many of so many are done."""
        if time.monotonic() >= self._next and done < of:
            self._messages.note(f"{self._what}: {done} of {of}")
            self._next = time.monotonic() + TICK_S


def end_with(n_failed: int, n_done: int) -> None:
    """End the command with exit code 6 where recordings could not be used.

    Raises:
        PartialFailure: some could not.
    """
    from dymn_cli.values import counted

    if n_failed:
        raise PartialFailure(f"{n_failed} of {counted(n_failed + n_done, 'recording')} could not be used")


# ---------------------------------------------------------------------- showing


def choose_output(output: OutputOptions) -> str:
    """The form of the result: by name, by the suffix of the file, or by what standard output is.

    Raises:
        UsageError: there is no such form.
    """
    from pathlib import Path

    from dymn_cli.writers.target import is_stdout

    if output.format is not None or is_stdout(output.out):
        return choose_form(output.format, FORMATS)
    suffix = Path(output.out or "").suffix.lower().lstrip(".")
    if suffix not in FORMATS[1:]:
        raise UsageError(
            f"{output.out}: the suffix does not say which format", hint=f"-f {', '.join(FORMATS)}"
        )
    return suffix


def check_outputs(
    outs: Mapping[str, Iterable[str | None]], *, inputs: Iterable[str | None], force: bool
) -> None:
    """Say before any work is done that a file could not be written.

    Args:
        outs: what each option writes; None is none.
        inputs: what is read.
        force: replace what exists.

    Raises:
        UsageError: it is also an input, or another output.
        OutputError: it exists, or its folder cannot be written to.
    """
    from dymn_cli.writers import check_target
    from dymn_cli.writers.target import input_guard, is_stdout, require_distinct

    names = [out for some in outs.values() for out in some]
    input_guard(*names)(*inputs)
    require_distinct(outs)
    for out in names:
        if out is not None and not is_stdout(out):
            check_target(out, force=force)


def warn_of_thresholds(evaluation: Evaluation, messages: Messages) -> None:
    """Say which classes are never reported, because no threshold is precise enough."""
    from dymn_cli.values import counted

    if never := evaluation.never_precise:
        what = f"no threshold brings {counted(len(never), 'class')} to {evaluation.threshold_rule}"
        messages.warning(f"{what}, so it is 1 there: {listed_labels(never)}")


def listing_of(evaluation: Evaluation, document: Mapping[str, Any]) -> Listing:
    """The figures by class, and over all of them.

    Args:
        evaluation: has them.
        document: its JSON.
    """
    return Listing(COLUMNS, _rows(evaluation), document, lambda console: _tables(evaluation, console))


def _rows(evaluation: Evaluation) -> Iterator[tuple[object, ...]]:
    for one in evaluation.classes:
        limit = one.threshold
        figures = (one.average_precision, one.auc, one.d_prime)
        quality = (limit.precision, limit.recall, limit.f1)
        yield (
            one.label,
            one.mid,
            one.n_positive,
            *map(number, figures),
            f"{limit.value:.9g}",
            *map(number, quality),
        )


def number(value: float) -> str:
    """A figure for a row: six digits, inf or -inf, empty where it is none."""
    return "" if math.isnan(value) else f"{value:g}"


def figures(evaluation: Evaluation) -> str:
    """The figures over all classes, in a line."""
    parts = [f"mean average precision {evaluation.mean_average_precision:.3f}"]
    if not math.isnan(evaluation.mean_auc):
        parts.append(f"ROC AUC {evaluation.mean_auc:.3f}")
        parts.append(f"d′ {short(evaluation.d_prime, 2)}")
    if not math.isnan(evaluation.accuracy):
        parts.append(f"accuracy {evaluation.accuracy:.1%}")
        if evaluation.without:
            parts.append(f"({evaluation.accuracy_among:.1%} among the classes judged)")
    return ", ".join(parts).replace(", (", " (")


def _tables(evaluation: Evaluation, console: Console) -> Group:
    from rich.console import Group
    from rich.text import Text

    from dymn_cli.values import counted

    wide = console.width >= ROOM_FOR_BARS
    names = ("class", "clips", "AP", "bar", "AUC", "d′", "from", "prec.", "recall", "F1")
    settings = {"class": {}, "bar": {"no_wrap": True}}
    shown = [name for name in names if wide or name != "bar"]
    table = grid(*(("" if name == "bar" else name, settings.get(name, STRAIGHT)) for name in shown))
    for one in sorted(evaluation.classes, key=lambda one: (-one.average_precision, one.label)):
        cells = dict(zip(names, _cells(one, console), strict=True))
        table.add_row(*(cells[name] for name in shown))
    parts: list[RenderableType] = [table, Text()]
    if evaluation.confusion is not None and 1 < len(evaluation.confusion.labels) <= MAX_CONFUSED:
        parts += [_confused(evaluation.confusion), Text()]
    without = f", {len(evaluation.without)} that cannot be" if evaluation.without else ""
    n_clips, n_judged = counted(evaluation.n_clips, "recording"), counted(len(evaluation.classes), "class")
    size = f"{n_clips}; {n_judged} judged{without}"
    parts.append(Text(f"{size}; from: the threshold for {evaluation.threshold_rule}"))
    return Group(*parts, Text(figures(evaluation), style="bold"))


def _cells(one: ClassResult, console: Console) -> Iterator[Any]:
    from rich.text import Text

    from dymn_cli.writers.spelling import visible

    yield Text(visible(one.label, console.encoding))
    yield str(one.n_positive)
    yield f"{one.average_precision:.3f}"
    yield Text(_bar(one.average_precision, console.encoding), style="green")
    yield short(one.auc, 3)
    yield short(one.d_prime, 2)
    yield f"{one.threshold.value:.3g}"
    yield from (
        short(value, 2) for value in (one.threshold.precision, one.threshold.recall, one.threshold.f1)
    )


def _bar(share: float, encoding: str) -> str:
    block = "━" if encoding.lower().startswith("utf") else "="
    return block * round(10 * share)


def short(value: float, digits: int) -> str:
    """A figure for a table."""
    if math.isnan(value):
        return "–"
    return f"{value:.{digits}f}".replace("inf", "∞")


def _confused(confusion: Confusion) -> Table:
    from rich.text import Text

    from dymn_cli.writers.spelling import visible

    numbers = [str(n) for n in range(1, len(confusion.labels) + 1)]
    table = grid(("is ↓ taken for →", {}), ("", STRAIGHT), *((number, STRAIGHT) for number in numbers))
    for n, (label, row) in enumerate(zip(confusion.labels, confusion.counts, strict=True)):
        cells = [
            Text(str(count) if count else "·", style="bold" if column == n else "dim" if not count else "")
            for column, count in enumerate(row)
        ]
        table.add_row(Text(visible(label)), numbers[n], *cells)
    return table
