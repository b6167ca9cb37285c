"""A cache of decoded recordings: 32 kHz samples or log-mels, one file each, read through a memory map.

    FOLDER/KE/KEY.clips     rows of a recording: int16 samples, or float16 frames of n_mels; then the lengths
                            of its pieces as JSON, and the length of that JSON in eight bytes

The key is a hash of this format, the kind, the front end, and the recording's path, size and modification
time. A changed recording gets another key; a new one in a folder is all that is decoded. Entries are written
under another name and renamed, never altered. Recordings longer than a minute are cut into pieces of a
minute, so that neither decoding nor reading needs memory that grows with their length.

The entries of a folder take `cache_limit` bytes at most, or what one run needs: once a run has its entries,
the least recently used ones are deleted. An entry that another run deleted meanwhile is made again. A
recording that cannot be decoded leaves no entry: another version or a new codec may read it.

Half precision changes a log-mel by at most 5e-4 of its value, far less than the noise that training adds.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import numpy as np

from dymn_cli.atomic import atomic_write, remove_parts
from dymn_cli.audio.decode import open_audio
from dymn_cli.audio.resample import RATE_HZ, to_mono_32k
from dymn_cli.errors import InputError, OutputError, UsageError, os_errors_as
from dymn_cli.frontend import FrontEndConfig, LogMel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.datasets.recordings import Recording

__all__ = [
    "CacheUse",
    "Clip",
    "ClipCache",
    "Decoded",
    "Kind",
    "as_float",
    "cache_limit",
    "cache_use",
    "cut_or_repeat",
    "decode_clip",
    "open_cache",
    "remove_oldest",
]

Kind = Literal["samples", "log-mels"]
Decoded = Callable[[int, float], None]
_Result = TypeVar("_Result")

SCHEMA = "dymn.clips/2"
SUFFIX = ".clips"
CLIPS_FOLDER = "clips"  # below the cache folder, unless the user names another
LIMIT_VARIABLE = "DYMN_CACHE_GB"
USUAL_LIMIT_GB = 20.0
PIECE_S = 60
FULL_SCALE = 32_768  # keeps recordings of 16 bits at 32 kHz unchanged
SHORTEST = RATE_HZ // 20  # samples; a shorter rest of a cut recording is dropped
N_TAIL = 8  # bytes that hold the length of the JSON


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording, or a minute of a long one.

    Args:
        recording: its number.
        start: the first of its rows in the entry of the recording.
        length: rows.
    """

    recording: int
    start: int
    length: int


