"""The formats by name: which there are, which a file name asks for, and what writes them.

Cheap to import: what needs NumPy or rich is loaded when its format is chosen.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, BinaryIO

from dymn_cli.errors import UsageError
from dymn_cli.writers.base import EmbeddingOptions, EmbeddingWriter, TagWriter, WriterOptions
from dymn_cli.writers.to_csv import CsvEmbeddings, CsvTags, WideCsvTags
from dymn_cli.writers.to_json import JsonlEmbeddings, JsonlTags, JsonTags
from dymn_cli.writers.to_tsv import TsvEmbeddings, TsvTags

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "EMBEDDING_FORMATS",
    "TAG_FORMATS",
    "WITHOUT_PROVENANCE",
    "choose_format",
    "embedding_writer",
    "format_for_suffix",
    "tag_writer",
]

_TAG_WRITERS: dict[str, Callable[[BinaryIO, WriterOptions], TagWriter]] = {
    "tsv": TsvTags,
    "csv": CsvTags,
    "json": JsonTags,
    "jsonl": JsonlTags,
}
_EMBEDDING_WRITERS: dict[str, Callable[[BinaryIO, EmbeddingOptions], EmbeddingWriter]] = {
    "jsonl": JsonlEmbeddings,
    "csv": CsvEmbeddings,
    "tsv": TsvEmbeddings,
}

TAG_FORMATS = ("table", *_TAG_WRITERS)
EMBEDDING_FORMATS = ("npy", *_EMBEDDING_WRITERS)

WITHOUT_PROVENANCE = frozenset({"tsv", "csv", "npy"})
"""Formats that have no place for what made them: a file beside them says it."""

_OTHER_SUFFIXES = {"ndjson": "jsonl"}


def choose_format(name: str | None, out: str | None, *, default: str, formats: Sequence[str]) -> str:
    """The format: the one that is named, else the one that the file's name ends with, else the default.

    Args:
        name: what `--format` says, if anything.
        out: what `--out` says, if anything.
        default: for a stream, and for a file whose name has no suffix.
        formats: those that the command has.

    Raises:
        UsageError: none of these.
    """
    if name is not None:
        return _known(name, name.lower(), formats)
    suffix = PurePath(out).suffix if out is not None else ""
    return format_for_suffix(suffix, formats) if suffix else default


def format_for_suffix(suffix: str, formats: Sequence[str] = TAG_FORMATS) -> str:
    """The format of files with that suffix, say ".csv".

    Raises:
        UsageError: none has it.
    """
    bare = suffix.removeprefix(".").lower()
    return _known(suffix, _OTHER_SUFFIXES.get(bare, bare), formats)


def tag_writer(
    name: str, stream: BinaryIO, options: WriterOptions, *, console: Console | None = None
) -> TagWriter:
    """What writes tags in that format.

    Args:
        name: of the format.
        stream: gets the bytes.
        options: how.
        console: width, colours and encoding of a table; None is plain, 80 columns, UTF-8.

    Raises:
        UsageError: there is no such format, or the layout is wide and the format has none.
    """
    known = _known(name, name, TAG_FORMATS)
    if options.layout == "wide":
        if known != "csv":
            raise UsageError(f"the format {known} has no wide layout", hint="--format csv has one")
        return WideCsvTags(stream, options)
    if known == "table":
        from dymn_cli.writers.to_table import TableTags

        return TableTags(stream, options, console)
    return _TAG_WRITERS[known](stream, options)


def embedding_writer(
    name: str, stream: BinaryIO, options: EmbeddingOptions, *, index: BinaryIO | None = None
) -> EmbeddingWriter:
    """What writes embeddings in that format.

    Args:
        name: of the format.
        stream: gets the bytes; for npy it must be seekable.
        options: how.
        index: gets the index of an npy matrix.

    Raises:
        UsageError: there is no such format.
    """
    known = _known(name, name, EMBEDDING_FORMATS)
    if known == "npy":
        from dymn_cli.writers.to_npy import NpyEmbeddings

        return NpyEmbeddings(stream, options, index)
    return _EMBEDDING_WRITERS[known](stream, options)


def _known(given: str, name: str, formats: Sequence[str]) -> str:
    if name in formats:
        return name
    nearest = difflib.get_close_matches(name, formats, n=3, cutoff=0.0)
    raise UsageError(f"unknown format {given!r}", hint=f"nearest: {', '.join(nearest)} (--format NAME)")
