"""Rich Transcription Time Marked: who, or here what, when; fields with a blank between them, no header.

    SPEAKER take%201.wav 1 12.400 4.266 <NA> <NA> siren 0.8312 <NA>

Type, file, channel from 1, start and length in seconds, two fields for words, the label, its score, and a
last one. The format cannot hold blanks within a field: the label is its slug, which every label option takes
for the name, and in a file's name blanks, control characters and the per cent sign are written `%20` and so
on, as in addresses. The mean of all channels is the first channel.

Source of the format: appendix A of NIST's evaluation plan "RT-09".
"""

from __future__ import annotations

import re

from dymn_cli.labels import Label
from dymn_cli.results import ClipResult, SourceEvents
from dymn_cli.writers.spans import SpanWriter
from dymn_cli.writers.spelling import name_bytes

__all__ = ["RttmEvents"]

_NO_FIELD = re.compile(r"[\s%\x00-\x1f\x7f]")


class RttmEvents(SpanWriter):
    """A line an event, of any number of sources."""

    format_name = "rttm"
    holds_several = True

    def write(self, result: ClipResult | SourceEvents) -> None:
        """Write the events of one source."""
        name = _field(result.source)
        lines = (
            f"SPEAKER {name} {span.channel_index + 1} {span.start_s:.3f} {span.end_s - span.start_s:.3f}"
            f" <NA> <NA> {Label(0, '', span.label).slug or _field(span.label)}"
            f" {self.options.score(span.score) or '<NA>'} <NA>\n"
            for span in self.spans(result)
        )
        self.hand_over(name_bytes("".join(lines)))


def _field(text: str) -> str:
    """A text as one field."""
    return _NO_FIELD.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), text) or "%00"
