"""Comma-separated rows after RFC 4180, but with plain newlines, and with a header unless it is switched off.

    source,channel,start_s,end_s,rank,label,mid,score            tags, long: a row a tag
    source,duration_s,label_1,score_1,label_2,score_2,...        tags, wide: a row a clip
    source,channel,start_s,end_s,Speech,"Male speech, ...        tags, matrix: a row a clip, a column a label
    source,channel,start_s,end_s,label,mid,score,mean_score,n_windows                      events
    source,channel,start_s,end_s,e0,e1,...                       embeddings

The wide columns stand as they are whatever is asked for. Where that is a channel (`--channel each` or a
number), it follows as a last column: rows of one source can be told apart, and no other column moves.
With a clock, all but the matrix end with a column `clock`: when the row's stretch began, in ISO 8601.
Cells are data: a name that begins with `=` stays that name, unless a safe csv is asked for (see `rows`); one
that is no UTF-8 keeps its bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dymn_cli.results import ClipResult, Event, Tag
from dymn_cli.writers.rows import Cells, EmbeddingRows, EventRows, LongRows, RowWriter
from dymn_cli.writers.spelling import name_bytes, seconds

__all__ = ["CsvEmbeddings", "CsvEvents", "CsvTags", "MatrixCsvTags", "WideCsvTags", "csv_line"]

SPECIAL = re.compile(r'[,"\r\n]')


def csv_line(cells: Cells) -> bytes:
    """One row, its newline included."""
    return name_bytes(",".join(_quoted(str(cell)) for cell in cells)) + b"\n"


def _quoted(text: str) -> str:
    # Not left to the standard library: a lone carriage return it quotes in some versions of Python only.
    return '"' + text.replace('"', '""') + '"' if SPECIAL.search(text) else text


class CsvTags(LongRows):
    """The long layout."""

    has_header = True
    line = csv_line
    columns = ("source", "channel", "start_s", "end_s", "rank", "label", "mid", "score")

    def tag_cells(self, tag: Tag) -> Cells:
        """Rank, label, id and score."""
        return tag.rank, tag.label, tag.mid, self.options.score(tag.score)


class WideCsvTags(RowWriter[ClipResult]):
    """The wide layout: cells stay empty where the selection kept fewer tags than there are columns."""

    has_header = True
    line = csv_line

    @property
    def columns(self) -> Iterator[str]:
        """As many pairs as a clip may have tags."""
        yield from ("source", "duration_s")
        for n in range(1, self.options.top + 1):
            yield from (f"label_{n}", f"score_{n}")
        if self.options.channel != "mix":
            yield "channel"

    def rows(self, result: ClipResult) -> Iterator[Cells]:
        """The one row of a clip."""
        pairs = [cell for tag in result.tags for cell in (tag.label, self.options.score(tag.score))]
        empty = [""] * (2 * (self.options.top - len(result.tags)))
        channel = [] if self.options.channel == "mix" else [result.channel]
        clock = self.options.clock_cells(result.source)(0.0)
        yield result.source, seconds(result.duration_s), *pairs, *empty, *channel, *clock


class MatrixCsvTags(RowWriter[ClipResult]):
    """The matrix: the scores of all labels, whatever the selection kept."""

    has_header = True
    line = csv_line

    @property
    def columns(self) -> Iterator[str]:
        """The place, then a column for each label."""
        yield from ("source", "channel", "start_s", "end_s")
        yield from (label.name for label in self.options.labels)

    def rows(self, result: ClipResult) -> Iterator[Cells]:
        """The one row of a clip."""
        scores = (self.options.score(result.scores[label.index]) for label in self.options.labels)
        yield result.source, result.channel, 0.0, seconds(result.duration_s), *scores


class CsvEvents(EventRows):
    """A row an event."""

    has_header = True
    line = csv_line
    columns = (
        "source", "channel", "start_s", "end_s", "label", "mid", "score", "mean_score", "n_windows"
    )  # fmt: skip

    def event_cells(self, event: Event) -> Cells:
        """Label, id, both scores and the number of windows."""
        scores = map(self.options.score, (event.score, event.mean_score))
        return event.label, event.mid, *scores, event.n_windows or ""


class CsvEmbeddings(EmbeddingRows):
    """A row an embedding."""

    has_header = True
    line = csv_line
