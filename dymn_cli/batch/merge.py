"""The outputs of the shares of a job array, put together: byte for byte what one run over all would write.

    dymn tag DIR --shard 1/3 -o 1.csv   (2/3, 3/3 likewise)
    dymn merge 1.csv 2.csv 3.csv -o all.csv

csv, tsv     the first one's line of column names, then the rows of all
jsonl, json  the objects of all
npy          the rows of all; the index with rows counted anew

Provenance (`OUT.meta.json`, or in the objects) must be the same in all shares, and is that of the whole.
Lists of failures (`OUT.failures.csv`) are put together likewise. Files are copied piece by piece: memory
does not grow with them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from dymn_cli.errors import InputError, UsageError
from dymn_cli.writers.beside import failures_of, index_of, meta_of
from dymn_cli.writers.failures import HEADER, require_replaceable
from dymn_cli.writers.formats import choose_format
from dymn_cli.writers.target import check_target, is_stdout, open_target, together

if TYPE_CHECKING:
    from dymn_cli.writers.target import Target

__all__ = ["MERGED_FORMATS", "Merged", "merge"]

MERGED_FORMATS = ("csv", "tsv", "jsonl", "json", "npy")
COPY_BYTES = 1 << 20
FIRST_COLUMNS = (b"source,channel,", b"source,duration_s,", b"source\tchannel\t")
PROVENANCE_KEYS = ("dymn", "model", "options")


@dataclass(frozen=True, slots=True)
class Merged:
    """What was put together.

    Args:
        n_shares: how many files.
        failures: the list of failures that was written, or None where no share had one.
    """

    n_shares: int
    failures: str | None


def merge(
    shares: Sequence[str], whole: str, *, format_name: str | None = None, force: bool = False
) -> Merged:
    """Put the outputs of shares together.

    Args:
        shares: their files, in the order of the shares.
        whole: the file to write.
        format_name: of all of them; by the suffix of the whole if not given.
        force: replace what exists.

    Raises:
        UsageError: fewer than two shares, one of them twice, or a format that cannot be put together.
        InputError: a share cannot be read, is not complete, or was not made as the first one was.
        OutputError: the whole exists or cannot be written.
    """
    name = choose_format(format_name, whole, default="csv", formats=MERGED_FORMATS)
    _require_distinct(shares, whole)
    _require_format(shares, name)
    check_target(whole, force=force)
    is_file = not is_stdout(whole)
    if is_file:
        require_replaceable(failures_of(whole))
    with _read_errors():
        if name == "npy":
            _merge_npy(shares, whole, force=force)
        else:
            meta = _common_meta(shares, whole) if is_file else None
            with _open_together(whole, meta is not None, meta_of(whole, name), force=force) as targets:
                _MERGERS[name](shares, targets[0].stream)
                if meta is not None:
                    targets[1].stream.write(meta)
        return Merged(len(shares), _merge_failures(shares, whole) if is_file else None)


def _require_distinct(shares: Sequence[str], whole: str) -> None:
    if len(shares) < 2:
        raise UsageError("there is nothing to put together", hint="give the files of all shares, in order")
    seen: dict[str, str] = {}
    for share in shares:
        real = os.path.realpath(share)
        if not Path(share).exists():
            raise InputError(f"{share}: no such file", hint="has this share been run to its end?")
        if real in seen:
            raise UsageError(f"{share} is given twice" if seen[real] == share else f"{share} is {seen[real]}")
        seen[real] = share
    if os.path.realpath(whole) in seen:
        raise UsageError(f"{whole} is one of the shares", hint="write the whole to another file")


def _require_format(shares: Sequence[str], name: str) -> None:
    """The whole is of the format that the names of the shares speak of."""
    for share in shares:
        suffix = Path(share).suffix.removeprefix(".").lower()
        if suffix in MERGED_FORMATS and suffix != name:
            raise UsageError(
                f"{share} is {suffix} by its name, and the whole would be {name}",
                hint=f"shares are put together, not converted: -f {suffix}",
            )


@contextlib.contextmanager
def _read_errors() -> Iterator[None]:
    """What the operating system says of a share; what it says of the whole is an OutputError already."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise InputError(f"{exc.filename or 'a share'}: {(exc.strerror or str(exc)).lower()}") from exc


@contextlib.contextmanager
def _open_together(main: str, has_meta: bool, meta: str, *more: str, force: bool) -> Iterator[list[Target]]:
    names = [main, *([meta] if has_meta else []), *more]
    targets = [open_target(name, force=force) for name in names]
    with together(*targets):
        yield targets


# ---------------------------------------------------------------------- provenance


def _common_meta(shares: Sequence[str], whole: str) -> bytes | None:
    """The bytes of the provenance that lies beside each share, or None where it lies beside none."""
    metas = [_bytes_of(meta_of(share)) for share in shares]
    if all(meta is None for meta in metas):
        return None
    for share, meta in zip(shares, metas, strict=True):
        if meta is None:
            raise InputError(f"{meta_of(share)}: no such file, and other shares have theirs")
        _require_same(_document(meta, share), _document(metas[0] or b"", shares[0]), share, shares[0])
    return metas[0]


def _document(meta: bytes, share: str) -> dict[str, Any]:
    try:
        document = json.loads(meta)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise InputError(f"{meta_of(share)}: says nothing of how the share was made: it is damaged")
    return document


