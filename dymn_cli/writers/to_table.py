"""Tags and events for people: a heading a source, then label, bar and score; as wide as fits, nothing cut.

    typing.wav                                   10.0 s · 32 kHz · mono · dymn04_kd
      Computer keyboard                   ━━━━━━━━━━━━━━━━━━━━━━━━━━━━        0.8312
      Typing                              ━━━━━━━━━━━━━━━━━━━━╸               0.6020

With windows there is a line for each that has tags, its time first. An event's line begins with its time. A
bar of full length is a score of 1. File names are data: no markup in them counts, and control characters are
made visible.

This is the only module outside the command line that knows rich. It renders as the console would, but hands
the bytes to the stream as every other writer does.
"""

from __future__ import annotations

import io
import math
from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol, TypeVar

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dymn_cli.results import AudioInfo, ClipResult, Event, ModelInfo, SourceEvents, Tag, WindowTags
from dymn_cli.writers.base import Writer, WriterOptions
from dymn_cli.writers.spelling import seconds, visible

__all__ = ["TableEvents", "TableTags", "duration_text"]

MAX_WIDTH = 100  # a wider table only moves the scores away from their labels
PLAIN_WIDTH = 80
INDENT = 2
GAP = 2
LABEL_MIN, LABEL_MAX = 20, 40  # no label of AudioSet is longer than 40
NARROW = 60  # below it, events are lines of text
NARROWEST = 30  # below it, tags are, too
BAR_MIN = 6  # below it, labels get all the room but one cell
TAG_GAP = "   "

NAME_STYLE = "bold cyan"
LABEL_STYLE = "bold"
BAR_STYLE = "cyan"
QUIET_STYLE = "dim"
WARNING_STYLE = "yellow"

