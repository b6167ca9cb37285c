"""The PyTorch backend: the same numbers as onnxruntime, by other means."""

from __future__ import annotations

import importlib
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import sounds

torch = pytest.importorskip("torch")

from dymn_cli.audio.decode import open_audio  # noqa: E402
from dymn_cli.audio.resample import response, to_mono_32k  # noqa: E402
from dymn_cli.errors import BackendUnavailableError, ModelError  # noqa: E402
from dymn_cli.frontend.logmel import LogMel  # noqa: E402
from dymn_cli.frontend.melbank import FrontEndConfig  # noqa: E402
from dymn_cli.model.config import ModelConfig  # noqa: E402
from dymn_cli.runtime.base import DeviceFrontEnd  # noqa: E402
from dymn_cli.runtime.onnx import OnnxBackend  # noqa: E402
from dymn_cli.runtime.torch import FULL_STAGES, TorchBackend, TorchGpuBackend  # noqa: E402
from dymn_cli.store.weights import Weights  # noqa: E402
from dymn_cli.tagging.aggregate import sigmoid  # noqa: E402


@pytest.fixture(scope="module")
def torch_backend(shipped: Weights) -> TorchBackend:
    return TorchBackend(shipped)


def test_both_backends_give_the_same_numbers(
    torch_backend: TorchBackend, onnx_backend: OnnxBackend, mels: np.ndarray
) -> None:
    for n_frames in (1000, 437):
        part = np.ascontiguousarray(mels[..., :n_frames])
        answers = torch_backend.run(part, frames=True), onnx_backend.run(part, frames=True)
        assert answers[0].frame_logits.shape == (3, -(-n_frames // 32), 527)
        for got, want in zip(*answers, strict=True):
            assert got.dtype == want.dtype == np.float32
            np.testing.assert_allclose(got, want, atol=1e-4)


def test_a_window_does_not_depend_on_its_batch(torch_backend: TorchBackend, mels: np.ndarray) -> None:
    together = torch_backend.run(mels[..., :200])
    for n in range(3):
        alone = torch_backend.run(mels[n : n + 1, ..., :200])
        assert np.array_equal(alone.logits[0], together.logits[n])
        assert np.array_equal(alone.embedding[0], together.embedding[n])


def test_threads_share_a_backend(torch_backend: TorchBackend, mels: np.ndarray) -> None:
    batches = [mels[n % 3 : n % 3 + 1, ..., :100] for n in range(8)]
    expected = [torch_backend.run(batch).logits for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        got = [answer.logits for answer in pool.map(torch_backend.run, batches)]
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_the_answer_says_who_computed_it(torch_backend: TorchBackend, shipped: Weights) -> None:
    info = torch_backend.info
    assert (info.name, info.sha256) == ("dymn04_kd", shipped.sha256)
    assert (info.backend, info.provider) == ("torch", "cpu")
    assert torch_backend.on_cpu


@pytest.mark.parametrize("device", ["cuda:77", "mps", "openvino"])
def test_a_device_that_is_not_there_is_refused(device: str, shipped: Weights) -> None:
    with pytest.raises(BackendUnavailableError, match=f"no device '{device}'") as caught:
        TorchBackend(shipped, device=device)
    assert "\n" not in caught.value.message
    assert "device cpu works everywhere" in (caught.value.hint or "")


def test_weights_of_another_architecture_are_refused(shipped: Weights) -> None:
    header = replace(shipped.header, config=ModelConfig(width=1.0))
    with pytest.raises(ModelError, match="do not fit"):
        TorchBackend(replace(shipped, header=header))


def test_an_input_of_another_size_is_a_model_error(torch_backend: TorchBackend) -> None:
    with pytest.raises(ModelError, match="cannot run the model") as caught:
        torch_backend.run(np.zeros((1, 2, 128, 100), np.float32))
    assert "\n" not in caught.value.message


def test_without_pytorch_the_module_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "dymn_cli.runtime.torch")
    with pytest.raises(BackendUnavailableError, match="PyTorch cannot be loaded") as caught:
        importlib.import_module("dymn_cli.runtime.torch")
    assert "pip install 'dymn[torch]'" in (caught.value.hint or "")
    assert "the backend onnx" in (caught.value.hint or "")


# ---------------------------------------------------------------------- the whole way on a device


@pytest.fixture(scope="module")
def gpu_backend(shipped: Weights) -> TorchGpuBackend:
    """What runs on a GPU, on this machine's CPU."""
    return TorchGpuBackend(shipped, device="cpu")


def test_half_precision_answers_alike(
    gpu_backend: TorchGpuBackend, onnx_backend: OnnxBackend, mels: np.ndarray
) -> None:
    got, want = (backend.run(mels[..., :300], frames=True) for backend in (gpu_backend, onnx_backend))
    assert got.logits.dtype == got.embedding.dtype == np.float32
    assert (got.logits.shape, got.embedding.shape) == ((3, 527), (3, 384))
    assert np.abs(sigmoid(got.logits) - sigmoid(want.logits)).max() < 2e-3
    assert np.abs(sigmoid(got.frame_logits) - sigmoid(want.frame_logits)).max() < 5e-3
    assert 0 < np.abs(got.embedding - want.embedding).max() < 0.05


def test_half_precision_is_for_the_later_stages_of_a_whole_batch(
    gpu_backend: TorchGpuBackend, mels: np.ndarray
) -> None:
    seen: list[tuple[bool, int]] = []

    def note(_module: object, _given: object, out: torch.Tensor) -> None:
        seen.append((torch.is_autocast_enabled("cpu"), len(out)))

    hooks = [stage.register_forward_hook(note) for stage in gpu_backend._model.stages]
    gpu_backend.run(mels[..., :100])
    for hook in hooks:
        hook.remove()
    assert seen == [(False, 3)] * FULL_STAGES + [(True, 3)] * (17 - FULL_STAGES)


def test_the_log_mel_is_computed_there_and_taken_from_there(gpu_backend: TorchGpuBackend) -> None:
    samples = sounds.noise((2, 16_000), seed=1)
    for config in (FrontEndConfig(), FrontEndConfig(n_hop=800, n_mels=64)):
        mels = gpu_backend.log_mel(config, samples)
        assert isinstance(mels, torch.Tensor)
        np.testing.assert_allclose(mels.numpy(), LogMel(config)(samples), atol=1e-4)
    given = gpu_backend.run(gpu_backend.log_mel(FrontEndConfig(), samples))
    computed = gpu_backend.run(LogMel()(samples))
    assert np.abs(sigmoid(given.logits) - sigmoid(computed.logits)).max() < 1e-3


def test_it_resamples_as_soxr_does(gpu_backend: TorchGpuBackend) -> None:
    samples = sounds.noise(20_000, seed=2)
    found = response(48_000)
    assert found is not None
    with open_audio((samples, 48_000)) as reader:
        want = np.concatenate(list(to_mono_32k(reader)))
    got = np.concatenate(list(gpu_backend.resample([samples], found.matrix, found.period)))
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_who_computed_it_and_how_is_said(gpu_backend: TorchGpuBackend, torch_backend: TorchBackend) -> None:
    assert (gpu_backend.info.backend, gpu_backend.info.provider) == ("torch", "cpu float16")
    assert not gpu_backend.on_cpu
    assert isinstance(gpu_backend, DeviceFrontEnd)
    assert not isinstance(torch_backend, DeviceFrontEnd)


def test_a_device_that_fails_is_a_model_error(
    gpu_backend: TorchGpuBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr(torch.Tensor, "unfold", fail)
    for work in (
        lambda: gpu_backend.log_mel(FrontEndConfig(), np.zeros((1, 16_000), np.float32)),
        lambda: list(gpu_backend.resample([np.zeros(9000, np.float32)], *response(48_000))),
    ):
        with pytest.raises(ModelError, match=r"cannot run the model: CUDA out of memory\.$"):
            work()
