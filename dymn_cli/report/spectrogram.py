"""The log-mel of a recording as small grey pictures, however long it is, in bounded memory.

    blocks of samples ──▶ log-mel, 10 s at a time ──▶ columns ──▶ 16 shades ──▶ PNG tiles
       (n,) 32 kHz            (128, 1000)             (64, n)

A column stands for as many frames as fit the width that was asked for: half of it is their mean, which shows
what lasts, and half their maximum, which shows what is short. Where a recording is longer than its header
says, neighbouring columns are joined and each stands for twice as many.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.frontend.logmel import LogMel
from dymn_cli.frontend.streaming import stream_log_mel
from dymn_cli.report.model import Tile

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["N_BANDS", "Stretch", "spectrogram"]

N_BANDS = 64
TILE_COLUMNS = 4096  # wider pictures are refused by some browsers
DARKEST, BRIGHTEST = -1.4, 3.4  # of a log-mel: ln of 1e-5, and of a full-scale sine
SHADES = 16
MIN_CONTRAST = 36  # of 255: about 15 dB, so that silence stays dark
LOW_SHARE, HIGH_SHARE = 0.10, 0.998  # of the pixels, below the darkest shade and below the brightest

Stretch = tuple[float, float]


def spectrogram(
    blocks: Iterable[NDArray[np.float32]],
    *,
    width: int,
    duration_s: float | None,
    finer: Sequence[Stretch] = (),
    finer_per_s: float = 0.0,
) -> list[Tile]:
    """Pictures of a recording, from its start to its end; then finer ones of stretches of it.

    Args:
        blocks: (n,) float32 at 32 kHz.
        width: columns at most.
        duration_s: its length, where it is known.
        finer: stretches that get pictures of their own, in order and apart from each other.
        finer_per_s: columns a second in them.
    """
    log_mel = LogMel()
    frames_per_s = log_mel.config.rate_hz / log_mel.config.n_hop
    n_frames = 0 if duration_s is None else round(duration_s * frames_per_s)
    coarse = _Columns(max(1, -(-n_frames // width)), width)
    step = max(1, round(frames_per_s / finer_per_s)) if finer_per_s else 1
    details = [
        (round(start * frames_per_s), round(end * frames_per_s), _Columns(step, None)) for start, end in finer
    ]
    at, n_done = 0, 0  # the frame, and how many details lie before it
    for bands in stream_log_mel(blocks, log_mel):
        mel = _halved(bands)
        coarse.add(mel)
        end = at + mel.shape[1]
        while n_done < len(details) and details[n_done][1] <= at:
            n_done += 1
        for first, last, columns in details[n_done:]:
            if first >= end:
                break
            columns.add(mel[:, max(first - at, 0) : last - at])
        at = end
    scale = coarse.scale()
    tiles = coarse.tiles(0.0, frames_per_s, scale)
    for first, _, columns in details:
        tiles += columns.tiles(first / frames_per_s, frames_per_s, scale)
    return tiles


def _halved(bands: NDArray[np.float32]) -> NDArray[np.float32]:
    """Half as many bands of a log-mel, high frequencies first."""
    halved: NDArray[np.float32] = bands.reshape(N_BANDS, -1, bands.shape[1]).mean(axis=1)[::-1]
    return halved


class _Columns:
    """Columns of bytes (64,), each of some frames.

    Args:
        step: frames in a column.
        most: more columns than this are joined in pairs; None for no limit.
    """

    def __init__(self, step: int, most: int | None) -> None:
        self._step = step
        self._most = most
        self._done: list[NDArray[np.uint8]] = []
        self._n_done = 0
        self._rest = np.empty((N_BANDS, 0), np.float32)

    def add(self, mel: NDArray[np.float32]) -> None:
        """Take the next frames (64, n)."""
        frames = np.concatenate([self._rest, mel], axis=1) if self._rest.size else mel
        n_columns = frames.shape[1] // self._step
        self._put(frames[:, : n_columns * self._step])
        self._rest = frames[:, n_columns * self._step :]
        while self._most is not None and self._n_done >= 2 * self._most:
            self._join()

    def _put(self, frames: NDArray[np.float32], step: int | None = None) -> None:
        if not frames.shape[1]:
            return
        groups = frames.reshape(N_BANDS, -1, step or self._step)
        shown = (groups.mean(axis=2) + groups.max(axis=2)) / 2
        scaled = (shown - DARKEST) * (255 / (BRIGHTEST - DARKEST))
        self._done.append(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))
        self._n_done += groups.shape[1]

    def _join(self) -> None:
        all_of_them = np.concatenate(self._done, axis=1)
        n_pairs = all_of_them.shape[1] // 2
        pairs = all_of_them[:, : 2 * n_pairs].reshape(N_BANDS, n_pairs, 2)
        odd = all_of_them[:, 2 * n_pairs :]
        self._done = [pairs.max(axis=2), odd]
        self._n_done = n_pairs + odd.shape[1]
        self._step *= 2

    def scale(self) -> tuple[float, float]:
        """The bytes that become the darkest and the brightest shade."""
        counts = np.zeros(256, np.int64)
        for part in self._done:
            counts += np.bincount(part.ravel(), minlength=256)
        if not counts.any():
            return 0.0, 255.0
        shares = np.cumsum(counts) / counts.sum()
        low = float(np.searchsorted(shares, LOW_SHARE))
        return low, max(float(np.searchsorted(shares, HIGH_SHARE)), low + MIN_CONTRAST)

    def tiles(self, start_s: float, frames_per_s: float, scale: tuple[float, float]) -> list[Tile]:
        """Pictures of all columns, in order."""
        if n_rest := self._rest.shape[1]:
            self._put(self._rest, n_rest)
            self._rest = self._rest[:, :0]
        if not self._done:
            return []
        columns = np.concatenate(self._done, axis=1)
        seconds = self._step / frames_per_s
        return [
            Tile(
                start_s + first * seconds,
                start_s + min(first + TILE_COLUMNS, columns.shape[1]) * seconds,
                _png(_shades(columns[:, first : first + TILE_COLUMNS], scale)),
            )
            for first in range(0, columns.shape[1], TILE_COLUMNS)
        ]


def _shades(columns: NDArray[np.uint8], scale: tuple[float, float]) -> NDArray[np.uint8]:
    low, high = scale
    values = (columns.astype(np.float32) - low) * ((SHADES - 1) / (high - low))
    shades: NDArray[np.uint8] = np.clip(np.rint(values), 0, SHADES - 1).astype(np.uint8)
    return shades


def _png(shades: NDArray[np.uint8]) -> bytes:
    """A grey picture of four bits a pixel (W3C PNG, third edition): two pixels in a byte, no filter."""
    height, width = shades.shape
    even = np.zeros((height, width + width % 2), np.uint8)
    even[:, :width] = shades
    rows = np.zeros((height, 1 + even.shape[1] // 2), np.uint8)
    rows[:, 1:] = even[:, 0::2] << 4 | even[:, 1::2]
    header = struct.pack(">IIBBBBB", width, height, 4, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
