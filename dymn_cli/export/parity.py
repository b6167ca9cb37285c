"""The proof that an exported file is the model: the same sounds through both, and what may differ.

One side is PyTorch behind the NumPy front end, the other the bytes of the file in onnxruntime. Both hear
synthetic sounds of odd lengths, alone and in batches, and recordings: the clips that ship with the package
and those of the user, cut into windows as in tagging. How far apart they may be depends on the file:

    as it is         logits, scores and embedding within 1e-4; with frames, their logits and scores, too
    with front end   scores within 1e-4; log-mels of the clips that ship within 5e-5
    float16, int8    scores within 0.01 and 0.05

And a top tag may be another one only where the two lay no further apart than these scores. The embedding is
compared relative to its largest value, and so are frame logits: those of a single step of silence reach −60,
where PyTorch in float32 is 1e-4 off itself. Log-mels of other sounds are shown, not judged: where there is
nothing but a pure tone, float32 front ends differ more, the published one by 1.5e-4 from its own in float64.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx
import onnxruntime as ort
import torch

from dymn_cli.audio.decode import open_audio
from dymn_cli.audio.resample import to_mono_32k
from dymn_cli.audio.windows import WindowPlan, windows
from dymn_cli.errors import ModelError
from dymn_cli.export.frontend_graph import OUTPUTS
from dymn_cli.export.network import FRAME_LOGITS
from dymn_cli.frontend.logmel import LogMel
from dymn_cli.model.build import restore
from dymn_cli.runtime.base import Answer
from dymn_cli.tagging.aggregate import sigmoid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.export.precision import Precision
    from dymn_cli.frontend.melbank import FrontEndConfig
    from dymn_cli.store.weights import Weights

__all__ = [
    "Bounds",
    "ExportTiming",
    "ExportedFile",
    "Heard",
    "ParityCase",
    "Reference",
    "bounds_of",
    "compare",
    "measure",
    "require",
]

Part = Literal["logit", "score", "embedding", "frame_logit", "frame_score"]

TOLERANCE = 1e-4
LOG_MEL_TOLERANCE = 5e-5
FLOAT16_TOLERANCE = 1e-2
INT8_TOLERANCE = 5e-2
MIN_EMBEDDING = 1e-3
LENGTHS = (1000, 437, 63)  # frames: the usual window, and odd ones that every stride rounds up
BATCHES = (("noise",), ("chirp",), ("clicks",), ("silence",), ("noise", "chirp", "clicks"))
ROUNDS = 9


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may differ, and how far.

    Args:
        largest: the largest difference allowed.
        parts: of what.
        log_mel: the largest difference of a log-mel, or None where it is not judged.
    """

    largest: float
    parts: tuple[Part, ...]
    log_mel: float | None = None


def bounds_of(precision: Precision, *, with_frontend: bool, frames: bool = False) -> Bounds:
    """The bounds that the module docstring states."""
    of_frames: tuple[Part, ...] = ("frame_logit", "frame_score") if frames else ()
    log_mel = LOG_MEL_TOLERANCE if with_frontend else None
    if precision == "float32" and not with_frontend:
        return Bounds(TOLERANCE, ("logit", "score", "embedding", *of_frames))
    tolerances = {"float32": TOLERANCE, "float16": FLOAT16_TOLERANCE, "int8": INT8_TOLERANCE}
    return Bounds(tolerances[precision], ("score",), log_mel)


@dataclass(frozen=True, slots=True)
class ParityCase:
    """The largest differences between a file and PyTorch on one batch, or on the windows of one recording.

    Args:
        signals: what was heard: a name for each sound of the batch, or that of the recording.
        n_frames: frames of each window.
        logit: largest |Δ| of a logit.
        score: largest |Δ| of a score, after the sigmoid.
        embedding: largest |Δ| of an embedding, relative to its largest absolute value (or to 0.001, where
            all of it is smaller: a network that was never trained answers with next to nothing).
        log_mel: largest |Δ| of a log-mel; None where the file takes log-mels.
        frame_logit: largest |Δ| of a frame logit, relative to the largest absolute value (or to 1, where all
            are smaller); None where the file gives none.
        frame_score: largest |Δ| of a frame score, likewise None.
        is_clip: whether this is a recording.
        n_windows: windows that were heard.
        n_same_top: windows whose highest score belongs to the same class.
        lead_lost: for the others, how far apart PyTorch scores the two classes; the largest, 0 for none.
    """

    signals: tuple[str, ...]
    n_frames: int
    logit: float
    score: float
    embedding: float
    log_mel: float | None = None
    frame_logit: float | None = None
    frame_score: float | None = None
    is_clip: bool = False
    n_windows: int = 1
    n_same_top: int = 1
    lead_lost: float = 0.0

    def worst(self, parts: Iterable[Part] = ("logit", "score", "embedding")) -> float:
        """The largest difference of some parts; NaN where one is."""
        return float(np.max([getattr(self, part) for part in parts]))


