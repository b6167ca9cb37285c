"""From a checkpoint with the published key names to a model of ours: its header and its tensors.

A checkpoint says less than a model needs. The architecture follows from the shapes; what does not is given,
or read from the file's name where that is built as the published ones are:

    ..._hop_N, ..._mels_N     front end: a hop of N ms, N bands
    dymnNN_im, mnNN_im        ImageNet: Dy-Conv temperature 30, no names for the classes

or takes its usual value: temperature 1, the front end of the published models, for 527 classes the names of
AudioSet.

A frame head may be called `strong` instead of `strong_head`. Besides what `torch.save` wrote, a bare state
dict in a safetensors file is taken, in half precision as well.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dymn_cli.errors import ModelError, UsageError
from dymn_cli.frontend.melbank import FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.model.infer import infer_config, require_fit
from dymn_cli.model.layout import is_optional, is_unused
from dymn_cli.store.checkpoint import read_checkpoint
from dymn_cli.store.header import ModelHeader, Purpose
from dymn_cli.store.safetensors_file import read_safetensors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dymn_cli.model.config import ModelConfig

__all__ = ["convert"]

PUBLISHED = re.compile(r"(dymn|mn)\d\d(_replace_se)?_(?P<data>as|im)(_|$)")
VARIANT = re.compile(r"_(?P<what>hop|mels)_(?P<number>[1-9]\d{0,2})(?=_|$)")
FRAME_HEAD = re.compile(r"^strong\.")
IMAGENET_TEMPERATURE = 30.0


def convert(
    path: Path,
    *,
    name: str,
    temperature: float | None = None,
    front_end: FrontEndConfig | None = None,
    labels: Vocabulary | None = None,
    config: ModelConfig | None = None,
    purpose: Purpose | None = "tags",
) -> tuple[ModelHeader, dict[str, NDArray[np.float32]]]:
    """Read a checkpoint and find out what is needed to use it.

    Args:
        path: a file that `torch.save` wrote, or a safetensors one; nothing in it is executed.
        name: of the model.
        temperature: of the Dy-Conv attention, which checkpoints do not hold.
        front_end: what the network was trained to hear through.
        labels: names of its classes.
        config: its architecture, where shapes are not enough: published files of variants without Coordinate
            Attention still hold its convolutions, which are left out then. The number of classes is that
            of the file.
        purpose: "tags" needs names for the classes; "embeddings" makes some up; None is "tags" where there
            are names.

    Returns:
        The header, and published key → C-contiguous float32 array with the shapes of `state_shapes`; counts
        of BatchNorm updates are left out.

    Raises:
        WeightsMissingError: the file cannot be read.
        UnsafeWeightsError: it is no checkpoint, is damaged, or holds more than tensors.
        ModelError: it is no DyMN or MN, not of this config, or needs names for its classes.
        UsageError: not as many labels as classes, a temperature that is none, or a name that stands for a
            front end which there cannot be.
    """
    tensors = _named({key: tensor for key, tensor in _state_dict(path).items() if not is_optional(key)})
    try:
        told = _Told.by(path.stem)
    except UsageError as exc:
        raise UsageError(
            f"{path}: a log-mel as in its name there cannot be",
            hint="rename it; --mels and --hop-ms say which",
        ) from exc
    try:
        fitted = _config(config, tensors)
    except ModelError as exc:
        raise ModelError(f"{path}: {exc.message}", hint=exc.hint) from exc
    if temperature is None and config is None:
        temperature = told.temperature
    if temperature is not None:
        fitted = dataclasses.replace(fitted, temperature=float(temperature))
    names = labels or _usual_names(fitted.n_classes, told)
    if names is not None and len(names) != fitted.n_classes:
        raise UsageError(f"{path} has {fitted.n_classes} classes, not {len(names)} as the labels")
    if purpose is None:
        purpose = "embeddings" if names is None else "tags"
    if names is None and purpose == "tags":
        raise ModelError(
            f"{path} has {fitted.n_classes} classes, and nothing says what they are",
            hint="--labels FILE, with a name in each line; to embed, names are not needed",
        )
    header = ModelHeader(
        name=name,
        config=fitted,
        front_end=front_end or told.front_end,
        vocabulary=names or Vocabulary.from_names(f"output {n}" for n in range(fitted.n_classes)),
        purpose=purpose,
    )
    return header, {key: tensor for key, tensor in tensors.items() if not is_unused(key, fitted)}


def _state_dict(path: Path) -> dict[str, NDArray[np.float32]]:
    if path.suffix.lower() != ".safetensors":
        return read_checkpoint(path)
    metadata, tensors = read_safetensors(path)
    if "dymn.format" in metadata:
        raise ModelError(
            f"{path}: a model of dymn already",
            hint="-m takes it as it is, and dymn models import gives it a name",
        )
    return tensors


def _named(tensors: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The tensors with the usual name of the frame head."""
    if any(key.startswith("strong_head.") for key in tensors):
        return tensors
    return {FRAME_HEAD.sub("strong_head.", key): tensor for key, tensor in tensors.items()}


def _config(config: ModelConfig | None, tensors: Mapping[str, NDArray[np.float32]]) -> ModelConfig:
    """The architecture of a state dict, which has all its tensors and no others but unused ones."""
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    if config is None:
        return infer_config(shapes)
    classes = shapes.get("classifier.5.bias", ())
    if len(classes) == 1 and classes[0]:
        config = dataclasses.replace(config, n_classes=classes[0])
    require_fit(config, {key: shape for key, shape in shapes.items() if not is_unused(key, config)})
    return config


def _usual_names(n_classes: int, told: _Told) -> Vocabulary | None:
    audioset = Vocabulary.audioset()
    return audioset if n_classes == len(audioset) and not told.imagenet else None


@dataclass(frozen=True, slots=True)
class _Told:
    """What the name of a published file says of it; of any other file, the usual."""

    imagenet: bool = False
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)

    @classmethod
    def by(cls, stem: str) -> _Told:
        published = PUBLISHED.match(stem)
        if published is None:
            return cls()
        front_end = FrontEndConfig()
        for variant in VARIANT.finditer(stem):
            number = int(variant["number"])
            change = (
                {"n_hop": number * front_end.rate_hz // 1000}
                if variant["what"] == "hop"
                else {"n_mels": number}
            )
            front_end = dataclasses.replace(front_end, **change)
        return cls(published["data"] == "im", front_end)

    @property
    def temperature(self) -> float | None:
        return IMAGENET_TEMPERATURE if self.imagenet else None
