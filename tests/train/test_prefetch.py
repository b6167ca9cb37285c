from __future__ import annotations

import threading
import time

import pytest

from dymn_cli.train.prefetch import prefetched


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_results_come_in_order(threads: int) -> None:
    def make(n: int) -> int:
        time.sleep(0.002 * (n % 3))
        return n * n

    assert list(prefetched(make, 3, 20, threads=threads)) == [n * n for n in range(3, 20)]


def test_nothing_is_made_far_ahead() -> None:
    made: list[int] = []
    results = prefetched(lambda n: made.append(n), 0, 1000, threads=1, ahead=2)
    next(results)
    time.sleep(0.05)
    assert len(made) <= 4
    results.close()


def test_an_exception_comes_out_where_its_result_would_have() -> None:
    def make(n: int) -> int:
        if n == 2:
            raise ValueError("two")
        return n

    results = prefetched(make, 0, 5)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)


def test_threads_end_with_the_loop() -> None:
    before = threading.active_count()
    list(prefetched(lambda n: n, 0, 5, threads=2))
    assert threading.active_count() == before
