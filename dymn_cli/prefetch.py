"""Items of an iterator that may keep us waiting, read ahead by a thread."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from queue import Empty, Queue
from threading import Thread
from typing import TypeVar

__all__ = ["Prefetcher"]

T = TypeVar("T")
LONGEST_WAIT_S = 0.5


class Prefetcher(Iterator[T]):
    """The items of an iterator, read ahead, so that something else can be done while the next one is awaited.

    Args:
        items: read in a thread, which is abandoned when no more are wanted.
        n_ahead: items that may wait.
    """

    def __init__(self, items: Iterator[T], n_ahead: int = 1) -> None:
        self._queue: Queue[tuple[T] | BaseException | None] = Queue(maxsize=n_ahead)
        self._has_ended = self._is_closed = False
        self._error: Exception | None = None
        Thread(target=self._read, args=(items,), daemon=True).start()

    @property
    def is_ready(self) -> bool:
        """Whether the next one, or that there is none, is known."""
        return self._has_ended or not self._queue.empty()

    def __next__(self) -> T:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        found = None if self._has_ended else self._get()
        if isinstance(found, BaseException):
            self._has_ended = True
            raise found
        if found is None:
            self._has_ended = True
            raise StopIteration
        return found[0]

    def raise_next(self, error: Exception) -> None:
        """Have the next item asked for raise an error that came too early."""
        self._error = error

    def close(self) -> None:
        """Let the thread end, if it is not waiting for an item."""
        self._is_closed = True
        with contextlib.suppress(Empty):
            while True:
                self._queue.get_nowait()

    def _get(self) -> tuple[T] | BaseException | None:
        """Wait for what the thread has read; a moment at a time, so that no Ctrl-C is lost in between."""
        while True:
            with contextlib.suppress(Empty):
                return self._queue.get(timeout=LONGEST_WAIT_S)

    def _read(self, items: Iterator[T]) -> None:
        try:
            for item in items:
                self._queue.put((item,))
                if self._is_closed:
                    return
        except Exception as exc:
            self._queue.put(exc)
        else:
            self._queue.put(None)
