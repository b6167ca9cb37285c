"""Several models as one: the mean of their logits, and on request their concatenated embeddings.

               ┌─ log-mel of front end A ──▶ model 1 ─┐
    windows ───┤                         └─▶ model 2 ─┼─▶ mean of logits
               └─ log-mel of front end B ──▶ model 3 ─┘   embeddings concatenated, if asked for

A single model is an ensemble of one, whose output is unchanged. Frame logits are averaged like logits, if
the steps of all models have the same length.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.errors import UsageError
from dymn_cli.results import ModelInfo
from dymn_cli.runtime.base import Answer, DeviceFrontEnd
from dymn_cli.store.weights import CHECKPOINT_SUFFIXES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.frontend.melbank import FrontEndConfig
    from dymn_cli.labels import Vocabulary
    from dymn_cli.runtime.base import Backend, Mels

__all__ = ["Ensemble"]


class Ensemble:
    """Models that run together.

    Args:
        members: one or more models with the same vocabulary.
        concat: concatenate the members' embeddings; otherwise an ensemble of several has none.
        names: the members as they were asked for, such as the paths of exported files.

    Attributes:
        info: the description of the ensemble.
        vocabulary: the labels.
        front_ends: the distinct front ends of the members, in order: `run` takes a batch for each of them.
        embedding_size: values in an embedding; 0 if the ensemble has none.
        on_device: resamples and computes log-mels for all members; None if the CPU does.

    Raises:
        UsageError: no model, the same model twice, or different vocabularies.
    """

    def __init__(
        self, members: Sequence[Backend], *, concat: bool = False, names: Sequence[str] | None = None
    ) -> None:
        _require_fit(members)
        self._names = names or [member.info.name for member in members]
        self.members = tuple(members)
        first = self.members[0]
        self.info = first.info if len(members) == 1 else ModelInfo.of_ensemble([m.info for m in members])
        self.vocabulary: Vocabulary = first.header.vocabulary
        self.front_ends: tuple[FrontEndConfig, ...] = tuple(
            dict.fromkeys(member.header.front_end for member in members)
        )
        self._which = [self.front_ends.index(member.header.front_end) for member in members]
        self._embeds = concat or len(members) == 1
        self.embedding_size = (
            sum(member.header.config.embedding_size for member in members) if self._embeds else 0
        )
        everywhere = all(isinstance(member, DeviceFrontEnd) for member in members)
        self.on_device = first if everywhere and isinstance(first, DeviceFrontEnd) else None

    @property
    def on_cpu(self) -> bool:
        """Whether all members compute on the CPU, where one window a call is fastest."""
        return all(member.on_cpu for member in self.members)

    @property
    def step_s(self) -> float | None:
        """Seconds between two steps of the frame logits; None if the members differ."""
        steps = {member.header.step_s for member in self.members}
        return steps.pop() if len(steps) == 1 else None

    def run(self, mels: Sequence[Mels], *, frames: bool = False) -> Answer:
        """Run all members on a batch of windows.

        Args:
            mels: the log-mels of the windows, for each of `front_ends`.
            frames: whether to compute frame logits; see `require_frames`.

        Returns:
            Logits (n, n_classes), the mean in float64; embeddings (n, embedding_size); if requested, frame
            logits (n, n_steps, n_classes), also the mean.
        """
        answers = [
            member.run(mels[n], frames=frames) for member, n in zip(self.members, self._which, strict=True)
        ]
        if len(answers) == 1:
            return answers[0]
        embeddings = np.concatenate([answer.embedding for answer in answers], axis=1)
        every = [answer.frame_logits for answer in answers if answer.frame_logits is not None]
        return Answer(
            _mean([answer.logits for answer in answers]),
            embeddings[:, : self.embedding_size],
            _mean(every) if frames else None,
        )

    def require_tags(self) -> None:
        """Require models that can tag.

        Raises:
            UsageError: one of them gives embeddings only.
        """
        for name, member in zip(self._names, self.members, strict=True):
            if member.header.purpose != "tags":
                path, to_tag = Path(name), "dymn models list shows which models can tag"
                if path.suffix.lower() in CHECKPOINT_SUFFIXES:
                    to_tag = f"name them: dymn models convert {name} --labels classes.txt --name {path.stem}"
                raise UsageError(
                    f"{member.info.name} gives embeddings only: its classes are not sounds, or have no names",
                    hint=f"use it with dymn embed; {to_tag}",
                )

    def require_frames(self) -> None:
        """Require models with frame logits of the same step.

        Raises:
            UsageError: one is an ONNX file without frame logits, or the steps differ in length.
        """
        for name, member in zip(self._names, self.members, strict=True):
            if not member.has_frames:
                raise UsageError(
                    f"{name} scores whole windows only: the file was exported without frames",
                    hint="export it with dymn export --frames, or use the method windows",
                )
        if self.step_s is None:
            steps = ", ".join(f"{m.info.name} {m.header.step_s:g} s" for m in self.members)
            raise UsageError(
                f"the models score steps of different length: {steps}",
                hint="choose models with the same hop, or use the method windows",
            )

    def require_embedding(self) -> None:
        """Require an embedding.

        Raises:
            UsageError: an ensemble without `concat`.
        """
        if not self._embeds:
            raise UsageError(
                "an ensemble has no embedding of its own, because the embeddings of its models are unrelated",
                hint="--concat (in Python, concat=True) concatenates them",
            )


def _mean(every: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.asarray(np.stack(every).mean(axis=0, dtype=np.float64), np.float32)


def _require_fit(members: Sequence[Backend]) -> None:
    if not members:
        raise UsageError("an ensemble needs at least one model")
    first = members[0]
    seen: dict[str, str] = {}
    for member in members:
        info = member.info
        if info.sha256 in seen:
            names = dict.fromkeys((seen[info.sha256], info.name))
            raise UsageError(
                f"the same model twice: {' and '.join(names)}", hint="name each model of an ensemble once"
            )
        seen[info.sha256] = info.name
        if member.header.vocabulary.names != first.header.vocabulary.names:
            raise UsageError(
                f"{first.info.name} and {info.name} do not have the same labels",
                hint="choose models that were trained on the same classes",
            )
