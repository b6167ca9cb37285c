"""A file that is nowhere as it is read: its bytes are collected on the way."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["VirtualFile"]


class VirtualFile(io.RawIOBase):
    """A read-only file that can seek; what it is made of is said by `length` and `piece`."""

    def __init__(self) -> None:
        self._position = 0

    def length(self) -> int:
        """Its size in bytes."""
        raise NotImplementedError

    def piece(self, position: int, n_bytes: int) -> bytes:
        """Between one and `n_bytes` bytes from a position on; none at the end."""
        raise NotImplementedError

    def as_file(self) -> BinaryIO:
        """Itself, as the type that decoders take."""
        return cast("BinaryIO", self)

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move, also beyond the end, as files allow; -1, and no move, before the start."""
        base = 0
        if whence != os.SEEK_SET:
            base = self._position if whence == os.SEEK_CUR else self.length()
        if base + offset < 0:
            return -1
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer from the position on; 0 at the end."""
        target = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(target):
            data = self.piece(self._position, len(target) - filled)
            if not data:
                break
            target[filled : filled + len(data)] = data
            filled += len(data)
            self._position += len(data)
        return filled
