"""A model file: safetensors with published key names, and all that is needed to use them.

The metadata of the file (safetensors header, `__metadata__`, strings only) holds

    dymn.format     "1"
    dymn.name       the model's name
    dymn.config     `ModelConfig` as JSON
    dymn.front_end  `FrontEndConfig` as JSON
    dymn.labels     "audioset", or a JSON list of class names
    dymn.purpose    "embeddings" where the model cannot tag; not there where it can

so that the file alone is a model. Nothing in it is executed: the header is JSON and the rest is plain
numbers, whose offsets and sizes the safetensors library checks. PyTorch checkpoints are read as well: see
`dymn_cli.store.convert`.

Format: https://github.com/huggingface/safetensors, section "Format".
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from dymn_cli.atomic import atomic_write
from dymn_cli.errors import ChecksumError, OutputError, WeightsMissingError, os_error_text
from dymn_cli.small_files import read_small
from dymn_cli.store.header import ModelHeader
from dymn_cli.store.registry import LARGEST_MODEL, ModelSpec
from dymn_cli.store.safetensors_file import entries_of, shown_key, tensor_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Weights", "read_weights", "save_weights", "sha256_of", "write_weights"]


CHECKPOINT_SUFFIXES = (".pt", ".pth", ".ckpt")


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A model in memory: its header, the hash of the file, and published key → float32 array."""

    header: ModelHeader
    sha256: str
    tensors: dict[str, NDArray[np.float32]]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in lower-case hexadecimal.

    Raises:
        WeightsMissingError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise WeightsMissingError(os_error_text(path, exc)) from exc


def read_weights(model: ModelSpec | Path) -> Weights:
    """Read a model: a safetensors file of ours, or a PyTorch checkpoint.

    Args:
        model: one with a name, whose file must have the hash that is known of it, or a path. A checkpoint
            takes its name from the file, and can only embed where nothing says what its classes are.

    Raises:
        WeightsMissingError: the file cannot be read.
        ChecksumError: it is not the file that was known by that name.
        UnsafeWeightsError: it is no such file, a damaged one, or one that holds more than tensors.
        ModelError: it is no model of ours.
    """
    path = model.path if isinstance(model, ModelSpec) else model
    if path.suffix.lower() in CHECKPOINT_SUFFIXES:
        from dymn_cli.store.convert import convert

        header, tensors = convert(path, name=path.stem, purpose=None)
        return Weights(header, sha256_of(path), tensors)
    data = read_small(path, WeightsMissingError, max_bytes=LARGEST_MODEL)
    sha256 = hashlib.sha256(data).hexdigest()
    if isinstance(model, ModelSpec) and sha256 != model.sha256:
        raise ChecksumError(
            f"{path.name}: SHA-256 is {sha256[:12]}…, it should be {model.sha256[:12]}…",
            hint=f"the file was changed or damaged; {model.remedy}",
        )
    return _parse(data, sha256, str(path))


def _parse(data: bytes, sha256: str, where: str) -> Weights:
    metadata, entries = entries_of(data, where)
    header = ModelHeader.from_metadata(metadata, where)
    return Weights(
        header, sha256, {key: tensor_of(entry, f"{where}: {shown_key(key)}") for key, entry in entries}
    )


def save_weights(path: Path, header: ModelHeader, tensors: Mapping[str, NDArray[np.float32]]) -> str:
    """Write a model and return its SHA-256; the same model always gives the same bytes.

    The file appears whole or not at all: it is written beside its place and renamed.

    Raises:
        OutputError: the operating system refused.
    """
    try:
        with atomic_write(path) as file:
            sha256 = write_weights(file, header, tensors)
    except OSError as exc:
        raise OutputError(os_error_text(path, exc)) from exc
    return sha256


def write_weights(stream: IO[bytes], header: ModelHeader, tensors: Mapping[str, NDArray[np.float32]]) -> str:
    """Write the bytes of a model and return their SHA-256; the same model always gives the same bytes."""
    digest = hashlib.sha256()
    pieces = (np.asarray(tensors[key], "<f4", order="C").tobytes() for key in sorted(tensors))
    for data in itertools.chain([_header(header, tensors)], pieces):
        stream.write(data)
        digest.update(data)
    return digest.hexdigest()


def _header(header: ModelHeader, tensors: Mapping[str, NDArray[np.float32]]) -> bytes:
    """What comes before the numbers: its length, and JSON padded to a multiple of 8.

    Written here, as the library puts metadata in hash order and copies all numbers once more.
    """
    fields: dict[str, Any] = {"__metadata__": dict(sorted(header.to_metadata().items()))}
    end = 0
    for key in sorted(tensors):
        start, end = end, end + 4 * tensors[key].size
        fields[key] = {"dtype": "F32", "shape": list(tensors[key].shape), "data_offsets": [start, end]}
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
