"""Smaller files: weights stored with fewer bits, and turned back into float32 when the file is loaded.

float16   every weight is a half-precision number and a Cast
int8      every weight is a whole number in −127 ... 127, a Cast, and one scale for each output channel of
          its layer (of each of the K kernels in a dynamic one). Half precision stay channels of few values,
          as in depthwise convolutions, where a scale of its own would eat what is won, and the smallest
          layers: a tenth of the weights, mostly the first blocks, through whose few channels everything
          goes. With them the published MN of width 0.4 is off by 0.03 in score instead of 0.13

Biases and the front end stay in float32, and so does all computing: nodes that read constants only are worked
out once, on loading, and then the model is as fast as before. That is on purpose. Measured on a CPU,
computing in half precision is twice as slow, because onnxruntime converts to and fro; and onnxruntime's
own dynamic quantisation is no faster and less exact, because a DyMN mixes its kernels for each clip, so that
most of its convolutions have no constant weights to quantise.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dymn_cli.model.config import POSITIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from dymn_cli.model.config import ModelConfig

__all__ = ["Precision", "store_weights"]

Precision = Literal["float32", "float16", "int8"]

FEW_VALUES = 32  # in a channel: below, a scale is not worth it
SMALL_LAYERS = 0.1  # of all weights
LEVELS = 127


def store_weights(model: onnx.ModelProto, config: ModelConfig, precision: Precision) -> onnx.ModelProto:
    """The same network with its weights, the initialisers called `….weight`, stored in fewer bits.

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
    """The smallest layers, as many as together hold no more than their share of the weights."""
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
    with np.errstate(over="ignore"):  # infinity is found when the answers are compared
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
    """Output channels of a layer; of a dynamic convolution, whose kernels lie flat, those of each kernel."""
    return next(_kernel_channels(name, shape, config), shape[0])


def _kernel_channels(name: str, shape: tuple[int, ...], config: ModelConfig) -> Iterator[int]:
    for block in config.blocks:
        for position in POSITIONS:
            if name == f"layers.{block.index}.{position}.weight" and len(shape) == 2:
                yield shape[0] * (block.out_channels if position == "project" else block.expanded)
