"""What Wildlife Acoustics' Kaleidoscope opens for review: comma-separated, with a header.

    INDIR,FOLDER,IN FILE,CHANNEL,OFFSET,DURATION,TOP1MATCH,SCORE,MANUAL ID

`INDIR` and `IN FILE` are the folder and the name of the recording, `FOLDER` a folder in between, which there
is none of here. Channels count from 0, the mean of all is shown on the first. `OFFSET` and `DURATION` are
seconds. What was heard is `TOP1MATCH`; `MANUAL ID` is left empty for whoever listens.

The columns are those that Kaleidoscope's own tables of clusters have, as far as events fill them; `SCORE` is
ours. Nobody has opened one of these files in the program itself yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import BinaryIO

from dymn_cli.results import ClipResult, SourceEvents
from dymn_cli.writers.base import WriterOptions
from dymn_cli.writers.rows import as_text
from dymn_cli.writers.spans import SpanWriter
from dymn_cli.writers.spelling import seconds
from dymn_cli.writers.to_csv import csv_line

__all__ = ["COLUMNS", "KaleidoscopeEvents"]

COLUMNS = (
    "INDIR", "FOLDER", "IN FILE", "CHANNEL", "OFFSET", "DURATION", "TOP1MATCH", "SCORE", "MANUAL ID"
)  # fmt: skip


class KaleidoscopeEvents(SpanWriter):
    """A row an event, of any number of sources."""

    format_name = "kaleidoscope"
    holds_several = True

    def __init__(self, stream: BinaryIO, options: WriterOptions) -> None:
        super().__init__(stream, options)
        self._safe = options.csv_safe

    def begin(self) -> None:
        """Write the names of the columns."""
        self.stream.write(csv_line(COLUMNS))

    def write(self, result: ClipResult | SourceEvents) -> None:
        """Write the events of one source."""
        folder, name = _place(result.source)
        rows = (
            self._row(
                (
                    folder,
                    "",
                    name,
                    int(span.channel) if span.channel.isdecimal() else 0,
                    span.start_s,
                    seconds(span.end_s - span.start_s),
                    span.label,
                    self.score(span),
                    "",
                )
            )
            for span in self.spans(result)
        )
        self.hand_over(b"".join(rows))

    def _row(self, cells: Iterable[object]) -> bytes:
        return csv_line(map(as_text, cells) if self._safe else cells)


def _place(source: str) -> tuple[str, str]:
    """Folder and name of a recording."""
    found = re.fullmatch(r"(.*?)[/\\]?([^/\\]*)", source, re.DOTALL)
    folder, name = found.groups() if found else ("", source)
    return ("/" if not folder and source.startswith("/") else folder), name
