"""What formats of annotations have in common: spans of time with a label.

The span of a tag is its window, or the whole clip. Most of these formats belong to one recording and do not
name it: their writers refuse a second source.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, ClassVar

from dymn_cli.errors import UsageError
from dymn_cli.results import ClipResult, SourceEvents, WindowTags
from dymn_cli.writers.base import Writer, WriterOptions
from dymn_cli.writers.spelling import readable, seconds

__all__ = ["Span", "SpanWriter", "one_line", "several_sources", "unbroken"]


@dataclass(frozen=True, slots=True)
class Span:
    """What is heard from when to when, times in whole milliseconds."""

    channel: str
    start_s: float
    end_s: float
    label: str
    score: float

    @property
    def channel_index(self) -> int:
        """The number of its channel, from 0; the mean of all channels is shown on the first."""
        return int(self.channel) if self.channel.isdecimal() else 0


class SpanWriter(Writer[ClipResult | SourceEvents]):
    """Writes tags or events as spans.

    Attributes:
        format_name: as `--format` calls it.
        holds_several: whether the format says of each span which source it belongs to.
    """

    format_name: ClassVar[str]
    holds_several: ClassVar[bool] = False

    def __init__(self, stream: BinaryIO, options: WriterOptions) -> None:
        super().__init__(stream)
        self.options = options
        self._source: str | None = None

    def spans(self, result: ClipResult | SourceEvents) -> Iterator[Span]:
        """The events of a source; of a clip its tags, or with `windows` those of its windows.

        Raises:
            UsageError: a second source, and the format has no place for one.
        """
        if self._source not in (None, result.source) and not self.holds_several:
            raise several_sources(self.format_name)
        self._source = result.source
        if isinstance(result, SourceEvents):
            for event in result.events:
                times = seconds(event.start_s), seconds(event.end_s)
                yield Span(event.channel, *times, event.label, event.score)
            return
        clip = WindowTags(0.0, result.duration_s, result.tags)
        for window in result.windows if self.options.windows else (clip,):
            times = seconds(window.start_s), seconds(window.end_s)
            for tag in window.tags:
                yield Span(result.channel, *times, tag.label, tag.score)


def several_sources(format_name: str) -> UsageError:
    """What is wrong with several sources in such a format."""
    return UsageError(
        f"{format_name} is about one recording and cannot hold several",
        hint="--out-dir makes a file for each; csv, jsonl and raven name their sources",
    )


def one_line(text: str) -> str:
    """The text as valid Unicode, without line ends, tabs or other runs of white space."""
    return " ".join(readable(text).split())


def unbroken(name: str) -> str:
    """The name of a source without tabs and line ends, each of which becomes a blank."""
    return re.sub(r"[\t\r\n]", " ", name)
