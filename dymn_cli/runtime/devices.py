"""The devices that `--device` takes: their spelling, which runtime supports them, and why one does not.

    cpu              onnxruntime, or PyTorch
    cuda[:N]         NVIDIA: PyTorch (also AMD, with a ROCm build), or onnxruntime's CUDA provider
    mps              Apple's GPUs: PyTorch
    coreml           Apple's GPUs and Neural Engine
    directml[:N]     GPUs on Windows
    openvino[:UNIT]  Intel; UNIT is CPU (the default), GPU, GPU.1, NPU, ...
    tensorrt[:N]     NVIDIA, compiled for the GPU, which takes minutes at the start
    migraphx[:N]     AMD

From coreml on, each is a provider of onnxruntime and needs a build of onnxruntime that has it. "auto" is the
CPU. This module imports neither runtime.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from dymn_cli.errors import UsageError
from dymn_cli.values import counted

__all__ = [
    "HOW_TO_GET",
    "PROVIDERS",
    "SPELLINGS",
    "Device",
    "TorchBuild",
    "how_to_get",
    "parse_device",
    "why_not_onnx",
    "why_not_torch",
]

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
}
"""Kind of device → onnxruntime's name for it."""

SPELLINGS = "auto, cpu, cuda[:N], mps, coreml, directml[:N], openvino[:UNIT], tensorrt[:N], migraphx[:N]"

NUMBERED = ("cuda", "directml", "tensorrt", "migraphx")
UNIT = re.compile(r"(CPU|GPU|NPU)(\.\d+)?")

HOW_TO_GET = {
    "cpu": "pip install onnxruntime",
    "cuda": "install a CUDA build of PyTorch (pytorch.org), or onnxruntime-gpu in the place of onnxruntime",
    "mps": "install PyTorch on a Mac with an Apple chip: pip install 'dymn[torch]'",
    "coreml": "the onnxruntime for macOS has it",
    "directml": "on Windows, install onnxruntime-directml in the place of onnxruntime",
    "openvino": "install onnxruntime-openvino in the place of onnxruntime",
    "tensorrt": "install onnxruntime-gpu in the place of onnxruntime, and TensorRT's libraries",
    "migraphx": "install onnxruntime-migraphx in the place of onnxruntime",
}
"""Kind of device → how to install support for it."""


@dataclass(frozen=True, slots=True)
class Device:
    """A kind of device, and which one of that kind ("" for the first)."""

    kind: str
    which: str = ""

    def __str__(self) -> str:
        """As `--device` takes it."""
        return f"{self.kind}:{self.which}" if self.which else self.kind

    @property
    def provider_options(self) -> dict[str, str]:
        """Options for onnxruntime's provider; scores must be those of the CPU within 2e-3."""
        options: dict[str, str] = {}
        if self.kind == "cuda":
            options["use_tf32"] = "0"  # TF32 has a ten-bit mantissa like half precision, in every layer
        if self.kind == "openvino":
            options["device_type"] = self.which or "CPU"
            if self.which.startswith("GPU"):
                options["precision"] = "FP32"  # the default is half precision
        elif self.which:
            options["device_id"] = self.which
        return options


def parse_device(text: str) -> Device:
    """Parse the value of `--device`; "auto" is the CPU.

    Raises:
        UsageError: it is not a device.
    """
    given: object = text  # types are hints, and callers may have none
    if not isinstance(given, str):
        raise UsageError(f"device must be a name, not {given!r:.60}", hint=f"one of {SPELLINGS}")
    kind, colon, which = text.partition(":")
    known = text in ("auto", "cpu", "mps") or (kind in PROVIDERS and kind != "cpu" and not colon)
    if kind in NUMBERED and colon:
        known = re.fullmatch(r"[0-9]+", which) is not None
    if kind == "openvino" and colon:
        which = which.upper()
        known = UNIT.fullmatch(which) is not None
    if not known:
        raise UsageError(f"no device {text!r}", hint=f"one of {SPELLINGS}")
    return Device("cpu" if kind == "auto" else kind, which)


def how_to_get(kind: str) -> str:
    """What to do if a kind of device is not available."""
    return f"{HOW_TO_GET[kind]}; the device cpu works everywhere"


def why_not_onnx(kind: str, offered: Collection[str]) -> str | None:
    """Why onnxruntime cannot run on a kind of device, or None if it can.

    Args:
        kind: of the device.
        offered: the providers that this onnxruntime was built with.
    """
    if kind not in PROVIDERS:
        return f"only PyTorch supports {kind}"
    if PROVIDERS[kind] not in offered:
        return f"this onnxruntime was built without {PROVIDERS[kind]}"
    return None


@dataclass(frozen=True, slots=True)
class TorchBuild:
    """The installed PyTorch.

    Args:
        version: its version.
        built_for: "CUDA 12.8" or "ROCm 6.2"; None for a build without GPUs.
        n_cuda: number of such GPUs that it finds.
        mps: whether it finds an Apple GPU.
    """

    version: str
    built_for: str | None
    n_cuda: int
    mps: bool


def why_not_torch(device: Device, torch: TorchBuild | None) -> str | None:
    """Why PyTorch cannot run on a device, or None if it can.

    Args:
        device: where to run.
        torch: the installed PyTorch; None if it cannot be loaded.
    """
    if torch is None:
        return "PyTorch is not available"
    if device.kind == "cuda":
        if torch.built_for is None:
            return f"PyTorch {torch.version} is a build without CUDA"
        if not torch.n_cuda:
            return f"PyTorch {torch.version} for {torch.built_for} finds no GPU that it can use"
        if int(device.which or 0) >= torch.n_cuda:
            return f"PyTorch finds {counted(torch.n_cuda, 'GPU')}, counted from 0"
        return None
    if device.kind == "mps":
        return None if torch.mps else f"PyTorch {torch.version} finds no Apple GPU"
    return None if device.kind == "cpu" else f"only onnxruntime supports {device.kind}"
