"""The whole way of the data, for one source: decode, resample, cut, log-mel, network, aggregate.

    with tagger.analyse("night.flac") as analysis:      # streams: holds a few windows, whatever the length
        for window in analysis:
            ...
    result = tagger.tag("clip.wav")                     # the same, joined: one ClipResult

Windows are computed on several threads (NumPy's FFT and onnxruntime release the interpreter lock) and
come out in order. A window's answer does not depend on how many threads there are or what else is in
flight. Windows that overlap share log-mel frames (see `dymn_cli.frontend.sharing`), which changes no bit of
them: a thread takes a few neighbouring windows at once, and computes what they share once. A pipe that may go
on for ever is read by a thread of its own, so that no answer waits for the sound behind its window.

Several models are asked together (see `dymn_cli.runtime.ensemble`): a source is decoded, resampled and cut
once, and its log-mel is computed once for each front end among theirs. On a GPU, PyTorch also resamples and
computes log-mels there; then this process only decodes and cuts.
"""

from __future__ import annotations

import dataclasses
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, islice
from numbers import Number
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar, Unpack

import numpy as np

from dymn_cli.audio.decode import AudioReader, open_audio
from dymn_cli.audio.frames import Frame, FramePlan, frames
from dymn_cli.audio.resample import RATE_HZ, channels_32k, response, to_mono_32k
from dymn_cli.audio.windows import Window, WindowPlan, windows
from dymn_cli.cores import usable_cores
from dymn_cli.errors import InputError, ModelError, UsageError
from dymn_cli.frontend.logmel import LogMel
from dymn_cli.frontend.sharing import SharedLogMel
from dymn_cli.prefetch import Prefetcher
from dymn_cli.remote.uri import is_uri, named
from dymn_cli.results import ClipResult, Failure, WindowScores, WindowTags
from dymn_cli.runtime.ensemble import Ensemble
from dymn_cli.runtime.select import open_backend
from dymn_cli.store.registry import DEFAULT_MODEL, resolve
from dymn_cli.tagging.aggregate import Aggregator, sigmoid
from dymn_cli.tagging.calibration import calibration_path, read_calibration
from dymn_cli.tagging.event_options import EventOptions
from dymn_cli.tagging.options import TagOptions
from dymn_cli.tagging.selection import Selection
from dymn_cli.values import counted, nearest, require_flag, require_positive

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from dymn_cli.audio.decode import Source
    from dymn_cli.audio.resample import Resample
    from dymn_cli.frontend.melbank import FrontEndConfig
    from dymn_cli.labels import Vocabulary
    from dymn_cli.model.config import ModelConfig
    from dymn_cli.results import AudioInfo, ModelInfo, SourceEvents, Tag
    from dymn_cli.runtime.base import DeviceFrontEnd, Mels
    from dymn_cli.tagging.calibration import Calibration
    from dymn_cli.tagging.event_options import EventChanges
    from dymn_cli.tagging.frame_events import FrameHead, SmoothSteps
    from dymn_cli.tagging.options import TagChanges

__all__ = ["Analysis", "ChannelWindow", "Cut", "CutMels", "Frames", "Tagger"]

GPU_BATCH = 16
GPU_THREADS = 2  # one waits for the GPU, one prepares what it does next
MAX_WAITING = 64  # overlapping windows in memory, 1.3 MB each, however many threads share them
MAX_TOGETHER = 16

Plan = WindowPlan | FramePlan
T = TypeVar("T")
Options = TypeVar("Options", TagOptions, EventOptions)


class ChannelWindow(NamedTuple):
    """One window of one channel, with its scores."""

    channel: str
    window: WindowScores


@dataclass(frozen=True, slots=True)
class Frames:
    """How a model scores frames.

    Args:
        step_s: seconds from one step to the next.
        head: what does: "trained" for it, "stand-in" where the classifier is asked about each step, "alone"
            where the model has no other scores.
        calibration: makes scores of all labels mean the same; None where the model has none.
    """

    step_s: float
    head: FrameHead
    calibration: Calibration | None

    def steps_of(self, columns: NDArray[np.int64]) -> SmoothSteps:
        """What puts the steps of one channel in a row, with the scores of the labels at these indices."""
        from dymn_cli.tagging.frame_events import SmoothSteps

        return SmoothSteps(self.step_s, columns, frame_head=self.head, calibration=self.calibration)


