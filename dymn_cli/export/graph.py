"""Build the inference graph of an architecture as ONNX, node by node from its config.

No exporter traces the PyTorch modules: the graph is built from `ModelConfig.blocks`, so it has exactly the
nodes that inference needs, with telling names, and the same config always gives the same bytes. The parity
report and the tests check that it computes what the modules compute.

    network   the parts that all graphs share            nodes   a graph under construction
    forms     three ways to compute dynamic convolutions

Frequency and time are dynamic in all forms. The initialisers are those of `dymn_cli.runtime.fold`; they are
declared as external data without content, which a session provides or `dymn_cli.export.onnx_file` embeds.

`python -m dymn_cli.export.graph` writes the graphs that the package ships.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import numpy as np
import onnx
from onnx import TensorProto, helper

from dymn_cli.export.forms import AnyBatch, OneClip, OneClipBlocked
from dymn_cli.export.network import IR_VERSION, OPSET, add_frame_logits
from dymn_cli.export.nodes import Nodes
from dymn_cli.model.config import ARCHITECTURES, ModelConfig
from dymn_cli.store.registry import weights_folder

__all__ = ["IR_VERSION", "OPSET", "Form", "build_frames", "build_graph", "build_probe", "ship"]

Form = Literal["any", "one", "one-blocked-8", "one-blocked-16"]


def build_graph(config: ModelConfig, form: Form = "any", *, frames: bool = False) -> onnx.ModelProto:
    """Build the weightless graph of an architecture.

    Args:
        config: the architecture; every option of it is supported.
        form: "any" batch; "one" clip a call; or one clip with channels in blocks of 8 or 16, which needs
            onnxruntime's CPU provider and a processor with that block size.
        frames: add the output `frame_logits`, which a runtime then always computes.

    Returns:
        A model with input `mel` (batch, 1, n_mels, n_frames) float32 and outputs `logits`
        (batch, n_classes) and `embedding` (batch, embedding_size). The two linear layers of the head are
        inputs `head.{1,2}.{weight,bias}`, so one graph serves any number of classes; an FMN has one,
        `head.{weight,bias}`. With frames there is a third output `frame_logits` (batch, n_steps, n_classes),
        computed by the inputs `frame_head.{1,2}.{weight,bias}`, or by the head if the architecture has no
        frame head.
    """
    if form == "any":
        return AnyBatch(config).model(frames=frames)
    if form == "one":
        return OneClip(config).model(frames=frames)
    return OneClipBlocked(config, block_size=8 if form == "one-blocked-8" else 16).model(frames=frames)


def build_frames() -> onnx.ModelProto:
    """The nodes that a shipped graph lacks for the output `frame_logits`, the same for all graphs.

    A runtime computes all outputs of a graph, requested or not. So the shipped graphs have no frame logits,
    and `dymn_cli.runtime.onnx` appends these bytes if they are wanted: two protocol buffers in a row are one
    with the nodes of both. The weights of the head are inputs, as in the graphs.
    """
    nodes = FrameNodes()
    output = add_frame_logits(nodes, "frame_head")
    shapes = {"weight": ["units", "inputs"], "bias": ["units"]}
    inputs = [
        helper.make_tensor_value_info(
            f"frame_head.{n}.{part}", TensorProto.FLOAT, [f"{size}_{n}" for size in shapes[part]]
        )
        for n in (1, 2)
        for part in shapes
    ]
    graph = onnx.GraphProto(
        node=nodes.nodes, initializer=nodes.constants.values(), input=inputs, output=[output]
    )
    return onnx.ModelProto(graph=graph)


class FrameNodes(Nodes):
    """Nodes whose constants have names that the graph they join does not use."""

    def ints(self, *values: int) -> str:
        """A list of 64-bit integers."""
        return self.constant(f"frames.ints_{'_'.join(map(str, values))}", np.array(values, np.int64))


def build_probe(block_size: int) -> onnx.ModelProto:
    """A small graph with every use of the blocked layout, to test whether they work on a machine.

    Input `x` (1, B / 2, f, t) goes through a 1×1 convolution to B channels and a ReLU, a depthwise
    convolution, the maximum of two lines, and a 1×1 convolution to B / 2 channels. Inputs
    `expand`, `depthwise` and `project` are kernels as `dymn_cli.runtime.blocked` lays them out, `lines` two
    slopes and two intercepts for each channel.
    """
    few = block_size // 2
    graph = OneClipBlocked(ModelConfig(), block_size)
    bias = graph.constant("bias", np.zeros(block_size, np.float32))
    y = graph.blocked_convolution("x", "y1", "expand", bias, (block_size, few, 1, 1))
    y = graph.activation(y, "relu")
    y = graph.blocked_convolution(y, "y2", "depthwise", bias, (block_size, 1, 3, 3), groups=block_size)
    y = graph.dy_relu(y, "y3", block_size, "lines")
    y = graph.plain(graph.blocked_convolution(y, "y4", "project", bias, (few, block_size, 1, 1)))
    shapes: dict[str, list[int | str]] = {
        "x": [1, few, "f", "t"],
        "expand": [1, block_size * few],
        "depthwise": [1, 9 * block_size],
        "lines": [1, 4 * block_size],
        "project": [1, block_size * block_size],
    }
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in shapes.items()]
    output = helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, few, "f", "t"])
    return graph.finish("probe", inputs, [output])


def ship(folder: Path) -> None:
    """Write every architecture's graphs, without their input `mel`: `dymn_cli.runtime.onnx` appends it.

    Where the logits come from those of frames, these are an output: they cost nothing more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, config in ARCHITECTURES.items():
        for form in get_args(Form) if config.is_dynamic else ("any",):
            model = build_graph(config, form, frames=config.is_framewise)
            del model.graph.input[0]
            (folder / f"{name}.{form}.onnx").write_bytes(model.SerializeToString(deterministic=True))
    (folder / "frames.onnx").write_bytes(build_frames().SerializeToString(deterministic=True))
    for size in (8, 16):
        probe = build_probe(size).SerializeToString(deterministic=True)
        (folder / f"probe.one-blocked-{size}.onnx").write_bytes(probe)


if __name__ == "__main__":
    ship(weights_folder() / "graphs")
