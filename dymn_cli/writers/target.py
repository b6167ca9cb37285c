"""Where bytes go: standard output, a device or pipe, or a file that appears only when it is complete.

A new file appears when it is complete (see `dymn_cli.atomic`): without `force` it is linked into place, which
fails where something of that name has appeared meanwhile.

A result at a URI is written to a temporary file and uploaded when it is complete: an object store shows all
of it or nothing, and replaces nothing unasked (see `dymn_cli.remote.store`).

A terminal gets rows and documents with control characters made visible, those of file names included: names
are data. Only what draws tables, and has made names harmless by itself, may send it escape sequences. Files
and pipes get every byte as it is.

The operating system's errors become `OutputError` where bytes leave; only `BrokenPipeError` passes
untouched, because a reader that has gone away is no error of ours.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import select
import shlex
import shutil
import stat
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

from dymn_cli.atomic import Part
from dymn_cli.errors import InputError, OutputError, UsageError, os_error_text
from dymn_cli.remote import store
from dymn_cli.remote.reading import open_uri
from dymn_cli.remote.uri import address_of, is_uri, named
from dymn_cli.writers.spelling import name_bytes, visible_rows

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from _typeshed import ReadableBuffer

__all__ = [
    "Target",
    "beginning_of",
    "check_target",
    "input_guard",
    "is_stdout",
    "is_there",
    "open_target",
    "remove_target",
    "require_distinct",
    "seekable_stream",
    "together",
]

STDOUT = ("-", "/dev/stdout")

_HINTS = {
    errno.ENOSPC: "free some space, or write to another disk",
    errno.EDQUOT: "free some of your quota, or write to another disk",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
    errno.ENAMETOOLONG: "choose a shorter name",
}


class Target(ABC):
    """A place for bytes; a context manager that completes it, or drops it where an exception passes.

    Attributes:
        name: what to call it in messages.
        is_file: whether it is a regular file, beside which others can lie.
        stream: takes the bytes; open inside the `with` block only.
    """

    name: str
    is_file: bool
    stream: BinaryIO

    @abstractmethod
    def __enter__(self) -> Self: ...

    def finish(self) -> None:
        """Hand over every byte: all that can fail for want of space fails here. Harmless when repeated.

        Raises:
            OutputError: the operating system refused.
        """
        self.stream.close()

    def publish(self) -> None:  # noqa: B027 - most targets have no other name to appear under
        """Make what is finished appear under its name."""

    def discard(self) -> None:
        """Let go of it, quietly, in whatever state it is."""
        with contextlib.suppress(OSError, OutputError):
            self.stream.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()
            return
        try:
            self.finish()
            self.publish()
        except BaseException:
            self.discard()
            raise


class _StandardOutput(Target):
    name = "standard output"
    is_file = False

    def __init__(self, *, styled: bool) -> None:
        self._styled = styled

    def __enter__(self) -> Self:
        if sys.stdout is None:
            raise OutputError("standard output is closed", hint="give a file with --out")
        with _os_errors_of(self.name):
            sys.stdout.flush()
        # Below Python's own buffer: what that could not hand over it would complain of again at exit.
        binary = sys.stdout.buffer
        self.stream = _shown(_stream(getattr(binary, "raw", binary), self.name), self._styled)
        return self


class _Device(Target):
    """A device, a named pipe, a shell's `>(…)`: written to where it is."""

    is_file = False

    def __init__(self, path: Path, name: str, *, styled: bool) -> None:
        self.name = name
        self._path = path
        self._styled = styled

    def __enter__(self) -> Self:
        with _os_errors_of(self.name):
            raw = self._path.open("wb", buffering=0)
        self.stream = _shown(_stream(raw, self.name, owned=True), self._styled)
        return self


class _NewFile(Target):
    is_file = True

    def __init__(self, path: Path, name: str, *, force: bool, durable: bool) -> None:
        self.name = name
        self._path = path
        self._force = force
        self._durable = durable
        self._part: Part | None = None

    def __enter__(self) -> Self:
        with _os_errors_of(self.name):
            self._part = Part(self._path, clean=self._durable)
        self.stream = _stream(self._part.raw, self.name, owned=True, seekable=True)
        return self

    def finish(self) -> None:
        if self.stream.closed:
            return
        with _os_errors_of(self.name):
            self.stream.flush()
            if self._durable:
                os.fsync(self.stream.fileno())
            self.stream.close()

    def publish(self) -> None:
        if self._part is None:
            return
        with _os_errors_of(self.name):
            try:
                self._part.publish(replace=self._force)
            except FileExistsError as exc:
                raise _exists(self.name) from exc

    def discard(self) -> None:
        super().discard()
        if self._part is not None:
            self._part.discard()


