"""Any safetensors file: its metadata and its tensors, checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dymn_cli.errors import ModelError, UnsafeWeightsError, WeightsMissingError
from dymn_cli.small_files import read_small
from dymn_cli.store.registry import LARGEST_MODEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["read_safetensors"]

LONGEST_KEY = 200
NUMBERS = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8"}
"""The kinds of numbers that are read, as NumPy spells them; integers only count updates in training."""


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, NDArray[np.float32]]]:
    """Read any safetensors file: its metadata, which may be empty, and its tensors in float32.

    Raises:
        WeightsMissingError: the file cannot be read.
        UnsafeWeightsError: it is no such file, or a damaged one.
        ModelError: it holds other kinds of numbers, or values that are not finite.
    """
    metadata, entries = entries_of(read_small(path, WeightsMissingError, max_bytes=LARGEST_MODEL), str(path))
    return metadata, {key: tensor_of(entry, f"{path}: {shown_key(key)}") for key, entry in entries}


def entries_of(data: bytes, where: str) -> tuple[dict[str, str], list[tuple[str, Any]]]:
    from safetensors import SafetensorError, deserialize

    try:
        entries: list[tuple[str, Any]] = deserialize(data)  # type: ignore[no-untyped-call] # no types in its stub
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
    except (SafetensorError, ValueError, RecursionError) as exc:
        raise UnsafeWeightsError(
            f"{where}: not a readable safetensors file", hint="cut short or damaged? fetch or make it again"
        ) from exc
    return metadata, entries


def tensor_of(entry: Mapping[str, Any], where: str) -> NDArray[np.float32]:
    """Read an entry of the file without copying it, where it is float32 as ours are."""
    dtype = NUMBERS.get(entry["dtype"])
    if dtype is None:
        raise ModelError(
            f"{where} holds {entry['dtype']} numbers", hint=f"dymn reads {', '.join(sorted(NUMBERS))}"
        )
    try:
        shaped = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    except (ValueError, OverflowError) as exc:  # a hundred dimensions, or none times 2**63
        raise UnsafeWeightsError(f"{where} has a shape that no array can have") from exc
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused below
        values = shaped.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise ModelError(f"{where} holds values that are not finite")
    return values


def shown_key(key: str) -> str:
    """The name of a tensor as it goes into a message, which is one line."""
    return key if key.isprintable() and len(key) <= LONGEST_KEY else repr(key[:LONGEST_KEY])
