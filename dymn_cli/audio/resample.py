"""From decoded blocks to 32 kHz, block by block, with soxr's HQ recipe: what the checkpoints heard.

The published front end takes 32 kHz mono. Streamed and one-shot soxr give the same samples, and a source
that has that rate already passes through untouched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import soxr

from dymn_cli.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from dymn_cli.audio.decode import AudioReader

__all__ = ["RATE_HZ", "channels_32k", "to_mono_32k"]

RATE_HZ = 32_000
"""Sample rate that the models were trained on: 320,000 samples are 10 s."""

QUALITY = "HQ"
# Values in a block, before or after resampling, whichever are more: 512 KiB of float32. Larger blocks fall
# out of the processor's cache and are slower, not faster.
BLOCK_VALUES = 1 << 17


def to_mono_32k(reader: AudioReader, channel: str = "mix") -> Iterator[NDArray[np.float32]]:
    """Decode one signal at 32 kHz.

    Args:
        reader: an open source; it is read to its end.
        channel: "mix" for the mean of the channels, or a channel's number from "0".

    Returns:
        Blocks of (n,) float32, of bounded size whatever the rate.

    Raises:
        UsageError: `channel` is neither.
        InputError: the source has no such channel; while iterating also what `AudioReader.blocks` raises.
    """
    select = _selection(reader, channel)
    return _resampled(map(select, reader.blocks(_block_frames(reader))), reader.info.rate_hz, 1)


def channels_32k(reader: AudioReader) -> Iterator[NDArray[np.float32]]:
    """Decode all channels at 32 kHz in one pass.

    Args:
        reader: an open source; it is read to its end.

    Returns:
        Blocks of (n, channels) float32, of bounded size whatever the rate; while iterating, raises what
        `AudioReader.blocks` raises.
    """
    return _resampled(reader.blocks(_block_frames(reader)), reader.info.rate_hz, reader.info.channels)


def _block_frames(reader: AudioReader) -> int:
    """Samples per channel to decode at once, bounded by what they become."""
    rate_hz, channels = reader.info.rate_hz, reader.info.channels
    return max(1, BLOCK_VALUES * rate_hz // (channels * max(rate_hz, RATE_HZ)))


def _selection(reader: AudioReader, channel: str) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    if channel == "mix":
        return _mix
    if not (channel.isascii() and channel.isdigit()):
        raise UsageError(f"no channel {channel!r}", hint="mix, or a number: 0 is the first channel")
    number, channels = int(channel), reader.info.channels
    if number >= channels:
        have = "only channel 0" if channels == 1 else f"channels 0 to {channels - 1}"
        raise InputError(f"{reader.name}: no channel {number}, it has {have}")
    return lambda block: np.ascontiguousarray(block[:, number])


def _mix(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of the channels; by columns, which for a few of them is far faster than NumPy's mean of rows."""
    n_channels = block.shape[1]
    if n_channels == 1:
        return np.ascontiguousarray(block[:, 0])
    mixed = block[:, 0] + block[:, 1]
    for number in range(2, n_channels):
        mixed += block[:, number]
    mixed /= np.float32(n_channels)
    return mixed


def _resampled(
    blocks: Iterable[NDArray[np.float32]], rate_hz: int, channels: int
) -> Iterator[NDArray[np.float32]]:
    if rate_hz == RATE_HZ:
        yield from blocks
        return
    stream = soxr.ResampleStream(rate_hz, RATE_HZ, channels, dtype="float32", quality=QUALITY)
    rest = np.empty((0,), np.float32)
    for block in blocks:
        rest = block[:0]
        out = stream.resample_chunk(block)
        if len(out):
            yield out
    out = stream.resample_chunk(rest, last=True)
    if len(out):
        yield out
