"""What a run has found out so far, on disk, so that a killed run goes on where it stopped.

Layout of `OUT.journal` (numbers little-endian):

    line 1     JSON: {"schema": "dymn.journal/1", "fingerprint": {...}} and a line end
    records    kind (1 byte: P or D) · length of name, length of body (4 bytes each) · CRC-32 of name and
               body (4 bytes) · name (file-system bytes) · body

A source that is done has one D record, whose body starts with its size and modification time (8 bytes each)
and the places of its P records, which hold what was streamed out while it was analysed (windows).

Why it is safe: records are only ever appended, so a kill can only tear the last one, and a torn record has a
wrong length or a wrong CRC: opening cuts the file off before the first such record. A source counts as
done only by its D record, which comes after its P records. The result itself (`OUT`) is written to a
temporary file from these records and renamed when it is complete, so OUT is the whole or not there.
Records are handed to the operating system one by one and synchronised every few seconds: a power cut costs
these seconds of work.

What makes a record invalid: another size or modification time of the source (it is analysed again; the later
record counts), and any difference in the fingerprint, which holds all that changes results (model hash,
windows, selection, ...; not formatting): then the whole journal is refused with a sentence, never mixed.
Failures are not recorded: a failed source is tried again. The journal goes when a run ends without
failures; a lock keeps two runs from sharing one.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from dymn_cli.errors import OutputError

__all__ = ["Fingerprint", "Journal", "Place", "Stamp"]

SCHEMA = "dymn.journal/1"
HEAD = struct.Struct("<cIII")
DONE_HEAD = struct.Struct("<qqI")
PLACE = struct.Struct("<QI")
SYNC_EVERY_S = 5.0
LARGEST_RECORD = 1 << 30

Fingerprint = dict[str, object]


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells whether a source is still the one that was analysed."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, name: str) -> Stamp | None:
        """The stamp of a file, or None for standard input and for what cannot be looked at."""
        try:
            status = os.stat(name)  # noqa: PTH116 - names may be bytes that no Path holds
        except (OSError, ValueError):
            return None
        return cls(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the body of a record lies in the file."""

    offset: int
    length: int


