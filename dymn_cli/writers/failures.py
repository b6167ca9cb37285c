"""The list of sources that gave nothing, for a second try: `source,error,message,hint` as CSV."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dymn_cli.errors import OutputError
from dymn_cli.results import Failure
from dymn_cli.writers.rows import as_text
from dymn_cli.writers.target import open_target
from dymn_cli.writers.to_csv import csv_line

__all__ = ["HEADER", "require_replaceable", "write_failures"]

HEADER = csv_line(("source", "error", "message", "hint"))


def require_replaceable(path: str) -> None:
    """See before any work that nothing but an earlier list would be replaced.

    Raises:
        OutputError: a file is there, and it is no list of failures.
    """
    place = Path(path)
    try:
        if not place.is_file():
            return
        with place.open("rb") as file:
            begin = file.read(len(HEADER))
    except OSError as exc:
        raise OutputError(f"{path}: {(exc.strerror or str(exc)).lower()}") from exc
    if begin not in (b"", HEADER):
        raise OutputError(
            f"{path}: the file exists and is no list of failures", hint="give the list another name"
        )


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
        target.stream.write(HEADER)
        for failure in failures:
            cells = (failure.source, failure.error, failure.message, failure.hint or "")
            target.stream.write(csv_line(map(as_text, cells) if csv_safe else cells))
