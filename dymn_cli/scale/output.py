"""The results of a cluster: a Parquet data set, in a folder or in a store.

    OUT/_dataset.json                    which options made it; written first
    OUT/shard=07/part-9c41….parquet      rows, as `-f parquet` writes them
    OUT/_failures.parquet                source, source_b64, error, message, hint, exit_code
    OUT/_warnings.parquet                source, source_b64, warning: what could not be decoded of the others
    OUT/_manifest.json                   the files with their rows and sources
    OUT/_SUCCESS                         empty; written last, once every source has its rows or its failure

Readers of Hive partitions leave out what begins with an underscore. The shard of a source follows from its
name. A part is written whole or not at all (a file by renaming, an object by its upload), under a name that
follows from those of its sources: a worker that is killed and starts over replaces its own file. So a source
is done when a part has it: in its rows or, where it gave none, in the metadata of the file, under "dymn.part"
(JSON, deflated, in base64). That is what a run looks at before it begins, and once more at its end. A node
that was cut off and wrote a part after others had done its sources leaves some of them twice: then the rows
of all but the first file go, and no row is lost, as all say the same.

Failed sources are in no part, so a next run tries them again.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from dymn_cli.atomic import remove_parts
from dymn_cli.batch.journal import what_differs
from dymn_cli.errors import AudioNotFoundError, InputError, OutputError, os_error_text, os_errors_as
from dymn_cli.remote.reading import open_uri
from dymn_cli.remote.store import listing, require_writable
from dymn_cli.remote.uri import is_uri, join
from dymn_cli.results import Failure
from dymn_cli.writers.spelling import stand_in
from dymn_cli.writers.target import is_there, open_target, remove_target

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.batch.journal import Fingerprint

__all__ = ["N_SHARDS", "Contents", "Done", "ResultSet", "part_name", "shard_of"]

SCHEMA = "dymn.dataset/1"
N_SHARDS = 16
DATASET, FAILURES, WARNINGS = "_dataset.json", "_failures.parquet", "_warnings.parquet"
MANIFEST, SUCCESS, STRETCHES = "_manifest.json", "_SUCCESS", "_stretches"
PART = "dymn.part"
AT_ONCE = 16  # files that are looked into at the same time: most of it is waiting for a store
DIGEST = np.dtype([("high", "<u8"), ("low", "<u8")])
FAILURE_COLUMNS = ("error", "message", "hint", "exit_code")


def _digest(name: str) -> bytes:
    return blake2b(os.fsencode(name), digest_size=DIGEST.itemsize).digest()


def shard_of(name: str) -> int:
    """The shard that a source belongs to, whatever else there is."""
    return _digest(name)[0] % N_SHARDS


def part_name(names: Iterable[str]) -> str:
    """What the part of some sources is called, below the data set; all are of one shard."""
    digest, shard = blake2b(digest_size=16), 0
    for name in sorted(names, key=os.fsencode):
        digest.update(_digest(name))
        shard = shard_of(name)
    return f"shard={shard:02d}/part-{digest.hexdigest()}.parquet"


class Done:
    """The sources that have a result: 16 bytes each, however long their names are."""

    def __init__(self, digests: NDArray[np.void] | None = None) -> None:
        self._digests = np.empty(0, DIGEST) if digests is None else np.unique(digests)

    def __len__(self) -> int:
        return len(self._digests)

    def __contains__(self, name: str) -> bool:
        wanted = np.frombuffer(_digest(name), DIGEST)[0]
        at = np.searchsorted(self._digests["high"], wanted["high"])
        while at < len(self._digests) and self._digests["high"][at] == wanted["high"]:
            if self._digests["low"][at] == wanted["low"]:
                return True
            at += 1
        return False


@dataclass(slots=True)
class _PartFile:
    """What is in a part."""

    name: str
    n_rows: int
    digests: NDArray[np.void]
    damage: dict[str, list[str]]


@dataclass(slots=True)
class Contents:
    """What a data set holds.

    Args:
        done: its sources.
        files: name, rows and sources of each part.
        damage: what could not be decoded of a source, by its name.
        failures: of the last run.
    """

    done: Done = field(default_factory=Done)
    files: list[tuple[str, int, int]] = field(default_factory=list)
    damage: dict[str, list[str]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


class ResultSet:
    """A data set that results are written to.

    Args:
        root: its folder, or the URI of one.
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/") if is_uri(root) else root

    def path(self, inner: str) -> str:
        """The name of a file in it."""
        return join(self.root, inner) if is_uri(self.root) else os.path.join(self.root, *inner.split("/"))  # noqa: PTH118 - names may be bytes

    # ------------------------------------------------------------------ before a run

    def begin(self, fingerprint: Fingerprint, *, resume: bool, force: bool) -> None:
        """Make it, or see that a run may go on in it.

        Args:
            fingerprint: all that changes results.
            resume: go on with what is there.
            force: drop what is there where that cannot be.

        Raises:
            OutputError: it cannot be written, or there is something else.
        """
        if is_uri(self.root):
            require_writable(self.path(DATASET))
        elif Path(self.root).exists() and not Path(self.root).is_dir():
            raise OutputError(
                f"{self.root}: a file, not a folder", hint="--engine ray writes a folder of Parquet files"
            )
        if is_there(self.path(DATASET)):
            then = self._fingerprint()
            differs = what_differs(then, json.loads(json.dumps(fingerprint)))
            if resume and not differs:
                remove_target(self.path(SUCCESS))
                return
            if not force:
                raise OutputError(
                    f"{self.root}: "
                    + (f"the run that made it had other options: {differs}" if differs else "it exists"),
                    hint="--force replaces it, or choose another place",
                )
            self._clear()
        elif any(True for _ in self._files()):
            raise OutputError(
                f"{self.root}: there are other files in it", hint="name a folder that is new, or empty"
            )
        self._write(DATASET, _json({"schema": SCHEMA, "shards": N_SHARDS, "fingerprint": fingerprint}))

    def _fingerprint(self) -> Fingerprint:
        try:
            document = json.loads(self._read(DATASET))
            if document["schema"] == SCHEMA and document["shards"] == N_SHARDS:
                return dict(document["fingerprint"])
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        raise OutputError(
            f"{self.path(DATASET)}: not of this version of dymn", hint="choose another place for the results"
        )

    def _clear(self) -> None:
        """Remove what dymn has written; what says that it is a data set goes last."""
        for name in (SUCCESS, MANIFEST, FAILURES, WARNINGS, *self._parts(), *self._files(STRETCHES), DATASET):
            remove_target(self.path(name))

    # ------------------------------------------------------------------ what is there

    def contents(self) -> Contents:
        """What is there, every source once.

        Raises:
            OutputError: a part is damaged, or the store does not answer.
        """
        with ThreadPoolExecutor(AT_ONCE) as pool:
            parts = list(pool.map(self._look_into, sorted(self._parts())))
        parts = self._each_once(parts)
        found = Contents(Done(np.concatenate([np.empty(0, DIGEST), *(part.digests for part in parts)])))
        for part in parts:
            found.files.append((part.name, part.n_rows, len(part.digests)))
            found.damage.update(part.damage)
        found.failures = self._failures()
        return found

    def _look_into(self, name: str) -> _PartFile:
        with self._table(name) as file:
            names = {_name_of(*row) for row in _sources(file)}
            note = _note_of(file.schema_arrow.metadata or file.metadata.metadata, file.metadata.metadata)
            names.update(note["quiet"])
            digests = np.frombuffer(b"".join(sorted(map(_digest, names))), DIGEST)
            return _PartFile(name, file.metadata.num_rows, digests, note["damage"])

    def _each_once(self, parts: list[_PartFile]) -> list[_PartFile]:
        """Take out of later files what earlier ones have."""
        if not parts:
            return parts
        every = np.concatenate([part.digests for part in parts])
        found, counts = np.unique(every, return_counts=True)
        twice = {digest.tobytes() for digest in found[counts > 1]}
        if not twice:
            return parts
        seen: set[bytes] = set()
        kept: list[_PartFile] = []
        for part in parts:
            of_part = {digest.tobytes() for digest in part.digests}
            gone = of_part & seen
            seen |= of_part & twice
            kept.append(part) if not gone else kept.extend(self._without(part, gone))
        return kept

    def _without(self, part: _PartFile, gone: set[bytes]) -> Iterator[_PartFile]:
        """Write a part anew, without some sources."""
        with self._table(part.name) as file:
            note = _note_of(file.schema_arrow.metadata, file.metadata.metadata)
            table = file.read()
        keep = [_digest(_name_of(*row)) not in gone for row in _rows_of(table)]
        table = table.filter(_arrow().array(keep, "bool"))
        note = {
            "quiet": [name for name in note["quiet"] if _digest(name) not in gone],
            "damage": {name: texts for name, texts in note["damage"].items() if _digest(name) not in gone},
        }
        names = {_name_of(*row) for row in _rows_of(table)} | set(note["quiet"])
        if names:
            metadata = {**(table.schema.metadata or {}), PART.encode(): note_bytes(**note)}
            new = part_name(names)
            self._write(new, _parquet(table.replace_schema_metadata(metadata)))
            if new != part.name:
                remove_target(self.path(part.name))
            yield self._look_into(new)
        else:
            remove_target(self.path(part.name))

    def _failures(self) -> list[Failure]:
        if not is_there(self.path(FAILURES)):
            return []
        with self._table(FAILURES) as file:
            rows = file.read().to_pylist()
        return [
            Failure(_name_of(row["source"], row["source_b64"]), *(row[key] for key in FAILURE_COLUMNS))
            for row in rows
        ]

    # ------------------------------------------------------------------ writing

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[BinaryIO]:
        """Write a file, or an object, that appears when it is complete, and replaces what is there.

        Raises:
            OutputError: it cannot be written.
        """
        path = self.path(name)
        if not is_uri(path):
            folder = Path(path).parent
            with os_errors_as(OutputError, folder):
                folder.mkdir(parents=True, exist_ok=True)
        with open_target(path, force=True) as target:
            yield target.stream

    def finish(self, failures: Sequence[Failure], *, is_complete: bool) -> Contents:
        """Look at what is there, and write what says so.

        Args:
            failures: of this run.
            is_complete: every source has its rows or its failure.

        Raises:
            OutputError: it cannot be read or written.
        """
        if not is_uri(self.root):
            for shard in Path(self.root).glob("shard=*"):
                remove_parts(shard)
        found = self.contents()
        names = {failure.source for failure in failures}
        earlier = [one for one in found.failures if one.source not in names and one.source not in found.done]
        found.failures = [*earlier, *failures]
        self._write_table(
            FAILURES,
            {"error": "string", "message": "string", "hint": "string", "exit_code": "int32"},
            [
                (*stand_in(one.source), one.error, one.message, one.hint, one.exit_code)
                for one in found.failures
            ],
        )
        self._write_table(
            WARNINGS,
            {"warning": "string"},
            [(*stand_in(name), text) for name, texts in sorted(found.damage.items()) for text in texts],
        )
        files = [{"path": path, "rows": rows, "sources": sources} for path, rows, sources in found.files]
        facts = {"sources": len(found.done), "failures": len(found.failures), "files": files}
        self._write(MANIFEST, _json({"schema": SCHEMA, **facts}))
        if is_complete:
            self._write(SUCCESS, b"")
        return found

    def _write(self, name: str, data: bytes) -> None:
        with self.file(name) as stream:
            stream.write(data)

    def _write_table(self, name: str, columns: Mapping[str, str], rows: list[tuple[object, ...]]) -> None:
        """Write a table of sources, also where it is empty."""
        arrow = _arrow()
        fields = [("source", "string"), ("source_b64", "string"), *columns.items()]
        schema = arrow.schema([(key, arrow.type_for_alias(kind)) for key, kind in fields])
        cells = [[row[n] for row in rows] for n in range(len(fields))]
        arrays = [arrow.array(values, one.type) for values, one in zip(cells, schema, strict=True)]
        self._write(name, _parquet(arrow.Table.from_arrays(arrays, schema=schema)))

    def remove(self, names: Iterable[str]) -> None:
        """Remove files of it, if they are there.

        Raises:
            OutputError: the store does not let us.
        """
        for name in names:
            remove_target(self.path(name))

    # ------------------------------------------------------------------ reading

    def _read(self, name: str) -> bytes:
        with self._open(name) as file:
            return file.read()

    def _open(self, name: str) -> BinaryIO:
        path = self.path(name)
        try:
            return (
                cast("BinaryIO", io.BufferedReader(open_uri(path))) if is_uri(path) else Path(path).open("rb")
            )
        except OSError as exc:
            raise OutputError(os_error_text(path, exc)) from exc
        except InputError as error:
            raise OutputError(error.message, hint=error.hint) from error

    @contextlib.contextmanager
    def _table(self, name: str) -> Iterator[Any]:
        arrow = _arrow()
        from pyarrow import parquet

        with self._open(name) as stream:
            try:
                yield parquet.ParquetFile(stream)
            except (arrow.ArrowException, OSError, ValueError, KeyError, TypeError, zlib.error) as exc:
                raise OutputError(
                    f"{self.path(name)}: not a part that dymn has written, or a damaged one",
                    hint="remove it; the next run does its sources again",
                ) from exc

    def _parts(self) -> Iterator[str]:
        for name in self._files():
            shard, _, file = name.partition("/")
            if shard.startswith("shard=") and file.startswith("part-") and file.endswith(".parquet"):
                yield name

    def _files(self, folder: str = "") -> Iterator[str]:
        """Names of all files below it, or below a folder in it."""
        top = self.path(folder) if folder else self.root
        if is_uri(top):
            start = len(self.root) + 1
            try:
                yield from (name[start:] for name, _ in listing(f"{top}/"))
            except AudioNotFoundError as error:
                if error.hint:  # no permission
                    raise OutputError(error.message, hint=error.hint) from error
            except InputError as error:
                raise OutputError(error.message, hint=error.hint) from error
            return
        for at, folders, files in os.walk(top):
            folders.sort()
            for file in sorted(files):
                if not file.startswith("."):
                    yield os.path.relpath(os.path.join(at, file), self.root).replace(os.sep, "/")  # noqa: PTH118


