"""Who runs where: every combination of backend and device has an answer or a reason."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import onnxruntime as ort
import pytest
from checkpoints import state_dict

from dymn_cli.errors import BackendUnavailableError, ModelError, UsageError, WeightsMissingError
from dymn_cli.model.config import ModelConfig
from dymn_cli.runtime import onnx as onnx_module
from dymn_cli.runtime.base import Backend
from dymn_cli.runtime.devices import TorchBuild
from dymn_cli.runtime.select import open_backend
from dymn_cli.store.weights import Weights, save_weights

WINDOW = 320_000
PYTORCH = "dymn_cli.runtime.torch"


class Opened(Exception):  # noqa: N818 - no error: it carries what would have been opened
    """Stands in for a loaded model."""


@pytest.fixture
def would_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say who would run the model and where, instead of loading it."""

    def announce(name: str) -> object:
        def refuse(_weights: Weights, **options: object) -> Backend:
            raise Opened((name, options["device"]))

        return refuse

    monkeypatch.setattr(onnx_module, "OnnxBackend", announce("onnx"))
    pytorch = ModuleType(PYTORCH)  # also where there is none
    pytorch.TorchBackend = announce("torch")
    pytorch.TorchGpuBackend = announce("all in torch")
    monkeypatch.setitem(sys.modules, PYTORCH, pytorch)


def torch_is(monkeypatch: pytest.MonkeyPatch, built_for: str | None, n_cuda: int = 0) -> None:
    """Pretend what PyTorch finds."""
    facts = TorchBuild("9.9", built_for, n_cuda, mps=False)
    monkeypatch.setattr(sys.modules[PYTORCH], "torch_build", lambda: facts, raising=False)


