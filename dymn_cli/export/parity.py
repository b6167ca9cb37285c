"""Compare an exported file with PyTorch on the same sounds, and bound the differences.

One side is PyTorch behind the NumPy front end, the other the exported bytes in onnxruntime. Both run
synthetic sounds of odd lengths, alone and in batches, and recordings: the bundled clips and the user's, cut
into windows as in tagging. The bounds depend on the file:

    plain            logits, scores and embedding within 1e-4; frame logits and scores, if there are any
    with front end   scores within 1e-4; log-mels of the bundled clips within 5e-5
    float16, int8    scores within 0.01 and 0.05

The top tag may change only if the scores of the two classes are within the same bound. Scores are compared
as they are, embeddings relative to the largest value, and logits relative to the largest of the same sound,
at least 1: a fine-tuned head may give logits of 50, and frame logits of silence reach −60, where PyTorch's
own float32 error is 1e-4. Log-mels of other sounds are reported but not bounded: on a pure tone, float32
front ends differ more, the published one by 1.5e-4 from itself in float64.

A log-mel with a floor of 1e-7 instead of an offset of 1e-5 (FMN) shows the rounding of single precision in
all quiet bands: the published front end is up to 4e-3 away from itself in float64. So its log-mels may differ
by 5e-3, and PyTorch is given those of the file.
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
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
import torch

from dymn_cli.audio.decode import open_audio
from dymn_cli.audio.resample import RATE_HZ, to_mono_32k
from dymn_cli.audio.windows import WindowPlan, windows
from dymn_cli.errors import ModelError
from dymn_cli.export.frontend_graph import OUTPUTS
from dymn_cli.export.network import FRAME_LOGITS
from dymn_cli.frontend.logmel import LogMel
from dymn_cli.model.build import restore
from dymn_cli.runtime.base import Answer
from dymn_cli.runtime.ort import ort, ort_error_text, session_options
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
    "ParityCase",
    "Reference",
    "ReferenceBatch",
    "bounds_of",
    "compare",
    "measure",
    "require",
]

Part = Literal["logit", "score", "embedding", "frame_logit", "frame_score"]

TOLERANCE = 1e-4
LOG_MEL_TOLERANCE = 5e-5
FLOORED_LOG_MEL_TOLERANCE = 5e-3
FLOAT16_TOLERANCE = 1e-2
INT8_TOLERANCE = 5e-2
MIN_EMBEDDING = 1e-3
DIFFERENCES = ("logit", "score", "embedding", "log_mel", "frame_logit", "frame_score", "lead_lost")
LENGTHS = (1000, 437, 63)  # frames: the usual window, and odd lengths that every stride rounds up
BATCHES = (("noise",), ("chirp",), ("clicks",), ("silence",), ("noise", "chirp", "clicks"))
ROUNDS = 9


@dataclass(frozen=True, slots=True)
class Bounds:
    """The largest differences allowed.

    Args:
        largest: for all `parts`.
        parts: what is compared.
        log_mel: for log-mels; None if they are not bounded.
    """

    largest: float
    parts: tuple[Part, ...]
    log_mel: float | None = None


def bounds_of(
    precision: Precision, *, with_frontend: bool, frames: bool = False, floored: bool = False
) -> Bounds:
    """The bounds of the module docstring."""
    of_frames: tuple[Part, ...] = ("frame_logit", "frame_score") if frames else ()
    of_log_mel = FLOORED_LOG_MEL_TOLERANCE if floored else LOG_MEL_TOLERANCE
    log_mel = of_log_mel if with_frontend else None
    if precision == "float32" and not with_frontend:
        return Bounds(TOLERANCE, ("logit", "score", "embedding", *of_frames))
    tolerances = {"float32": TOLERANCE, "float16": FLOAT16_TOLERANCE, "int8": INT8_TOLERANCE}
    return Bounds(tolerances[precision], ("score",), log_mel)


@dataclass(frozen=True, slots=True)
class ParityCase:
    """The largest differences between a file and PyTorch on one batch, or on the windows of one recording.

    Args:
        signals: the name of each sound of the batch, or of the recording.
        n_frames: frames of each window.
        logit: largest |Δ| of a logit, relative to the largest absolute value of its sound (at least 1).
        score: largest |Δ| of a score, after the sigmoid.
        embedding: largest |Δ| of an embedding, relative to its largest absolute value (at least 0.001: the
            embeddings of an untrained network are tiny).
        log_mel: largest |Δ| of a log-mel; None if the file takes log-mels.
        frame_logit: largest |Δ| of a frame logit, relative likewise; None if the file has no frame logits.
        frame_score: largest |Δ| of a frame score; None if the file has no frame logits.
        is_clip: whether this is a recording.
        n_windows: number of windows.
        n_same_top: windows with the same top class.
        lead_lost: in the others, the largest difference between PyTorch's scores of the two top classes.
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
        """The largest difference of some parts; NaN if one is NaN."""
        return float(np.max([getattr(self, part) for part in parts]))


