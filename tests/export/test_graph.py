"""Every form of every architecture computes what the PyTorch modules compute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime as ort
import pytest

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")

from onnx.reference import ReferenceEvaluator  # noqa: E402
from onnx.reference.op_run import OpRun  # noqa: E402

from dymn_cli.export.graph import IR_VERSION, OPSET, Form, build_graph, ship  # noqa: E402
from dymn_cli.export.onnx_file import ExportForm, ExportOptions, self_contained  # noqa: E402
from dymn_cli.model.build import restore  # noqa: E402
from dymn_cli.model.config import ARCHITECTURES, BLOCK_MASKS, ModelConfig  # noqa: E402
from dymn_cli.runtime.blocked import lay_out  # noqa: E402
from dymn_cli.runtime.fold import fold  # noqa: E402
from dymn_cli.runtime.onnx import block_size  # noqa: E402
from dymn_cli.store.registry import weights_folder  # noqa: E402
from dymn_cli.store.weights import Weights  # noqa: E402

TOLERANCE = 1e-4
LANES = block_size()
ODD_MASK = (True, False, False, True, True, False, True, False, True, True, False, True, True, False, True)


def dymn(**knobs: object) -> ModelConfig:
    return ModelConfig(**{"width": 0.2, "n_classes": 11, **knobs})


VARIANTS = {
    "dynamic": dymn(),
    "static": dymn(dynamic_blocks=BLOCK_MASKS["none"]),
    "replace-se": dymn(dynamic_blocks=BLOCK_MASKS["replace-se"]),
    "first-5": dymn(dynamic_blocks=BLOCK_MASKS["first-5"]),
    "mid-5": dymn(dynamic_blocks=BLOCK_MASKS["mid-5"]),
    "last-5": dymn(dynamic_blocks=BLOCK_MASKS["last-5"]),
    "odd-mask": dymn(dynamic_blocks=ODD_MASK),
    "no-dy-conv": dymn(dy_conv=()),
    "no-dy-relu": dymn(dy_relu=()),
    "no-attention": dymn(coordinate_attention="none"),
    "attention-only": dymn(dy_conv=(), dy_relu=()),
    "dy-relu-only": dymn(dy_conv=(), coordinate_attention="none"),
    "dy-conv-only": dymn(dy_relu=(), coordinate_attention="none"),
    "all-off": dymn(dy_conv=(), dy_relu=(), coordinate_attention="none"),
    "attention-over-time": dymn(coordinate_attention="time"),
    "attention-over-frequency": dymn(coordinate_attention="frequency"),
    "dy-conv-1": dymn(dy_conv=("expand",)),
    "dy-conv-2": dymn(dy_conv=("depthwise",)),
    "dy-conv-3": dymn(dy_conv=("project",)),
    "dy-relu-1-2": dymn(dy_relu=("expand", "depthwise")),
    "dy-relu-3": dymn(dy_relu=("project",)),
    "k-1": dymn(kernels=1),
    "k-2": dymn(kernels=2),
    "k-6": dymn(kernels=6),
    "m-1": dymn(mappings=1),
    "m-3": dymn(mappings=3),
    "contexts": dymn(context_ratio=8, context_min=16, context_max=64),
    "temperature": dymn(temperature=2.5),
    "frame-head": dymn(frame_head=True),
    "mn-frame-head": ModelConfig("mn", 0.1, n_classes=11, frame_head=True),
    "width-0.1": dymn(width=0.1),
    "width-0.5": dymn(width=0.5),
    "width-1": dymn(width=1.0),
    "mn-0.1": ModelConfig("mn", 0.1, n_classes=11),
    "mn-1": ModelConfig("mn", 1.0, n_classes=11),
    "fmn": ModelConfig("fmn", 0.2, n_classes=11),
}
EVERY_TIME = (
    "static",
    "dynamic",
    "replace-se",
    "odd-mask",
    "fmn",
)  # the rest differ from these in one setting


def pytorch(weights: Weights, mels: np.ndarray) -> list[np.ndarray]:
    """The modules' answer in float64, so that all rounding is that of the graph."""
    module = restore(weights.tensors, weights.header.config)
    with torch.inference_mode():
        features = module.double().forward_features(torch.from_numpy(mels).double())
        return [part.numpy() for part in (*module.forward_head(features), module.forward_frames(features))]


def initialisers(weights: Weights, form: Form) -> dict[str, np.ndarray]:
    folded, size = fold(weights.header.config, weights.tensors), form.removeprefix("one-blocked-")
    return lay_out(weights.header.config, folded, int(size)) if size.isdigit() else folded


