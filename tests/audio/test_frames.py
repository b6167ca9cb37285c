from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dymn_cli.audio.frames import Frame, FramePlan, frames
from dymn_cli.errors import EmptyAudioError, UsageError

RATE_HZ = 32_000


def cut(n: int, plan: FramePlan, *sizes: int) -> list[Frame]:
    """The frames of samples that say where they are, which come in blocks of these sizes."""
    signal, blocks, at = np.arange(n, dtype=np.float32), [], 0
    for size in sizes:
        blocks.append(signal[at : at + size])
        at += size
    return list(frames([*blocks, signal[at:]], plan))


def test_a_frame_at_the_start_and_one_for_every_hop_up_to_the_end() -> None:
    plan = FramePlan()
    for n, count in ((320_000, 201), (319_999, 200), (34_240, 22), (1_600, 2), (1_601, 2)):
        assert len(cut(n, plan)) == count == plan.n_frames(n)


def test_a_frame_is_what_surrounds_its_moment() -> None:
    found = cut(32_000, FramePlan(0.16, 0.05))
    for number in range(2, 18):
        centre = number * 1_600
        np.testing.assert_array_equal(found[number].samples, np.arange(centre - 2_560, centre + 2_560))
        assert found[number].start == centre - 2_560


def test_the_ends_of_a_source_are_mirrors() -> None:
    found = cut(32_000, FramePlan(0.16, 0.05))
    mirrored = np.pad(np.arange(32_000, dtype=np.float32), 2_560, mode="reflect")
    for number, frame in enumerate(found):
        np.testing.assert_array_equal(frame.samples, mirrored[number * 1_600 :][:5_120])


def test_a_source_much_shorter_than_a_frame_is_mirrored_again_and_again() -> None:
    (frame,) = cut(1_700, FramePlan(1.0, 1.0))
    mirrored = np.pad(np.arange(1_700, dtype=np.float32), 16_000, mode="reflect")
    np.testing.assert_array_equal(frame.samples, mirrored[:32_000])
    assert (frame.start_s, frame.end_s) == (0, 1_700 / RATE_HZ)


def test_frames_stand_for_the_moments_nearest_to_them() -> None:
    found = cut(34_240, FramePlan(0.16, 0.05))
    spans = [(frame.start_s, frame.end_s) for frame in found]
    assert spans[:3] == [(0, 0.025), (0.025, 0.075), (0.075, 0.125)]
    assert spans[-1] == (1.025, 1.07)


plans = st.floats(0.05, 0.6).flatmap(
    lambda window_s: st.builds(FramePlan, window_s=st.just(window_s), hop_s=st.floats(0.01, window_s))
)


@given(plan=plans, n=st.integers(1_600, 80_000), sizes=st.lists(st.integers(0, 30_000), max_size=6))
def test_frames_cover_the_source_without_a_gap_however_it_comes(
    plan: FramePlan, n: int, sizes: list[int]
) -> None:
    whole, pieces = cut(n, plan), cut(n, plan, *sizes)
    assert len(whole) == plan.n_frames(n)
    assert (whole[0].start_s, whole[-1].end_s) == (0, n / RATE_HZ)
    for before, after in itertools.pairwise(whole):
        assert before.end_s == after.start_s
        assert after.start - before.start == plan.n_hop
    for one, other in zip(whole, pieces, strict=True):
        assert (one.start, one.start_s, one.end_s) == (other.start, other.start_s, other.end_s)
        assert len(one.samples) == plan.n_window
        np.testing.assert_array_equal(one.samples, other.samples)


def test_channels_stay_together() -> None:
    stereo = np.stack([np.arange(8_000), -np.arange(8_000)], axis=1).astype(np.float32)
    for both, left in zip(frames([stereo], FramePlan()), cut(8_000, FramePlan()), strict=True):
        np.testing.assert_array_equal(both.samples, np.stack([left.samples, -left.samples], axis=1))


def test_memory_does_not_grow_with_the_length() -> None:
    def blocks(seconds: int) -> Iterator[np.ndarray]:
        for _ in range(seconds * 4):
            yield np.zeros(RATE_HZ // 4, np.float32)

    def peak(seconds: int) -> int:
        tracemalloc.start()
        assert sum(1 for _ in frames(blocks(seconds), FramePlan(0.5, 0.25))) == 4 * seconds + 1
        _, top = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return top

    a_frame = RATE_HZ // 2 * 4
    assert peak(400) < 12 * a_frame  # where it is mirrored, positions take 8 bytes each
    assert peak(400) < peak(40) + a_frame


def test_a_frame_is_given_as_soon_as_it_is_there() -> None:
    def blocks() -> Iterator[np.ndarray]:
        yield np.zeros(1_600 + 2_561, np.float32)
        raise AssertionError("asked for more than the first two frames need")

    assert [frame.end_s for frame in itertools.islice(frames(blocks(), FramePlan()), 2)] == [0.025, 0.075]


@pytest.mark.parametrize("n", [0, 1, 1_599])
def test_less_than_50_ms_is_empty(n: int) -> None:
    with pytest.raises(EmptyAudioError, match="at least 50 ms"):
        cut(n, FramePlan())


@pytest.mark.parametrize(
    ("window_s", "hop_s"),
    [
        *((s, 0.01) for s in (0.04, 61, float("nan"), float("inf"), -1)),
        *((0.16, s) for s in (0, -1, 0.009, 0.17, float("nan"), float("inf"))),
    ],
)
def test_values_out_of_range_are_refused(window_s: float, hop_s: float) -> None:
    with pytest.raises(UsageError, match=r" s is not between "):
        FramePlan(window_s, hop_s)
