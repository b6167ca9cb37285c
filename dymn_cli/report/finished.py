"""Finished results of `dymn events`, or tables of events of others, taken into a report."""

from __future__ import annotations

from collections.abc import Sequence

from dymn_cli.errors import UsageError
from dymn_cli.evaluation.event_tables import event_form, read_events
from dymn_cli.labels import Vocabulary
from dymn_cli.report.gather import Gathering
from dymn_cli.report.model import Span
from dymn_cli.results import Failure

__all__ = ["are_results", "gather_results"]


def are_results(inputs: Sequence[str]) -> bool:
    """Whether the inputs are tables of events instead of recordings.

    Raises:
        UsageError: some are, others are not.
    """
    forms = [name != "-" and event_form(name) is not None for name in inputs]
    if any(forms) and not all(forms):
        raise UsageError(
            f"{inputs[forms.index(False)]} is a recording, {inputs[forms.index(True)]} is a finished result",
            hint="a report is made from either",
        )
    return any(forms)


def gather_results(paths: Sequence[str], gathering: Gathering) -> None:
    """Take all events of tables.

    Raises:
        InputError: one cannot be read, is cut short, or holds what is no event.
    """
    table = read_events(paths)
    vocabulary = Vocabulary.audioset()
    for name, rows in table.rows.items():
        spans = (
            Span(row.start_s, row.end_s, *_label_of(row.label, row.mid, vocabulary), row.score)
            for row in rows
        )
        gathering.add(name, spans, duration_s=table.durations.get(name))
    for name in table.failed:
        gathering.fail(Failure(name, "", f"{name}: gave no result", None, 3))


def _label_of(label: str, mid: str, vocabulary: Vocabulary) -> tuple[str, str]:
    """Name and id, as far as either is known; ids and slugs become names."""
    try:
        known = vocabulary.find(mid or label)
    except UsageError:
        return label or mid, mid
    return known.name if not label or known.slug == label or known.mid == label else label, known.mid