def require(case: ParityCase, bounds: Bounds, name: str) -> None:
    """Refuse a file whose outputs differ too much.

    Raises:
        ModelError: a bound is exceeded.
    """
    where = f"on {', '.join(case.signals)} of {case.n_frames} frames"
    worst = case.worst(bounds.parts)
    if not worst <= bounds.largest:  # so put, NaN fails
        raise ModelError(
            f"{name}: the ONNX file differs from PyTorch by {worst:.1e} {where}, more than"
            f" {bounds.largest:g}; nothing was written",
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
            f"{name}: the ONNX file has another top class {where}, although the scores of the two are"
            f" {case.lead_lost:.1e} apart, more than {bounds.largest:g}; nothing was written",
            hint=_hint(bounds),
        )


def _hint(bounds: Bounds) -> str:
    if bounds.largest > TOLERANCE:
        return "this model needs full precision: export it without --int8 or --fp16"
    return "the model still runs with --backend torch; please report this"


# ---------------------------------------------------------------------- the two sides


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceBatch:
    """Windows of audio, with PyTorch's output.

    Args:
        signals: the name of each sound, or of the recording.
        is_clip: whether this is a recording.
        samples: (n, n_samples) float32.
        mels: (n, 1, n_mels, n_frames) float32.
        answer: PyTorch's output.
        network: PyTorch for log-mels of the file, where they are not expected to be the same; else None.
    """

    signals: tuple[str, ...]
    is_clip: bool
    samples: NDArray[np.float32]
    mels: NDArray[np.float32]
    answer: Answer
    network: Callable[[NDArray[np.float32]], Answer] | None = None


