from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from dymn_cli.model.config import ModelConfig
from dymn_cli.train.distill.clip_scores import ClipScores
from dymn_cli.train.distill.frame_targets import KnownLabels, frame_targets, labels_heard
from dymn_cli.train.distill.mixing import Mix, Part

CONFIG = ModelConfig(width=0.1, n_classes=3)
N_FRAMES = 320


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def scores(*clips: list[list[float]]) -> ClipScores:
    """Scores of clips: a list of windows each, which are lists of scores."""
    first = np.cumsum([0, *(len(windows) for windows in clips)])
    rows = [[logit(p) for p in window] for windows in clips for window in windows]
    return ClipScores(np.array(rows, np.float16), first.astype(np.int64), 1000)


def part(clip: int, start: int, stop: int, *, first: int = 0, level: float = 1.0) -> Part:
    audible = np.zeros(N_FRAMES, np.float32)
    audible[start:stop] = level
    return Part(clip, np.maximum(np.arange(N_FRAMES) - start, 0) + first, audible)


def mix(*parts: Part, silent: slice = slice(0)) -> Mix:
    log_mel = np.zeros((128, N_FRAMES), np.float32)
    is_silent = np.zeros(N_FRAMES, bool)
    is_silent[silent] = True
    return Mix(log_mel, parts, log_mel, is_silent)


ONE, OTHER = [[0.9, 0.01, 0.01]], [[0.2, 0.8, 0.01]]


def test_steps_have_the_scores_of_the_clip_that_sounds_in_them() -> None:
    # Step n is around frame 32 n: frames 80 to 175 are steps 3, 4 and 5.
    found = frame_targets(mix(part(0, 80, 176)), [1], scores(OTHER, ONE), CONFIG)
    assert found.shape == (10, 3)
    assert np.flatnonzero(found[:, 0] > 0.5).tolist() == [3, 4, 5]
    assert found[3:6, 0] == pytest.approx([0.9] * 3, abs=2e-3)
    assert (found[[0, 1, 2, 6, 7, 8, 9]] == 0).all()


def test_a_step_is_full_from_half_of_it_on() -> None:
    for frames, share in ((32, 1.0), (16, 1.0), (8, 0.5), (0, 0.0)):
        found = frame_targets(mix(part(0, 80, 80 + frames)), [0], scores(ONE), CONFIG)
        assert found[3, 0] == pytest.approx(0.9 * share, abs=2e-3)


def test_the_first_and_last_step_have_the_frames_that_are_there() -> None:
    found = frame_targets(mix(part(0, 0, 8)), [0], scores(ONE), CONFIG)
    assert np.flatnonzero(found[:, 0]).tolist() == [0]
    assert found[0, 0] == pytest.approx(0.9, abs=2e-3)  # half of its sixteen frames
    found = frame_targets(mix(part(0, 296, 320)), [0], scores(ONE), CONFIG)
    assert np.flatnonzero(found[:, 0]).tolist() == [9]


def test_of_clips_together_the_larger_score_counts() -> None:
    found = frame_targets(mix(part(0, 0, 200), part(1, 0, 320)), [0, 1], scores(ONE, OTHER), CONFIG)
    assert found[2] == pytest.approx([0.9, 0.8, 0.01], abs=2e-3)
    assert found[8] == pytest.approx([0.2, 0.8, 0.01], abs=2e-3)


def test_what_is_half_masked_counts_half() -> None:
    found = frame_targets(mix(part(0, 0, 320, level=0.25)), [0], scores(ONE), CONFIG)
    assert found[5, 0] == pytest.approx(0.45, abs=2e-3)


def test_a_long_clip_has_the_scores_of_the_ten_seconds_that_are_heard() -> None:
    long = [[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9]]
    found = frame_targets(mix(part(0, 0, 320, first=840)), [0], scores(long), CONFIG)
    assert found[:5].argmax(axis=1).tolist() == [0] * 5
    assert found[6:].argmax(axis=1).tolist() == [1] * 4
    # The last window ends with the clip, wherever that is.
    found = frame_targets(mix(part(0, 0, 320, first=2900)), [0], scores(long), CONFIG)
    assert found.argmax(axis=1).tolist() == [2] * 10


