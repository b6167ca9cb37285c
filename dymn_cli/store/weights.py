"""Read and write model files: safetensors with the published key names, and a header in the metadata.

The metadata of the file (safetensors header, `__metadata__`, strings only) holds

    dymn.format     "1"
    dymn.name       the model's name
    dymn.config     `ModelConfig` as JSON
    dymn.front_end  `FrontEndConfig` as JSON
    dymn.labels     "audioset", "audioset-strong", or a JSON list of class names
    dymn.purpose    "embeddings" if the model cannot tag; absent if it can

so the file alone is a complete model. Nothing in it is executed: the header is JSON, the rest plain numbers
whose offsets and sizes the safetensors library checks. For PyTorch checkpoints see `dymn_cli.store.convert`.

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
from dymn_cli.errors import ChecksumError, OutputError, WeightsMissingError, os_errors_as
from dymn_cli.small_files import read_small
from dymn_cli.store.header import ModelHeader
from dymn_cli.store.identity import identify
from dymn_cli.store.registry import LARGEST_MODEL, ModelSpec
from dymn_cli.store.safetensors_file import parse_safetensors

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CHECKPOINT_SUFFIXES", "Weights", "read_weights", "save_weights", "write_weights"]

CHECKPOINT_SUFFIXES = (".pt", ".pth", ".ckpt")


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A model in memory: its header, the hash of the file, and published key → float32 array."""

    header: ModelHeader
    sha256: str
    tensors: dict[str, NDArray[np.float32]]


def read_weights(model: ModelSpec | Path) -> Weights:
    """Read a model: a safetensors file in our format, or a PyTorch checkpoint.

    Args:
        model: a named model, whose file must have the known hash, or a path. A checkpoint takes its name from
            the file, and can only embed if its classes have no names.

    Raises:
        WeightsMissingError: the file cannot be read.
        ChecksumError: it is not the file that is known by that name.
        UnsafeWeightsError: it is neither of them, is damaged, or holds more than tensors.
        ModelError: it is not a model that dymn knows.
    """
    path = model.path if isinstance(model, ModelSpec) else model
    if path.suffix.lower() in CHECKPOINT_SUFFIXES:
        from dymn_cli.store.convert import convert

        header, tensors = convert(path, name=path.stem, purpose=None)
        return Weights(header, identify(path).sha256, tensors)
    data = read_small(path, WeightsMissingError, max_bytes=LARGEST_MODEL)
    sha256 = hashlib.sha256(data).hexdigest()
    if isinstance(model, ModelSpec) and sha256 != model.sha256:
        raise ChecksumError(
            f"{path.name}: SHA-256 is {sha256[:12]}…, it should be {model.sha256[:12]}…",
            hint=f"the file was changed or damaged; {model.remedy}",
        )
    metadata, tensors = parse_safetensors(data, str(path))
    return Weights(ModelHeader.from_metadata(metadata, str(path)), sha256, tensors)


def save_weights(path: Path, header: ModelHeader, tensors: Mapping[str, NDArray[np.float32]]) -> str:
    """Write a model atomically and return its SHA-256; the same model always gives the same bytes.

    Raises:
        OutputError: the operating system refused.
    """
    with os_errors_as(OutputError, path), atomic_write(path) as file:
        return write_weights(file, header, tensors)


def write_weights(stream: IO[bytes], header: ModelHeader, tensors: Mapping[str, NDArray[np.float32]]) -> str:
    """Write the bytes of a model and return their SHA-256; the same model always gives the same bytes."""
    digest = hashlib.sha256()
    pieces = (np.asarray(tensors[key], "<f4", order="C").tobytes() for key in sorted(tensors))
    for data in itertools.chain([_header(header, tensors)], pieces):
        stream.write(data)
        digest.update(data)
    return digest.hexdigest()


def _header(header: ModelHeader, tensors: Mapping[str, NDArray[np.float32]]) -> bytes:
    """The safetensors header: its length, and JSON padded to a multiple of 8 bytes.

    The library would write the metadata in hash order and copy all tensors once more.
    """
    fields: dict[str, Any] = {"__metadata__": dict(sorted(header.to_metadata().items()))}
    end = 0
    for key in sorted(tensors):
        start, end = end, end + 4 * tensors[key].size
        fields[key] = {"dtype": "F32", "shape": list(tensors[key].shape), "data_offsets": [start, end]}
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