def require(case: ParityCase, bounds: Bounds, name: str) -> None:
    """Refuse a file whose answers are too far from the model's.

    Raises:
        ModelError: the bounds are exceeded.
    """
    where = f"on {', '.join(case.signals)} of {case.n_frames} frames"
    worst = case.worst(bounds.parts)
    if not worst <= bounds.largest:  # so put, NaN fails
        raise ModelError(
            f"{name}: as ONNX it differs from PyTorch by {worst:.1e} {where}, more than {bounds.largest:g};"
            " nothing was written",
            hint=_hint(bounds),
        )
    log_mel = math.nan if case.log_mel is None else case.log_mel
    if bounds.log_mel is not None and not log_mel <= bounds.log_mel:
        raise ModelError(
            f"{name}: the front end in ONNX differs by {log_mel:.1e} {where}, more than"
            f" {bounds.log_mel:g}; nothing was written",
            hint="export without --with-frontend; please report this",
        )
    if not case.lead_lost <= bounds.largest:
        raise ModelError(
            f"{name}: as ONNX it puts another class on top {where}, although they are"
            f" {case.lead_lost:.1e} apart, more than {bounds.largest:g}; nothing was written",
            hint=_hint(bounds),
        )


def _hint(bounds: Bounds) -> str:
    if bounds.largest > TOLERANCE:
        return "this model needs its precision: export it without --int8 or --fp16"
    return "the model still runs with --backend torch; please report this"


# ---------------------------------------------------------------------- the two sides


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """Windows of sound, and what PyTorch says of them.

    Args:
        signals: a name for each, or that of the recording.
        is_clip: whether this is a recording.
        samples: (n, n_samples) float32.
        mels: (n, 1, n_mels, n_frames) float32.
        answer: of PyTorch.
    """

    signals: tuple[str, ...]
    is_clip: bool
    samples: NDArray[np.float32]
    mels: NDArray[np.float32]
    answer: Answer


