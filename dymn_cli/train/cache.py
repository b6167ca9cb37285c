"""Recordings decoded once: 32 kHz samples or log-mels in one file on disk, read through a memory map.

    FOLDER/FINGERPRINT/rows.bin     rows one after the other: int16 samples, or float16 frames of n_mels
    FOLDER/FINGERPRINT/clips.json   {"schema", "kind", "front_end", "clips": [[recording, start, length]],
                                     "skipped": [[recording, reason]]}; recordings by number

The fingerprint covers the kind, the front end and each recording's name, size and time of change: a changed
recording gives another cache, and nothing that is there is ever altered. `clips.json` is written last: a
folder without it is the rest of a killed run, and is begun anew. Recordings longer than a minute are cut into
pieces of a minute: neither decoding nor reading needs memory that grows with them.

Half precision costs a log-mel at most 5e-4 of its value, far less than what training adds as noise.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from dymn_cli.atomic import atomic_write
from dymn_cli.audio.decode import open_audio
from dymn_cli.audio.resample import RATE_HZ, to_mono_32k
from dymn_cli.errors import InputError, OutputError
from dymn_cli.frontend import FrontEndConfig, LogMel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.train.recordings import Recording

__all__ = ["Clip", "ClipCache", "Decoded", "Kind", "decode_clip", "fingerprint_of", "open_cache"]

Kind = Literal["samples", "log-mels"]
Decoded = Callable[[int, float], None]

SCHEMA = "dymn.clips/1"
PIECE_S = 60
FULL_SCALE = 32_768  # so that recordings of 16 bits at 32 kHz are kept as they are
SHORTEST = RATE_HZ // 20  # samples; what is left of a cut recording may be less, and says nothing then


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording (by number), or a minute of a long one, as rows of the cache."""

    recording: int
    start: int
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class ClipCache:
    """What was decoded.

    Args:
        fingerprint: of what it was made from.
        front_end: that log-mels were made with.
        clips: in the order of the recordings.
        skipped: number of each recording that gave nothing, with the reason.
        rows: (n,) int16 samples or (n, n_mels) float16 frames, on disk.
    """

    fingerprint: str
    kind: Kind
    front_end: FrontEndConfig
    clips: tuple[Clip, ...]
    skipped: tuple[tuple[int, str], ...]
    rows: NDArray[Any]

    def window(self, index: int, start: int, length: int) -> NDArray[Any]:
        """Rows of a clip from a place on; fewer than asked for where it ends."""
        clip = self.clips[index]
        start = min(max(start, 0), clip.length)
        return self.rows[clip.start + start : clip.start + min(start + length, clip.length)]

    @property
    def seconds(self) -> float:
        """All audio in it."""
        per_s = RATE_HZ if self.kind == "samples" else RATE_HZ / self.front_end.n_hop
        return len(self.rows) / per_s


def fingerprint_of(recordings: Sequence[Recording], kind: Kind, front_end: FrontEndConfig) -> str:
    """What a cache of these recordings is called, 16 hexadecimal digits.

    Files are told apart by size and time of change, without being read.
    """
    digest = hashlib.sha256(
        f"{SCHEMA}\n{kind}\n{front_end.to_json() if kind == 'log-mels' else ''}\n".encode()
    )
    for recording in recordings:
        try:
            status = os.stat(recording.path)  # noqa: PTH116 - names may be bytes that no Path prints
            known = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:
            known = "-"
        line = f"{recording.name}\0{known}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def open_cache(
    recordings: Sequence[Recording],
    folder: Path,
    *,
    kind: Kind,
    front_end: FrontEndConfig,
    threads: int = 2,
    done: Decoded = lambda n_all, seconds: None,
) -> ClipCache:
    """The decoded recordings: from the cache, or decoded now.

    Args:
        recordings: what to decode.
        folder: where caches lie; made if need be.
        kind: "samples" at 32 kHz, or "log-mels".
        front_end: of the log-mels.
        threads: that decode.
        done: is told after each recording how many there are, and how many seconds this one has.

    Raises:
        InputError: not one of the recordings can be decoded.
        OutputError: the cache cannot be written.
    """
    fingerprint = fingerprint_of(recordings, kind, front_end)
    place = folder / fingerprint
    try:
        if not (place / "clips.json").is_file():
            place.mkdir(parents=True, exist_ok=True)
            _fill(place, recordings, kind, front_end, threads, done)
        return _read(place, fingerprint, kind, front_end)
    except OSError as exc:
        raise OutputError(
            f"{place}: {(exc.strerror or str(exc)).lower()}",
            hint="--cache DIR puts the decoded audio elsewhere",
        ) from exc


def _read(place: Path, fingerprint: str, kind: Kind, front_end: FrontEndConfig) -> ClipCache:
    try:
        document = json.loads((place / "clips.json").read_text("utf-8"))
        clips = tuple(Clip(*entry) for entry in document["clips"])
        skipped = tuple((int(number), str(reason)) for number, reason in document["skipped"])
        width = () if kind == "samples" else (front_end.n_mels,)
        dtype = np.int16 if kind == "samples" else np.float16
        n_rows = sum(clip.length for clip in clips)
        rows = np.memmap(place / "rows.bin", dtype, "r", shape=(n_rows, *width))
    except (ValueError, KeyError, TypeError) as exc:
        raise OutputError(f"{place}: a damaged cache", hint=f"delete it: rm -r {place}") from exc
    return ClipCache(fingerprint, kind, front_end, clips, skipped, rows)


