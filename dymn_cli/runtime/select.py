"""Choose the runtime for `--backend` and `--device`, and load a model on it.

On the CPU, the backend `auto` is onnxruntime, which starts and runs fastest. On CUDA it is PyTorch if that
finds a GPU, because then log-mel and resampling run there as well and the network in half precision; else
onnxruntime's CUDA provider. On mps it is PyTorch, on all other devices onnxruntime. PyTorch also runs
architectures for which dymn ships no graph. The device `auto` is the CPU: a GPU must be requested, so that
the same command gives the same results on every machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dymn_cli.errors import BackendUnavailableError
from dymn_cli.model.config import architecture_of
from dymn_cli.runtime.devices import how_to_get, parse_device, why_not_onnx, why_not_torch
from dymn_cli.store.registry import resolve
from dymn_cli.store.weights import read_weights
from dymn_cli.values import require_choice

if TYPE_CHECKING:
    from dymn_cli.model.config import ModelConfig
    from dymn_cli.runtime.base import Backend
    from dymn_cli.runtime.devices import Device

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
        threads: of onnxruntime, for one window; another number changes the last bits of the results.
        n_samples: of the usual window, at the model's rate.
        frames: prepare for frame logits.

    Raises:
        UsageError: no such model, backend or device.
        BackendUnavailableError: the runtime or the device is not available.
        ModelError: the model cannot be used.
    """
    require_choice("backend", backend, BackendName)
    place = parse_device(device)
    found = resolve(model)
    if isinstance(found, Path) and found.suffix == ".onnx":
        if backend == "torch":
            raise BackendUnavailableError(
                f"{found}: PyTorch cannot run an ONNX file", hint="use the backend onnx"
            )
        from dymn_cli.runtime.onnx import OnnxFileBackend

        return OnnxFileBackend(found, device=str(place), threads=threads)
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
        BackendUnavailableError: neither runtime finds the device.
    """
    if device.kind == "cpu":
        return "onnx" if architecture_of(config) is not None else "torch"
    if device.kind != "cuda":
        return "torch" if device.kind == "mps" else "onnx"
    try:
        from dymn_cli.runtime.torch import torch_build

        no_torch = why_not_torch(device, torch_build())
    except BackendUnavailableError:
        no_torch = why_not_torch(device, None)
    if no_torch is None:
        return "torch"
    from dymn_cli.runtime.onnx import providers

    no_onnx = why_not_onnx(device.kind, providers())
    if no_onnx is None:
        return "onnx"
    raise BackendUnavailableError(
        f"no runtime here finds the device {str(device)!r}: {no_torch}, and {no_onnx}",
        hint=how_to_get(device.kind),
    )
