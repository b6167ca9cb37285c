"""Convert a checkpoint with the published key names to the header and tensors of a model.

The architecture follows from the shapes of the tensors. What a checkpoint does not hold is given, or read
from the file's name if that follows the published ones:

    ..._hop_N, ..._mels_N     front end: a hop of N ms, N bands
    dymnNN_im, mnNN_im        ImageNet: Dy-Conv temperature 30, no class names

or takes the default: temperature 1, the front end of the published models of its family, AudioSet's names for
527 classes, and for 447 of an FMN those of AudioSet Strong.

A frame head may be called `strong` instead of `strong_head`. Besides files of `torch.save`, a bare state dict
in a safetensors file is read, also in half precision.
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
from dymn_cli.model.infer import CLASSIFIER_KEY, FRAMEWISE_KEY, infer_config, require_fit
from dymn_cli.model.layout import is_optional, is_unused
from dymn_cli.store.checkpoint import read_checkpoint
from dymn_cli.store.header import ModelHeader, Purpose, usual_front_end
from dymn_cli.store.safetensors_file import read_safetensors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dymn_cli.model.config import ModelConfig

__all__ = ["convert"]

PUBLISHED = re.compile(r"(dymn|mn)\d\d(_replace_se)?_(?P<data>as|im)(_|$)")
VARIANT = re.compile(r"_(?P<what>hop|mels)_(?P<number>[1-9]\d{0,2})(?=_|$)")
WEAK = re.compile(r"fmn\d\d_weak(_|$)")
FRAME_HEAD = re.compile(r"^strong\.")
IMAGENET_TEMPERATURE = 30.0


def convert(
    path: Path,
    *,
    name: str,
    temperature: float | None = None,
    front_end: FrontEndConfig | None = None,
    hop_ms: int | None = None,
    n_mels: int | None = None,
    labels: Vocabulary | None = None,
    config: ModelConfig | None = None,
    purpose: Purpose | None = "tags",
) -> tuple[ModelHeader, dict[str, NDArray[np.float32]]]:
    """Read a checkpoint and complete it to a model.

    Args:
        path: a file that `torch.save` wrote, or a safetensors file; nothing in it is executed.
        name: of the model.
        temperature: of the Dy-Conv attention, which checkpoints do not hold.
        front_end: the front end that the network was trained with.
        hop_ms: the hop of its log-mel, where it has the other numbers of the published models of its family.
        n_mels: likewise the bands.
        labels: names of its classes.
        config: its architecture, if the shapes are not enough: published variants without Coordinate
            Attention still hold its convolutions, which are then left out. The number of classes is that
            of the file.
        purpose: "tags" needs class names; "embeddings" makes some up; None is "tags" if there are names.

    Returns:
        The header, and published key → C-contiguous float32 array with the shapes of `state_shapes`; without
        the counts of BatchNorm updates.

    Raises:
        WeightsMissingError: the file cannot be read.
        UnsafeWeightsError: it is not a checkpoint, is damaged, or holds more than tensors.
        ModelError: it is not a DyMN, MN or FMN, does not fit the config, is an FMN that was not trained on
            frames, or lacks class names.
        UsageError: not as many labels as classes, an impossible temperature, or an impossible front end in
            the file's name.
    """
    tensors = _named({key: tensor for key, tensor in _state_dict(path).items() if not is_optional(key)})
    try:
        defaults = _Defaults.of(path.stem)
    except UsageError as exc:
        raise UsageError(
            f"{path}: the log-mel that its name stands for is impossible",
            hint="rename it, and give --mels and --hop-ms",
        ) from exc
    try:
        fitted = _config(config, tensors)
    except ModelError as exc:
        raise ModelError(f"{path}: {exc.message}", hint=exc.hint) from exc
    if fitted.is_framewise:
        _require_trained_frames(path, tensors)
    if temperature is None and config is None and defaults.imagenet:
        temperature = IMAGENET_TEMPERATURE
    if temperature is not None:
        fitted = dataclasses.replace(fitted, temperature=float(temperature))
    known = Vocabulary.audioset_strong() if fitted.is_framewise else Vocabulary.audioset()
    names = labels
    if labels is None and fitted.n_classes == len(known) and not defaults.imagenet:
        names = known
    if names is not None and len(names) != fitted.n_classes:
        raise UsageError(f"{path} has {fitted.n_classes} classes, but there are {len(names)} labels")
    if purpose is None:
        purpose = "embeddings" if names is None else "tags"
    if names is None and purpose == "tags":
        raise ModelError(
            f"{path} has {fitted.n_classes} classes, but no names for them",
            hint="give --labels FILE, with one name a line; embeddings need no names",
        )
    header = ModelHeader(
        name=name,
        config=fitted,
        front_end=front_end or _front_end(fitted, defaults, hop_ms, n_mels),
        vocabulary=names or Vocabulary.from_names(f"output {n}" for n in range(fitted.n_classes)),
        purpose=purpose,
    )
    return header, {key: tensor for key, tensor in tensors.items() if not is_unused(key, fitted)}


def _require_trained_frames(path: Path, tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Refuse an FMN that was trained on whole clips alone: what its frame head says means nothing."""
    strong, weak = (tensors.get(f"{head}.bias") for head in ("strong_head", "weak_head"))
    others = strong is not None and weak is not None and strong.shape != weak.shape
    if others or WEAK.match(path.stem):
        raise ModelError(
            f"{path}: trained on whole clips (AudioSet Weak), so that its frame head has learned nothing",
            hint="use the model that was trained on frames afterwards: fmn10_strong.pt, for one",
        )


def _front_end(
    config: ModelConfig, defaults: _Defaults, hop_ms: int | None, n_mels: int | None
) -> FrontEndConfig:
    """What is asked for, else what the file's name says, else the usual one of the family."""
    usual = usual_front_end(config)
    if hop_ms is None and n_mels is None:
        return usual if config.is_framewise else defaults.front_end
    n_hop = usual.n_hop if hop_ms is None else hop_ms * usual.rate_hz // 1000
    return dataclasses.replace(usual, n_hop=n_hop, n_mels=usual.n_mels if n_mels is None else n_mels)


def _state_dict(path: Path) -> dict[str, NDArray[np.float32]]:
    if path.suffix.lower() != ".safetensors":
        return read_checkpoint(path)
    metadata, tensors = read_safetensors(path)
    if "dymn.format" in metadata:
        raise ModelError(
            f"{path}: already a dymn model",
            hint="-m takes it as it is, and dymn models import gives it a name",
        )
    return tensors


def _named(tensors: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The tensors, the frame head under its usual name."""
    if any(key.startswith("strong_head.") for key in tensors):
        return tensors
    return {FRAME_HEAD.sub("strong_head.", key): tensor for key, tensor in tensors.items()}


def _config(config: ModelConfig | None, tensors: Mapping[str, NDArray[np.float32]]) -> ModelConfig:
    """The architecture of a state dict, which must hold exactly its tensors, apart from unused ones."""
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    if config is None:
        return infer_config(shapes)
    classes = shapes.get(FRAMEWISE_KEY if config.is_framewise else CLASSIFIER_KEY, ())[:1]
    if len(classes) == 1 and classes[0]:
        config = dataclasses.replace(config, n_classes=classes[0])
    require_fit(config, {key: shape for key, shape in shapes.items() if not is_unused(key, config)})
    return config


@dataclass(frozen=True, slots=True)
class _Defaults:
    """The defaults for a file: what its name says, if it is that of a published file."""

    imagenet: bool = False
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)

    @classmethod
    def of(cls, stem: str) -> _Defaults:
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
