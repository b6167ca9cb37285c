"""A remote object as a file: ranges of bytes come when they are read, and ahead of a steady reader.

A look at a header costs one small request. Who reads on gets larger and larger pieces, up to 4 MiB, each of
which is fetched while the one before is decoded. A request that fails is made again (see `store.patiently`),
and an object that is another one by then is an error. Six pieces of an object are held.
"""

from __future__ import annotations

import contextlib
import io
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from dymn_cli.errors import InputError
from dymn_cli.remote.store import WEB, Stat, open_store, patiently, reason_of, stat_of
from dymn_cli.remote.uri import address_of, is_network, schemes
from dymn_cli.virtual_file import VirtualFile

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["open_uri"]

FIRST = 256 << 10  # bytes
LARGEST = 4 << 20
MAX_PIECES = 6
STEADY = 2  # pieces in a row, after which the next one is fetched ahead


def open_uri(name: str) -> BinaryIO:
    """Open an object for reading; it can seek, unless its server gives it from the start only.

    Raises:
        InputError: it cannot be opened.
    """
    file, found = patiently(name, lambda: _open(name))
    if found.size is None:
        return cast("BinaryIO", _Stream(name, file))
    remote = _RemoteFile(name, file, found)
    if schemes(address_of(name))[0] in WEB and not remote.gives_ranges():
        remote.close()
        file, _ = patiently(name, lambda: _open(name, in_one_go=True))
        return cast("BinaryIO", _Stream(name, file))
    return remote.as_file()


def _open(name: str, *, in_one_go: bool = False) -> tuple[Any, Stat]:
    """The driver's file, without a cache, and what the store says of it; without a size, it cannot seek."""
    store, path = open_store(name)
    found = stat_of(store, path)
    if found.is_folder:
        raise IsADirectoryError(path)
    file = store.open(path, "rb", block_size=0 if in_one_go else LARGEST, cache_type="none")
    size = getattr(file, "size", None)
    if size is None and found.size is not None and not in_one_go and schemes(address_of(name))[0] not in WEB:
        size = found.size
    return file, Stat(size, found.version)


class _RemoteFile(VirtualFile):
    """An object that is read piece by piece.

    Args:
        name: what errors call it.
        file: the driver's.
        found: its size, and which version of it this is.
    """

    def __init__(self, name: str, file: Any, found: Stat) -> None:
        super().__init__()
        assert found.size is not None
        self._uri = name  # `name` would be taken for the path of the file
        self._file: Any = file
        self._found = found
        self._size = found.size
        self._pieces: list[tuple[int, bytes]] = []  # the one used last is last
        self._end = 0  # of the piece fetched last
        self._n_steady = 0
        self._n_next = FIRST
        self._thread = ThreadPoolExecutor(1, "dymn-ahead") if is_network(address_of(name)) else None
        if "::" in address_of(name):
            self._thread = None  # the archive reads ahead; not all of them may be read by two threads
        self._ahead: Future[bytes] | None = None
        self._ahead_start = 0

    def length(self) -> int:
        """Its size in bytes."""
        return self._size

    def piece(self, position: int, n_bytes: int) -> bytes:
        """Bytes of the piece that is there.

        Raises:
            InputError: the store fails.
        """
        if position >= self._size:
            return b""
        start, piece = self._piece_at(position)
        return piece[position - start : position - start + n_bytes]

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move, also beyond the end, as files allow.

        Raises:
            OSError: before the start.
        """
        position = super().seek(offset, whence)
        if position < 0:
            raise OSError("a position before the start of the file")
        return position

    def gives_ranges(self) -> bool:
        """Whether the end of the object can be had without the rest of it; that end is kept."""
        start = max(0, self._size - FIRST // 4)
        if not start:
            return True
        try:
            self._keep(start, self._fetch(start, self._size))
        except InputError as error:
            if error.__cause__ is None or isinstance(error.__cause__, ValueError):
                return False
            raise
        return True

    def _piece_at(self, position: int) -> tuple[int, bytes]:
        for n in reversed(range(len(self._pieces))):
            start, piece = self._pieces[n]
            if start <= position < start + len(piece):
                self._pieces.append(self._pieces.pop(n))
                break
        else:
            self._load(position)
        self._read_ahead()
        return self._pieces[-1]

    def _load(self, position: int) -> None:
        """Fetch the piece that begins there, unless it is on its way."""
        is_steady = position == self._end and bool(self._pieces)
        self._n_steady = self._n_steady + 1 if is_steady else 1
        self._n_next = min(2 * self._n_next, LARGEST) if is_steady else FIRST
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            # Its errors are met again below, where they are tried again.
            with contextlib.suppress(Exception):
                piece = ahead.result()
                if self._ahead_start == position:
                    self._add(position, piece)
                    return
        self._add(position, self._fetch(position, min(position + self._n_next, self._size)))

    def _add(self, start: int, piece: bytes) -> None:
        self._keep(start, piece)
        self._end = start + len(piece)

    def _keep(self, start: int, piece: bytes) -> None:
        self._pieces.append((start, piece))
        del self._pieces[:-MAX_PIECES]

    def _read_ahead(self) -> None:
        start, piece = self._pieces[-1]
        is_newest = start + len(piece) == self._end
        if self._thread is None or self._ahead is not None or not is_newest or self._end >= self._size:
            return
        if self._n_steady >= STEADY:
            end = min(self._end + min(2 * self._n_next, LARGEST), self._size)
            self._ahead_start = self._end
            self._ahead = self._thread.submit(self._fetch_once, self._end, end)

    def _fetch(self, start: int, end: int) -> bytes:
        return patiently(self._uri, lambda: self._fetch_once(start, end), self._let_go)

    def _fetch_once(self, start: int, end: int) -> bytes:
        if self._file is None:
            self._file, found = _open(self._uri)
            if found != self._found:
                self._let_go()
                raise InputError(f"{self._uri}: it has changed while it was read", hint="try again")
        self._file.seek(start)
        data = bytearray()
        while len(data) < end - start and (more := self._file.read(end - start - len(data))):
            data += more
        if len(data) < end - start:
            raise EOFError("the answer breaks off")
        return bytes(data)

    def _let_go(self) -> None:
        file, self._file = self._file, None
        with contextlib.suppress(Exception):
            if file is not None:
                file.close()

    def close(self) -> None:
        """Wait for what is on its way, and close the driver's file."""
        if not self.closed:
            if self._thread is not None:
                self._thread.shutdown(cancel_futures=True)
            self._let_go()
            self._pieces.clear()
            super().close()


class _Stream(io.RawIOBase):
    """An object that only comes from its start to its end."""

    def __init__(self, name: str, file: Any) -> None:
        self._uri = name
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        target = memoryview(buffer).cast("B")
        try:
            data = self._file.read(len(target))
        except Exception as exc:
            raise InputError(f"{self._uri}: cannot be read: {reason_of(self._uri, exc)}") from None
        target[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            with contextlib.suppress(Exception):
                self._file.close()
            super().close()
