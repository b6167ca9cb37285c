"""The student before its first step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from dymn_cli.errors import UsageError
from dymn_cli.frontend import FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.model.backbone import Backbone
from dymn_cli.model.build import build
from dymn_cli.model.config import ModelConfig
from dymn_cli.store.header import ModelHeader
from dymn_cli.train.distill.teachers import (
    LiveTeacher,
    LoadedModel,
    load_model,
    matching_maps,
    stage_channels,
)

__all__ = ["Student", "can_train_blocks", "fit_classifier", "fit_stages", "initial_student"]


@dataclass(frozen=True, slots=True, eq=False)
class Student:
    """A student before its first step.

    Args:
        network: in training mode.
        header: with an empty name.
        began_as: "random", or the hash of a model.
    """

    network: Backbone
    header: ModelHeader
    began_as: str


def initial_student(
    config: ModelConfig | None,
    init: str,
    vocabulary: Vocabulary,
    *,
    seed: int,
    teacher: LoadedModel | None,
    frames: bool = False,
    temperature: float = 1.0,
) -> Student:
    """Make a random student, or load a trained one.

    A model that only embeds, as those trained on ImageNet, scores other things than sounds: its last layer
    is drawn anew.

    Args:
        config: the architecture; None for that of `init`.
        init: "random", or a model by name or path.
        vocabulary: the classes it learns.
        seed: of random weights.
        teacher: whose front end a random student takes over; the published one where None.
        frames: whether it has a frame head. One that a model lacks begins as its classifier; one that is not
            wanted goes, since it would no longer fit what it is given.
        temperature: of the Dy-Convs when training begins.

    Raises:
        UsageError: neither an architecture nor a model, an FMN, a model of another architecture or other
            classes, or one whose kernels were trained at a higher temperature.
        ModelError: the model cannot be used.
    """
    if init == "random":
        if config is None:
            raise UsageError("no student", hint="--student dymn04, or --init MODEL")
        config.require_trainable("the student")
        config = dataclasses.replace(config, n_classes=len(vocabulary), temperature=1.0, frame_head=frames)
        network = build(config, generator=torch.Generator().manual_seed(seed))
        front_end = FrontEndConfig() if teacher is None else teacher.header.front_end
        return Student(network, ModelHeader("", config, front_end, vocabulary), "random")
    loaded = load_model(init, torch.device("cpu"))
    header = loaded.header
    header.config.require_trainable(init)
    if (
        config is not None
        and dataclasses.replace(
            config,
            n_classes=header.config.n_classes,
            temperature=header.config.temperature,
            frame_head=header.config.frame_head,
        )
        != header.config
    ):
        raise UsageError(
            f"{init} is not of the architecture that --student asks for", hint="leave --student out"
        )
    if header.config.is_dynamic and header.config.temperature > temperature:
        # Its kernels have learned to share the work; a lower temperature would let few of them do it at once.
        raise UsageError(
            f"{init} was trained at temperature {header.config.temperature:g}, and this recipe begins at"
            f" {temperature:g}",
            hint="--recipe paper or labels, or --set temperature=30",
        )
    network = loaded.network.requires_grad_(True).train()
    if header.purpose == "embeddings":
        network.reset_head(len(vocabulary), generator=torch.Generator().manual_seed(seed))
    elif header.vocabulary.names != vocabulary.names:
        raise UsageError(f"{init} has other classes than the teachers")
    config = dataclasses.replace(network.config, temperature=1.0, frame_head=frames)
    if frames and network.strong_head is None:
        network.add_frame_head(from_classifier=True)
    elif not frames:
        network.strong_head = None
    network.config = config
    return Student(network, ModelHeader("", config, header.front_end, vocabulary), loaded.sha256)


def can_train_blocks(teacher: LiveTeacher | None, student: ModelHeader) -> bool:
    """Whether a teacher has the student's channels in all 17 stages."""
    hinting = None if teacher is None else teacher.hinting(student.config, student.front_end)
    if hinting is None:
        return False
    n_matching = len(matching_maps(student.config, hinting.header.config))
    return n_matching == len(stage_channels(student.config))


LEAST_SCORE = 1e-6
LEAST_SPREAD = 1e-3


@torch.no_grad()
def fit_classifier(head: nn.Sequential, scores: Tensor) -> None:
    """Set a classifier to the teacher's mean score of each class.

    Args:
        head: with small random weights in the last layer, whose logits are close to its biases.
        scores: (n, n_classes) of the teacher.
    """
    last = cast(nn.Linear, head[-1])
    last.bias.copy_(torch.logit(scores.mean(dim=0).clamp(LEAST_SCORE, 1 - LEAST_SCORE)))


@torch.no_grad()
def fit_stages(student: Backbone, mel: Tensor, maps: Sequence[Tensor]) -> None:
    """Give each of the 17 stages the mean and spread of the teacher's channels.

    The last normalisation of a stage gives its output (after a non-linearity: about), or what is added to the
    input where there is a residual; its scale and shift are set.

    Args:
        student: with the teacher's channels in every stage.
        mel: (n, 1, n_mels, n_frames) that the teacher heard.
        maps: the teacher's 17 feature maps of it.
    """
    for stage, x, wanted in zip(student.stages, (mel, *maps[:-1]), maps, strict=True):
        norm = [module for module in stage.modules() if isinstance(module, nn.BatchNorm2d)][-1]
        given = wanted - x if getattr(stage, "has_residual", False) else wanted
        norm.weight.copy_(given.std(dim=(0, 2, 3)).clamp(min=LEAST_SPREAD))
        norm.bias.copy_(given.mean(dim=(0, 2, 3)))
