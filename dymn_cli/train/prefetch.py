"""Batches that are made by other threads while the network computes, and come in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["prefetched"]

T = TypeVar("T")


def prefetched(
    make: Callable[[int], T], first: int, last: int, *, threads: int = 1, ahead: int = 3
) -> Iterator[T]:
    """`make(first)` … `make(last - 1)`, in order, computed ahead of their use.

    Args:
        make: what is called, by any thread; an exception comes out where its result would have.
        first: first argument.
        last: the argument after the last one.
        threads: that call it; 0 calls it when the result is wanted.
        ahead: results that may wait.
    """
    if threads <= 0:
        yield from map(make, range(first, last))
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="batches") as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for step in range(first, last):
                waiting.append(pool.submit(make, step))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
