"""Raven's selection table: tab-separated, a header, a row a selection.

    Selection  View  Channel  Begin Time (s)  End Time (s)  Low Freq (Hz)  High Freq (Hz)
    Begin File  Begin Path  File Offset (s)  Annotation  Score

The first seven columns are those that Raven needs. It takes a table of several recordings in two ways, and
both find the right place here. Opened with the recordings as one sequence, it reads the begin and end times,
which count from the start of the first recording; here in the order of the rows, so that recordings without
a selection count too, but ones that could not be read do not. Opened as a table of sound selections, it
reads the path and the offset, which counts from the start of that recording. Of one recording, both are the
same times.

With a clock, a last column `Clock` has the time of the beginning in ISO 8601, which Raven takes for a note.
Channels count from 1; the mean of all channels is shown on the first. The box of a selection reaches over
the frequencies that the model hears: from 0 to 15 kHz, or to half the sample rate where that is less.

Source of the format: the Raven Pro User's Manual, on selection tables and file sequences.
"""

from __future__ import annotations

import math
import re
from typing import BinaryIO

from dymn_cli.errors import UsageError
from dymn_cli.results import ClipResult, SourceEvents
from dymn_cli.writers.base import WriterOptions
from dymn_cli.writers.spans import SpanWriter, one_line, unbroken
from dymn_cli.writers.spelling import name_bytes, seconds

__all__ = ["RavenSelections"]

COLUMNS = (
    "Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)",
    "Begin File", "Begin Path", "File Offset (s)", "Annotation", "Score",
)  # fmt: skip

HEARD_UP_TO_HZ = 15_000  # the upper edge of the mel bank


class RavenSelections(SpanWriter):
    """A row a span, of any number of sources."""

    format_name = "raven"
    holds_several = True

    def __init__(self, stream: BinaryIO, options: WriterOptions) -> None:
        super().__init__(stream, options)
        self._n_selections = 0
        self._begin_s = 0.0  # where the source in hand begins in the sequence
        self._last: tuple[str, float] | None = None  # that source and its length

    def begin(self) -> None:
        """Write the names of the columns; Raven does not read a table without."""
        self._write_row((*COLUMNS, *map(str.capitalize, self.options.clock_column)))

    def write(self, result: ClipResult | SourceEvents) -> None:
        """Write the selections of one source."""
        self._move_on(result)
        high_hz = min(result.audio.rate_hz / 2 or HEARD_UP_TO_HZ, HEARD_UP_TO_HZ)
        clock = self.options.clock_cells(result.source)
        for span in self.spans(result):
            self._n_selections += 1
            self._write_row(
                (
                    self._n_selections,
                    "Spectrogram 1",
                    span.channel_index + 1,
                    seconds(self._begin_s + span.start_s),
                    seconds(self._begin_s + span.end_s),
                    0,
                    f"{high_hz:g}",
                    re.split(r"[/\\]", result.source)[-1],
                    result.source,
                    span.start_s,
                    one_line(span.label),
                    self.options.score(span.score),
                    *clock(span.start_s),
                )
            )
        self.stream.flush()

    def _move_on(self, result: ClipResult | SourceEvents) -> None:
        """Another source begins where the last one ended; another channel of the same one does not."""
        if self._last is not None and self._last[0] != result.source:
            self._begin_s += self._last[1]
            if math.isnan(self._begin_s):
                raise UsageError(
                    f"raven counts times over all recordings, and how long {self._last[0]} is is not known",
                    hint="--audio ROOT finds out, or --out-dir makes a table for each",
                )
        self._last = (result.source, result.duration_s)

    def _write_row(self, cells: tuple[object, ...]) -> None:
        # A name may hold tabs and line ends, for which Raven's tables have no spelling.
        line = "\t".join(unbroken(str(cell)) for cell in cells)
        self.stream.write(name_bytes(line) + b"\n")
