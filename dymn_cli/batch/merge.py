"""Merge the outputs of a job array's shares into what one run over all would write, byte for byte.

    dymn tag DIR --shard 1/3 -o 1.csv   (2/3, 3/3 likewise)
    dymn merge 1.csv 2.csv 3.csv -o all.csv

csv, tsv     the first one's line of column names, then the rows of all
jsonl, json  the objects of all
npy          the rows of all; the index with rows counted anew

Provenance (`OUT.meta.json`, or in the objects) must be the same in all shares, and becomes that of the whole.
The file beside a share also says which one it is, so shares are sorted, in whatever order they are given;
files that do not say it keep the order in which they are given. No source may be in two of them. Lists of
failures and of warnings (`OUT.failures.csv`, `OUT.warnings.csv`) are merged likewise. Files are read piece by
piece: memory holds a number for each source, never results.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from dymn_cli.errors import InputError, UsageError, os_error_text
from dymn_cli.values import shortened
from dymn_cli.writers.beside import failures_of, index_of, meta_of, open_beside, warnings_of
from dymn_cli.writers.formats import WITHOUT_PROVENANCE, choose_format
from dymn_cli.writers.lists import FAILURES, WARNINGS
from dymn_cli.writers.spelling import name_bytes
from dymn_cli.writers.target import check_target, input_guard, is_stdout, open_target, together

if TYPE_CHECKING:
    from dymn_cli.writers.lists import Kind
    from dymn_cli.writers.target import Target

__all__ = ["MERGED_FORMATS", "Merged", "merge"]

MERGED_FORMATS = ("csv", "tsv", "jsonl", "json", "npy")
COPY_BYTES = 1 << 20
FIRST_COLUMNS = (b"source,channel,", b"source,duration_s,", b"source\tchannel\t")
PROVENANCE_KEYS = ("dymn", "model", "options")
LONGEST_CELL = 1 << 20  # no name is longer
DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Merged:
    """A finished merge.

    Args:
        failures: the list of failures that was written, or None where no share had one.
        warnings: likewise, of what is damaged.
        missing: the shares that are not among them, as "2/3", where the files say what they are.
    """

    failures: str | None
    warnings: str | None
    missing: tuple[str, ...]


def merge(
    shares: Sequence[str], whole: str, *, format_name: str | None = None, force: bool = False
) -> Merged:
    """Merge the outputs of shares.

    Args:
        shares: their files; in any order where they say which share they are.
        whole: the file to write.
        format_name: of all of them; by the suffix of the whole if not given.
        force: replace what exists.

    Raises:
        UsageError: fewer than two shares, one of them twice, or a format that cannot be merged.
        InputError: a share cannot be read, is damaged or not complete, has a source that is in another one,
            or was not made as the first one was.
        OutputError: the whole exists or cannot be written.
    """
    name = choose_format(format_name, whole, default="csv", formats=MERGED_FORMATS)
    _require_distinct(shares, whole)
    _require_format(shares, name)
    check_target(whole, force=force)
    is_file = not is_stdout(whole)
    if is_file:
        FAILURES.require_replaceable(failures_of(whole))
        WARNINGS.require_replaceable(warnings_of(whole))
    with _read_errors():
        shares, missing = _in_order(shares, name)
        if name == "npy":
            _merge_npy(shares, whole, force=force)
        else:
            meta = _common_meta(shares, name) if is_file else None
            with _open_together(whole, meta is not None, meta_of(whole, name), force=force) as targets:
                _MERGERS[name](shares, targets[0].stream)
                _require_disjoint(shares, name)
                if meta is not None:
                    targets[1].stream.write(meta)
        failures = _merge_lists(shares, whole, FAILURES, failures_of) if is_file else None
        warnings = _merge_lists(shares, whole, WARNINGS, warnings_of) if is_file else None
        return Merged(failures, warnings, missing)


def _require_distinct(shares: Sequence[str], whole: str) -> None:
    if len(shares) < 2:
        only = f"only one share, {shares[0]}" if shares else "nothing to merge"
        raise UsageError(only, hint="give the others, too")
    seen: dict[str, str] = {}
    for share in shares:
        real = os.path.realpath(share)
        if not Path(share).exists():
            raise InputError(f"{share}: no such file", hint="run this share to its end first")
        if real in seen:
            raise UsageError(f"{share} is given twice" if seen[real] == share else f"{share} is {seen[real]}")
        seen[real] = share
    input_guard(whole)(*shares)


def _require_format(shares: Sequence[str], name: str) -> None:
    """The whole is of the format that the names of the shares speak of."""
    for share in shares:
        suffix = Path(share).suffix.removeprefix(".").lower()
        if suffix in MERGED_FORMATS and suffix != name:
            raise UsageError(
                f"{share} is {suffix} by its name, but the output would be {name}",
                hint=f"merge does not convert: use -f {suffix}",
            )


@contextlib.contextmanager
def _read_errors() -> Iterator[None]:
    """What the operating system says of a share; what it says of the whole is an OutputError already."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise InputError(os_error_text(exc.filename or "a share", exc)) from exc


