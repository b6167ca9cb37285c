"""The formats by name: which there are, which a file name asks for, and what writes them.

Cheap to import: what needs NumPy or rich is loaded when its format is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, BinaryIO

from dymn_cli.errors import UsageError
from dymn_cli.values import nearest
from dymn_cli.writers.base import EmbeddingOptions, EmbeddingWriter, EventWriter, TagWriter, WriterOptions
from dymn_cli.writers.spans import SpanWriter
from dymn_cli.writers.to_audacity import AudacityLabels
from dymn_cli.writers.to_csv import CsvEmbeddings, CsvEvents, CsvTags, MatrixCsvTags, WideCsvTags
from dymn_cli.writers.to_json import JsonlEmbeddings, JsonlTags, JsonTags
from dymn_cli.writers.to_kaleidoscope import KaleidoscopeEvents
from dymn_cli.writers.to_raven import RavenSelections
from dymn_cli.writers.to_rttm import RttmEvents
from dymn_cli.writers.to_sed import SedEvents
from dymn_cli.writers.to_subtitles import SrtSubtitles, VttSubtitles
from dymn_cli.writers.to_tsv import TsvEmbeddings, TsvEvents, TsvTags

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "BINARY",
    "EMBEDDING_FORMATS",
    "EVENT_FORMATS",
    "ONE_SOURCE",
    "ROW_FORMATS",
    "TAG_FORMATS",
    "WITHOUT_PROVENANCE",
    "WITH_CSV",
    "choose_format",
    "embedding_writer",
    "event_writer",
    "format_for_suffix",
    "tag_writer",
]


def _parquet(kind: str) -> Callable[..., Any]:
    """A writer of `to_parquet`, which is loaded when its format is chosen."""

    def make(*arguments: object) -> Any:
        from dymn_cli.writers import to_parquet

        return getattr(to_parquet, kind)(*arguments)

    return make


_SPAN_WRITERS: dict[str, type[SpanWriter]] = {
    kind.format_name: kind for kind in (AudacityLabels, RavenSelections, SrtSubtitles, VttSubtitles)
}
_EVENT_SPAN_WRITERS: dict[str, type[SpanWriter]] = {
    **_SPAN_WRITERS,
    **{kind.format_name: kind for kind in (KaleidoscopeEvents, SedEvents, RttmEvents)},
}
_TAG_WRITERS: dict[str, Callable[[BinaryIO, WriterOptions], TagWriter]] = {
    "tsv": TsvTags,
    "csv": CsvTags,
    "json": JsonTags,
    "jsonl": JsonlTags,
    **_SPAN_WRITERS,
    "parquet": _parquet("ParquetTags"),
}
_TAG_LAYOUTS: dict[str, dict[str, Callable[[BinaryIO, WriterOptions], TagWriter]]] = {
    "long": _TAG_WRITERS,
    "wide": {"csv": WideCsvTags},
    "matrix": {"csv": MatrixCsvTags, "parquet": _parquet("ParquetMatrix")},
}
_EVENT_WRITERS: dict[str, Callable[[BinaryIO, WriterOptions], EventWriter]] = {
    "tsv": TsvEvents,
    "csv": CsvEvents,
    "json": JsonTags,
    "jsonl": JsonlTags,
    **_EVENT_SPAN_WRITERS,
    "parquet": _parquet("ParquetEvents"),
}
_EMBEDDING_WRITERS: dict[str, Callable[[BinaryIO, EmbeddingOptions], EmbeddingWriter]] = {
    "jsonl": JsonlEmbeddings,
    "csv": CsvEmbeddings,
    "tsv": TsvEmbeddings,
    "parquet": _parquet("ParquetEmbeddings"),
}

TAG_FORMATS = ("table", *_TAG_WRITERS)
EVENT_FORMATS = ("table", *_EVENT_WRITERS)
EMBEDDING_FORMATS = ("npy", *_EMBEDDING_WRITERS)

WITH_CLOCK = frozenset({"table", "csv", "tsv", "json", "jsonl", "parquet", "raven"})
WITHOUT_PROVENANCE = frozenset({"tsv", "csv", "npy", *_EVENT_SPAN_WRITERS})
"""Formats that have no place for what made them: a file beside them says it."""

ONE_SOURCE = frozenset(name for name, kind in _SPAN_WRITERS.items() if not kind.holds_several)
"""Formats that belong to one recording, whose name is nowhere in them."""

BINARY = frozenset({"npy", "parquet"})
"""Formats that are no text for a terminal."""

ROW_FORMATS = frozenset({"tsv", "csv"})  # a source is rows that may be written one by one
WITH_CSV = frozenset({"csv", "kaleidoscope", "npy"})
"""Formats that a spreadsheet may open, or a part of them: the index of a matrix."""

_OTHER_SUFFIXES = {"ndjson": "jsonl", "pq": "parquet"}
_AMBIGUOUS_SUFFIX = "txt"  # of any format of annotations


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
    if bare == _AMBIGUOUS_SUFFIX and "audacity" in formats:
        *others, last = (name for name in formats if name in _EVENT_SPAN_WRITERS)
        raise UsageError(
            f"the suffix {suffix} does not say which format", hint=f"--format {', '.join(others)} or {last}"
        )
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
        UsageError: there is no such format, or it has not that layout or option.
        OutputError: the format needs a library that is not installed.
    """
    known = _known(name, name, TAG_FORMATS)
    _check_options(known, options)
    if known == "table" and options.layout == "long":
        from dymn_cli.writers.to_table import TableTags

        return TableTags(stream, options, console)
    writers = _TAG_LAYOUTS[options.layout]
    if known not in writers:
        hint = f"--format {' and '.join(writers)} {'has' if len(writers) == 1 else 'have'} one"
        raise UsageError(f"the format {known} has no {options.layout} layout", hint=hint)
    return writers[known](stream, options)


