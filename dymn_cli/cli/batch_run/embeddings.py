"""Embeddings of each source: the analysis of `dymn embed`, and the file that `dymn tag --embed` writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from dymn_cli.audio.frames import FRAME_HOP_S, FRAME_WINDOW_S, FramePlan
from dymn_cli.cli.batch_run.analysis import Analysis, Formats, job_of
from dymn_cli.cli.batch_run.provenance import provenance_of, tag_options
from dymn_cli.errors import UsageError
from dymn_cli.tagging.options import TagOptions
from dymn_cli.values import require_choice
from dymn_cli.writers import (
    EMBEDDING_FORMATS,
    WITH_CSV,
    EmbeddingOptions,
    EmbeddingRow,
    choose_format,
    embedding_writer,
    open_embeddings,
)

if TYPE_CHECKING:
    from dymn_cli.batch.job import ModelDescription, Reader
    from dymn_cli.cli.batch_run.run import Run, StartOf
    from dymn_cli.cli.options.groups import InputOptions, ModelOptions, ResultOptions, TimeOptions
    from dymn_cli.writers import EmbeddingWriter, Provenance

__all__ = ["EmbeddingAnalysis", "embedding_format", "open_beside"]

Rows = Sequence[EmbeddingRow]


class EmbeddingAnalysis(Analysis[Rows]):
    """Each source, window or frame as a vector.

    Args:
        inputs: which channels.
        model: which model.
        time: how to cut.
        output: how rows are written.
        per: "clip", "window" or "frame".
        concat: whether the embeddings of several models are joined.

    Raises:
        UsageError: a value out of range, or padding for frames.
    """

    formats = Formats(EMBEDDING_FORMATS, "jsonl", "jsonl", "npy", "emb")
    rows = "embeddings"

    def __init__(
        self,
        inputs: InputOptions,
        model: ModelOptions,
        time: TimeOptions,
        output: ResultOptions,
        *,
        per: str = "clip",
        concat: bool = False,
    ) -> None:
        require_choice("--per", per, ("clip", "window", "frame"))
        self._per, self._output = per, output
        self.job = job_of(
            model,
            _frames(inputs, time) if per == "frame" else tag_options(inputs, time),
            keep_embedding=per == "clip",
            keep_window_embeddings=per != "clip",
            concat=concat,
            tags=False,
        )

    def describe(self, model: ModelDescription) -> Provenance:
        """What makes the embeddings."""
        return provenance_of(model, self.job.options, per=self._per)

    def read(self, reader: Reader, name: str) -> Iterable[Rows]:
        """Some rows at a time."""
        return reader.embedding_rows(name)

    def open_writer(self, run: Run[Rows]) -> AbstractContextManager[EmbeddingWriter]:
        """The writer of all rows."""
        return open_embeddings(run.places.out, run.places.format_name, self._writing_of(run), force=run.force)

    def file_writer(self, run: Run[Rows], stream: BinaryIO, index: BinaryIO | None) -> EmbeddingWriter:
        """The writer of one source's rows."""
        return embedding_writer(run.places.format_name, stream, self._writing_of(run), index=index)

    def _writing_of(self, run: Run[Rows]) -> EmbeddingOptions:
        return self.writing(run.model, run.provenance, run.clock)

    def writing(
        self, model: ModelDescription, provenance: Provenance, clock: StartOf | None
    ) -> EmbeddingOptions:
        """How embeddings are written."""
        return EmbeddingOptions(
            provenance=provenance,
            size=model.embedding_size,
            header=self._output.header,
            csv_safe=self._output.csv_safe,
        )


def _frames(inputs: InputOptions, time: TimeOptions) -> TagOptions:
    if time.pad is not None:
        raise UsageError("--pad is for windows; frames are mirrored at the ends of a source")
    hop_s = FRAME_HOP_S if time.hop is None else time.hop
    window_s = max(FRAME_WINDOW_S, hop_s) if time.window is None else time.window
    return TagOptions(channel=inputs.channel, strict=inputs.strict, frames=FramePlan(window_s, hop_s))


def embedding_format(out: str | None) -> str | None:
    """The format of a file of embeddings beside tags, by its suffix; None where none is asked for.

    Raises:
        UsageError: no format of embeddings has that suffix.
    """
    try:
        return None if out is None else choose_format(None, out, default="npy", formats=EMBEDDING_FORMATS)
    except UsageError as error:
        hint = ", ".join(f".{name}" for name in EMBEDDING_FORMATS)
        raise UsageError(f"--embed {out}: no format of embeddings has this suffix", hint=hint) from error


@contextmanager
def open_beside(
    out: str, format_name: str, run: Run[Any], options: TagOptions, per: str, *, csv_safe: bool
) -> Iterator[Callable[[str], None]]:
    """Write embeddings beside the tags of a run.

    Args:
        out: the file.
        format_name: see `embedding_format`.
        run: where the embeddings come from.
        options: how sources are cut.
        per: "clip" or "window".
        csv_safe: as for the tags, in formats that a spreadsheet may open.

    Raises:
        OutputError: the file exists or cannot be written.
    """
    provenance = dataclasses.replace(provenance_of(run.model, options, per=per), share=run.provenance.share)
    writing = EmbeddingOptions(
        provenance=provenance, size=run.model.embedding_size, csv_safe=csv_safe and format_name in WITH_CSV
    )
    with open_embeddings(out, format_name, writing, force=run.force) as writer:

        def write(name: str) -> None:
            for rows in run.reader.embedding_rows(name):
                writer.write(rows)

        yield write
