"""When is a file complete? Once it has not changed for a while, and nobody has it open for writing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dymn_cli.batch.journal import Stamp

__all__ = ["Settling", "is_being_written"]

EVERY_S = 0.1  # files that grow are looked at no more often than that,
REST = 10  # and a look that took a second is followed by ten without one


@dataclass(slots=True)
class _Seen:
    """A file as it was last seen, and since when it is so."""

    stamp: Stamp
    since_s: float


class Settling:
    """Files that may still grow.

    Args:
        settle_s: seconds that a file must stay as it is. Its date says nothing: programs that copy set it,
            and the clock of a network drive may be another.
        clock: monotonic seconds.
    """

    def __init__(self, settle_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settle_s, self._clock = settle_s, clock
        self._growing: dict[str, _Seen] = {}
        self._complete: dict[str, Stamp] = {}
        self._next_s = 0.0

    def see(self, names: Iterable[str]) -> None:
        """Follow these files until they are complete; those that are followed already go on as they are."""
        for name in names:
            if name in self:
                continue
            stamp = Stamp.of(name)
            if stamp is not None:
                self._growing[name] = _Seen(stamp, self._clock())
                self._next_s = 0.0

    def take(self) -> tuple[str, Stamp] | None:
        """Take out the next file that is complete, in the order in which they became so."""
        if not self._complete and self._clock() >= self._next_s:
            self._look()
        while self._complete:
            name = next(iter(self._complete))
            stamp = self._complete.pop(name)
            now = Stamp.of(name)
            if now == stamp:
                return name, stamp
            if now is not None:
                self._growing[name] = _Seen(now, self._clock())
        return None

    def _look(self) -> None:
        """See which files have come to rest, and forget missing ones."""
        start_s = self._clock()
        for name, seen in list(self._growing.items()):
            stamp = Stamp.of(name)
            if stamp is None:
                del self._growing[name]
            elif stamp != seen.stamp:
                self._growing[name] = _Seen(stamp, self._clock())
            elif self._clock() - seen.since_s >= self._settle_s and not is_being_written(name):
                del self._growing[name]
                self._complete[name] = stamp
        now_s = self._clock()
        self._next_s = now_s + max(EVERY_S, REST * (now_s - start_s))

    def __contains__(self, name: str) -> bool:
        return name in self._growing or name in self._complete

    def __len__(self) -> int:
        return len(self._growing) + len(self._complete)


def is_being_written(name: str) -> bool:
    """Whether a process of this machine has the file open for writing, where the system tells (Linux).

    A read lease is only granted on a file that nobody may write to, see fcntl(2). Whoever opens it meanwhile
    waits, and we are sent a signal: not SIGIO, which would end the program, but one that does nothing.
    """
    try:
        import fcntl

        request, read, none = fcntl.F_SETLEASE, fcntl.F_RDLCK, fcntl.F_UNLCK
        choose_signal = fcntl.F_SETSIG
    except (ImportError, AttributeError):
        return False
    try:
        number = os.open(name, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False  # who analyses it says why it cannot be read
    try:
        fcntl.fcntl(number, choose_signal, signal.SIGURG)
        fcntl.fcntl(number, request, read)
        fcntl.fcntl(number, request, none)
    except BlockingIOError:
        return True
    except OSError:
        pass  # of another user, or on a file system without leases
    finally:
        os.close(number)
    return False