@contextlib.contextmanager
def _open_together(main: str, has_meta: bool, meta: str, *more: str, force: bool) -> Iterator[list[Target]]:
    beside = [*([meta] if has_meta else []), *more]
    targets = [open_target(main, force=force), *(open_beside(name, main, force=force) for name in beside)]
    with together(*targets):
        yield targets


# ---------------------------------------------------------------------- provenance


def _common_meta(shares: Sequence[str], name: str) -> bytes | None:
    """The provenance beside each share; None where it is beside none, or in the objects."""
    if name not in WITHOUT_PROVENANCE:
        return None
    return _common_document(shares, [meta_of(share) for share in shares], {})


def _common_document(shares: Sequence[str], paths: Sequence[str], own: dict[str, Any]) -> bytes | None:
    """The provenance beside each share, which must be the same but for `shard`, with `own` of the whole."""
    found = [_document(path) for path in paths]
    if all(document is None for document in found):
        return None
    documents = []
    for share, path, document in zip(shares, paths, found, strict=True):
        if document is None:
            raise InputError(f"{path}: no such file, but other shares have theirs")
        documents.append({key: value for key, value in document.items() if key != "shard"} | own)
        _require_same(documents[-1], documents[0], share, shares[0])
    merged = json.dumps(documents[0], ensure_ascii=False, allow_nan=False, sort_keys=True, indent=2)
    return merged.encode("utf-8", "surrogatepass") + b"\n"


def _document(path: str) -> dict[str, Any] | None:
    """The provenance in a file of its own, or None where there is no such file."""
    try:
        document = json.loads(Path(path).read_bytes(), parse_constant=_refuse_constant)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise InputError(f"{path}: damaged: not a provenance file")
    return document


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _require_same(document: dict[str, Any], first: dict[str, Any], share: str, first_share: str) -> None:
    for key in sorted(document.keys() | first.keys()):
        then, now = first.get(key), document.get(key)
        if then == now:
            continue
        if isinstance(then, dict) and isinstance(now, dict):
            _require_same(now, then, share, first_share)
            continue
        raise InputError(
            f"{share} was made differently from {first_share}: {key} is {_short(now)}, not {_short(then)}",
            hint="run this share again with the options of the others",
        )


def _short(value: object) -> str:
    return shortened(json.dumps(value, ensure_ascii=False))


# ---------------------------------------------------------------------- which share, of what


