"""The accelerators that `dymn doctor` lists: which ones work here, on which runtime, or why not.

CUDA is always listed, because it is the most common. Others are listed if a runtime here was built for them,
or if machines of this kind have them.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from dymn_cli.runtime.devices import (
    HOW_TO_GET,
    PROVIDERS,
    Device,
    TorchBuild,
    why_not_onnx,
    why_not_torch,
)

__all__ = ["DeviceStatus", "list_devices"]

KINDS = (*(kind for kind in PROVIDERS if kind != "cpu"), "mps")
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """A kind of device: whether a runtime here can use it, a description, and what to do."""

    kind: str
    is_available: bool
    detail: str
    hint: str | None = None


def list_devices(in_use: str, offered: Collection[str], torch: TorchBuild | None) -> Iterator[DeviceStatus]:
    """Yield the devices to list.

    Args:
        in_use: the kind of device in use; "" for none.
        offered: the providers that this onnxruntime was built with.
        torch: the installed PyTorch; None if it cannot be loaded.
    """
    for kind in KINDS:
        reasons = {} if kind == "mps" else {"onnxruntime": why_not_onnx(kind, offered)}
        if kind in ("mps", "cuda"):
            reasons["PyTorch"] = why_not_torch(Device(kind), torch)
        able = [runtime for runtime, reason in reasons.items() if reason is None]
        because = "; ".join(reason for reason in reasons.values() if reason is not None)
        if kind == "cuda" and "PyTorch" not in able and not _has_nvidia_driver():
            detail = f"no NVIDIA driver is installed{because and f'; {because}'}"
            yield DeviceStatus(kind, is_available=False, detail=detail)
        elif able and kind == in_use:
            yield DeviceStatus(kind, is_available=True, detail="in use")
        elif able:
            detail = f"available for {' and '.join(able)}, but not in use"
            yield DeviceStatus(kind, is_available=True, detail=detail, hint=f"--device {kind}")
        elif kind == "cuda" or _is_usual(kind):
            yield DeviceStatus(kind, is_available=False, detail=because, hint=HOW_TO_GET[kind])


def _has_nvidia_driver() -> bool:
    return shutil.which("nvidia-smi") is not None or NVIDIA_DRIVER.exists()


def _is_usual(kind: str) -> bool:
    """Whether machines of this kind have such a device."""
    if kind in ("mps", "coreml"):
        return (platform.system(), platform.machine()) == ("Darwin", "arm64")
    return kind == "directml" and platform.system() == "Windows"
