"""The results of a run so far, on disk, so that a killed run resumes where it stopped.

Layout of `OUT.journal` (numbers little-endian):

    line 1     JSON: {"schema": "dymn.journal/3", "fingerprint": {...}} and a line end
    records    kind (1 byte: P, D, F, R or K) · length of name, length of body (4 bytes each) · CRC-32 of name
               and body (4 bytes) · name (file-system bytes) · body

A source that is done has one D record, whose body starts with its size and modification time (8 bytes each)
and the places of its P records, which hold what was streamed out while it was analysed (windows). An F
record takes the D record of its source back. An R record names a file of results, as it is called from the
folder of the journal: its body is empty before the file appears, and holds its size and modification time
afterwards. Only a file that is still the one of its R record may be replaced unasked. A K record, without
name and body, says that the journal stays when a run is complete, so that `--update` can add to its result.

Why it is safe: records are only ever appended, so a kill can only tear the last one, and a torn record has a
wrong length or a wrong CRC: opening cuts the file off before the first such record. A source counts as done
only by its D record, which comes after its P records. The result itself (`OUT`) is written to a temporary
file from these records and renamed when it is complete, so OUT is the whole or not there. Records are handed
to the operating system one by one, so a kill costs what is in hand, and are flushed to the disk every few
seconds: a power cut costs these seconds of work. A disk that fills up costs the record that did not fit.

What makes a record invalid: another size or modification time of the source (it is analysed again; the later
record counts), and any difference in the fingerprint, which holds all that changes results (model hash,
windows, selection, ...; not formatting): then the whole journal is refused with a sentence, never mixed.
Failures are not recorded: a failed source is tried again. The journal goes when a run ends without
failures; with a K record it stays, and is copied without what is out of date in it once that is most of it.
A lock keeps two runs from sharing one (not on Windows). A journal is a file of its own: links, pipes and
devices of that name are refused.

A source that is a URI has the version that its store tells (ETag, checksum or time, as 64 bits) in the place
of the modification time, and is analysed again where a store tells none. Its name holds no credentials.

Memory: a name and a number for each source that is done; bodies stay on disk.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import struct
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from dymn_cli.atomic import atomic_write
from dymn_cli.errors import DymnError, OutputError, os_error_text, os_errors_as
from dymn_cli.remote import store as remote
from dymn_cli.remote.uri import is_uri
from dymn_cli.values import shortened

__all__ = ["Fingerprint", "Journal", "Place", "StaleJournalError", "Stamp", "what_differs"]

SCHEMA = "dymn.journal/3"
HEAD = struct.Struct("<cIII")
DONE_HEAD = struct.Struct("<qqI")
PLACE = struct.Struct("<QI")
STAMP = struct.Struct("<qq")
KINDS = (b"P", b"D", b"F", b"R", b"K")
SYNC_EVERY_S = 5.0
KEPT = "what is done so far is kept"
BEGINNING = b'{"schema": "dymn.journal/'

Fingerprint = dict[str, object]


class StaleJournalError(OutputError):
    """A journal that cannot be continued: of another version, with other options, or damaged."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Size and modification time of a source: whether it is still the file that was analysed."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, name: str) -> Stamp | None:
        """The stamp of a file, or None for standard input and for what cannot be looked at."""
        if is_uri(name):
            with contextlib.suppress(DymnError):
                return cls.at_uri(remote.stat(name))
            return None
        try:
            status = os.stat(name)  # noqa: PTH116 - names may be bytes that no Path holds
        except (OSError, ValueError):
            return None
        return cls(status.st_size, status.st_mtime_ns)

    @classmethod
    def at_uri(cls, there: remote.Stat) -> Stamp | None:
        """The stamp of an object: its version takes the place of a time; None where the store tells none."""
        if there.size is None or there.version is None:
            return None
        return cls(there.size, there.version)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the body of a record lies in the file."""

    offset: int
    length: int


class Journal:
    """An open journal; use it in a `with` statement.

    Args:
        file: unbuffered, readable and writable.
        path: what to call it and to remove in the end; None for one that is not resumed.
    """

    def __init__(self, file: io.RawIOBase | BinaryIO, path: Path | None) -> None:
        self._file = file
        self._path = path
        self._done: dict[str, int] = {}  # where the D record of a source begins
        self._written: dict[str, Stamp | None] = {}  # files of results; None for what was about to appear
        self._is_lasting = False
        self._n_stale = 0  # records that later ones have overruled
        self._gone: frozenset[str] = frozenset()
        self._end = 0
        self._synced = time.monotonic()

    # ------------------------------------------------------------------ opening

    @classmethod
    def temporary(cls) -> Self:
        """A journal for this run only: it holds results until they can be written in order.

        Raises:
            OutputError: there is no place for temporary files.
        """
        with os_errors_as(OutputError, "a temporary file"):
            return cls(tempfile.TemporaryFile(prefix="dymn-", suffix=".journal", buffering=0), None)

    @classmethod
    def open(cls, path: Path, fingerprint: Fingerprint, *, start_over: bool = False) -> Self:
        """Open the journal of an output, and resume what is there.

        Args:
            path: of the journal.
            fingerprint: all that changes results.
            start_over: discard what is there.

        Raises:
            OutputError: it cannot be written, another run is using it, it has another fingerprint, or there
                is a file of that name which is no journal.
        """
        file = _open_locked(path)
        journal = cls(file, path)
        try:
            journal._load(fingerprint, start_over=start_over)
        except BaseException:
            file.close()
            raise
        return journal

    def _load(self, fingerprint: Fingerprint, *, start_over: bool) -> None:
        with self._buffered() as stream:
            line = stream.readline(1 << 20)
            if not (line.startswith(BEGINNING) or BEGINNING.startswith(line)):
                raise OutputError(
                    f"{self._path}: not a journal of dymn", hint="move it away, or choose another --out"
                )
            if start_over or not line.endswith(b"\n"):  # empty, or killed while it was begun
                self._file.seek(0)
                self._file.truncate()
                self._write(json.dumps({"schema": SCHEMA, "fingerprint": fingerprint}).encode() + b"\n")
                return
            self._require_same(line, json.loads(json.dumps(fingerprint)))
            self._end = len(line)
            for kind, name, body, start in self._records(stream):
                self._take_in(kind, os.fsdecode(name), body, start)
        self._file.seek(self._end)
        self._file.truncate()

    def _take_in(self, kind: bytes, name: str, body: bytes, start: int) -> None:
        if kind == b"D":
            self._require_places(name, body, start)
            self._set_done(name, start)
        elif kind == b"F":
            self._set_done(name, None)
        elif kind == b"R":
            if body and len(body) != STAMP.size:
                raise self.damaged(name)
            self._n_stale += name in self._written
            self._written[name] = Stamp(*STAMP.unpack(body)) if body else None
        elif kind == b"K":
            self._is_lasting = True

    def _require_places(self, name: str, body: bytes, start: int) -> None:
        """Check that the parts of a D record lie before it."""
        if len(body) < DONE_HEAD.size:
            raise self.damaged(name)
        n_parts = DONE_HEAD.unpack_from(body)[2]
        if len(body) < DONE_HEAD.size + n_parts * PLACE.size:
            raise self.damaged(name)
        for offset, length in PLACE.iter_unpack(body[DONE_HEAD.size :][: n_parts * PLACE.size]):
            if offset + length > start:
                raise self.damaged(name)

    def damaged(self, name: str) -> OutputError:
        """The error for a record whose checksum is right but whose content dymn did not write."""
        return StaleJournalError(
            f"{self._path or 'a temporary file'}: what it holds of {name} is damaged",
            hint="--no-resume --force starts over, or choose another --out",
        )

    def _buffered(self) -> BinaryIO:
        """The file from its start, for reading all of it; closing it leaves the journal open."""
        self._file.seek(0)
        return os.fdopen(os.dup(self._file.fileno()), "rb", 1 << 16)

    def _require_same(self, line: bytes, fingerprint: Fingerprint) -> None:
        try:
            header = json.loads(line)
            then = header["fingerprint"] if header["schema"] == SCHEMA else None
        except (ValueError, KeyError, TypeError, RecursionError):
            then = None
        if not (then and isinstance(then, dict)):
            raise StaleJournalError(
                f"{self._path}: not a journal of this version of dymn",
                hint="--no-resume --force starts over, or choose another --out",
            )
        what = what_differs(then, fingerprint)
        if what:
            raise StaleJournalError(
                f"{self._path}: the run it belongs to had other options: {what}",
                hint="the same options continue it, --no-resume --force starts over, or choose another --out",
            )

    def _records(self, stream: BinaryIO) -> Iterator[tuple[bytes, bytes, bytes, int]]:
        """Kind, name, body and start of whole records that follow; `_end` stays behind the last of them."""
        size = os.fstat(self._file.fileno()).st_size
        while True:
            start, head = self._end, stream.read(HEAD.size)
            if len(head) < HEAD.size:
                return
            kind, n_name, n_body, checksum = HEAD.unpack(head)
            if kind not in KINDS or start + HEAD.size + n_name + n_body > size:
                return
            name, body = stream.read(n_name), stream.read(n_body)
            if zlib.crc32(body, zlib.crc32(name)) != checksum:
                return
            self._end = start + HEAD.size + n_name + n_body
            yield kind, name, body, start

    # ------------------------------------------------------------------ writing

    def add_part(self, name: str, body: bytes) -> Place:
        """Record what a source has given so far.

        Raises:
            OutputError: the disk is full, or fails.
        """
        return self._append(b"P", name, body)

    def add_done(self, name: str, stamp: Stamp | None, parts: list[Place], body: bytes) -> None:
        """Record that a source is done.

        Raises:
            OutputError: the disk is full, or fails.
        """
        size, mtime_ns = (-1, -1) if stamp is None else (stamp.size, stamp.mtime_ns)
        head = DONE_HEAD.pack(size, mtime_ns, len(parts))
        places = b"".join(PLACE.pack(part.offset, part.length) for part in parts)
        start = self._end
        self._append(b"D", name, head + places + body)
        self._set_done(name, start)

    def forget(self, names: Iterable[str]) -> None:
        """Mark these sources as not done.

        Raises:
            OutputError: the disk is full, or fails.
        """
        for name in names:
            self._append(b"F", name, b"")
            self._set_done(name, None)

    def add_result(self, path: str, stamp: Stamp | None) -> None:
        """Record that a file of results is about to appear (no stamp), or that it is there.

        Raises:
            OutputError: the disk is full, or fails.
        """
        self._append_result(self._from_here(path), stamp)

    def _append_result(self, name: str, stamp: Stamp | None) -> None:
        self._append(b"R", name, b"" if stamp is None else STAMP.pack(stamp.size, stamp.mtime_ns))
        self._n_stale += name in self._written
        self._written[name] = stamp

    def make_lasting(self) -> None:
        """Let it stay when a run is complete.

        Raises:
            OutputError: the disk is full, or fails.
        """
        if not self._is_lasting:
            self._append(b"K", "", b"")
            self._is_lasting = True

    def keep_gone(self, names: Iterable[str]) -> None:
        """Take the results of these sources as they are: the sources are not there any more."""
        self._gone = frozenset(names)

    def _set_done(self, name: str, start: int | None) -> None:
        """Where the D record of a source is, the latest last; None: it is not done."""
        self._n_stale += self._done.pop(name, None) is not None
        if start is not None:
            self._done[name] = start

    def _from_here(self, path: str) -> str:
        """The path of a file relative to the folder of the journal."""
        if is_uri(path):
            return path
        with contextlib.suppress(ValueError):  # on another drive
            return os.path.relpath(path, "." if self._path is None else self._path.parent)
        return path

    def _append(self, kind: bytes, name: str, body: bytes) -> Place:
        raw = os.fsencode(name)
        head = HEAD.pack(kind, len(raw), len(body), zlib.crc32(body, zlib.crc32(raw)))
        self._write(head + raw + body)
        return Place(self._end - len(body), len(body))

    def _write(self, data: bytes) -> None:
        """Append; what is written only in part is written over by the next record, or cut off at opening."""
        try:
            self._file.seek(self._end)
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
            if self._path is not None and time.monotonic() - self._synced > SYNC_EVERY_S:
                self.sync()
        except OSError as exc:
            where = self._path or "a temporary file"
            hint = KEPT if self._path else "TMPDIR=... puts it on another disk"
            raise OutputError(os_error_text(where, exc), hint=hint) from exc
        self._end += len(data)

    def sync(self) -> None:
        """Write to the disk, so that a power cut loses nothing recorded."""
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    # ------------------------------------------------------------------ reading

    def has(self, name: str, stamp: Stamp | None) -> bool:
        """Whether a source is done, as it is now."""
        if name in self._gone:
            return True
        if stamp is None or name not in self._done:
            return False
        size, mtime_ns, _ = DONE_HEAD.unpack(self._read(self._body_of(name, DONE_HEAD.size)))
        return Stamp(size, mtime_ns) == stamp

    @property
    def names(self) -> Iterable[str]:
        """The sources that are done, whatever has become of them since."""
        return self._done.keys()

    @property
    def is_lasting(self) -> bool:
        """Whether it stays when a run is complete."""
        return self._is_lasting

    @property
    def results(self) -> Iterable[str]:
        """The files of results that it knows of, as they are called from its folder."""
        return self._written.keys()

    def is_ours(self, path: str) -> bool:
        """Whether a file of results is still the one that this journal knows of."""
        if not self.knows(path):
            return False
        stamp = self._written[self._from_here(path)]
        return stamp is None or stamp == Stamp.of(path)

    def knows(self, path: str) -> bool:
        """Whether this journal has recorded a file of results, whatever has become of it since."""
        return self._from_here(path) in self._written

    def result(self, name: str) -> tuple[bytes, list[Place]]:
        """The body of a source that is done, and the places of its parts."""
        data = self._read(self._body_of(name))
        _, _, n_parts = DONE_HEAD.unpack_from(data)
        start = DONE_HEAD.size + n_parts * PLACE.size
        parts = [Place(*PLACE.unpack_from(data, DONE_HEAD.size + n * PLACE.size)) for n in range(n_parts)]
        return data[start:], parts

    def part(self, place: Place) -> bytes:
        """The body of a part."""
        return self._read(place)

    def _body_of(self, name: str, n_bytes: int | None = None) -> Place:
        start = self._done[name]
        _, n_name, n_body, _ = HEAD.unpack(self._read(Place(start, HEAD.size)))
        return Place(start + HEAD.size + n_name, n_body if n_bytes is None else n_bytes)

    def _read(self, place: Place) -> bytes:
        with os_errors_as(OutputError, self._path or "a temporary file"):
            self._file.seek(place.offset)
            data = self._file.read(place.length)
        if data is None or len(data) < place.length:
            raise OutputError(
                f"{self._path or 'a temporary file'}: cut short while it was in use",
                hint="run the same command again to go on from what is left",
            )
        return data

    # ------------------------------------------------------------------ closing

    def compact(self) -> None:
        """Leave out what is out of date, once that is most of it; afterwards, it can only be closed.

        Raises:
            OutputError: the disk is full, or fails; the journal is as it was.
        """
        if self._path is None or self._n_stale <= len(self._done) + len(self._written):
            return
        with self._buffered() as stream:
            header = stream.readline(1 << 20)
        try:
            with atomic_write(self._path) as file:
                copy = Journal(file, None)
                copy._write(header)
                copy.make_lasting()
                for name in self._done:
                    self._copy_result(name, copy)
                for name, stamp in self._written.items():
                    if os.path.lexists(self._path.parent / name):
                        copy._append_result(name, stamp)
        except PermissionError:  # Windows: not while it is open
            pass
        except OSError as exc:
            raise OutputError(os_error_text(self._path, exc)) from exc

    def _copy_result(self, name: str, copy: Journal) -> None:
        size, mtime_ns, _ = DONE_HEAD.unpack(self._read(self._body_of(name, DONE_HEAD.size)))
        body, places = self.result(name)
        copies = [copy.add_part(name, self.part(place)) for place in places]
        copy.add_done(name, None if size < 0 else Stamp(size, mtime_ns), copies, body)

    def close(self, *, discard: bool = False) -> None:
        """Close it; `discard` removes it: the run is complete."""
        path, self._path = (self._path, None) if discard else (None, self._path)
        if path is not None:
            _sync_folder(path.parent)  # the names of the results must be on the disk before this one goes
            try:
                path.unlink(missing_ok=True)
                path = None  # another run may put its own there as soon as this file is closed
            except PermissionError:  # Windows: not while it is open
                pass
        self._file.close()
        if path is not None:
            path.unlink(missing_ok=True)

    @property
    def is_kept(self) -> bool:
        """Whether it outlives the run, so that another can resume it."""
        return self._path is not None

    def __len__(self) -> int:
        return len(self._done)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Close it, and remove it if it is empty."""
        self.close(discard=not self._done)


