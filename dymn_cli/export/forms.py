"""Three forms of the graph, which compute the dynamic convolutions in different ways.

ONNX has no convolution whose kernel differs from clip to clip (paper equations 2 and 3). `AnyBatch` is for
exported files and GPUs, `OneClip` for one clip a call, and `OneClipBlocked` is the same for processors on
which onnxruntime keeps channels in blocks, the fastest form on a CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper

from dymn_cli.export.network import Network, geometry, stride_and_groups
from dymn_cli.runtime.blocked import blocked_shape, filled_up
from dymn_cli.runtime.fold import convolutions

if TYPE_CHECKING:
    from dymn_cli.model.config import Block, ModelConfig, Position
    from dymn_cli.runtime.fold import Shape

__all__ = ["AnyBatch", "OneClip", "OneClipBlocked"]


class OneClip(Network):
    """One clip a call: mix the kernels first, then run one convolution with the mixture.

    ONNX fixes the number of groups of a depthwise convolution, and with it the batch at one.
    """

    batch = 1

    def dy_conv(self, x: str, position: Position, block: Block, attention: str) -> str:
        """Mix the kernels and convolve with the mixture."""
        name, shape = f"layers.{block.index}.{position}", convolutions(block)[position]
        kernels, bias = self.kernels(name, shape, self.config.kernels)
        mixed = self.node("MatMul", [attention, kernels], f"{name}.mixed")
        return self.mixed_convolution(x, position, block, mixed, bias)

    def mixed_convolution(self, x: str, position: Position, block: Block, mixed: str, bias: str) -> str:
        """Convolve with a flat kernel."""
        name, shape = f"layers.{block.index}.{position}", convolutions(block)[position]
        stride, groups = stride_and_groups(block, position)
        kernel = self.reshape(mixed, f"{name}.kernel", *shape)
        return self.node("Conv", [self.plain(x), kernel, bias], name, **geometry(shape[2], stride, groups))

    def dy_relu(self, x: str, name: str, channels: int, lines: str) -> str:
        """Dy-ReLU-B (paper equation 5): the maximum over M lines.

        A BatchNormalization of zero mean and unit variance is a line with a slope and an intercept for each
        channel, and takes one pass over the data.
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
    """One clip a call, with channels in blocks from the expansion of a block to the last line of its Dy-ReLU.

    onnxruntime is fastest on data with channels in blocks of B = 8 or 16 (depending on the processor):
    (C / B, F, T, B). Its optimiser uses that layout only for convolutions with constant kernels, so the graph
    asks for it. The operators are onnxruntime's own (domain `com.microsoft.nchwc`), the ones it writes into
    an optimised model; `dymn_cli.runtime.onnx` tries them on a small example before use.

    Attributes:
        channels: tensor in blocks → its channels, without the zeros that pad the last block.
        twins: tensor in one layout → the same tensor in the other, if it exists.
    """

    domain = "com.microsoft.nchwc"
    opsets = (*Network.opsets, helper.make_opsetid(domain, 1))

    def __init__(self, config: ModelConfig, block_size: int) -> None:
        super().__init__(config)
        self.block_size = block_size
        self.channels: dict[str, int] = {}
        self.twins: dict[str, str] = {}

    def plain(self, x: str) -> str:
        """The tensor in ONNX's layout."""
        if x not in self.channels:
            return x
        if x not in self.twins:
            channels = self.channels[x]
            self.twins[x] = self.node(
                "ReorderOutput", [x], f"{x}.plain", domain=self.domain, channels=channels
            )
        return self.twins[x]

    def in_blocks(self, x: str) -> str:
        """The tensor with its channels in blocks."""
        if x in self.channels:
            return x
        if x not in self.twins:
            self.twins[x] = self.node("ReorderInput", [x], f"{x}.in_blocks", domain=self.domain)
        return self.twins[x]

    def stem(self) -> str:
        """The first convolution, in blocks."""
        shape = (self.config.stem_channels, 1, 3, 3)
        return self.blocked_convolution("mel", "stem", *self.kernels("stem", shape, 1), shape, stride=2)

    def kernels(self, name: str, shape: Shape, k: int) -> tuple[str, str]:
        """In blocks (`dymn_cli.runtime.blocked`), except for the last convolution of a block."""
        if name.endswith(".project"):
            return super().kernels(name, shape, k)
        return super().kernels(name, blocked_shape(shape, self.block_size), k)

    def mixed_convolution(self, x: str, position: Position, block: Block, mixed: str, bias: str) -> str:
        """In blocks, except for the last convolution of a block, which reads the gated data."""
        if position == "project":
            return super().mixed_convolution(x, position, block, mixed, bias)
        stride, groups = stride_and_groups(block, position)
        name, shape = f"layers.{block.index}.{position}", convolutions(block)[position]
        return self.blocked_convolution(x, name, mixed, bias, shape, stride=stride, groups=groups)

    def blocked_convolution(
        self,
        x: str,
        name: str,
        kernel: str,
        bias: str,
        shape: Shape,
        *,
        stride: int | tuple[int, int] = 1,
        groups: int = 1,
    ) -> str:
        """A convolution, depthwise or of all channels, with output in blocks.

        Args:
            x: input, in either layout.
            name: of the output.
            kernel: in blocks.
            bias: padded.
            shape: of the kernel in ONNX's layout.
            stride: in both directions, or of frequency and of time.
            groups: 1, or the number of channels.
        """
        whole = blocked_shape(shape, self.block_size)
        x = self.in_blocks(x) if groups > 1 or shape[1] >= self.block_size else self.plain(x)
        kernel = self.reshape(kernel, f"{name}.kernel", *whole)
        attributes = geometry(shape[2], stride, whole[0] if groups > 1 else 1)
        return self.convolution_node([x, kernel, bias], name, shape[0], **attributes)

    def convolution_node(self, inputs: list[str], name: str, channels: int, **attributes: Any) -> str:
        """Add onnxruntime's own convolution; the inputs are in its layout."""
        self.channels[name] = channels
        return self.node("Conv", inputs, name, domain=self.domain, **attributes)

    def activation(self, x: str, kind: str) -> str:
        """In either layout; a convolution in blocks applies its ReLU itself."""
        if x not in self.channels:
            return super().activation(x, kind)
        convolution = self.nodes[-1]
        if kind == "relu" and list(convolution.output) == [x]:
            convolution.attribute.append(helper.make_attribute("activation", "Relu"))
            return x
        y = super().activation(x, kind)
        self.channels[y] = self.channels[x]
        return y

    def dy_relu(self, x: str, name: str, channels: int, lines: str) -> str:
        """Dy-ReLU-B (paper equation 5), a 1×1 depthwise convolution for each line.

        max(u, v) = v + relu(u - v), and a convolution can add the output of another and apply a ReLU: with
        u₁ = relu(l₁ - l₂) and uₘ = relu(lₘ - lₘ₊₁ + uₘ₋₁), the maximum of M lines is l_M + u_{M-1}. That is
        one pass over the data for each line.
        """
        if x not in self.channels:
            return super().dy_relu(x, name, channels, lines)
        m, whole = self.config.mappings, filled_up(channels, self.block_size)
        # From l₁ ... l_M to l₁ - l₂, ..., l_{M-1} - l_M, l_M: for the slopes, and for the intercepts.
        steps = np.kron(np.eye(2), np.eye(m) - np.eye(m, k=1)).astype(np.float32)
        rows = self.reshape(lines, f"{name}.rows", 2 * m, channels)
        rows = self.node("MatMul", [self.constant(f"steps_{m}", steps), rows], f"{name}.steps")
        if whole > channels:
            pads = self.ints(0, 0, 0, whole - channels)
            rows = self.node("Pad", [rows, pads], f"{name}.filled_up")
        flat = self.reshape(rows, f"{name}.flat", -1)
        names = [f"{name}.{kind}_{n}" for kind in ("slope", "intercept") for n in range(m)]
        values = self.split(flat, names, [whole] * (2 * m), axis=0)
        before: list[str] = []
        for n, (slope, intercept) in enumerate(zip(values[:m], values[m:], strict=True)):
            inputs = [x, self.reshape(slope, f"{slope}.kernel", whole, 1, 1, 1), intercept, *before]
            relu = {"activation": "Relu"} if n < m - 1 else {}
            attributes = geometry(1, 1, whole)
            before = [self.convolution_node(inputs, f"{name}.line_{n}", channels, **attributes, **relu)]
        return before[0]


