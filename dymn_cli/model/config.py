"""One frozen dataclass with every knob of the paper's study, and Table I as data. Needs no torch.

Everything else that knows the architecture (the PyTorch modules, the ONNX graph, the counts of
parameters and multiply-accumulates, the folding of weights) reads it from `ModelConfig.blocks`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from dymn_cli.errors import UsageError
from dymn_cli.values import require_number

__all__ = [
    "ARCHITECTURES",
    "ATTENTIONS",
    "BLOCK_MASKS",
    "N_BLOCKS",
    "TABLE_I",
    "Activation",
    "Attention",
    "Block",
    "BlockShape",
    "Ca",
    "ContextSharing",
    "Family",
    "ModelConfig",
    "Position",
    "StaticAttention",
    "TemperatureSchedule",
    "architecture_of",
    "round8",
]

Family = Literal["dymn", "mn", "fmn"]
Activation = Literal["relu", "hardswish"]
Position = Literal["expand", "depthwise", "project"]
Ca = Literal["both", "time", "frequency", "none"]
Attention = Literal[
    "none", "squeeze-excitation", "coordinate", "triplet", "srm", "grn", "cbam", "global-context"
]
StaticAttention = Literal["table-i"] | Attention
ContextSharing = Literal["shared", "per-component", "separate-sequences", "concatenated"]

POSITIONS: tuple[Position, ...] = get_args(Position)
ATTENTIONS: tuple[StaticAttention, ...] = ("table-i", *get_args(Attention))
STEM_CHANNELS = 16
STEM_STRIDE = 2
HEAD_CHANNELS = 1280
SQUEEZE_RATIO = 4  # of the attention in static blocks
SQUEEZED: tuple[Attention, ...] = ("squeeze-excitation", "coordinate", "cbam", "global-context")
UNMENTIONED = {"frame_head": False, "static_attention": "table-i", "context_sharing": "shared"}
LARGEST = 1 << 24  # no count in a network comes near it; a damaged file may hold any
FRAMEWISE_STRIDES = (1, 2, 2, 1, 1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 2)  # of the blocks of an FMN, in frequency
FRAMEWISE_TIME_STRIDES = tuple(2 if index == 1 else 1 for index in range(15))
LAST_EXPANSION = 6  # the last convolution has six times the channels of the last block


def round8(channels: float) -> int:
    """Round a channel count to the nearest multiple of 8, at least 8 and at least 90 % of it."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


@dataclass(frozen=True, slots=True)
class BlockShape:
    """One row of Table I at width 1: an inverted residual block of MobileNetV3-Large."""

    in_channels: int
    kernel: int
    expanded: int
    out_channels: int
    activation: Activation
    stride: int
    squeeze_excite: bool  # in MN; in the paper's DyMN "replace SE" these are the dynamic ones


TABLE_I: tuple[BlockShape, ...] = (
    BlockShape(16, 3, 16, 16, "relu", 1, squeeze_excite=False),
    BlockShape(16, 3, 64, 24, "relu", 2, squeeze_excite=False),
    BlockShape(24, 3, 72, 24, "relu", 1, squeeze_excite=False),
    BlockShape(24, 5, 72, 40, "relu", 2, squeeze_excite=True),
    BlockShape(40, 5, 120, 40, "relu", 1, squeeze_excite=True),
    BlockShape(40, 5, 120, 40, "relu", 1, squeeze_excite=True),
    BlockShape(40, 3, 240, 80, "hardswish", 2, squeeze_excite=False),
    BlockShape(80, 3, 200, 80, "hardswish", 1, squeeze_excite=False),
    BlockShape(80, 3, 184, 80, "hardswish", 1, squeeze_excite=False),
    BlockShape(80, 3, 184, 80, "hardswish", 1, squeeze_excite=False),
    BlockShape(80, 3, 480, 112, "hardswish", 1, squeeze_excite=True),
    BlockShape(112, 3, 672, 112, "hardswish", 1, squeeze_excite=True),
    BlockShape(112, 5, 672, 160, "hardswish", 2, squeeze_excite=True),
    BlockShape(160, 5, 960, 160, "hardswish", 1, squeeze_excite=True),
    BlockShape(160, 5, 960, 160, "hardswish", 1, squeeze_excite=True),
)
N_BLOCKS = len(TABLE_I)
LAST_CHANNELS = TABLE_I[-1].out_channels

