"""Read small files that the user names, such as labels, thresholds, ground truth and indexes.

A mistyped name may lead to a recording, an endless device, or a pipe that nobody writes to. Each of them
becomes an error of one line within seconds.
"""

from __future__ import annotations

import os
import select
import stat
from typing import TYPE_CHECKING

from dymn_cli.errors import os_error_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from dymn_cli.errors import DymnError

__all__ = ["LARGE", "SMALL", "bounded_lines", "read_small", "read_small_text"]

SMALL = 16 << 20  # bytes; the list of AudioSet's labels has 15 kB
LARGE = 512 << 20  # bytes; the largest published table, AudioSet's 2 million segments, has 100 MB
LONGEST_LINE = 256 << 20  # characters; all windows of a night as one line of JSON
WAIT_S = 30.0  # for the writer of a pipe
PIECE = 1 << 20


def read_small(
    path: str | os.PathLike[str], error: type[DymnError], *, max_bytes: int = SMALL, where: str | None = None
) -> bytes:
    """Read a file or a pipe.

    Args:
        path: of the file.
        error: the class of error to raise.
        max_bytes: a larger file is refused.
        where: its name in messages; the path if None.

    Raises:
        DymnError: of the class `error`: it cannot be read, is too large, or is a pipe without a writer.
    """
    name = str(path) if where is None else where
    data = bytearray()
    try:
        # Without O_NONBLOCK, opening a pipe would wait for a writer.
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            status = os.fstat(file)
            kind, n_known = status.st_mode, status.st_size
            if stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
                raise error(f"{name}: a device, not a file")
            is_pipe = stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)
            while max(n_known, len(data)) <= max_bytes:
                if is_pipe and not _has_something(file):
                    raise error(f"{name}: no data for {WAIT_S:g} s")
                piece = os.read(file, PIECE)
                if not piece:
                    return bytes(data)
                data += piece
            raise error(f"{name}: larger than {max_bytes >> 20} MB, too large for what it should be")
        finally:
            os.close(file)
    except IsADirectoryError as exc:
        raise error(f"{name}: a folder, not a file") from exc
    except (OSError, ValueError) as exc:  # ValueError: a name with a zero byte
        raise error(os_error_text(name, exc)) from exc


def _has_something(file: int) -> bool:
    """Whether a pipe has data, or ends, within `WAIT_S`."""
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(WAIT_S * 1000))


def read_small_text(
    path: str | os.PathLike[str],
    error: type[DymnError],
    *,
    max_bytes: int = SMALL,
    where: str | None = None,
    errors: str = "strict",
) -> str:
    """Read a text file in UTF-8, with or without a byte-order mark; line ends are kept.

    Args:
        path: of the file.
        error: the class of error to raise.
        max_bytes: a larger file is refused.
        where: its name in messages; the path if None.
        errors: as for `bytes.decode`.

    Raises:
        DymnError: of the class `error`: see `read_small`; or it is not UTF-8.
    """
    data = read_small(path, error, max_bytes=max_bytes, where=where)
    try:
        return data.decode("utf-8-sig", errors)
    except UnicodeDecodeError as exc:
        name = str(path) if where is None else where
        raise error(f"{name}: not text in UTF-8", hint="save it as UTF-8") from exc


def bounded_lines(file: TextIO, where: str, error: type[DymnError]) -> Iterator[str]:
    """Yield the lines of a text file of any size.

    Raises:
        DymnError: of the class `error`: a line is longer than any that dymn writes.
    """
    while line := file.readline(LONGEST_LINE):
        if len(line) >= LONGEST_LINE:
            raise error(f"{where}: a line of more than {LONGEST_LINE >> 20} MB: not a text file")
        yield line
