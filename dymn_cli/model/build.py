"""From a config or a state dict to a network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dymn_cli.errors import ModelError
from dymn_cli.model.backbone import Backbone
from dymn_cli.model.config import ModelConfig
from dymn_cli.model.dymn import DyMN
from dymn_cli.model.fmn import FMN
from dymn_cli.model.infer import infer_config
from dymn_cli.model.layout import is_optional, is_unused, state_shapes
from dymn_cli.model.mn import MN

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["build", "load_weights", "restore"]

SLACK = 1 << 24  # values, 64 MiB; what is missing from weights of that size is told by name
LISTED = 3  # keys that an error names before it only counts


def build(config: ModelConfig, *, generator: torch.Generator | None = None) -> Backbone:
    """Make the network of a config, freshly initialised and in training mode.

    Args:
        config: the architecture.
        generator: draws the initial weights; torch's global one where None.
    """
    match config.family:
        case "dymn":
            return DyMN(config, generator=generator)
        case "mn":
            return MN(config, generator=generator)
        case "fmn":
            return FMN(config, generator=generator)


def load_weights(model: Backbone, tensors: Mapping[str, Tensor]) -> None:
    """Copy a state dict with the published key names into a model; every tensor must find its place.

    Published files of variants without Coordinate Attention still hold its convolutions (and those
    without any dynamic component a whole context generation), and those of an FMN a head that was never
    trained: they are of no use and left out.

    Raises:
        ModelError: tensors missing, unknown or of another shape.
    """
    expected = model.state_dict()
    given = {key: t for key, t in tensors.items() if key in expected or not is_unused(key, model.config)}
    missing = [key for key in expected if key not in given and not is_optional(key)]
    unknown = [key for key in given if key not in expected]
    misfits = [
        f"{key} {tuple(given[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in given and given[key].shape != tensor.shape
    ]
    complaints = [
        f"{what}: {_listed(keys)}"
        for what, keys in (("missing", missing), ("unknown", unknown), ("of another shape", misfits))
        if keys
    ]
    if complaints:
        name = f"{model.config.family} of width {model.config.width:g}"
        raise ModelError(
            f"these weights do not fit a {name}: {'; '.join(complaints)}",
            hint="the config (width, classes, dynamic parts) must be the one that the weights were made with",
        )
    model.load_state_dict({**expected, **given}, strict=True)


def restore(
    weights: Mapping[str, Tensor | NDArray[np.float32]], config: ModelConfig | None = None
) -> Backbone:
    """Make the network that a state dict belongs to, with its weights, in evaluation mode.

    Args:
        weights: a state dict with the published key names; its values are copied.
        config: the architecture, where it is known; else it is inferred from the shapes.

    Raises:
        ModelError: not a DyMN, MN or FMN, or not of this config.
    """
    tensors = {key: torch.as_tensor(value) for key, value in weights.items()}
    if config is None:
        config = infer_config({key: tuple(tensor.shape) for key, tensor in tensors.items()})
    _require_likely(config, tensors)
    model = build(config)
    load_weights(model, tensors)
    return model.eval()


def _require_likely(config: ModelConfig, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a config that describes far more than there is, before room is made for it."""
    needed = sum(math.prod(shape) for shape in state_shapes(config).values())
    held = sum(tensor.numel() for tensor in tensors.values())
    if needed > SLACK + 2 * held:
        raise ModelError(f"the config describes {needed:,} values, and the weights are {held:,}")


def _listed(keys: list[str]) -> str:
    """The first keys by name, the rest by number."""
    more = len(keys) - LISTED
    return ", ".join(keys[:LISTED]) + (f" and {more} more" if more > 0 else "")
