"""Targets for each step of a mix: the teachers' scores of each single clip, where it is audible.

    y[t, c] = max over clips k of a_k[t] · p_k[t, c]
    p_k[t, c] = λ + (1 − λ) · q_k[t, c] for the labels of clip k, q_k[t, c] for all else

a is how audible a clip is in a step (`dymn_cli.train.distill.mixing.Part`), q the teachers' scores of the
ten seconds of the clip that the step is from, λ the share of the labels in equation 8. So strong labels come
for free: nobody marks them. A label that is missing says nothing: few labels name all that is heard.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.model.config import ModelConfig
    from dymn_cli.train.distill.clip_scores import ClipScores
    from dymn_cli.train.distill.mixing import Mix
    from dymn_cli.train.sampler import LabelRows

__all__ = ["frame_targets", "labels_heard"]

SHARE_HEARD = 0.5  # of a step; a clip that sounds for so long of it, or longer, is in it


def frame_targets(
    mix: Mix,
    clips: Sequence[int],
    scores: ClipScores,
    config: ModelConfig,
    labels: LabelRows | None = None,
    label_share: float = 0.0,
) -> NDArray[np.float32]:
    """Targets of a mix.

    Args:
        mix: with the places of its clips.
        clips: numbers of the clips that it was made of.
        scores: of all clips.
        config: of the student; it determines the length of a step.
        labels: of all clips, or None.
        label_share: λ.

    Returns:
        (n_steps, n_classes) float32 in [0, 1].
    """
    n_classes = scores.logits.shape[1]
    n_frames = mix.log_mel.shape[1]
    starts = _starts(n_frames, config)
    targets = np.zeros((len(starts), n_classes), np.float32)
    for part in mix.parts:
        clip = clips[part.clip]
        windows = scores.windows(clip, part.frames)
        for window in np.unique(windows[part.audible > 0]):
            heard = _in_steps(np.where(windows == window, part.audible, np.float32(0)), starts)
            wanted = scores.scores(window)
            if labels is not None:
                wanted += label_share * np.asarray(labels[clip], np.float32) * (1 - wanted)
            np.maximum(targets, heard[:, np.newaxis] * wanted, out=targets)
    return targets


def labels_heard(
    mix: Mix, clips: Sequence[int], labels: LabelRows, config: ModelConfig
) -> NDArray[np.float32]:
    """How clearly each label of the clips is heard where the mix has most of it.

    Args:
        mix: with the places of its clips.
        clips: numbers of the clips that it was made of.
        labels: of all clips.
        config: of the student; it determines the length of a step.

    Returns:
        (n_classes,) float32 in [0, 1].
    """
    starts = _starts(mix.log_mel.shape[1], config)
    found = np.zeros(np.shape(labels[clips[0]]), np.float32)
    for part in mix.parts:
        clearest = _in_steps(part.audible, starts).max()
        np.maximum(found, clearest * np.asarray(labels[clips[part.clip]], np.float32), out=found)
    return found


def _starts(n_frames: int, config: ModelConfig) -> NDArray[np.int64]:
    """First frame of each step: step n has frame n · `step_frames` in its middle, as the strides have it.

    So the first step is half as long, and the last has what is left.
    """
    centres = np.arange(config.n_steps(n_frames)) * config.step_frames
    return np.maximum(centres - config.step_frames // 2, 0)


def _in_steps(audible: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float32]:
    """How far something is heard in each step: fully where it fills half of it."""
    lengths = np.diff([*starts, len(audible)])
    shares = np.add.reduceat(audible, starts) / lengths
    heard: NDArray[np.float32] = np.minimum(shares / SHARE_HEARD, 1.0).astype(np.float32)
    return heard