def session(weights: Weights, form: Form, mel: tuple[int | str, ...]) -> ort.InferenceSession:
    """A session with weights from memory, as the backend makes them, for an input of a given size."""
    model = build_graph(weights.header.config, form, frames=True)
    del model.graph.input[:]
    declared = onnx.helper.make_tensor_value_info("mel", onnx.TensorProto.FLOAT, mel)
    model.graph.input.append(declared)
    values = initialisers(weights, form)
    heads = [name for name in values if name.startswith(("head.", "frame_head."))]
    model.graph.initializer.extend(onnx.numpy_helper.from_array(values.pop(name), name) for name in heads)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    given = {name: ort.OrtValue.ortvalue_from_numpy(value) for name, value in values.items()}
    options.add_external_initializers(list(given), list(given.values()))
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def assert_close(got: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(got, expected, strict=True):
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= TOLERANCE * np.abs(other).max()


@pytest.mark.parametrize(
    "variant",
    [pytest.param(name, marks=() if name in EVERY_TIME else pytest.mark.slow) for name in VARIANTS],
)
def test_every_form_of_every_variant_agrees_with_pytorch(
    variant: str, lively: Callable[[ModelConfig], Weights], mels: np.ndarray
) -> None:
    weights = lively(VARIANTS[variant])
    expected = pytorch(weights, mels)
    spread = np.ptp(expected[0], axis=0).max()
    assert spread > 0.05 * np.abs(expected[0]).max(), "the clips must differ for this test to mean anything"

    assert_close(session(weights, "any", mels.shape).run(None, {"mel": mels}), expected)
    forms: list[Form] = ["one"]
    if LANES and "depthwise" in weights.header.config.dy_conv and weights.header.config.is_dynamic:
        forms.append("one-blocked-16" if LANES == 16 else "one-blocked-8")
    for form in forms:
        one = session(weights, form, mels[:1].shape)
        rows = [one.run(None, {"mel": mels[n : n + 1]}) for n in range(len(mels))]
        assert_close([np.concatenate(part) for part in zip(*rows, strict=True)], expected)


@pytest.mark.parametrize("form", ["any", "one"])
def test_batch_frequency_and_time_are_dynamic(
    form: Form, lively: Callable[[ModelConfig], Weights], mels: np.ndarray
) -> None:
    weights = lively(dymn(width=0.1))
    batch = "batch" if form == "any" else 1
    one = session(weights, form, (batch, 1, "n_mels", "n_frames"))
    # Even, odd, and so short that the last strides see a single column.
    for n, n_mels, n_frames in ((3, 64, 77), (1, 64, 76), (2, 37, 33), (1, 64, 1), (3, 8, 5)):
        given = np.ascontiguousarray(mels[: n if form == "any" else 1, :, :n_mels, :n_frames])
        expected = pytorch(weights, given)
        scales = [np.abs(part).max() for part in expected]
        for got, want, scale in zip(one.run(None, {"mel": given}), expected, scales, strict=True):
            assert np.abs(got - want).max() <= 1e-3 * scale  # sizes that the statistics are not made for


@pytest.mark.slow
@pytest.mark.parametrize("form", ["any", "one", "one-blocked-8", "one-blocked-16"])
def test_the_graph_means_the_same_to_the_reference_evaluator(
    form: Form, lively: Callable[[ModelConfig], Weights], mels: np.ndarray
) -> None:
    """onnx's own evaluator knows no optimisation and no kernel of onnxruntime; the blocked layout is ours."""
    weights = lively(dymn(width=0.1, dynamic_blocks=BLOCK_MASKS["replace-se"]))
    model = build_graph(weights.header.config, form, frames=True)
    values = initialisers(weights, form)
    constants = [tensor for tensor in model.graph.initializer if tensor.name not in values]
    del model.graph.initializer[:]
    embedded = [onnx.numpy_helper.from_array(value, name) for name, value in values.items()]
    model.graph.initializer.extend([*constants, *embedded])
    del model.graph.input[1:]
    size = int(form.rpartition("-")[2]) if "blocked" in form else 1
    given = mels[:3, :, :24, :17] if form == "any" else mels[:1, :, :24, :17]
    got = ReferenceEvaluator(model, new_ops=blocked_operators(size)).run(None, {"mel": given})
    assert_close(got, pytorch(weights, np.ascontiguousarray(given)))


def blocked_operators(size: int) -> list[type[OpRun]]:
    """What the blocked layout is, in NumPy: (n, C, f, t) lies in memory as (n, C / size, f, t, size)."""

    class ReorderInput(OpRun):
        op_domain = "com.microsoft.nchwc"

        def _run(self, x: np.ndarray) -> tuple[np.ndarray]:
            n, c, f, t = x.shape
            padded = np.pad(x, ((0, 0), (0, -c % size), (0, 0), (0, 0)))
            return (padded.reshape(n, -1, size, f, t).transpose(0, 1, 3, 4, 2),)

    class ReorderOutput(OpRun):
        op_domain = "com.microsoft.nchwc"

        def _run(self, x: np.ndarray, channels: int | None = None) -> tuple[np.ndarray]:
            n, _, f, t, _ = x.shape
            return (x.transpose(0, 1, 4, 2, 3).reshape(n, -1, f, t)[:, :channels],)

    class Conv(OpRun):
        op_domain = "com.microsoft.nchwc"

        def _run(
            self,
            x: np.ndarray,
            kernel: np.ndarray,
            bias: np.ndarray,
            before: np.ndarray | None = None,
            activation: str | None = None,
            group: int | None = None,
            kernel_shape: list[int] | None = None,
            pads: list[int] | None = None,
            strides: list[int] | None = None,
            **_others: object,
        ) -> tuple[np.ndarray]:
            k, pad, stride = kernel_shape[0], pads[0], strides[0]
            if x.ndim == 5:  # in blocks: back to (n, C, f, t)
                n, _, f, t, _ = x.shape
                x = x.transpose(0, 1, 4, 2, 3).reshape(n, -1, f, t)
            else:
                assert group == 1 and x.shape[1] < size
            padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
            patches = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(2, 3))
            patches = patches[:, :, ::stride, ::stride]
            if group == x.shape[1] > 1:
                blocks = kernel.reshape(-1, k, k, size)
                patches = patches.reshape(len(x), -1, size, *patches.shape[2:])
                y = np.einsum("ncbftij,cijb->ncftb", patches, blocks)
            else:
                assert group == 1
                blocks = kernel.reshape(-1, x.shape[1], k, k, size)
                y = np.einsum("ncftij,ocijb->noftb", patches, blocks)
            y = y + bias.reshape(-1, 1, 1, size)
            y = y if before is None else y + before
            assert activation in (None, "Relu")
            return (np.maximum(y, 0) if activation else y,)

    return [ReorderInput, ReorderOutput, Conv] if size > 1 else []


