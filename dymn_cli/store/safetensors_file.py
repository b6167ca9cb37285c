"""Read any safetensors file: its metadata and its tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dymn_cli.errors import ModelError, UnsafeWeightsError, WeightsMissingError
from dymn_cli.small_files import read_small
from dymn_cli.store.registry import LARGEST_MODEL
from dymn_cli.store.tensors import as_float32

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["parse_safetensors", "read_safetensors"]

LONGEST_KEY = 200
NUMBERS = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8"}
"""Readable types and their NumPy types; integers only count training updates."""


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, NDArray[np.float32]]]:
    """Read any safetensors file: its metadata, which may be empty, and its tensors in float32.

    Raises:
        WeightsMissingError: the file cannot be read.
        UnsafeWeightsError: it is not a safetensors file, or is damaged.
        ModelError: it holds numbers of other types, or values that are not finite.
    """
    return parse_safetensors(read_small(path, WeightsMissingError, max_bytes=LARGEST_MODEL), str(path))


def parse_safetensors(data: bytes, where: str) -> tuple[dict[str, str], dict[str, NDArray[np.float32]]]:
    """Do what `read_safetensors` does, for the bytes of a file."""
    from safetensors import SafetensorError, deserialize

    try:
        entries: list[tuple[str, Any]] = deserialize(data)  # type: ignore[no-untyped-call] # no types in its stub
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
    except (SafetensorError, ValueError, RecursionError) as exc:
        raise UnsafeWeightsError(
            f"{where}: not a readable safetensors file", hint="cut short or damaged? fetch or make it again"
        ) from exc
    tensors = {}
    for key, entry in entries:
        name = key if key.isprintable() and len(key) <= LONGEST_KEY else repr(key[:LONGEST_KEY])
        tensors[key] = as_float32(_values(entry, f"{where}: {name}"), key, f"{where}: {name}")
    return metadata, tensors


def _values(entry: Mapping[str, Any], where: str) -> NDArray[np.generic]:
    """The values of an entry, as they are stored."""
    dtype = NUMBERS.get(entry["dtype"])
    if dtype is None:
        raise ModelError(
            f"{where} holds {entry['dtype']} numbers", hint=f"dymn reads {', '.join(sorted(NUMBERS))}"
        )
    try:
        return np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
    except (ValueError, OverflowError) as exc:  # a hundred dimensions, or 0 × 2**63
        raise UnsafeWeightsError(f"{where} has an impossible shape") from exc
