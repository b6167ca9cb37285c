"""Inference with PyTorch: the modules of `dymn_cli.model`, on a CPU or a GPU."""

from __future__ import annotations

import dataclasses
import threading
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.errors import BackendUnavailableError, ModelError
from dymn_cli.results import ModelInfo
from dymn_cli.runtime.base import Answer
from dymn_cli.runtime.devices import TorchFacts, how_to_get, parse_device, why_not_torch

try:
    import torch

    from dymn_cli.frontend.torch_logmel import TorchLogMel
    from dymn_cli.frontend.torch_resample import TorchResampler
    from dymn_cli.model.build import restore
except (ImportError, OSError) as exc:  # OSError: a library that it needs
    raise BackendUnavailableError(
        f"PyTorch cannot be loaded: {exc}", hint="pip install 'dymn[torch]', or use --backend onnx"
    ) from exc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from dymn_cli.frontend.melbank import FrontEndConfig
    from dymn_cli.runtime.base import Mels
    from dymn_cli.store.weights import Weights

__all__ = ["TorchBackend", "TorchGpuBackend", "torch_facts"]

FULL_STAGES = 6
"""Stages that half precision leaves alone: the stem and the first five blocks.

What they round off, all later layers amplify. On a hundred real clips, scores of the published MN of width
0.4 were up to 0.0087 off with half precision throughout, and 0.0016 so; those of the bundled model 0.0023
and 0.0010. (Measured with PyTorch's half precision on a CPU.)
"""


class TorchBackend:
    """A model of ours on PyTorch, in single precision.

    Args:
        weights: the model.
        device: "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        BackendUnavailableError: no such device.
        ModelError: the weights are not those of their architecture.
    """

    def __init__(self, weights: Weights, *, device: str = "cpu") -> None:
        self.header = weights.header
        self._device = _device(device)
        tensors = {key: torch.from_numpy(value) for key, value in weights.tensors.items()}
        self._model = restore(tensors, weights.header.config).to(self._device)
        self.info = ModelInfo(weights.header.name, weights.sha256, "torch", str(self._device))
        # A device does one thing after the other anyway, and batches that wait take its memory.
        self._turn = nullcontext() if self._device.type == "cpu" else threading.Lock()

    @property
    def on_cpu(self) -> bool:
        """Whether it computes on the CPU."""
        return self._device.type == "cpu"

    @property
    def has_frames(self) -> bool:
        """Always: where the model has no frame head, its classifier stands in."""
        return True

    def run(self, mels: Mels, *, frames: bool = False) -> Answer:
        """The network's answer for log-mels (n, 1, n_mels, n_frames), an array or a tensor."""
        # Kernels differ in the last bits with the size of the batch: on a CPU no window may depend on it.
        batches = [mels[n : n + 1] for n in range(len(mels))] if self.on_cpu else [mels]
        with self._computing():
            answers = [self._run(batch, frames=frames) for batch in batches]
        return Answer(*(np.concatenate(parts) for parts in zip(*answers, strict=True)))

    def _run(self, mels: Mels, *, frames: bool) -> list[NDArray[np.float32]]:
        features = self._features(self._here(mels))
        parts = [*self._model.forward_head(features)]
        if frames:
            parts.append(self._model.forward_frames(features))
        return [part.cpu().numpy() for part in parts]

    def _features(self, mels: Tensor) -> Tensor:
        """The last feature map, in single precision."""
        return self._model.forward_features(mels)

    def _here(self, values: Mels) -> Tensor:
        """An array or a tensor as a tensor on the device."""
        is_tensor = isinstance(values, torch.Tensor)
        tensor: Tensor = values if is_tensor else torch.from_numpy(np.ascontiguousarray(values))
        return tensor.to(self._device)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with _errors(), self._turn, torch.inference_mode():
            yield


class TorchGpuBackend(TorchBackend):
    """The whole way on a GPU: resampling, log-mel and network, the network mostly in half precision.

    Autocast to float16 is how the published models were trained. It spares the first stages (`FULL_STAGES`)
    and the head; log-mel and resampling are in single precision throughout.

    Args:
        weights: the model.
        device: "cuda" or "cuda:N"; any other that PyTorch can autocast to float16 on will do.

    Raises:
        BackendUnavailableError: no such device.
        ModelError: the weights are not those of their architecture.
    """

    def __init__(self, weights: Weights, *, device: str = "cuda") -> None:
        super().__init__(weights, device=device)
        self.info = dataclasses.replace(self.info, provider=f"{self._device} float16")

    @property
    def on_cpu(self) -> bool:
        """Batches are for GPUs."""
        return False

    def log_mel(self, config: FrontEndConfig, samples: NDArray[np.float32]) -> Tensor:
        """Log-mels of windows (n, n_samples), left on the device for `run`."""
        with self._computing():
            mels: Tensor = _log_mel(config, self._device)(self._here(samples))
        return mels

    def resample(
        self, blocks: Iterable[NDArray[np.float32]], matrix: NDArray[np.float32], period: int
    ) -> Iterator[NDArray[np.float32]]:
        """Blocks of (n,) or (n, channels) at 32 kHz.

        They come back to the processor, which cuts windows: 0.1 MB for a second, next to nothing.
        """
        with _errors():
            yield from TorchResampler(matrix, period, self._device)(blocks)

    def _features(self, mels: Tensor) -> Tensor:
        x = mels
        for stage in self._model.stages[:FULL_STAGES]:
            x = stage(x)
        with torch.autocast(self._device.type, dtype=torch.float16):
            for stage in self._model.stages[FULL_STAGES:]:
                x = stage(x)
        return x.float()


@cache
def _log_mel(config: FrontEndConfig, device: torch.device) -> TorchLogMel:
    return TorchLogMel(config).to(device)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as exc:
        raise ModelError(f"PyTorch cannot run the model: {_first_line(exc)}") from exc


def _first_line(exc: Exception) -> str:
    return next(iter(str(exc).strip().splitlines()), type(exc).__name__)


def torch_facts() -> TorchFacts:
    """What this PyTorch is, and which devices it finds."""
    version = torch.version
    built_for = f"CUDA {version.cuda}" if version.cuda else f"ROCm {version.hip}" if version.hip else None
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return TorchFacts(torch.__version__, built_for, n_cuda, torch.backends.mps.is_available())


def _device(name: str) -> torch.device:
    wanted = parse_device(name)
    reason = why_not_torch(wanted, torch_facts())
    try:
        if reason is None:
            device = torch.device(name)
            torch.empty(1, device=device)
            return device
    except (RuntimeError, AssertionError) as exc:
        reason = _first_line(exc)
    raise BackendUnavailableError(
        f"PyTorch has no device {name!r} here: {reason}", hint=how_to_get(wanted.kind)
    )
