"""Write files atomically: under a hidden name in the same folder, then renamed.

    with atomic_write(path) as file:
        file.write(...)

The hidden name (`.dymn-FAMILY-RANDOM.part`) is random and must not exist, so nobody can place a link there
that would be followed. The rename stays in one folder and is atomic: readers see the old file or the whole
new one. A link under the final name is replaced, not followed. On any exception, Ctrl-C included, the hidden
file is removed and the target is unchanged; the hidden file of a killed process is removed by the next one
that writes to the same target.

Errors of the operating system are passed on: the caller knows how to describe them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["Part", "atomic_write", "remove_parts"]

PART_SUFFIX = ".part"
NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


@contextlib.contextmanager
def atomic_write(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file that replaces `path`, with its permissions, when the block ends without an exception.

    Args:
        path: the final path.
        durable: wait until the data is on the disk; unnecessary for a cache.

    Raises:
        OSError: it cannot be written; `path` is unchanged.
    """
    part = Part(path)
    try:
        with io.BufferedWriter(part.raw) as stream:
            yield stream
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        part.publish(replace=True)
    except BaseException:
        part.discard()
        raise


class Part:
    """A file under its hidden name.

    Args:
        path: the final path.
        clean: also remove hidden files that killed processes have left for that path.

    Attributes:
        raw: the unbuffered file; close it before publishing.

    Raises:
        OSError: it cannot be created.
    """

    def __init__(self, path: Path, *, clean: bool = True) -> None:
        self._path = path
        family = f".dymn-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]}-"
        self._part = path.with_name(f"{family}{os.urandom(8).hex()}{PART_SUFFIX}")
        try:
            # A signal that comes meanwhile is raised before the result has a name: a number goes quietly.
            descriptor = os.open(self._part, NEW_FILE, 0o666)
            self.raw = io.FileIO(self._part, "x", opener=lambda name, flags: descriptor)
            _lock(self.raw)
            if clean:
                remove_parts(path.parent, family)
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                replaced = path.lstat()
                if stat.S_ISREG(replaced.st_mode):
                    self._part.chmod(stat.S_IMODE(replaced.st_mode))
        except BaseException:
            self.discard()
            raise

    def publish(self, *, replace: bool) -> None:
        """Rename to the final path.

        Args:
            replace: replace an existing file.

        Raises:
            FileExistsError: there is one, and `replace` is not set.
            OSError: the operating system refused.
        """
        if replace or not self._link():
            self._part.replace(self._path)
        self._part.unlink(missing_ok=True)

    def _link(self) -> bool:
        """Link to the final path unless it exists; False if the file system has no hard links."""
        try:
            os.link(self._part, self._path)
        except FileExistsError:
            raise
        except OSError as exc:
            if os.path.lexists(self._path):
                raise FileExistsError(self._path) from exc
            return False
        return True

    def discard(self) -> None:
        """Remove it, ignoring errors."""
        with contextlib.suppress(OSError, AttributeError):  # interrupted before it was open
            self.raw.close()
        with contextlib.suppress(OSError):
            self._part.unlink(missing_ok=True)


def _lock(file: io.FileIO) -> bool:
    """Lock the file until it is closed; False if that fails or is not supported."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def remove_parts(folder: Path, start: str = ".dymn-") -> None:
    """Remove hidden files whose names begin so and that no process is writing any more."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.startswith(start) and e.name.endswith(PART_SUFFIX)]
        for name in names:
            with contextlib.suppress(OSError), io.FileIO(folder / name, "r+") as file:
                if _lock(file):
                    (folder / name).unlink()
