"""A graph under construction: its nodes in order, and the constants that they read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

__all__ = ["Nodes"]


class Nodes:
    """Builds a graph; every method returns the name of the tensor that it adds.

    Attributes:
        nodes: in execution order.
        constants: name → tensor; a list of integers is named after them, so all nodes share it.
    """

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """An operator with one output."""
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def split(self, x: str, outputs: Sequence[str], sizes: Sequence[int], axis: int) -> list[str]:
        """Split x into parts of given sizes along an axis."""
        inputs = [x, self.ints(*sizes)]
        self.nodes.append(helper.make_node("Split", inputs, list(outputs), name=f"{x}.split", axis=axis))
        return list(outputs)

    def constant(self, name: str, values: np.ndarray[Any, Any]) -> str:
        """An array with a name; an existing one of that name is kept."""
        self.constants.setdefault(name, numpy_helper.from_array(values, name))
        return name

    def ints(self, *values: int) -> str:
        """A list of 64-bit integers."""
        name = "ints_" + "_".join(str(v).replace("-", "m") for v in values)
        return self.constant(name, np.array(values, np.int64))

    def reshape(self, x: str, output: str, *shape: int) -> str:
        """Reshape; 0 keeps a dimension, -1 is inferred."""
        return self.node("Reshape", [x, self.ints(*shape)], output)
