"""Events of each source: the analysis of `dymn events`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, BinaryIO

from dymn_cli.audio.clock import Clock
from dymn_cli.cli.batch_run.analysis import Analysis, Formats, job_of
from dymn_cli.cli.batch_run.provenance import label_provenance, provenance_of
from dymn_cli.cli.options.groups import ResultOptions
from dymn_cli.cli.views.clips import tell
from dymn_cli.results import SourceEvents
from dymn_cli.tagging.events import EventOptions, default_hop_s, default_window_s
from dymn_cli.tagging.options import TagOptions
from dymn_cli.tagging.selection import wanted_labels
from dymn_cli.tagging.thresholds import read_thresholds
from dymn_cli.values import listed_labels
from dymn_cli.writers import EVENT_FORMATS, ROW_FORMATS, Provenance, WriterOptions, event_writer, open_events

if TYPE_CHECKING:
    from dymn_cli.batch.job import ModelDescription, Reader
    from dymn_cli.cli.batch_run.run import Run, StartOf
    from dymn_cli.cli.options.events import EventSelect, EventTime
    from dymn_cli.cli.options.groups import InputOptions, ModelOptions
    from dymn_cli.cutting import Cutter
    from dymn_cli.writers import EventWriter

__all__ = ["EventAnalysis"]


class EventAnalysis(Analysis[SourceEvents]):
    """When which sounds happen in each source.

    Args:
        inputs: which channels.
        model: which model.
        time: how to cut.
        select: what counts as an event.
        output: how events are written.
        precision: decimals of a score.
        cutter: cuts each event out as well.
        clock: when recordings began, as `dymn_cli.audio.clock` reads it; None for no clock times.
        scores: whether labels for Audacity have their scores.

    Raises:
        UsageError: a value out of range, or options that exclude each other.
        InputError: the file of thresholds cannot be read.
    """

    formats = Formats(EVENT_FORMATS, "table", "tsv", "csv", "events")
    rows = "events"

    def __init__(
        self,
        inputs: InputOptions,
        model: ModelOptions,
        time: EventTime,
        select: EventSelect,
        output: ResultOptions | None = None,
        *,
        precision: int = 4,
        cutter: Cutter | None = None,
        clock: str | None = None,
        scores: bool = False,
    ) -> None:
        self._cutter, self.cut_folder = cutter, None if cutter is None else cutter.folder
        self._output, self._precision = output or ResultOptions(), precision
        self.clock, self._scores = None if clock is None else Clock(clock), scores
        self._thresholds = read_thresholds(select.thresholds)
        self._wanted = EventOptions(
            method=select.method,  # type: ignore[arg-type]  # checked there
            on=select.on,
            off=select.off,
            thresholds=self._thresholds.pairs,
            labels=tuple(select.label),
            exclude=tuple(select.exclude),
            descendants=select.descendants,
            specific=select.specific,
            max_gap_s=select.max_gap,
            min_length_s=select.min_length,
        )
        method = self._wanted.method
        window_s = default_window_s(method) if time.window is None else time.window
        cut = TagOptions(
            window_s=window_s,
            hop_s=default_hop_s(window_s, method) if time.hop is None else time.hop,
            pad="repeat" if time.pad is None else time.pad,  # type: ignore[arg-type]  # checked there
            channel=inputs.channel,
            strict=inputs.strict,
            frame_scores=method == "frames",
        )
        self.job = job_of(model, cut, events=self._wanted)

    def describe(self, model: ModelDescription) -> Provenance:
        """What makes the events."""
        self._thresholds.require_known(model.vocabulary)
        wanted, vocabulary = self._wanted, model.vocabulary
        found = wanted_labels(wanted, vocabulary, silence=False)  # refuses what the model does not have
        labels = found if wanted.labels else ()
        base = provenance_of(model, self.job.options, per="event", clock=self.clock)
        options = (
            ("method", wanted.method),
            ("on", wanted.on_score),
            ("off", wanted.off_score),
            (
                "thresholds",
                tuple(f"{vocabulary.find(name).name}={score:g}" for name, score in wanted.thresholds),
            ),
            ("labels", tuple(label.name for label in labels)),
            ("max_gap_s", wanted.gap_s),
            ("min_length_s", wanted.min_length_s),
            ("calibration", model.calibration_digest),
            *label_provenance(wanted, vocabulary),
        )
        return Provenance(base.version, base.model, (*base.options, *options))

    def read(self, reader: Reader, name: str) -> Iterable[SourceEvents]:
        """The events of all channels, as one result."""
        return (reader.events(name),)

    def open_writer(self, run: Run[SourceEvents]) -> AbstractContextManager[EventWriter]:
        """The writer of all events."""
        places = run.places
        return open_events(
            places.out, places.format_name, self._writing_of(run), force=run.force, console=run.console
        )

    def file_writer(self, run: Run[SourceEvents], stream: BinaryIO, index: BinaryIO | None) -> EventWriter:
        """The writer of one source's events."""
        return event_writer(run.places.format_name, stream, self._writing_of(run))

    def writes_early(self, format_name: str) -> bool:
        """Rows."""
        return format_name in ROW_FORMATS

    @contextmanager
    def beside(self, run: Run[SourceEvents]) -> Iterator[Callable[[str], None]]:
        """What cuts the events of a source, where that was asked for; says at the end if there was none."""
        cutter = self._cutter
        has_events: bool | None = None  # there was no source yet

        def look(name: str) -> None:
            nonlocal has_events
            if cutter is None and has_events:
                return
            events = run.reader.events(name).events
            has_events = has_events or bool(events)
            if cutter is not None:
                cutter.expect(name)
                for event in events:
                    cutter.write(event)

        with cutter or nullcontext():
            yield look
            if cutter is not None:
                tell(cutter.finish(), run.messages)
        if has_events is False and run.console is None:  # a table says so by itself
            run.messages.warning(self._why_nothing())

    def _why_nothing(self) -> str:
        """Why no source has an event, in one sentence."""
        wanted = self._wanted
        of = f" of {listed_labels(wanted.labels)}" if wanted.labels else ""
        return f"no event{of} passes {'its threshold' if wanted.thresholds else f'-t {wanted.on_score:g}'}"

    def _writing_of(self, run: Run[SourceEvents]) -> WriterOptions:
        return self.writing(run.model, run.provenance, run.clock)

    def writing(
        self, model: ModelDescription, provenance: Provenance, clock: StartOf | None
    ) -> WriterOptions:
        """How events are written."""
        return WriterOptions(
            provenance=provenance,
            header=self._output.header,
            precision=self._precision,
            channel=self.job.options.channel,
            csv_safe=self._output.csv_safe,
            clock=clock,
            scores=self._scores,
        )