class Reference:
    """The model in PyTorch, behind the front end in NumPy."""

    def __init__(self, weights: Weights) -> None:
        self._module = restore(weights.tensors, weights.header.config)
        self.log_mel = LogMel(weights.header.front_end)

    def run(self, signals: tuple[str, ...], samples: NDArray[np.float32], *, is_clip: bool) -> ReferenceBatch:
        """Run PyTorch on windows (n, n_samples)."""
        mels = self.log_mel(samples)
        again = self._answer if self.log_mel.config.log_floor else None
        return ReferenceBatch(signals, is_clip, samples, mels, self._answer(mels), again)

    def _answer(self, mels: NDArray[np.float32]) -> Answer:
        with torch.inference_mode(), _one_thread():
            features = self._module.forward_features(torch.from_numpy(mels))
            parts = (*self._module.forward_head(features), self._module.forward_frames(features))
            return Answer(*(part.numpy() for part in parts))

    def sounds(self, *, one_clip: bool) -> Iterator[ReferenceBatch]:
        """Synthetic sounds of three lengths, one by one and, unless the file takes one clip, as a batch."""
        for n_frames in LENGTHS:
            sounds = _sounds(self.log_mel.config, n_frames)
            for signals in BATCHES:
                if not (one_clip and len(signals) > 1):
                    samples = np.stack([sounds[name] for name in signals])
                    yield self.run(signals, samples, is_clip=False)

    def windows(self, clip: Path) -> Iterator[ReferenceBatch]:
        """A recording of any length, window by window.

        Raises:
            InputError: it cannot be read.
        """
        with open_audio(clip) as reader:
            for window in windows(to_mono_32k(reader), WindowPlan()):
                yield self.run((clip.name,), window.samples[np.newaxis], is_clip=True)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Run PyTorch on one core, so that it rounds the same everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class ExportedFile:
    """The bytes of an exported file, in onnxruntime.

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
        """Compute scores and outputs from samples (n, n_samples) or their log-mels."""
        if not self.has_frontend:
            answer = Answer(*self._session.run(self._outputs, {"mel": mels}))
            return sigmoid(answer.logits), answer
        scores, *parts = self._session.run(self._outputs, {"waveform": samples})
        return scores, Answer(*parts)

    def mels(self, samples: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """The log-mels that the file computes; None if it takes log-mels."""
        if self._mel_session is None:
            return None
        mels: NDArray[np.float32] = self._mel_session.run(["mel"], {"waveform": samples})[0]
        return mels


def _mel_only(data: bytes) -> bytes:
    """The same file with the log-mel as its only output."""
    model = onnx.load_model_from_string(data)
    del model.graph.output[:]
    shape = ("batch", 1, "n_mels", "n_frames")
    model.graph.output.append(onnx.helper.make_tensor_value_info("mel", onnx.TensorProto.FLOAT, shape))
    return bytes(model.SerializeToString())


def _session(data: bytes) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(data, session_options(), providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime's own exceptions have no common base but Exception
        raise ModelError(f"onnxruntime cannot load the exported model: {ort_error_text(exc)}") from exc


# ---------------------------------------------------------------------- comparing


def compare(file: ExportedFile, batches: Iterable[ReferenceBatch]) -> ParityCase:
    """Compare a file with PyTorch on a batch, or on all windows of a recording.

    Raises:
        ModelError: its outputs have another shape.
    """
    return reduce(_merged, (_compare(file, batch) for batch in batches))


def _compare(file: ExportedFile, batch: ReferenceBatch) -> ParityCase:
    mels = file.mels(batch.samples)
    expected = batch.answer if mels is None or batch.network is None else batch.network(mels)
    scores, got = file(batch.samples, batch.mels)
    if any(
        a is not None and b is not None and a.shape != b.shape for a, b in zip(got, expected, strict=True)
    ):
        raise ModelError("the outputs of the exported model and of PyTorch differ in shape")
    steps, wanted_steps = got.frame_logits, expected.frame_logits
    wanted = sigmoid(expected.logits)
    rows = np.arange(len(wanted))
    top, file_top = wanted.argmax(axis=1), scores.argmax(axis=1)
    scale = max(_largest(expected.embedding), MIN_EMBEDDING)
    return ParityCase(
        signals=batch.signals,
        n_frames=batch.mels.shape[-1],
        logit=_relative(got.logits, expected.logits),
        score=_largest(scores - wanted),
        embedding=_largest(got.embedding - expected.embedding) / scale,
        log_mel=None if mels is None else _largest(mels - batch.mels),
        **({} if steps is None or wanted_steps is None else _of_frames(steps, wanted_steps)),
        is_clip=batch.is_clip,
        n_windows=len(rows),
        n_same_top=int((top == file_top).sum()),
        lead_lost=float((wanted[rows, top] - wanted[rows, file_top]).max()),
    )


def _merged(one: ParityCase, other: ParityCase) -> ParityCase:
    """Two parts of one recording as one case: the largest of each difference, NaN if one is NaN."""
    pairs = {name: (getattr(one, name), getattr(other, name)) for name in DIFFERENCES}
    largest: dict[str, Any] = {
        name: None if None in pair else float(np.maximum(*pair)) for name, pair in pairs.items()
    }
    return dataclasses.replace(
        one,
        n_windows=one.n_windows + other.n_windows,
        n_same_top=one.n_same_top + other.n_same_top,
        **largest,
    )


def _of_frames(steps: NDArray[np.float32], wanted: NDArray[np.float32]) -> dict[str, float]:
    return {
        "frame_logit": _relative(steps, wanted),
        "frame_score": _largest(sigmoid(steps) - sigmoid(wanted)),
    }


def _relative(logits: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """The largest difference of logits (n, …), relative to the largest wanted of its sound, at least 1."""
    pairs = zip(logits, wanted, strict=True)
    return float(np.max([_largest(one - other) / max(_largest(other), 1.0) for one, other in pairs]))


def _largest(values: NDArray[np.float32]) -> float:
    return float(np.abs(values).max())


def _sounds(front_end: FrontEndConfig, n_frames: int) -> dict[str, NDArray[np.float32]]:
    """Sounds that use every part of the network, each of `n_frames` frames; always the same."""
    n_samples = max(n_frames * front_end.input_hop, front_end.min_samples)
    time_s = np.arange(n_samples) / RATE_HZ
    duration_s = n_samples / RATE_HZ
    clicks = np.zeros(n_samples)
    clicks[:: RATE_HZ // 8] = 0.9
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
    """Milliseconds for 10 s of audio, on one core of this machine; the best of alternating runs.

    Args:
        plain_ms: the float32 file; with the NumPy front end if the other file contains one.
        file_ms: the exported file.
    """

    plain_ms: float
    file_ms: float

    @property
    def ratio(self) -> float:
        """Speed relative to the float32 file."""
        return self.plain_ms / self.file_ms


def measure(plain: ExportedFile, file: ExportedFile, log_mel: LogMel) -> ExportTiming:
    """Time two files, in alternating runs."""
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
