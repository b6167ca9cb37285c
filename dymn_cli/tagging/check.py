"""Does a model answer as it should here, and how long does each stage of tagging take?

Nothing is compared with stored answers: weights are data, and better ones may come at any time. What must
hold for all of them: finite answers, the same ones each time, and the same from both runtimes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from dymn_cli.audio.decode import open_audio
from dymn_cli.audio.resample import to_mono_32k
from dymn_cli.audio.windows import WindowPlan, windows
from dymn_cli.errors import BackendUnavailableError, ModelError
from dymn_cli.frontend.logmel import LogMel
from dymn_cli.runtime.select import open_backend
from dymn_cli.store.registry import resolve
from dymn_cli.tagging.aggregate import sigmoid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.audio.decode import Source
    from dymn_cli.results import ModelInfo
    from dymn_cli.runtime.base import Answer, Backend

__all__ = ["TOLERANCE", "ModelCheck", "StageTimes", "Trial", "check_model", "try_clip"]

TOLERANCE = 1e-4
"""Largest difference between two runtimes, relative to the largest absolute value (at least 1)."""

_Result = TypeVar("_Result")

PLAN = WindowPlan()
REPEATS = 3


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """A model that passed.

    Args:
        info: name, hash, runtime and device that answered.
        difference: from PyTorch's answer, as `TOLERANCE` measures it; None where that was not asked.
        unasked: why PyTorch was not asked, or None.
    """

    info: ModelInfo
    difference: float | None
    unasked: str | None


def check_model(model: str) -> ModelCheck:
    """Load a model and have it answer a synthetic sound twice; where PyTorch is installed, there as well.

    Args:
        model: name, or path of a .safetensors or .onnx file.

    Raises:
        UsageError: no model of that name.
        WeightsMissingError: its file is not there.
        ChecksumError: its file is not that of the manifest.
        ModelError: it cannot be loaded, or an answer is not as it should be.
    """
    backend = open_backend(model, n_samples=PLAN.n_window)
    mels = LogMel(backend.header.front_end)(_sound(backend.header.front_end.rate_hz))
    answer = _answer(backend, mels)
    again = backend.run(mels)
    if any(not np.array_equal(one, other) for one, other in zip(answer, again, strict=True)):
        raise ModelError(f"{model}: two answers to the same sound differ")
    unasked = _why_not_torch(model, backend)
    if unasked is not None:
        return ModelCheck(backend.info, None, unasked)
    try:
        other = open_backend(model, backend="torch", n_samples=PLAN.n_window)
    except BackendUnavailableError as exc:
        return ModelCheck(backend.info, None, exc.message)
    difference = _difference(answer, _answer(other, mels))
    if not difference <= TOLERANCE:  # so put, NaN fails
        raise ModelError(f"{model}: {backend.info.backend} and PyTorch differ by {difference:.1e}")
    return ModelCheck(backend.info, difference, None)


def _sound(rate_hz: int) -> NDArray[np.float32]:
    """A window of chirp and noise, (n_samples,): it leaves no band and no block idle."""
    time_s = np.arange(PLAN.n_window) / rate_hz
    chirp = np.sin(np.pi * 0.4 * rate_hz / time_s[-1] * time_s**2)
    noise = np.random.default_rng(0).standard_normal(len(time_s))
    samples: NDArray[np.float32] = (0.3 * chirp + 0.03 * noise).astype(np.float32)
    return samples


def _answer(backend: Backend, mels: NDArray[np.float32]) -> Answer:
    answer = backend.run(mels)
    if not all(np.isfinite(part).all() for part in answer):
        raise ModelError(f"{backend.info.name}: {backend.info.backend} answers with NaN or infinity")
    return answer


def _why_not_torch(model: str, backend: Backend) -> str | None:
    found = resolve(model)
    if isinstance(found, Path) and found.suffix == ".onnx":
        return "PyTorch cannot run an ONNX file"
    if backend.info.backend == "torch":
        return "only PyTorch can run it"
    return None if find_spec("torch") is not None else "PyTorch is not installed"


def _difference(one: Answer, other: Answer) -> float:
    parts = zip(one, other, strict=True)
    return max(float(np.abs(a - b).max() / max(1.0, float(np.abs(b).max()))) for a, b in parts)


# ---------------------------------------------------------------------- one clip, stage by stage


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Milliseconds for the first window of a clip, the best of three; decoding includes resampling."""

    decode_ms: float
    log_mel_ms: float
    model_ms: float


@dataclass(frozen=True, slots=True)
class Trial:
    """What a model says of the first window of a clip, labels best first, and how long it took.

    `form` is the graph that ran, see `dymn_cli.export.graph`; None where none of ours did.
    """

    info: ModelInfo
    form: str | None
    labels: tuple[str, ...]
    times: StageTimes


def try_clip(source: Source, model: str, *, backend: str = "auto", device: str = "auto") -> Trial:
    """Tag the first window of a clip and time each stage.

    Raises:
        InputError: the clip cannot be read.
        UsageError: an unknown model, backend or device.
        ModelError: the model cannot be loaded or gives no answer.
    """
    runtime = open_backend(model, backend=backend, device=device, n_samples=PLAN.n_window)
    log_mel = LogMel(runtime.header.front_end)
    window, decode_ms = _timed(lambda: _first_window(source))
    mels, log_mel_ms = _timed(lambda: log_mel(window))
    answer, model_ms = _timed(lambda: _answer(runtime, mels))
    order = np.argsort(-sigmoid(answer.logits[0]), kind="stable")
    labels = tuple(runtime.header.vocabulary[int(index)].name for index in order)
    return Trial(runtime.info, _form(runtime), labels, StageTimes(decode_ms, log_mel_ms, model_ms))


def _form(backend: Backend) -> str | None:
    if backend.info.backend != "onnx":
        return None
    from dymn_cli.runtime.onnx import OnnxBackend

    return backend.form if isinstance(backend, OnnxBackend) else None


def _timed(work: Callable[[], _Result]) -> tuple[_Result, float]:
    """The result of some work, and the least milliseconds that it took."""
    durations_ms = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        result = work()
        durations_ms.append((time.perf_counter() - start) * 1000)
    return result, min(durations_ms)


def _first_window(source: Source) -> NDArray[np.float32]:
    with open_audio(source) as reader:
        window = next(windows(to_mono_32k(reader), PLAN))
    return window.samples
