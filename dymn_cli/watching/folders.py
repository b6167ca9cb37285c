"""What lies in folders, looked at again whenever something changes there.

The operating system only rings the bell; what is there is found by looking, as a batch run does. So files and
folders that are moved in, and changes that nobody announced, are found as well.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec

from dymn_cli.audio.discover import find
from dymn_cli.errors import AudioNotFoundError, BackendUnavailableError, UsageError

__all__ = ["Folders"]

RESCAN_S = 60.0  # looked at that often even if nobody rings
FALLBACK_S = 5.0
REST = 10  # a look that took a second is followed by ten without one


class Folders:
    """Folders that are watched; use it in a `with` statement.

    Args:
        folders: their names.
        extensions: of the files that count; None for all known.
        recurse: also look into folders within folders.
        poll_s: look that often instead of being told of changes; None to be told.
        warn: takes what stands in the way of being told.

    Attributes:
        names: of the folders.

    Raises:
        UsageError: not a folder.
        AudioNotFoundError: it is not there.
        BackendUnavailableError: watchfiles is not installed.
    """

    def __init__(
        self,
        folders: Sequence[str],
        *,
        extensions: frozenset[str] | None,
        recurse: bool,
        poll_s: float | None,
        warn: Callable[[str], None],
    ) -> None:
        for folder in folders:
            if not os.path.lexists(folder):
                raise AudioNotFoundError(f"{folder}: no such folder")
            if not os.path.isdir(folder):  # noqa: PTH112 - names may be bytes that no Path holds
                raise UsageError(f"{folder}: not a folder", hint="dymn watch takes folders")
        self.names, self._extensions, self._recurse = folders, extensions, recurse
        self._every_s = RESCAN_S if poll_s is None else poll_s
        self._warn = warn
        self._bell, self._stop = threading.Event(), threading.Event()
        self._next_s = self._earliest_s = 0.0
        self._thread = None
        if poll_s is None:
            _require_watchfiles()
            self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Folders:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Listen no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2)

    def look(self) -> list[str] | None:
        """The files that are there now, in the order of a batch run; None where it is not time to look."""
        now = time.monotonic()
        if now < self._earliest_s or (now < self._next_s and not self._bell.is_set()):
            return None
        self._bell.clear()
        present = [folder for folder in self.names if os.path.isdir(folder)]  # noqa: PTH112
        found = find(present, extensions=self._extensions, recurse=self._recurse)
        names = [source.name for source in found if source.problem is None]
        took_s = time.monotonic() - now
        self._earliest_s = now + REST * took_s
        self._next_s = now + max(self._every_s, REST * took_s)
        return names

    def wait(self, seconds: float) -> None:
        """Wait until something changes, or so many seconds have passed."""
        if self._bell.is_set():  # and it is too early to look again
            time.sleep(min(seconds, max(0.0, self._earliest_s - time.monotonic())))
        else:
            self._bell.wait(seconds)

    def _listen(self) -> None:
        from watchfiles import watch

        try:
            for _ in watch(
                *self.names,
                watch_filter=None,
                debounce=200,
                stop_event=self._stop,
                rust_timeout=500,
                recursive=self._recurse,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                self._bell.set()
        except Exception as exc:  # there are no watches left, or the file system has none
            self._every_s = min(self._every_s, FALLBACK_S)
            self._bell.set()
            self._warn(f"the system does not tell of changes ({exc}); looking every {FALLBACK_S:g} s instead")


def _require_watchfiles() -> None:
    if find_spec("watchfiles") is None:
        raise BackendUnavailableError(
            "dymn watch needs watchfiles", hint="pip install 'dymn[watch]', or --poll S looks every S seconds"
        )