def onnxruntime_has(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Pretend what onnxruntime was built with."""
    offered = [*(f"{name}ExecutionProvider" for name in names), "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: offered)


@pytest.mark.parametrize(
    ("backend", "device", "expected"),
    [
        ("auto", "auto", ("onnx", "cpu")),
        ("auto", "cpu", ("onnx", "cpu")),
        ("auto", "mps", ("torch", "mps")),
        ("auto", "coreml", ("onnx", "coreml")),
        ("auto", "directml:1", ("onnx", "directml:1")),
        ("auto", "openvino:gpu", ("onnx", "openvino:GPU")),
        ("onnx", "auto", ("onnx", "cpu")),
        ("onnx", "cuda", ("onnx", "cuda")),
        ("torch", "auto", ("torch", "cpu")),
        ("torch", "cuda:1", ("all in torch", "cuda:1")),
    ],
)
def test_who_runs_where(
    backend: str,
    device: str,
    expected: tuple[str, str],
    would_open: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    onnxruntime_has(monkeypatch)
    torch_is(monkeypatch, None)
    with pytest.raises(Opened) as caught:
        open_backend("dymn04_kd", backend=backend, device=device, n_samples=WINDOW)
    assert caught.value.args[0] == expected


@pytest.mark.parametrize(
    ("built_for", "n_cuda", "providers", "expected"),
    [
        ("CUDA 12.8", 2, ["CUDA"], ("all in torch", "cuda:1")),  # it does the log-mel there, too
        ("ROCm 6.2", 2, [], ("all in torch", "cuda:1")),
        ("CUDA 12.8", 1, ["CUDA"], ("onnx", "cuda:1")),
        ("CUDA 12.8", 0, ["CUDA"], ("onnx", "cuda:1")),
        (None, 0, ["CUDA"], ("onnx", "cuda:1")),
    ],
)
def test_on_a_gpu_it_is_whoever_has_it_and_pytorch_first(
    built_for: str | None,
    n_cuda: int,
    providers: list[str],
    expected: tuple[str, str],
    would_open: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch_is(monkeypatch, built_for, n_cuda)
    onnxruntime_has(monkeypatch, *providers)
    with pytest.raises(Opened) as caught:
        open_backend("dymn04_kd", device="cuda:1", n_samples=WINDOW)
    assert caught.value.args[0] == expected


@pytest.mark.parametrize(
    ("built_for", "n_cuda", "reason"),
    [
        (None, 0, "PyTorch 9.9 is a build without CUDA"),
        ("CUDA 12.8", 0, "PyTorch 9.9 for CUDA 12.8 finds no GPU"),
        ("CUDA 12.8", 1, "PyTorch finds 1 GPU, counted from 0"),
    ],
)
def test_a_gpu_that_nobody_has_is_refused_with_both_reasons(
    built_for: str | None, n_cuda: int, reason: str, would_open: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch_is(monkeypatch, built_for, n_cuda)
    onnxruntime_has(monkeypatch)
    with pytest.raises(BackendUnavailableError, match="no runtime here finds the device 'cuda:1'") as caught:
        open_backend("dymn04_kd", device="cuda:1", n_samples=WINDOW)
    assert reason in caught.value.message
    assert "without CUDAExecutionProvider" in caught.value.message
    assert "onnxruntime-gpu" in (caught.value.hint or "")


def test_without_pytorch_a_gpu_is_onnxruntimes(would_open: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, PYTORCH, raising=False)
    onnxruntime_has(monkeypatch, "CUDA")
    with pytest.raises(Opened) as caught:
        open_backend("dymn04_kd", device="cuda", n_samples=WINDOW)
    assert caught.value.args[0] == ("onnx", "cuda")
    onnxruntime_has(monkeypatch)
    with pytest.raises(BackendUnavailableError, match="PyTorch is not available, and this onnxruntime"):
        open_backend("dymn04_kd", device="cuda", n_samples=WINDOW)


def test_an_architecture_without_a_graph_goes_to_pytorch(
    would_open: None, shipped: Weights, tmp_path: Path
) -> None:
    header = replace(shipped.header, config=replace(shipped.header.config, kernels=5))
    path = tmp_path / "five-kernels.safetensors"
    save_weights(path, header, shipped.tensors)
    with pytest.raises(Opened) as caught:
        open_backend(str(path), n_samples=WINDOW)
    assert caught.value.args[0] == ("torch", "cpu")


def test_without_a_graph_a_device_of_onnxruntime_is_of_no_use(
    shipped: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime_has(monkeypatch, "CoreML")
    config = ModelConfig(family="mn", width=0.16)
    path = tmp_path / "odd.safetensors"
    save_weights(path, replace(shipped.header, config=config), state_dict(config))
    with pytest.raises(BackendUnavailableError, match="dymn ships no onnxruntime graph"):
        open_backend(str(path), device="coreml", n_samples=WINDOW)


def test_a_model_by_path_is_the_model_by_name(shipped: Weights, tmp_path: Path) -> None:
    path = tmp_path / "copy.safetensors"
    save_weights(path, shipped.header, shipped.tensors)
    backend = open_backend(str(path), n_samples=WINDOW)
    assert (backend.info.name, backend.info.backend) == ("dymn04_kd", "onnx")


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"backend": "tensorflow"}, "no backend 'tensorflow'", "auto, onnx or torch"),
        ({"backend": ""}, "no backend ''", "auto, onnx or torch"),
        ({"device": "gpu"}, "no device 'gpu'", "cuda"),
        ({"device": "cuda:x"}, "no device 'cuda:x'", "cuda"),
        ({"device": "cpu\n"}, "no device", "cuda"),
        ({"device": "cpu:1"}, "no device 'cpu:1'", "auto, cpu"),
        ({"device": "cuda:"}, "no device 'cuda:'", "cuda"),
        ({"device": "coreml:0"}, "no device 'coreml:0'", "coreml"),
        ({"device": "openvino:FPGA"}, "no device 'openvino:FPGA'", "openvino"),
        ({"device": ""}, "no device ''", "auto"),
    ],
)
def test_unknown_backends_and_devices_are_usage_errors(
    options: dict[str, str], message: str, hint: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        open_backend("dymn04_kd", n_samples=WINDOW, **options)
    assert hint in (caught.value.hint or "")


def test_unknown_models_are_told_apart_from_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        open_backend("dymn99", n_samples=WINDOW)
    with pytest.raises(WeightsMissingError):
        open_backend(str(tmp_path / "gone.safetensors"), n_samples=WINDOW)


def test_pytorch_cannot_run_an_onnx_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not even one")
    with pytest.raises(BackendUnavailableError, match="cannot run an ONNX file"):
        open_backend(str(path), backend="torch", n_samples=WINDOW)
    with pytest.raises(ModelError, match=r"model\.onnx: not an ONNX file: [^\[]*$"):
        open_backend(str(path), n_samples=WINDOW)
    path.write_bytes(b"")  # an ONNX file without anything in it
    with pytest.raises(ModelError, match=r"^onnxruntime cannot load .*model\.onnx: [^\[]*$"):
        open_backend(str(path), n_samples=WINDOW)


def test_asking_for_pytorch_where_there_is_none_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, PYTORCH, raising=False)
    with pytest.raises(BackendUnavailableError) as caught:
        open_backend("dymn04_kd", backend="torch", n_samples=WINDOW)
    assert "pip install 'dymn[torch]'" in (caught.value.hint or "")
    assert caught.value.exit_code == 4
