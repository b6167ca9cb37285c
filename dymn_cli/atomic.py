"""Files that appear whole or not at all: written under a hidden name beside their place, then renamed.

    with atomic_write(path) as file:
        file.write(...)

The hidden name (`.dymn-FAMILY-RANDOM.part`) has a random part and must not exist before, so nobody can lay
out a link under it that would be written through. Being in the same folder, the rename stays within one file
system and is atomic: readers see the old file or the whole new one. A link under the final name is replaced,
not followed. On any exception, Ctrl-C included, the hidden file is removed and the target is as it was; what
a killed process left is removed by the next one with the same target.

Errors are the operating system's own: whoever writes knows what to say of them.
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


@contextlib.contextmanager
def atomic_write(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """The stream of a file that replaces `path` when the block ends without an exception.

    It has the permissions of the file that it replaces.

    Args:
        path: the file's place.
        durable: wait until it is on the disk; not worth it for what can be made again, as a cache.

    Raises:
        OSError: it cannot be written; `path` is as it was.
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
    """A file on its way to its place.

    Args:
        path: where it will be.
        clean: also remove what killed processes have left on the way to that place.

    Attributes:
        raw: takes its bytes, unbuffered; to be closed before it is published.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path, *, clean: bool = True) -> None:
        self._path = path
        family = f".dymn-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]}-"
        self._part = path.with_name(f"{family}{os.urandom(8).hex()}{PART_SUFFIX}")
        self.raw = io.FileIO(self._part, "x")  # 0o666 less the umask, as of any new file
        try:
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
        """Appear in the place.

        Args:
            replace: whatever is there; else it must be free.

        Raises:
            FileExistsError: it is not.
            OSError: the operating system refused.
        """
        if replace or not self._link():
            self._part.replace(self._path)
        self._part.unlink(missing_ok=True)

    def _link(self) -> bool:
        """Appear under the name unless it is taken; False where the file system has no hard links."""
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
        """Remove it, quietly, in whatever state it is."""
        with contextlib.suppress(OSError):
            self.raw.close()
        with contextlib.suppress(OSError):
            self._part.unlink(missing_ok=True)


def _lock(file: io.FileIO) -> bool:
    """Whether the file is ours alone until it is closed; False where that cannot be known."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def remove_parts(folder: Path, start: str = ".dymn-") -> None:
    """Remove hidden files of that beginning which nobody is writing any more: the leavings of killed ones."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        names = [e.name for e in entries if e.name.startswith(start) and e.name.endswith(PART_SUFFIX)]
        for name in names:
            with contextlib.suppress(OSError), io.FileIO(folder / name, "r+") as file:
                if _lock(file):
                    (folder / name).unlink()
