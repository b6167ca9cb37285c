"""Audacity's label track, as a text file: File > Import > Labels.

    start<TAB>end<TAB>label

Times are seconds with a decimal point and six decimals, as Audacity itself writes them; no header, UTF-8.
The optional second line of a label, its frequencies, is left out: a tag has none. With `--channel each` the
label says which channel it is, "Dog (channel 1)", counted from 0 as everywhere. With `--scores`, the score
follows the label: "Dog 0.83".

Source of the format: "Importing and Exporting Labels" in Audacity's manual.
"""

from __future__ import annotations

from dymn_cli.results import ClipResult, SourceEvents
from dymn_cli.writers.spans import Span, SpanWriter, one_line

__all__ = ["AudacityLabels"]


class AudacityLabels(SpanWriter):
    """A line a span."""

    format_name = "audacity"

    def write(self, result: ClipResult | SourceEvents) -> None:
        """Write the labels of the one source."""
        lines = (
            f"{span.start_s:.6f}\t{span.end_s:.6f}\t{self._label(span)}\n" for span in self.spans(result)
        )
        self.hand_over("".join(lines).encode())

    def _label(self, span: Span) -> str:
        label = one_line(span.label)
        if self.options.scores and (score := self.options.score(span.score)):
            label = f"{label} {score}"
        return f"{label} (channel {span.channel})" if self.options.channel == "each" else label
