"""Inference with PyTorch: the modules of `dymn_cli.model`, on a CPU or a GPU."""

from __future__ import annotations

import dataclasses
import threading
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.errors import BackendUnavailableError, ModelError, first_line
from dymn_cli.results import ModelInfo
from dymn_cli.runtime.base import Answer
from dymn_cli.runtime.devices import TorchBuild, how_to_get, parse_device, why_not_torch

try:
    import torch

    from dymn_cli.frontend.torch_logmel import TorchLogMel
    from dymn_cli.frontend.torch_resample import TorchResampler
    from dymn_cli.model.build import restore
except (ImportError, OSError) as exc:  # OSError: a library that it needs
    raise BackendUnavailableError(
        f"PyTorch cannot be loaded: {exc}", hint="pip install 'dymn[torch]', or use the backend onnx"
    ) from exc

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from dymn_cli.frontend.melbank import FrontEndConfig
    from dymn_cli.runtime.base import Mels
    from dymn_cli.store.weights import Weights

__all__ = ["TorchBackend", "TorchGpuBackend", "torch_build"]

FULL_STAGES = 6
"""Stages that stay in single precision: the stem and the first five blocks.

All later layers amplify their rounding errors. On a hundred real clips, the scores of the published MN of
width 0.4 were off by up to 0.0087 with half precision throughout, and by 0.0016 with this; those of the
bundled model by 0.0023 and 0.0010. (Measured with PyTorch's half precision on a CPU.)
"""


class TorchBackend:
    """A model on PyTorch, in single precision.

    Args:
        weights: the model.
        device: "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        BackendUnavailableError: no such device.
        ModelError: the weights do not fit their architecture.
    """

    has_frames = True  # a model without a frame head uses its classifier

    def __init__(self, weights: Weights, *, device: str = "cpu") -> None:
        self.header = weights.header
        self._device = _device(device)
        self._model = restore(weights.tensors, weights.header.config).to(self._device)
        self.info = ModelInfo(weights.header.name, weights.sha256, "torch", str(self._device))
        self.on_cpu = self._device.type == "cpu"
        # A GPU runs one batch at a time anyway, and waiting batches take its memory.
        self._turn = nullcontext() if self.on_cpu else threading.Lock()

    def run(self, mels: Mels, *, frames: bool = False) -> Answer:
        """Run the network on log-mels (n, 1, n_mels, n_frames), an array or a tensor."""
        # The last bits depend on the size of the batch, and on a CPU no window may depend on its batch.
        batches = [mels[n : n + 1] for n in range(len(mels))] if self.on_cpu else [mels]
        with self._computing():
            answers = [self._run(batch, frames=frames) for batch in batches]
        return Answer(*(np.concatenate(parts) for parts in zip(*answers, strict=True)))

    def _run(self, mels: Mels, *, frames: bool) -> list[NDArray[np.float32]]:
        features = self._features(self._to_device(mels))
        parts = [*self._model.forward_head(features)]
        if frames:
            parts.append(self._model.forward_frames(features))
        return [part.cpu().numpy() for part in parts]

    def _features(self, mels: Tensor) -> Tensor:
        """The last feature map, in single precision."""
        return self._model.forward_features(mels)

    def _to_device(self, values: Mels) -> Tensor:
        is_tensor = isinstance(values, torch.Tensor)
        tensor: Tensor = values if is_tensor else torch.from_numpy(np.ascontiguousarray(values))
        return tensor.to(self._device)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with _errors(), self._turn, torch.inference_mode():
            yield


class TorchGpuBackend(TorchBackend):
    """Resampling, log-mel and network on a GPU, the network mostly in half precision.

    The published models were trained with autocast to float16. Here the first stages (`FULL_STAGES`), the
    head, the log-mel and resampling stay in single precision.

    Args:
        weights: the model.
        device: "cuda" or "cuda:N", or any other device on which PyTorch can autocast to float16.

    Raises:
        BackendUnavailableError: no such device.
        ModelError: the weights do not fit their architecture.
    """

    def __init__(self, weights: Weights, *, device: str = "cuda") -> None:
        super().__init__(weights, device=device)
        self.info = dataclasses.replace(self.info, provider=f"{self._device} float16")
        self.on_cpu = False  # so that even on a CPU, in tests, whole batches run at once

    def log_mel(self, config: FrontEndConfig, samples: NDArray[np.float32]) -> Tensor:
        """Compute the log-mels of windows (n, n_samples) and keep them on the device for `run`."""
        with self._computing():
            mels: Tensor = _log_mel(config, self._device)(self._to_device(samples))
        return mels

    def resample(
        self, blocks: Iterable[NDArray[np.float32]], matrix: NDArray[np.float32], period: int
    ) -> Iterator[NDArray[np.float32]]:
        """Resample to 32 kHz: blocks of (n,) or (n, channels).

        They are returned to the CPU, which cuts windows: 0.1 MB for a second of audio.
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
        raise ModelError(f"PyTorch cannot run the model: {first_line(exc)}") from exc


def torch_build() -> TorchBuild:
    """Describe the installed PyTorch."""
    version = torch.version
    built_for = f"CUDA {version.cuda}" if version.cuda else f"ROCm {version.hip}" if version.hip else None
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return TorchBuild(torch.__version__, built_for, n_cuda, torch.backends.mps.is_available())


def _device(name: str) -> torch.device:
    wanted = parse_device(name)
    reason = why_not_torch(wanted, torch_build())
    try:
        if reason is None:
            device = torch.device(name)
            torch.empty(1, device=device)
            return device
    except (RuntimeError, AssertionError) as exc:
        reason = first_line(exc)
    raise BackendUnavailableError(
        f"PyTorch has no device {name!r} here: {reason}", hint=how_to_get(wanted.kind)
    )
