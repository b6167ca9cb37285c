r"""The table of events that the tools of DCASE read: tab-separated, with a header.

    filename  onset  offset  event_label

Times are seconds in the recording. There is no column for a score or a channel, and a reader may not expect
one. A tab or line end within a name or label becomes a blank, because the format has no spelling for it.

Source of the format: the evaluation data of DCASE's challenges on sound event detection in domestic places.
"""

from __future__ import annotations

from dymn_cli.results import ClipResult, SourceEvents
from dymn_cli.writers.spans import SpanWriter, one_line, unbroken
from dymn_cli.writers.spelling import name_bytes

__all__ = ["COLUMNS", "SedEvents"]

COLUMNS = ("filename", "onset", "offset", "event_label")


class SedEvents(SpanWriter):
    """A row an event, of any number of sources."""

    format_name = "sed"
    holds_several = True

    def begin(self) -> None:
        """Write the names of the columns."""
        self.stream.write("\t".join(COLUMNS).encode() + b"\n")

    def write(self, result: ClipResult | SourceEvents) -> None:
        """Write the events of one source."""
        name = unbroken(result.source)
        rows = (
            f"{name}\t{span.start_s}\t{span.end_s}\t{one_line(span.label)}\n" for span in self.spans(result)
        )
        self.hand_over(name_bytes("".join(rows)))
