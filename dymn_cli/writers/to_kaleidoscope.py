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

from dymn_cli.results import ClipResult, SourceEvents
from dymn_cli.writers.rows import safe_cells
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

    def begin(self) -> None:
        """Write the names of the columns."""
        self.stream.write(csv_line(COLUMNS))

    def write(self, result: ClipResult | SourceEvents) -> None:
        """Write the events of one source."""
        folder, name = _place(result.source)
        rows = (
            (
                folder, "", name, span.channel_index, span.start_s, seconds(span.end_s - span.start_s),
                span.label, self.options.score(span.score), "",
            )
            for span in self.spans(result)
        )  # fmt: skip
        self.hand_over(b"".join(csv_line(safe_cells(row, self.options.csv_safe)) for row in rows))


def _place(source: str) -> tuple[str, str]:
    """Folder and name of a recording."""
    found = re.fullmatch(r"(.*?)[/\\]?([^/\\]*)", source, re.DOTALL)
    folder, name = found.groups() if found else ("", source)
    return ("/" if not folder and source.startswith("/") else folder), name
