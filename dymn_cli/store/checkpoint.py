"""Read PyTorch checkpoints without PyTorch: the tensors of a zip file that `torch.save` wrote.

    NAME/data.pkl          a pickle in which each tensor is a reference to a storage, with shape and strides
    NAME/data/KEY          the numbers of a storage, nothing else
    NAME/byteorder         "little" or "big"; older files lack it and are little-endian
    NAME/version, ...      ignored

`dymn_cli.store.pickles` reads the pickle without executing anything; `GRAMMAR` below lists what it may hold.
Entries are looked up by name and never unpacked to disk. To bound memory, entries must be uncompressed, as
torch writes them, and add up to no more than the file; each tensor must lie within its storage; and all
tensors together, as float32, may take only a few times the size of the file, even if strides repeat values.
Storages are read one at a time, so the peak is the result plus the largest storage.

Format: `torch/serialization.py` and `torch/_utils.py` (`_rebuild_tensor_v2`) of PyTorch 1.6 to 2.x.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from dymn_cli.errors import ModelError, UnsafeWeightsError, WeightsMissingError, os_error_text
from dymn_cli.model.infer import CLASSIFIER_KEY, FAMILY_KEYS
from dymn_cli.store.pickles import Global, Grammar, Ordered, PickleError, read_pickle
from dymn_cli.store.registry import LARGEST_MODEL
from dymn_cli.store.tensors import as_float32

__all__ = ["read_checkpoint"]

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params")
"""Keys under which training programs put the state dict beside their own state."""

STORAGES = {
    "torch.FloatStorage": "f4",
    "torch.DoubleStorage": "f8",
    "torch.HalfStorage": "f2",
    "torch.BFloat16Storage": "bf16",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
    "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "bool",
}
"""Readable storages and their NumPy types; `_numbers` handles bf16 and bool."""

AS_STORED = {"bf16": "u2", "bool": "u1"}
LARGEST_PICKLE = 16 << 20  # bytes; 35 kB for the published models, of any width
LARGEST_COUNT = 1 << 40  # values in a storage, or a size, stride or offset of a tensor
MAX_DIMENSIONS = 16
SLACK = 64 << 20  # bytes that even the tensors of a tiny file may take
GROWTH = 4  # a bool of one byte becomes a float32
MAX_WRAPPERS = 4
LONGEST_KEY = 256
LISTED = 3  # keys that an error names
HEAD = 512  # bytes; enough to recognise other kinds of files
BLOCK = 1 << 20
HEADS_BESIDE = ("strong_head", "weak_head")  # of an FMN: its network is a module of its own
SAVE = "save the weights alone: torch.save(model.state_dict(), 'weights.pt')"


@dataclass(frozen=True, slots=True)
class _Storage:
    """A reference to NAME/data/KEY."""

    kind: str  # a value of STORAGES
    key: str
    n_values: int

    @property
    def itemsize(self) -> int:
        return np.dtype(AS_STORED.get(self.kind, self.kind)).itemsize


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A view of a storage; sizes and strides count values."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def reach(self) -> int:
        """One more than the last place of the storage that it shows."""
        if 0 in self.shape:
            return 0
        return self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True)) + 1

    @property
    def room(self) -> int:
        """Bytes as float32, at least; a size of zero counts as one, so that no other size hides behind it."""
        return 4 * math.prod(max(1, n) for n in self.shape)

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its storage, in order."""
        steps = [math.prod(self.shape[n + 1 :]) for n in range(len(self.shape))]
        in_order = all(n == 1 or a == b for n, a, b in zip(self.shape, self.strides, steps, strict=True))
        return in_order and self.offset == 0 and math.prod(self.shape) == self.storage.n_values


