"""Check that a model works here, and time each stage of tagging.

Every model must give finite results, the same ones each time, and the same ones on both runtimes. Some
published models can also be compared with the scores published for an example clip (`check_example`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from dymn_cli.audio.decode import open_audio
from dymn_cli.audio.resample import RATE_HZ, to_mono_32k
from dymn_cli.audio.windows import WindowPlan, windows
from dymn_cli.errors import BackendUnavailableError, ModelError, UsageError
from dymn_cli.frontend.logmel import LogMel
from dymn_cli.runtime.base import DeviceFrontEnd
from dymn_cli.runtime.select import open_backend
from dymn_cli.store.registry import model_spec, model_specs, resolve
from dymn_cli.tagging.aggregate import sigmoid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.audio.decode import Source
    from dymn_cli.results import ModelInfo
    from dymn_cli.runtime.base import Answer, Backend, Mels
    from dymn_cli.store.header import ModelHeader

__all__ = [
    "DEVICE_TOLERANCE",
    "TOLERANCE",
    "ExampleCheck",
    "ModelCheck",
    "StageTimes",
    "Trial",
    "check_example",
    "check_model",
    "try_clip",
]

TOLERANCE = 1e-4
"""Largest difference between two runtimes, relative to the largest absolute value (at least 1)."""

DEVICE_TOLERANCE = 2e-3
"""Largest difference between a score on a GPU and on the CPU."""

_Result = TypeVar("_Result")

PLAN = WindowPlan()
REPEATS = 3
EXAMPLE_SLACK_S = 0.5


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """A model that passed.

    Args:
        info: name, hash, runtime and device.
        header: of the model.
        difference: from PyTorch's output, measured as for `TOLERANCE`; None if they were not compared.
        unasked: why they were not compared, or None.
    """

    info: ModelInfo
    header: ModelHeader
    difference: float | None
    unasked: str | None


def check_model(model: str, *, clip: Source | None = None) -> ModelCheck:
    """Run a model twice on a synthetic sound, and on PyTorch if it is installed.

    Args:
        model: name, or path of a model file.
        clip: a recording, whose first window is tested as well.

    Raises:
        InputError: the clip cannot be read.
        UsageError: no model of that name.
        WeightsMissingError: its file is missing.
        ChecksumError: its file is not the one in the manifest.
        ModelError: it cannot be loaded, or its output is wrong.
    """
    backend = open_backend(model, n_samples=PLAN.n_window, frames=True)
    log_mel = LogMel(backend.header.front_end)
    mels = log_mel(_sound())
    if clip is not None:
        mels = np.concatenate([mels, log_mel(_first_window(clip))])
    answer = _answer(backend, mels)
    again = backend.run(mels, frames=backend.has_frames)
    if any(not np.array_equal(one, other) for one, other in _pairs(answer, again)):
        raise ModelError(f"{model}: two runs on the same sound give different results")
    unasked = _why_not_torch(model, backend)
    if unasked is not None:
        return ModelCheck(backend.info, backend.header, None, unasked)
    try:
        other = open_backend(model, backend="torch", n_samples=PLAN.n_window)
    except BackendUnavailableError as exc:
        return ModelCheck(backend.info, backend.header, None, exc.message)
    difference = _difference(answer, _answer(other, mels))
    if not difference <= TOLERANCE:  # so put, NaN fails
        raise ModelError(f"{model}: {backend.info.backend} and PyTorch differ by {difference:.1e}")
    return ModelCheck(backend.info, backend.header, difference, None)


def _sound() -> NDArray[np.float32]:
    """A window of chirp and noise, (n_samples,), which uses all bands and blocks."""
    time_s = np.arange(PLAN.n_window) / RATE_HZ
    chirp = np.sin(np.pi * 0.4 * RATE_HZ / time_s[-1] * time_s**2)
    noise = np.random.default_rng(0).standard_normal(len(time_s))
    samples: NDArray[np.float32] = (0.3 * chirp + 0.03 * noise).astype(np.float32)
    return samples


def _answer(backend: Backend, mels: Mels) -> Answer:
    answer = backend.run(mels, frames=backend.has_frames)
    if not all(np.isfinite(part).all() for part, _ in _pairs(answer, answer)):
        raise ModelError(f"{backend.info.name}: {backend.info.backend} gives NaN or infinity")
    return answer


def _why_not_torch(model: str, backend: Backend) -> str | None:
    found = resolve(model)
    if isinstance(found, Path) and found.suffix == ".onnx":
        return "PyTorch cannot run an ONNX file"
    if backend.info.backend == "torch":
        return "only PyTorch can run it"
    return None if find_spec("torch") is not None else "PyTorch is not installed"


def _difference(one: Answer, other: Answer) -> float:
    return max(float(np.abs(a - b).max() / max(1.0, float(np.abs(b).max()))) for a, b in _pairs(one, other))


def _pairs(one: Answer, other: Answer) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """The outputs that both have."""
    for a, b in zip(one, other, strict=True):
        if a is not None and b is not None:
            yield a, b


# ---------------------------------------------------------------------- published scores


@dataclass(frozen=True, slots=True)
class ExampleCheck:
    """A model's scores for the example clip, beside the published ones.

    Args:
        source: who published the scores, and how they were computed.
        tolerance: largest difference to expect.
        rows: (label, published score, score here), best first.
    """

    source: str
    tolerance: float
    rows: tuple[tuple[str, float, float], ...]

    @property
    def difference(self) -> float:
        """The largest difference between a score here and the published one."""
        return max(abs(here - published) for _, published, here in self.rows)

    @property
    def holds(self) -> bool:
        """Whether all scores are within the tolerance."""
        return self.difference <= self.tolerance  # False for NaN


def check_example(model: str, clip: Source) -> ExampleCheck:
    """Compare a model with the scores published for `metro_station-paris.wav`.

    Args:
        model: name of a model.
        clip: the user's copy of that recording, of about 10 s.

    Raises:
        UsageError: no scores were published for the model, or the clip is another one.
        InputError: the clip cannot be read.
        ModelError: the model cannot be used.
    """
    example = model_spec(model).example
    if example is None:
        with_scores = ", ".join(spec.name for spec in model_specs() if spec.example is not None)
        raise UsageError(f"no scores of an example clip are published for {model}", hint=with_scores)
    with open_audio(clip) as reader:
        found = list(islice(windows(to_mono_32k(reader), PLAN), 2))
        duration_s, name = found[-1].end_s, reader.name
    if abs(duration_s - PLAN.window_s) > EXAMPLE_SLACK_S:
        raise UsageError(
            f"{name}: the example clip has {PLAN.window_s:g} s, this one {'more' if found[1:] else 'less'}",
            hint="it is resources/metro_station-paris.wav of github.com/fschmid56/EfficientAT",
        )
    backend = open_backend(model, n_samples=PLAN.n_window)
    vocabulary = backend.header.vocabulary
    scores = sigmoid(_answer(backend, LogMel(backend.header.front_end)(found[0].samples)).logits[0])
    rows = [
        (label, published, float(scores[vocabulary.find(label).index])) for label, published in example.scores
    ]
    return ExampleCheck(example.source, example.tolerance, tuple(rows))


# ---------------------------------------------------------------------- one clip, stage by stage


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Milliseconds for the first window of a clip, best of three; decoding includes resampling."""

    decode_ms: float
    log_mel_ms: float
    model_ms: float