def _in_order(shares: Sequence[str], name: str) -> tuple[list[str], tuple[str, ...]]:
    """The files in the order of the shares that they are, and which shares are not among them."""
    places = {share: _share_of(meta_of(share, name)) for share in shares}
    given = [share for share in shares if places[share] is not None]
    if not given:
        return list(shares), ()
    of: dict[tuple[int, int], str] = {}
    for share in shares:
        place = places[share]
        if place is None:
            raise InputError(
                f"{share} does not say which share it is, but {given[0]} does: is it a merged file?",
                hint="give the shares of one run",
            )
        if place in of:
            raise InputError(f"{share} is share {place[0]}/{place[1]}, as {of[place]} is")
        if place[1] != next(iter(of), place)[1]:
            first = next(iter(of))
            raise InputError(
                f"{share} is share {place[0]}/{place[1]}, and {of[first]} is {first[0]}/{first[1]}",
                hint="give the shares of one run",
            )
        of[place] = share
    count = next(iter(of))[1]
    missing = tuple(f"{n}/{count}" for n in range(1, count + 1) if (n, count) not in of)
    return [of[place] for place in sorted(of)], missing


def _share_of(path: str) -> tuple[int, int] | None:
    """Which share a file of provenance speaks of; None where it speaks of none, or is not there."""
    shard = (_document(path) or {}).get("shard")
    if shard is None:
        return None
    if not (isinstance(shard, list) and len(shard) == 2 and all(type(n) is int for n in shard)):
        raise InputError(f"{path}: damaged: no valid share")
    index, count = shard
    if not 1 <= index <= count:
        raise InputError(f"{path}: damaged: there is no share {index}/{count}")
    return index, count


def _require_disjoint(shares: Sequence[str], name: str) -> None:
    """See that no source is in two shares, and that each can be read to its end.

    Raises:
        InputError: one is, or a share is damaged.
    """
    share_of: dict[bytes, int] = {}
    for number, share in enumerate(shares):
        last = None
        try:
            for source in _SOURCES[name](index_of(share) if name == "npy" else share):
                if source == last:
                    continue
                last = source
                digest = hashlib.blake2b(source, digest_size=DIGEST_BYTES).digest()
                other = share_of.setdefault(digest, number)
                if other != number:
                    raise InputError(
                        f"{os.fsdecode(source)} is in {shares[other]} and in {share}",
                        hint="give the shares of one run, and not the whole beside them",
                    )
        except (ValueError, RecursionError, csv.Error) as exc:
            raise InputError(f"{share}: damaged: {_reason(exc)}", hint="run this share again") from exc


def _reason(exc: Exception) -> str:
    return str(exc).partition("\n")[0][:200] or type(exc).__name__


def _csv_sources(path: str, column: int = 0) -> Iterator[bytes]:
    before = csv.field_size_limit(LONGEST_CELL)
    try:
        with Path(path).open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            for n, row in enumerate(csv.reader(_without_nul(stream))):
                if len(row) > column and not (n == 0 and row[column] == "source"):
                    yield name_bytes(row[column])
    finally:
        csv.field_size_limit(before)


def _without_nul(lines: io.TextIOBase) -> Iterator[str]:
    for line in lines:
        if "\0" in line:
            raise ValueError("a NUL byte")
        yield line


def _tsv_sources(path: str) -> Iterator[bytes]:
    with Path(path).open("rb") as stream:
        for n, line in enumerate(stream):
            cell = line.partition(b"\t")[0]
            if not (n == 0 and cell == b"source"):
                yield cell


def _jsonl_sources(path: str) -> Iterator[bytes]:
    with Path(path).open("rb") as stream:
        for line in stream:
            if line.endswith(b"\n"):  # what is cut short is said when it is copied
                yield _source_in(line)


def _json_sources(path: str) -> Iterator[bytes]:
    """Sources of an array as dymn writes it: an object begins and ends on lines of their own."""
    with Path(path).open("rb") as stream:
        lines: list[bytes] = []
        for line in stream:
            if line == b"  {\n":
                lines = []
            lines.append(line)
            if line in (b"  },\n", b"  }\n"):
                yield _source_in(b"".join(lines).rstrip(b",\n"))


