"""Spectrogram and scores of a recording, narrow enough for a picture whatever its length.

Columns of the log-mel are joined in pairs, the louder value of each band counting, whenever there are twice
as many as wanted. So a short call in a long night stays visible, and memory does not grow with the length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.audio.decode import open_audio
from dymn_cli.audio.resample import RATE_HZ, to_mono_32k
from dymn_cli.audio.windows import between
from dymn_cli.errors import InputError
from dymn_cli.frontend.logmel import LogMel
from dymn_cli.frontend.streaming import stream_log_mel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.audio.decode import Source
    from dymn_cli.frontend.melbank import FrontEndConfig

__all__ = ["Columns", "Spectrogram", "read_spectrogram", "read_stretch"]

MAX_COLUMNS = 2000
MIN_STRETCH_S = 0.1
DB_PER_NEPER = 10 / math.log(10)  # of power


class Columns:
    """Keeps columns of one width each, joined in pairs once there are too many.

    Args:
        most: columns that are wanted at most.
    """

    def __init__(self, most: int = MAX_COLUMNS) -> None:
        self._most = most
        self._parts: list[NDArray[np.float32]] = []
        self._n = 0
        self._rest: list[NDArray[np.float32]] = []
        self.joined = 1  # columns that came in for each one that is kept

    def add(self, columns: NDArray[np.float32]) -> None:
        """Take in columns, (n_rows, n)."""
        rest = np.concatenate([*self._rest, columns], axis=1)
        n_whole = rest.shape[1] // self.joined * self.joined
        self._rest = [rest[:, n_whole:]]
        self._keep(_joined(rest[:, :n_whole], self.joined))
        while self._n >= 2 * self._most:
            every = np.concatenate(self._parts, axis=1)
            n_even = every.shape[1] // 2 * 2
            # A column without a neighbour waits for one; repeated, its highest values stay.
            self._rest.insert(0, np.repeat(every[:, n_even:], self.joined, axis=1))
            self._parts, self._n = [], 0
            self.joined *= 2
            self._keep(_joined(every[:, :n_even], 2))

    def _keep(self, columns: NDArray[np.float32]) -> None:
        self._parts.append(columns)
        self._n += columns.shape[1]

    def result(self) -> tuple[NDArray[np.float32], float]:
        """All columns, (n_rows, n), and how many came in for each of them; the last may be of fewer."""
        left = [rest.max(axis=1, keepdims=True) for rest in self._rest if rest.shape[1]]
        return np.concatenate([*self._parts, *left], axis=1), float(self.joined)


def _joined(columns: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """Each n columns as one: the highest value of each row."""
    joined: NDArray[np.float32] = columns.reshape(len(columns), -1, n).max(axis=2)
    return joined


@dataclass(frozen=True, slots=True, eq=False)
class Spectrogram:
    """The log-mel of a stretch, in decibels.

    Args:
        levels: (n_mels, n_columns) float32, 10·log10 of the mel power.
        start_s: where the first column begins in the recording, in seconds.
        column_s: seconds of a column.
        end_s: where the stretch ends.
        config: of the mel bands.
    """

    levels: NDArray[np.float32]
    start_s: float
    column_s: float
    end_s: float
    config: FrontEndConfig


def read_stretch(
    source: Source,
    *,
    channel: str = "mix",
    start_s: float = 0.0,
    end_s: float | None = None,
) -> Iterator[NDArray[np.float32]]:
    """The samples of a stretch at 32 kHz, block by block.

    Raises:
        InputError: the source cannot be read, or ends before the stretch begins.
    """
    first, last = round(start_s * RATE_HZ), None if end_s is None else round(end_s * RATE_HZ)
    is_empty = True
    with open_audio(source) as reader:
        for block in between(to_mono_32k(reader, channel), first, last):
            is_empty = False
            yield block
        if is_empty:
            raise InputError(
                f"{reader.name}: it ends at {reader.duration_s:.1f} s, before --start {start_s:g}"
            )


def read_spectrogram(
    source: Source,
    *,
    channel: str = "mix",
    start_s: float = 0.0,
    end_s: float | None = None,
    max_columns: int = MAX_COLUMNS,
) -> Spectrogram:
    """The spectrogram of a stretch of a recording.

    Args:
        source: path, binary file object, or (samples, rate_hz).
        channel: "mix", or the number of one, from "0".
        start_s: where the stretch begins.
        end_s: where it ends; None for the end of the recording.
        max_columns: columns, at most twice as many.

    Raises:
        InputError: the source cannot be read, ends before the stretch begins, or has under 0.1 s of it.
    """
    log_mel = LogMel()
    columns = Columns(max_columns)
    n_samples = 0

    def counted() -> Iterator[NDArray[np.float32]]:
        nonlocal n_samples
        for block in read_stretch(source, channel=channel, start_s=start_s, end_s=end_s):
            n_samples += len(block)
            yield block

    for frames in stream_log_mel(counted(), log_mel):
        columns.add(frames)
    if n_samples < MIN_STRETCH_S * RATE_HZ:
        raise InputError(
            f"{source}: {n_samples / RATE_HZ:.2f} s from {start_s:g} s on is too short for a picture"
        )
    mels, n_joined = columns.result()
    config = log_mel.config
    levels = (mels * np.float32(config.scale) - np.float32(config.shift)) * np.float32(DB_PER_NEPER)
    column_s = n_joined * config.n_hop / config.rate_hz
    return Spectrogram(levels, start_s, column_s, start_s + n_samples / RATE_HZ, config)