class _Filling:
    """The file of rows while several threads append to it."""

    def __init__(self, file: BinaryIO, n_recordings: int, done: Decoded) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._n_rows = 0
        self._done, self._n_all = done, n_recordings
        self.pieces: dict[int, list[tuple[int, int]]] = {}
        self.skipped: dict[int, str] = {}

    def append(self, number: int, rows: NDArray[Any]) -> None:
        with self._lock:
            self._file.write(np.ascontiguousarray(rows).data)
            self.pieces.setdefault(number, []).append((self._n_rows, len(rows)))
            self._n_rows += len(rows)

    def finish(self, number: int, seconds: float, reason: str | None = None) -> None:
        with self._lock:
            if reason is not None:
                self.skipped[number] = reason
                self.pieces.pop(number, None)
            self._done(self._n_all, seconds)


def _fill(
    place: Path,
    recordings: Sequence[Recording],
    kind: Kind,
    front_end: FrontEndConfig,
    threads: int,
    done: Decoded,
) -> None:
    log_mel = LogMel(front_end)
    part = place / f"rows.{os.urandom(8).hex()}.part"
    try:
        with part.open("xb") as file:
            filling = _Filling(file, len(recordings), done)
            _decode_all(recordings, filling, lambda piece: _rows(piece, kind, log_mel), threads)
        if not filling.pieces:
            first = min(filling.skipped)
            raise InputError(
                f"none of {len(recordings)} recordings can be decoded; the first: {filling.skipped[first]}"
            )
        _compact(part, place / "rows.bin", filling, kind, front_end)
    finally:
        part.unlink(missing_ok=True)
    start, clips = 0, []
    for number in sorted(filling.pieces):
        for _, length in filling.pieces[number]:
            clips.append([number, start, length])
            start += length
    document = {
        "schema": SCHEMA,
        "kind": kind,
        "front_end": json.loads(front_end.to_json()),
        "clips": clips,
        "skipped": [[n, filling.skipped[n]] for n in sorted(filling.skipped)],
    }
    with atomic_write(place / "clips.json") as listing:
        listing.write(json.dumps(document).encode("utf-8"))


def _compact(part: Path, target: Path, filling: _Filling, kind: Kind, front_end: FrontEndConfig) -> None:
    """Put the pieces in the order of the recordings, whoever was first; drop those of failed ones."""
    n_bytes = 2 if kind == "samples" else 2 * front_end.n_mels
    ordered = [piece for number in sorted(filling.pieces) for piece in filling.pieces[number]]
    ends = np.cumsum([0, *(length for _, length in ordered)])[:-1]
    if all(start == end for (start, _), end in zip(ordered, ends, strict=True)):
        part.replace(target)
        return
    sorted_part = part.with_suffix(".sorted")
    try:
        with part.open("rb") as source, sorted_part.open("xb") as out:
            for start, length in ordered:
                source.seek(start * n_bytes)
                out.write(source.read(length * n_bytes))
        sorted_part.replace(target)
    finally:
        sorted_part.unlink(missing_ok=True)


def _decode_all(
    recordings: Sequence[Recording],
    filling: _Filling,
    rows_of: Callable[[NDArray[np.float32]], NDArray[Any]],
    threads: int,
) -> None:
    waiting = iter(enumerate(recordings))
    lock = threading.Lock()
    failed: list[BaseException] = []

    def work() -> None:
        while not failed:
            with lock:
                number, recording = next(waiting, (-1, None))
            if recording is None:
                return
            try:
                n_samples = 0
                for piece in _pieces(recording):
                    filling.append(number, rows_of(piece))
                    n_samples += len(piece)
                filling.finish(number, n_samples / RATE_HZ)
            except InputError as exc:
                filling.finish(number, 0.0, exc.message)
            except BaseException as exc:
                failed.append(exc)

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


def decode_clip(recording: Recording, number: int) -> NDArray[np.float32]:
    """(n,) samples of a recording's clip of that number, from 0, decoded anew.

    Raises:
        InputError: it is damaged, or no longer there.
    """
    piece = next(itertools.islice(_pieces(recording), number, None), None)
    if piece is None:
        raise InputError(f"{recording.name}: it has become shorter")
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
            raise InputError(f"{recording.name}: {len(rest) / RATE_HZ * 1000:.1f} ms of audio are too few")


def _rows(samples: NDArray[np.float32], kind: Kind, log_mel: LogMel) -> NDArray[Any]:
    if kind == "log-mels":
        frames: NDArray[np.float16] = log_mel(samples)[0, 0].T.astype(np.float16)
        return frames
    scaled = np.clip(np.round(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
    integers: NDArray[np.int16] = scaled.astype(np.int16)
    return integers
