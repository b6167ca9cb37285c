"""From results to bytes: streaming, and atomic where the target is a file.

    ClipResult | SourceEvents | Failure ──▶ a writer (a class a format) ──▶ a target (stdout, device, file)

`open_tags`, `open_events` and `open_embeddings` bring both together; `formats` knows the formats by name.
Importing this loads neither NumPy nor rich.
"""

from dymn_cli.writers.base import (
    EmbeddingOptions,
    EmbeddingRow,
    EmbeddingWriter,
    EventWriter,
    Provenance,
    TagWriter,
    WriterOptions,
)
from dymn_cli.writers.formats import (
    BINARY,
    EMBEDDING_FORMATS,
    EVENT_FORMATS,
    ONE_SOURCE,
    ROW_FORMATS,
    TAG_FORMATS,
    WITH_CLOCK,
    WITH_CSV,
    choose_format,
    embedding_writer,
    event_writer,
    tag_writer,
)
from dymn_cli.writers.lists import write_failures, write_warnings
from dymn_cli.writers.output import open_embeddings, open_events, open_tags
from dymn_cli.writers.spans import several_sources
from dymn_cli.writers.target import check_target

__all__ = [
    "BINARY",
    "EMBEDDING_FORMATS",
    "EVENT_FORMATS",
    "ONE_SOURCE",
    "ROW_FORMATS",
    "TAG_FORMATS",
    "WITH_CLOCK",
    "WITH_CSV",
    "EmbeddingOptions",
    "EmbeddingRow",
    "EmbeddingWriter",
    "EventWriter",
    "Provenance",
    "TagWriter",
    "WriterOptions",
    "check_target",
    "choose_format",
    "embedding_writer",
    "event_writer",
    "open_embeddings",
    "open_events",
    "open_tags",
    "several_sources",
    "tag_writer",
    "write_failures",
    "write_warnings",
]
