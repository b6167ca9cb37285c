"""Inference with PyTorch: the modules of `dymn_cli.model`, on a CPU or a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.errors import BackendUnavailableError, ModelError
from dymn_cli.results import ModelInfo
from dymn_cli.runtime.base import Answer

try:
    import torch

    from dymn_cli.model.build import restore
except ImportError as exc:
    raise BackendUnavailableError(
        f"PyTorch cannot be loaded: {exc}", hint="pip install 'dymn[torch]', or use --backend onnx"
    ) from exc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.store.weights import Weights

__all__ = ["TorchBackend"]


class TorchBackend:
    """A model of ours on PyTorch.

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

    @property
    def on_cpu(self) -> bool:
        """Whether it computes on the CPU."""
        return self._device.type == "cpu"

    def run(self, mels: NDArray[np.float32]) -> Answer:
        """The network's answer for log-mels (n, 1, n_mels, n_frames)."""
        # Kernels differ in the last bits with the size of the batch: on a CPU no window may depend on it.
        batches = [mels[n : n + 1] for n in range(len(mels))] if self.on_cpu else [mels]
        try:
            with torch.inference_mode():
                answers = [self._run(batch) for batch in batches]
        except RuntimeError as exc:
            reason = str(exc).strip().splitlines()[0]
            raise ModelError(f"PyTorch cannot run the model: {reason}") from exc
        logits, embeddings = zip(*answers, strict=True)
        return Answer(np.concatenate(logits), np.concatenate(embeddings))

    def _run(self, mels: NDArray[np.float32]) -> Answer:
        logits, embedding = self._model(torch.from_numpy(np.ascontiguousarray(mels)).to(self._device))
        return Answer(logits.cpu().numpy(), embedding.cpu().numpy())


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as exc:  # a build without CUDA asserts
        reason = str(exc).strip().splitlines()[0]
        raise BackendUnavailableError(
            f"PyTorch has no device {name!r} here: {reason}", hint="--device cpu works everywhere"
        ) from exc
    return device
