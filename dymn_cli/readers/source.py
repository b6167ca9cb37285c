"""The bytes of a result: a file, a pipe, standard input, or an object at a URI."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, cast

from dymn_cli.errors import InputError, UsageError, os_error_text
from dymn_cli.remote.reading import open_uri
from dymn_cli.remote.uri import is_uri, named
from dymn_cli.small_files import bounded_lines

if TYPE_CHECKING:
    from typing import TextIO

    from _typeshed import WriteableBuffer

__all__ = ["ResultFile", "open_result_file", "os_errors_of"]

HEAD_LINES = 4  # the schema of a json array stands in its third line
HEAD_BYTES = 1 << 16
STDIN = ("-", "/dev/stdin")


class ResultFile:
    """An open result.

    Args:
        name: what messages call it.
        path: of the file, or its URI without credentials; "-" for standard input.
        head: its first lines.
        stream: its bytes, from the first.
    """

    def __init__(self, name: str, path: str, head: bytes, stream: BinaryIO) -> None:
        self.name = name
        self.path = path
        self.head = head
        self.stream = stream
        self._text: io.TextIOWrapper | None = None

    @property
    def first_line(self) -> str:
        """Its first line that is not empty, as text."""
        text = self.head.decode("utf-8-sig", "surrogateescape").lstrip("\r\n")
        return next(iter(text.splitlines()), "")

    def text(self) -> TextIO:
        """It as text; bytes that are no UTF-8 become lone surrogates."""
        self._text = io.TextIOWrapper(self.stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
        return self._text

    def let_go(self) -> None:
        """Leave the stream to whoever opened it: a text would close it, and say that it was left open."""
        if self._text is not None:
            with contextlib.suppress(ValueError, OSError):
                self._text.detach()

    def lines(self) -> Iterator[tuple[str, str]]:
        """Each line without its end, behind where it stands.

        Raises:
            InputError: it cannot be read, or a line never ends.
        """
        with os_errors_of(self.name):
            for n, line in enumerate(bounded_lines(self.text(), self.name, InputError), start=1):
                yield f"{self.name}, line {n}", line.rstrip("\r\n")

    def make_seekable(self, opened: contextlib.ExitStack) -> None:
        """Copy a pipe to a temporary file, because a reader has to go back.

        Args:
            opened: closes that file.
        """
        if not self.stream.seekable():
            spool = opened.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - it is
            with os_errors_of(self.name):
                shutil.copyfileobj(self.stream, spool)
            spool.seek(0)
            self.stream = cast(BinaryIO, spool)


@contextlib.contextmanager
def open_result_file(path: str) -> Iterator[ResultFile]:
    """Open a result and read its head.

    Args:
        path: of a file or pipe, or a URI; "-" for standard input.

    Raises:
        InputError: it cannot be read.
        UsageError: standard input is a terminal.
    """
    path = named(path)
    is_stdin = path in STDIN
    name = "standard input" if is_stdin else path
    if is_stdin and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError("standard input is a terminal", hint="name a file, or pipe a result in")
    with contextlib.ExitStack() as stack:
        with os_errors_of(name):
            if is_stdin:
                stream = cast(BinaryIO, sys.stdin.buffer)
            elif is_uri(path):
                raw = cast("io.RawIOBase", open_uri(path))
                stream = stack.enter_context(io.BufferedReader(raw, HEAD_BYTES))
            elif os.path.isdir(path):  # noqa: PTH112 - names may be bytes that no Path holds
                raise InputError(f"{path}: a folder, not a result")
            else:
                stream = stack.enter_context(open(path, "rb"))  # noqa: PTH123 - likewise
            head = _head(stream)
            if stream.seekable():
                stream.seek(0)
            else:
                stream = cast(BinaryIO, io.BufferedReader(_Rewound(head, stream), HEAD_BYTES))
        file = ResultFile(name, path, head, stream)
        stack.callback(file.let_go)
        yield file


@contextlib.contextmanager
def os_errors_of(name: str) -> Iterator[None]:
    """Errors of the operating system, and of a name that none can be, as ours.

    Raises:
        InputError: there was one.
    """
    try:
        yield
    except OSError as exc:
        raise InputError(os_error_text(name, exc)) from exc
    except ValueError as exc:
        if "null byte" not in str(exc) and "null character" not in str(exc):
            raise
        raise InputError(f"{name!r}: no name for a file") from exc


def _head(stream: BinaryIO) -> bytes:
    head = b""
    for _ in range(HEAD_LINES):
        line = stream.readline(HEAD_BYTES - len(head))
        head += line
        if not line or len(head) >= HEAD_BYTES:
            break
    return head


class _Rewound(io.RawIOBase):
    """A stream that cannot seek, read once more from its first byte."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = memoryview(head)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        piece = self._head[: len(view)] or memoryview(self._next(len(view)))
        self._head = self._head[len(piece) :]
        view[: len(piece)] = piece
        return len(piece)

    def _next(self, n_bytes: int) -> bytes:
        read = getattr(self._rest, "read1", self._rest.read)
        return cast(bytes, read(n_bytes))