class Tagger:
    """A model, or an ensemble of several, ready to tag recordings.

    Args:
        model: name of a model, or path of a .safetensors or .onnx file; of several, their scores are those of
            the mean of their logits.
        backend: "auto", "onnx" or "torch".
        device: "auto" (the CPU), "cpu", "cuda[:N]", "mps", or another of `dymn_cli.runtime.devices`.
        threads: windows computed at the same time; None for one a core.
        batch_size: windows in one call of the network: 1 is the fastest on a CPU.
        concat: the embedding of several models is theirs one after the other; without it, they have none.
        options: defaults for every call; keyword arguments of a call change single ones.

    Raises:
        UsageError: an unknown name, a value out of range, or models that do not go together.
        ModelError: a model cannot be loaded.

    A tagger may be used from several threads. It can be closed, or used in a `with` statement; closing
    ends its threads, and a call after that is a `UsageError`. Pickled or copied, it is the arguments that it
    was made with: another process, such as a worker of a PyTorch `DataLoader`, loads the models anew.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = DEFAULT_MODEL,
        *,
        backend: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        batch_size: int | None = None,
        concat: bool = False,
        options: TagOptions | None = None,
    ) -> None:
        for what, value in (("threads", threads), ("batch size", batch_size)):
            if value is not None:
                require_positive(what, value)
        require_flag("concat", concat)
        if not isinstance(options, TagOptions | None):
            raise UsageError(f"options must be TagOptions, not {options!r:.60}")
        self.options = options or TagOptions()
        plan = self.options.plan
        names = _model_names(model)
        self._made_of: dict[str, Any] = {
            "model": names,
            "backend": backend,
            "device": device,
            "threads": threads,
            "batch_size": batch_size,
            "concat": concat,
            "options": self.options,
        }
        self._name = names[0] if names else ""
        self._models = Ensemble(
            [
                open_backend(
                    name,
                    backend=backend,
                    device=device,
                    n_samples=plan.n_window,
                    frames=self.options.frame_scores,
                )
                for name in names
            ],
            concat=concat,
            names=names,
        )
        self._log_mels = tuple(LogMel(config) for config in self._models.front_ends)
        self._batch_size = batch_size or (1 if self._models.on_cpu else GPU_BATCH)
        self._n_threads = threads or (usable_cores() if self.on_device is None else GPU_THREADS)
        self._pool = ThreadPoolExecutor(self._n_threads, thread_name_prefix="dymn")  # starts none yet
        self._is_closed = False

    def __reduce__(self) -> tuple[partial[Self], tuple[()]]:
        self._require_open()
        return partial(type(self), **self._made_of), ()

    def __repr__(self) -> str:
        info = self.model
        state = ", closed" if self._is_closed else ""
        classes = counted(len(self.vocabulary), "class")
        return f"<Tagger {info.name}: {info.backend}, {info.provider}, {classes}{state}>"

    @property
    def model(self) -> ModelInfo:
        """Who answers: name and hash of the weights, runtime and device."""
        return self._models.info

    @property
    def vocabulary(self) -> Vocabulary:
        """The labels, in the order of the scores."""
        return self._models.vocabulary

    @property
    def batch_size(self) -> int:
        """Windows in one call of the network."""
        return self._batch_size

    @property
    def front_ends(self) -> tuple[FrontEndConfig, ...]:
        """The numbers of the log-mel; an ensemble has as many as there are different ones in it."""
        return self._models.front_ends

    @property
    def on_device(self) -> DeviceFrontEnd | None:
        """What resamples and computes log-mels on a GPU; None where this process does."""
        return self._models.on_device

    @property
    def embedding_size(self) -> int:
        """Values in an embedding; 0 for an ensemble without `concat`."""
        return self._models.embedding_size

    @property
    def step_s(self) -> float | None:
        """Seconds from one step of `WindowScores.frame_scores` to the next; None where models differ."""
        return self._models.step_s

    @cached_property
    def frames(self) -> Frames:
        """What there is to know of this model's frame scores.

        Raises:
            UsageError: models that do not score the same steps.
            ModelError: a calibration that cannot be read.
        """
        self._models.require_frames()
        members = self._models.members
        calibration = None
        if len(members) == 1:  # the scores of several are those of no calibrated model
            calibration = self._calibration()
        return Frames(self.step_s or 0.0, _frame_head([m.header.config for m in members]), calibration)

    @property
    def calibration_digest(self) -> str | None:
        """SHA-256 of the file by which frame scores are mapped; None where they are not, or not asked for."""
        calibration = self.frames.calibration if self.options.frame_scores else None
        return None if calibration is None else calibration.digest

    def _calibration(self) -> Calibration | None:
        found = resolve(self._name)
        path = found if isinstance(found, Path) else found.path
        return read_calibration(calibration_path(path), self.vocabulary, self.model.sha256)

    def require_tags(self) -> None:
        """Refuse a model whose classes are no sounds, as those trained on ImageNet.

        Raises:
            UsageError: it is one, or one of the ensemble.
        """
        self._models.require_tags()

    def require_embedding(self) -> None:
        """Refuse an ensemble without `concat`.

        Raises:
            UsageError: it is one.
        """
        self._models.require_embedding()

    # ------------------------------------------------------------------ one source

    def tag(self, source: Source, *, name: str | None = None, **changes: Unpack[TagChanges]) -> ClipResult:
        """Tag a source.

        Args:
            source: path, binary file object, or (samples, rate_hz) with samples (n,) or (n, channels).
            name: what the result calls the source; the path by default.
            **changes: fields of `TagOptions` that differ from the tagger's own, e.g. `top=10`.

        Raises:
            InputError: the source cannot be used (`AudioNotFoundError`, `UnsupportedAudioError`,
                `CorruptAudioError`, `EmptyAudioError`).
            UsageError: an unknown label, a value out of range, `channel="each"` (see `tag_channels`),
                `frame_scores` (see `analyse`), or a model that does not tag.
        """
        self._require_one_channel(changes)
        return self.tag_channels(source, name=name, **changes)[0]

    def tag_channels(
        self, source: Source, *, name: str | None = None, **changes: Unpack[TagChanges]
    ) -> tuple[ClipResult, ...]:
        """Tag the channels of a source that `channel` asks for, a result each; "each" is all of them.

        Raises:
            InputError: the source cannot be used.
            UsageError: an unknown label, a value out of range, or a model that does not tag.
        """
        self.require_tags()
        return self._results(source, name, changes)

    def _results(self, source: Source, name: str | None, changes: TagChanges) -> tuple[ClipResult, ...]:
        _refuse_frame_scores(changes)
        options = self._with(changes)
        selection = Selection(options, self.vocabulary)
        joined: dict[str, Aggregator] = {}
        kept: dict[str, list[WindowTags]] = {}
        with self.analyse(source, name=name, **changes) as analysis:
            for channel, window in analysis:
                joined.setdefault(channel, Aggregator(options.aggregate)).add(window)
                tags = kept.setdefault(channel, [])
                if options.windows:
                    tags.append(WindowTags(window.start_s, window.end_s, selection.tags(window.scores)))
        results = []
        for channel, aggregator in joined.items():
            scores, embedding = aggregator.result()
            results.append(
                ClipResult(
                    source=analysis.name,
                    channel=channel,
                    audio=analysis.audio,
                    duration_s=analysis.duration_s,
                    tags=selection.tags(scores),
                    scores=scores,
                    embedding=embedding,
                    n_windows=aggregator.n_windows,
                    windows=tuple(kept[channel]),
                    warnings=analysis.warnings,
                    model=self.model,
                )
            )
        return tuple(results)

    def embed(
        self, source: Source, *, name: str | None = None, **changes: Unpack[TagChanges]
    ) -> NDArray[np.float32]:
        """The embedding of a source: (embedding_size,) float32, mean over its windows.

        Raises:
            InputError: the source cannot be used.
            UsageError: a value out of range, `channel="each"`, or an ensemble without `concat`.
        """
        self.require_embedding()
        self._require_one_channel(changes)
        return self._results(source, name, changes)[0].embedding

    def events(
        self,
        source: Source,
        options: EventOptions | None = None,
        *,
        name: str | None = None,
        **changes: Unpack[EventChanges],
    ) -> SourceEvents:
        """Find the events of a source, those of all its channels that `channel` asks for.

        Windows are those of `dymn events`, unless the tagger's options or the call name others. What the
        tagger's options say of labels and scores is for tags only.

        Args:
            source: as of `tag`.
            options: what counts as an event.
            name: what the events call the source; the path by default.
            **changes: fields of `EventOptions` that differ from `options`, e.g. `labels=("Owl",)`; and
                `window_s`, `hop_s`, `pad`, `channel` and `strict` of `TagOptions`.

        Raises:
            InputError: the source cannot be used.
            UsageError: an unknown label, a value out of range, a model that does not tag, or models whose
                frames do not go together.
        """
        from dymn_cli.tagging.events import CUT, events_of

        if not isinstance(options, EventOptions | None):
            raise UsageError(f"options must be EventOptions, not {options!r:.60}")
        given: dict[str, Any] = {**changes}
        cut = {field: given.pop(field) for field in CUT if field in given}
        wanted = _changed(options or EventOptions(), given, CUT)
        return events_of(self, source, wanted, name=name, **cut)

    def analyse(self, source: Source, *, name: str | None = None, **changes: Unpack[TagChanges]) -> Analysis:
        """Open a source and stream its windows; to be used in a `with` statement.

        Raises:
            InputError: the source cannot be opened; others come while iterating.
            UsageError: a value out of range, or `frame_scores` of models that do not go together there.
        """
        options = self._with(changes)
        if options.frame_scores:
            self._models.require_frames()
        reader = open_audio(source, name=name, strict=options.strict)
        return Analysis(self, reader, options, options.plan)

    def select(self, scores: NDArray[np.float32], **changes: Unpack[TagChanges]) -> tuple[Tag, ...]:
        """The tags that the options keep of (n_classes,) scores, best first.

        Raises:
            UsageError: an unknown label, a value out of range, or scores that are not the model's.
        """
        selection = Selection(self._with(changes), self.vocabulary)
        found, n = np.asarray(scores), len(self.vocabulary)
        if found.shape != (n,) or found.dtype.kind not in "fi":
            raise UsageError(f"scores of shape {found.shape} and type {found.dtype}, not ({n},) floats")
        if not np.isfinite(found).all():
            raise UsageError("scores hold NaN or infinity")
        return selection.tags(found)

    # ------------------------------------------------------------------ many sources

    def tag_many(
        self, sources: Iterable[Source], *, jobs: int | None = None, **changes: Unpack[TagChanges]
    ) -> Iterator[ClipResult | Failure]:
        """Tag sources; results come in order, one that fails gives a `Failure`, and the rest goes on.

        Args:
            sources: a list, or another iterable, of sources as of `tag`; read at most two times `jobs` ahead
                of the results. What it raises comes after the results of what it gave.
            jobs: sources on threads at the same time, which is what makes many short clips fast; None for
                one a core where the sources are a list or tuple. Other iterables are then read one by one,
                as a source may wait for the result of the one before.
            **changes: fields of `TagOptions` that differ from the tagger's own.

        Raises:
            UsageError: at once: an unknown label, a value out of range, one source instead of several, or a
                model that does not tag, or that scores no frames where they are asked for.
        """
        self.require_tags()
        _refuse_frame_scores(changes)
        options = self._with(changes)
        Selection(options, self.vocabulary)  # an unknown label is no failure of a source
        if options.frame_scores:
            self._models.require_frames()
        if _is_one(sources) or not isinstance(sources, Iterable):
            raise UsageError(
                f"sources must be several, not one {type(sources).__name__}",
                hint="Tagger.tag takes one, tag_many [one]",
            )
        if jobs is not None:
            require_positive("jobs", jobs)
        else:
            jobs = min(self._n_threads, len(sources)) if isinstance(sources, list | tuple) else 1
        return self._tag_each(sources, jobs, changes)

    def _tag_each(
        self, sources: Iterable[Source], jobs: int, changes: TagChanges
    ) -> Iterator[ClipResult | Failure]:
        if jobs <= 1:
            for source in sources:
                yield from self._tag_one(source, changes)
            return
        alone = object.__new__(type(self))
        alone.__dict__.update(self.__dict__)  # the same models
        alone._n_threads = 1  # a source a thread, and no threads within it
        with ThreadPoolExecutor(jobs, thread_name_prefix="dymn-source") as pool:
            futures = (pool.submit(alone._tag_one, source, changes) for source in sources)
            for result in _results_of(futures, 2 * jobs - 1):
                yield result
                self._require_open()

    def _tag_one(self, source: Source, changes: TagChanges) -> list[ClipResult | Failure]:
        """The results of a source, one for each of its channels that are wanted."""
        try:
            return list(self.tag_channels(source, **changes))
        except (InputError, UsageError) as error:  # the options were good: an unusable source, such as None
            self._require_open()
            return [Failure.of(_name_of(source), error)]

    # ------------------------------------------------------------------ the inside

    def close(self) -> None:
        """End the threads; the tagger cannot be used after that."""
        self._is_closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        self._require_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _require_open(self) -> None:
        if self._is_closed:
            raise UsageError("the tagger is closed", hint="make another one")

    def _with(self, changes: TagChanges) -> TagOptions:
        self._require_open()
        return _changed(self.options, changes)

    def _require_one_channel(self, changes: TagChanges) -> None:
        if self._with(changes).channel == "each":
            raise UsageError("one result is one channel", hint="Tagger.tag_channels gives one for each")

    def answer(
        self, cuts: Sequence[Cut], mels: Sequence[Mels], *, frames: bool = False
    ) -> list[ChannelWindow]:
        """What the network says of cuts, in one call.

        Args:
            cuts: n windows; `mels` may have more rows than that, which are not looked at.
            mels: their log-mels (n, 1, n_mels, n_frames), for each of `front_ends`.
            frames: whether each step of time is scored as well.

        Raises:
            ModelError: it fails, or answers with NaN.
        """
        answer = self._models.run(mels, frames=frames)
        every = [part for part in (answer.logits, answer.frame_logits) if part is not None]
        if not all(np.isfinite(part).all() for part in every):
            raise ModelError(f"{self.model.name} gives NaN or infinity", hint="dymn models verify")
        scores = sigmoid(answer.logits)
        return [
            ChannelWindow(
                cut.channel,
                WindowScores(
                    cut.start_s,
                    cut.end_s,
                    answer.logits[n],
                    scores[n],
                    answer.embedding[n],
                    *self._steps(cut, None if answer.frame_logits is None else answer.frame_logits[n]),
                ),
            )
            for n, cut in enumerate(cuts)
        ]

    def _steps(
        self, cut: Cut, logits: NDArray[np.float32] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]] | tuple[()]:
        """Frame logits and scores of a cut, without the steps of what filled it up."""
        if logits is None:
            return ()
        header = self._models.members[0].header
        n_samples = round((cut.end_s - cut.start_s) * RATE_HZ)
        logits = logits[: header.config.n_steps(header.front_end.n_frames(n_samples))]
        return logits, sigmoid(logits)

    def mels_of(self, plan: Plan) -> CutMels | DeviceMels:
        """What computes the log-mels of neighbouring cuts."""
        if self.on_device is not None:
            return DeviceMels(self.on_device, self.front_ends)
        return CutMels(self._log_mels, plan)

    def _scores(self, group: list[Cut], mels: CutMels | DeviceMels, *, frames: bool) -> list[ChannelWindow]:
        """Log-mel and network for a few cuts: what runs on a thread."""
        batches = _split(group, self._batch_size)
        return [row for batch in batches for row in self.answer(batch, mels(batch), frames=frames)]

    def _together(self, plan: Plan) -> int:
        """Windows that are worth keeping on one thread: only the first of them computes all of its frames."""
        return min(-(-plan.n_window // plan.n_hop), MAX_TOGETHER, 1 + MAX_WAITING // (self._n_threads + 1))

    def _run(
        self, cuts: Iterator[Cut], plan: Plan, *, frames: bool, is_live: bool = False
    ) -> Iterator[ChannelWindow]:
        """All cuts, in order; several at a time where there are several. No answer waits for a live cut."""
        shared = any(_shares_frames(plan, log_mel) for log_mel in self._log_mels)
        size = self._batch_size * (self._together(plan) if shared and self._batch_size == 1 else 1)
        if is_live:
            yield from self._run_live(cuts, size, plan, frames=frames)
            return
        groups = iter(lambda: list(islice(cuts, size)), [])
        head = list(islice(groups, 2))
        if len(head) == 1:  # all there is: each thread gets a part of it
            head = _split(head[0], max(self._batch_size, -(-len(head[0]) // self._n_threads)))
        if len(head) < 2 or self._n_threads == 1:
            mels = self.mels_of(plan)
            for group in chain(head, groups):
                self._require_open()
                yield from self._scores(group, mels, frames=frames)
            return
        futures = (self._submit(group, plan, frames=frames) for group in chain(head, groups))
        yield from self._answers(futures, 2 * self._n_threads if size == 1 else self._n_threads + 1)

    def _run_live(
        self, cuts: Iterator[Cut], size: int, plan: Plan, *, frames: bool
    ) -> Iterator[ChannelWindow]:
        """All cuts, in order: `size` of them together at most, but none waits for one to come."""
        with closing(Prefetcher(cuts, min(2 * self._n_threads, MAX_WAITING))) as ahead:
            groups = iter(lambda: _there(ahead, size, at_least=self._batch_size), [])
            futures = (self._submit(group, plan, frames=frames) for group in groups)
            yield from self._answers(futures, self._n_threads + 1, lambda: ahead.is_ready)

    def _answers(
        self,
        futures: Iterator[Future[list[ChannelWindow]]],
        most: int,
        is_ready: Callable[[], bool] = lambda: True,
    ) -> Iterator[ChannelWindow]:
        try:
            yield from _results_of(futures, most, is_ready)
        except CancelledError:  # someone has closed the tagger meanwhile
            self._require_open()
            raise

    def _submit(self, group: list[Cut], plan: Plan, *, frames: bool) -> Future[list[ChannelWindow]]:
        try:
            return self._pool.submit(self._scores, group, self.mels_of(plan), frames=frames)
        except RuntimeError:
            self._require_open()
            raise


class Cut(NamedTuple):
    """A window of one channel, on its way to the network; `start` is its position at the model's rate."""

    channel: str
    start: int
    start_s: float
    end_s: float
    samples: NDArray[np.float32]