def test_a_silent_mix_has_nothing_in_it() -> None:
    assert (frame_targets(mix(), [0], scores(ONE), CONFIG) == np.zeros((10, 3))).all()


LABELS = KnownLabels(np.array([[0, 0, 1], [0, 1, 0]], np.uint8))


def test_a_label_takes_its_share_of_what_the_teacher_says() -> None:
    both = mix(part(0, 0, 160), part(1, 160, 320))
    found = frame_targets(both, [0, 1], scores(ONE, OTHER), CONFIG, LABELS, 0.5)
    assert found[2] == pytest.approx([0.9, 0.01, 0.505], abs=2e-3)  # 0.5 · 1 + 0.5 · 0.01
    assert found[8] == pytest.approx([0.2, 0.9, 0.01], abs=2e-3)
    without = frame_targets(both, [0, 1], scores(ONE, OTHER), CONFIG)
    assert (frame_targets(both, [0, 1], scores(ONE, OTHER), CONFIG, LABELS, 0.0) == without).all()


def test_a_label_counts_as_clearly_as_its_clip_is_heard() -> None:
    both = mix(part(0, 0, 32), part(1, 0, 320, level=0.25))
    assert labels_heard(both, [0, 1], LABELS, CONFIG).tolist() == [0, 0.5, 1]
    assert labels_heard(mix(part(0, 0, 320)), [1], LABELS, CONFIG).tolist() == [0, 1, 0]
    assert labels_heard(mix(), [0], LABELS, CONFIG).tolist() == [0, 0, 0]


REVIEWED = KnownLabels(
    np.array([[0, 0, 1], [0, 1, 0], [0, 1, 0], [0, 0, 0]], np.uint8),
    np.array([[1, 0, 1], [1, 1, 0], [1, 1, 1], [0, 0, 0]], np.uint8),
)


def test_a_rejected_label_lowers_what_the_teacher_says_of_its_clip_alone() -> None:
    both = mix(part(0, 0, 160), part(1, 160, 320))
    found = frame_targets(both, [0, 3], scores(ONE, OTHER, OTHER, ONE), CONFIG, REVIEWED, 0.5)
    assert found[2] == pytest.approx([0.45, 0.01, 0.505], abs=2e-3)
    assert found[8] == pytest.approx([0.9, 0.01, 0.01], abs=2e-3), "nobody judged the second clip"


def test_a_list_of_labels_rejects_none() -> None:
    assert REVIEWED.of(0).tolist() == [-1, 0, 1]
    assert REVIEWED.of(1).tolist() == [-1, 1, 0]
    assert REVIEWED.of(2).tolist() == [0, 1, 0], "all is known: it was a list of labels, not a review"
    assert REVIEWED.of(3).tolist() == [0, 0, 0]


def test_a_mix_lacks_a_label_that_all_clips_lack_which_are_heard() -> None:
    both = mix(part(0, 0, 320), part(1, 0, 320, level=0.25))
    assert labels_heard(both, [0, 1], REVIEWED, CONFIG).tolist() == [-1, 0.5, 1]
    assert labels_heard(both, [0, 3], REVIEWED, CONFIG).tolist() == [0, 0, 1]
    silent = mix(part(0, 0, 320), part(1, 0, 0))
    assert labels_heard(silent, [0, 3], REVIEWED, CONFIG).tolist() == [-1, 0, 1]


def test_a_step_is_silence_where_all_of_it_is_silent() -> None:
    half = mix(part(0, 0, 160), silent=slice(165, None))
    found = frame_targets(half, [0], scores(ONE), CONFIG, silence=2)
    assert found[:, 2] == pytest.approx([0.01] * 6 + [0.9] * 4, abs=2e-3)
    assert frame_targets(half, [0], scores(ONE), CONFIG)[-1, 2] == 0
