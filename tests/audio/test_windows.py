from __future__ import annotations

import itertools
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dymn_cli.audio.windows import Window, WindowPlan, between, windows
from dymn_cli.errors import EmptyAudioError, UsageError

RATE_HZ = 32_000


def ramp(n: int) -> np.ndarray:
    """Samples that say where they are: exact in float32 below 2**24."""
    return np.arange(n, dtype=np.float32)


def cut(n: int, plan: WindowPlan, *sizes: int) -> list[Window]:
    signal, blocks, at = ramp(n), [], 0
    for size in sizes:
        blocks.append(signal[at : at + size])
        at += size
    return list(windows([*blocks, signal[at:]], plan))


def spans(found: list[Window]) -> list[tuple[float, float]]:
    return [(w.start_s, w.end_s) for w in found]


def test_ten_seconds_are_one_window() -> None:
    found = cut(320_000, WindowPlan())
    assert spans(found) == [(0, 10)]
    assert found[0].padded == ""


def test_an_exact_multiple_has_no_extra_window() -> None:
    assert spans(cut(960_000, WindowPlan())) == [(0, 10), (10, 20), (20, 30)]


def test_the_last_window_ends_at_the_end_of_the_source() -> None:
    assert spans(cut(752_000, WindowPlan())) == [(0, 10), (10, 20), (13.5, 23.5)]


def test_one_sample_more_than_a_window_makes_a_second_one() -> None:
    found = cut(320_001, WindowPlan())
    assert [(w.start, w.end) for w in found] == [(0, 320_000), (1, 320_001)]


def test_the_last_window_may_start_at_the_last_sample_of_a_block() -> None:
    found = cut(36_000, WindowPlan(window_s=0.5), 20_001)
    assert (found[-1].start, found[-1].end) == (20_000, 36_000)
    np.testing.assert_array_equal(found[-1].samples, np.arange(20_000, 36_000))


def test_a_hop_makes_windows_overlap() -> None:
    plan = WindowPlan(window_s=10, hop_s=5)
    assert spans(cut(640_000, plan)) == [(0, 10), (5, 15), (10, 20)]
    assert spans(cut(704_000, plan)) == [(0, 10), (5, 15), (10, 20), (12, 22)]


def test_a_short_clip_is_repeated_up_to_the_window() -> None:
    (window,) = cut(128_000, WindowPlan())
    assert (window.start, window.end, window.padded) == (0, 128_000, "repeat")
    np.testing.assert_array_equal(window.samples, np.arange(320_000) % 128_000)


def test_a_short_clip_can_be_followed_by_zeros() -> None:
    (window,) = cut(128_000, WindowPlan(pad="zero"))
    assert (window.end, window.padded) == (128_000, "zero")
    np.testing.assert_array_equal(window.samples[:128_000], ramp(128_000))
    assert window.samples.shape == (320_000,)
    assert not window.samples[128_000:].any()


def test_a_short_clip_can_be_left_short() -> None:
    (window,) = cut(1_600, WindowPlan(pad="none"))
    assert (window.end, window.padded) == (1_600, "")
    np.testing.assert_array_equal(window.samples, ramp(1_600))


@pytest.mark.parametrize("n", [0, 1, 1_599])
@pytest.mark.parametrize("pad", ["repeat", "zero", "none"])
def test_less_than_50_ms_is_empty(n: int, pad: str) -> None:
    with pytest.raises(EmptyAudioError):
        cut(n, WindowPlan(pad=pad))  # type: ignore[arg-type]


NONSENSE_WINDOWS = [0.4, 61, float("nan"), float("inf"), -10]
NONSENSE_HOPS = [0, -1, 0.05, 10.5, float("nan"), float("inf")]


@pytest.mark.parametrize(
    ("window_s", "hop_s"), [*((s, None) for s in NONSENSE_WINDOWS), *((10, s) for s in NONSENSE_HOPS)]
)
def test_windows_and_hops_out_of_range_are_refused(window_s: float, hop_s: float | None) -> None:
    with pytest.raises(UsageError, match=r" s is not between "):
        WindowPlan(window_s=window_s, hop_s=hop_s)


