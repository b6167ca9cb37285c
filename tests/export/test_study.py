"""The variants of the paper's study as graphs: they compute what the PyTorch modules compute."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
ort = pytest.importorskip("onnxruntime")

from dymn_cli.export.graph import Form, build_graph  # noqa: E402
from dymn_cli.model.build import restore  # noqa: E402
from dymn_cli.model.config import ModelConfig  # noqa: E402
from dymn_cli.model.study import variants  # noqa: E402
from dymn_cli.runtime.blocked import lay_out  # noqa: E402
from dymn_cli.runtime.fold import fold  # noqa: E402
from dymn_cli.runtime.onnx import block_size  # noqa: E402
from dymn_cli.store.weights import Weights  # noqa: E402

LANES = block_size()
SMALL = {"width": 0.1, "n_classes": 7}
STUDY = {one.name: dataclasses.replace(one.config, **SMALL) for one in variants() if one.table != "II"}
NEW = {one.name for one in variants() if one.table in ("VIII", "XII")}
VARIANTS = {
    **STUDY,
    "dymn10-no-shared-context, all Dy-ReLUs": dataclasses.replace(
        STUDY["dymn10-no-shared-context"], dy_relu=("expand", "depthwise", "project")
    ),
}
# What the ablations switch off or resize, other tests of graphs do as well.
TIERED = [
    name if name.partition(",")[0] in NEW else pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS
]


@pytest.mark.parametrize("variant", TIERED)
def test_graphs_of_the_study_agree_with_pytorch(
    variant: str, lively: Callable[[ModelConfig], Weights], mels: np.ndarray
) -> None:
    weights = lively(VARIANTS[variant])
    config = weights.header.config
    module = restore(weights.tensors)
    with torch.inference_mode():
        expected = [part.numpy() for part in module.double()(torch.from_numpy(mels).double())]
    assert np.ptp(expected[0], axis=0).max() > 0.01 * np.abs(expected[0]).max(), "the clips must differ"
    forms: list[Form] = ["any", "one"]
    if LANES and config.is_dynamic:
        forms.append("one-blocked-16" if LANES == 16 else "one-blocked-8")
    for form in forms:
        model = build_graph(config, form)
        values = fold(config, weights.tensors)
        if form.startswith("one-blocked"):
            values = lay_out(config, values, LANES)
        got = _answers(model, values, mels if form == "any" else mels[:1])
        for one, other in zip(got, expected, strict=True):
            assert np.abs(one - other[: len(one)]).max() <= 1e-4 * np.abs(other).max()


def _answers(model: onnx.ModelProto, values: dict[str, np.ndarray], mels: np.ndarray) -> list[np.ndarray]:
    """What onnxruntime gives, with the weights in the model and not one of them left over."""
    wanted = {tensor.name for tensor in model.graph.initializer} | {one.name for one in model.graph.input}
    assert set(values) <= wanted
    constants = [tensor for tensor in model.graph.initializer if tensor.name not in values]
    del model.graph.initializer[:]
    model.graph.initializer.extend(
        [*constants, *(onnx.numpy_helper.from_array(value, name) for name, value in values.items())]
    )
    del model.graph.input[1:]
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(["logits", "embedding"], {"mel": mels})
    return found
