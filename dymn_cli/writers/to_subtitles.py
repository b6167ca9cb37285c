"""Subtitles, to see what is heard while a player runs: SubRip and WebVTT.

    1                                    WEBVTT
    00:00:02,500 --> 00:00:07,000
    Dog 0.83                             00:00:02.500 --> 00:00:07.000
                                         Dog 0.83

An event is a cue; tags of a window (or of the clip) share one, a line each. Cues come in the order of their
starts and may overlap, as sounds do. A player shows one line of time, so `--channel each` is refused.

In WebVTT `&`, `<` and `>` are written as entities. SubRip has no spelling for them: they stay, and most
players take `<i>` for a tag. An arrow `-->`, which would be taken for a line of times, gets a space there.

Source of the formats: the W3C's recommendation "WebVTT", and for SubRip, which nobody has specified, what
players read: a counter, times with a decimal comma, text, an empty line.
"""

from __future__ import annotations

from abc import abstractmethod
from itertools import groupby
from typing import BinaryIO, ClassVar

from dymn_cli.errors import UsageError
from dymn_cli.results import ClipResult, SourceEvents
from dymn_cli.writers.base import WriterOptions
from dymn_cli.writers.spans import Span, SpanWriter, one_line

__all__ = ["SrtSubtitles", "VttSubtitles"]


_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\0": "\N{REPLACEMENT CHARACTER}"})


class _Subtitles(SpanWriter):
    """A cue an event, or a window."""

    decimal: ClassVar[str]

    def __init__(self, stream: BinaryIO, options: WriterOptions) -> None:
        super().__init__(stream, options)
        if options.channel == "each":
            raise UsageError(
                f"{self.format_name} has one line of time, not one for each channel",
                hint="--channel mix, or the number of one",
            )
        self._n_cues = 0

    @abstractmethod
    def escaped(self, text: str) -> str:
        """A text as the format spells it."""

    @abstractmethod
    def cue(self, number: int, times: str, text: str) -> str:
        """A cue with the empty line that belongs to it."""

    def write(self, result: ClipResult | SourceEvents) -> None:
        """Write the cues of the one source."""
        spans = self.spans(result)
        if isinstance(result, SourceEvents):
            cues = [[span] for span in spans]
        else:
            cues = [list(together) for _, together in groupby(spans, lambda span: (span.start_s, span.end_s))]
        self.hand_over("".join(map(self._cue, cues)).encode())

    def _cue(self, spans: list[Span]) -> str:
        self._n_cues += 1
        times = f"{self._time(spans[0].start_s)} --> {self._time(spans[0].end_s)}"
        lines = (
            self.escaped(f"{one_line(span.label)} {self.options.score(span.score)}".rstrip())
            for span in spans
        )
        return self.cue(self._n_cues, times, "\n".join(lines))

    def _time(self, time_s: float) -> str:
        minutes, milliseconds = divmod(round(time_s * 1000), 60_000)
        hours, minutes = divmod(minutes, 60)
        whole, fraction = divmod(milliseconds, 1000)
        return f"{hours:02d}:{minutes:02d}:{whole:02d}{self.decimal}{fraction:03d}"


class SrtSubtitles(_Subtitles):
    """SubRip: cues are numbered from 1 and end with an empty line."""

    format_name = "srt"
    decimal = ","

    def escaped(self, text: str) -> str:
        """Without the arrow."""
        return text.replace("-->", "-- >")

    def cue(self, number: int, times: str, text: str) -> str:
        """Number, times, text."""
        return f"{number}\n{times}\n{text}\n\n"


class VttSubtitles(_Subtitles):
    """WebVTT: a line that says so, and an empty line before each cue."""

    format_name = "vtt"
    decimal = "."

    def begin(self) -> None:
        """Write what the format begins with."""
        self.stream.write(b"WEBVTT\n")

    def escaped(self, text: str) -> str:
        """With entities, which leave nothing of an arrow either; NUL is not allowed."""
        return text.translate(_ENTITIES)

    def cue(self, number: int, times: str, text: str) -> str:
        """Times and text."""
        return f"\n{times}\n{text}\n"