@pytest.mark.parametrize(("window_s", "hop_s"), [(0.5, 0.1), (60, 60), (60, 0.1), (0.5, 0.5)])
def test_the_ends_of_the_ranges_are_accepted(window_s: float, hop_s: float) -> None:
    plan = WindowPlan(window_s=window_s, hop_s=hop_s)
    assert (plan.n_window, plan.n_hop) == (window_s * RATE_HZ, round(hop_s * RATE_HZ))


def test_padding_is_one_of_three() -> None:
    with pytest.raises(UsageError, match="reflect"):
        WindowPlan(pad="reflect")  # type: ignore[arg-type]


plans = st.floats(0.5, 2).flatmap(
    lambda window_s: st.builds(
        WindowPlan,
        window_s=st.just(window_s),
        hop_s=st.none() | st.floats(0.1, window_s),
        pad=st.sampled_from(["repeat", "zero", "none"]),
    )
)


@given(plan=plans, n=st.integers(1_600, 200_000), sizes=st.lists(st.integers(0, 70_000), max_size=6))
def test_every_sample_is_covered_in_order_and_only_by_real_audio(
    plan: WindowPlan, n: int, sizes: list[int]
) -> None:
    found = cut(n, plan, *sizes)
    assert found[0].start == 0
    assert found[-1].end == n
    for before, after in itertools.pairwise(found):
        assert before.start < after.start <= before.end
        assert after.start - before.start <= plan.n_hop
    for window in found:
        real = window.samples[: window.end - window.start]
        np.testing.assert_array_equal(real, np.arange(window.start, window.end))
        if n >= plan.n_window:
            assert window.end - window.start == plan.n_window
            assert window.padded == ""
    if plan.pad != "none" or n >= plan.n_window:
        assert {len(window.samples) for window in found} == {plan.n_window}


@settings(max_examples=30, deadline=None)
@given(plan=plans, n=st.integers(1_600, 150_000), size=st.integers(160, 50_000))
def test_windows_do_not_depend_on_the_blocks_that_they_come_in(plan: WindowPlan, n: int, size: int) -> None:
    whole, pieces = cut(n, plan), cut(n, plan, *[size] * (n // size))
    assert [(w.start, w.end, w.padded) for w in whole] == [(w.start, w.end, w.padded) for w in pieces]
    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)


def test_memory_does_not_grow_with_the_length() -> None:
    def blocks(seconds: int) -> Iterator[np.ndarray]:
        for _ in range(seconds * 2):
            yield np.zeros(RATE_HZ // 2, np.float32)

    def peak(seconds: int) -> int:
        tracemalloc.start()
        n = sum(1 for _ in windows(blocks(seconds), WindowPlan(hop_s=5)))
        assert n == seconds // 5 - 1
        _, top = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return top

    a_window = 320_000 * 4
    assert peak(600) < 4 * a_window
    assert peak(600) < peak(60) + a_window / 2


def test_a_window_is_given_as_soon_as_it_is_there() -> None:
    def blocks() -> Iterator[np.ndarray]:
        yield ramp(320_000)
        raise AssertionError("asked for more than the first window needs")

    assert next(windows(blocks(), WindowPlan())).end == 320_000


def test_cutting_loads_no_decoder() -> None:
    code = (
        "import sys, dymn_cli.audio; assert 'numpy' not in sys.modules;"
        "import dymn_cli.audio.windows; assert not {'soundfile', 'av'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("last", [0, 3, 7, 12, 99, None])
@pytest.mark.parametrize("first", [0, 3, 5, 11, 12, 99])
def test_samples_between_two_positions(first: int, last: int | None) -> None:
    signal = ramp(12)
    left = iter([signal[:3], signal[3:3], signal[3:8], signal[8:]])
    found = list(between(left, first, last))
    assert all(map(len, found))
    np.testing.assert_array_equal(np.concatenate([signal[:0], *found]), signal[first:last])
    if last == 7:
        assert len(next(left)) == 4  # none is read that is not needed
