"""A graph while it is being written: nodes in order, and the constants that they read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

__all__ = ["Nodes"]


class Nodes:
    """A small vocabulary for ONNX; every method returns the name of what it adds.

    Attributes:
        nodes: in an order in which they can run.
        constants: name → tensor; a constant of integers is named after them, so all who need it share it.
    """

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """An operator with one output."""
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def split(self, x: str, outputs: Sequence[str], sizes: Sequence[int], axis: int) -> list[str]:
        """Cut x into parts of given sizes along an axis."""
        inputs = [x, self.ints(*sizes)]
        self.nodes.append(helper.make_node("Split", inputs, list(outputs), name=f"{x}.split", axis=axis))
        return list(outputs)

    def constant(self, name: str, values: np.ndarray[Any, Any]) -> str:
        """An array under a name; the first one of that name stays."""
        self.constants.setdefault(name, numpy_helper.from_array(values, name))
        return name

    def ints(self, *values: int) -> str:
        """A list of 64-bit integers."""
        name = "ints_" + "_".join(str(v).replace("-", "m") for v in values)
        return self.constant(name, np.array(values, np.int64))

    def reshape(self, x: str, output: str, *shape: int) -> str:
        """The same values in another shape; 0 keeps a dimension, -1 is what remains."""
        return self.node("Reshape", [x, self.ints(*shape)], output)
