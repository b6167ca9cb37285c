"""What a row of a result holds, and rows put together to the results that they came of."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from dymn_cli.errors import InputError, UsageError
from dymn_cli.labels import Label, Vocabulary
from dymn_cli.results import AudioInfo, ClipResult, Event, ModelInfo, SourceEvents, Tag, WindowTags

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["UNKNOWN_AUDIO", "UNKNOWN_MODEL", "Row", "clips_of", "events_of", "no_values", "with_label"]

UNKNOWN_AUDIO = AudioInfo(0, 0, None, "", "")
UNKNOWN_MODEL = ModelInfo("", "", "", "")


@dataclass(frozen=True, slots=True)
class Row:
    """A label of a stretch of a recording.

    Args:
        source: the recording.
        channel: "mix", or the channel's number from 0.
        start_s: where the stretch starts, in seconds.
        end_s: where it ends.
        label: its name, id or slug; "" where the row only says that the recording is there.
        mid: its AudioSet id, "" where it has none, None where the format has no place for one.
        score: in [0, 1]; NaN where unknown.
        mean_score: of an event; likewise.
        n_windows: of an event; 0 where unknown.
        index: the label's place in the model's outputs; -1 where unknown.
        rank: of a tag, from 1; 0 for an event.
    """

    source: str
    channel: str = "mix"
    start_s: float = 0.0
    end_s: float = 0.0
    label: str = ""
    mid: str | None = None
    score: float = math.nan
    mean_score: float = math.nan
    n_windows: int = 0
    index: int = -1
    rank: int = 0

    def checked(self, where: str) -> Row:
        """The row itself.

        Raises:
            InputError: it ends before it begins, or has no label.
        """
        if self.end_s < self.start_s:
            raise InputError(
                f"{where}: the event ends at {self.end_s:g} s, before it begins ({self.start_s:g} s)"
            )
        if not self.label and not self.mid:
            raise InputError(f"{where}: no label")
        return self


@functools.cache
def _audioset_label(text: str) -> Label | None:
    try:
        return Vocabulary.audioset().find(text)
    except UsageError:
        return None


def with_label(row: Row) -> Row:
    """The row with what AudioSet's list says of its label: name for a slug, id and index where missing.

    A label without an id, in a format that has ids, is of another list.
    """
    if row.index >= 0 or row.mid == "" or not (row.label or row.mid):
        return row
    known = _audioset_label(row.mid or row.label)
    if known is None:
        return row
    label = known.name if row.mid is None or not row.label else row.label
    return replace(row, label=label, mid=known.mid if row.mid is None else row.mid, index=known.index)


def events_of(rows: Iterable[Row], model: ModelInfo, chunk: int | None) -> Iterator[SourceEvents]:
    """Rows of events, put together by recording.

    Args:
        rows: in the order of the file.
        model: who answered.
        chunk: at most so many events at a time; a recording with more comes in several pieces.
    """
    for source, of_source in groupby(rows, lambda row: row.source):
        events: list[Event] = []
        n_pieces = 0
        for row in of_source:
            if row.label or row.mid:
                if chunk is not None and len(events) == chunk:
                    yield SourceEvents(source, UNKNOWN_AUDIO, math.nan, tuple(events), (), model)
                    n_pieces += 1
                    events = []
                events.append(_event(row))
        if events or not n_pieces:
            yield SourceEvents(source, UNKNOWN_AUDIO, math.nan, tuple(events), (), model)


def _event(row: Row) -> Event:
    return Event(
        row.source, row.channel, row.start_s, row.end_s, row.index, row.label, row.mid or "", row.score,
        row.mean_score, row.n_windows,
    )  # fmt: skip


def clips_of(rows: Iterable[Row], model: ModelInfo, chunk: int | None) -> Iterator[ClipResult]:
    """Rows of tags, put together by recording and channel; every stretch is a window of the clip.

    The tags of the clip are those of its only window, or the highest score of each label in its windows. The
    length is the end of the last window.

    Args:
        rows: in the order of the file.
        model: who answered.
        chunk: at most about so many tags at a time; a clip with more comes in several pieces.
    """
    for (source, channel), of_clip in groupby(rows, lambda row: (row.source, row.channel)):
        windows: list[WindowTags] = []
        n_tags = 0
        for (start_s, end_s), of_window in groupby(of_clip, lambda row: (row.start_s, row.end_s)):
            tags = tuple(_tag(row) for row in of_window if row.label or row.mid)
            if chunk is not None and n_tags + len(tags) > chunk and windows:
                yield _clip_of(source, channel, windows, model)
                windows, n_tags = [], 0
            windows.append(WindowTags(start_s, end_s, tags))
            n_tags += len(tags)
        yield _clip_of(source, channel, windows, model)


def _tag(row: Row) -> Tag:
    return Tag(row.rank, row.index, row.label, row.mid or "", row.score)


def _clip_of(source: str, channel: str, windows: list[WindowTags], model: ModelInfo) -> ClipResult:
    """A clip of which only windows are known."""
    tags = windows[0].tags
    if len(windows) > 1:
        best: dict[str, Tag] = {}
        for tag in (tag for window in windows for tag in window.tags):
            if tag.label not in best or tag.score > best[tag.label].score:
                best[tag.label] = tag
        ranked = sorted(best.values(), key=lambda tag: -tag.score)
        tags = tuple(replace(tag, rank=n) for n, tag in enumerate(ranked, start=1))
    duration_s = max(window.end_s for window in windows)
    return ClipResult(
        source, channel, UNKNOWN_AUDIO, duration_s, tags, no_values(), no_values(), len(windows),
        tuple(windows), (), model,
    )  # fmt: skip


@functools.cache
def no_values() -> NDArray[np.float32]:
    """An array without values, for scores and embeddings that a result does not hold."""
    import numpy as np

    return np.zeros(0, np.float32)
