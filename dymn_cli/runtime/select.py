"""Who runs where, and why: from `--backend` and `--device` to a loaded model.

`auto` is onnxruntime on the CPU: it starts fastest and is fastest there. On CUDA it is PyTorch if that has
such a device, because then log-mel and resampling run there as well, and the network in half precision; else
onnxruntime's CUDA provider. mps is PyTorch's, all other devices are onnxruntime's. PyTorch also runs the
architectures for which the package ships no graph. The `auto` device is the CPU: a GPU is never taken
unasked, so that equal commands give equal answers on different machines.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from dymn_cli.errors import BackendUnavailableError, UsageError
from dymn_cli.model.config import architecture_of
from dymn_cli.runtime.devices import how_to_get, parse_device, why_not_onnx, why_not_torch
from dymn_cli.store.registry import resolve
from dymn_cli.store.weights import read_weights

if TYPE_CHECKING:
    from dymn_cli.model.config import ModelConfig
    from dymn_cli.runtime.base import Backend
    from dymn_cli.runtime.devices import Device, TorchFacts

__all__ = ["BackendName", "open_backend"]

BackendName = Literal["auto", "onnx", "torch"]


def open_backend(
    model: str,
    *,
    backend: str = "auto",
    device: str = "auto",
    threads: int = 1,
    n_samples: int,
    frames: bool = False,
) -> Backend:
    """Load a model on a runtime and a device.

    Args:
        model: name, or path of a .safetensors or .onnx file.
        backend: "auto", "onnx" or "torch".
        device: as `dymn_cli.runtime.devices` spells them.
        threads: of onnxruntime, for one window.
        n_samples: of the usual window, at the model's rate.
        frames: whether frame logits will be asked for, so that it makes ready for them.

    Raises:
        UsageError: no such model, backend or device name.
        ModelError: the model cannot be used; BackendUnavailableError where only the runtime cannot.
    """
    if backend not in get_args(BackendName):
        raise UsageError(f"no backend {backend!r}", hint=f"one of {', '.join(get_args(BackendName))}")
    place = parse_device(device)
    found = resolve(model)
    if isinstance(found, Path) and found.suffix == ".onnx":
        return _open_file(found, backend, place, threads)
    weights = read_weights(found)
    if backend == "auto":
        backend = _best(weights.header.config, place)
    if backend == "torch":
        from dymn_cli.runtime.torch import TorchBackend, TorchGpuBackend

        return (TorchGpuBackend if place.kind == "cuda" else TorchBackend)(weights, device=str(place))
    from dymn_cli.runtime.onnx import OnnxBackend

    n_frames = weights.header.front_end.n_frames(n_samples)
    return OnnxBackend(weights, device=str(place), threads=threads, n_frames=n_frames, frames=frames)


def _best(config: ModelConfig, device: Device) -> BackendName:
    """The runtime for an architecture and a device.

    Raises:
        BackendUnavailableError: the device is there for neither.
    """
    if device.kind == "cpu":
        return "onnx" if architecture_of(config) is not None else "torch"
    if device.kind != "cuda":
        return "torch" if device.kind == "mps" else "onnx"
    no_torch = why_not_torch(device, _torch_facts())
    if no_torch is None:
        return "torch"
    from dymn_cli.runtime.onnx import providers

    no_onnx = why_not_onnx(device.kind, providers())
    if no_onnx is None:
        return "onnx"
    raise BackendUnavailableError(
        f"nothing here has the device {str(device)!r}: {no_torch}, and {no_onnx}",
        hint=how_to_get(device.kind),
    )


def _torch_facts() -> TorchFacts | None:
    try:
        from dymn_cli.runtime.torch import torch_facts
    except BackendUnavailableError:
        return None
    return torch_facts()


def _open_file(path: Path, backend: str, device: Device, threads: int) -> Backend:
    if backend == "torch":
        raise BackendUnavailableError(f"{path}: PyTorch cannot run an ONNX file", hint="--backend onnx")
    from dymn_cli.runtime.onnx import OnnxFileBackend

    return OnnxFileBackend(path, device=str(device), threads=threads)
