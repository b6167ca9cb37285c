"""The table of what was cut, `clips.csv`: a row is on disk before its clip is, so that a killed run goes on.

    source,start_s,end_s,label,score,file,channel,cut_start_s,cut_end_s

`start_s` and `end_s` are the event's; the clip reaches from `cut_start_s` to `cut_end_s`. `file` is relative
to the folder of the table.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dymn_cli.atomic import atomic_write
from dymn_cli.errors import InputError, OutputError, os_errors_as
from dymn_cli.readers.cells import cells_of, require_row
from dymn_cli.results import Event
from dymn_cli.writers.spelling import seconds
from dymn_cli.writers.to_csv import csv_line

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["COLUMNS", "TABLE_NAME", "ClipRow", "ClipTable", "claimed", "header_line", "row_line"]

TABLE_NAME = "clips.csv"
SCORE_DECIMALS = 4
COLUMNS = ("source", "start_s", "end_s", "label", "score", "file", "channel", "cut_start_s", "cut_end_s")


@dataclass(frozen=True, slots=True)
class ClipRow:
    """A clip: texts as they stand in the table, so that equal clips have equal rows."""

    source: str
    start_s: str
    end_s: str
    label: str
    score: str
    file: str
    channel: str
    cut_start_s: str
    cut_end_s: str

    @classmethod
    def of(cls, event: Event, file: str, cut: tuple[float, float]) -> ClipRow:
        """The row of the clip of an event, which is cut from one time to another, in seconds."""
        start, end, *cut_at = (str(seconds(time_s)) for time_s in (event.start_s, event.end_s, *cut))
        score = "" if math.isnan(event.score) else str(round(float(event.score), SCORE_DECIMALS))
        return cls(event.source, start, end, event.label, score, file, event.channel, *cut_at)

    @property
    def is_about(self) -> tuple[str, ...]:
        """What the samples of its file depend on."""
        return self.source, self.channel, self.label, self.cut_start_s, self.cut_end_s


def header_line() -> bytes:
    """The names of the columns."""
    return csv_line(COLUMNS)


def row_line(row: ClipRow) -> bytes:
    """A row of the table."""
    return csv_line(astuple(row))


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a folder of clips, so that no second run cuts into it; not on Windows.

    Raises:
        OutputError: another run holds it.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with contextlib.ExitStack() as opened:
        try:
            number = os.open(folder, os.O_RDONLY)
            opened.callback(os.close, number)
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise OutputError(
                f"{folder}: another run is cutting into this folder",
                hint="wait for it, or choose another folder",
            ) from exc
        except OSError:
            pass  # a network file system without locks
        yield


class ClipTable:
    """The table in a folder of clips.

    Args:
        folder: which exists.

    Attributes:
        rows: by file, without regard to case, as it was found and is now.

    Raises:
        OutputError: a file of that name is no table of clips, or it cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / TABLE_NAME
        self.rows: dict[str, ClipRow] = {}
        with os_errors_as(OutputError, self.path):
            n_whole = self._read()
            self._file = open(self.path, "ab")  # noqa: PTH123, SIM115 - closed in `close`
            if self._file.tell() > n_whole:
                self._file.truncate(n_whole)
            if not n_whole:
                self._file.write(header_line())
                self._file.flush()

    def _read(self) -> int:
        """Take in the rows that are there; a last line that was torn by a kill is none.

        Returns:
            How many bytes are whole lines.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return 0
        whole = data[: data.rfind(b"\n") + 1]
        if not data.startswith(header_line()[: max(1, len(data))]) and data:
            raise OutputError(
                f"{self.path}: the file exists and is not a table of clips", hint="choose another folder"
            )
        text = io.StringIO(whole.decode("utf-8", "surrogateescape"), newline="")
        try:
            for line, cells in cells_of(text, str(self.path), ","):
                if line > 1:
                    require_row(f"{self.path}, line {line}", cells, COLUMNS)
                    self._take(ClipRow(*cells))
        except (InputError, csv.Error) as exc:
            raise OutputError(f"damaged: {exc}", hint="move it away, and the clips that it names") from exc
        return len(whole)

    def _take(self, row: ClipRow) -> None:
        self.rows[row.file.casefold()] = row

    def add(self, row: ClipRow) -> None:
        """Note a clip that is about to be written.

        Raises:
            OutputError: the row cannot be written.
        """
        self._take(row)
        with os_errors_as(OutputError, self.path):
            self._file.write(row_line(row))
            self._file.flush()

    def close(self, order: dict[str, int] | None = None) -> None:
        """Close it; at the end of a run, write it anew, with the clips that are there, each once.

        Args:
            order: recordings in the order of the result; None where the run broke off.

        Raises:
            OutputError: it cannot be written.
        """
        with os_errors_as(OutputError, self.path):
            self._file.close()
            if order is None:
                return
            there = [row for row in self.rows.values() if os.path.lexists(self.path.parent / row.file)]
            there.sort(key=lambda row: (order.get(row.source, -1), float(row.cut_start_s), row.file))
            with atomic_write(self.path) as stream:
                stream.write(header_line() + b"".join(map(row_line, there)))
