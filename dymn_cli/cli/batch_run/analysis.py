"""One kind of analysis, as the driver sees it: what to find out of a source, and how it is written.

`run.write_results` does the rest, which is the same for all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from dymn_cli.audio.clock import Clock
    from dymn_cli.batch.job import Job, ModelDescription, Reader
    from dymn_cli.cli.batch_run.run import Run, StartOf
    from dymn_cli.cli.options.groups import ModelOptions
    from dymn_cli.tagging.options import TagOptions
    from dymn_cli.writers import EmbeddingOptions, Provenance, WriterOptions
    from dymn_cli.writers.base import Writer

T = TypeVar("T")

__all__ = ["Analysis", "Formats", "job_of"]


@dataclass(frozen=True, slots=True)
class Formats:
    """The formats of a result, and which one is written where none is asked for.

    Args:
        names: all of them.
        terminal: the one for a terminal.
        pipe: for a pipe, and for a file whose name has no suffix.
        folder: for a file for each source.
        example: the stem of a file name, for hints.
    """

    names: Sequence[str]
    terminal: str
    pipe: str
    folder: str
    example: str


class Analysis(ABC, Generic[T]):
    """What a command finds out of each source.

    Attributes:
        formats: the formats of its results.
        job: what to compute.
        embed: a file of embeddings that is written in the same pass, or None.
        clock: says when recordings began, where that is asked for.
        rows: what its rows are in a data set: "tags", "events" or "embeddings".
        cut_folder: where it also cuts recordings to, or None; no input, even if it lies in one.
    """

    formats: Formats
    job: Job
    embed: str | None = None
    clock: Clock | None = None
    rows: ClassVar[Literal["tags", "events", "embeddings"]]
    cut_folder: str | None = None

    @abstractmethod
    def describe(self, model: ModelDescription) -> Provenance:
        """What makes the results, once the model is known.

        Raises:
            UsageError: the model does not have a label that is asked for.
        """

    @abstractmethod
    def read(self, reader: Reader, name: str) -> Iterable[T]:
        """The results of a source that has been analysed."""

    @abstractmethod
    def writing(
        self, model: ModelDescription, provenance: Provenance, clock: StartOf | None
    ) -> WriterOptions | EmbeddingOptions:
        """How results are written."""

    @abstractmethod
    def open_writer(self, run: Run[T]) -> AbstractContextManager[Writer[T]]:
        """The writer of all results to one place.

        Raises:
            OutputError: it cannot be written.
        """

    @abstractmethod
    def file_writer(self, run: Run[T], stream: BinaryIO, index: BinaryIO | None) -> Writer[T]:
        """The writer of one source's file in a folder; a matrix has an index."""

    def writes_early(self, format_name: str) -> bool:
        """Whether what is known of a pipe can be written while it goes on, with the same bytes in the end."""
        return False

    def beside(self, run: Run[T]) -> AbstractContextManager[Callable[[str], None]]:
        """What takes the name of each source once its results are written."""
        return nullcontext(lambda name: None)


def job_of(model: ModelOptions, options: TagOptions, **settings: Any) -> Job:
    """What to compute of each source.

    Args:
        model: which model, and what runs it.
        options: how to cut, join and select.
        settings: the other fields of `Job`.
    """
    from dymn_cli.batch.job import Job

    return Job(model.models, model.backend, model.device, model.batch_size, options, **settings)
