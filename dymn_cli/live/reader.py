"""Reads a live source on a thread, so that sound is taken in while the model computes."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from dymn_cli.live.sources import Notice, Pause, Sound

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from dymn_cli.live.sources import LiveSource

__all__ = ["Reader"]

MAX_QUEUED_S = 30.0  # then the source has to wait: a pipe does, which costs nothing


class Reader:
    """A source with a queue; to be used in a `with` statement.

    Args:
        source: what to read.
        max_queued_s: sound that waits in memory.
    """

    def __init__(self, source: LiveSource, max_queued_s: float = MAX_QUEUED_S) -> None:
        self._source = source
        self._max_queued_s = max_queued_s
        self._queue: deque[Sound | Pause | Notice] = deque()
        self._queued_s = 0.0
        self._is_over = self._is_closed = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="dymn-live", daemon=True)

    def get(self, timeout_s: float) -> Sound | Pause | Notice | None:
        """The next of it; None if nothing comes in that time.

        Raises:
            EOFError: the source is at its end.
            InputError: what it raised.
        """
        end = time.monotonic() + timeout_s
        with self._changed:
            while not self._queue:
                if self._error is not None:
                    raise self._error
                if self._is_over:
                    raise EOFError
                left_s = end - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    return None
            item = self._queue.popleft()
            if isinstance(item, Sound):
                self._queued_s -= item.length_s
            self._changed.notify_all()
            return item

    def _read(self) -> None:
        try:
            for item in self._source.blocks():
                with self._changed:
                    while self._queued_s > self._max_queued_s and not self._is_closed:
                        self._changed.wait()
                    if self._is_closed:
                        return
                    self._queue.append(item)
                    if isinstance(item, Sound):
                        self._queued_s += item.length_s
                    self._changed.notify_all()
        except BaseException as exc:  # handed on to whoever reads
            self._error = exc
        finally:
            with self._changed:
                self._is_over = True
                self._changed.notify_all()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._source.close()
        self._thread.join(0.5)  # it may be waiting for a pipe; it is a daemon
