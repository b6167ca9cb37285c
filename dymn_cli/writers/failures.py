"""The list of sources that gave nothing, for a second try: `source,error,message,hint` as CSV."""

from __future__ import annotations

from collections.abc import Iterable

from dymn_cli.results import Failure
from dymn_cli.writers.target import open_target
from dymn_cli.writers.to_csv import csv_line

__all__ = ["write_failures"]


def write_failures(out: str, failures: Iterable[Failure], *, force: bool = False) -> None:
    """Write them all at once; without any, the header alone says so.

    Raises:
        OutputError: see `open_target`.
    """
    with open_target(out, force=force) as target:
        target.stream.write(csv_line(("source", "error", "message", "hint")))
        for failure in failures:
            target.stream.write(
                csv_line((failure.source, failure.error, failure.message, failure.hint or ""))
            )
