"""What lies beside results for those who go through many sources: what failed, and what is damaged, as CSV.

OUT.failures.csv   source,error,message,hint   the sources that gave nothing, for a second try
OUT.warnings.csv   source,warning              what could not be decoded of the others, a row each
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dymn_cli.errors import OutputError
from dymn_cli.remote.store import require_writable
from dymn_cli.remote.uri import is_uri
from dymn_cli.results import Failure
from dymn_cli.writers.rows import Cells, safe_cells
from dymn_cli.writers.target import beginning_of, open_target
from dymn_cli.writers.to_csv import csv_line

__all__ = ["FAILURES", "WARNINGS", "Kind", "write_failures", "write_warnings"]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a list is of.

    Args:
        name: as messages call it.
        columns: its first line.
    """

    name: str
    columns: tuple[str, ...]

    @property
    def header(self) -> bytes:
        """The first line."""
        return csv_line(self.columns)

    def require_replaceable(self, path: str) -> None:
        """See before any work that nothing but an earlier list would be replaced.

        Raises:
            OutputError: a file is there, and it is no such list.
        """
        if is_uri(path):
            require_writable(path)
        if beginning_of(path, len(self.header)) not in (None, b"", self.header):
            raise OutputError(
                f"{path}: the file exists and is not a list of {self.name}", hint="give the list another name"
            )


FAILURES = Kind("failures", ("source", "error", "message", "hint"))
WARNINGS = Kind("warnings", ("source", "warning"))


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
    rows = ((failure.source, failure.error, failure.message, failure.hint or "") for failure in failures)
    _write(FAILURES, out, rows, force=force, csv_safe=csv_safe)


def write_warnings(
    out: str, damage: Mapping[str, Iterable[str]], *, force: bool = False, csv_safe: bool = False
) -> None:
    """Write a row for each warning of each source; all else as for failures.

    Args:
        out: path, or "-" for standard output.
        damage: what is wrong with each source, by its name.
        force: replace what exists.
        csv_safe: as for failures.

    Raises:
        OutputError: see `open_target`.
    """
    rows = ((source, text) for source, texts in damage.items() for text in texts)
    _write(WARNINGS, out, rows, force=force, csv_safe=csv_safe)


def _write(kind: Kind, out: str, rows: Iterable[Cells], *, force: bool, csv_safe: bool) -> None:
    with open_target(out, force=force) as target:
        target.stream.write(kind.header)
        for cells in rows:
            target.stream.write(csv_line(safe_cells(cells, csv_safe)))