def _open_locked(path: Path) -> io.FileIO:
    """Open or make the file, locked until it is closed."""
    flags = os.O_RDWR | os.O_CREAT
    for flag in ("O_BINARY", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"):
        flags |= getattr(os, flag, 0)
    while True:
        with os_errors_as(OutputError, path):
            if path.is_symlink():
                raise _no_file(path, "a symbolic link")
            number = os.open(path, flags, 0o666)
        if not stat.S_ISREG(os.fstat(number).st_mode):
            os.close(number)
            raise _no_file(path, "a pipe or a device")
        file = io.FileIO(number, "r+")
        try:
            _lock(file, path)
            # Another run may have ended, and removed it, between our opening and our locking.
            if path.exists() and os.path.samestat(os.fstat(number), path.stat()):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _no_file(path: Path, what: str) -> OutputError:
    return OutputError(f"{path}: {what}, not a journal", hint="move it away, or choose another --out")


def _lock(file: io.FileIO, path: Path) -> None:
    with contextlib.suppress(ImportError):  # no such locks on Windows
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise OutputError(f"{path}: another run is using this journal") from exc
        except OSError:
            pass  # a network file system without locks


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not on Windows, nor on every file system
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def what_differs(then: Fingerprint, now: Fingerprint) -> str:
    """In which options two runs differ, as their user would say it; empty where they do not."""
    changed = [key for key in then | now if then.get(key) != now.get(key)]
    # What only one of the two knows follows from the rest: each command has options of its own.
    both = [key for key in changed if key in then and key in now]
    return "; ".join(_change(key, then.get(key), now.get(key)) for key in both or changed)


def _change(key: str, then: object, now: object) -> str:
    was, is_ = _short(then), _short(now)
    return f"{key} was {was}, is {is_}" if was != is_ else f"{key} has changed"


def _short(value: object) -> str:
    return shortened(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
