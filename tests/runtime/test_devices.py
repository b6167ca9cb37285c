"""The spelling of devices, and the reasons why one cannot be had."""

from __future__ import annotations

import onnxruntime as ort
import pytest

from dymn_cli.errors import UsageError
from dymn_cli.runtime.devices import (
    PROVIDERS,
    SPELLINGS,
    Device,
    TorchBuild,
    how_to_get,
    parse_device,
    why_not_onnx,
    why_not_torch,
)


@pytest.mark.parametrize(
    ("text", "kind", "which"),
    [
        ("auto", "cpu", ""),
        ("cpu", "cpu", ""),
        ("cuda", "cuda", ""),
        ("cuda:3", "cuda", "3"),
        ("mps", "mps", ""),
        ("directml:0", "directml", "0"),
        ("openvino:npu", "openvino", "NPU"),
        ("openvino:GPU.1", "openvino", "GPU.1"),
    ],
)
def test_devices_and_which_of_their_kind(text: str, kind: str, which: str) -> None:
    device = parse_device(text)
    assert (device.kind, device.which) == (kind, which)
    assert parse_device(str(device)) == device


@pytest.mark.parametrize(
    "text", ["", "CPU", "cuda:", "cuda:-1", "cuda:1:2", "cuda:\u0661", "mps:0", "auto:1"]
)
def test_what_is_no_device_is_answered_with_those_that_are(text: str) -> None:
    with pytest.raises(UsageError, match="no device") as caught:
        parse_device(text)
    assert SPELLINGS in (caught.value.hint or "")


def test_every_device_is_spelled_out_and_has_a_remedy() -> None:
    for kind in (*PROVIDERS, "mps"):
        assert kind in SPELLINGS
        assert "device cpu works everywhere" in how_to_get(kind)


def test_the_names_of_the_providers_are_onnxruntimes() -> None:
    assert set(PROVIDERS.values()) <= set(ort.get_all_providers())


def test_onnxruntime_can_what_it_was_built_with() -> None:
    offered = ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert why_not_onnx("cuda", offered) is None
    assert why_not_onnx("cpu", offered) is None
    assert why_not_onnx("coreml", offered) == "this onnxruntime was built without CoreMLExecutionProvider"
    assert why_not_onnx("mps", offered) == "only PyTorch supports mps"


@pytest.mark.parametrize(
    ("device", "facts", "reason"),
    [
        (Device("cpu"), TorchBuild("2.9", None, 0, mps=False), None),
        (Device("cuda"), TorchBuild("2.9", "CUDA 12.8", 1, mps=False), None),
        (Device("cuda", "1"), TorchBuild("2.9", "ROCm 6.2", 2, mps=False), None),
        (
            Device("cuda"),
            TorchBuild("2.9+cpu", None, 0, mps=False),
            "PyTorch 2.9+cpu is a build without CUDA",
        ),
        (Device("cuda"), TorchBuild("2.9", "CUDA 12.8", 0, mps=False), "finds no GPU that it can use"),
        (Device("cuda", "2"), TorchBuild("2.9", "CUDA 12.8", 2, mps=False), "finds 2 GPUs, counted from 0"),
        (Device("mps"), TorchBuild("2.9", None, 0, mps=True), None),
        (Device("mps"), TorchBuild("2.9", None, 0, mps=False), "PyTorch 2.9 finds no Apple GPU"),
        (Device("openvino"), TorchBuild("2.9", None, 0, mps=False), "only onnxruntime supports openvino"),
        (Device("cpu"), None, "PyTorch is not available"),
    ],
)
def test_pytorch_can_what_it_finds(device: Device, facts: TorchBuild | None, reason: str | None) -> None:
    found = why_not_torch(device, facts)
    assert found is None if reason is None else reason in (found or "")
