"""The list of sources that gave nothing, for a second try: `source,error,message,hint` as CSV."""

from __future__ import annotations

from collections.abc import Iterable

from dymn_cli.results import Failure
from dymn_cli.writers.rows import as_text
from dymn_cli.writers.target import open_target
from dymn_cli.writers.to_csv import csv_line

__all__ = ["write_failures"]


def write_failures(
    out: str, failures: Iterable[Failure], *, force: bool = False, csv_safe: bool = False
) -> None:
    """Write them all at once; without any, the header alone says so.

    Args:
        out: path, or "-" for standard output.
        failures: what failed.
        force: replace what exists.
        csv_safe: take the meaning of a formula from cells that a spreadsheet would run as one.

    Raises:
        OutputError: see `open_target`.
    """
    with open_target(out, force=force) as target:
        target.stream.write(csv_line(("source", "error", "message", "hint")))
        for failure in failures:
            cells = (failure.source, failure.error, failure.message, failure.hint or "")
            target.stream.write(csv_line(map(as_text, cells) if csv_safe else cells))
