"""Lay out weights for the graph that keeps channels in blocks of B = 8 or 16: see `dymn_cli.export.forms`.

For a convolution with blocked output onnxruntime takes the kernel as (C_out / B, C_in, k, k, B), and it
reads whole blocks. So kernels and biases are padded with zeros, once, when a model is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.runtime.fold import Shape, convolutions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from dymn_cli.model.config import ModelConfig

__all__ = ["blocked_shape", "filled_up", "lay_out"]


def filled_up(channels: int, block_size: int) -> int:
    """The number of channels, rounded up to whole blocks."""
    return -(-channels // block_size) * block_size


def blocked_shape(shape: Shape, block_size: int) -> Shape:
    """The shape of a kernel padded to whole blocks.

    Args:
        shape: (C_out, C_in / groups, k, k); with B input channels or more, k is 1.
        block_size: B. Fewer input channels than that are not read in blocks and are not padded.
    """
    n_out, n_in, *size = shape
    all_in = n_in if n_in < block_size else filled_up(n_in, block_size)
    return filled_up(n_out, block_size), all_in, size[0], size[1]


def lay_out(
    config: ModelConfig, folded: Mapping[str, NDArray[np.float32]], block_size: int
) -> dict[str, NDArray[np.float32]]:
    """Put those kernels and biases of `dymn_cli.runtime.fold` in blocks that the graph needs so.

    Args:
        config: the architecture.
        folded: initialiser name → array.
        block_size: B.

    Returns:
        The same names; for the stem and the Dy-Convs in the positions expand and depthwise, kernels are
        flattened in the order above, and biases are padded.
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
    """The convolutions with blocked output, and the shapes of their kernels."""
    yield "stem", (config.stem_channels, 1, 3, 3)
    for block in config.blocks:
        for position, shape in convolutions(block).items():
            if block.dynamic and position in config.dy_conv and position != "project":
                yield f"layers.{block.index}.{position}", shape