class Reference:
    """The model in PyTorch, behind the front end in NumPy."""

    def __init__(self, weights: Weights) -> None:
        tensors = {key: torch.from_numpy(value) for key, value in weights.tensors.items()}
        self._module = restore(tensors, weights.header.config)
        self.log_mel = LogMel(weights.header.front_end)

    def hear(self, signals: tuple[str, ...], samples: NDArray[np.float32], *, is_clip: bool) -> Heard:
        """Let PyTorch answer."""
        mels = self.log_mel(samples)
        with torch.inference_mode(), _one_thread():
            features = self._module.forward_features(torch.from_numpy(mels))
            parts = (*self._module.forward_head(features), self._module.forward_frames(features))
            answer = Answer(*(part.numpy() for part in parts))
        return Heard(signals, is_clip, samples, mels, answer)

    def sounds(self, *, one_clip: bool) -> Iterator[Heard]:
        """Synthetic sounds of three lengths, one by one and, unless a file takes one clip, together."""
        for n_frames in LENGTHS:
            sounds = _sounds(self.log_mel.config, n_frames)
            for signals in BATCHES:
                if not (one_clip and len(signals) > 1):
                    samples = np.stack([sounds[name] for name in signals])
                    yield self.hear(signals, samples, is_clip=False)

    def windows(self, clip: Path) -> Iterator[Heard]:
        """A recording, window by window; any length in little memory.

        Raises:
            InputError: it cannot be read.
        """
        with open_audio(clip) as reader:
            for window in windows(to_mono_32k(reader), WindowPlan()):
                yield self.hear((clip.name,), window.samples[np.newaxis], is_clip=True)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """PyTorch on one core: the same rounding everywhere, and no waiting of threads for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class ExportedFile:
    """The bytes of a file, in onnxruntime.

    Raises:
        ModelError: onnxruntime cannot load them.
    """

    def __init__(self, data: bytes) -> None:
        self._session = _session(data)
        self.has_frontend = self._session.get_inputs()[0].name == "waveform"
        self._mel_session = _session(_mel_only(data)) if self.has_frontend else None
        names = {output.name for output in self._session.get_outputs()}
        self._outputs = [name for name in (*OUTPUTS, FRAME_LOGITS) if name in names]

    def __call__(
        self, samples: NDArray[np.float32], mels: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], Answer]:
        """Scores, and logits with embedding, for samples (n, n_samples) or their log-mels."""
        if not self.has_frontend:
            answer = Answer(*self._session.run(self._outputs, {"mel": mels}))
            return sigmoid(answer.logits), answer
        scores, *parts = self._session.run(self._outputs, {"waveform": samples})
        return scores, Answer(*parts)

    def mels(self, samples: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """The log-mels that the file computes; None where it takes them."""
        if self._mel_session is None:
            return None
        mels: NDArray[np.float32] = self._mel_session.run(["mel"], {"waveform": samples})[0]
        return mels


def _mel_only(data: bytes) -> bytes:
    """The same file with the log-mel as its one output."""
    model = onnx.load_model_from_string(data)
    del model.graph.output[:]
    shape = ("batch", 1, "n_mels", "n_frames")
    model.graph.output.append(onnx.helper.make_tensor_value_info("mel", onnx.TensorProto.FLOAT, shape))
    return bytes(model.SerializeToString())


def _session(data: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors only: they come back as exceptions as well
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime's own exceptions have no common base but Exception
        reason = next(iter(str(exc).splitlines()), type(exc).__name__)
        raise ModelError(f"onnxruntime cannot load the exported model: {reason}") from exc


# ---------------------------------------------------------------------- comparing


def compare(file: ExportedFile, every: Iterable[Heard]) -> ParityCase:
    """How far a file is from PyTorch on a batch, or on all windows of a recording.

    Raises:
        ModelError: its answers have another shape.
    """
    return reduce(_joined, (_compare(file, heard) for heard in every))


def _compare(file: ExportedFile, heard: Heard) -> ParityCase:
    expected = heard.answer
    scores, got = file(heard.samples, heard.mels)
    if any(
        a is not None and b is not None and a.shape != b.shape for a, b in zip(got, expected, strict=True)
    ):
        raise ModelError("the exported model gives answers of another shape than PyTorch")
    steps, wanted_steps = got.frame_logits, expected.frame_logits
    mels = file.mels(heard.samples)
    wanted = sigmoid(expected.logits)
    rows = np.arange(len(wanted))
    top, file_top = wanted.argmax(axis=1), scores.argmax(axis=1)
    scale = max(_largest(expected.embedding), MIN_EMBEDDING)
    return ParityCase(
        signals=heard.signals,
        n_frames=heard.mels.shape[-1],
        logit=_largest(got.logits - expected.logits),
        score=_largest(scores - wanted),
        embedding=_largest(got.embedding - expected.embedding) / scale,
        log_mel=None if mels is None else _largest(mels - heard.mels),
        **({} if steps is None or wanted_steps is None else _of_frames(steps, wanted_steps)),
        is_clip=heard.is_clip,
        n_windows=len(rows),
        n_same_top=int((top == file_top).sum()),
        lead_lost=float((wanted[rows, top] - wanted[rows, file_top]).max()),
    )


def _joined(one: ParityCase, other: ParityCase) -> ParityCase:
    """Windows of one recording as one case: the largest of everything, and NaN where one is."""
    return dataclasses.replace(
        one,
        logit=float(np.maximum(one.logit, other.logit)),
        score=float(np.maximum(one.score, other.score)),
        embedding=float(np.maximum(one.embedding, other.embedding)),
        log_mel=_larger(one.log_mel, other.log_mel),
        frame_logit=_larger(one.frame_logit, other.frame_logit),
        frame_score=_larger(one.frame_score, other.frame_score),
        n_windows=one.n_windows + other.n_windows,
        n_same_top=one.n_same_top + other.n_same_top,
        lead_lost=float(np.maximum(one.lead_lost, other.lead_lost)),
    )


def _of_frames(steps: NDArray[np.float32], wanted: NDArray[np.float32]) -> dict[str, float]:
    return {
        "frame_logit": _largest(steps - wanted) / max(_largest(wanted), 1.0),
        "frame_score": _largest(sigmoid(steps) - sigmoid(wanted)),
    }


def _larger(one: float | None, other: float | None) -> float | None:
    return one if one is None or other is None else float(np.maximum(one, other))


def _largest(values: NDArray[np.float32]) -> float:
    return float(np.abs(values).max())


def _sounds(front_end: FrontEndConfig, n_frames: int) -> dict[str, NDArray[np.float32]]:
    """Sounds that leave no part of the network idle, each of `n_frames` frames; always the same."""
    n_samples = max(n_frames * front_end.n_hop, front_end.min_samples)
    time_s = np.arange(n_samples) / front_end.rate_hz
    duration_s = n_samples / front_end.rate_hz
    clicks = np.zeros(n_samples)
    clicks[:: front_end.rate_hz // 8] = 0.9
    sounds = {
        "noise": np.random.default_rng(0).normal(0.0, 0.1, n_samples),
        "chirp": 0.5 * np.sin(np.pi * front_end.fmax_hz / duration_s * time_s**2),
        "clicks": clicks,
        "silence": np.zeros(n_samples),
    }
    return {name: samples.astype(np.float32) for name, samples in sounds.items()}


# ---------------------------------------------------------------------- speed


@dataclass(frozen=True, slots=True)
class ExportTiming:
    """Milliseconds for 10 s of sound, on one core of this machine; the best of alternating runs.

    Args:
        plain_ms: the float32 file; behind the NumPy front end, where the other has one of its own.
        file_ms: the file.
    """

    plain_ms: float
    file_ms: float

    @property
    def ratio(self) -> float:
        """How many times as fast as the float32 file."""
        return self.plain_ms / self.file_ms


def measure(plain: ExportedFile, file: ExportedFile, log_mel: LogMel) -> ExportTiming:
    """Let two files answer in turn."""
    samples = _sounds(log_mel.config, log_mel.n_frames(WindowPlan().n_window))["noise"][np.newaxis]
    mels = log_mel(samples)
    runs: dict[str, Callable[[], object]] = {
        "plain": lambda: plain(samples, log_mel(samples) if file.has_frontend else mels),
        "file": lambda: file(samples, mels),
    }
    times_ms: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times_ms[name].append((time.perf_counter() - start) * 1000)
    return ExportTiming(min(times_ms["plain"]), min(times_ms["file"]))
