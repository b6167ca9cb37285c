"""The devices that `--device` takes: how they are spelled, who can run on them, and why somebody cannot.

    cpu              onnxruntime, or PyTorch
    cuda[:N]         NVIDIA: PyTorch (also AMD, with a ROCm build), or onnxruntime's CUDA provider
    mps              Apple's GPUs: PyTorch
    coreml           Apple's GPUs and Neural Engine
    directml[:N]     GPUs on Windows
    openvino[:UNIT]  Intel; UNIT is CPU (the default), GPU, GPU.1, NPU, ...
    tensorrt[:N]     NVIDIA, compiled for the GPU, which takes minutes at the start
    migraphx[:N]     AMD

From coreml on, each is a provider of onnxruntime, and needs a build of onnxruntime that has it. "auto" is the
CPU. This module imports neither runtime, so that what is said of them can be said without loading them.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from dymn_cli.errors import UsageError

__all__ = [
    "HOW_TO_GET",
    "PROVIDERS",
    "SPELLINGS",
    "Device",
    "TorchFacts",
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
"""The device's name here and in onnxruntime."""

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
"""What brings a kind of device."""


@dataclass(frozen=True, slots=True)
class Device:
    """Where to run: a kind of device, and which of its kind ("" for the first)."""

    kind: str
    which: str = ""

    def __str__(self) -> str:
        """As `--device` takes it."""
        return f"{self.kind}:{self.which}" if self.which else self.kind

    @property
    def provider_options(self) -> dict[str, str]:
        """What onnxruntime's provider is told; results must be those of the CPU within 2e-3 in score."""
        options: dict[str, str] = {}
        if self.kind == "cuda":
            options["use_tf32"] = "0"  # its ten bits are as coarse as half precision, in every layer
        if self.kind == "openvino":
            options["device_type"] = self.which or "CPU"
            if self.which.startswith("GPU"):
                options["precision"] = "FP32"  # it is half by default
        elif self.which:
            options["device_id"] = self.which
        return options


def parse_device(text: str) -> Device:
    """What `--device` says; "auto" is the CPU.

    Raises:
        UsageError: no device is spelled so.
    """
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
    """What to do where a kind of device is not there."""
    return f"{HOW_TO_GET[kind]}; --device cpu works everywhere"


def why_not_onnx(kind: str, offered: Collection[str]) -> str | None:
    """Why onnxruntime cannot run on a kind of device, or None where it can.

    Args:
        kind: of the device.
        offered: the providers that this onnxruntime was built with.
    """
    if kind not in PROVIDERS:
        return f"{kind} is for PyTorch alone"
    if PROVIDERS[kind] not in offered:
        return f"this onnxruntime was built without {PROVIDERS[kind]}"
    return None


@dataclass(frozen=True, slots=True)
class TorchFacts:
    """What a PyTorch says of itself.

    Args:
        version: its own.
        built_for: "CUDA 12.8" or "ROCm 6.2"; None for a build without GPUs.
        n_cuda: such devices that it finds.
        mps: whether it finds an Apple GPU.
    """

    version: str
    built_for: str | None
    n_cuda: int
    mps: bool


def why_not_torch(device: Device, facts: TorchFacts | None) -> str | None:
    """Why PyTorch cannot run on a device, or None where it can.

    Args:
        device: where.
        facts: of the PyTorch that is installed; None where none can be loaded.
    """
    if facts is None:
        return "PyTorch is not there"
    if device.kind == "cuda":
        if facts.built_for is None:
            return f"PyTorch {facts.version} is a build without CUDA"
        if not facts.n_cuda:
            return f"PyTorch {facts.version} for {facts.built_for} finds no GPU that it can use"
        if int(device.which or 0) >= facts.n_cuda:
            return f"PyTorch finds {facts.n_cuda} GPU{'s'[: facts.n_cuda > 1]}, counted from 0"
        return None
    if device.kind == "mps":
        return None if facts.mps else f"PyTorch {facts.version} finds no Apple GPU"
    return None if device.kind == "cpu" else f"{device.kind} is for onnxruntime alone"
