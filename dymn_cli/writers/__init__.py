"""From results to bytes: streaming, and atomic where the target is a file.

    ClipResult | Failure ──▶ a writer (one class a format) ──▶ a target (standard output, device, file)

`open_tags` and `open_embeddings` bring both together; `formats` knows the formats by name. Importing this
loads neither NumPy nor rich.
"""

from dymn_cli.writers.base import (
    EmbeddingOptions,
    EmbeddingRow,
    EmbeddingWriter,
    Provenance,
    TagWriter,
    WriterOptions,
)
from dymn_cli.writers.failures import write_failures
from dymn_cli.writers.formats import EMBEDDING_FORMATS, TAG_FORMATS, choose_format
from dymn_cli.writers.output import open_embeddings, open_tags
from dymn_cli.writers.target import check_target

__all__ = [
    "EMBEDDING_FORMATS",
    "TAG_FORMATS",
    "EmbeddingOptions",
    "EmbeddingRow",
    "EmbeddingWriter",
    "Provenance",
    "TagWriter",
    "WriterOptions",
    "check_target",
    "choose_format",
    "open_embeddings",
    "open_tags",
    "write_failures",
]
