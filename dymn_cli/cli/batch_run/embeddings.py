"""Embeddings beside tags: `dymn tag DIR --embed emb.npy` writes what `dymn embed` does, in the same pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dymn_cli.cli.batch_run.provenance import provenance_of

if TYPE_CHECKING:
    from dymn_cli.cli.batch_run.run import Run
    from dymn_cli.tagging.options import TagOptions
    from dymn_cli.writers import EmbeddingWriter

__all__ = ["embedding_format", "open_beside"]


def embedding_format(out: str | None) -> str | None:
    """The format of the file of embeddings, by its suffix; None where none is asked for.

    Raises:
        UsageError: no format of embeddings ends so.
    """
    from dymn_cli.writers import EMBEDDING_FORMATS, choose_format

    return None if out is None else choose_format(None, out, default="npy", formats=EMBEDDING_FORMATS)


@contextmanager
def open_beside(
    out: str | None,
    format_name: str | None,
    run: Run,
    options: TagOptions,
    per: str | None,
    *,
    force: bool,
    csv_safe: bool = False,
) -> Iterator[EmbeddingWriter | None]:
    """The writer of the embeddings that a run over tags keeps, or None where it keeps none.

    Args:
        out: the file.
        format_name: see `embedding_format`.
        run: where the embeddings come from.
        options: how sources are cut.
        per: "clip" or "window".
        force: replace what exists.
        csv_safe: as for the tags, in formats that a spreadsheet may open.

    Raises:
        OutputError: the file exists or cannot be written.
    """
    if out is None or format_name is None:
        yield None
        return
    from dymn_cli.writers import WITH_CSV, EmbeddingOptions, open_embeddings

    description = run.engine.description
    writing = EmbeddingOptions(
        provenance=dataclasses.replace(
            provenance_of(description, options, per=per), share=run.provenance.share
        ),
        size=description.embedding_size,
        csv_safe=csv_safe and format_name in WITH_CSV,
    )
    with open_embeddings(out, format_name, writing, force=force) as writer:
        yield writer
