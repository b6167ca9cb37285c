r"""Tab-separated rows for shell pipelines: nothing is quoted, so `cut`, `awk` and `sort` see the columns.

    source  channel  start_s  end_s  rank  label  score          tags
    source  channel  start_s  end_s  label  score                events
    source  channel  start_s  end_s  e0  e1  e2  ...             embeddings

With a clock, tags and events end with a column `clock`.

No header unless asked for. A tab, newline, carriage return or backslash within a name or label is written
`\t`, `\n`, `\r`, `\\`; a name that is no UTF-8 keeps its bytes.
"""

from __future__ import annotations

from dymn_cli.results import Event, Tag
from dymn_cli.writers.rows import Cells, EmbeddingRows, EventRows, LongRows
from dymn_cli.writers.spelling import name_bytes

__all__ = ["TsvEmbeddings", "TsvEvents", "TsvTags", "tsv_line"]

_ESCAPES = str.maketrans({"\t": r"\t", "\n": r"\n", "\r": r"\r", "\\": r"\\"})


def tsv_line(cells: Cells) -> bytes:
    """One row, its newline included."""
    return name_bytes("\t".join(str(cell).translate(_ESCAPES) for cell in cells)) + b"\n"


class TsvTags(LongRows):
    """What `dymn tag` writes into a pipe."""

    has_header = False
    line = tsv_line
    columns = ("source", "channel", "start_s", "end_s", "rank", "label", "score")

    def tag_cells(self, tag: Tag) -> Cells:
        """Rank, label and score."""
        return tag.rank, tag.label, self.options.score(tag.score)


class TsvEvents(EventRows):
    """What `dymn events` writes into a pipe."""

    has_header = False
    line = tsv_line
    columns = ("source", "channel", "start_s", "end_s", "label", "score")

    def event_cells(self, event: Event) -> Cells:
        """Label and score."""
        return event.label, self.options.score(event.score)


class TsvEmbeddings(EmbeddingRows):
    """A row an embedding."""

    has_header = False
    line = tsv_line