def _bytes_of(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return None


def _require_same(document: dict[str, Any], first: dict[str, Any], share: str, first_share: str) -> None:
    for key in sorted(document.keys() | first.keys()):
        then, now = first.get(key), document.get(key)
        if then == now:
            continue
        if isinstance(then, dict) and isinstance(now, dict):
            _require_same(now, then, share, first_share)
            continue
        raise InputError(
            f"{share} was not made as {first_share} was: {key} is {_short(now)}, there {_short(then)}",
            hint="run this share again with the options of the others",
        )


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:18]}…{text[-18:]}"


# ---------------------------------------------------------------------- rows and objects


def _merge_rows(shares: Sequence[str], out: BinaryIO) -> None:
    """Rows of csv and tsv, the column names once."""
    header: bytes | None = None
    for number, share in enumerate(shares):
        with Path(share).open("rb") as stream:
            line = stream.readline()
            own = line if line.startswith((*FIRST_COLUMNS, HEADER)) else b""
            if number == 0:
                header = own
                out.write(line)
            elif own != header:
                raise InputError(f"{share} has not the columns of {shares[0]}")
            elif not own:
                out.write(line)
            _copy_lines(stream, out, share, line)


def _merge_jsonl(shares: Sequence[str], out: BinaryIO) -> None:
    first = None
    for share in shares:
        with Path(share).open("rb") as stream:
            made = _provenance_in(stream)
            first = first or made
            if made and first:
                _require_same(made, first, share, shares[0])
            stream.seek(0)
            _copy_lines(stream, out, share)


def _provenance_in(lines: BinaryIO) -> dict[str, Any]:
    """What made the first object that says it; an object of a failure does not."""
    for line in lines:
        document = _object(line)
        if "model" in document:
            return {key: document.get(key) for key in PROVENANCE_KEYS}
    return {}


def _object(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
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
    first: dict[str, Any] | None = None
    is_empty = True
    out.write(b"[")
    for share in shares:
        with Path(share).open("rb") as stream:
            made = _array_provenance(stream)
            first = first or made
            if made and first:
                _require_same(made, first, share, shares[0])
            size = stream.seek(0, os.SEEK_END)
            stream.seek(0)
            ends = size >= 4 and _ends_with(stream, size, b"\n]\n")
            if not (ends or stream.read() == b"[]\n"):
                raise InputError(f"{share}: not a whole array of dymn", hint="run this share again")
            if not ends:
                continue
            if not is_empty:
                out.write(b",")
            is_empty = False
            stream.seek(1)
            _copy_bytes(stream, out, size - 4)
    out.write(b"]\n" if is_empty else b"\n]\n")


def _ends_with(stream: BinaryIO, size: int, end: bytes) -> bool:
    stream.seek(size - len(end))
    same = stream.read() == end
    stream.seek(0)
    return same and stream.read(1) == b"["


def _array_provenance(stream: BinaryIO) -> dict[str, Any]:
    """What made the first object of an array that says it: each of its fields stands on a line of its own."""
    made = {}
    for line in stream:
        key, colon, value = line.strip().rstrip(b",").partition(b": ")
        name = key.strip(b'"').decode("utf-8", "replace")
        if colon and line.startswith(b'    "') and name in PROVENANCE_KEYS:
            made[name] = json.loads(value)
            if len(made) == len(PROVENANCE_KEYS):
                break
    return made


def _copy_bytes(stream: BinaryIO, out: BinaryIO, n_bytes: int) -> None:
    while n_bytes > 0 and (piece := stream.read(min(n_bytes, COPY_BYTES))):
        out.write(piece)
        n_bytes -= len(piece)


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
            except ValueError as exc:
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
                hint="they are of different models",
            )
    shape = (sum(matrix.n_rows for matrix in matrices), n_columns)
    beside = (meta_of(whole, "npy"), index_of(whole))
    meta = _matrix_meta(matrices, shape)
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
        if meta is not None:
            targets[1].stream.write(meta)


def _matrix_meta(matrices: Sequence[_Matrix], shape: tuple[int, int]) -> bytes | None:
    """The provenance of the whole matrix: that of the shares, with its own shape."""
    paths = [meta_of(matrix.path, "npy") for matrix in matrices]
    texts = [_bytes_of(path) for path in paths]
    if all(text is None for text in texts):
        return None
    documents = []
    for path, text, matrix in zip(paths, texts, matrices, strict=True):
        if text is None:
            raise InputError(f"{path}: no such file, and other shares have theirs")
        document = json.loads(text)
        document["shape"] = list(shape)
        documents.append(document)
        _require_same(document, documents[0], matrix.path, matrices[0].path)
    merged = json.dumps(documents[0], ensure_ascii=False, allow_nan=False, sort_keys=True, indent=2)
    return merged.encode("utf-8") + b"\n"


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
        raise InputError(f"{path}: {n_rows} rows, and the matrix has {matrix.n_rows}")


# ---------------------------------------------------------------------- failures


def _merge_failures(shares: Sequence[str], whole: str) -> str | None:
    """One list of failures of those that lie beside shares."""
    lists = [failures_of(share) for share in shares]
    there = [name for name in lists if Path(name).is_file()]
    path = failures_of(whole)
    if not there:
        Path(path).unlink(missing_ok=True)  # of an earlier whole
        return None
    with open_target(path, force=True) as target:
        _merge_rows(there, target.stream)
    return path


_MERGERS = {"csv": _merge_rows, "tsv": _merge_rows, "jsonl": _merge_jsonl, "json": _merge_json}
