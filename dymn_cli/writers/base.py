"""The interface of writers, and their options: a class for each format, results in, bytes out.

A writer streams: the bytes of a source leave as soon as it is written, so a pipe sees them at once and memory
does not grow with the number of sources. Files are the business of `target`; `output` joins both.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO, Generic, Literal, TypeVar

from dymn_cli.errors import UsageError
from dymn_cli.results import ClipResult, Failure, ModelInfo, SourceEvents
from dymn_cli.values import require_choice, require_whole
from dymn_cli.writers.spelling import clock_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dymn_cli.labels import Label

__all__ = [
    "EmbeddingOptions",
    "EmbeddingRow",
    "EmbeddingWriter",
    "EventWriter",
    "Layout",
    "OptionValue",
    "Provenance",
    "TagWriter",
    "Writer",
    "WriterOptions",
]

Layout = Literal["long", "wide", "matrix"]
OptionValue = str | int | float | bool | None | tuple[str, ...]

MAX_PRECISION = 9  # a float32 has no more digits than that


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made a result, as far as it changes the result: equal runs have equal provenance.

    Args:
        version: of dymn.
        model: who answers.
        options: (name, value) of those that change numbers: window_s, hop_s, pad, aggregate, channel, ...
            No times, host names or absolute paths.
        share: (number, of how many) of the inputs that the result is of; None for all of them.
    """

    version: str
    model: ModelInfo
    options: tuple[tuple[str, OptionValue], ...] = ()
    share: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterOptions:
    """How tags and events are written.

    Args:
        provenance: goes into every machine format, or into a file beside it; None where nobody knows.
        header: whether tsv and csv begin with the names of their columns; None is the format's default.
        precision: decimals of a score.
        windows: the tags of each window instead of (JSON: beside) those of the clip.
        layout: "long" has a row a tag, "wide" (csv) a row a clip with its best tags, "matrix" (csv, parquet)
            a row a clip with a column for each of `labels`.
        top: pairs of columns in a wide csv: how many tags a clip has at most. Of "all", their number.
        channel: what was asked for: "mix", "each", or a number, for formats that must know beforehand.
        labels: the columns of a matrix, usually all of the model.
        csv_safe: in csv, take the meaning of a formula from cells that a spreadsheet would run as one.
        clock: says when a recording began, or None where nothing tells; each row then has a `clock`.
        clock_at: likewise, where places have clock times already: says that of a place in a recording, in
            seconds, or "".
        scores: in Audacity's labels, write the score behind the label.

    Raises:
        UsageError: a precision that no score has, windows in a layout with a row a clip, or a matrix
            without labels.
    """

    provenance: Provenance | None
    header: bool | None = None
    precision: int = 4
    windows: bool = False
    layout: Layout = "long"
    top: int = 5
    channel: str = "mix"
    labels: tuple[Label, ...] = ()
    csv_safe: bool = False
    clock: Callable[[str], datetime | None] | None = None
    clock_at: Callable[[str, float], str] | None = None
    scores: bool = False

    def __post_init__(self) -> None:
        require_whole("precision", self.precision)
        require_whole("top", self.top)
        if self.top < 0:
            raise UsageError(f"top {self.top} is negative")
        if not 0 <= self.precision <= MAX_PRECISION:
            raise UsageError(f"precision {self.precision} is not between 0 and {MAX_PRECISION}")
        require_choice("layout", self.layout, Layout)
        if self.layout != "long" and self.windows:
            raise UsageError(
                f"the {self.layout} layout has one row a clip, so it cannot show windows",
                hint="leave out --windows, or choose --layout long",
            )
        if self.layout == "matrix" and not self.labels:
            raise UsageError("a matrix needs to know its labels")
        if self.scores and not self.precision:
            raise UsageError("--scores needs decimals: Dog 1 could be a name", hint="--precision 2")

    @property
    def has_clock(self) -> bool:
        """Whether rows have clock times."""
        return self.clock is not None or self.clock_at is not None

    @property
    def clock_column(self) -> tuple[str, ...]:
        """The column that rows end with, if there is one."""
        return ("clock",) if self.has_clock else ()

    def clock_cells(self, source: str) -> Callable[[float], tuple[str, ...]]:
        """What gives, for a place in a source in seconds, the cell of that column: "" where nobody knows."""
        if self.clock_at is not None:
            at = self.clock_at
            return lambda start_s: (at(source, start_s),)
        if self.clock is None:
            return lambda start_s: ()
        began = self.clock(source)
        return lambda start_s: (clock_text(began, start_s),)

    def score(self, value: float) -> str:
        """A score with so many decimals; nothing where it is unknown (NaN)."""
        return "" if math.isnan(value) else f"{value:.{self.precision}f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingOptions:
    """How embeddings are written.

    Args:
        provenance: goes into every format, or into a file beside it; None where nobody knows.
        size: D, values of an embedding.
        header: whether tsv and csv begin with the names of their columns; None is the format's default.
        csv_safe: in csv and in the index of a matrix, as for tags.

    Raises:
        UsageError: a size that no embedding has.
    """

    provenance: Provenance | None
    size: int
    header: bool | None = None
    csv_safe: bool = False

    def __post_init__(self) -> None:
        require_whole("size", self.size)
        if self.size < 0:
            raise UsageError(f"an embedding of {self.size} values")


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingRow:
    """The embedding of a stretch of one channel of one source: a window, a frame, or the clip.

    Args:
        source: the name as it was given.
        channel: "mix", or the channel's number from 0.
        start_s: where the stretch starts in the source.
        end_s: where it ends.
        embedding: (D,) float32.
        warnings: of the whole source, one line each.
    """

    source: str
    channel: str
    start_s: float
    end_s: float
    embedding: NDArray[np.float32]
    warnings: tuple[str, ...] = ()

    @classmethod
    def of_clip(cls, result: ClipResult) -> EmbeddingRow:
        """The mean over the windows of a clip."""
        return cls(result.source, result.channel, 0.0, result.duration_s, result.embedding, result.warnings)


T_contra = TypeVar("T_contra", contravariant=True)


class Writer(ABC, Generic[T_contra]):
    """Writes one format to a binary stream: `begin`, then `write` or `fail` per source, then `end`."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream

    def begin(self) -> None:
        """Write what comes before the first source."""

    @abstractmethod
    def write(self, result: T_contra) -> None:
        """Write what one source gave, and hand it over."""

    def fail(self, failure: Failure) -> None:
        """Write that a source gave nothing, in formats that say so; elsewhere it is said on stderr."""

    def end(self) -> None:
        """Write what comes after the last source."""

    @property
    def facts(self) -> Mapping[str, object]:
        """What the file of provenance says of the output itself, once it is complete."""
        return {}

    def hand_over(self, data: bytes) -> None:
        """Pass on the bytes of one source, at once."""
        self.stream.write(data)
        self.stream.flush()


TagWriter = Writer[ClipResult]
EventWriter = Writer[SourceEvents]
EmbeddingWriter = Writer[Sequence[EmbeddingRow]]
