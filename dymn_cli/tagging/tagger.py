"""The whole way of the data, for one source: decode, resample, cut, log-mel, network, aggregate.

    with tagger.analyse("night.flac") as analysis:      # streams: holds a few windows, whatever the length
        for window in analysis:
            ...
    result = tagger.tag("clip.wav")                     # the same, joined: one ClipResult

Windows are computed on several threads (NumPy's FFT and onnxruntime release the interpreter lock) and
come out in order. A window's answer does not depend on how many threads there are or what else is in
flight. Windows that overlap share log-mel frames (see `dymn_cli.frontend.sharing`), which changes no bit of
them: a thread takes a few neighbouring windows at once, and computes what they share once.
"""

from __future__ import annotations

import dataclasses
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from dymn_cli.audio.decode import AudioReader, open_audio
from dymn_cli.audio.resample import channels_32k, to_mono_32k
from dymn_cli.audio.windows import Window, WindowPlan, windows
from dymn_cli.errors import InputError, ModelError, UsageError
from dymn_cli.frontend.logmel import LogMel
from dymn_cli.frontend.sharing import SharedLogMel
from dymn_cli.results import ClipResult, Failure, WindowScores, WindowTags
from dymn_cli.runtime.select import open_backend
from dymn_cli.store.registry import DEFAULT_MODEL
from dymn_cli.tagging.aggregate import Aggregator, Selection, sigmoid
from dymn_cli.tagging.failure import failure_of
from dymn_cli.tagging.options import TagOptions

if TYPE_CHECKING:
    from types import TracebackType

    from numpy.typing import NDArray

    from dymn_cli.audio.decode import Source
    from dymn_cli.frontend.melbank import FrontEndConfig
    from dymn_cli.labels import Vocabulary
    from dymn_cli.results import AudioInfo, ModelInfo, Tag

__all__ = ["Analysis", "ChannelWindow", "Cut", "CutMels", "Tagger", "usable_cores"]

GPU_BATCH = 16
MOST_WAITING = 64  # overlapping windows in memory, 1.3 MB each, however many threads share them
MOST_TOGETHER = 16


class ChannelWindow(NamedTuple):
    """One window of one channel, and what the model says of it."""

    channel: str
    window: WindowScores


