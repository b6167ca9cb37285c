"""What `dymn doctor` says of GPUs and their like: which are there, who can run on them, and why nobody can.

CUDA is always spoken of, because it is asked for most. Of the others, those that a runtime here was built
for, and those that machines of this kind have.
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
    TorchFacts,
    why_not_onnx,
    why_not_torch,
)

__all__ = ["DeviceFound", "devices_here"]

KINDS = (*(kind for kind in PROVIDERS if kind != "cpu"), "mps")
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True)
class DeviceFound:
    """A kind of device: whether a runtime here can use it, what is to be known of it, and what to do."""

    kind: str
    is_there: bool
    detail: str
    hint: str | None = None


def devices_here(in_use: str, offered: Collection[str], torch: TorchFacts | None) -> Iterator[DeviceFound]:
    """The devices that are worth a line.

    Args:
        in_use: the kind of the device that is used; "" for none.
        offered: the providers that this onnxruntime was built with.
        torch: what PyTorch says of itself; None where none can be loaded.
    """
    for kind in KINDS:
        reasons = {} if kind == "mps" else {"onnxruntime": why_not_onnx(kind, offered)}
        if kind in ("mps", "cuda"):
            reasons["PyTorch"] = why_not_torch(Device(kind), torch)
        able = [runtime for runtime, reason in reasons.items() if reason is None]
        because = "; ".join(reason for reason in reasons.values() if reason is not None)
        if kind == "cuda" and "PyTorch" not in able and not _has_nvidia_driver():
            detail = f"no NVIDIA driver is installed{because and f'; {because}'}"
            yield DeviceFound(kind, is_there=False, detail=detail)
        elif able and kind == in_use:
            yield DeviceFound(kind, is_there=True, detail="in use")
        elif able:
            detail = f"there for {' and '.join(able)}, and not in use: it must be asked for"
            yield DeviceFound(kind, is_there=True, detail=detail, hint=f"--device {kind}")
        elif kind == "cuda" or _is_usual(kind):
            yield DeviceFound(kind, is_there=False, detail=because, hint=HOW_TO_GET[kind])


def _has_nvidia_driver() -> bool:
    return shutil.which("nvidia-smi") is not None or NVIDIA_DRIVER.exists()


def _is_usual(kind: str) -> bool:
    """Whether machines of this kind have such a device."""
    if kind in ("mps", "coreml"):
        return (platform.system(), platform.machine()) == ("Darwin", "arm64")
    return kind == "directml" and platform.system() == "Windows"
