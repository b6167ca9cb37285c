"""Read AudioSet from HDF5 files of MP3 bytes, as it is usually packed.

    audio_name   (n,) names, "Y" + video id + ".mp3"
    mp3          (n,) variable-length bytes, one MP3 file each
    target       (n, ceil(n_classes / 8)) uint8, labels as packed bits; may be missing

Clips are decoded on demand: all of AudioSet would fill a terabyte as samples.
"""

from __future__ import annotations

import io
import math
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dymn_cli.audio.decode import open_audio
from dymn_cli.audio.resample import to_mono_32k
from dymn_cli.errors import BackendUnavailableError, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Hdf5Clips", "PackedLabels", "datasets_of", "field_of", "is_hdf5", "open_hdf5"]

SUFFIXES = (".h5", ".hdf5", ".hdf")
SELF_CONTAINED = "all datasets must lie in the file itself"
MAX_DEFLATED = 1_032  # bytes that one byte of deflate can expand to
FREE_BYTES = 16 << 20  # that a dataset may have without storing any
LARGEST_CHUNK = 1 << 30


def is_hdf5(name: str) -> bool:
    """Whether a file name ends as that of an HDF5 file."""
    return name.lower().endswith(SUFFIXES)


def open_hdf5(path: str) -> Any:
    """Open a file for reading.

    Raises:
        BackendUnavailableError: h5py is not installed.
        InputError: it is missing, or not an HDF5 file.
    """
    try:
        import h5py  # type: ignore[import-untyped]
    except ImportError as exc:
        raise BackendUnavailableError("HDF5 files need h5py", hint="pip install 'dymn[train]'") from exc
    try:
        return h5py.File(path, "r")
    except OSError as exc:
        reason = os.strerror(exc.errno).lower() if exc.errno else "not a readable HDF5 file"
        raise InputError(f"{path}: {reason}") from exc


def datasets_of(file: Any) -> list[Any]:
    """All datasets of an open file, at any depth.

    Raises:
        InputError: one of them is not in the file itself: see `field_of`.
    """
    found: list[Any] = []
    file.visititems(lambda _, item: found.append(item) if hasattr(item, "dtype") else None)
    for dataset in found:
        _require_inside(dataset, f"{file.filename}: {dataset.name}")
    return found


def field_of(file: Any, name: str) -> Any:
    """A dataset of an open file by its name; None if there is none.

    An HDF5 dataset may keep its values in any other file of this machine, or claim a shape of terabytes that
    nobody wrote. Both are refused.

    Raises:
        InputError: it is such a dataset, or no dataset at all.
    """
    import h5py

    where = f"{file.filename}: {name}"
    link = file.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise InputError(f"{where} is a link to another place", hint=SELF_CONTAINED)
    dataset = file[name]
    if not hasattr(dataset, "dtype"):
        raise InputError(f"{where} is not a dataset")
    _require_inside(dataset, where)
    return dataset


def _require_inside(dataset: Any, where: str) -> None:
    if dataset.external or dataset.is_virtual:
        raise InputError(f"{where} has its values in other files", hint=SELF_CONTAINED)
    n_bytes = math.prod(dataset.shape or (0,)) * dataset.dtype.itemsize
    n_chunk = math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize
    if n_chunk > LARGEST_CHUNK or n_bytes > MAX_DEFLATED * dataset.id.get_storage_size() + FREE_BYTES:
        raise InputError(f"{where}: its shape {list(dataset.shape)} is larger than what the file holds")


class PackedLabels:
    """Labels of clips, kept as packed bits."""

    def __init__(self, packed: NDArray[np.uint8], n_classes: int) -> None:
        self._packed = packed
        self.n_classes = n_classes

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, clips: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        """(n, n_classes) of 0 and 1."""
        return np.unpackbits(self._packed[clips], axis=-1, count=self.n_classes)


class Hdf5Clips:
    """The clips of one or more files, in order.

    Args:
        paths: of the files.
        n_classes: of their labels.

    Attributes:
        names: of the clips.
        labels: of the clips; None unless every file has them.

    Raises:
        InputError: a file is unreadable, lacks a field, or has no clips.
        BackendUnavailableError: h5py is not installed.
    """

    def __init__(self, paths: Sequence[str], n_classes: int) -> None:
        self._files = [open_hdf5(path) for path in paths]
        self._lock = threading.Lock()
        self.paths = tuple(paths)
        names: list[str] = []
        packed: list[NDArray[np.uint8]] = []
        starts = [0]
        for path, file in zip(paths, self._files, strict=True):
            fields = {name: field_of(file, name) for name in ("audio_name", "mp3", "target")}
            missing = [name for name in ("audio_name", "mp3") if fields[name] is None]
            if missing:
                raise InputError(
                    f"{path}: no field {missing[0]!r}",
                    hint="AudioSet as HDF5 has audio_name, mp3 and target",
                )
            raw = fields["audio_name"][:]
            names += [
                name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in raw
            ]
            if len(fields["mp3"]) != len(raw):
                raise InputError(f"{path}: {len(raw)} names for {len(fields['mp3'])} clips")
            starts.append(len(names))
            if fields["target"] is not None:
                packed.append(_packed(fields["target"], len(raw), n_classes, path))
        if not names:
            raise InputError(f"{', '.join(paths)}: no clips")
        self.names = tuple(names)
        self._starts = np.array(starts)
        whole = len(packed) == len(self._files)
        self.labels = PackedLabels(np.concatenate(packed), n_classes) if whole else None

    def decode(self, index: int) -> NDArray[np.float32]:
        """Decode a clip: (n,) samples, mono at 32 kHz.

        Raises:
            InputError: it is damaged.
        """
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        with self._lock:
            data = np.asarray(self._files[number]["mp3"][index - self._starts[number]]).tobytes()
        with open_audio(io.BytesIO(data), name=self.names[index]) as reader:
            return np.concatenate(list(to_mono_32k(reader)))


def _packed(target: Any, n_clips: int, n_classes: int, path: str) -> NDArray[np.uint8]:
    values = np.asarray(target[:])
    if values.shape[0] == n_clips and values.ndim == 2:
        if values.dtype == np.uint8 and values.shape[1] == (n_classes + 7) // 8:
            return values
        if values.shape[1] == n_classes:
            return np.packbits(values > 0, axis=1)
    raise InputError(
        f"{path}: target is {values.dtype} of shape {values.shape}, not labels of {n_classes} classes",
        hint=f"packed bits: uint8 of shape ({n_clips}, {(n_classes + 7) // 8})",
    )