def read_checkpoint(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read the state dict of a checkpoint, without torch and without executing anything in the file.

    The state dict may be nested in the dict of a training program, and the network in another module (keys
    such as `model.features.0.0.weight`); everything else is left out.

    Args:
        path: a file that `torch.save` of PyTorch 1.6 or newer wrote.

    Returns:
        Key → C-contiguous float32 array with the values that `torch.load` gives. Other types are rounded to
        float32, integers included: those of a network only count training updates.

    Raises:
        WeightsMissingError: the file cannot be read.
        UnsafeWeightsError: it is not a checkpoint, is damaged, or holds more than tensors.
        ModelError: it holds no state dict, several networks, or values that are not finite.
    """
    where = str(path)
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > LARGEST_MODEL:
                raise UnsafeWeightsError(
                    f"{where}: larger than {LARGEST_MODEL >> 30} GB, too large for a model"
                )
            return _read(file, where)
    except OSError as exc:
        raise WeightsMissingError(os_error_text(where, exc)) from exc
    except PickleError as exc:
        raise UnsafeWeightsError(f"{where} {exc}", hint=exc.hint) from exc


def _read(file: IO[bytes], where: str) -> dict[str, NDArray[np.float32]]:
    head = file.read(HEAD)
    if not head.startswith(b"PK\x03\x04"):
        raise _not_a_checkpoint(head, where)
    archive = _Archive(file, where)
    state = _network(
        _state_dict(read_pickle(bytes(archive.read("data.pkl", LARGEST_PICKLE)), GRAMMAR), where), where
    )
    limit = SLACK + GROWTH * archive.size
    if sum(tensor.room for tensor in state.values()) > limit:
        raise UnsafeWeightsError(f"{where} has {archive.size:,} bytes, but its tensors take over {limit:,}")
    by_storage: dict[str, list[str]] = {}
    for key, tensor in state.items():
        by_storage.setdefault(tensor.storage.key, []).append(key)
    arrays = {
        key: values
        for storage, keys in by_storage.items()
        for key, values in _arrays(archive, storage, {key: state[key] for key in keys}, where)
    }
    return {key: arrays[key] for key in state}


def _not_a_checkpoint(head: bytes, where: str) -> UnsafeWeightsError:
    """The error for a file that is not a zip archive: what it is instead."""
    start = head.lstrip().lower()
    hint = None
    if not head:
        what = "is empty"
    elif head.startswith(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."):
        what = "is a checkpoint in the format that PyTorch wrote before version 1.6"
        hint = "where torch is installed: torch.save(torch.load(OLD, weights_only=True), NEW)"
    elif head[0] == 0x80 and head[1:2] <= b"\5":
        what = "is a plain pickle, not a PyTorch checkpoint"
        hint = SAVE
    elif head[8:9] == b"{":
        what = "is a safetensors file, not a PyTorch checkpoint"
        hint = "-m takes it as it is, and dymn models import gives it a name"
        if not where.endswith(".safetensors"):
            hint = "rename it so that its name ends with .safetensors"
    elif start.startswith((b"<!doctype", b"<html", b"<?xml")):
        what = "is a web page, not a PyTorch checkpoint"
        hint = "the download went wrong; fetch the file itself"
    elif start.startswith(b"version https://git-lfs"):
        what = "is a pointer of Git LFS, not the file itself"
        hint = "git lfs pull"
    else:
        what = "is not a PyTorch checkpoint"
    return UnsafeWeightsError(f"{where} {what}", hint=hint)


# ---------------------------------------------------------------------- the archive


class _Archive:
    """The zip file: its entries by name, never larger than declared.

    Raises:
        UnsafeWeightsError: it is damaged, or not as torch writes it.
    """

    def __init__(self, file: IO[bytes], where: str) -> None:
        self._where = where
        self.size = file.seek(0, 2)
        with _zip_errors(where):
            self._zip = zipfile.ZipFile(file)
        entries = self._zip.infolist()
        self._entries = {entry.filename: entry for entry in entries}
        if len(self._entries) != len(entries):
            raise UnsafeWeightsError(f"{where} holds two entries of one name")
        if sum(entry.file_size for entry in entries) > self.size:
            raise UnsafeWeightsError(f"{where} holds entries that are larger than the file")
        pickles = [name for name in self._entries if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise UnsafeWeightsError(f"{where} is a zip archive, but not a PyTorch checkpoint")
        self._folder = pickles[0].removesuffix("data.pkl")
        if f"{self._folder}constants.pkl" in self._entries:
            raise UnsafeWeightsError(f"{where} is a TorchScript program, not a checkpoint", hint=SAVE)
        order = (
            self.read("byteorder").decode("latin-1")
            if f"{self._folder}byteorder" in self._entries
            else "little"
        )
        if order not in ("little", "big"):
            raise UnsafeWeightsError(f"{where} has the byte order {order[:20]!r}")
        self.order = {"little": "<", "big": ">"}[order]

    def read(self, name: str, largest: int | None = None) -> bytearray:
        """Read an entry and check its checksum."""
        entry = self._entries.get(self._folder + name)
        if entry is None:
            raise UnsafeWeightsError(f"{self._where} lacks the entry {name[:40]!r}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise UnsafeWeightsError(
                f"{self._where} is compressed; PyTorch never compresses checkpoints", hint=SAVE
            )
        if largest is not None and entry.file_size > largest:
            raise UnsafeWeightsError(
                f"{self._where} takes {entry.file_size:,} bytes to list its tensors, too many"
            )
        values = bytearray(entry.file_size)
        at = 0
        with _zip_errors(self._where), self._zip.open(entry) as file:
            while part := file.read(BLOCK):
                values[at : at + len(part)] = part
                at += len(part)
            if at != entry.file_size:
                raise EOFError("an entry is cut short")
        return values


@contextlib.contextmanager
def _zip_errors(where: str) -> Iterator[None]:
    """Re-raise whatever `zipfile` raises over a damaged archive as our error."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        OSError,
        EOFError,
        ValueError,
        RuntimeError,
        OverflowError,
        struct.error,
    ) as exc:
        raise UnsafeWeightsError(
            f"{where} is cut short or damaged: not a readable zip archive",
            hint="fetch or save the file again",
        ) from exc