class Journal:
    """An open journal; use it in a `with` statement."""

    def __init__(self, file: BinaryIO, path: Path | None) -> None:
        self._file = file
        self._path = path
        self._done: dict[str, tuple[Stamp, Place]] = {}
        self._end = 0
        self._synced = time.monotonic()

    # ------------------------------------------------------------------ opening

    @classmethod
    def temporary(cls) -> Self:
        """A journal that nobody continues: it holds results until they can be written in order."""
        return cls(tempfile.TemporaryFile(prefix="dymn-", suffix=".journal"), None)

    @classmethod
    def open(cls, path: Path, fingerprint: Fingerprint, *, start_over: bool = False) -> Self:
        """Open the journal of an output, continuing what is there.

        Args:
            path: of the journal.
            fingerprint: all that changes results.
            start_over: forget what is there.

        Raises:
            OutputError: it cannot be written, another run is using it, or it has another fingerprint.
        """
        try:
            file = path.open("r+b" if path.exists() else "w+b")
        except OSError as exc:
            raise OutputError(f"{path}: {exc.strerror or exc}") from exc
        journal = cls(file, path)
        try:
            journal._lock()
            journal._load(fingerprint, start_over=start_over)
        except BaseException:
            file.close()
            raise
        return journal

    def _lock(self) -> None:
        with contextlib.suppress(ImportError):  # no such locks on Windows
            import fcntl

            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as exc:
                raise OutputError(f"{self._path}: another run is using this journal") from exc

    def _load(self, fingerprint: Fingerprint, *, start_over: bool) -> None:
        line = self._file.readline(1 << 20)
        if start_over or not line.endswith(b"\n"):  # empty, or killed while it was begun
            self._file.seek(0)
            self._file.truncate()
            self._file.write(json.dumps({"schema": SCHEMA, "fingerprint": fingerprint}).encode() + b"\n")
            self._file.flush()
            self._end = self._file.tell()
            return
        self._require_same(line, json.loads(json.dumps(fingerprint)))
        self._end = self._file.tell()
        for kind, name, place in self._records():
            if kind == b"D":
                self._done[os.fsdecode(name)] = (self._stamp_at(place), place)
        self._file.seek(self._end)
        self._file.truncate()

    def _require_same(self, line: bytes, fingerprint: Fingerprint) -> None:
        try:
            header = json.loads(line)
            then: Fingerprint = header["fingerprint"] if header["schema"] == SCHEMA else {}
        except (ValueError, KeyError, TypeError):
            then = {}
        if not then:
            raise OutputError(
                f"{self._path}: not a journal of this version of dymn",
                hint="--no-resume starts over, or choose another --out",
            )
        changed = sorted(
            key for key in then.keys() | fingerprint.keys() if then.get(key) != fingerprint.get(key)
        )
        if changed:
            what = "; ".join(
                f"{key} was {_short(then.get(key))}, is {_short(fingerprint.get(key))}" for key in changed
            )
            raise OutputError(
                f"{self._path}: the run it belongs to had other options: {what}",
                hint="give the same options to continue it, --no-resume to start over, or another --out",
            )

    def _records(self) -> Iterator[tuple[bytes, bytes, Place]]:
        """Whole records from the current position; `_end` stays behind the last of them."""
        size = os.fstat(self._file.fileno()).st_size
        while True:
            self._file.seek(self._end)
            head = self._file.read(HEAD.size)
            if len(head) < HEAD.size:
                return
            kind, n_name, n_body, checksum = HEAD.unpack(head)
            if self._end + HEAD.size + n_name + n_body > size:
                return
            name, body = self._file.read(n_name), self._file.read(n_body)
            if kind not in (b"P", b"D") or zlib.crc32(body, zlib.crc32(name)) != checksum:
                return
            place = Place(self._end + HEAD.size + n_name, n_body)
            self._end = place.offset + n_body
            yield kind, name, place

    def _stamp_at(self, place: Place) -> Stamp:
        self._file.seek(place.offset)
        size, mtime_ns, _ = DONE_HEAD.unpack(self._file.read(DONE_HEAD.size))
        return Stamp(size, mtime_ns)

    # ------------------------------------------------------------------ writing

    def add_part(self, name: str, body: bytes) -> Place:
        """Record what a source has given so far."""
        return self._append(b"P", name, body)

    def add_done(self, name: str, stamp: Stamp | None, parts: list[Place], body: bytes) -> None:
        """Record that a source is done."""
        size, mtime_ns = (-1, -1) if stamp is None else (stamp.size, stamp.mtime_ns)
        head = DONE_HEAD.pack(size, mtime_ns, len(parts))
        places = b"".join(PLACE.pack(part.offset, part.length) for part in parts)
        place = self._append(b"D", name, head + places + body)
        self._done[name] = (Stamp(size, mtime_ns), place)

    def _append(self, kind: bytes, name: str, body: bytes) -> Place:
        raw = os.fsencode(name)
        head = HEAD.pack(kind, len(raw), len(body), zlib.crc32(body, zlib.crc32(raw)))
        try:
            self._file.seek(self._end)
            self._file.write(head + raw + body)
            self._file.flush()
            if self._path is not None and time.monotonic() - self._synced > SYNC_EVERY_S:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as exc:
            where = self._path or "a temporary file"
            raise OutputError(f"{where}: {exc.strerror or exc}", hint="what is done so far is kept") from exc
        place = Place(self._end + HEAD.size + len(raw), len(body))
        self._end = place.offset + len(body)
        return place

    # ------------------------------------------------------------------ reading

    def has(self, name: str, stamp: Stamp | None) -> bool:
        """Whether a source is done, as it is now."""
        known = self._done.get(name)
        return known is not None and stamp is not None and known[0] == stamp

    def result(self, name: str) -> tuple[bytes, list[Place]]:
        """The body of a source that is done, and the places of its parts."""
        _, place = self._done[name]
        data = self._read(place)
        _, _, n_parts = DONE_HEAD.unpack_from(data)
        start = DONE_HEAD.size + n_parts * PLACE.size
        parts = [Place(*PLACE.unpack_from(data, DONE_HEAD.size + n * PLACE.size)) for n in range(n_parts)]
        return data[start:], parts

    def part(self, place: Place) -> bytes:
        """The body of a part."""
        return self._read(place)

    def _read(self, place: Place) -> bytes:
        self._file.seek(place.offset)
        return self._file.read(place.length)

    # ------------------------------------------------------------------ closing

    def close(self, *, discard: bool = False) -> None:
        """Close it; `discard` removes it: the run is complete."""
        if discard and self._path is not None:
            self._path.unlink(missing_ok=True)
        self._file.close()

    @property
    def is_kept(self) -> bool:
        """Whether it outlives the run, so that another can go on."""
        return self._path is not None

    def __len__(self) -> int:
        return len(self._done)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:18]}…{text[-18:]}"
