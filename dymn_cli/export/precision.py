"""Store weights in fewer bits; they become float32 again when the file is loaded.

float16   every weight is a half-precision number, followed by a Cast
int8      every weight is an integer in −127 ... 127, followed by a Cast and a scale for each output channel
          of its layer (of each of the K kernels in a dynamic one). Two kinds of layers stay in half
          precision: those with few values a channel, such as depthwise convolutions, where the scales would
          take what the integers save; and the smallest layers, a tenth of the weights, mostly in the first
          blocks, whose few channels everything passes through. That makes the scores of the published MN of
          width 0.4 differ by 0.03 instead of 0.13

Biases, the front end and all computation stay in float32. Runtimes evaluate nodes with constant inputs once,
on loading, so the model is as fast as before. On a CPU, computing in half precision takes twice as long,
because onnxruntime converts back and forth; its dynamic quantisation is no faster and less exact, because a
DyMN mixes its kernels for each clip, so most of its convolutions have no constant weights.
"""

from __future__ import annotations

import math
import re
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dymn_cli.runtime.fold import convolutions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.model.config import ModelConfig, Position

__all__ = ["Precision", "store_weights"]

Precision = Literal["float32", "float16", "int8"]

FEW_VALUES = 32  # a channel; with fewer, a scale saves nothing
SMALL_LAYERS = 0.1  # of all weights
LEVELS = 127


def store_weights(model: onnx.ModelProto, config: ModelConfig, precision: Precision) -> onnx.ModelProto:
    """Store the weights of a network, its initialisers called `….weight`, in fewer bits.

    Args:
        model: self-contained, in float32, without a front end.
        config: its architecture.
        precision: of the result; float32 changes nothing.
    """
    if precision == "float32":
        return model
    stored = onnx.ModelProto()
    stored.CopyFrom(model)
    tensors: list[TensorProto] = []
    decoders: list[onnx.NodeProto] = []
    small = _small_layers(model)
    for tensor in model.graph.initializer:
        if not tensor.name.endswith(".weight"):
            tensors.append(tensor)
            continue
        values = numpy_helper.to_array(tensor)
        rows = values.reshape(_channels(tensor.name, values.shape, config), -1)
        whole = precision == "int8" and rows.shape[1] >= FEW_VALUES and tensor.name not in small
        parts, nodes = _as_int8(tensor.name, values, rows) if whole else _as_float16(tensor.name, values)
        tensors.extend(numpy_helper.from_array(array, name) for name, array in parts.items())
        decoders.extend(nodes)
    del stored.graph.initializer[:], stored.graph.node[:]
    stored.graph.initializer.extend(tensors)
    stored.graph.node.extend([*decoders, *model.graph.node])
    return stored


def _small_layers(model: onnx.ModelProto) -> set[str]:
    """The smallest layers that together hold at most `SMALL_LAYERS` of the weights."""
    sizes = {
        tensor.name: math.prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.name.endswith(".weight")
    }
    names = sorted(sizes, key=lambda name: (sizes[name], name))
    together = accumulate(sizes[name] for name in names)
    most = SMALL_LAYERS * sum(sizes.values())
    return {name for name, size in zip(names, together, strict=True) if size <= most}


Parts = tuple[dict[str, "NDArray[np.generic]"], list[onnx.NodeProto]]


def _as_float16(name: str, values: NDArray[np.float32]) -> Parts:
    with np.errstate(over="ignore"):  # the comparison with PyTorch finds infinity
        half = values.astype(np.float16)
    return {f"{name}.half": half}, [_cast(f"{name}.half", name)]


def _as_int8(name: str, values: NDArray[np.float32], rows: NDArray[np.float32]) -> Parts:
    largest = np.abs(rows).max(axis=1, keepdims=True)
    scale = np.where(largest > 0, largest / LEVELS, 1.0).astype(np.float32)
    levels = np.rint(rows / scale).astype(np.int8)
    parts: dict[str, NDArray[np.generic]] = {f"{name}.levels": levels, f"{name}.scale": scale}
    nodes = [
        _cast(f"{name}.levels", f"{name}.whole"),
        helper.make_node("Mul", [f"{name}.whole", f"{name}.scale"], [f"{name}.rows"], name=f"{name}.rows"),
        helper.make_node("Reshape", [f"{name}.rows", f"{name}.shape"], [name], name=name),
    ]
    parts[f"{name}.shape"] = np.array(values.shape, np.int64)
    return parts, nodes


def _cast(source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=target, to=TensorProto.FLOAT)


def _channels(name: str, shape: tuple[int, ...], config: ModelConfig) -> int:
    """Output channels of a layer; for a dynamic convolution, of all its K flat kernels together."""
    of_block = re.fullmatch(r"layers\.(\d+)\.(expand|depthwise|project)\.weight", name)
    if of_block is None or len(shape) != 2:
        return shape[0]
    position = cast("Position", of_block[2])
    return shape[0] * convolutions(config.blocks[int(of_block[1])])[position][0]