class AnyBatch(Network):
    """Any batch: 1×1 convolutions are batched matrix products with each clip's mixed kernel.

    Depthwise convolutions run with all K kernels, and each clip mixes the K outputs, which by linearity is
    the same.
    """

    batch = "batch"

    def dy_conv(self, x: str, position: Position, block: Block, attention: str) -> str:
        """A matrix product; for a depthwise convolution, see `depthwise`."""
        name, shape = f"layers.{block.index}.{position}", convolutions(block)[position]
        kernels, bias = self.kernels(name, shape, self.config.kernels)
        if position == "depthwise":
            return self.depthwise(x, name, block, attention, kernels, bias)
        mixed = self.node("MatMul", [attention, kernels], f"{name}.mixed")
        mixed = self.reshape(mixed, f"{name}.kernel", -1, shape[0], shape[1])
        y = self.node("MatMul", [mixed, self.reshape(x, f"{name}.flat", 0, 0, -1)], f"{name}.product")
        y = self.node("Add", [y, self.reshape(bias, f"{name}.column", -1, 1)], f"{name}.biased")
        return self.shaped(y, name, x, shape[0], like=x)

    def depthwise(self, x: str, name: str, block: Block, attention: str, kernels: str, bias: str) -> str:
        """Convolve with all K kernels at once, and mix the outputs."""
        k, channels, size = self.config.kernels, block.expanded, block.kernel
        stacked = self.reshape(kernels, f"{name}.by_kernel", k, channels, size * size)
        stacked = self.node("Transpose", [stacked], f"{name}.by_channel", perm=[1, 0, 2])
        stacked = self.reshape(stacked, f"{name}.stacked", channels * k, 1, size, size)
        attributes = geometry(size, block.stride, channels)
        answers = self.node("Conv", [x, stacked], f"{name}.answers", **attributes)
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
        """Reshape to (batch of x, *sizes), followed by frequency and time of `like`, if given."""
        parts = [self.node("Shape", [x], f"{output}.batch", end=1), self.ints(*sizes)]
        if like:
            parts.append(self.node("Shape", [like], f"{output}.size", start=2))
        return self.node("Reshape", [y, self.node("Concat", parts, f"{output}.shape", axis=0)], output)
