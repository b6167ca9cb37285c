"""Who runs where, and why: from `--backend` and `--device` to a loaded model.

`auto` is onnxruntime wherever it can run the model: it starts fastest and is fastest on CPUs. PyTorch
is taken where it is asked for, where only it has the device (mps; a GPU of which this onnxruntime knows
nothing), and where the package ships no graph for the architecture. The `auto` device is the CPU.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from dymn_cli.errors import BackendUnavailableError, UsageError
from dymn_cli.model.config import architecture_of
from dymn_cli.store.registry import resolve
from dymn_cli.store.weights import read_weights

if TYPE_CHECKING:
    from dymn_cli.model.config import ModelConfig
    from dymn_cli.runtime.base import Backend

__all__ = ["BackendName", "open_backend"]

BackendName = Literal["auto", "onnx", "torch"]
DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def open_backend(
    model: str,
    *,
    backend: str = "auto",
    device: str = "auto",
    threads: int = 1,
    n_samples: int,
) -> Backend:
    """Load a model on a runtime and a device.

    Args:
        model: name, or path of a .safetensors or .onnx file.
        backend: "auto", "onnx" or "torch".
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        threads: of onnxruntime, for one window.
        n_samples: of the usual window, at the model's rate.

    Raises:
        UsageError: no such model, backend or device name.
        ModelError: the model cannot be used; BackendUnavailableError where only the runtime cannot.
    """
    if backend not in get_args(BackendName):
        raise UsageError(f"no backend {backend!r}", hint=f"one of {', '.join(get_args(BackendName))}")
    if DEVICE.fullmatch(device) is None:
        raise UsageError(f"no device {device!r}", hint="one of auto, cpu, cuda, cuda:N, mps")
    found = resolve(model)
    if isinstance(found, Path) and found.suffix == ".onnx":
        return _open_file(found, backend, device, threads)
    weights = read_weights(found)
    place = "cpu" if device == "auto" else device
    if backend == "auto":
        backend = "onnx" if _onnxruntime_can(weights.header.config, place) else "torch"
    if backend == "torch":
        from dymn_cli.runtime.torch import TorchBackend

        return TorchBackend(weights, device=place)
    from dymn_cli.runtime.onnx import OnnxBackend

    n_frames = weights.header.front_end.n_frames(n_samples)
    return OnnxBackend(weights, device=place, threads=threads, n_frames=n_frames)


def _onnxruntime_can(config: ModelConfig, device: str) -> bool:
    if architecture_of(config) is None:
        return False
    from dymn_cli.runtime.onnx import has_device

    return has_device(device)


def _open_file(path: Path, backend: str, device: str, threads: int) -> Backend:
    if backend == "torch":
        raise BackendUnavailableError(f"{path}: PyTorch cannot run an ONNX file", hint="--backend onnx")
    from dymn_cli.runtime.onnx import OnnxFileBackend

    return OnnxFileBackend(path, device="cpu" if device == "auto" else device, threads=threads)
