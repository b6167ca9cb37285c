"""The inference graph of an architecture as ONNX, built node by node from its config.

No exporter traces the PyTorch modules: the graph is written from `ModelConfig.blocks`, so it holds
exactly the nodes that inference needs, with names that say where they belong, and the same config
always gives the same bytes. That it computes what the modules compute is what the parity report and
the tests are for.

The kernel of a dynamic convolution (paper equations 2 and 3) differs from clip to clip, and ONNX has
no such convolution. There are three forms, see the classes: `AnyBatch` for exported files and GPUs,
`OneClip` for one clip a call, and `OneClipBlocked`, the same for processors where onnxruntime keeps
channels in blocks, which is the fastest on a CPU.

Frequency and time are dynamic in all of them. Initialisers are those of `dymn_cli.runtime.fold`; they
are declared as external data without content, to be given when a session is created, or embedded by
`dymn_cli.export.onnx_file`.

`python -m dymn_cli.export.graph` writes the graphs that the package ships.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import onnx
from onnx import TensorProto, helper

from dymn_cli.export.nodes import Nodes
from dymn_cli.model.config import ARCHITECTURES, POSITIONS, ModelConfig
from dymn_cli.store.registry import weights_folder

if TYPE_CHECKING:
    from dymn_cli.model.config import Block, Position

__all__ = ["IR_VERSION", "OPSET", "Form", "build_graph", "build_probe", "ship"]

Form = Literal["any", "one", "one-blocked-8", "one-blocked-16"]

OPSET = 18
IR_VERSION = 9  # what ONNX of opset 18 was released with, so that older runtimes read it too

Shape = tuple[int, int, int, int]


def build_graph(config: ModelConfig, form: Form = "any") -> onnx.ModelProto:
    """Build the weightless graph of an architecture.

    Args:
        config: the architecture; every knob of it is supported.
        form: "any" batch; "one" clip a call; or that with channels in blocks of 8 or 16, which only runs on
            onnxruntime's CPU provider, on processors that have that block size.

    Returns:
        A model with input `mel` (batch, 1, n_mels, n_frames) float32 and outputs `logits`
        (batch, n_classes) and `embedding` (batch, embedding_size). The two linear layers of the head are
        inputs `head.{1,2}.{weight,bias}`, so that one graph serves any number of classes.
    """
    if form == "any":
        return AnyBatch(config).model()
    if form == "one":
        return OneClip(config).model()
    return OneClipBlocked(config, block_size=8 if form == "one-blocked-8" else 16).model()


def build_probe(block_size: int) -> onnx.ModelProto:
    """The smallest use of the blocked layout: one depthwise convolution, to see whether it works here."""
    graph = OneClipBlocked(ModelConfig(), block_size)
    block = dataclasses.replace(graph.config.blocks[0], expanded=block_size, kernel=3, stride=1)
    bias = graph.constant("bias", np.zeros(block_size, np.float32))
    y = graph.depthwise("x", "probe", block, "kernel", bias)
    shapes: dict[str, list[int | str]] = {"x": [1, block_size, "f", "t"], "kernel": [1, 9 * block_size]}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in shapes.items()]
    output = helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, block_size, "f", "t"])
    return graph.finish("probe", inputs, [output])


def ship(folder: Path) -> None:
    """Write every architecture's graphs, without their input `mel`: `dymn_cli.runtime.onnx` appends it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, config in ARCHITECTURES.items():
        for form in get_args(Form) if config.is_dynamic else ("any",):
            model = build_graph(config, form)
            del model.graph.input[0]
            (folder / f"{name}.{form}.onnx").write_bytes(model.SerializeToString(deterministic=True))
    for size in (8, 16):
        probe = build_probe(size).SerializeToString(deterministic=True)
        (folder / f"probe.one-blocked-{size}.onnx").write_bytes(probe)


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Names of what the context decides, by the convolution it belongs to."""

    attention: dict[Position, str]
    lines: dict[Position, str]


class _Graph(Nodes, ABC):
    """The graph of an architecture: all that does not depend on the form."""

    batch: int | str
    opsets: tuple[onnx.OperatorSetIdProto, ...] = (helper.make_opsetid("", OPSET),)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.weights: list[TensorProto] = []

    def weight(self, name: str, *shape: int) -> str:
        """Declare an initialiser whose values come later; ONNX wants a place for external data."""
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "given-by-the-session"), ("length", str(4 * int(np.prod(shape))))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
        self.weights.append(tensor)
        return name

    def mean(self, x: str, output: str, *axes: int, keep: bool = False) -> str:
        return self.node("ReduceMean", [x, self.ints(*axes)], output, keepdims=int(keep))

    def activation(self, x: str, kind: str) -> str:
        op = {"relu": "Relu", "hardswish": "HardSwish"}[kind]
        return self.node(op, [x], f"{x}.{kind}")

    def convolution(self, x: str, name: str, shape: Shape, *, stride: int = 1, groups: int = 1) -> str:
        weight, bias = self.weight(f"{name}.weight", *shape), self.weight(f"{name}.bias", shape[0])
        return self.node("Conv", [x, weight, bias], name, **_geometry(shape[2], stride, groups))

    def linear(self, x: str, name: str, n_out: int, n_in: int) -> str:
        """A 1×1 convolution of a sequence: (batch, n_in, length) to (batch, n_out, length)."""
        weight, bias = self.weight(f"{name}.weight", n_out, n_in), self.weight(f"{name}.bias", n_out, 1)
        return self.node("Add", [self.node("MatMul", [weight, x], f"{name}.product"), bias], name)

    # ------------------------------------------------------------------ the whole

    def model(self) -> onnx.ModelProto:
        config = self.config
        x = self.convolution("mel", "stem", (config.stem_channels, 1, 3, 3), stride=2)
        x = self.activation(x, "hardswish")
        for block in config.blocks:
            x = self.dynamic_block(x, block) if block.dynamic else self.static_block(x, block)
        x = self.convolution(x, "last", (config.embedding_size, config.blocks[-1].out_channels, 1, 1))
        x = self.activation(x, "hardswish")
        embedding = self.mean(x, "embedding", 2, 3)
        hidden = self.node("Gemm", [embedding, "head.1.weight", "head.1.bias"], "head.1", transB=1)
        hidden = self.activation(hidden, "hardswish")
        self.node("Gemm", [hidden, "head.2.weight", "head.2.bias"], "logits", transB=1)
        inputs: dict[str, list[int | str]] = {
            "mel": [self.batch, 1, "n_mels", "n_frames"],
            "head.1.weight": ["head_channels", config.embedding_size],
            "head.1.bias": ["head_channels"],
            "head.2.weight": ["n_classes", "head_channels"],
            "head.2.bias": ["n_classes"],
        }
        outputs: dict[str, list[int | str]] = {
            "logits": [self.batch, "n_classes"],
            "embedding": [self.batch, config.embedding_size],
        }
        return self.finish(
            f"{config.family}-{config.width:g}",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in outputs.items()],
        )

    def finish(
        self, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        initialisers = [*self.weights, *self.constants.values()]
        graph = helper.make_graph(self.nodes, name, inputs, outputs, initialisers)
        return helper.make_model(
            graph, opset_imports=self.opsets, ir_version=IR_VERSION, producer_name="dymn"
        )

    # ------------------------------------------------------------------ static blocks

    def static_block(self, x: str, block: Block) -> str:
        name, y = f"layers.{block.index}", x
        for position in _positions(block):
            if position == "project" and block.squeeze_excite:
                y = self.squeeze_excite(y, name, block)
            y = self.static_convolution(y, position, block)
            if position != "project":
                y = self.activation(y, block.activation)
        return self.node("Add", [y, x], f"{name}.output") if block.has_residual else y

    def static_convolution(self, x: str, position: Position, block: Block) -> str:
        name, (stride, groups) = f"layers.{block.index}.{position}", _stride_and_groups(block, position)
        return self.convolution(x, name, _shape(block, position), stride=stride, groups=groups)

    def squeeze_excite(self, x: str, name: str, block: Block) -> str:
        y = self.mean(x, f"{name}.squeeze", 2, 3, keep=True)
        y = self.convolution(y, f"{name}.excite_1", (block.squeeze, block.expanded, 1, 1))
        y = self.activation(y, "relu")
        y = self.convolution(y, f"{name}.excite_2", (block.expanded, block.squeeze, 1, 1))
        y = self.node("Sigmoid", [y], f"{name}.excite")
        return self.node("Mul", [x, y], f"{name}.excited")

    # ------------------------------------------------------------------ dynamic blocks

    def dynamic_block(self, x: str, block: Block) -> str:
        name, y = f"layers.{block.index}", x
        coefficients, gates = self.context(x, name, block)
        for position in _positions(block):
            attention = coefficients.attention.get(position)
            if attention is None:
                y = self.static_convolution(y, position, block)
            else:
                y = self.dy_conv(y, position, block, attention)
            lines = coefficients.lines.get(position)
            if lines is not None:
                y = self.dy_relu(y, f"{name}.dy_relu_{position}", _shape(block, position)[0], lines)
            elif position != "project":
                y = self.activation(y, block.activation)
            if position == "depthwise":
                for gate in gates:
                    y = self.node("Mul", [y, gate], f"{gate}.applied")
        return self.node("Add", [y, x], f"{name}.output") if block.has_residual else y

    def context(self, x: str, name: str, block: Block) -> tuple[Coefficients, list[str]]:
        """The CGM (Section III-A): what the context decides, and the gates of Coordinate Attention."""
        if not block.context:
            return Coefficients({}, {}), []
        over_time = self.mean(x, f"{name}.frequency_sequence", 3)  # (batch, C, F)
        over_frequency = self.mean(x, f"{name}.time_sequence", 2)  # (batch, C, T)
        joint = self.node("Concat", [over_time, over_frequency], f"{name}.sequence", axis=2)
        joint = self.linear(joint, f"{name}.context", block.context, block.in_channels)
        joint = self.activation(joint, "hardswish")  # (batch, H, F + T)
        coefficients = self.coefficients(self.mean(joint, f"{name}.h", 2), name, block)
        n_frequency = self.node("Shape", [x], f"{name}.n_frequency", start=2, end=3)
        spans = {"f": (self.ints(0), n_frequency), "t": (n_frequency, self.ints(2**31 - 1))}
        axes = {"both": "ft", "frequency": "f", "time": "t", "none": ""}[self.config.coordinate_attention]
        gates = []
        for axis in axes:
            part = self.node("Slice", [joint, *spans[axis], self.ints(2)], f"{name}.context_{axis}")
            gates.append(self.gate(part, axis, name, block))
        return coefficients, gates

    def gate(self, x: str, axis: str, name: str, block: Block) -> str:
        """sigmoid(a_f) as (batch, C_exp, F', 1), or sigmoid(a_t) as (batch, C_exp, 1, T')."""
        if block.stride > 1:
            pooling = {"kernel_shape": [3], "strides": [block.stride], "pads": [1, 1], "count_include_pad": 1}
            x = self.node("AveragePool", [x], f"{name}.pooled_{axis}", **pooling)
        gate = self.linear(x, f"{name}.attention_{axis}", block.expanded, block.context)
        gate = self.node("Sigmoid", [gate], f"{name}.attention_{axis}.gate")
        return self.node("Unsqueeze", [gate, self.ints(3 if axis == "f" else 2)], f"{name}.gate_{axis}")

    def coefficients(self, h: str, name: str, block: Block) -> Coefficients:
        """One linear layer gives them all: attention over kernels, and the lines of each Dy-ReLU."""
        config = self.config
        mixing = [p for p in _positions(block) if p in config.dy_conv]
        lines = [p for p in _positions(block) if p in config.dy_relu]
        sizes = [config.kernels] * len(mixing)
        sizes += [2 * config.mappings * _shape(block, position)[0] for position in lines]
        if not sizes:
            return Coefficients({}, {})
        weight = self.weight(f"{name}.coefficients.weight", sum(sizes), block.context)
        bias = self.weight(f"{name}.coefficients.bias", sum(sizes))
        every = self.node("Gemm", [h, weight, bias], f"{name}.coefficients", transB=1)
        parts = [f"{name}.{p}.attention_logits" for p in mixing] + [f"{name}.dy_relu_{p}.z" for p in lines]
        parts = self.split(every, parts, sizes, axis=1) if len(parts) > 1 else [every]
        attention = [self.node("Softmax", [p], f"{p}.softmax", axis=1) for p in parts[: len(mixing)]]
        values = [
            self.line_values(z, f"{name}.dy_relu_{p}", _shape(block, p)[0])
            for p, z in zip(lines, parts[len(mixing) :], strict=True)
        ]
        return Coefficients(dict(zip(mixing, attention, strict=True)), dict(zip(lines, values, strict=True)))

    def line_values(self, z: str, name: str, channels: int) -> str:
        """M slopes, then M intercepts, as (batch, 2M · C): θ · λ + start."""
        size = 2 * self.config.mappings * channels
        theta = self.node("Tanh", [z], f"{name}.theta")
        theta = self.node("Mul", [theta, self.weight(f"{name}.scale", size)], f"{name}.scaled")
        return self.node("Add", [theta, self.weight(f"{name}.start", size)], f"{name}.lines")

    def kernels(self, name: str, shape: Shape) -> tuple[str, str]:
        """The K kernels of a Dy-Conv, flat, and its bias."""
        flat = self.weight(f"{name}.weight", self.config.kernels, int(np.prod(shape)))
        return flat, self.weight(f"{name}.bias", shape[0])

    @abstractmethod
    def dy_conv(self, x: str, position: Position, block: Block, attention: str) -> str:
        """Convolve every clip of x with its own mixture of the K kernels."""

    @abstractmethod
    def dy_relu(self, x: str, name: str, channels: int, lines: str) -> str:
        """Take the maximum over M lines, whose slopes and intercepts differ by clip and channel."""


class OneClip(_Graph):
    """One clip a call: mix the kernels first, then run one convolution with the mixture.

    The number of groups of a depthwise convolution is fixed in ONNX, and that fixes the batch at one.
    """

    batch = 1

    def dy_conv(self, x: str, position: Position, block: Block, attention: str) -> str:
        name, shape = f"layers.{block.index}.{position}", _shape(block, position)
        kernels, bias = self.kernels(name, shape)
        mixed = self.node("MatMul", [attention, kernels], f"{name}.mixed")
        if position == "depthwise":
            return self.depthwise(x, name, block, mixed, bias)
        return self.node("Conv", [x, self.reshape(mixed, f"{name}.kernel", *shape), bias], name)

    def depthwise(self, x: str, name: str, block: Block, mixed: str, bias: str) -> str:
        kernel = self.reshape(mixed, f"{name}.kernel", *_shape(block, "depthwise"))
        geometry = _geometry(block.kernel, block.stride, block.expanded)
        return self.node("Conv", [x, kernel, bias], name, **geometry)

    def dy_relu(self, x: str, name: str, channels: int, lines: str) -> str:
        """Dy-ReLU-B (paper equation 5): the maximum over M lines.

        A line with a slope and an intercept for each channel is what a BatchNormalization of zero mean and
        unit variance computes, and it computes it in one pass over the data.
        """
        m = self.config.mappings
        flat = self.reshape(lines, f"{name}.flat", -1)
        names = [f"{name}.{kind}_{n}" for kind in ("slope", "intercept") for n in range(m)]
        values = self.split(flat, names, [channels] * (2 * m), axis=0)
        zeros = self.constant(f"zeros_{channels}", np.zeros(channels, np.float32))
        ones = self.constant(f"ones_{channels}", np.ones(channels, np.float32))
        answers = [
            self.node(
                "BatchNormalization",
                [x, slope, intercept, zeros, ones],
                f"{name}.line_{n}",
                epsilon=0.0,
            )
            for n, (slope, intercept) in enumerate(zip(values[:m], values[m:], strict=True))
        ]
        return self.node("Max", answers, f"{name}.maximum") if m > 1 else answers[0]


class OneClipBlocked(OneClip):
    """One clip a call, with the channels of depthwise convolutions in blocks.

    onnxruntime has fast depthwise kernels for data whose channels lie in blocks of 8 or 16 (by processor),
    but its optimiser brings only convolutions with constant kernels into that layout. Here the graph asks
    for it: the data is reordered before and after, and the mixed kernel is laid out (C / B, k, k, B) as
    those convolutions want it. The operators are onnxruntime's own (domain `com.microsoft.nchwc`), the ones
    it writes into an optimised model; `dymn_cli.runtime.onnx` tries them on a small example before use.
    """

    domain = "com.microsoft.nchwc"
    opsets = (*_Graph.opsets, helper.make_opsetid(domain, 1))

    def __init__(self, config: ModelConfig, block_size: int) -> None:
        super().__init__(config)
        self.block_size = block_size

    def depthwise(self, x: str, name: str, block: Block, mixed: str, bias: str) -> str:
        size, channels, taps = self.block_size, block.expanded, block.kernel**2
        n_blocks = -(-channels // size)
        padding = n_blocks * size - channels
        kernel = self.reshape(mixed, f"{name}.kernel", channels, taps)
        if padding:
            kernel = self.node("Pad", [kernel, self.ints(0, 0, padding, 0)], f"{name}.padded_kernel")
            bias = self.node("Pad", [bias, self.ints(0, padding)], f"{name}.padded_bias")
        kernel = self.reshape(kernel, f"{name}.blocks", n_blocks, size, taps)
        kernel = self.node("Transpose", [kernel], f"{name}.block_last", perm=[0, 2, 1])
        kernel = self.reshape(kernel, f"{name}.blocked", n_blocks * size, 1, block.kernel, block.kernel)
        x = self.node("ReorderInput", [x], f"{name}.input_blocked", domain=self.domain)
        geometry = _geometry(block.kernel, block.stride, n_blocks * size)
        y = self.node("Conv", [x, kernel, bias], f"{name}.output_blocked", domain=self.domain, **geometry)
        return self.node("ReorderOutput", [y], name, domain=self.domain, channels=channels)


class AnyBatch(_Graph):
    """Any batch: 1×1 convolutions are batched matrix products with each clip's mixed kernel.

    Depthwise ones run with all K kernels, and each clip mixes the K answers: the same by linearity.
    """

    batch = "batch"

    def dy_conv(self, x: str, position: Position, block: Block, attention: str) -> str:
        name, shape = f"layers.{block.index}.{position}", _shape(block, position)
        kernels, bias = self.kernels(name, shape)
        if position == "depthwise":
            return self.depthwise(x, name, block, attention, kernels, bias)
        mixed = self.node("MatMul", [attention, kernels], f"{name}.mixed")
        mixed = self.reshape(mixed, f"{name}.kernel", -1, shape[0], shape[1])
        y = self.node("MatMul", [mixed, self.reshape(x, f"{name}.flat", 0, 0, -1)], f"{name}.product")
        y = self.node("Add", [y, self.reshape(bias, f"{name}.column", -1, 1)], f"{name}.biased")
        return self.shaped(y, name, x, shape[0], like=x)

    def depthwise(self, x: str, name: str, block: Block, attention: str, kernels: str, bias: str) -> str:
        k, channels, size = self.config.kernels, block.expanded, block.kernel
        stacked = self.reshape(kernels, f"{name}.by_kernel", k, channels, size * size)
        stacked = self.node("Transpose", [stacked], f"{name}.by_channel", perm=[1, 0, 2])
        stacked = self.reshape(stacked, f"{name}.stacked", channels * k, 1, size, size)
        geometry = _geometry(size, block.stride, channels)
        answers = self.node("Conv", [x, stacked], f"{name}.answers", **geometry)
        flat = self.shaped(answers, f"{name}.flat", x, channels, k, -1)
        row = self.reshape(attention, f"{name}.row", -1, 1, 1, k)
        y = self.node("MatMul", [row, flat], f"{name}.product")  # (batch, C, 1, F'·T')
        y = self.node("Add", [y, self.reshape(bias, f"{name}.column", -1, 1, 1)], f"{name}.biased")
        return self.shaped(y, name, x, channels, like=answers)

    def dy_relu(self, x: str, name: str, channels: int, lines: str) -> str:
        """Dy-ReLU-B (paper equation 5): the maximum over M lines, coefficients by clip and channel."""
        m = self.config.mappings
        column = self.reshape(lines, f"{name}.columns", -1, 2 * m * channels, 1, 1)
        names = [f"{name}.{kind}_{n}" for kind in ("slope", "intercept") for n in range(m)]
        values = self.split(column, names, [channels] * (2 * m), axis=1)
        answers = []
        for n, (slope, intercept) in enumerate(zip(values[:m], values[m:], strict=True)):
            sloped = self.node("Mul", [x, slope], f"{name}.sloped_{n}")
            answers.append(self.node("Add", [sloped, intercept], f"{name}.line_{n}"))
        return self.node("Max", answers, f"{name}.maximum") if m > 1 else answers[0]

    def shaped(self, y: str, output: str, x: str, *sizes: int, like: str = "") -> str:
        """Reshape to (batch of x, *sizes), followed by frequency and time of `like` where it is given."""
        parts = [self.node("Shape", [x], f"{output}.batch", end=1), self.ints(*sizes)]
        if like:
            parts.append(self.node("Shape", [like], f"{output}.size", start=2))
        return self.node("Reshape", [y, self.node("Concat", parts, f"{output}.shape", axis=0)], output)


def _positions(block: Block) -> list[Position]:
    """The convolutions that a block has, in order."""
    return [position for position in POSITIONS if position != "expand" or block.has_expansion]


def _shape(block: Block, position: Position) -> Shape:
    """(out, in / groups, k, k) of one of its convolutions."""
    if position == "expand":
        return block.expanded, block.in_channels, 1, 1
    if position == "depthwise":
        return block.expanded, 1, block.kernel, block.kernel
    return block.out_channels, block.expanded, 1, 1


def _stride_and_groups(block: Block, position: Position) -> tuple[int, int]:
    return (block.stride, block.expanded) if position == "depthwise" else (1, 1)


def _geometry(kernel: int, stride: int, groups: int) -> dict[str, Any]:
    pad = (kernel - 1) // 2
    return {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4, "group": groups}


if __name__ == "__main__":
    ship(weights_folder() / "graphs")
