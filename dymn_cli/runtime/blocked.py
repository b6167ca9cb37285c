"""Weights laid out for the graph that keeps channels in blocks of B = 8 or 16: see `dymn_cli.export.forms`.

onnxruntime wants the kernel of a convolution whose answer is in blocks as (C_out / B, C_in, k, k, B), and it
reads all channels of a block. So kernels and biases are filled up with zeros, once, when a model is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from dymn_cli.model.config import ModelConfig

__all__ = ["Shape", "blocked_shape", "filled_up", "lay_out"]

Shape: TypeAlias = tuple[int, int, int, int]


def filled_up(channels: int, block_size: int) -> int:
    """So many channels in whole blocks."""
    return -(-channels // block_size) * block_size


def blocked_shape(shape: Shape, block_size: int) -> Shape:
    """The shape of a kernel in whole blocks.

    Args:
        shape: (C_out, C_in / groups, k, k); with B input channels or more, k is 1.
        block_size: B. Fewer input channels than that are not read in blocks and stay as many as they are.
    """
    n_out, n_in, *size = shape
    all_in = n_in if n_in < block_size else filled_up(n_in, block_size)
    return filled_up(n_out, block_size), all_in, size[0], size[1]


def lay_out(
    config: ModelConfig, folded: Mapping[str, NDArray[np.float32]], block_size: int
) -> dict[str, NDArray[np.float32]]:
    """What `dymn_cli.runtime.fold` gives, with those kernels and biases in blocks that the graph wants so.

    Args:
        config: the architecture.
        folded: initialiser name → array.
        block_size: B.

    Returns:
        The same names; of the Dy-Convs before and in the depthwise position and of the stem, each kernel lies
        flat in the order above, and each bias has filled-up channels.
    """
    laid_out = dict(folded)
    for name, shape in _in_blocks(config):
        kernels = folded[f"{name}.weight"].reshape(-1, *shape)
        whole = np.zeros((len(kernels), *blocked_shape(shape, block_size)), np.float32)
        whole[:, : shape[0], : shape[1]] = kernels
        n_out = whole.shape[1]
        blocks = whole.reshape(len(kernels), n_out // block_size, block_size, -1).swapaxes(2, 3)
        laid_out[f"{name}.weight"] = np.ascontiguousarray(blocks).reshape(len(kernels), -1)
        laid_out[f"{name}.bias"] = np.pad(folded[f"{name}.bias"], (0, n_out - shape[0]))
    return laid_out


def _in_blocks(config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    """The convolutions that answer in blocks, and the shapes of their kernels."""
    yield "stem", (config.stem_channels, 1, 3, 3)
    for block in config.blocks:
        name = f"layers.{block.index}"
        if block.dynamic and block.has_expansion and "expand" in config.dy_conv:
            yield f"{name}.expand", (block.expanded, block.in_channels, 1, 1)
        if block.dynamic and "depthwise" in config.dy_conv:
            yield f"{name}.depthwise", (block.expanded, 1, block.kernel, block.kernel)