class CutMels:
    """Log-mels of the cuts of one source, in order; where windows overlap, they share frames.

    Args:
        log_mels: what computes frames, for each front end.
        plan: how the source is cut.
    """

    def __init__(self, log_mels: Sequence[LogMel], plan: Plan) -> None:
        self._log_mels = [(log_mel, _shares_frames(plan, log_mel)) for log_mel in log_mels]
        self._of_channel: dict[tuple[int, str], SharedLogMel] = {}

    def __call__(self, cuts: Sequence[Cut]) -> list[NDArray[np.float32]]:
        """Log-mels (n, 1, n_mels, n_frames) of cuts of one length, for each front end."""
        return [np.concatenate([self._mel(n, cut) for cut in cuts]) for n in range(len(self._log_mels))]

    def _mel(self, number: int, cut: Cut) -> NDArray[np.float32]:
        log_mel, is_shared = self._log_mels[number]
        if not is_shared:
            return log_mel(cut.samples)
        place = number, cut.channel
        if place not in self._of_channel:
            self._of_channel[place] = SharedLogMel(log_mel)
        return self._of_channel[place](cut.start, cut.samples)


class DeviceMels:
    """Log-mels of cuts, computed on a GPU: there, sharing frames would cost more than it saves.

    Args:
        device: computes them.
        front_ends: the numbers of each.
    """

    def __init__(self, device: DeviceFrontEnd, front_ends: Sequence[FrontEndConfig]) -> None:
        self._device = device
        self._front_ends = front_ends

    def __call__(self, cuts: Sequence[Cut]) -> list[Mels]:
        """Log-mels (n, 1, n_mels, n_frames) of cuts of one length, for each front end."""
        samples = np.stack([cut.samples for cut in cuts])
        return [self._device.log_mel(config, samples) for config in self._front_ends]


