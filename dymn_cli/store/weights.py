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

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from dymn_cli.errors import (
    ChecksumError,
    ModelError,
    OutputError,
    UnsafeWeightsError,
    UsageError,
    WeightsMissingError,
)
from dymn_cli.frontend.melbank import FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.model.config import ModelConfig
from dymn_cli.store.registry import ModelSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "ModelHeader",
    "Purpose",
    "Weights",
    "read_safetensors",
    "read_weights",
    "save_weights",
    "sha256_of",
]

Purpose = Literal["tags", "embeddings"]
"""What a model may be used for: "embeddings" alone where its classes are no sounds, or have no names."""

FORMAT = "1"
RATE_HZ = 32_000  # what `dymn_cli.audio` delivers
LONGEST_REASON = 300
CHECKPOINT_SUFFIXES = (".pt", ".pth", ".ckpt")
NUMBERS = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8"}
"""The kinds of numbers that are read, as NumPy spells them; integers only count updates in training."""


@dataclass(frozen=True, slots=True)
class ModelHeader:
    """What a model is, apart from its numbers."""

    name: str
    config: ModelConfig
    front_end: FrontEndConfig
    vocabulary: Vocabulary
    purpose: Purpose = "tags"

    @property
    def step_s(self) -> float:
        """Seconds from one step of the frame logits to the next: 0.32 with the usual hop."""
        return self.config.step_frames * self.front_end.n_hop / self.front_end.rate_hz

    def to_metadata(self) -> dict[str, str]:
        """As the strings that go into the metadata of a safetensors or ONNX file."""
        names = [label.name for label in self.vocabulary.labels]
        audioset = names == [label.name for label in Vocabulary.audioset().labels]
        metadata = {
            "dymn.format": FORMAT,
            "dymn.name": self.name,
            "dymn.config": self.config.to_json(),
            "dymn.front_end": self.front_end.to_json(),
            "dymn.labels": "audioset" if audioset else json.dumps(names, ensure_ascii=False),
        }
        return metadata if self.purpose == "tags" else metadata | {"dymn.purpose": self.purpose}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], where: str) -> ModelHeader:
        """Read what `to_metadata` wrote.

        Raises:
            ModelError: a part is missing, unreadable, or the parts disagree.
        """
        try:
            if metadata["dymn.format"] != FORMAT:
                raise ModelError(f"{where}: written by a newer dymn", hint="pip install --upgrade dymn")
            header = cls(
                name=metadata["dymn.name"],
                config=ModelConfig.from_json(metadata["dymn.config"]),
                front_end=FrontEndConfig.from_json(metadata["dymn.front_end"]),
                vocabulary=_vocabulary(metadata["dymn.labels"]),
                purpose=_purpose(metadata.get("dymn.purpose", "tags")),
            )
        except KeyError as exc:
            raise ModelError(f"{where}: not a dymn model: its metadata lacks {exc.args[0]}") from exc
        except (UsageError, ValueError, TypeError, OverflowError, RecursionError) as exc:
            reason = str(exc)[:LONGEST_REASON]  # it may quote what stands in the file
            raise ModelError(f"{where}: its metadata is not readable: {reason}") from exc
        if header.front_end.rate_hz != RATE_HZ:
            raise ModelError(
                f"{where}: wants audio at {header.front_end.rate_hz} Hz, dymn gives {RATE_HZ} Hz"
            )
        if len(header.vocabulary.labels) != header.config.n_classes:
            raise ModelError(
                f"{where}: {len(header.vocabulary.labels)} labels for {header.config.n_classes} classes"
            )
        return header


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A model in memory: its header, the hash of the file, and published key → float32 array."""

    header: ModelHeader
    sha256: str
    tensors: dict[str, NDArray[np.float32]]


def _vocabulary(text: str) -> Vocabulary:
    if text == "audioset":
        return Vocabulary.audioset()
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError("the labels are no list of names")
    return Vocabulary.from_names(names)


def _purpose(text: str) -> Purpose:
    known: tuple[Purpose, ...] = get_args(Purpose)
    for purpose in known:
        if text == purpose:
            return purpose
    raise UsageError(f"unknown purpose {text!r}")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in lower-case hexadecimal.

    Raises:
        WeightsMissingError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise WeightsMissingError(f"{path}: {exc.strerror or exc}") from exc


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
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise WeightsMissingError(f"{path}: {exc.strerror or exc}") from exc
    sha256 = hashlib.sha256(data).hexdigest()
    if isinstance(model, ModelSpec) and sha256 != model.sha256:
        raise ChecksumError(
            f"{path.name}: SHA-256 is {sha256[:12]}…, it should be {model.sha256[:12]}…",
            hint=f"the file was changed or damaged; {model.remedy}",
        )
    return _parse(data, sha256, str(path))


def _parse(data: bytes, sha256: str, where: str) -> Weights:
    metadata, entries = _entries(data, where)
    header = ModelHeader.from_metadata(metadata, where)
    return Weights(header, sha256, {key: _tensor(entry, f"{where}: {key}") for key, entry in entries})


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, NDArray[np.float32]]]:
    """Read any safetensors file: its metadata, which may be empty, and its tensors in float32.

    Raises:
        WeightsMissingError: the file cannot be read.
        UnsafeWeightsError: it is no such file, or a damaged one.
        ModelError: it holds other kinds of numbers, or values that are not finite.
    """
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise WeightsMissingError(f"{path}: {exc.strerror or exc}") from exc
    metadata, entries = _entries(data, str(path))
    return metadata, {key: _tensor(entry, f"{path}: {key}") for key, entry in entries}


def _entries(data: bytes, where: str) -> tuple[dict[str, str], list[tuple[str, Any]]]:
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


def _tensor(entry: Mapping[str, Any], where: str) -> NDArray[np.float32]:
    """Read an entry of the file without copying it, where it is float32 as ours are."""
    dtype = NUMBERS.get(entry["dtype"])
    if dtype is None:
        raise ModelError(
            f"{where} holds {entry['dtype']} numbers", hint=f"dymn reads {', '.join(sorted(NUMBERS))}"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused below
        values = np.frombuffer(entry["data"], dtype).reshape(entry["shape"]).astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise ModelError(f"{where} holds values that are not finite")
    return values


def save_weights(path: Path, header: ModelHeader, tensors: Mapping[str, NDArray[np.float32]]) -> str:
    """Write a model and return its SHA-256; the same model always gives the same bytes.

    The file appears whole or not at all: it is written beside its place and renamed.

    Raises:
        OutputError: the operating system refused.
    """
    header_bytes = _header(header, tensors)
    digest = hashlib.sha256(header_bytes)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(header_bytes)
            for key in sorted(tensors):
                data = np.asarray(tensors[key], "<f4", order="C").tobytes()
                file.write(data)
                digest.update(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as exc:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OutputError(f"{path}: {exc.strerror or exc}") from exc
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
