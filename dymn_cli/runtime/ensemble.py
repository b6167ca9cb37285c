"""Several models that answer as one: the mean of their logits, or their embeddings in a row.

               ┌─ log-mel of front end A ──▶ model 1 ─┐
    windows ───┤                         └─▶ model 2 ─┼─▶ mean of logits
               └─ log-mel of front end B ──▶ model 3 ─┘   embeddings concatenated, if asked for

A single model is an ensemble of one, and its answer is left as it is. Frame logits are averaged as logits
are, where the models' steps are equally long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.errors import UsageError
from dymn_cli.results import ModelInfo
from dymn_cli.runtime.base import Answer, DeviceFrontEnd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.frontend.melbank import FrontEndConfig
    from dymn_cli.labels import Vocabulary
    from dymn_cli.runtime.base import Backend, Mels

__all__ = ["Ensemble"]


class Ensemble:
    """Models that are asked together.

    Args:
        members: one or more, of one vocabulary.
        concat: several members' embeddings in a row are the ensemble's; without it, it has none.

    Attributes:
        info: what is said of them together.
        vocabulary: their labels.
        front_ends: the distinct ones among theirs, in order: `run` takes a batch for each of them.
        embedding_size: values in an embedding; 0 where the ensemble has none.
        on_device: computes log-mels and resamples for all members; None where the CPU has to.

    Raises:
        UsageError: no model, the same model twice, or different vocabularies.
    """

    def __init__(self, members: Sequence[Backend], *, concat: bool = False) -> None:
        _require_fit(members)
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
        """Whether all compute on the CPU: then one window a call is the fastest."""
        return all(member.on_cpu for member in self.members)

    @property
    def step_s(self) -> float | None:
        """Seconds from one step of the frame logits to the next; None where the models do not agree."""
        steps = {member.header.step_s for member in self.members}
        return steps.pop() if len(steps) == 1 else None

    def run(self, mels: Sequence[Mels], *, frames: bool = False) -> Answer:
        """The answer for a batch of windows.

        Args:
            mels: their log-mels, for each of `front_ends`.
            frames: whether frame logits are wanted, too; see `require_frames`.

        Returns:
            Logits (n, n_classes), the mean in float64; embeddings (n, embedding_size); frame logits
            (n, n_steps, n_classes), likewise the mean, where they are wanted.
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
        """Refuse models whose classes are no sounds.

        Raises:
            UsageError: one of them is such.
        """
        for member in self.members:
            if member.header.purpose != "tags":
                raise UsageError(
                    f"{member.info.name} gives embeddings only: its classes are no sounds, or have no names",
                    hint="dymn embed takes it; dymn models list says which models tag",
                )

    def require_frames(self) -> None:
        """Refuse models that cannot score each step of time, or not the same steps.

        Raises:
            UsageError: one of them is an ONNX file without that output, or their steps differ in length.
        """
        for member in self.members:
            if not member.has_frames:
                raise UsageError(
                    f"{member.info.name} scores whole windows only: the file was exported without frames",
                    hint="dymn export --frames writes one with frames; --method windows does without",
                )
        if self.step_s is None:
            steps = ", ".join(f"{m.info.name} {m.header.step_s:g} s" for m in self.members)
            raise UsageError(
                f"the models score steps of different length: {steps}",
                hint="an ensemble that scores frames needs models of one hop; --method windows does not",
            )

    def require_embedding(self) -> None:
        """Refuse an ensemble whose members' embeddings have not been concatenated.

        Raises:
            UsageError: it is one.
        """
        if not self._embeds:
            raise UsageError(
                "an ensemble has no embedding of its own: those of its models have nothing in common",
                hint="--concat (in Python, concat=True) puts them one after the other",
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
                f"the same model twice: {' and '.join(names)}", hint="each model of an ensemble counts once"
            )
        seen[info.sha256] = info.name
        if member.header.vocabulary.names != first.header.vocabulary.names:
            raise UsageError(
                f"{first.info.name} and {info.name} do not have the same labels, so there is no mean of both",
                hint="the models of an ensemble must have been trained for the same classes",
            )
