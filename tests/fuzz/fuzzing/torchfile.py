"""Writes the files that `torch.save` writes, without torch, and such as it never would.

A value is spelled as pickle instructions of protocol 2: plain values as they are, and the five things below.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

KINDS = {"f4": "Float", "f8": "Double", "f2": "Half", "i8": "Long", "i4": "Int", "u1": "Byte", "b1": "Bool"}


@dataclass(frozen=True)
class Named:
    """A class or function."""

    name: str  # module.name


@dataclass(frozen=True)
class Call:
    """A call of one."""

    name: str
    arguments: Any


@dataclass(frozen=True)
class Stated:
    """A value whose state is set."""

    value: Any
    state: Any


@dataclass(frozen=True)
class Reference:
    """Something outside of the pickle."""

    value: Any


@dataclass(frozen=True)
class Raw:
    """Instructions as they are."""

    instructions: bytes


def instructions(value: Any) -> bytes:
    """What puts a value onto the stack."""
    match value:
        case Raw(code):
            return code
        case Named(name):
            module, _, last = name.rpartition(".")
            return b"c" + f"{module}\n{last}\n".encode()
        case Call(name, arguments):
            return instructions(Named(name)) + instructions(arguments) + b"R"
        case Stated(inner, state):
            return instructions(inner) + instructions(state) + b"b"
        case Reference(inner):
            return instructions(inner) + b"Q"
        case None | True | False:
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        case int():
            size = value.bit_length() // 8 + 1
            return b"\x8a" + bytes((size,)) + value.to_bytes(size, "little", signed=True)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            data = value.encode("utf-8", "surrogatepass")
            return b"X" + struct.pack("<I", len(data)) + data
        case tuple():
            return b"(" + b"".join(map(instructions, value)) + b"t"
        case list():
            return b"](" + b"".join(map(instructions, value)) + b"e"
        case dict():
            items = b"".join(instructions(key) + instructions(item) for key, item in value.items())
            return b"}(" + items + b"u"
    raise TypeError(value)


def pickled(value: Any) -> bytes:
    """A whole pickle."""
    return b"\x80\x02" + instructions(value) + b"."


def tensor(
    key: str,
    shape: Sequence[int],
    *,
    kind: str = "Float",
    n_values: int | None = None,
    offset: int = 0,
    strides: Sequence[int] | None = None,
) -> Call:
    """A tensor over the storage of that key; in order and all of it where nothing else is said."""
    steps = [math.prod(shape[n + 1 :]) for n in range(len(shape))] if strides is None else strides
    size = math.prod(shape) if n_values is None else n_values
    storage = Reference(("storage", Named(f"torch.{kind}Storage"), key, "cpu", size))
    hooks = Call("collections.OrderedDict", ())
    return Call(
        "torch._utils._rebuild_tensor_v2", (storage, offset, tuple(shape), tuple(steps), False, hooks)
    )


def archive(
    data_pkl: bytes,
    storages: Mapping[str, bytes],
    *,
    folder: str = "archive",
    byteorder: str | None = "little",
    others: Mapping[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> bytes:
    """The zip file around a pickle and its storages."""
    entries = {"data.pkl": data_pkl, "version": b"3\n", ".format_version": b"1"}
    if byteorder is not None:
        entries["byteorder"] = byteorder.encode()
    entries |= {f"data/{key}": data for key, data in storages.items()}
    entries |= others or {}
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", compression) as file:
        for name, data in entries.items():
            file.writestr(zipfile.ZipInfo(f"{folder}/{name}"), data, compression)
    return memory.getvalue()


def described(tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, Call], dict[str, bytes]]:
    """The entries of a state dict, and the storages that they refer to."""
    entries, storages = {}, {}
    for n, (key, values) in enumerate(tensors.items()):
        entries[key] = tensor(str(n), values.shape, kind=KINDS[values.dtype.str[1:]])
        storages[str(n)] = values.tobytes()
    return entries, storages


def checkpoint(tensors: Mapping[str, np.ndarray]) -> bytes:
    """A state dict as `torch.save` writes it."""
    entries, storages = described(tensors)
    return archive(pickled(entries), storages)
