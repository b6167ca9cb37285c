"""Weights in fewer bits: what is stored, how far it is from what was, and how small it gets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")

from onnx import numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from dymn_cli.export.onnx_file import ExportOptions, exportable, self_contained  # noqa: E402
from dymn_cli.export.precision import FEW_VALUES, LEVELS, SMALL_LAYERS, Precision, store_weights  # noqa: E402
from dymn_cli.model.config import ModelConfig  # noqa: E402
from dymn_cli.runtime.fold import fold  # noqa: E402
from dymn_cli.store.weights import Weights  # noqa: E402

DYMN = ModelConfig(width=0.2, n_classes=11)


@pytest.fixture(scope="module")
def dymn(lively: Callable[[ModelConfig], Weights]) -> Weights:
    return lively(DYMN)


def initialisers(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def decoded(model: onnx.ModelProto, names: list[str]) -> dict[str, np.ndarray]:
    """Weights as the network sees them: what is made of constants only is run, and nothing else."""
    known = {tensor.name for tensor in model.graph.initializer}
    makers = []
    for node in model.graph.node:
        if known.issuperset(node.input):
            makers.append(node)
            known.update(node.output)
    outputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names]
    graph = onnx.helper.make_graph(makers, "makers", [], outputs, list(model.graph.initializer))
    made = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return dict(zip(names, ReferenceEvaluator(made).run(None, {}), strict=True))


def weight_names(weights: Weights) -> list[str]:
    return [name for name in fold(weights.header.config, weights.tensors) if name.endswith(".weight")]


def test_half_precision_holds_every_weight_to_its_eleven_bits(dymn: Weights) -> None:
    model = self_contained(dymn, ExportOptions(precision="float16"))
    onnx.checker.check_model(model, full_check=True)
    before, stored = fold(DYMN, dymn.tensors), initialisers(model)
    for name, values in decoded(model, weight_names(dymn)).items():
        assert stored[f"{name}.half"].dtype == np.float16
        np.testing.assert_allclose(values, before[name], rtol=2.0**-11, atol=2.0**-24)


def test_whole_numbers_hold_every_weight_to_half_a_step_of_its_channel(dymn: Weights) -> None:
    model = self_contained(dymn, ExportOptions(precision="int8"))
    onnx.checker.check_model(model, full_check=True)
    before, stored = fold(DYMN, dymn.tensors), initialisers(model)
    whole = [name for name in weight_names(dymn) if f"{name}.levels" in stored]
    assert sum(before[name].size for name in whole) > 0.4 * sum(
        before[name].size for name in weight_names(dymn)
    )
    values = decoded(model, whole)
    for name in whole:
        levels, scale = stored[f"{name}.levels"], stored[f"{name}.scale"]
        assert (levels.dtype, scale.shape) == (np.int8, (len(levels), 1))
        assert np.abs(levels).max(axis=1).min() == LEVELS  # every channel uses all of its range
        error = np.abs(values[name] - before[name]).reshape(levels.shape)
        assert (error <= 0.5001 * scale).all()


def test_each_kernel_of_a_dynamic_convolution_has_its_own_scales(dymn: Weights) -> None:
    stored = initialisers(self_contained(dymn, ExportOptions(precision="int8")))
    block = DYMN.blocks[-1]
    scales = stored[f"layers.{block.index}.project.weight.scale"]
    assert len(scales) == DYMN.kernels * block.out_channels
    assert len(stored["head.2.weight.scale"]) == DYMN.n_classes


def test_channels_of_few_values_are_halved_and_biases_stay(dymn: Weights) -> None:
    stored = initialisers(self_contained(dymn, ExportOptions(precision="int8")))
    depthwise = [name for name in stored if ".depthwise.weight" in name]
    assert depthwise and all(name.endswith(".half") for name in depthwise)
    assert "stem.weight.half" in stored
    assert all(stored[name].shape[1] >= FEW_VALUES for name in stored if name.endswith(".levels"))
    before = fold(DYMN, dymn.tensors)
    for name, values in before.items():
        if not name.endswith(".weight"):
            np.testing.assert_array_equal(stored[name], values)


def test_the_smallest_layers_are_halved_too(lively: Callable[[ModelConfig], Weights]) -> None:
    config = ModelConfig("mn", 0.4, n_classes=11)
    weights = lively(config)
    stored = initialisers(self_contained(weights, ExportOptions(precision="int8")))
    sizes = {name: values.size for name, values in fold(config, weights.tensors).items()}
    whole = {name.removesuffix(".levels") for name in stored if name.endswith(".levels")}
    half = {name.removesuffix(".half") for name in stored if name.endswith(".half")}
    assert max(sizes[name] for name in half if "depthwise" not in name) <= min(sizes[name] for name in whole)
    small = sum(sizes[name] for name in half if ".expand" in name or ".project" in name or ".excite" in name)
    assert 0.02 < small / sum(sizes[name] for name in half | whole) <= SMALL_LAYERS


def test_a_channel_of_zeros_stays_one(lively: Callable[[ModelConfig], Weights]) -> None:
    config = ModelConfig("mn", 0.2, n_classes=4)
    weights = lively(config)
    weights.tensors["classifier.5.weight"][2] = 0.0
    model = self_contained(weights, ExportOptions(precision="int8"))
    values = decoded(model, ["head.2.weight"])["head.2.weight"]
    assert np.isfinite(values).all()
    assert not values[2].any() and values[1].any()


@pytest.mark.parametrize(("precision", "most"), [("float16", 0.53), ("int8", 0.35)])
def test_the_shipped_model_gets_smaller(precision: Precision, most: float) -> None:
    shipped = exportable("dymn04_kd")
    whole = self_contained(shipped).ByteSize()
    assert self_contained(shipped, ExportOptions(precision=precision)).ByteSize() < most * whole


def test_the_front_end_stays_in_float32(dymn: Weights) -> None:
    plain, small = (
        initialisers(self_contained(dymn, ExportOptions(precision=precision, with_frontend=True)))
        for precision in ("float32", "int8")
    )
    front = [name for name in plain if name.startswith("front_end.")]
    assert any(plain[name].dtype == np.float32 and plain[name].size > 1000 for name in front)
    for name in front:
        np.testing.assert_array_equal(small[name], plain[name])


def test_float32_is_the_model_itself(dymn: Weights) -> None:
    model = self_contained(dymn)
    assert store_weights(model, DYMN, "float32") is model
    before = model.SerializeToString(deterministic=True)
    store_weights(model, DYMN, "int8")
    assert model.SerializeToString(deterministic=True) == before
