"""Targets for each step of a mix: the teachers' scores of each single clip, where it is audible.

    y[t, c] = max over clips k of a_k[t] · p_k[t, c]
    p_k[t, c] = λ + (1 − λ) · q_k[t, c] for the labels of clip k
              = (1 − λ) · q_k[t, c] for labels that somebody rejected, q_k[t, c] for all else

a is how audible a clip is in a step (`dymn_cli.train.distill.mixing.Part`), q the teachers' scores of the
ten seconds of the clip that the step is from, λ the share of the labels in equation 8. So strong labels come
for free: nobody marks them. A label that is just missing says nothing: few labels name all that is heard.
A step of which every frame is silent has the class Silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.model.config import ModelConfig
    from dymn_cli.train.distill.clip_scores import ClipScores
    from dymn_cli.train.distill.mixing import Mix
    from dymn_cli.train.sampler import LabelRows

__all__ = ["KnownLabels", "frame_targets", "labels_heard"]

SILENCE = 0.9  # score of the class Silence where nothing is heard
SHARE_HEARD = 0.5  # of a step; a clip that sounds for so long of it, or longer, is in it


@dataclass(frozen=True, slots=True, eq=False)
class KnownLabels:
    """What is known of the labels of each clip.

    Args:
        labels: (n_clips, n_classes) of 0 and 1.
        known: (n_clips, n_classes), which of them are known; None for all.
    """

    labels: LabelRows
    known: LabelRows | None = None

    def of(self, clip: int) -> NDArray[np.float32]:
        """(n_classes,) 1 for a label of the clip, −1 for one that was rejected, 0 where nothing is said.

        Only a review rejects labels; a table that lists labels leaves the others open.
        """
        found = np.asarray(self.labels[clip], np.float32)
        if self.known is None:
            return found
        known = np.asarray(self.known[clip], bool)
        return found if known.all() else np.where(known, 2 * found - 1, np.float32(0))


def frame_targets(
    mix: Mix,
    clips: Sequence[int],
    scores: ClipScores,
    config: ModelConfig,
    labels: KnownLabels | None = None,
    label_share: float = 0.0,
    *,
    silence: int | None = None,
) -> NDArray[np.float32]:
    """Targets of a mix.

    Args:
        mix: with the places of its clips.
        clips: numbers of the clips that it was made of.
        scores: of all clips.
        config: of the student; it determines the length of a step.
        labels: of all clips, or None.
        label_share: λ.
        silence: which class is Silence; None if there is none.

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
                judged = labels.of(clip)
                wanted += label_share * np.abs(judged) * ((judged > 0) - wanted)
            np.maximum(targets, heard[:, np.newaxis] * wanted, out=targets)
    if silence is not None:
        targets[np.logical_and.reduceat(mix.silent, starts), silence] = SILENCE
    return targets


def labels_heard(
    mix: Mix, clips: Sequence[int], labels: KnownLabels, config: ModelConfig
) -> NDArray[np.float32]:
    """How clearly each label of the clips is heard where the mix has most of it, and which labels it lacks.

    Args:
        mix: with the places of its clips.
        clips: numbers of the clips that it was made of.
        labels: of all clips.
        config: of the student; it determines the length of a step.

    Returns:
        (n_classes,) float32 from 0 to 1; −1 for a label that was rejected in every clip that is heard.
    """
    starts = _starts(mix.log_mel.shape[1], config)
    n_classes = len(labels.of(clips[0]))
    heard = [(_in_steps(part.audible, starts).max(), labels.of(clips[part.clip])) for part in mix.parts]
    judged = [
        np.where(of_clip > 0, clearest * of_clip, of_clip) for clearest, of_clip in heard if clearest > 0
    ]
    # Any clip that may have a label, even one that is hardly heard, keeps it open.
    return np.max(judged, axis=0) if judged else np.zeros(n_classes, np.float32)


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