class _Entries:
    """The entries of a folder for one kind and front end."""

    def __init__(self, folder: Path, kind: Kind, front_end: FrontEndConfig) -> None:
        self._folder = folder
        self.kind, self.front_end = kind, front_end
        self._form = f"{SCHEMA}\n{kind}\n{front_end.to_json() if kind == 'log-mels' else ''}\n"
        self._log_mel = LogMel(front_end)
        self._dtype = np.dtype(np.int16 if kind == "samples" else np.float16)
        self._width = () if kind == "samples" else (front_end.n_mels,)

    def fingerprint_of(self, recordings: Sequence[Recording], decoded: Sequence[int]) -> str:
        """16 hexadecimal digits that change with the recordings and with which of them were decoded."""
        digest = hashlib.sha256(self._form.encode())
        numbers = set(decoded)
        for number, recording in enumerate(recordings):
            known = _status(recording) if number in numbers else "-"
            digest.update(f"{recording.name}\0{known}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]

    def place_of(self, recording: Recording) -> Path:
        """The path of a recording's entry, whether it exists or not."""
        known = f"{self._form}{os.path.realpath(recording.path)}\0{_status(recording)}"
        key = hashlib.sha256(known.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return self._folder / key[:2] / f"{key}{SUFFIX}"

    def lengths_of(self, place: Path) -> list[int] | None:
        """Rows of each piece; None if the entry is missing or damaged."""
        try:
            with place.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(size - N_TAIL, 0))
                n_index = int.from_bytes(file.read(N_TAIL), "little")
                if not 0 < n_index <= size - N_TAIL:
                    return None
                file.seek(size - N_TAIL - n_index)
                index = json.loads(file.read(n_index))
            lengths = [int(length) for length in index["lengths"]]
            n_rows_bytes = size - N_TAIL - n_index
            fits = index["schema"] == SCHEMA and sum(lengths) * self._n_row_bytes == n_rows_bytes
            if not (fits and lengths and min(lengths) > 0):
                return None
            with contextlib.suppress(OSError):  # the cache may be read-only
                os.utime(place)  # mark it as used
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return lengths

    def rows(self, place: Path, n_rows: int) -> NDArray[Any]:
        """(n,) int16 samples or (n, n_mels) float16 frames, on disk."""
        return np.memmap(place, self._dtype, "r", shape=(n_rows, *self._width))

    def make(self, recording: Recording, place: Path) -> tuple[list[int], float]:
        """Decode a recording; returns the rows of each piece and the seconds in all.

        Raises:
            InputError: it cannot be decoded.
        """
        place.parent.mkdir(parents=True, exist_ok=True)
        lengths, n_samples = [], 0
        with atomic_write(place, durable=False) as file:
            for piece in _pieces(recording):
                rows = _rows(piece, self.kind, self._log_mel)
                file.write(np.ascontiguousarray(rows).data)
                lengths.append(len(rows))
                n_samples += len(piece)
            index = json.dumps({"schema": SCHEMA, "lengths": lengths}).encode()
            file.write(index + len(index).to_bytes(N_TAIL, "little"))
        return lengths, n_samples / RATE_HZ

    @property
    def _n_row_bytes(self) -> int:
        return self._dtype.itemsize * math.prod(self._width)


@dataclass(frozen=True, slots=True, eq=False)
class ClipCache:
    """Decoded recordings.

    Args:
        fingerprint: changes with the recordings and with which of them were decoded.
        clips: in the order of the recordings.
        skipped: number of each recording that could not be decoded, with the reason.
        recordings: all recordings, decoded or not.
        entries: the files that hold the rows.
        places: the file of each recording.
    """

    fingerprint: str
    clips: tuple[Clip, ...]
    skipped: tuple[tuple[int, str], ...]
    recordings: tuple[Recording, ...]
    entries: _Entries
    places: tuple[Path, ...]

    @property
    def kind(self) -> Kind:
        """What the rows are: samples or log-mels."""
        return self.entries.kind

    @property
    def front_end(self) -> FrontEndConfig:
        """The front end of the log-mels."""
        return self.entries.front_end

    def window(self, index: int, start: int, length: int) -> NDArray[Any]:
        """`length` rows of a clip from `start` on; fewer at its end.

        Raises:
            InputError: the recording must be decoded again, and has changed.
        """
        clip = self.clips[index]
        start = min(max(start, 0), clip.length)
        rows = self.recording(clip.recording, clip.start + clip.length)
        return np.array(rows[clip.start + start : clip.start + min(start + length, clip.length)])

    def recording(self, number: int, n_rows: int) -> NDArray[Any]:
        """The first rows of a recording, across its pieces, as a memory map.

        Raises:
            InputError: it must be decoded again, and has changed.
        """
        recording, place = self.recordings[number], self.places[number]
        try:
            return self.entries.rows(place, n_rows)
        except FileNotFoundError:  # another run needed the space
            if self.entries.place_of(recording) != place:
                raise InputError(f"{recording.name}: it has changed since the run began") from None
            _as_output_error(place.parent, lambda: self.entries.make(recording, place))
            return self.entries.rows(place, n_rows)

    @property
    def seconds(self) -> float:
        """Seconds of all clips together."""
        per_s = RATE_HZ if self.kind == "samples" else RATE_HZ / self.front_end.input_hop
        return sum(clip.length for clip in self.clips) / per_s


def open_cache(
    recordings: Sequence[Recording],
    folder: Path,
    *,
    kind: Kind,
    front_end: FrontEndConfig,
    threads: int = 2,
    done: Decoded = lambda n_all, seconds: None,
) -> ClipCache:
    """Open a cache of recordings; those that are not in it are decoded now.

    Args:
        recordings: what to decode.
        folder: for the entries; made if missing.
        kind: "samples" at 32 kHz, or "log-mels".
        front_end: of the log-mels.
        threads: that decode.
        done: called after each recording with the number of recordings and the seconds decoded of this one,
            unless all are in the cache.

    Raises:
        InputError: no recording can be decoded.
        OutputError: the cache cannot be written.
        UsageError: DYMN_CACHE_GB is no number.
    """
    limit = cache_limit()
    entries = _Entries(folder, kind, front_end)
    places = tuple(entries.place_of(recording) for recording in recordings)

    lengths, skipped = _as_output_error(folder, lambda: _fill(entries, recordings, places, threads, done))
    if not lengths:
        first = min(skipped)
        raise InputError(f"none of {len(recordings)} recordings can be decoded; the first: {skipped[first]}")
    _remove_leftovers(folder)
    remove_oldest(_files(folder), limit, spare={places[number] for number in lengths})
    clips = [
        Clip(number, end - length, length)
        for number in sorted(lengths)
        for length, end in zip(lengths[number], itertools.accumulate(lengths[number]), strict=True)
    ]
    fingerprint = entries.fingerprint_of(recordings, list(lengths))
    return ClipCache(
        fingerprint, tuple(clips), tuple(sorted(skipped.items())), tuple(recordings), entries, places
    )


def _as_output_error(place: Path, work: Callable[[], _Result]) -> _Result:
    with os_errors_as(OutputError, place, hint="choose another place for decoded audio with --cache DIR"):
        return work()


def _status(recording: Recording) -> str:
    """Size and modification time, by which files are told apart without reading them."""
    try:
        status = os.stat(recording.path)  # noqa: PTH116 - names may be bytes that no Path prints
    except OSError:
        return "-"
    return f"{status.st_size} {status.st_mtime_ns}"


# ---------------------------------------------------------------------- size of the cache


class CacheUse(NamedTuple):
    """The number of entries in a folder, and the bytes that they take."""

    n_entries: int
    n_bytes: int


def cache_limit() -> int:
    """Bytes that the entries of a folder may take: DYMN_CACHE_GB, by default 20 GB.

    Raises:
        UsageError: DYMN_CACHE_GB is no number, or below 0.
    """
    text = os.environ.get(LIMIT_VARIABLE)
    if not text:
        return round(USUAL_LIMIT_GB * 1e9)
    try:
        limit_gb = float(text)
    except ValueError:
        limit_gb = math.nan
    if not (math.isfinite(limit_gb) and limit_gb >= 0):
        raise UsageError(f"{LIMIT_VARIABLE}={text} is not a number of gigabytes", hint="for example 20")
    return round(limit_gb * 1e9)


def cache_use(folder: Path) -> CacheUse:
    """The size of a folder of decoded audio; zero if there is none."""
    sizes = [size for _, size, _ in _stats(_files(folder))]
    return CacheUse(len(sizes), sum(sizes))


def remove_oldest(files: Sequence[Path], limit: int, *, spare: set[Path]) -> None:
    """Delete the least recently used files until the rest takes `limit` bytes at most.

    Args:
        files: all files that count.
        limit: bytes.
        spare: files to keep, whatever they take.
    """
    found = sorted(_stats(files))
    n_bytes = sum(size for _, size, _ in found)
    for _, size, path in found:
        if n_bytes <= limit:
            return
        if path in spare:
            continue
        with contextlib.suppress(OSError):  # in use on Windows, or another run was faster
            path.unlink()
            n_bytes -= size


def _remove_leftovers(folder: Path) -> None:
    """Delete what killed runs left half-written."""
    for part in folder.glob("[0-9a-f][0-9a-f]"):
        remove_parts(part)


def _files(folder: Path) -> list[Path]:
    return list(folder.glob(f"[0-9a-f][0-9a-f]/{'[0-9a-f]' * 32}{SUFFIX}"))


def _stats(files: Sequence[Path]) -> Iterator[tuple[int, int, Path]]:
    """When each file was last used, its bytes, and its path."""
    for path in files:
        with contextlib.suppress(OSError):
            status = path.stat()
            yield status.st_mtime_ns, status.st_size, path


# ---------------------------------------------------------------------- decoding


def _fill(
    entries: _Entries,
    recordings: Sequence[Recording],
    places: Sequence[Path],
    threads: int,
    done: Decoded,
) -> tuple[dict[int, list[int]], dict[int, str]]:
    """Rows of the pieces of each recording by its number, and the reasons why others have none."""
    lengths: dict[int, list[int]] = {}
    skipped: dict[int, str] = {}
    missing: list[int] = []
    for number, place in enumerate(places):
        kept = entries.lengths_of(place)
        if kept is None:
            missing.append(number)
        else:
            lengths[number] = kept
    if missing:
        for _ in lengths:
            done(len(recordings), 0.0)
    waiting = iter(missing)
    lock = threading.Lock()
    failed: list[BaseException] = []

    def work() -> None:
        while not failed:
            with lock:
                number = next(waiting, None)
            if number is None:
                return
            seconds = 0.0
            try:
                lengths[number], seconds = entries.make(recordings[number], places[number])
            except InputError as exc:
                skipped[number] = exc.message
            except BaseException as exc:
                failed.append(exc)
                return
            with lock:
                done(len(recordings), seconds)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(max(threads, 1))]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            worker.join()
    except BaseException as exc:
        failed.append(exc)
        raise
    if failed:
        raise failed[0]
    return lengths, skipped


