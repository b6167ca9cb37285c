"""A target and the writer of its format, together with what lies beside the file.

    with open_tags("tags.csv", "csv", options) as writer:    # tags.csv and tags.csv.meta.json
        for result in results:
            writer.write(result)

They appear together, when the block ends without an exception, and the main file last: where it is, the
others are. What an earlier result of that name had beside it, and this one has not, goes. Beside standard
output, devices and pipes lies nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from dymn_cli.writers.base import (
    EmbeddingOptions,
    EmbeddingWriter,
    EventWriter,
    Provenance,
    TagWriter,
    Writer,
    WriterOptions,
)
from dymn_cli.writers.beside import index_of, is_left_over, meta_of, open_beside
from dymn_cli.writers.formats import WITHOUT_PROVENANCE, embedding_writer, event_writer, tag_writer
from dymn_cli.writers.meta import meta_document
from dymn_cli.writers.target import Target, open_target, remove_target, seekable_stream, together

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from rich.console import Console

__all__ = ["open_embeddings", "open_events", "open_tags"]

T_contra = TypeVar("T_contra", contravariant=True)


def open_tags(
    out: str | None, name: str, options: WriterOptions, *, force: bool = False, console: Console | None = None
) -> AbstractContextManager[TagWriter]:
    """Write tags to standard output or to a file.

    Args:
        out: None or "-" for standard output, else a path. A file whose format has no place for provenance
            gets `OUT.meta.json` beside it.
        name: of the format.
        options: how.
        force: replace what exists.
        console: see `tag_writer`.

    Raises:
        OutputError: one of the files exists or cannot be written.
        UsageError: see `tag_writer`.
    """
    make = partial(tag_writer, name, options=options, console=console)
    return _open_rows(out, name, options, make, force=force)


def open_events(
    out: str | None, name: str, options: WriterOptions, *, force: bool = False, console: Console | None = None
) -> AbstractContextManager[EventWriter]:
    """Write events to standard output or to a file; all as for tags."""
    make = partial(event_writer, name, options=options, console=console)
    return _open_rows(out, name, options, make, force=force)


@contextlib.contextmanager
def _open_rows(
    out: str | None,
    name: str,
    options: WriterOptions,
    make: Callable[[BinaryIO], Writer[T_contra]],
    *,
    force: bool,
) -> Iterator[Writer[T_contra]]:
    main = open_target(out, force=force, styled=name == "table")
    meta = _meta_beside(main, name, str(out), options.provenance, force=force)
    with together(main, *meta):
        writer = make(main.stream)
        writer.begin()
        yield writer
        writer.end()
        _write_meta(meta, options.provenance, writer.facts)
    if main.is_file and not meta:
        _remove_stale(meta_of(str(out), name), str(out))


@contextlib.contextmanager
def open_embeddings(
    out: str | None, name: str, options: EmbeddingOptions, *, force: bool = False
) -> Iterator[EmbeddingWriter]:
    """Write embeddings to standard output or to a file.

    Args:
        out: None or "-" for standard output, else a path. A csv or tsv file gets `OUT.meta.json` beside
            it, an npy file `NAME.index.csv` and `NAME.meta.json`, where NAME is OUT without ".npy".
        name: of the format.
        options: how.
        force: replace what exists.

    Raises:
        OutputError: one of the files exists or cannot be written.
        UsageError: see `embedding_writer`.
    """
    main = open_target(out, force=force)
    meta = _meta_beside(main, name, str(out), options.provenance, force=force)
    index = [open_beside(index_of(str(out)), str(out), force=force)] if main.is_file and name == "npy" else []
    with contextlib.ExitStack() as stack:
        stack.enter_context(together(main, *index, *meta))
        stream = stack.enter_context(seekable_stream(main)) if name == "npy" else main.stream
        writer = embedding_writer(name, stream, options, index=index[0].stream if index else None)
        writer.begin()
        yield writer
        writer.end()
        _write_meta(meta, options.provenance, writer.facts)
    if main.is_file and not meta:
        _remove_stale(meta_of(str(out), name), str(out))


def _meta_beside(
    main: Target, name: str, out: str, provenance: Provenance | None, *, force: bool
) -> list[Target]:
    """The file that says what made the main one: where its format has no place for that, and for a share."""
    is_needed = provenance is not None and (name in WITHOUT_PROVENANCE or provenance.share is not None)
    return [open_beside(meta_of(out, name), out, force=force)] if main.is_file and is_needed else []


def _write_meta(meta: list[Target], provenance: Provenance | None, facts: Mapping[str, object]) -> None:
    for target in meta:
        if provenance is not None:
            target.stream.write(meta_document(provenance, facts))


def _remove_stale(meta: str, out: str) -> None:
    """Remove what says how an earlier result was made: readers would take it for this one's."""
    if is_left_over(meta, out):
        remove_target(meta)
