"""The PyTorch backend: the same numbers as onnxruntime, by other means."""

from __future__ import annotations

import importlib
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from dymn_cli.errors import BackendUnavailableError, ModelError
from dymn_cli.model.config import ModelConfig
from dymn_cli.runtime.onnx import OnnxBackend
from dymn_cli.runtime.torch import TorchBackend
from dymn_cli.store.weights import Weights


@pytest.fixture(scope="module")
def torch_backend(shipped: Weights) -> TorchBackend:
    return TorchBackend(shipped)


def test_both_backends_give_the_same_numbers(
    torch_backend: TorchBackend, onnx_backend: OnnxBackend, mels: np.ndarray
) -> None:
    for n_frames in (1000, 437):
        part = np.ascontiguousarray(mels[..., :n_frames])
        for got, want in zip(torch_backend.run(part), onnx_backend.run(part), strict=True):
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


@pytest.mark.parametrize("device", ["cuda:77", "abacus"])
def test_a_device_that_is_not_there_is_refused(device: str, shipped: Weights) -> None:
    with pytest.raises(BackendUnavailableError, match=f"no device '{device}'") as caught:
        TorchBackend(shipped, device=device)
    assert "\n" not in caught.value.message
    assert "--device cpu" in (caught.value.hint or "")


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
    assert "--backend onnx" in (caught.value.hint or "")