class _Object(Target):
    """An object in a store: a temporary file, uploaded when it is complete."""

    is_file = True

    def __init__(self, name: str, *, force: bool) -> None:
        self.name = name
        self._force = force
        self._path: str | None = None

    def __enter__(self) -> Self:
        with _os_errors_of("a temporary file"):
            file = tempfile.NamedTemporaryFile(prefix="dymn-", buffering=0, delete=False)
        self._path = file.name
        self.stream = _stream(cast("_Raw", file), self.name, owned=True, seekable=True)
        return self

    def finish(self) -> None:
        if not self.stream.closed:
            self.stream.flush()
            self.stream.close()

    def publish(self) -> None:
        if self._path is None:
            return
        try:
            store.upload(self._path, self.name, replace=self._force)
        except FileExistsError as exc:
            raise _exists(self.name) from exc
        self._remove()

    def discard(self) -> None:
        super().discard()
        self._remove()

    def _remove(self) -> None:
        if self._path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)  # noqa: PTH108


class _Raw(Protocol):
    def write(self, data: ReadableBuffer, /) -> int | None: ...
    def seek(self, offset: int, whence: int = ..., /) -> int: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class _Guard(io.RawIOBase):
    """An unbuffered stream whose errors are ours: the last step before the operating system.

    Nothing is kept for a second try: what an interrupted write has handed over is out, once.
    A buffer above would send it again.
    """

    def __init__(self, raw: _Raw, name: str, *, owned: bool = False, seekable: bool = False) -> None:
        self._raw = raw
        self._name = name
        self._owned = owned
        self._seekable = seekable

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._seekable

    def write(self, data: ReadableBuffer, /) -> int:
        left = memoryview(data).cast("B")
        n_bytes = len(left)
        with _os_errors_of(self._name):
            while left:
                n_taken = self._raw.write(left)
                if n_taken is None:  # a pipe that someone made non-blocking
                    select.select([], [self._raw], [])
                else:
                    left = left[n_taken:]
        return n_bytes

    def seek(self, offset: int, whence: int = 0, /) -> int:
        with _os_errors_of(self._name):
            return self._raw.seek(offset, whence)

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        isatty = getattr(self._raw, "isatty", None)  # what a test or a notebook puts there may lack it
        return isatty is not None and bool(isatty())

    def close(self) -> None:
        if not self.closed:
            super().close()
            if self._owned:
                with _os_errors_of(self._name):
                    self._raw.close()


class _Visible(io.RawIOBase):
    """UTF-8 text for a terminal, in which only tabs and line ends control anything."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        view = memoryview(data)
        self._put(self._decoder.decode(bytes(view)))
        return view.nbytes

    def _put(self, text: str) -> None:
        self._stream.write(name_bytes(visible_rows(text)))

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            self._put(self._decoder.decode(b"", final=True))
            super().close()
            self._stream.close()


def _shown(stream: BinaryIO, styled: bool) -> BinaryIO:
    """The stream, or in front of a terminal one that makes controls visible, unless they are our own."""
    return stream if styled or not stream.isatty() else cast(BinaryIO, _Visible(stream))


def _stream(raw: _Raw, name: str, *, owned: bool = False, seekable: bool = False) -> BinaryIO:
    return cast(BinaryIO, _Guard(raw, name, owned=owned, seekable=seekable))


def is_stdout(out: str | None) -> bool:
    """Whether the value of `--out` means standard output."""
    return out is None or out in STDOUT


def open_target(
    out: str | None,
    *,
    force: bool = False,
    durable: bool = True,
    follow: bool = True,
    styled: bool = False,
) -> Target:
    """The place that `--out` names: standard output for None, "-" and "/dev/stdout", else a path or a URI.

    Args:
        out: the name.
        force: replace what exists.
        durable: a file is on the disk, not only on its way there, when it appears: slow for many files.
        styled: what is written may control a terminal: colours, with all else made visible already.
        follow: what a symbolic link points to is written; without it, a link is refused.

    Raises:
        OutputError: see `check_target`; or, on entering the context, that nothing can be created there.
    """
    if out is None or is_stdout(out):
        return _StandardOutput(styled=styled)
    if is_uri(out):
        check_target(out, force=force)
        return _Object(out, force=force)
    if not follow and os.path.islink(out):  # noqa: PTH114 - names may be bytes that no Path holds
        raise OutputError(f"{out}: a symbolic link", hint="remove it, or choose another place")
    check_target(out, force=force)
    existing = _stat(Path(out))
    if existing and not stat.S_ISREG(existing.st_mode):
        return _Device(Path(out), out, styled=styled)
    path = Path(os.path.realpath(out) if follow else out)  # a link stays one: what it points to is replaced
    return _NewFile(path, out, force=force, durable=durable)


@contextlib.contextmanager
def together(*targets: Target) -> Iterator[None]:
    """Several targets that belong together: published once all are complete, the first of them last.

    So the presence of the first one means that the others are there.

    Raises:
        OutputError: one of them cannot be written; then no name is touched.
    """
    with contextlib.ExitStack() as stack:
        for target in targets:
            stack.enter_context(target)
        yield
        for target in targets:
            target.finish()


@contextlib.contextmanager
def seekable_stream(target: Target) -> Iterator[BinaryIO]:
    """The target's stream or, where it cannot seek, a temporary file that is copied to it at the end."""
    if target.stream.seekable():
        yield target.stream
        return
    name = "temporary file"
    with _os_errors_of(name):
        spool = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - entered below
    with spool, io.BufferedWriter(_Guard(spool, name, seekable=True)) as stream:
        yield stream
        stream.flush()
        spool.seek(0)
        shutil.copyfileobj(spool, target.stream)


