"""The student before its first step."""

from __future__ import annotations

import dataclasses

import torch

from dymn_cli.errors import UsageError
from dymn_cli.frontend import FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.model.backbone import Backbone
from dymn_cli.model.build import build
from dymn_cli.model.config import ModelConfig
from dymn_cli.store.weights import ModelHeader
from dymn_cli.train.teachers import LiveTeacher, LoadedModel, load_model, matching_maps, stage_channels

__all__ = ["can_teach_blocks", "initial_student"]


def initial_student(
    config: ModelConfig | None,
    init: str,
    vocabulary: Vocabulary,
    *,
    seed: int,
    teacher: LoadedModel | None,
    frames: bool = False,
) -> tuple[Backbone, ModelHeader, str]:
    """The student before its first step.

    Args:
        config: the architecture; None for that of `init`.
        init: "random", or a model by name or path.
        vocabulary: the classes it learns.
        seed: of random weights.
        teacher: whose front end a random student takes over; the published one where None.
        frames: whether it has a frame head. One that a model lacks begins as its classifier; one that is not
            wanted goes, since it would no longer fit what it is given.

    Returns:
        The network in training mode, its header (named ""), and what it began as.

    Raises:
        UsageError: neither an architecture nor a model, or a model of another architecture or other classes.
        ModelError: the model cannot be used.
    """
    if init == "random":
        if config is None:
            raise UsageError("no student", hint="--student dymn04, or --init MODEL")
        config = dataclasses.replace(config, n_classes=len(vocabulary), temperature=1.0, frame_head=frames)
        network = build(config, generator=torch.Generator().manual_seed(seed))
        front_end = FrontEndConfig() if teacher is None else teacher.header.front_end
        return network, ModelHeader("", config, front_end, vocabulary), "random"
    loaded = load_model(init, torch.device("cpu"))
    header = loaded.header
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
    if header.vocabulary.names != vocabulary.names:
        raise UsageError(f"{init} has other classes than the teachers")
    config = dataclasses.replace(header.config, temperature=1.0, frame_head=frames)
    network = loaded.network.requires_grad_(True).train()
    if frames and network.strong_head is None:
        network.add_frame_head(from_classifier=True)
    elif not frames:
        network.strong_head = None
    network.config = config
    return network, ModelHeader("", config, header.front_end, vocabulary), loaded.sha256


def can_teach_blocks(teacher: LiveTeacher | None, config: ModelConfig, front_end: FrontEndConfig) -> bool:
    """Whether a teacher has the student's channels in all 17 stages."""
    if teacher is None:
        return False
    hinting = teacher.hinting(config, front_end)
    n_maps = len(stage_channels(config))
    return hinting is not None and len(matching_maps(config, hinting.header.config)) == n_maps
