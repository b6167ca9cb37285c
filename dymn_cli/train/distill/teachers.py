"""Networks that a student learns from: models of the store, one or an ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dymn_cli.errors import UsageError
from dymn_cli.frontend import FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.model.backbone import Backbone
from dymn_cli.model.build import restore
from dymn_cli.model.config import ModelConfig
from dymn_cli.store.header import ModelHeader
from dymn_cli.store.registry import resolve
from dymn_cli.store.weights import read_weights

__all__ = ["LiveTeacher", "LoadedModel", "TeacherOutput", "load_model", "matching_maps", "stage_channels"]


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model of the store as a PyTorch module, with what stands in its file."""

    header: ModelHeader
    sha256: str
    network: Backbone


def load_model(name_or_path: str, device: torch.device) -> LoadedModel:
    """Load a model by name or path, in evaluation mode.

    Raises:
        UsageError: an unknown name, or an ONNX file, which has no gradients nor feature maps.
        ModelError: it is missing, damaged or no model of ours.
    """
    found = resolve(name_or_path)
    if name_or_path.endswith(".onnx"):
        raise UsageError(
            f"{name_or_path}: an ONNX file cannot be trained with", hint="give its .safetensors file"
        )
    weights = read_weights(found)
    network = restore(weights.tensors, weights.header.config).to(device).requires_grad_(False)
    return LoadedModel(weights.header, weights.sha256, network)


@dataclass(frozen=True, slots=True, eq=False)
class TeacherOutput:
    """Output of the teachers for a batch.

    Args:
        logits: (n, n_classes), the mean over the teachers.
        maps: the 17 feature maps of the teacher that gives hints, where they were asked for.
    """

    logits: Tensor
    maps: list[Tensor] | None


class LiveTeacher:
    """Teachers that run on the student's input.

    Args:
        models: one or more, with the same classes.

    Raises:
        UsageError: teachers of different classes.
    """

    def __init__(self, models: Sequence[LoadedModel]) -> None:
        self.models = tuple(models)
        first = self.models[0]
        for other in self.models[1:]:
            if other.header.vocabulary.names != first.header.vocabulary.names:
                raise UsageError(
                    f"the teachers {first.header.name} and {other.header.name} have different classes",
                    hint="an ensemble needs the same ones in the same order",
                )

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes."""
        return self.models[0].header.vocabulary

    @property
    def front_ends(self) -> tuple[FrontEndConfig, ...]:
        """Front ends of the teachers, each once."""
        return tuple(dict.fromkeys(model.header.front_end for model in self.models))

    def hinting(self, config: ModelConfig, front_end: FrontEndConfig) -> LoadedModel | None:
        """The teacher whose feature maps agree most with those of a student; None where none does."""
        fitting = [
            (len(matching_maps(config, model.header.config)), -number, model)
            for number, model in enumerate(self.models)
            if model.header.front_end == front_end
        ]
        best = max(fitting, key=lambda entry: entry[:2], default=None)
        return None if best is None or not best[0] else best[2]

    @torch.no_grad()
    def predict(
        self, mels: Mapping[FrontEndConfig, Tensor], *, hinting: LoadedModel | None = None
    ) -> TeacherOutput:
        """Mean logits of all teachers.

        Args:
            mels: (n, 1, n_mels, n_frames) for each front end of `front_ends`.
            hinting: whose feature maps are wanted.
        """
        maps: list[Tensor] | None = None
        logits = []
        for model in self.models:
            mel = mels[model.header.front_end]
            if model is hinting:
                maps = model.network.feature_maps(mel)
                logits.append(model.network.forward_head(maps[-1])[0])
            else:
                logits.append(model.network(mel)[0])
        return TeacherOutput(torch.stack([one.float() for one in logits]).mean(dim=0), maps)


def stage_channels(config: ModelConfig) -> tuple[int, ...]:
    """Channels of the 17 feature maps of a network."""
    return (config.stem_channels, *(block.out_channels for block in config.blocks), config.embedding_size)


def matching_maps(one: ModelConfig, other: ModelConfig) -> tuple[int, ...]:
    """Which of the 17 feature maps of two networks have one shape."""
    channels = zip(stage_channels(one), stage_channels(other), strict=True)
    return tuple(number for number, (a, b) in enumerate(channels) if a == b)