BLOCK_MASKS: dict[str, tuple[bool, ...]] = {
    "all": (True,) * N_BLOCKS,
    "none": (False,) * N_BLOCKS,
    "replace-se": tuple(row.squeeze_excite for row in TABLE_I),
    "first-5": tuple(n < 5 for n in range(N_BLOCKS)),
    "mid-5": tuple(5 <= n < 10 for n in range(N_BLOCKS)),
    "last-5": tuple(n >= 10 for n in range(N_BLOCKS)),
}
"""The sets of dynamic blocks that the paper studies, by name."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a given model: channel counts at its width, and what in it is dynamic.

    `dynamic` blocks have a context of `context` channels (H in the paper), and `context_values` are in h,
    usually as many; static ones have 0. `squeeze` is
    the width inside an `attention` that has two layers, else 0. `stride` is that of frequency, and of time
    where `time_stride` does not differ.
    """

    index: int
    in_channels: int
    kernel: int
    expanded: int
    out_channels: int
    activation: Activation
    stride: int
    time_stride: int
    attention: Attention
    squeeze: int
    dynamic: bool
    context: int
    context_values: int

    @property
    def has_expansion(self) -> bool:
        """Whether a 1×1 convolution widens the input: not where it has that width already."""
        return self.expanded != self.in_channels

    @property
    def has_residual(self) -> bool:
        """Whether the input is added to the output: where shapes agree."""
        return self.stride == self.time_stride == 1 and self.in_channels == self.out_channels