NOTHING = "no label passed the selection"


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters that not every console has."""

    bar: str
    half_bar: str
    separator: str
    dash: str


UNICODE = Glyphs(bar="━", half_bar="╸", separator=" · ", dash=" – ")
ASCII = Glyphs(bar="=", half_bar="-", separator=" | ", dash=" - ")


class _Shown(Protocol):
    """What a heading says, and the notes below."""

    @property
    def source(self) -> str: ...
    @property
    def audio(self) -> AudioInfo: ...
    @property
    def duration_s(self) -> float: ...
    @property
    def warnings(self) -> tuple[str, ...]: ...
    @property
    def model(self) -> ModelInfo: ...


Shown_contra = TypeVar("Shown_contra", bound=_Shown, contravariant=True)


class _Table(Writer[Shown_contra]):
    """A block of lines a source, an empty line between two.

    Args:
        stream: gets the bytes.
        options: precision, and whether windows are shown.
        console: its width, colours and encoding count; None is plain, 80 columns, UTF-8.
    """

    def __init__(self, stream: BinaryIO, options: WriterOptions, console: Console | None = None) -> None:
        super().__init__(stream)
        self._options = options
        self._console = console or Console(file=io.StringIO(), width=PLAIN_WIDTH, color_system=None)
        self._glyphs = ASCII if self._console.options.ascii_only else UNICODE
        self._is_first = True

    def write(self, result: Shown_contra) -> None:
        """Write the block of one source."""
        width = min(self._console.width, MAX_WIDTH)
        # Captured, not printed: on a broken pipe rich would end the process by itself.
        with self._console.capture() as capture:
            self._print_heading(result, width)
            for block in (self._body(result, width), *self._notes(result)):
                self._console.print(Padding(block, (0, 0, 0, INDENT), expand=False), width=width)
        lines = "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())
        text = lines if self._is_first else f"\n{lines}"
        self._is_first = False
        self.hand_over(text.encode(self._console.encoding, "backslashreplace"))

    def _print_heading(self, result: Shown_contra, width: int) -> None:
        """Name and facts on one line where both fit, else below each other."""
        name = Text(self._shown(result.source), NAME_STYLE)
        facts = Text(self._glyphs.separator.join(self._facts(result)), QUIET_STYLE)
        gap = width - name.cell_len - facts.cell_len
        if gap >= GAP:
            self._console.print(Text.assemble(name, " " * gap, facts), width=width)
            return
        # One long line, which the terminal wraps by itself: so the name can be copied whole.
        self._console.print(name, soft_wrap=True)
        self._console.print(Padding(facts, (0, 0, 0, INDENT), expand=False), width=width)

    @abstractmethod
    def _body(self, result: Shown_contra, width: int) -> RenderableType:
        """What comes below the heading."""

    def _notes(self, result: Shown_contra) -> Iterator[Text]:
        for warning in result.warnings:
            yield Text(f"note: {self._shown(warning)}", WARNING_STYLE, overflow="fold")

    def _facts(self, result: Shown_contra) -> Iterator[str]:
        if not math.isnan(result.duration_s):
            yield duration_text(result.duration_s)
        if result.audio.rate_hz:
            yield f"{result.audio.rate_hz / 1000:g} kHz"
            yield {1: "mono", 2: "stereo"}.get(result.audio.channels, f"{result.audio.channels} channels")
        if isinstance(result, ClipResult) and result.channel != "mix":
            yield f"channel {result.channel}"
        if began := "".join(self._options.clock_cells(result.source)(0.0)):
            yield f"from {began.replace('T', ' ').replace('.000', '')}"
        if result.model.name:
            yield self._shown(result.model.name)

    def _scored(self, width: int, rows: Iterable[tuple[Text, str, float]], *, time_width: int = 0) -> Table:
        """Time (if it has a width), label, bar and score; the rest of the widths depends on what is left."""
        score_width = self._options.precision + 2
        room = width - INDENT - GAP - score_width - (time_width + GAP if time_width else 0)
        share = 2 * room // 3 if time_width else room // 2  # beside times, bars may be short
        label_width = min(max(share, LABEL_MIN), LABEL_MAX)
        bar_width = room - label_width - GAP
        if bar_width < BAR_MIN:
            label_width, bar_width = room - GAP - 1, 1
        time_columns = (time_width, GAP) if time_width else ()
        grid = _grid(*time_columns, label_width, GAP, bar_width, GAP, score_width)
        for time, name, score in rows:
            label = Text(self._shown(name), LABEL_STYLE, overflow="fold")
            bar = Text(self._bar(score, bar_width), BAR_STYLE)
            grid.add_row(*((time, "") if time_width else ()), label, "", bar, "", self._score(score))
        return grid

    def _times(
        self, spans: Collection[WindowTags] | Collection[Event], *, exact: bool = False
    ) -> tuple[list[Text], int]:
        """From when to when, the dashes below each other, and the width of that column.

        Where times are `exact`, all have milliseconds, and their points stand below each other as well.
        """
        starts = [_clock(span.start_s, exact=exact) for span in spans]
        ends = [_clock(span.end_s, exact=exact) for span in spans]
        start_width, end_width = (max(map(len, times), default=0) for times in (starts, ends))
        side = ">" if exact else "<"
        times = [
            Text(f"{start:>{start_width}}{self._glyphs.dash}{end:{side}{end_width}}", QUIET_STYLE)
            for start, end in zip(starts, ends, strict=True)
        ]
        return times, start_width + len(self._glyphs.dash) + end_width

    def _lines(self, rows: Iterable[tuple[Text, str, float]]) -> Text:
        """Time (if there is one), label and score, without columns: they wrap where the width ends."""
        lines = (
            Text.assemble(time, GAP * " " if time else "", *self._named(name, score))
            for time, name, score in rows
        )
        return Text("\n", overflow="fold").join(lines)

    def _named(self, label: str, score: float) -> tuple[tuple[str, str], str, str]:
        return (self._shown(label), LABEL_STYLE), " ", self._score(score)

    def _bar(self, score: float, width: int) -> str:
        halves = 0 if math.isnan(score) else round(score * width * 2)
        return self._glyphs.bar * (halves // 2) + self._glyphs.half_bar * (halves % 2)

    def _score(self, score: float) -> str:
        return self._options.score(score)

    def _shown(self, text: str) -> str:
        return visible(text, self._console.encoding)


class TableTags(_Table[ClipResult]):
    """The tags of a clip, or a line for each of its windows."""

    def _body(self, result: ClipResult, width: int) -> RenderableType:
        if self._options.windows:
            return self._windows(result.windows, width)
        if not result.tags:
            return Text(NOTHING, QUIET_STYLE)
        rows = ((Text(), tag.label, tag.score) for tag in result.tags)
        return self._lines(rows) if width < NARROWEST else self._scored(width, rows)

    def _windows(self, windows: Collection[WindowTags], width: int) -> RenderableType:
        """A line for each window that has tags, wrapped between them."""
        windows = [window for window in windows if window.tags]
        if not windows:
            return Text(NOTHING, QUIET_STYLE)
        times, time_width = self._times(windows)
        if width < NARROWEST:
            return self._lines(
                (time, tag.label, tag.score)
                for time, window in zip(times, windows, strict=True)
                for tag in window.tags
            )
        tags_width = width - INDENT - time_width - GAP
        grid = _grid(time_width, GAP, tags_width)
        for time, window in zip(times, windows, strict=True):
            grid.add_row(time, "", _packed(map(self._tag, window.tags), tags_width))
        return grid

    def _tag(self, tag: Tag) -> Text:
        return Text.assemble(*self._named(tag.label, tag.score))


class TableEvents(_Table[SourceEvents]):
    """The events of a source, a line each."""

    def _body(self, result: SourceEvents, width: int) -> RenderableType:
        if not result.events:
            return Text("no event", QUIET_STYLE)
        times, time_width = self._times(result.events, exact=True)
        names = (
            event.label if event.channel == "mix" else f"{event.label} (channel {event.channel})"
            for event in result.events
        )
        scores = (event.score for event in result.events)
        rows = zip(times, names, scores, strict=True)
        if width < NARROW:
            return self._lines(rows)
        return self._scored(width, rows, time_width=time_width)


def _grid(*widths: int) -> Table:
    """Columns of those widths and nothing between them."""
    grid = Table.grid(padding=0)
    for width in widths:
        grid.add_column(width=width, overflow="fold")
    return grid


def _packed(items: Iterable[Text], width: int) -> Text:
    """As many items a line as fit; one that is wider than a line is left to be folded."""
    lines: list[Text] = []
    for item in items:
        if lines and lines[-1].cell_len + cell_len(TAG_GAP) + item.cell_len <= width:
            lines[-1].append(TAG_GAP).append_text(item)
        else:
            lines.append(item)
    return Text("\n", overflow="fold").join(lines)


def duration_text(duration_s: float) -> str:
    """A duration for reading: 0.25 s, 10.0 s, 2:05 min, 1:00:00 h."""
    if duration_s < 1:
        return f"{duration_s:.2f} s"
    if duration_s < 59.95:
        return f"{duration_s:.1f} s"
    clock = _clock(round(duration_s))
    return f"{clock} h" if clock.count(":") == 2 else f"{clock} min"


def _clock(time_s: float, *, exact: bool = False) -> str:
    """Minutes and seconds, with hours or a fraction where there are any: 0:10, 0:02.5, 1:00:00."""
    whole, milliseconds = divmod(round(seconds(time_s) * 1000), 1000)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    fraction = f".{milliseconds:03d}" if exact else f".{milliseconds:03d}".rstrip("0").rstrip(".")
    return f"{hours}:{minute:02d}:{second:02d}{fraction}" if hours else f"{minute}:{second:02d}{fraction}"
