"""Tags of each source: the analysis of `dymn tag`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, BinaryIO

from dymn_cli.audio.clock import Clock
from dymn_cli.cli.batch_run.analysis import Analysis, Formats, job_of
from dymn_cli.cli.batch_run.embeddings import embedding_format, open_beside
from dymn_cli.cli.batch_run.provenance import provenance_of, tag_options
from dymn_cli.errors import UsageError
from dymn_cli.results import ClipResult
from dymn_cli.tagging.selection import named_labels, wanted_labels
from dymn_cli.tagging.thresholds import read_thresholds
from dymn_cli.values import require_choice
from dymn_cli.writers import ROW_FORMATS, TAG_FORMATS, WriterOptions, open_tags, tag_writer
from dymn_cli.writers.base import Layout

if TYPE_CHECKING:
    from dymn_cli.batch.job import ModelDescription, Reader
    from dymn_cli.cli.batch_run.run import Run, StartOf
    from dymn_cli.cli.options.groups import (
        InputOptions,
        ModelOptions,
        ResultOptions,
        SelectOptions,
        TimeOptions,
    )
    from dymn_cli.labels import Label, Vocabulary
    from dymn_cli.writers import Provenance, TagWriter

__all__ = ["TagAnalysis"]


class TagAnalysis(Analysis[ClipResult]):
    """Which sounds are in each source.

    Args:
        inputs: which channels.
        model: which model.
        time: how to cut.
        select: which tags.
        output: how they are written.
        windows: whether each window has tags of its own.
        layout: "long", "wide" or "matrix".
        precision: decimals of a score.
        clock: when recordings began, as `dymn_cli.audio.clock` reads it; None for no clock times.
        scores: whether labels for Audacity have their scores.
        embed: a file of embeddings of the same pass, or None.
        concat: whether the embeddings of several models are joined.

    Raises:
        UsageError: a value out of range, or options that exclude each other.
        InputError: the file of thresholds cannot be read.
    """

    formats = Formats(TAG_FORMATS, "table", "tsv", "csv", "tags")
    rows = "tags"

    def __init__(
        self,
        inputs: InputOptions,
        model: ModelOptions,
        time: TimeOptions,
        select: SelectOptions,
        output: ResultOptions,
        *,
        windows: bool = False,
        layout: str = "long",
        precision: int = 4,
        clock: str | None = None,
        scores: bool = False,
        embed: str | None = None,
        concat: bool = False,
    ) -> None:
        require_choice("--layout", layout, Layout)
        if concat and embed is None:
            raise UsageError("--concat is for embeddings", hint="--embed FILE writes them beside the tags")
        self.embed, self._embed_format = embed, embedding_format(embed)
        self._select, self._output, self._channel = select, output, inputs.channel
        self._windows, self._layout, self._precision = windows, layout, precision
        self.clock, self._scores = None if clock is None else Clock(clock), scores
        self._thresholds = read_thresholds(select.thresholds)
        options = tag_options(inputs, time, select, thresholds=self._thresholds, windows=windows)
        self.job = job_of(
            model,
            options,
            keep_scores=layout == "matrix",
            keep_embedding=embed is not None and not windows,
            keep_window_embeddings=embed is not None and windows,
            concat=concat,
        )

    def describe(self, model: ModelDescription) -> Provenance:
        """What makes the tags."""
        self._thresholds.require_known(model.vocabulary)
        return provenance_of(model, self.job.options, clock=self.clock)

    def read(self, reader: Reader, name: str) -> Iterable[ClipResult]:
        """A result for each channel."""
        return reader.clips(name)

    def open_writer(self, run: Run[ClipResult]) -> AbstractContextManager[TagWriter]:
        """The writer of all tags."""
        places = run.places
        return open_tags(
            places.out, places.format_name, self._writing_of(run), force=run.force, console=run.console
        )

    def file_writer(self, run: Run[ClipResult], stream: BinaryIO, index: BinaryIO | None) -> TagWriter:
        """The writer of one source's tags."""
        return tag_writer(run.places.format_name, stream, self._writing_of(run))

    def writes_early(self, format_name: str) -> bool:
        """Rows of windows; of several channels, they come one channel after the other."""
        return format_name in ROW_FORMATS and self._windows and self._channel != "each"

    def beside(self, run: Run[ClipResult]) -> AbstractContextManager[Callable[[str], None]]:
        """Writes the embeddings, where they are asked for."""
        if self.embed is None or self._embed_format is None:
            return super().beside(run)
        per = "window" if self._windows else "clip"
        return open_beside(
            self.embed, self._embed_format, run, self.job.options, per, csv_safe=self._output.csv_safe
        )

    def _writing_of(self, run: Run[ClipResult]) -> WriterOptions:
        return self.writing(run.model, run.provenance, run.clock)

    def writing(
        self, model: ModelDescription, provenance: Provenance, clock: StartOf | None
    ) -> WriterOptions:
        """How tags are written."""
        vocabulary = model.vocabulary
        return WriterOptions(
            provenance=provenance,
            header=self._output.header,
            precision=self._precision,
            windows=self._windows,
            layout=self._layout,  # type: ignore[arg-type]  # checked above
            top=min(self._select.top or len(vocabulary), len(vocabulary)),
            channel=self._channel,
            labels=self._columns(vocabulary),
            csv_safe=self._output.csv_safe,
            clock=clock,
            scores=self._scores,
        )

    def _columns(self, vocabulary: Vocabulary) -> tuple[Label, ...]:
        """The columns of a matrix: the labels asked for, in that order, or all that are not excluded."""
        options = self.job.options
        wanted = wanted_labels(options, vocabulary)
        named = named_labels(options.labels, vocabulary, descendants=options.descendants)
        return tuple(label for label in named if label in wanted) or wanted