def event_writer(
    name: str, stream: BinaryIO, options: WriterOptions, *, console: Console | None = None
) -> EventWriter:
    """What writes events in that format.

    Args:
        name: of the format.
        stream: gets the bytes.
        options: how.
        console: see `tag_writer`.

    Raises:
        UsageError: there is no such format, or it has not that option.
        OutputError: the format needs a library that is not installed.
    """
    known = _known(name, name, EVENT_FORMATS)
    _check_options(known, options)
    if known == "table":
        from dymn_cli.writers.to_table import TableEvents

        return TableEvents(stream, options, console)
    return _EVENT_WRITERS[known](stream, options)


def _check_options(known: str, options: WriterOptions) -> None:
    """Refuse options that a format has no place for."""
    _check_safe(known, options.csv_safe)
    if options.scores and known != "audacity":
        raise UsageError(
            "--scores is about labels for Audacity", hint="-f audacity; other formats have scores"
        )
    if not options.has_clock:
        return
    if known not in WITH_CLOCK:
        raise UsageError(
            f"the format {known} has no place for --clock", hint=f"{', '.join(sorted(WITH_CLOCK))} have one"
        )
    if options.layout == "matrix":
        raise UsageError("--clock has no place in the matrix layout", hint="--layout long or wide")


def _check_safe(known: str, csv_safe: bool) -> None:
    if csv_safe and known not in WITH_CSV:
        raise UsageError(
            f"--csv-safe is about csv; {known} is written as it is", hint="leave it out, or --format csv"
        )


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
        UsageError: there is no such format, or it has not that option.
    """
    known = _known(name, name, EMBEDDING_FORMATS)
    _check_safe(known, options.csv_safe)
    if known == "npy":
        from dymn_cli.writers.to_npy import NpyEmbeddings

        return NpyEmbeddings(stream, options, index)
    return _EMBEDDING_WRITERS[known](stream, options)


def _known(given: str, name: str, formats: Sequence[str]) -> str:
    if name in formats:
        return name
    raise UsageError(f"unknown format {given!r}", hint=f"{nearest(name, formats)} (--format NAME)")
