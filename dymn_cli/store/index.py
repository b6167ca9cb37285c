"""Read the index of a teacher's logits: which row of the matrix belongs to which clip.

The published logits come as a plain matrix (`.npy`) and a pickled dict of clip name → row. Such a file is
read as data: strings, numbers, dicts, lists and tuples, and NumPy's strings and integers. A list of names
counts the rows from 0. Pickles of protocol 2 to 5 are read, and `.npy` files that hold names or such a dict.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dymn_cli.errors import ModelError, UnsafeWeightsError, WeightsMissingError
from dymn_cli.small_files import read_small
from dymn_cli.store.pickles import Global, Grammar, Ordered, PickleError, Stateful, read_pickle

__all__ = ["read_index"]

NPY = b"\x93NUMPY\1\0"
HEADER = re.compile(
    r"\{'descr': '(?:\|O|(?P<order>[<>])U(?P<length>\d{1,6}))', 'fortran_order': (?:False|True), "
    r"'shape': \((?:(?P<count>\d{1,12}),)?\), \}\s*"
)
"""The header that NumPy writes before an array of names, or of objects."""

LARGEST_INDEX = 1 << 30  # bytes; two million clips take some 60 MB
MAX_INSTRUCTIONS = 1 << 26
LARGEST_ROW = 1 << 40
DTYPE = re.compile(r"[iu][1248]|U\d{1,6}|O8?")
QUOTED = 60
WANTED = "an index is a dict of name → row, or a list of names"


def read_index(path: Path) -> dict[str, int]:
    """Read the index of a teacher's logits; nothing in the file is executed.

    Args:
        path: a pickle or `.npy` file with a dict of name → row, or with a list of names in the order of rows.

    Returns:
        Name → row, in the order of the file.

    Raises:
        WeightsMissingError: the file cannot be read.
        UnsafeWeightsError: it is damaged, or holds more than strings, numbers, dicts, lists and tuples.
        ModelError: it holds such values, but not an index.
    """
    where = str(path)
    data = read_small(path, WeightsMissingError, max_bytes=LARGEST_INDEX)
    try:
        value = _value(data)
    except PickleError as exc:
        raise UnsafeWeightsError(f"{where} {exc}", hint=exc.hint) from exc
    return _index(value, where)


def _value(data: bytes) -> object:
    if data.startswith(NPY):
        return _array(data)
    if not data.startswith(b"\x80"):
        raise PickleError("is neither a pickle of protocol 2 to 5 nor a .npy file" if data else "is empty")
    return _plain(read_pickle(data, GRAMMAR))


def _array(data: bytes) -> object:
    """The names in a `.npy` file, or the one object in it."""
    start = len(NPY) + 2 + int.from_bytes(data[len(NPY) : len(NPY) + 2], "little")
    header = HEADER.fullmatch(data[len(NPY) + 2 : start].decode("latin-1"))
    if header is None:
        raise PickleError("is a .npy file, but not an array of names", hint=WANTED)
    if header["length"] is None:
        return _plain(read_pickle(data[start:], GRAMMAR))
    size, count = 4 * int(header["length"]), int(header["count"] or 0)
    if not size or len(data) - start != size * count:
        raise PickleError("is a damaged .npy file")
    dtype = _Dtype(f"U{header['length']}", header["order"] == "<")
    return [_text(data[at : at + size], dtype) for at in range(start, len(data), size)]


def _index(value: object, where: str) -> dict[str, int]:
    if isinstance(value, dict):
        items: Iterable[tuple[object, object]] = value.items()
    elif isinstance(value, list | tuple):
        items = ((name, row) for row, name in enumerate(value))
    else:
        raise ModelError(f"{where} is not an index, but of type {type(value).__name__}", hint=WANTED)
    index: dict[str, int] = {}
    for name, row in items:
        if not isinstance(name, str):
            raise ModelError(
                f"{where} holds a name that is not a string, but of type {type(name).__name__}", hint=WANTED
            )
        if type(row) is not int or not 0 <= row <= LARGEST_ROW:
            raise ModelError(f"{where} has no row for {name[:QUOTED]!r}", hint=WANTED)
        if name in index:
            raise ModelError(f"{where} names {name[:QUOTED]!r} twice")
        index[name] = row
    if not index:
        raise ModelError(f"{where} holds no names", hint=WANTED)
    return index


# ---------------------------------------------------------------------- NumPy's spelling of plain values


@dataclass(slots=True)
class _Dtype(Stateful):
    """The type of a NumPy value."""

    code: str
    little: bool = True

    def set_state(self, state: object) -> None:
        """Take in the byte order."""
        match state:
            case (int(), "<" | ">" | "|" as order, *_):
                self.little = order != ">"
            case _:
                raise PickleError("holds a NumPy type in an unknown form")


@dataclass(slots=True)
class _Objects(Stateful):
    """An array of objects: the one object of an array without dimensions, else a list."""

    content: object = None

    def set_state(self, state: object) -> None:
        """Take in what the array holds."""
        match state:
            case (int(), (), _Dtype("O8" | "O"), bool(), [content]):
                self.content = content
            case (int(), (int(size),), _Dtype("O8" | "O"), bool(), list(content)) if size == len(content):
                self.content = content
            case _:
                raise PickleError("holds a NumPy array of something other than names", hint=WANTED)


def _plain(value: object) -> object:
    return value.content if isinstance(value, _Objects) else value


def _dtype(arguments: tuple[object, ...]) -> _Dtype:
    match arguments:
        case (str(code), bool(), bool()) if DTYPE.fullmatch(code):
            return _Dtype(code)
    raise PickleError("holds NumPy values that are neither strings nor integers", hint=WANTED)


def _scalar(arguments: tuple[object, ...]) -> str | int:
    match arguments:
        case (_Dtype(code) as dtype, bytes(data)) if code[0] in "iuU":
            unit = 4 if code[0] == "U" else 1
            if len(data) == unit * int(code[1:]):
                return _text(data, dtype) if code[0] == "U" else _number(data, dtype)
    raise PickleError("holds NumPy values that are neither strings nor integers", hint=WANTED)


def _number(data: bytes, dtype: _Dtype) -> int:
    return int.from_bytes(data, "little" if dtype.little else "big", signed=dtype.code[0] == "i")


def _text(data: bytes, dtype: _Dtype) -> str:
    try:
        return data.decode("utf-32-le" if dtype.little else "utf-32-be").rstrip("\0")
    except UnicodeDecodeError as exc:
        raise PickleError("holds names that are not text") from exc


def _objects(arguments: tuple[object, ...]) -> _Objects:
    match arguments:
        case (Global("numpy.ndarray"), (0,), b"b"):
            return _Objects()
    raise PickleError("holds a NumPy array in an unknown form", hint=WANTED)


def _bytes(arguments: tuple[object, ...]) -> bytes:
    """How protocol 2 spells bytes."""
    match arguments:
        case (str(text), "latin1"):
            try:
                return text.encode("latin-1")
            except UnicodeEncodeError as exc:
                raise PickleError("is a damaged pickle: bytes above 255") from exc
    raise PickleError("calls a codec", hint=WANTED)


GRAMMAR = Grammar(
    purpose="an index may hold only strings, numbers, dicts, lists and tuples",
    builders={
        "collections.OrderedDict": Ordered.build,
        "numpy.dtype": _dtype,
        "_codecs.encode": _bytes,
        **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
        **{f"numpy.{core}.multiarray._reconstruct": _objects for core in ("core", "_core")},
    },
    names=frozenset({"numpy.ndarray"}),
    hint=WANTED,
    max_instructions=MAX_INSTRUCTIONS,
)