class Analysis:
    """A source that is being analysed: iterate once for its windows, in order (channels within a window).

    Args:
        tagger: who answers, or None where only cuts are wanted.
        reader: the open source.
        options: which channels.
        plan: how it is cut.

    `duration_s` and `warnings` are complete after the last window.

    Raises:
        UsageError: iterated a second time, or after its `with` block has ended.
    """

    def __init__(self, tagger: Tagger | None, reader: AudioReader, options: TagOptions, plan: Plan) -> None:
        self._tagger = tagger
        self._reader = reader
        self._options = options
        self._notes: list[str] = []
        self._wanted: tuple[int, int | None] = (0, None)
        self._is_begun = False
        self.plan = plan
        self.name = reader.name
        self.audio: AudioInfo = reader.info

    @classmethod
    def of_cuts(cls, source: Source, options: TagOptions, *, name: str | None = None) -> Self:
        """A source to be cut only, by whoever has no model.

        Raises:
            InputError: the source cannot be opened; others come while iterating.
            UsageError: a value out of range.
        """
        reader = open_audio(source, name=name, strict=options.strict)
        return cls(None, reader, options, options.plan)

    def narrow(self, first: int, stop: int | None) -> None:
        """Ask about some windows only; the sound before them is still decoded, so that they are the same.

        Args:
            first: the number of the first one, from 0.
            stop: the one after the last; None to go on to the end.
        """
        self._wanted = (first, stop)

    @property
    def is_live(self) -> bool:
        """Whether it may be a sound that goes on while it is analysed: a pipe that says no length."""
        return self._reader.is_live

    @property
    def duration_s(self) -> float:
        """Seconds decoded so far."""
        return self._reader.duration_s

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is worth knowing about the result, one line each."""
        return (*self._reader.warnings, *self._reader.remarks, *self._notes)

    @property
    def damage(self) -> tuple[str, ...]:
        """Those of the warnings that say what of the source could not be decoded."""
        return tuple(self._reader.warnings)

    def __iter__(self) -> Iterator[ChannelWindow]:
        if self._tagger is None:
            raise ValueError("there is no model to ask: iterate over `cuts()`")
        frames = self._options.frame_scores
        rows = self._tagger._run(self.cuts(), self.plan, frames=frames, is_live=self.is_live)
        return self._while_open(rows)

    def _while_open(self, rows: Iterator[ChannelWindow]) -> Iterator[ChannelWindow]:
        for row in rows:  # of a short source, all sound was read before
            self._reader.require_open()
            yield row

    def cuts(self) -> Iterator[Cut]:
        """The windows as samples, on their way to the network: instead of asking the model."""
        if self._is_begun:
            raise UsageError(
                f"{self.name}: its windows are given once, and were begun already", hint="open it again"
            )
        self._is_begun = True
        return self._cuts()

    def _cuts(self) -> Iterator[Cut]:
        channel = self._options.channel
        every = channel == "each"
        resample = self._resample()
        blocks = (
            channels_32k(self._reader, resample) if every else to_mono_32k(self._reader, channel, resample)
        )
        for piece in islice(self._pieces(blocks), *self._wanted):
            if not every:
                yield Cut(channel, piece.start, piece.start_s, piece.end_s, piece.samples)
                continue
            for number in range(self.audio.channels):
                samples = np.ascontiguousarray(piece.samples[:, number])
                yield Cut(str(number), piece.start, piece.start_s, piece.end_s, samples)

    def _resample(self) -> Resample | None:
        """The GPU, where it can take over from soxr."""
        device = None if self._tagger is None else self._tagger.on_device
        if device is None or (found := response(self.audio.rate_hz)) is None:
            return None
        return partial(device.resample, matrix=found.matrix, period=found.period)

    def _pieces(self, blocks: Iterator[NDArray[np.float32]]) -> Iterator[Window | Frame]:
        if isinstance(self.plan, FramePlan):
            yield from frames(blocks, self.plan)
            return
        for window in windows(blocks, self.plan):
            self._note(window)
            yield window

    def _note(self, window: Window) -> None:
        if window.end - window.start >= self.plan.n_window:
            return
        length = f"shorter than the window ({window.end_s:.2f} of {self.plan.window_s:g} s)"
        how = {"repeat": "repeated up to it", "zero": "filled up with zeros"}
        self._notes.append(f"{length}: {how.get(window.padded, 'tagged as it is')}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()


def _changed(options: Options, changes: Mapping[str, Any], others: Sequence[str] = ()) -> Options:
    """Options with other values; `others` are named in the error as well."""
    known: list[str] = [field.name for field in dataclasses.fields(options)]
    for name in changes:
        if name not in known:
            raise UsageError(f"no option {name!r}", hint=nearest(name, [*known, *others]))
    return dataclasses.replace(options, **changes) if changes else options


def _refuse_frame_scores(changes: TagChanges) -> None:
    """Refuse a call that asks for frame scores where the result has none."""
    if changes.get("frame_scores"):
        raise UsageError(
            "the result of a whole source has no frame scores",
            hint="Tagger.analyse(..., frame_scores=True) gives those of each window",
        )


def _model_names(model: Any) -> list[str]:
    """The models, each as its name or path."""
    is_one = isinstance(model, str | os.PathLike) or not isinstance(model, Iterable)
    names = [model] if is_one else list(model)
    for name in names:
        if not isinstance(name, str | os.PathLike):
            raise UsageError(f"model must be a name or a path, not {name!r:.60}", hint="or a list of them")
    return [os.fspath(name) for name in names]


def _frame_head(configs: list[ModelConfig]) -> FrameHead:
    """What scores the frames of models that run together."""
    if all(config.is_framewise for config in configs):
        return "alone"
    return "trained" if all(config.frame_head for config in configs) else "stand-in"


def _shares_frames(plan: Plan, log_mel: LogMel) -> bool:
    """Whether frames of a window are frames of the one before as well."""
    return plan.n_hop < plan.n_window and plan.n_hop % log_mel.config.input_hop == 0


def _there(ahead: Prefetcher[Cut], most: int, *, at_least: int) -> list[Cut]:
    """The next cuts, as many as are there; what a batch holds shall not depend on how fast they come."""
    cuts: list[Cut] = []
    try:
        cuts.extend(islice(ahead, at_least))
        while at_least <= len(cuts) < most and ahead.is_ready and (cut := next(ahead, None)) is not None:
            cuts.append(cut)
    except InputError as exc:
        if not cuts:
            raise
        ahead.raise_next(exc)
    return cuts


def _results_of(
    futures: Iterator[Future[list[T]]], most: int, is_ready: Callable[[], bool] = lambda: True
) -> Iterator[T]:
    """What futures give, in order; at most so many wait at a time, and none is left behind.

    Where the source breaks off, or the caller's iterable raises, what was heard comes before the error.

    Args:
        futures: each begins its work when it is taken.
        most: how many wait.
        is_ready: whether the next one can be taken at once; until then, results are waited for.
    """
    flying: deque[Future[list[T]]] = deque()
    try:
        while True:
            is_next = len(flying) <= most and (is_ready() or not flying)
            try:
                future = next(futures, None) if is_next else None
            except Exception:
                while flying:
                    yield from flying.popleft().result()
                raise
            if future is not None:
                flying.append(future)
            elif flying:
                yield from flying.popleft().result()
            else:
                return
    finally:
        for future in flying:
            future.cancel()


def _split(group: list[Cut], size: int) -> list[list[Cut]]:
    return [group[start : start + size] for start in range(0, len(group), size)]


def _is_one(sources: object) -> bool:
    """Whether they are one source: also (samples, rate_hz), samples alone, or a mapping that holds them."""
    if isinstance(sources, str | bytes | os.PathLike | Mapping) or hasattr(sources, "read"):
        return True
    if isinstance(sources, tuple) and len(sources) == 2:
        return isinstance(sources[1], Number) or _is_numeric(sources[0])
    return _is_numeric(sources)


def _is_numeric(array: object) -> bool:
    kind = getattr(getattr(array, "dtype", None), "kind", "O")
    return kind in "biufc" or hasattr(array, "detach")  # a tensor of PyTorch, whose types have no kind


def _name_of(source: Source) -> str:
    if isinstance(source, str | os.PathLike):
        name = os.fsdecode(source)
        return named(name) if is_uri(name) else name
    return str(getattr(source, "name", "array" if isinstance(source, tuple) else "audio"))