def _source_in(text: bytes) -> bytes:
    document = json.loads(text)
    source = document.get("source") if isinstance(document, dict) else None
    if not isinstance(source, str):
        raise ValueError("an object without a source")  # noqa: TRY004 - of a file, not of our own
    raw = document.get("source_b64")
    return base64.b64decode(raw, validate=True) if isinstance(raw, str) else name_bytes(source)


_SOURCES: dict[str, Callable[[str], Iterator[bytes]]] = {
    "csv": _csv_sources,
    "tsv": _tsv_sources,
    "jsonl": _jsonl_sources,
    "json": _json_sources,
    "npy": partial(_csv_sources, column=1),  # of its index
}


# ---------------------------------------------------------------------- rows and objects


def _merge_rows(shares: Sequence[str], out: BinaryIO) -> None:
    """Rows of csv and tsv, the column names once."""
    header: bytes | None = None
    for number, share in enumerate(shares):
        with Path(share).open("rb") as stream:
            line = stream.readline()
            own = line if line.startswith((*FIRST_COLUMNS, FAILURES.header, WARNINGS.header)) else b""
            if number == 0:
                header = own
                out.write(line)
            elif own != header:
                raise InputError(f"{share}: other columns than {shares[0]}")
            elif not own:
                out.write(line)
            _copy_lines(stream, out, share, line)


def _merge_jsonl(shares: Sequence[str], out: BinaryIO) -> None:
    _require_one_provenance(shares, _provenance_in)
    for share in shares:
        with Path(share).open("rb") as stream:
            _copy_lines(stream, out, share)


def _require_one_provenance(shares: Sequence[str], read: Callable[[BinaryIO], dict[str, Any]]) -> None:
    """See that the objects of all shares were made alike; a share of failures alone does not say how."""
    first: dict[str, Any] = {}
    for share in shares:
        with Path(share).open("rb") as stream:
            made = read(stream)
        if made and first:
            _require_same(made, first, share, shares[0])
        first = first or made


def _provenance_in(lines: BinaryIO) -> dict[str, Any]:
    """The provenance in the first object that has it; an object of a failure has none."""
    for line in lines:
        document = _object(line)
        if "model" in document:
            return {key: document.get(key) for key in PROVENANCE_KEYS}
    return {}


