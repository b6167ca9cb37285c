"""Which architecture a state dict belongs to, from its key names and shapes alone. Needs no torch.

    family, number of classes, K,    read off directly
    M, masks, frame head
    width α                          the roundest number whose rounded channel counts all agree
    r, H_min, H_max                  the paper's values where they explain the context sizes, else others

What a file does not show takes the default of `ModelConfig`: the Dy-Conv temperature and the dropout.
Several configs can describe one network (channel counts are rounded to 8); any of them gives exactly
the tensors of the file, and that is checked at the end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dymn_cli.errors import ModelError, UsageError
from dymn_cli.model.config import (
    HEAD_CHANNELS,
    LAST_CHANNELS,
    LAST_EXPANSION,
    N_BLOCKS,
    POSITIONS,
    Attention,
    Ca,
    ContextSharing,
    Family,
    ModelConfig,
    Position,
    StaticAttention,
    round8,
)
from dymn_cli.model.layout import ROLES, is_optional, is_unused, state_shapes

__all__ = ["CLASSIFIER_KEY", "FAMILY_KEYS", "FRAMEWISE_KEY", "infer_config", "require_fit"]

Shapes = Mapping[str, tuple[int, ...]]

FAMILY_KEYS: dict[str, Family] = {"in_c.0.weight": "dymn", "features.0.0.weight": "mn"}
"""The first convolution of each family: the key that tells them apart. An FMN has that of an MN."""

ATTENTION_KEYS: dict[str, Attention] = {
    "conc_se_layers.0.fc1.weight": "squeeze-excitation",
    "conv_f.weight": "coordinate",
    "gates.0.conv.weight": "triplet",
    "style.weight": "srm",
    "gamma": "grn",
    "spatial.conv.weight": "cbam",
    "mask.weight": "global-context",
}
"""A tensor of each attention that an MN may have in all blocks."""

FRAME_HEAD_KEY = "strong_head.0.weight"
CLASSIFIER_KEY = "classifier.5.weight"
FRAMEWISE_KEY = "strong_head.weight"  # instead of a classifier: it tells an FMN from an MN
LAST_KEY = "features.16.1.running_mean"
CONTEXT_RATIOS = (4, 8, 16, 2, 1, *(r for r in range(3, 65) if r not in (4, 8, 16)))
CONTEXT_MINIMA = (32, 16, 64, 8, 4, 2, 1)
CONTEXT_MAXIMA = (128, 64, 256, *(2**n for n in range(9, 24)))
NO_LIMIT = 1 << 60
HINT = "dymn reads state dicts with the key names of the published EfficientAT models"


def infer_config(shapes: Mapping[str, Sequence[int]]) -> ModelConfig:
    """Find the config of a DyMN, MN or FMN from the shape of each tensor of its state dict.

    A published file of a variant without Coordinate Attention still holds the convolutions for it and
    so looks like one with: give `load_weights` a model of the right config there.

    Args:
        shapes: key → shape, for all tensors of the file.

    Raises:
        ModelError: none of them, or tensors that do not fit together.
    """
    known: Shapes = {key: tuple(shape) for key, shape in shapes.items()}
    family = _family(known)
    n_classes = _size(known, FRAMEWISE_KEY if family == "fmn" else CLASSIFIER_KEY, 0)
    try:
        base = ModelConfig(family=family, n_classes=n_classes, frame_head=FRAME_HEAD_KEY in known)
        if family == "dymn":
            base = _with_dynamic_parts(base, known)
        elif family == "mn":
            base = dataclasses.replace(base, static_attention=_static_attention(known))
        config = _with_width(base, known)
        if config.is_dynamic and config.has_context:
            config = _with_context_bounds(config, known)
    except UsageError as exc:
        raise ModelError(f"these weights describe no network: {exc}", hint=HINT) from exc
    require_fit(config, known)
    return config


def _family(shapes: Shapes) -> Family:
    found = [family for key, family in FAMILY_KEYS.items() if key in shapes]
    if len(found) != 1:
        raise ModelError(
            f"these weights are no DyMN or MN: {len(shapes)} tensors, and the first convolution "
            f"({' or '.join(FAMILY_KEYS)}) is not among them",
            hint=HINT,
        )
    is_framewise = FRAMEWISE_KEY in shapes and CLASSIFIER_KEY not in shapes
    return "fmn" if found[0] == "mn" and is_framewise else found[0]


def _size(shapes: Shapes, key: str, axis: int) -> int:
    """Size of a tensor that must be there along one axis."""
    if key not in shapes:
        raise ModelError(f"these weights are incomplete: {key} is missing", hint=HINT)
    shape = shapes[key]
    if axis >= len(shape):
        raise ModelError(f"these weights do not fit: {key} has shape {shape}", hint=HINT)
    return shape[axis]


def _with_dynamic_parts(config: ModelConfig, shapes: Shapes) -> ModelConfig:
    """Which blocks and which of their components are dynamic, with K and M."""
    mask = tuple(any(key.startswith(f"layers.{n}.depth_conv.") for key in shapes) for n in range(N_BLOCKS))
    banks = _by_position(shapes, "conv.residuals.0.weight")
    mappings = _by_position(shapes, "act.lambdas")
    frequency = any(key.endswith(".context_gen.conv_f.weight") for key in shapes)
    time = any(key.endswith(".context_gen.conv_t.weight") for key in shapes)
    attention: dict[tuple[bool, bool], Ca] = {
        (True, True): "both",
        (True, False): "frequency",
        (False, True): "time",
        (False, False): "none",
    }
    if not any(mask):
        return dataclasses.replace(config, dynamic_blocks=mask)
    return dataclasses.replace(
        config,
        dynamic_blocks=mask,
        dy_conv=tuple(banks),
        dy_relu=tuple(mappings),
        coordinate_attention=attention[frequency, time],
        kernels=_size(shapes, next(iter(banks.values())), 0) if banks else config.kernels,
        mappings=_size(shapes, next(iter(mappings.values())), 0) // 2 if mappings else config.mappings,
        context_sharing=_context_sharing(shapes),
    )


def _static_attention(shapes: Shapes) -> StaticAttention:
    """Which attention the blocks of an MN have; the first has none in Table I."""
    for key, kind in ATTENTION_KEYS.items():
        if f"features.1.block.1.{key}" in shapes:
            return kind
    return "table-i" if any(".conc_se_layers." in key for key in shapes) else "none"


def _context_sharing(shapes: Shapes) -> ContextSharing:
    """Where the contexts of a DyMN come from."""
    if any(key.endswith(".own_context.weight") for key in shapes):
        return "per-component"
    if any(key.endswith(".context_gen.time_conv.weight") for key in shapes):
        return "separate-sequences"
    readers = (*_by_position(shapes, "conv.residuals.0.weight").values(),)
    readers += (*_by_position(shapes, "act.coef_net.0.weight").values(),)
    for key in readers:
        joint = f"layers.{key.split('.')[1]}.context_gen.joint_conv.weight"
        if joint in shapes and _size(shapes, key, 1) == 2 * _size(shapes, joint, 0):
            return "concatenated"
    return "shared"


def _by_position(shapes: Shapes, suffix: str) -> dict[Position, str]:
    """For each position of a block at which some block has such a tensor, the key of one of them."""
    found: dict[Position, str] = {}
    for position in POSITIONS:
        keys = (f"layers.{n}.{ROLES[position]}_{suffix}" for n in range(N_BLOCKS))
        key = next((key for key in keys if key in shapes), None)
        if key is not None:
            found[position] = key
    return found


def _with_width(config: ModelConfig, shapes: Shapes) -> ModelConfig:
    """The first width whose channel counts are those of all normalisations outside the contexts."""
    if config.is_framewise:
        key, share, channels, what = (
            LAST_KEY,
            LAST_EXPANSION,
            LAST_CHANNELS,
            "channels of the last convolution",
        )
    else:
        key, share, channels, what = "classifier.2.weight", 1, HEAD_CHANNELS, "units in the head"
    size = _size(shapes, key, 0)
    doubts = []
    for width in _widths(size // share, channels):
        candidate = dataclasses.replace(config, width=width)
        norms = {key: s for key, s in state_shapes(candidate).items() if _shows_width(key)}
        mismatch = _mismatch(norms, shapes)
        if mismatch is None:
            return candidate
        doubts.append(f"at width {width:g}, {mismatch}")
    doubts.append(f"no width gives {size} {what}")
    raise ModelError(f"these weights fit no width of Table I: {doubts[0]}", hint=HINT)


def _shows_width(key: str) -> bool:
    return key.endswith(".running_mean") and ".context_gen." not in key


def _widths(size: int, channels: int) -> Iterator[float]:
    """Widths at which so many channels are rounded to this size, those with the fewest decimals first."""
    for decimals in range(5):
        scale = 10**decimals
        low, high = (size - 8) * scale // channels, (size + 8) * scale // channels + 1
        for n in range(max(low, 1), high + 1):
            width = n / scale
            if width <= 16 and round8(channels * width) == size:
                yield width


def _with_context_bounds(config: ModelConfig, shapes: Shapes) -> ModelConfig:
    """The ratio and the bounds that explain the context sizes of all dynamic blocks."""
    dynamic = [block for block in config.blocks if block.dynamic]
    sizes = [_size(shapes, f"layers.{b.index}.context_gen.joint_conv.weight", 0) for b in dynamic]
    low, high = min(sizes), max(sizes)
    for ratio in CONTEXT_RATIOS:
        free = [round8(block.expanded // ratio) for block in dynamic]
        clips_low = any(size > wanted for size, wanted in zip(sizes, free, strict=True))
        clips_high = any(size < wanted for size, wanted in zip(sizes, free, strict=True))
        if sizes != [min(max(wanted, low), high) for wanted in free]:
            continue
        # A bound that clips nothing may be any value on its side of the sizes: the paper's, if it can.
        context_min = _bound(CONTEXT_MINIMA, config.width, low, low if clips_low else 0, low)
        context_max = _bound(CONTEXT_MAXIMA, config.width, high, high, high if clips_high else NO_LIMIT)
        if context_min is not None and context_max is not None:
            # Where both bounds round to one size, the usual maximum may lie below the minimum.
            context_max = max(context_min, context_max)
            return dataclasses.replace(
                config, context_ratio=ratio, context_min=context_min, context_max=context_max
            )
    raise ModelError(f"these weights fit no context ratio: context sizes {sizes}", hint=HINT)


def _bound(usual: Iterable[int], width: float, size: int, lowest: int, highest: int) -> int | None:
    """A bound at width 1 that lies within two limits once scaled and rounded: a usual one if it can."""
    near = round(size / width)
    candidates = (*usual, near, near - 1, near + 1)
    return next((n for n in candidates if n >= 1 and lowest <= round8(n * width) <= highest), None)


def _mismatch(expected: Shapes, shapes: Shapes) -> str | None:
    """Where a file first departs from the tensors that it should have, in words, or None."""
    for key, shape in expected.items():
        if key not in shapes and not is_optional(key):
            return f"{key} is missing"
        if key in shapes and shapes[key] != shape:
            return f"{key} has shape {shapes[key]} instead of {shape}"
    return None


def require_fit(config: ModelConfig, shapes: Shapes) -> None:
    """Raise unless a state dict has exactly the tensors of a config; counts of updates may be missing.

    Raises:
        ModelError: a tensor that is missing, of another shape, or of no use.
    """
    expected = state_shapes(config)
    mismatch = _mismatch(expected, shapes)
    if mismatch is not None:
        raise ModelError(f"these weights do not fit together: {mismatch}", hint=HINT)
    unknown = next((key for key in shapes if key not in expected and not is_unused(key, config)), None)
    if unknown is not None:
        raise ModelError(f"these weights hold what no such network has: {unknown}", hint=HINT)