@dataclass(frozen=True, slots=True)
class Trial:
    """A model's result for the first window of a clip, and how long it took.

    Args:
        info: name, hash, runtime and device.
        form: of the graph, see `dymn_cli.export.graph`; None for other files and runtimes.
        front_end_on_device: whether the device also computed the log-mel.
        labels: all labels, best first.
        scores: (n_classes,) float32, in the model's order.
        times: of each stage.
    """

    info: ModelInfo
    form: str | None
    front_end_on_device: bool
    labels: tuple[str, ...]
    scores: NDArray[np.float32]
    times: StageTimes


def try_clip(source: Source, model: str, *, backend: str = "auto", device: str = "auto") -> Trial:
    """Tag the first window of a clip and time each stage.

    Raises:
        InputError: the clip cannot be read.
        UsageError: an unknown model, backend or device.
        ModelError: the model cannot be loaded or run.
    """
    runtime = open_backend(model, backend=backend, device=device, n_samples=PLAN.n_window)
    log_mel = _front_end(runtime)
    window, decode_ms = _timed(lambda: _first_window(source))
    mels, log_mel_ms = _timed(lambda: log_mel(window))
    answer, model_ms = _timed(lambda: _answer(runtime, mels))
    scores = sigmoid(answer.logits[0])
    order = np.argsort(-scores, kind="stable")
    labels = tuple(runtime.header.vocabulary[int(index)].name for index in order)
    on_device = isinstance(runtime, DeviceFrontEnd)
    times = StageTimes(decode_ms, log_mel_ms, model_ms)
    return Trial(runtime.info, getattr(runtime, "form", None), on_device, labels, scores, times)


def _front_end(backend: Backend) -> Callable[[NDArray[np.float32]], Mels]:
    """The function that computes the log-mel of a window, as in the tagger."""
    config = backend.header.front_end
    if isinstance(backend, DeviceFrontEnd):
        device = backend
        return lambda window: device.log_mel(config, window[np.newaxis])
    return LogMel(config)


def _timed(work: Callable[[], _Result]) -> tuple[_Result, float]:
    """The result of some work, and its shortest time in milliseconds."""
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