def check_target(out: str, *, force: bool = False) -> None:
    """Find out, before any work, whether a file may be written there.

    Devices and pipes may always be written to; an existing regular file with `force` only.

    Raises:
        OutputError: it exists, is a folder, or its folder is missing or not writable.
    """
    if not out:
        raise OutputError("the name of the output file is empty")
    if is_uri(out):
        store.require_writable(out)
        if not force and store.exists(out):
            raise _exists(out)
        return
    path = Path(out)
    with _os_errors_of(out):
        existing = _stat(path)
        if out.endswith(("/", os.sep)) or (existing and stat.S_ISDIR(existing.st_mode)):
            raise OutputError(f"{out}: a folder, not a file", hint="name a file in it")
        if existing is None:
            _check_folder(path)
        elif stat.S_ISREG(existing.st_mode) and not force:
            raise _exists(out)


def input_guard(*outs: str | None) -> Callable[..., None]:
    """What refuses inputs by their names: those that an output would replace, whatever they are called there.

    Args:
        outs: files or URIs that are about to be written; None is none.

    Returns:
        A function of any number of names, None among them, that raises UsageError for such an input.
    """
    files = [out for out in outs if out is not None and not is_stdout(out)]
    out_of = {identity: out for out in files if (identity := _identity(out)) is not None}

    def check(*names: str | None) -> None:
        for name in names if out_of else ():
            out = None if name in (None, "-") else out_of.get(_identity(name))
            if out is not None:
                raise UsageError(f"{named(out)} is also an input", hint="write to another file")

    return check


def require_distinct(outs: Mapping[str, Iterable[str | None]]) -> None:
    """Refuse two options that would write one file.

    Args:
        outs: the files or URIs that each option writes, what lies beside others included; None is none.

    Raises:
        UsageError: two name the same file; standard output, devices and pipes may be shared.
    """
    option_of: dict[str, str] = {}
    for option, out in ((option, out) for option, names in outs.items() for out in names):
        if out is None or is_stdout(out):
            continue
        if not is_uri(out) and (path := Path(out)).exists() and not path.is_file():
            continue
        other = option_of.setdefault(address_of(out) if is_uri(out) else os.path.realpath(out), option)
        if other != option:
            raise UsageError(
                f"{named(out)}: {other} and {option} would both write it", hint="name a file for each"
            )


def _identity(name: str | None) -> object:
    """What two names of one regular file, or of one object, have in common; None for all else."""
    if name is None or is_uri(name):
        return name and address_of(name)
    try:
        status = os.stat(name)  # noqa: PTH116 - names may be bytes that no Path holds
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def is_there(out: str) -> bool:
    """Whether there is something of that name, a link that leads nowhere included.

    Raises:
        OutputError: a store does not tell.
    """
    return store.exists(out) if is_uri(out) else os.path.lexists(out)


def beginning_of(out: str, n_bytes: int) -> bytes | None:
    """The first bytes of a file or object; None where there is none.

    Raises:
        OutputError: it cannot be read.
    """
    try:
        if not (store.exists(out) if is_uri(out) else Path(out).is_file()):
            return None
        with open_uri(out) if is_uri(out) else Path(out).open("rb") as file:
            return file.read(n_bytes)
    except InputError as error:
        raise OutputError(error.message, hint=error.hint) from error
    except OSError as exc:
        raise OutputError(os_error_text(out, exc)) from exc


def remove_target(out: str) -> None:
    """Remove a file or an object, if it is there.

    Raises:
        OutputError: a store does not let us.
    """
    if is_uri(out):
        store.remove(out)
    else:
        Path(out).unlink(missing_ok=True)


def _check_folder(path: Path) -> None:
    real, shown = Path(os.path.realpath(path)).parent, path.parent
    folder = _stat(real)
    if folder is None:
        raise OutputError(
            f"{path}: there is no folder {shown}", hint=f"make it first: mkdir -p {shlex.quote(str(shown))}"
        )
    if not stat.S_ISDIR(folder.st_mode):
        raise OutputError(f"{path}: {shown} is not a folder", hint="choose a folder")
    if not os.access(real, os.W_OK):
        raise OutputError(f"{path}: {shown} is not writable", hint=_HINTS[errno.EACCES])


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as exc:
        raise OutputError(f"{str(path)!r}: no name for a file: {exc}") from exc


def _exists(name: str) -> OutputError:
    return OutputError(f"{name}: the file exists", hint="--force replaces it")


@contextlib.contextmanager
def _os_errors_of(name: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise OutputError(os_error_text(name, exc), hint=_HINTS.get(exc.errno or 0)) from exc