def _object(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _copy_lines(stream: BinaryIO, out: BinaryIO, share: str, before: bytes = b"\n") -> None:
    """Copy the rest; a file that does not end with a line end was not written to its end."""
    last = before
    while piece := stream.read(COPY_BYTES):
        out.write(piece)
        last = piece
    if not last.endswith(b"\n") and last:
        raise InputError(f"{share}: cut short", hint="run this share again")


def _merge_json(shares: Sequence[str], out: BinaryIO) -> None:
    """Arrays whose objects follow each other; `[` and the end are once."""
    _require_one_provenance(shares, _array_provenance)
    is_empty = True
    out.write(b"[")
    for share in shares:
        with Path(share).open("rb") as stream:
            head, size = stream.read(4), stream.seek(0, os.SEEK_END)
            if head == b"[]\n":
                continue
            stream.seek(max(0, size - 3))
            if size < 4 or not head.startswith(b"[") or stream.read() != b"\n]\n":
                raise InputError(
                    f"{share}: not a complete array that dymn wrote", hint="run this share again"
                )
            if not is_empty:
                out.write(b",")
            is_empty = False
            stream.seek(1)
            left = size - 4
            while left > 0 and (piece := stream.read(min(left, COPY_BYTES))):
                out.write(piece)
                left -= len(piece)
    out.write(b"]\n" if is_empty else b"\n]\n")


def _array_provenance(stream: BinaryIO) -> dict[str, Any]:
    """The provenance in the first object of an array that has it; each field stands on a line of its own."""
    made = {}
    for line in stream:
        key, colon, value = line.strip().rstrip(b",").partition(b": ")
        name = key.strip(b'"').decode("utf-8", "replace")
        if colon and line.startswith(b'    "') and name in PROVENANCE_KEYS:
            made[name] = _object(b'{"value": ' + value + b"}").get("value")
            if len(made) == len(PROVENANCE_KEYS):
                break
    return made


# ---------------------------------------------------------------------- matrices


@dataclass(frozen=True, slots=True)
class _Matrix:
    """An npy file of ours: its rows and where they begin."""

    path: str
    n_rows: int
    n_columns: int
    start: int

    @classmethod
    def of(cls, path: str) -> _Matrix:
        """What the header says, and whether that many rows follow."""
        with Path(path).open("rb") as stream:
            try:
                np.lib.format.read_magic(stream)
                shape, by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
            except OSError:
                raise
            except Exception as exc:  # NumPy has a header read by Python's own tokenizer and parser
                raise InputError(f"{path}: not a matrix that dymn wrote") from exc
            start, size = stream.tell(), stream.seek(0, os.SEEK_END)
        if dtype != np.dtype("<f4") or by_columns or len(shape) != 2:
            raise InputError(f"{path}: not a matrix that dymn wrote: {dtype}, shape {shape}")
        if size != start + 4 * shape[0] * shape[1]:
            raise InputError(f"{path}: cut short", hint="run this share again")
        return cls(path, shape[0], shape[1], start)


def _merge_npy(shares: Sequence[str], whole: str, *, force: bool) -> None:
    matrices = [_Matrix.of(share) for share in shares]
    n_columns = matrices[0].n_columns
    for matrix in matrices:
        if matrix.n_columns != n_columns:
            raise InputError(
                f"{matrix.path} has {matrix.n_columns} columns, {shares[0]} has {n_columns}",
                hint="the shares are of different models",
            )
    shape = (sum(matrix.n_rows for matrix in matrices), n_columns)
    beside = (meta_of(whole, "npy"), index_of(whole))
    meta = _common_document(shares, [meta_of(share, "npy") for share in shares], {"shape": list(shape)})
    with _open_together(whole, meta is not None, *beside, force=force) as targets:
        out, index = targets[0].stream, targets[-1].stream
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, header)
        first_row = 0
        for matrix in matrices:
            with Path(matrix.path).open("rb") as stream:
                stream.seek(matrix.start)
                shutil.copyfileobj(stream, out, COPY_BYTES)
            _renumber(matrix, first_row, index, with_header=matrix is matrices[0])
            first_row += matrix.n_rows
        _require_disjoint(shares, "npy")
        if meta is not None:
            targets[1].stream.write(meta)


def _renumber(matrix: _Matrix, first_row: int, out: BinaryIO, *, with_header: bool) -> None:
    """Copy the index of a matrix, its rows counted on from `first_row`."""
    path = index_of(matrix.path)
    n_rows = 0
    with Path(path).open("rb") as stream:
        header = stream.readline()
        if with_header:
            out.write(header)
        within_quotes = False  # names may hold line ends
        for line in stream:
            if within_quotes:
                out.write(line)
            else:
                _, comma, rest = line.partition(b",")
                out.write(b"%d%b%b" % (first_row + n_rows, comma, rest))
                n_rows += 1
            within_quotes ^= line.count(b'"') % 2 == 1
    if n_rows != matrix.n_rows:
        raise InputError(f"{path}: {n_rows} rows, but the matrix has {matrix.n_rows}")


# ---------------------------------------------------------------------- failures and warnings


def _merge_lists(shares: Sequence[str], whole: str, kind: Kind, beside: Callable[[str], str]) -> str | None:
    """One list of those that lie beside shares."""
    there = [beside(share) for share in shares if Path(beside(share)).is_file()]
    for name in there:
        kind.require_replaceable(name)  # a file that is no such list is not merged into one
    path = beside(whole)
    if not there:
        Path(path).unlink(missing_ok=True)  # of an earlier whole
        return None
    with open_target(path, force=True) as target:
        _merge_rows(there, target.stream)
    return path


_MERGERS = {"csv": _merge_rows, "tsv": _merge_rows, "jsonl": _merge_jsonl, "json": _merge_json}
