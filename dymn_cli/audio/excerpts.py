"""Stretches of a recording, in its own rate, channels and samples, without reading it whole.

WAV, FLAC and other files in which libsndfile finds any sample at once are read where a stretch is; integers
stay integers, to the last bit. Everything else, and what turns out to be damaged, is decoded from the start
by the same decoder that analyses it, so that times mean the same: stretches are best asked for in the order
of their starts.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import soundfile

from dymn_cli.audio.decode import AudioReader, open_audio
from dymn_cli.audio.encode import BLOCK_FRAMES
from dymn_cli.results import AudioInfo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from numpy.typing import NDArray

__all__ = ["Excerpts"]

EXACT_SEEK = frozenset({"WAV", "WAVEX", "RF64", "W64", "FLAC", "AIFF", "AU", "CAF", "SVX", "VOC", "NIST"})
EXACT_CODEC = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW", "ALAC_")
FLOATS = {"FLOAT": "float32", "DOUBLE": "float64"}
LENGTH_UNKNOWN = 1 << 62
KEPT_BYTES = 32 << 20  # of what was decoded lately, because stretches overlap


class _ShortError(Exception):
    """Fewer samples are there than the header says."""


class _Way(Protocol):
    def blocks(self, start: int, stop: int) -> Iterator[NDArray[Any]]: ...
    def close(self) -> None: ...


class Excerpts:
    """An open recording.

    Args:
        path: of it.
        name: what errors call it; the path by default.

    Attributes:
        name: what errors call it.
        info: what its header says.

    Raises:
        AudioNotFoundError: no such file.
        InputError: it cannot be read as audio.
    """

    def __init__(self, path: str, *, name: str | None = None) -> None:
        self._path = path
        self.name = name or path
        with open_audio(path, name=name) as reader:
            self.info: AudioInfo = reader.info
        self._way: _Way | None = None

    @property
    def is_integer(self) -> bool:
        """Whether its samples are whole numbers."""
        return self.info.codec not in FLOATS

    def blocks(self, start: int, stop: int) -> Iterator[NDArray[Any]]:
        """The samples from one to another; fewer, or none, where the recording ends before.

        Args:
            start: the first sample.
            stop: the one after the last.

        Yields:
            (n, channels): int32 over its full range for integer codings of known width, else floats in
            [-1, 1].

        Raises:
            InputError: the recording cannot be read.
        """
        at = start
        if self._way is None:
            self._way = _seeking(self._path, self.info) or _Forward(self._path, self.name)
        if isinstance(self._way, _Seeking):
            try:
                for block in self._way.blocks(start, stop):
                    at += len(block)
                    yield block
            except (soundfile.LibsndfileError, OSError, _ShortError):
                self._way.close()
                self._way = _Forward(self._path, self.name)
            else:
                return
        yield from self._way.blocks(at, stop)

    def close(self) -> None:
        """Close the file."""
        if self._way is not None:
            self._way.close()
            self._way = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _seeking(path: str, info: AudioInfo) -> _Seeking | None:
    """A way that seeks, for what can be seeked in exactly."""
    if info.container not in EXACT_SEEK or not info.codec.startswith(EXACT_CODEC):
        return None
    try:
        way = _Seeking(path, info)
    except (soundfile.LibsndfileError, OSError):
        return None
    if way.n_frames >= LENGTH_UNKNOWN or way.n_frames != info.n_frames or not way.is_seekable:
        way.close()
        return None
    return way


class _Seeking:
    """Goes to the first sample of a stretch."""

    def __init__(self, path: str, info: AudioInfo) -> None:
        self._file = open(path, "rb")  # noqa: PTH123, SIM115 - names may be bytes; closed in `close`
        try:
            self._sound = soundfile.SoundFile(self._file.fileno(), closefd=False)
        except BaseException:
            self._file.close()
            raise
        self._dtype = FLOATS.get(info.codec, "int32")
        self.n_frames: int = self._sound.frames
        self.is_seekable: bool = self._sound.seekable()

    def blocks(self, start: int, stop: int) -> Iterator[NDArray[Any]]:
        stop = min(stop, self.n_frames)
        if start >= stop:
            return
        self._sound.seek(start)
        while start < stop:
            block = self._sound.read(min(BLOCK_FRAMES, stop - start), dtype=self._dtype, always_2d=True)
            if not len(block):
                raise _ShortError
            start += len(block)
            yield block

    def close(self) -> None:
        with contextlib.suppress(soundfile.LibsndfileError):
            self._sound.close()
        self._file.close()


class _Forward:
    """Decodes on, and keeps what came lately; what lies further back is decoded again."""

    def __init__(self, path: str, name: str) -> None:
        self._path = path
        self._name = name
        self._reader: AudioReader | None = None
        self._open()

    def _open(self) -> None:
        self.close()
        self._reader = open_audio(self._path, name=self._name)
        self._coming = self._reader.blocks(BLOCK_FRAMES)
        self._is_integer = self._reader.info.codec.startswith("PCM_")
        self._kept: deque[tuple[int, NDArray[Any]]] = deque()
        self._n_kept_bytes = 0
        self._at = 0

    def blocks(self, start: int, stop: int) -> Iterator[NDArray[Any]]:
        if start < (self._kept[0][0] if self._kept else self._at):
            self._open()
        for first, block in self._from_kept_on():
            if first >= stop:
                return
            if first + len(block) > start:
                yield self._exact(block[max(0, start - first) : stop - first])
            if first + len(block) >= stop:
                return

    def _from_kept_on(self) -> Iterator[tuple[int, NDArray[Any]]]:
        yield from tuple(self._kept)
        for block in self._coming:
            self._kept.append((self._at, block))
            self._at += len(block)
            self._n_kept_bytes += block.nbytes
            while self._n_kept_bytes > KEPT_BYTES and len(self._kept) > 1:
                self._n_kept_bytes -= self._kept.popleft()[1].nbytes
            yield self._kept[-1]

    def _exact(self, block: NDArray[Any]) -> NDArray[Any]:
        """Integers as they were in the file, for codings of up to 24 bits."""
        if not self._is_integer:
            return block
        whole = np.rint(block.astype(np.float64) * 2.0**31)
        return whole.clip(-(2.0**31), 2.0**31 - 1).astype(np.int32)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