# ---------------------------------------------------------------------- what the pickle says


def _count(value: object, what: str) -> int:
    if type(value) is not int or not 0 <= value <= LARGEST_COUNT:
        raise PickleError(f"holds a tensor with an impossible {what}")
    return value


def _counts(value: object, what: str) -> tuple[int, ...]:
    if not isinstance(value, tuple) or len(value) > MAX_DIMENSIONS:
        raise PickleError(f"holds a tensor with an impossible {what}")
    return tuple(_count(part, what) for part in value)


def _reference(value: object) -> _Storage:
    """Read ("storage", kind, key, device, number of values)."""
    match value:
        case ("storage", Global(kind), str(key), str(), int(n_values)) if kind in STORAGES:
            if not (key.isascii() and key.isdigit() and len(key) <= 10):
                raise PickleError("refers to a storage that no PyTorch checkpoint has")
            return _Storage(STORAGES[kind], key, _count(n_values, "number of values"))
    raise PickleError("refers to something other than a storage")


def _rebuild_tensor(arguments: tuple[object, ...]) -> _Tensor:
    match arguments:
        # The rest: requires_grad, hooks and, in newer files, marks of a conjugate or negated view, which
        # only complex tensors have.
        case (_Storage() as storage, offset, shape, strides, bool(), Ordered(), *marks) if not any(marks):
            tensor = _Tensor(
                storage, _count(offset, "offset"), _counts(shape, "shape"), _counts(strides, "stride")
            )
        case _:
            raise PickleError("describes a tensor in an unknown way")
    if len(tensor.shape) != len(tensor.strides):
        raise PickleError("holds a tensor with an impossible stride")
    if tensor.reach > storage.n_values:
        raise PickleError("holds a tensor that reaches beyond its storage")
    return tensor


def _rebuild_parameter(arguments: tuple[object, ...]) -> _Tensor:
    match arguments:
        case (_Tensor() as tensor, bool(), Ordered()):
            return tensor
    raise PickleError("describes a parameter in an unknown way")


GRAMMAR = Grammar(
    purpose="dymn reads only tensors, numbers and strings",
    builders={
        "collections.OrderedDict": Ordered.build,
        "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
        "torch._utils._rebuild_parameter": _rebuild_parameter,
    },
    names=frozenset(STORAGES),
    reference=_reference,
    hint=SAVE,
)


