"""What the doctor says of devices."""

from __future__ import annotations

from pathlib import Path

import pytest

from dymn_cli.doctor import devices
from dymn_cli.doctor.devices import DeviceStatus, list_devices
from dymn_cli.runtime.devices import TorchBuild

CPU = ("CPUExecutionProvider",)
CUDA = ("CUDAExecutionProvider", *CPU)
PLAIN = TorchBuild("2.9", None, 0, mps=False)
FOR_CUDA = TorchBuild("2.9", "CUDA 12.8", 1, mps=False)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> object:
    """`machine("Linux", "x86_64", nvidia=False)`: pretend to be one."""

    def pretend(system: str, processor: str, *, nvidia: bool = False) -> None:
        monkeypatch.setattr(devices.platform, "system", lambda: system)
        monkeypatch.setattr(devices.platform, "machine", lambda: processor)
        monkeypatch.setattr(devices.shutil, "which", lambda name: name if nvidia else None)
        monkeypatch.setattr(devices, "NVIDIA_DRIVER", tmp_path / "version")

    return pretend


def found(in_use: str, offered: tuple[str, ...], torch: TorchBuild | None) -> dict[str, DeviceStatus]:
    return {device.kind: device for device in list_devices(in_use, offered, torch)}


def test_without_a_gpu_there_is_nothing_to_do(machine) -> None:
    machine("Linux", "x86_64")
    devices = found("cpu", CPU, PLAIN)
    assert list(devices) == ["cuda"]
    cuda = devices["cuda"]
    assert not cuda.is_available
    assert cuda.detail.startswith("no NVIDIA driver is installed")
    assert "PyTorch 2.9 is a build without CUDA" in cuda.detail
    assert cuda.hint is None


@pytest.mark.parametrize(
    ("offered", "torch", "reason"),
    [(CPU, PLAIN, "PyTorch 2.9 is a build without CUDA"), (CPU, None, "PyTorch is not available")],
)
def test_a_gpu_that_no_runtime_knows_says_why_and_what_to_install(machine, offered, torch, reason) -> None:
    machine("Linux", "x86_64", nvidia=True)
    cuda = found("cpu", offered, torch)["cuda"]
    assert not cuda.is_available
    assert reason in cuda.detail
    assert "this onnxruntime was built without CUDAExecutionProvider" in cuda.detail
    assert "onnxruntime-gpu" in (cuda.hint or "")


@pytest.mark.parametrize(
    ("offered", "torch", "who"),
    [(CUDA, PLAIN, "onnxruntime"), (CPU, FOR_CUDA, "PyTorch"), (CUDA, FOR_CUDA, "onnxruntime and PyTorch")],
)
def test_a_gpu_that_is_available_must_be_asked_for(machine, offered, torch, who) -> None:
    machine("Linux", "x86_64", nvidia=True)
    cuda = found("cpu", offered, torch)["cuda"]
    assert cuda.is_available
    assert cuda.detail == f"available for {who}, but not in use"
    assert cuda.hint == "--device cuda"
    assert found("cuda", offered, torch)["cuda"] == DeviceStatus("cuda", is_available=True, detail="in use")


def test_onnxruntime_with_cuda_is_of_no_use_without_a_driver(machine) -> None:
    machine("Linux", "x86_64")
    cuda = found("cpu", CUDA, None)["cuda"]
    assert not cuda.is_available
    assert cuda.detail == "no NVIDIA driver is installed; PyTorch is not available"


def test_each_machine_has_its_own(machine) -> None:
    machine("Darwin", "arm64")
    mac = found("cpu", ("CoreMLExecutionProvider", *CPU), PLAIN)
    assert [(kind, device.is_available) for kind, device in mac.items()] == [
        ("cuda", False),
        ("coreml", True),
        ("mps", False),
    ]
    assert mac["mps"].detail == "PyTorch 2.9 finds no Apple GPU"
    machine("Windows", "AMD64")
    windows = found("cpu", CPU, PLAIN)
    assert list(windows) == ["cuda", "directml"]
    assert "onnxruntime-directml" in (windows["directml"].hint or "")
    machine("Linux", "x86_64")
    intel = found("openvino", ("OpenVINOExecutionProvider", *CPU), PLAIN)
    assert list(intel) == ["cuda", "openvino"]
    assert intel["openvino"].detail == "in use"