def decode_clip(recording: Recording, number: int) -> NDArray[np.float32]:
    """Decode one clip of a recording, by its number from 0: (n,) samples.

    Raises:
        InputError: it is damaged or gone.
    """
    piece = next(itertools.islice(_pieces(recording), number, None), None)
    if piece is None:
        raise InputError(f"{recording.name}: it is shorter than before")
    return piece


def _pieces(recording: Recording) -> Iterator[NDArray[np.float32]]:
    """A recording in mono at 32 kHz, a minute at a time."""
    most = PIECE_S * RATE_HZ
    with open_audio(recording.path, name=recording.name) as reader:
        held: list[NDArray[np.float32]] = []
        n_held, is_first = 0, True
        for block in to_mono_32k(reader):
            held.append(block)
            n_held += len(block)
            while n_held >= most:
                whole = np.concatenate(held)
                yield whole[:most]
                held, n_held, is_first = [whole[most:]], n_held - most, False
        rest = np.concatenate(held) if held else np.empty(0, np.float32)
        if len(rest) >= SHORTEST:
            yield rest
        elif is_first:
            raise InputError(f"{recording.name}: {len(rest) / RATE_HZ * 1000:.1f} ms of audio are too short")


def _rows(samples: NDArray[np.float32], kind: Kind, log_mel: LogMel) -> NDArray[Any]:
    if kind == "log-mels":
        frames: NDArray[np.float16] = log_mel(samples)[0, 0].T.astype(np.float16)
        return frames
    scaled = np.clip(np.round(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
    integers: NDArray[np.int16] = scaled.astype(np.int16)
    return integers


def as_float(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Cached samples as float32 in [-1, 1]."""
    if samples.dtype == np.int16:
        return samples.astype(np.float32) / np.float32(FULL_SCALE)
    return samples.astype(np.float32, copy=False)


def cut_or_repeat(
    samples: NDArray[Any], n_samples: int, generator: np.random.Generator | None = None
) -> NDArray[np.float32]:
    """A window of n_samples: cut from a longer clip at random (or its start), or a shorter clip repeated."""
    if len(samples) >= n_samples:
        first = 0 if generator is None else int(generator.integers(0, len(samples) - n_samples + 1))
        return as_float(samples[first : first + n_samples])
    return np.resize(as_float(samples), n_samples)
