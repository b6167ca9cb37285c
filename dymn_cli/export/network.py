"""The network as an ONNX graph: the parts that do not depend on how dynamic convolutions are computed.

Those that do are in `dymn_cli.export.forms`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from dymn_cli.export.nodes import Nodes
from dymn_cli.runtime.fold import ATTENTION_AXES, convolutions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dymn_cli.model.config import Block, ModelConfig, Position
    from dymn_cli.runtime.fold import Shape

__all__ = [
    "FRAME_LOGITS",
    "IR_VERSION",
    "OPSET",
    "Coefficients",
    "Network",
    "add_frame_logits",
    "geometry",
    "stride_and_groups",
]

OPSET = 18
IR_VERSION = 9  # released with opset 18, so that older runtimes read it too
LAST_MAP = "last.hardswish"
SPREAD_EPS, RESPONSE_EPS, LAYER_NORM_EPS = 1e-5, 1e-6, 1e-5  # as in `dymn_cli.model.attention`
FRAME_LOGITS = "frame_logits"


def add_frame_logits(nodes: Nodes, head: str, batch: int | str = "batch") -> onnx.ValueInfoProto:
    """Add the output `frame_logits` to a network: its last map, averaged over frequency, through a head.

    The two linear layers are 1×1 convolutions of the sequence, which need neither a shape nor a transposed
    weight at run time.

    Args:
        nodes: the graph.
        head: the prefix of the names of its weights.
        batch: clips a call, or a name for any number.

    Returns:
        The output (batch, n_steps, n_classes).
    """
    y = _frame_layer(nodes, _pooled(nodes), f"{head}.1", "frames.1")
    y = _frame_layer(nodes, nodes.node("HardSwish", [y], "frames.hidden"), f"{head}.2", "frames.2")
    return _by_step(nodes, y, batch)


def _pooled(nodes: Nodes) -> str:
    """The last map, averaged over frequency: (batch, embedding_size, n_steps)."""
    return nodes.node("ReduceMean", [LAST_MAP, nodes.ints(2)], "frames.pooled", keepdims=0)


def _by_step(nodes: Nodes, y: str, batch: int | str) -> onnx.ValueInfoProto:
    """The output `frame_logits` of (batch, n_classes, n_steps)."""
    nodes.node("Transpose", [y], FRAME_LOGITS, perm=[0, 2, 1])
    shape = [batch, "n_steps", "n_classes"]
    return helper.make_tensor_value_info(FRAME_LOGITS, TensorProto.FLOAT, shape)


def _frame_layer(nodes: Nodes, x: str, weight: str, name: str) -> str:
    kernel = nodes.node("Unsqueeze", [f"{weight}.weight", nodes.ints(2)], f"{name}.kernel")
    return nodes.node("Conv", [x, kernel, f"{weight}.bias"], name, kernel_shape=[1])


@dataclass(frozen=True, slots=True)
class Coefficients:
    """Names of the tensors that the context determines, by the convolution that they belong to."""

    attention: dict[Position, str]
    lines: dict[Position, str]


class Network(Nodes, ABC):
    """The graph of an architecture: the parts that do not depend on the form."""

    batch: int | str
    opsets: tuple[onnx.OperatorSetIdProto, ...] = (helper.make_opsetid("", OPSET),)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.weights: list[TensorProto] = []

    def weight(self, name: str, *shape: int) -> str:
        """Declare an initialiser whose values come later; ONNX requires a location of external data."""
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "given-by-the-session"), ("length", str(4 * int(np.prod(shape))))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
        self.weights.append(tensor)
        return name

    def plain(self, x: str) -> str:
        """The tensor in ONNX's layout; a form may have a layout of its own."""
        return x

    def mean(self, x: str, output: str, *axes: int, keep: bool = False) -> str:
        """Mean over some axes."""
        return self.node("ReduceMean", [self.plain(x), self.ints(*axes)], output, keepdims=int(keep))

    def activation(self, x: str, kind: str) -> str:
        """The nonlinearity of that kind: relu or hardswish."""
        op = {"relu": "Relu", "hardswish": "HardSwish"}[kind]
        return self.node(op, [x], f"{x}.{kind}")

    def convolution(
        self, x: str, name: str, shape: Shape, *, stride: int | tuple[int, int] = 1, groups: int = 1
    ) -> str:
        """A static convolution, with its weight and bias."""
        weight, bias = self.weight(f"{name}.weight", *shape), self.weight(f"{name}.bias", shape[0])
        return self.node("Conv", [self.plain(x), weight, bias], name, **geometry(shape[2], stride, groups))

    def linear(self, x: str, name: str, n_out: int, n_in: int) -> str:
        """A 1×1 convolution of a sequence: (batch, n_in, length) to (batch, n_out, length)."""
        weight, bias = self.weight(f"{name}.weight", n_out, n_in, 1), self.weight(f"{name}.bias", n_out)
        return self.node("Conv", [x, weight, bias], name, kernel_shape=[1])

    # ------------------------------------------------------------------ the whole

    def model(self, *, frames: bool = False) -> onnx.ModelProto:
        """The whole graph, with the output `frame_logits` if `frames` is set."""
        config = self.config
        x = self.activation(self.stem(), "hardswish")
        for block in config.blocks:
            x = self.dynamic_block(x, block) if block.dynamic else self.static_block(x, block)
        x = self.convolution(x, "last", (config.embedding_size, config.blocks[-1].out_channels, 1, 1))
        x = self.activation(x, "hardswish")  # LAST_MAP
        embedding = self.mean(x, "embedding", 2, 3)
        frame_logits = None
        if config.is_framewise:
            frame_logits = self.step_head()
        else:
            self.clip_head(embedding)
        inputs: dict[str, list[int | str]] = {
            "mel": [self.batch, 1, "n_mels", "n_frames"],
            **self.heads(),
        }
        outputs: dict[str, list[int | str]] = {
            "logits": [self.batch, "n_classes"],
            "embedding": [self.batch, config.embedding_size],
        }
        made = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in outputs.items()
        ]
        if frames and frame_logits is not None:
            made.append(_by_step(self, frame_logits, self.batch))
        elif frames:
            head = "frame_head" if config.frame_head else "head"
            made.append(add_frame_logits(self, head, self.batch))
        if frames and config.frame_head:
            inputs |= {f"frame_{name}": dims for name, dims in inputs.items() if name.startswith("head.")}
        return self.finish(
            f"{config.family}-{config.width:g}",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()],
            made,
        )

    def heads(self) -> dict[str, list[int | str]]:
        """The weights that are inputs, so that one graph serves any number of classes."""
        size = self.config.embedding_size
        if self.config.is_framewise:
            return {"head.weight": ["n_classes", size], "head.bias": ["n_classes"]}
        return {
            "head.1.weight": ["head_channels", size],
            "head.1.bias": ["head_channels"],
            "head.2.weight": ["n_classes", "head_channels"],
            "head.2.bias": ["n_classes"],
        }

    def clip_head(self, embedding: str) -> None:
        """`logits` from the embedding, through two linear layers."""
        hidden = self.node("Gemm", [embedding, "head.1.weight", "head.1.bias"], "head.1", transB=1)
        hidden = self.activation(hidden, "hardswish")
        self.node("Gemm", [hidden, "head.2.weight", "head.2.bias"], "logits", transB=1)

    def step_head(self) -> str:
        """`logits` as the highest of all steps; returns those of the steps, (batch, n_classes, n_steps)."""
        y = _frame_layer(self, _pooled(self), "head", "frames.1")
        self.node("ReduceMax", [y, self.ints(2)], "logits", keepdims=0)
        return y

    def finish(
        self, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """A model of all nodes so far."""
        initialisers = [*self.weights, *self.constants.values()]
        graph = helper.make_graph(self.nodes, name, inputs, outputs, initialisers)
        return helper.make_model(
            graph, opset_imports=self.opsets, ir_version=IR_VERSION, producer_name="dymn"
        )

    def stem(self) -> str:
        """The first convolution, of the log-mel."""
        return self.convolution("mel", "stem", (self.config.stem_channels, 1, 3, 3), stride=2)

    def residual(self, x: str, y: str, block: Block) -> str:
        """The output of a block: y, plus its input x if the sizes are the same."""
        return (
            self.node("Add", [y, self.plain(x)], f"layers.{block.index}.output") if block.has_residual else y
        )

    # ------------------------------------------------------------------ static blocks

    def static_block(self, x: str, block: Block) -> str:
        """An inverted residual block as in MobileNetV3."""
        name, y = f"layers.{block.index}", x
        for position in convolutions(block):
            if position == "project":
                y = self.attention(y, name, block)
            y = self.static_convolution(y, position, block)
            if position != "project":
                y = self.activation(y, block.activation)
        return self.residual(x, y, block)

    def static_convolution(self, x: str, position: Position, block: Block) -> str:
        """One of the convolutions of a block, with one kernel for all clips."""
        name, (stride, groups) = f"layers.{block.index}.{position}", stride_and_groups(block, position)
        return self.convolution(x, name, convolutions(block)[position], stride=stride, groups=groups)

    def attention(self, x: str, name: str, block: Block) -> str:
        """What a static block has before its last convolution (`dymn_cli.model.attention`)."""
        x, own = self.plain(x), f"{name}.attention"
        match block.attention:
            case "squeeze-excitation":
                return self.squeeze_excite(x, name, block)
            case "coordinate":
                return self.sequence_attention(x, own, block)
            case "triplet":
                return self.triplet_attention(x, own)
            case "srm":
                return self.style_recalibration(x, own, block)
            case "grn":
                return self.response_norm(x, own, block)
            case "cbam":
                return self.convolutional_attention(x, own, block)
            case "global-context":
                return self.global_context(x, own, block)
        return x

    def scalar(self, name: str, value: float) -> str:
        """A constant number."""
        return self.constant(name, np.array(value, np.float32))

    def sequence_attention(self, x: str, name: str, block: Block) -> str:
        """Coordinate Attention with sequences of its own."""
        joint = self.sequences(x, name, name, (block.squeeze, block.expanded))
        y = x
        for axis, part in self.parts(joint, x, name, "ft"):
            gate = self.linear(part, f"{name}_{axis}", block.expanded, block.squeeze)
            gate = self.node("Sigmoid", [gate], f"{name}_{axis}.sigmoid")
            gate = self.node("Unsqueeze", [gate, self.ints(3 if axis == "f" else 2)], f"{name}_{axis}.gate")
            y = self.node("Mul", [y, gate], f"{name}_{axis}.applied")
        return y

    def plane_gate(self, x: str, name: str, axis: int = 1) -> str:
        """The gate of each place of the plane across an axis of x, with a size of 1 along that axis."""
        pooled = [self.node(op, [x, self.ints(axis)], f"{name}.{op}") for op in ("ReduceMax", "ReduceMean")]
        y = self.node("Concat", pooled, f"{name}.pooled", axis=axis)
        perm = [0, 1, 2, 3]
        perm[1], perm[axis] = axis, 1
        if axis > 1:
            y = self.node("Transpose", [y], f"{name}.plane", perm=perm)
        y = self.convolution(y, name, (1, 2, 7, 7))
        y = self.node("Sigmoid", [y], f"{name}.gate")
        return self.node("Transpose", [y], f"{name}.back", perm=perm) if axis > 1 else y

    def triplet_attention(self, x: str, name: str) -> str:
        """The mean of the gates across channels, frequency and time."""
        gates = [self.plane_gate(x, f"{name}_{n}", axis=n + 1) for n in range(3)]
        both = self.node("Add", gates[:2], f"{name}.sum_2")
        total = self.node("Add", [both, gates[2]], f"{name}.sum")
        gate = self.node("Mul", [total, self.scalar("a_third", 1 / 3)], f"{name}.gate")
        return self.node("Mul", [x, gate], f"{name}.applied")

    def style_recalibration(self, x: str, name: str, block: Block) -> str:
        """A gate from each channel's mean and spread."""
        mean = self.mean(x, f"{name}.mean", 2, 3, keep=True)
        centred = self.node("Sub", [x, mean], f"{name}.centred")
        square = self.node("Mul", [centred, centred], f"{name}.square")
        variance = self.mean(square, f"{name}.variance", 2, 3, keep=True)
        variance = self.node("Add", [variance, self.scalar("spread_eps", SPREAD_EPS)], f"{name}.lifted")
        styles = [mean, self.node("Sqrt", [variance], f"{name}.spread")]
        y = self.node("Concat", styles, f"{name}.styles", axis=3)
        c = block.expanded
        weight, bias = self.weight(f"{name}.weight", c, 1, 1, 2), self.weight(f"{name}.bias", c)
        y = self.node("Conv", [y, weight, bias], name, kernel_shape=[1, 2], group=c)
        return self.node("Mul", [x, self.node("Sigmoid", [y], f"{name}.gate")], f"{name}.applied")

    def response_norm(self, x: str, name: str, block: Block) -> str:
        """Channels scaled by their norms, relative to the mean of all norms."""
        gamma, beta = (self.weight(f"{name}.{part}", 1, block.expanded, 1, 1) for part in ("gamma", "beta"))
        norms = self.node("ReduceL2", [x, self.ints(2, 3)], f"{name}.norms")
        mean = self.mean(norms, f"{name}.mean", 1, keep=True)
        mean = self.node("Add", [mean, self.scalar("response_eps", RESPONSE_EPS)], f"{name}.lifted")
        relative = self.node("Div", [norms, mean], f"{name}.relative")
        scale = self.node("Mul", [relative, gamma], f"{name}.scale")
        scale = self.node("Add", [scale, self.scalar("one", 1.0)], f"{name}.factor")
        return self.node("Add", [self.node("Mul", [x, scale], f"{name}.scaled"), beta], f"{name}.applied")

    def convolutional_attention(self, x: str, name: str, block: Block) -> str:
        """CBAM: a gate for each channel, then one for each place."""
        pooled = [self.node(op, [x, self.ints(2, 3)], f"{name}.{op}") for op in ("ReduceMean", "ReduceMax")]
        y = self.node("Concat", pooled, f"{name}.pooled", axis=2)
        first = self.weight(f"{name}_1.weight", block.squeeze, block.expanded, 1, 1)
        second = self.weight(f"{name}_2.weight", block.expanded, block.squeeze, 1, 1)
        y = self.activation(self.node("Conv", [y, first], f"{name}_1"), "relu")
        y = self.node("Conv", [y, second], f"{name}_2")
        y = self.node("ReduceSum", [y, self.ints(2)], f"{name}.both")
        y = self.node("Mul", [x, self.node("Sigmoid", [y], f"{name}.channels")], f"{name}.scaled")
        return self.node("Mul", [y, self.plane_gate(y, f"{name}_places")], f"{name}.applied")

    def global_context(self, x: str, name: str, block: Block) -> str:
        """A weighted sum over all places, added to each."""
        c, s = block.expanded, block.squeeze
        mask = self.convolution(x, f"{name}_mask", (1, c, 1, 1))
        mask = self.reshape(mask, f"{name}.places", 0, -1, 1)
        places = self.node("Softmax", [mask], f"{name}.weights", axis=1)
        y = self.node("MatMul", [self.reshape(x, f"{name}.flat", 0, 0, -1), places], f"{name}.summed")
        y = self.node("Unsqueeze", [y, self.ints(3)], f"{name}.context")
        y = self.convolution(y, f"{name}_1", (s, c, 1, 1))
        scale, shift = (self.weight(f"{name}_norm.{part}", s, 1, 1) for part in ("weight", "bias"))
        y = self.node("LayerNormalization", [y, scale, shift], f"{name}_norm", axis=1, epsilon=LAYER_NORM_EPS)
        y = self.convolution(self.activation(y, "relu"), f"{name}_2", (c, s, 1, 1))
        return self.node("Add", [x, y], f"{name}.applied")

    def squeeze_excite(self, x: str, name: str, block: Block) -> str:
        """Squeeze-and-excitation."""
        y = self.mean(x, f"{name}.squeeze", 2, 3, keep=True)
        y = self.convolution(y, f"{name}.excite_1", (block.squeeze, block.expanded, 1, 1))
        y = self.activation(y, "relu")
        y = self.convolution(y, f"{name}.excite_2", (block.expanded, block.squeeze, 1, 1))
        y = self.node("Sigmoid", [y], f"{name}.excite")
        return self.node("Mul", [x, y], f"{name}.excited")

    # ------------------------------------------------------------------ dynamic blocks

    def dynamic_block(self, x: str, block: Block) -> str:
        """A dynamic block (paper Section III)."""
        name, y = f"layers.{block.index}", x
        coefficients, gates = self.context(x, name, block)
        for position in convolutions(block):
            if self.config.has_own_contexts and position != "expand" and position in self.config.dy_conv:
                attention: str | None = self.own_attention(y, position, block)
            else:
                attention = coefficients.attention.get(position)
            if attention is None:
                y = self.static_convolution(y, position, block)
            else:
                y = self.dy_conv(y, position, block, attention)
            if self.config.has_own_contexts and position in self.config.dy_relu:
                lines: str | None = self.own_lines(y, position, block)
            else:
                lines = coefficients.lines.get(position)
            if lines is not None:
                y = self.dy_relu(y, f"{name}.dy_relu_{position}", convolutions(block)[position][0], lines)
            elif position != "project":
                y = self.activation(y, block.activation)
            if position == "depthwise":
                for gate in gates:
                    y = self.node("Mul", [self.plain(y), gate], f"{gate}.applied")
        return self.residual(x, y, block)

    def own_coefficients(self, x: str, name: str, n_in: int, n_out: int, block: Block) -> str:
        """What a component reads from a context of its own, made from its input x."""
        h = self.mean(x, f"{name}.own_mean", 2, 3)
        weight = self.weight(f"{name}.own_context.weight", block.context, n_in)
        bias = self.weight(f"{name}.own_context.bias", block.context)
        h = self.node("Gemm", [h, weight, bias], f"{name}.own_context", transB=1)
        h = self.activation(h, "hardswish")
        weight = self.weight(f"{name}.coefficients.weight", n_out, block.context)
        bias = self.weight(f"{name}.coefficients.bias", n_out)
        return self.node("Gemm", [h, weight, bias], f"{name}.coefficients", transB=1)

    def own_attention(self, x: str, position: Position, block: Block) -> str:
        """Shares of the kernels, from a context of its own."""
        name, k = f"layers.{block.index}.{position}", self.config.kernels
        logits = self.own_coefficients(x, name, block.expanded, k, block)
        return self.node("Softmax", [logits], f"{name}.attention_logits.softmax", axis=1)

    def own_lines(self, x: str, position: Position, block: Block) -> str:
        """Lines of a Dy-ReLU, from a context of its own."""
        name, channels = f"layers.{block.index}.dy_relu_{position}", convolutions(block)[position][0]
        z = self.own_coefficients(x, name, channels, 2 * self.config.mappings * channels, block)
        return self.line_values(z, name, channels)

    def context(self, x: str, name: str, block: Block) -> tuple[Coefficients, list[str]]:
        """The CGM (Section III-A): the coefficients, and the gates of Coordinate Attention."""
        if not block.context:
            return Coefficients({}, {}), []
        separate = self.config.context_sharing == "separate-sequences"
        size = (block.context, block.in_channels)
        joint = self.sequences(x, name, f"{name}.context", size, separate=separate)
        axes = ATTENTION_AXES[self.config.coordinate_attention]
        if self.config.context_sharing == "concatenated":
            parts = dict(self.parts(joint, x, name, "ft"))
            means = [self.mean(part, f"{name}.h_{axis}", 2) for axis, part in parts.items()]
            coefficients = self.coefficients(self.node("Concat", means, f"{name}.h", axis=1), name, block)
            return coefficients, [self.gate(parts[axis], axis, name, block) for axis in axes]
        coefficients = self.coefficients(self.mean(joint, f"{name}.h", 2), name, block)
        parts_in_turn = self.parts(joint, x, name, axes)
        return coefficients, [self.gate(part, axis, name, block) for axis, part in parts_in_turn]

    def sequences(
        self, x: str, name: str, layer: str, size: tuple[int, int], *, separate: bool = False
    ) -> str:
        """The frequency and the time sequence through a linear layer, side by side: (batch, H, F + T)."""
        over_time = self.mean(x, f"{name}.frequency_sequence", 3)  # (batch, C, F)
        over_frequency = self.mean(x, f"{name}.time_sequence", 2)  # (batch, C, T)
        if separate:
            over_time = self.linear(over_time, layer, *size)
            over_frequency = self.linear(over_frequency, f"{name}.time_context", *size)
        joint = self.node("Concat", [over_time, over_frequency], f"{name}.sequence", axis=2)
        return self.activation(joint if separate else self.linear(joint, layer, *size), "hardswish")

    def parts(self, joint: str, x: str, name: str, axes: str) -> Iterator[tuple[str, str]]:
        """The frequency (f) and the time part (t) of two sequences side by side, made from x."""
        n_frequency = self.node("Shape", [self.plain(x)], f"{name}.n_frequency", start=2, end=3)
        spans = {"f": (self.ints(0), n_frequency), "t": (n_frequency, self.ints(2**31 - 1))}
        for axis in axes:
            yield axis, self.node("Slice", [joint, *spans[axis], self.ints(2)], f"{name}.context_{axis}")

    def gate(self, x: str, axis: str, name: str, block: Block) -> str:
        """sigmoid(a_f) as (batch, C_exp, F', 1), or sigmoid(a_t) as (batch, C_exp, 1, T')."""
        if block.stride > 1:
            pooling = {"kernel_shape": [3], "strides": [block.stride], "pads": [1, 1], "count_include_pad": 1}
            x = self.node("AveragePool", [x], f"{name}.pooled_{axis}", **pooling)
        gate = self.linear(x, f"{name}.attention_{axis}", block.expanded, block.context)
        gate = self.node("Sigmoid", [gate], f"{name}.attention_{axis}.gate")
        return self.node("Unsqueeze", [gate, self.ints(3 if axis == "f" else 2)], f"{name}.gate_{axis}")

    def coefficients(self, h: str, name: str, block: Block) -> Coefficients:
        """One linear layer computes attention over kernels, and the lines of each Dy-ReLU."""
        config = self.config
        shapes = convolutions(block)
        mixing = [p for p in shapes if p in config.dy_conv]
        lines = [p for p in shapes if p in config.dy_relu]
        if config.has_own_contexts:
            mixing, lines = [p for p in mixing if p == "expand"], []
        sizes = [config.kernels] * len(mixing)
        sizes += [2 * config.mappings * shapes[position][0] for position in lines]
        if not sizes:
            return Coefficients({}, {})
        weight = self.weight(f"{name}.coefficients.weight", sum(sizes), block.context_values)
        bias = self.weight(f"{name}.coefficients.bias", sum(sizes))
        every = self.node("Gemm", [h, weight, bias], f"{name}.coefficients", transB=1)
        parts = [f"{name}.{p}.attention_logits" for p in mixing] + [f"{name}.dy_relu_{p}.z" for p in lines]
        parts = self.split(every, parts, sizes, axis=1) if len(parts) > 1 else [every]
        attention = [self.node("Softmax", [p], f"{p}.softmax", axis=1) for p in parts[: len(mixing)]]
        values = [
            self.line_values(z, f"{name}.dy_relu_{p}", shapes[p][0])
            for p, z in zip(lines, parts[len(mixing) :], strict=True)
        ]
        return Coefficients(dict(zip(mixing, attention, strict=True)), dict(zip(lines, values, strict=True)))

    def line_values(self, z: str, name: str, channels: int) -> str:
        """M slopes, then M intercepts, as (batch, 2M · C): θ · λ + start."""
        size = 2 * self.config.mappings * channels
        theta = self.node("Tanh", [z], f"{name}.theta")
        theta = self.node("Mul", [theta, self.weight(f"{name}.scale", size)], f"{name}.scaled")
        return self.node("Add", [theta, self.weight(f"{name}.start", size)], f"{name}.lines")

    def kernels(self, name: str, shape: Shape, k: int) -> tuple[str, str]:
        """The k kernels of a convolution, flat, and its bias."""
        flat = self.weight(f"{name}.weight", k, int(np.prod(shape)))
        return flat, self.weight(f"{name}.bias", shape[0])

    @abstractmethod
    def dy_conv(self, x: str, position: Position, block: Block, attention: str) -> str:
        """Convolve every clip of x with its own mixture of the K kernels."""

    @abstractmethod
    def dy_relu(self, x: str, name: str, channels: int, lines: str) -> str:
        """Take the maximum over M lines, whose slopes and intercepts differ by clip and channel."""


def stride_and_groups(block: Block, position: Position) -> tuple[tuple[int, int], int]:
    """Strides, of frequency and time, and groups of a convolution of a block."""
    strides = block.stride, block.time_stride
    return (strides, block.expanded) if position == "depthwise" else ((1, 1), 1)


def geometry(kernel: int, stride: int | tuple[int, int], groups: int) -> dict[str, Any]:
    """Attributes of a convolution that keeps the size, apart from its stride."""
    pad = (kernel - 1) // 2
    strides = [stride] * 2 if isinstance(stride, int) else list(stride)
    return {"kernel_shape": [kernel] * 2, "strides": strides, "pads": [pad] * 4, "group": groups}