def note_bytes(quiet: Sequence[str], damage: Mapping[str, Sequence[str]]) -> bytes:
    """What the metadata of a part says: its sources without rows, and what is damaged."""
    text = json.dumps({"quiet": list(quiet), "damage": {name: list(of) for name, of in damage.items()}})
    return base64.b64encode(zlib.compress(text.encode()))


def _note_of(*found: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    packed = next(
        (metadata[PART.encode()] for metadata in found if metadata and PART.encode() in metadata), None
    )
    if packed is None:
        raise KeyError(PART)
    note = json.loads(zlib.decompress(base64.b64decode(packed)))
    return {"quiet": note["quiet"], "damage": note["damage"]}


def _name_of(source: str, raw: str | None) -> str:
    return source if raw is None else os.fsdecode(base64.b64decode(raw))


def _sources(file: Any) -> Iterator[tuple[str, str | None]]:
    """The names in a part, each at least once."""
    for batch in file.iter_batches(1 << 16, columns=["source", "source_b64"]):
        yield from set(_rows_of(batch))


def _rows_of(table: Any) -> Iterator[tuple[str, str | None]]:
    yield from zip(table.column("source").to_pylist(), table.column("source_b64").to_pylist(), strict=True)


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, indent=1).encode() + b"\n"


def _parquet(table: Any) -> bytes:
    from pyarrow import parquet

    sink = io.BytesIO()
    parquet.write_table(table, sink)
    return sink.getvalue()


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError as exc:
        raise OutputError("--engine ray needs pyarrow", hint="pip install 'dymn[ray]'") from exc
    return pyarrow