def _state_dict(value: object, where: str) -> dict[str, _Tensor]:
    """The tensors of a checkpoint by key, unwrapped from the dicts of training programs."""
    for _ in range(MAX_WRAPPERS):
        if not isinstance(value, dict):
            break
        inner = next((value[name] for name in WRAPPERS if isinstance(value.get(name), dict)), None)
        if inner is None:
            tensors = {key: item for key, item in value.items() if isinstance(item, _Tensor)}
            if not tensors:
                keys = ", ".join(_shown(key) for key in list(value)[:LISTED])
                raise ModelError(f"{where} holds no tensors, but {keys or 'nothing'}", hint=SAVE)
            for key in tensors:
                if not (isinstance(key, str) and key.isprintable() and len(key) <= LONGEST_KEY):
                    raise ModelError(f"{where} holds a tensor under the key {_shown(key)}", hint=SAVE)
            return tensors
        value = inner
    kind = "tensor" if isinstance(value, _Tensor) else type(value).__name__
    raise ModelError(f"{where} holds no state dict, but one value of type {kind}", hint=SAVE)


def _shown(key: object) -> str:
    return repr(key[:40]) if isinstance(key, str) else str(key)


def _network(tensors: Mapping[str, _Tensor], where: str) -> dict[str, _Tensor]:
    """The DyMN or MN in a state dict, by its own keys; the whole state dict if there is none."""
    prefixes = sorted(
        {
            key.removesuffix(first)
            for key in tensors
            for first in FAMILY_KEYS
            if key == first or key.endswith(f".{first}")
        }
    )
    if len(prefixes) > 1:
        names = ", ".join(repr(prefix) for prefix in prefixes[:LISTED])
        raise ModelError(f"{where} holds {len(prefixes)} networks, whose keys begin with {names}", hint=SAVE)
    prefix = prefixes[0] if prefixes else ""
    network = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    return network if CLASSIFIER_KEY in network else network | _heads_beside(tensors, where)


def _heads_beside(tensors: Mapping[str, _Tensor], where: str) -> dict[str, _Tensor]:
    """The heads of an FMN, which stand beside its network.

    Raises:
        ModelError: something else stands between them, which would not be computed.
    """
    if any("seq_model" in key.split(".") for key in tensors):
        raise ModelError(
            f"{where} has a sequence model between network and head, which dymn does not know",
            hint="there are models without: fmn10_strong.pt, for one",
        )
    found: dict[str, _Tensor] = {}
    for key, tensor in tensors.items():
        *_, head, part = ["", *key.split(".")]
        if head in HEADS_BESIDE and found.setdefault(f"{head}.{part}", tensor) is not tensor:
            raise ModelError(f"{where} holds several heads called {head}", hint=SAVE)
    return found


# ---------------------------------------------------------------------- the numbers


def _arrays(
    archive: _Archive, storage: str, tensors: Mapping[str, _Tensor], where: str
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """All tensors that are views of one storage."""
    data = archive.read(f"data/{storage}")
    for key, tensor in tensors.items():
        if tensor.storage.n_values * tensor.storage.itemsize != len(data):
            raise UnsafeWeightsError(
                f"{where}: the storage of {key} has {len(data):,} bytes, not what its tensors need"
            )
    kinds = {tensor.storage.kind for tensor in tensors.values()}
    by_kind = {kind: _numbers(data, kind, archive.order) for kind in kinds}
    for key, tensor in tensors.items():
        values = by_kind[tensor.storage.kind]
        if tensor.is_whole and len(tensors) == 1:
            values = values.reshape(tensor.shape)
        else:
            values = _view(values, tensor).copy()  # so that no array keeps or shares the whole storage
        yield key, as_float32(values, key, f"{where}: {key}")


def _numbers(data: bytearray, kind: str, order: str) -> NDArray[np.generic]:
    """The values of a storage, (n_values,)."""
    values = np.frombuffer(data, f"{order}{AS_STORED.get(kind, kind)}")
    if kind == "bf16":  # the upper half of a float32
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values != 0 if kind == "bool" else values


def _view(values: NDArray[np.generic], tensor: _Tensor) -> NDArray[np.generic]:
    if 0 in tensor.shape:
        return np.empty(tensor.shape, np.float32)
    steps = tuple(step * values.itemsize for step in tensor.strides)
    return as_strided(values[tensor.offset :], tensor.shape, steps, writeable=False)