class Tagger:
    """A model, ready to say what is in a recording.

    Args:
        model: name of a model, or path of a .safetensors or .onnx file.
        backend: "auto", "onnx" or "torch".
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        threads: windows computed at the same time; None for one a core.
        batch_size: windows in one call of the network: 1 is the fastest on a CPU.
        options: defaults for every call; keyword arguments of a call change single ones.

    Raises:
        UsageError: an unknown name or a value out of range.
        ModelError: the model cannot be loaded.

    A tagger may be used from several threads. It can be closed, or used in a `with` statement; closing
    ends its threads.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        *,
        backend: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        batch_size: int | None = None,
        options: TagOptions | None = None,
    ) -> None:
        for what, value in (("threads", threads), ("batch size", batch_size)):
            if value is not None and value < 1:
                raise UsageError(f"{what} must be at least 1, not {value}")
        self.options = options or TagOptions()
        plan = _plan(self.options)
        self._backend = open_backend(
            os.fspath(model), backend=backend, device=device, n_samples=plan.n_window
        )
        self._log_mel = LogMel(self._backend.header.front_end)
        self._batch_size = batch_size or (1 if self._backend.on_cpu else GPU_BATCH)
        self._n_threads = threads or usable_cores()
        self._pool = ThreadPoolExecutor(self._n_threads, thread_name_prefix="dymn")  # starts none yet

    @property
    def model(self) -> ModelInfo:
        """Who answers: name and hash of the weights, runtime and device."""
        return self._backend.info

    @property
    def vocabulary(self) -> Vocabulary:
        """The labels, in the order of the scores."""
        return self._backend.header.vocabulary

    @property
    def batch_size(self) -> int:
        """Windows in one call of the network."""
        return self._batch_size

    @property
    def front_end(self) -> FrontEndConfig:
        """The numbers of the model's log-mel."""
        return self._backend.header.front_end

    @property
    def embedding_size(self) -> int:
        """Values in an embedding."""
        return self._backend.header.config.embedding_size

    # ------------------------------------------------------------------ one source

    def tag(self, source: Source, *, name: str | None = None, **changes: Any) -> ClipResult:
        """Say what is in a source.

        Args:
            source: path, binary file object, or (samples, rate_hz) with samples (n,) or (n, channels).
            name: what the result calls the source; the path by default.
            **changes: fields of `TagOptions` that differ from the tagger's own, e.g. `top=10`.

        Raises:
            InputError: the source cannot be used (`AudioNotFoundError`, `UnsupportedAudioError`,
                `CorruptAudioError`, `EmptyAudioError`).
            UsageError: an unknown label, a value out of range, or `channel="each"`: see `tag_channels`.
        """
        if self._with(changes).channel == "each":
            raise UsageError("one result is one channel", hint="Tagger.tag_channels gives one for each")
        return self.tag_channels(source, name=name, **changes)[0]

    def tag_channels(
        self, source: Source, *, name: str | None = None, **changes: Any
    ) -> tuple[ClipResult, ...]:
        """The same as a result for each channel that `channel` asks for: "each" for all.

        Raises:
            InputError: the source cannot be used.
            UsageError: an unknown label or a value out of range.
        """
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

    def embed(self, source: Source, *, name: str | None = None, **changes: Any) -> NDArray[np.float32]:
        """The embedding of a source: (embedding_size,) float32, mean over its windows.

        Raises:
            InputError: the source cannot be used.
        """
        return self.tag(source, name=name, **changes).embedding

    def analyse(self, source: Source, *, name: str | None = None, **changes: Any) -> Analysis:
        """Open a source and stream its windows; to be used in a `with` statement.

        Raises:
            InputError: the source cannot be opened; others come while iterating.
            UsageError: a value out of range.
        """
        options = self._with(changes)
        plan = _plan(options)
        return Analysis(self, open_audio(source, name=name), options, plan)

    def select(self, scores: NDArray[np.float32], **changes: Any) -> tuple[Tag, ...]:
        """The tags that the options keep of (n_classes,) scores, best first.

        Raises:
            UsageError: an unknown label or a value out of range.
        """
        return Selection(self._with(changes), self.vocabulary).tags(scores)

    # ------------------------------------------------------------------ many sources

    def tag_many(self, sources: Iterable[Source], **changes: Any) -> Iterator[ClipResult | Failure]:
        """Tag sources one after the other, in order; one that fails gives a `Failure`, and the rest goes on.

        Raises:
            UsageError: an unknown label or a value out of range.
        """
        Selection(self._with(changes), self.vocabulary)  # an unknown label is no failure of a source
        for source in sources:
            try:
                yield from self.tag_channels(source, **changes)
            except InputError as error:
                yield failure_of(_name_of(source), error)

    # ------------------------------------------------------------------ the inside

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _with(self, changes: dict[str, Any]) -> TagOptions:
        try:
            return dataclasses.replace(self.options, **changes) if changes else self.options
        except TypeError as exc:
            known = ", ".join(field.name for field in dataclasses.fields(TagOptions))
            raise UsageError(f"no such option: {exc}", hint=f"there are {known}") from exc

    def answer(self, cuts: Sequence[Cut], mels: NDArray[np.float32]) -> list[ChannelWindow]:
        """What the network says of cuts, from their log-mels (n, 1, n_mels, n_frames), in one call.

        Raises:
            ModelError: it fails, or answers with NaN.
        """
        answer = self._backend.run(mels)
        if not np.isfinite(answer.logits).all():
            raise ModelError(f"{self.model.name} answers with NaN or infinity", hint="dymn models verify")
        scores = sigmoid(answer.logits)
        return [
            ChannelWindow(
                cut.channel,
                WindowScores(cut.start_s, cut.end_s, answer.logits[n], scores[n], answer.embedding[n]),
            )
            for n, cut in enumerate(cuts)
        ]

    def _scores(self, group: list[Cut], mels: CutMels) -> list[ChannelWindow]:
        """Log-mel and network for a few cuts: what runs on a thread."""
        return [
            row
            for batch in _split(group, self._batch_size)
            for row in self.answer(batch, np.concatenate([mels(cut) for cut in batch]))
        ]

    def _together(self, plan: WindowPlan) -> int:
        """Windows that are worth keeping on one thread: only the first of them computes all of its frames."""
        return min(-(-plan.n_window // plan.n_hop), MOST_TOGETHER, 1 + MOST_WAITING // (self._n_threads + 1))

    def _run(self, cuts: Iterator[Cut], plan: WindowPlan) -> Iterator[ChannelWindow]:
        """All cuts, in order; several at a time where there are several."""
        shared = _shares_frames(plan, self._log_mel)
        size = self._batch_size * (self._together(plan) if shared and self._batch_size == 1 else 1)
        groups = iter(lambda: list(islice(cuts, size)), [])
        head = list(islice(groups, 2))
        if len(head) == 1:  # all there is: each thread gets a part of it
            head = _split(head[0], max(self._batch_size, -(-len(head[0]) // self._n_threads)))
        if len(head) < 2 or self._n_threads == 1:
            mels = CutMels(self._log_mel, plan)
            for group in chain(head, groups):
                yield from self._scores(group, mels)
            return
        flying: deque[Future[list[ChannelWindow]]] = deque()
        most = 2 * self._n_threads if size == 1 else self._n_threads + 1
        try:
            for group in chain(head, groups):
                mels = CutMels(self._log_mel, plan)
                flying.append(self._pool.submit(self._scores, group, mels))
                if len(flying) > most:
                    yield from flying.popleft().result()
            while flying:
                yield from flying.popleft().result()
        finally:
            for future in flying:
                future.cancel()


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
        log_mel: what computes frames.
        plan: how the source is cut.
    """

    def __init__(self, log_mel: LogMel, plan: WindowPlan) -> None:
        self._log_mel = log_mel
        self._of_channel: dict[str, SharedLogMel] | None = {} if _shares_frames(plan, log_mel) else None

    def __call__(self, cut: Cut) -> NDArray[np.float32]:
        """Log-mel (1, 1, n_mels, n_frames)."""
        if self._of_channel is None:
            return self._log_mel(cut.samples)
        if cut.channel not in self._of_channel:
            self._of_channel[cut.channel] = SharedLogMel(self._log_mel)
        return self._of_channel[cut.channel](cut.start, cut.samples)


class Analysis:
    """A source that is being analysed: iterate once for its windows, in order (channels within a window).

    Args:
        tagger: who answers, or None where only cuts are wanted.
        reader: the open source.
        options: which channels.
        plan: how it is cut.

    `duration_s` and `warnings` are complete after the last window.
    """

    def __init__(
        self, tagger: Tagger | None, reader: AudioReader, options: TagOptions, plan: WindowPlan
    ) -> None:
        self._tagger = tagger
        self._reader = reader
        self._options = options
        self._notes: list[str] = []
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
        plan = _plan(options)
        return cls(None, open_audio(source, name=name), options, plan)

    @property
    def duration_s(self) -> float:
        """Seconds decoded so far."""
        return self._reader.duration_s

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is worth knowing about the result, one line each."""
        return (*self._reader.warnings, *self._notes)

    def __iter__(self) -> Iterator[ChannelWindow]:
        if self._tagger is None:
            raise ValueError("there is no model to ask: iterate over `cuts()`")
        return self._tagger._run(self.cuts(), self.plan)

    def cuts(self) -> Iterator[Cut]:
        """The windows as samples, on their way to the network: instead of asking the model."""
        channel = self._options.channel
        every = channel == "each"
        blocks = channels_32k(self._reader) if every else to_mono_32k(self._reader, channel)
        for window in windows(blocks, self.plan):
            self._note(window)
            if not every:
                yield Cut(channel, window.start, window.start_s, window.end_s, window.samples)
                continue
            for number in range(self.audio.channels):
                samples = np.ascontiguousarray(window.samples[:, number])
                yield Cut(str(number), window.start, window.start_s, window.end_s, samples)

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


def usable_cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _plan(options: TagOptions) -> WindowPlan:
    return WindowPlan(options.window_s, options.hop_s, options.pad)


def _shares_frames(plan: WindowPlan, log_mel: LogMel) -> bool:
    """Whether frames of a window are frames of the one before as well."""
    return plan.n_hop < plan.n_window and plan.n_hop % log_mel.config.n_hop == 0


def _split(group: list[Cut], size: int) -> list[list[Cut]]:
    return [group[start : start + size] for start in range(0, len(group), size)]


def _name_of(source: Source) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    return str(getattr(source, "name", "array" if isinstance(source, tuple) else "audio"))