@dataclass(frozen=True, slots=True)
class TemperatureSchedule:
    """Temperature of the softmax over the K kernels, linear from `start` to `end` (Section III-B).

    A high temperature at first trains all kernels; it is 1 from `epochs` on.

    Raises:
        UsageError: a temperature that is not positive.
    """

    start: float = 30.0
    end: float = 1.0
    epochs: int = 30

    def __post_init__(self) -> None:
        for value in (self.start, self.end):
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"a temperature of {value:g} is not positive")

    def at(self, epoch: float) -> float:
        """Temperature at an epoch, counted from 0 (fractions allowed)."""
        if self.epochs <= 0 or epoch >= self.epochs:
            return self.end
        return self.start + (self.end - self.start) * max(epoch, 0.0) / self.epochs


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """An architecture: DyMN as in Table I and Section III of the paper, or one of its static siblings.

    Args:
        family: "dymn"; "mn" (MobileNetV3-Large with squeeze-and-excitation); or "fmn", the MN of EfficientSED
            (arXiv 2503.11373) that keeps time at 40 ms and scores its steps alone: one linear layer does, and
            a clip has the highest score of its steps.
        width: α, the multiplier of every channel count; 0.4 / 1.0 / 2.0 are DyMN-S / M / L.
        n_classes: outputs of the classifier.
        dynamic_blocks: which of the 15 blocks are dynamic (`BLOCK_MASKS` has the paper's sets).
        dy_conv: the convolutions of a block that mix K kernels; empty switches Dy-Conv off.
        dy_relu: the convolutions that a Dy-ReLU follows; empty switches it off.
        coordinate_attention: over both axes, one, or none.
        kernels: K, kernels that a Dy-Conv mixes.
        mappings: M, linear mappings of a Dy-ReLU.
        context_ratio: r; the context has H = expanded / r channels, within the two bounds.
        context_min: H_min at width 1; scaled with the width.
        context_max: H_max at width 1; likewise.
        temperature: of the softmax over kernels at inference: 1 for trained AudioSet models, 30 for
            the published ImageNet ones.
        static_attention: of MN, before the last convolution of a block: "table-i" is squeeze-and-excitation
            in the blocks that have it in Table I; any other is in all 15 blocks (Table VIII).
        context_sharing: of DyMN, where h comes from (Table XII): "shared" by all dynamic components of a
            block; "per-component", each after the expansion makes its own; "separate-sequences", frequency
            and time have weights of their own; "concatenated", h is the means of the two, side by side.
        dropout: before the last linear layer, in training.
        frame_head: whether two linear layers of its own score each step of time; without them, the classifier
            does. Not for "fmn", which has nothing else.

    Raises:
        UsageError: a value that describes no network.
    """

    family: Family = "dymn"
    width: float = 1.0
    n_classes: int = 527
    dynamic_blocks: tuple[bool, ...] = BLOCK_MASKS["all"]
    dy_conv: tuple[Position, ...] = POSITIONS
    dy_relu: tuple[Position, ...] = ("depthwise",)
    coordinate_attention: Ca = "both"
    kernels: int = 4
    mappings: int = 2
    context_ratio: int = 4
    context_min: int = 32
    context_max: int = 128
    temperature: float = 1.0
    dropout: float = 0.2
    frame_head: bool = False
    static_attention: StaticAttention = "table-i"
    context_sharing: ContextSharing = "shared"

    def __post_init__(self) -> None:
        def require(holds: bool, message: str) -> None:
            if not holds:
                raise UsageError(f"model config: {message}")

        require(self.family in get_args(Family), f"unknown family {self.family!r}: dymn, mn or fmn")
        for name in ("width", "temperature", "dropout"):
            require_number(f"model config: {name}", getattr(self, name))
        require(math.isfinite(self.width) and 0 < self.width <= 16, f"width {self.width} is not in (0, 16]")
        require(len(self.dynamic_blocks) == N_BLOCKS, f"dynamic_blocks needs {N_BLOCKS} values")
        object.__setattr__(self, "dynamic_blocks", tuple(bool(dynamic) for dynamic in self.dynamic_blocks))
        for name in ("dy_conv", "dy_relu"):
            positions = getattr(self, name)
            # A bare string would be taken letter by letter.
            require(not isinstance(positions, str), f"{name} needs a tuple of positions, not {positions!r}")
            unknown = sorted(str(p) for p in set(positions) - set(POSITIONS))
            require(not unknown, f"{name}: unknown position {', '.join(unknown)}")
            # In the order of use and each once, so that equal networks have equal configs.
            object.__setattr__(self, name, tuple(p for p in POSITIONS if p in positions))
        require(self.coordinate_attention in get_args(Ca), f"unknown attention {self.coordinate_attention!r}")
        for name in ("n_classes", "kernels", "mappings", "context_ratio", "context_min", "context_max"):
            value = getattr(self, name)
            require(type(value) is int and value >= 1, f"{name} must be a whole number from 1, not {value!r}")
            require(value <= LARGEST, f"{name} is above {LARGEST:,}")
        require(self.context_min <= self.context_max, "context_min is above context_max")
        require(math.isfinite(self.temperature) and self.temperature > 0, "temperature must be positive")
        require(0 <= self.dropout < 1, "dropout is not in [0, 1)")
        for name, known in (("static_attention", ATTENTIONS), ("context_sharing", get_args(ContextSharing))):
            value = getattr(self, name)
            require(value in known, f"unknown {name} {value!r}: {', '.join(known)}")
        require(
            self.family == "mn" or self.static_attention == "table-i",
            "static_attention is for family mn; in a DyMN static blocks have none",
        )
        require(
            self.family == "dymn" or self.context_sharing == "shared",
            "context_sharing is for family dymn; an MN has no context",
        )
        require(
            isinstance(self.frame_head, bool), f"frame_head must be true or false, not {self.frame_head!r}"
        )
        require(
            not (self.is_framewise and self.frame_head),
            "frame_head is for families dymn and mn; an fmn scores nothing but its steps",
        )

    @property
    def is_framewise(self) -> bool:
        """Whether it scores steps of time first, and a clip by the highest of them."""
        return self.family == "fmn"

    def require_trainable(self, name: str) -> None:
        """Refuse a network that dymn does not train.

        Raises:
            UsageError: an FMN, which has no classifier of clips.
        """
        if self.is_framewise:
            raise UsageError(
                f"{name} scores steps of time alone (fmn): it has no classifier to train",
                hint="start from a DyMN or MN; dymn models list shows which there are",
            )

    @property
    def is_dynamic(self) -> bool:
        """Whether any block of it is dynamic."""
        return self.family == "dymn" and any(self.dynamic_blocks)

    @property
    def has_context(self) -> bool:
        """Whether a dynamic block needs a context: it does while any component is on."""
        return bool(self.dy_conv) or bool(self.dy_relu) or self.coordinate_attention != "none"

    @property
    def has_own_contexts(self) -> bool:
        """Whether each dynamic component after the expansion makes a context of its own."""
        return self.context_sharing == "per-component"

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The 15 blocks at this width, in order."""
        low, high = round8(self.context_min * self.width), round8(self.context_max * self.width)
        blocks = []
        for index, row in enumerate(TABLE_I):
            expanded = round8(row.expanded * self.width)
            dynamic = self.family == "dymn" and self.dynamic_blocks[index]
            context = 0
            if dynamic and self.has_context:
                context = min(max(round8(expanded // self.context_ratio), low), high)
            attention = self._attention(row)
            blocks.append(
                Block(
                    index=index,
                    in_channels=round8(row.in_channels * self.width),
                    kernel=row.kernel,
                    expanded=expanded,
                    out_channels=round8(row.out_channels * self.width),
                    activation=row.activation,
                    stride=FRAMEWISE_STRIDES[index] if self.is_framewise else row.stride,
                    time_stride=FRAMEWISE_TIME_STRIDES[index] if self.is_framewise else row.stride,
                    attention=attention,
                    squeeze=round8(expanded // SQUEEZE_RATIO) if attention in SQUEEZED else 0,
                    dynamic=dynamic,
                    context=context,
                    context_values=context * (2 if self.context_sharing == "concatenated" else 1),
                )
            )
        return tuple(blocks)

    def _attention(self, row: BlockShape) -> Attention:
        """What a block has before its last convolution."""
        if self.static_attention != "table-i":
            return self.static_attention
        return "squeeze-excitation" if self.family != "dymn" and row.squeeze_excite else "none"

    @property
    def stem_channels(self) -> int:
        """Channels after the first convolution."""
        return round8(STEM_CHANNELS * self.width)

    @property
    def embedding_size(self) -> int:
        """Channels of the last convolution, whose mean over frequency and time is the embedding."""
        return LAST_EXPANSION * self.blocks[-1].out_channels

    @property
    def head_channels(self) -> int:
        """Units between the embedding and the logits."""
        return round8(HEAD_CHANNELS * self.width)

    @property
    def step_frames(self) -> int:
        """Log-mel frames from one step of the last feature map to the next: 32, or 4 in an FMN."""
        return STEM_STRIDE * math.prod(block.time_stride for block in self.blocks)

    def n_steps(self, n_frames: int) -> int:
        """Steps of the last feature map for so many log-mel frames; step n is centred on frame 32 n (4 n)."""
        return -(-n_frames // self.step_frames)

    def with_classes(self, n_classes: int) -> ModelConfig:
        """The same backbone with a head for another task; nothing has trained a frame head for it yet."""
        return dataclasses.replace(self, n_classes=n_classes, frame_head=False)

    def to_json(self) -> str:
        """As one line of JSON: goes into the metadata of a weights file.

        Later fields are not mentioned where they say nothing new: a file is what it always was.
        """
        fields = dataclasses.asdict(self)
        fields = {key: value for key, value in fields.items() if UNMENTIONED.get(key) != value}
        return json.dumps(fields, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """Read what `to_json` wrote; fields that are missing take their defaults.

        Raises:
            UsageError: no JSON object, an unknown field, or a value that describes no network.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            if not isinstance(fields, dict):
                raise UsageError("model config: not a JSON object")
            known = {field.name for field in dataclasses.fields(cls)}
            unknown = set(fields) - known
            if unknown:
                raise UsageError(f"model config: unknown field {', '.join(sorted(unknown))}")
            lists: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
            return cls(**lists)
        except (TypeError, ValueError) as exc:
            raise UsageError(f"model config: not readable: {exc}") from exc


ARCHITECTURES: dict[str, ModelConfig] = {
    "dymn04": ModelConfig(width=0.4),
    "dymn10": ModelConfig(width=1.0),
    "dymn20": ModelConfig(width=2.0),
    "dymn04_replace_se": ModelConfig(width=0.4, dynamic_blocks=BLOCK_MASKS["replace-se"]),
    **{
        f"mn{round(10 * width):02d}": ModelConfig("mn", width)
        for width in (0.1, 0.2, 0.4, 0.5, 1.0, 2.0, 3.0, 4.0)
    },
    **{
        f"fmn{round(10 * width):02d}": ModelConfig("fmn", width, n_classes=447)
        for width in (0.4, 0.6, 1.0, 2.0, 3.0)
    },
}
"""The architectures of the published checkpoints, by name; the package ships a graph for each."""


def architecture_of(config: ModelConfig) -> str | None:
    """Name in `ARCHITECTURES` of the network that a config describes, or None.

    The number of classes, temperature, dropout and frame head do not matter: they do not change the graph.
    """
    plain = dataclasses.replace(config.with_classes(527), temperature=1.0, dropout=0.2)
    return next((name for name, known in ARCHITECTURES.items() if known.with_classes(527) == plain), None)