@pytest.mark.parametrize("name", ["dymn04", "dymn10", "mn04", "mn10"])
def test_golden_answers_of_the_published_implementation(name: str, shared: Path, golden: Callable) -> None:
    answers = np.load(shared / "golden" / "backbone.npz")
    one = session(golden(name), "any", ("batch", 1, 128, "n_frames"))
    for sound in ("metro", "noise"):
        got = one.run(None, {"mel": answers[f"{sound}/mel"]})
        assert_close(got[:2], [answers[f"{name}/{sound}/{part}"] for part in ("logits", "embedding")])


@pytest.mark.parametrize("form", ["any", "one"])
def test_plain_forms_are_valid_onnx_of_an_old_version(
    form: ExportForm, lively: Callable[[ModelConfig], Weights]
) -> None:
    model = self_contained(lively(dymn()), ExportOptions(form))
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, [(o.domain, o.version) for o in model.opset_import]) == (9, [("", 18)])
    assert (IR_VERSION, OPSET) == (9, 18)


def test_what_is_appended_for_frames_fits_every_shipped_graph() -> None:
    folder = weights_folder() / "graphs"
    frames = (folder / "frames.onnx").read_bytes()
    paths = [path for path in folder.iterdir() if path.name.count(".") == 2 and "probe" not in path.name]
    assert len(paths) >= len(ARCHITECTURES)
    for path in paths:
        has_them = path.name.startswith("fmn")  # its logits come from them
        graph = onnx.load_from_string(path.read_bytes() + (b"" if has_them else frames)).graph
        assert [output.name for output in graph.output] == ["logits", "embedding", "frame_logits"]
        made = [name for node in graph.node for name in node.output]
        known = [*made, *(value.name for value in (*graph.input, *graph.initializer)), "mel"]
        assert len(set(known)) == len(known), path.name
        assert {name for node in graph.node for name in node.input} <= set(known), path.name


def test_the_shipped_graphs_are_what_the_code_makes_now(tmp_path: Path) -> None:
    """Remedy where it fails: python -m dymn_cli.export.graph."""
    ship(tmp_path)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    shipped = {path.name: path.read_bytes() for path in (weights_folder() / "graphs").iterdir()}
    assert made.keys() == shipped.keys()
    assert [name for name in made if made[name] != shipped[name]] == []
    dynamic = [name for name, config in ARCHITECTURES.items() if config.is_dynamic]
    assert {f"{name}.{form}.onnx" for name in dynamic for form in get_args(Form)} <= made.keys()
    assert {f"{name}.any.onnx" for name in ARCHITECTURES} <= made.keys()
