"""Targets for each step of a mix: the teachers' scores of each single clip, where it is audible.

    y[t, c] = max over clips k of a_k[t] · p_k[t, c]

a is how audible a clip is in a step (`dymn_cli.train.distill.mixing.Part`), p the teachers' scores of the
ten seconds of the clip that the step is from. So strong labels come for free: nobody marks them.
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

__all__ = ["frame_targets"]

SHARE_HEARD = 0.5  # of a step; a clip that sounds for so long of it, or longer, is in it


def frame_targets(
    mix: Mix, clips: Sequence[int], scores: ClipScores, config: ModelConfig
) -> NDArray[np.float32]:
    """Targets of a mix.

    Args:
        mix: with the places of its clips.
        clips: numbers of the clips that it was made of.
        scores: of all clips.
        config: of the student; it determines the length of a step.

    Returns:
        (n_steps, n_classes) float32 in [0, 1].
    """
    n_classes = scores.logits.shape[1]
    n_frames = mix.log_mel.shape[1]
    starts = _starts(n_frames, config)
    targets = np.zeros((len(starts), n_classes), np.float32)
    for part in mix.parts:
        windows = scores.windows(clips[part.clip], part.frames)
        for window in np.unique(windows[part.audible > 0]):
            heard = _in_steps(np.where(windows == window, part.audible, np.float32(0)), starts)
            np.maximum(targets, heard[:, np.newaxis] * scores.scores(window), out=targets)
    return targets


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
