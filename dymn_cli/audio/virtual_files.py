"""Virtual files: what a decoder reads instead of a file that is damaged or whose header is wrong.

Nothing is copied: a virtual file knows which bytes of the real one follow one another, and reads them when
it is asked.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from dymn_cli.errors import InputError
from dymn_cli.virtual_file import VirtualFile

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ENDLESS",
    "ByteWindow",
    "ForeignFile",
    "GuardedFile",
    "Part",
    "SplicedFile",
    "read_at",
    "size_of",
]

Part: TypeAlias = "bytes | range"
"""Bytes to insert, or positions in the file."""

ENDLESS = 1 << 40  # far beyond any MP3, and its frame count still fits 63 bits
ID3V1_SIZE = 128
WINDOW = 1 << 18


def size_of(stream: BinaryIO) -> int:
    """Bytes of a file; leaves its position at the end."""
    return stream.seek(0, os.SEEK_END)


def read_at(stream: BinaryIO, position: int, n_bytes: int) -> bytes:
    """Bytes from a position on, fewer or none at the end; moves the position."""
    if not 0 <= position < size_of(stream):  # operating systems refuse positions that headers make up
        return b""
    stream.seek(position)
    data = stream.read(n_bytes) or b""
    while len(data) < n_bytes and (
        more := stream.read(n_bytes - len(data))
    ):  # unbuffered files read in parts
        data += more
    return data


class ByteWindow:
    """Quick looks at neighbouring bytes of a file.

    Args:
        stream: the seekable file; its position is moved.
        end: position after the last byte to look at; that of the file by default.
    """

    def __init__(self, stream: BinaryIO, end: int | None = None) -> None:
        self._stream = stream
        self.end = size_of(stream) if end is None else end
        self._start = 0
        self._data = b""

    def get(self, position: int, n_bytes: int) -> bytes:
        """Bytes from a position on, fewer at the end."""
        offset = position - self._start
        if offset < 0 or offset + n_bytes > len(self._data):
            n_read = max(0, min(max(n_bytes, WINDOW), self.end - position))
            self._data, self._start, offset = read_at(self._stream, position, n_read), position, 0
        return self._data[offset : offset + n_bytes]

    def find(self, what: bytes, position: int, end: int | None = None) -> int:
        """Where bytes are next found, from a position on; -1 where they are not."""
        end = self.end if end is None else min(end, self.end)
        while position < end:
            chunk = self.get(position, min(WINDOW, end - position))
            at = chunk.find(what)
            if at >= 0:
                return position + at
            if len(chunk) < len(what):
                return -1
            position += len(chunk) - len(what) + 1
        return -1


class ForeignFile(VirtualFile):
    """A file object that the caller gave: whatever it raises becomes an InputError.

    Args:
        stream: the file object, which can seek.
        name: what errors call it.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        super().__init__()
        self._stream = stream
        self._source = name  # `name` and `_name` would be taken for the path of the file
        self._stream_position = -1
        self._size = size_of(stream)

    def length(self) -> int:
        """Its size when it was opened."""
        return self._size

    def piece(self, position: int, n_bytes: int) -> bytes:
        """Bytes of the file object."""
        if position >= self._size:  # operating systems refuse positions that headers make up
            return b""
        try:
            if position != self._stream_position:
                self._stream.seek(position)
            data = self._stream.read(n_bytes) or b""
        except InputError:
            raise
        except Exception as exc:
            raise InputError(f"{self._source}: cannot be read: {exc}") from exc
        self._stream_position = position + len(data)
        return data


class GuardedFile(ForeignFile):
    """A file object for callbacks from C, where an exception would be printed and forgotten.

    An error ends the file, and `check` raises it once C has returned. Decoders may seek to absurd places that
    a damaged header names, which is no error until they read there: only reading moves the file object.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        super().__init__(stream, name)
        self._error: InputError | None = None

    def piece(self, position: int, n_bytes: int) -> bytes:
        """What the file gives; nothing after an error."""
        try:
            return super().piece(position, n_bytes) if self._error is None else b""
        except InputError as error:
            self._error = error
            return b""

    def check(self) -> None:
        """Raise what a callback met.

        Raises:
            InputError: the file object failed.
        """
        if self._error is not None:
            raise self._error


class SplicedFile(VirtualFile):
    """Parts of a file, and bytes in between, one after the other.

    Args:
        stream: the seekable file; its position is moved.
        parts: taken as reading reaches them; those that adjoin in the file are joined.
        is_endless: claim a length that is never reached, for formats that guess where they end.
    """

    def __init__(self, stream: BinaryIO, parts: Iterable[Part], *, is_endless: bool = False) -> None:
        super().__init__()
        self._stream = stream
        self._coming = iter(parts)
        self._is_endless = is_endless
        self._starts = array("q")
        self._parts: list[Part] = []
        self._end = 0

    def length(self) -> int:
        """The sum of all parts, or a length that is never reached."""
        if self._is_endless:
            return ENDLESS
        while self._grow():
            pass
        return self._end

    def piece(self, position: int, n_bytes: int) -> bytes:
        """Bytes of the part that is there."""
        while position >= self._end:
            if not self._grow():
                # mpg123 gives a file up as unseekable when the place of its ID3v1 tag cannot be read.
                at_tag = self._is_endless and ENDLESS - ID3V1_SIZE <= position < ENDLESS
                return bytes(min(n_bytes, ENDLESS - position)) if at_tag else b""
        number = bisect_right(self._starts, position) - 1
        part, offset = self._parts[number], position - self._starts[number]
        if isinstance(part, bytes):
            return part[offset : offset + n_bytes]
        return read_at(self._stream, part.start + offset, min(n_bytes, len(part) - offset))

    def _grow(self) -> bool:
        part = next(self._coming, None)
        if part is None:
            return False
        last = self._parts[-1] if self._parts else None
        if isinstance(part, range) and isinstance(last, range) and part.start == last.stop:
            self._parts[-1] = range(last.start, part.stop)
        elif len(part):
            self._starts.append(self._end)
            self._parts.append(part)
        self._end += len(part)
        return True
