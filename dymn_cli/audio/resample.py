"""From decoded blocks to 32 kHz, block by block, with soxr's HQ recipe, as the checkpoints were trained.

The published front end takes 32 kHz mono. Streamed and one-shot soxr give the same samples, and a source
that has that rate already passes through untouched.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import soxr

from dymn_cli.errors import CorruptAudioError, InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from dymn_cli.audio.decode import AudioReader

    Resample = Callable[[Iterable[NDArray[np.float32]]], Iterator[NDArray[np.float32]]]
    """A resampler in place of soxr: from the blocks of a signal to blocks at 32 kHz."""

__all__ = [
    "RATE_HZ",
    "LiveResampler",
    "Response",
    "channels_32k",
    "mix",
    "resampled",
    "response",
    "to_mono_32k",
]

RATE_HZ = 32_000
"""Sample rate that the models were trained on: 320,000 samples are 10 s."""

QUALITY = "HQ"
# Values in a block, before or after resampling, whichever are more: 512 KiB of float32. Larger blocks fall
# out of the processor's cache and are slower, not faster.
BLOCK_VALUES = 1 << 17
LIVE_BLOCK_S = 0.1
CANCELLED = 0.02  # of the energy that channels with nothing in common would leave
MAX_RATE_HZ = 1 << 24  # of a live signal
SILENT = 1e-9  # mean square of the samples
HALVES = np.full(2, 0.5, np.float32)

REACH = 256  # samples of the lower of both rates, on each side: beyond, the filter is below 5e-8
MAX_VALUES = 1 << 21  # of a response: 8 MB


def to_mono_32k(
    reader: AudioReader, channel: str = "mix", resample: Resample | None = None
) -> Iterator[NDArray[np.float32]]:
    """Decode one signal at 32 kHz.

    Args:
        reader: an open source; it is read to its end.
        channel: "mix" for the mean of the channels, or a channel's number from "0"; where the channels cancel
            each other in the mix, `reader.warnings` says so after the last block.
        resample: used instead of soxr.

    Returns:
        Blocks of (n,) float32, of bounded size whatever the rate.

    Raises:
        UsageError: `channel` is neither.
        InputError: the source has no such channel; while iterating also what `AudioReader.blocks` raises.
    """
    blocks = _selected(reader, channel)
    return resampled(blocks, reader.info.rate_hz, 1) if resample is None else resample(blocks)


def channels_32k(reader: AudioReader, resample: Resample | None = None) -> Iterator[NDArray[np.float32]]:
    """Decode all channels at 32 kHz in one pass.

    Args:
        reader: an open source; it is read to its end.
        resample: used instead of soxr.

    Returns:
        Blocks of (n, channels) float32, of bounded size whatever the rate; while iterating, raises what
        `AudioReader.blocks` raises.
    """
    blocks = reader.blocks(_block_frames(reader))
    info = reader.info
    return resampled(blocks, info.rate_hz, info.channels) if resample is None else resample(blocks)


def _block_frames(reader: AudioReader) -> int:
    """Samples per channel to decode at once, bounded by what they become."""
    rate_hz, channels = reader.info.rate_hz, reader.info.channels
    if reader.is_live:
        return max(1, round(LIVE_BLOCK_S * rate_hz))
    return max(1, BLOCK_VALUES * rate_hz // (channels * max(rate_hz, RATE_HZ)))


def _selected(reader: AudioReader, channel: str) -> Iterator[NDArray[np.float32]]:
    blocks = reader.blocks(_block_frames(reader))
    if channel == "mix":
        return map(mix, blocks) if reader.info.channels == 1 else _mixed(reader, blocks)
    if not (channel.isascii() and channel.isdigit()):
        raise UsageError(f"no channel {channel!r}", hint="mix, or a number: 0 is the first channel")
    number, channels = int(channel), reader.info.channels
    if number >= channels:
        have = "only channel 0" if channels == 1 else f"channels 0 to {channels - 1}"
        raise InputError(f"{reader.name}: no channel {number}, it has {have}")
    return (np.ascontiguousarray(block[:, number]) for block in blocks)


def _mixed(reader: AudioReader, blocks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Means of the channels; at the end, the reader's warnings say if they have cancelled each other."""
    n_channels, of_all, of_mix = reader.info.channels, 0.0, 0.0
    for block in blocks:
        mixed = mix(block)
        samples = block.ravel()
        of_all += float(np.dot(samples, samples))
        of_mix += float(np.dot(mixed, mixed))
        yield mixed
    # Channels without anything in common leave a share of 1 / n_channels in the mix.
    if of_mix * n_channels < CANCELLED * of_all / n_channels and of_all > SILENT * reader.frames_read:
        reader.warnings.append(
            "the channels cancel each other in the mix, which is almost silent: take --channel 0, or each"
        )


def mix(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of the channels; by columns, which for a few of them is far faster than NumPy's mean of rows."""
    n_channels = block.shape[1]
    if n_channels == 1:
        return np.ascontiguousarray(block[:, 0])
    if n_channels == 2:
        return block @ HALVES  # half of each is exact, so that this rounds as (left + right) / 2 does
    mixed = block[:, 0] + block[:, 1]
    for number in range(2, n_channels):
        mixed += block[:, number]
    mixed /= np.float32(n_channels)
    return mixed


class LiveResampler:
    """The same for a signal that is pushed, block by block, and has no end.

    Args:
        rate_hz: of the signal.

    Raises:
        CorruptAudioError: a rate that no sound has.
    """

    def __init__(self, rate_hz: int) -> None:
        if not 0 < rate_hz <= MAX_RATE_HZ:
            raise CorruptAudioError(f"a sample rate of {rate_hz:,} Hz")
        self._stream = (
            None
            if rate_hz == RATE_HZ
            else soxr.ResampleStream(rate_hz, RATE_HZ, 1, dtype="float32", quality=QUALITY)
        )

    def add(self, block: NDArray[np.float32], *, last: bool = False) -> NDArray[np.float32]:
        """Take (n,) samples in; give (m,) at 32 kHz, as far as they are known; nothing follows the last."""
        if self._stream is None:
            return block
        out: NDArray[np.float32] = self._stream.resample_chunk(block, last=last)
        return out


def resampled(
    blocks: Iterable[NDArray[np.float32]], rate_hz: int, channels: int, *, to_hz: int = RATE_HZ
) -> Iterator[NDArray[np.float32]]:
    """Blocks of (n,) or (n, channels) float32 at another rate."""
    if rate_hz == to_hz:
        yield from blocks
        return
    stream = soxr.ResampleStream(rate_hz, to_hz, channels, dtype="float32", quality=QUALITY)
    rest = np.empty((0,), np.float32)
    for block in blocks:
        rest = block[:0]
        out = stream.resample_chunk(block)
        if len(out):
            yield out
    out = stream.resample_chunk(rest, last=True)
    if len(out):
        yield out


# ---------------------------------------------------------------------- the same filter, as a matrix


class Response(NamedTuple):
    """What soxr does to a signal of one rate, as a matrix: see `dymn_cli.frontend.torch_resample`.

    Args:
        matrix: (period + 2·reach, L) float32, from samples of the input to L of the output.
        period: M, samples of the input that become L of the output.
    """

    matrix: NDArray[np.float32]
    period: int


@cache
def response(rate_hz: int) -> Response | None:
    """The filter between a rate and 32 kHz, measured from soxr with pulses.

    With 32,000 / rate = L / M, a pulse at sample n of the input comes out as y[m] = h(m·M − n·L): pulses
    that are far enough apart, with M a multiple of their distance but for one, show all of h.

    Returns:
        None for 32 kHz, where there is nothing to do, and for rates in no simple ratio to it: their matrix
        would be too large to be worth it.
    """
    divisor = math.gcd(rate_hz, RATE_HZ)
    n_out, period = RATE_HZ // divisor, rate_hz // divisor
    reach = math.ceil(REACH * max(1.0, period / n_out))
    if rate_hz == RATE_HZ or n_out * (period + 2 * reach) > MAX_VALUES:
        return None
    distance = 2 * reach + 1
    distance += (1 - distance) % period
    pulses = reach + distance * np.arange(period)
    signal = np.zeros(int(pulses[-1]) + reach + 1)
    signal[pulses] = 1.0
    measured = soxr.resample(signal, rate_hz, RATE_HZ, quality=QUALITY)
    filtered = np.zeros(2 * reach * n_out + 1)  # h, from −reach to reach samples of the input
    for pulse in pulses.tolist():
        first, last = -(-(pulse - reach) * n_out // period), (pulse + reach) * n_out // period
        places = np.arange(first, min(last, len(measured) - 1) + 1)
        filtered[places * period - pulse * n_out + reach * n_out] = measured[places]
    rows = np.arange(period + 2 * reach)[:, np.newaxis] - reach
    places = np.arange(n_out) * period - rows * n_out + reach * n_out
    inside = (places >= 0) & (places < len(filtered))
    matrix = np.where(inside, filtered[np.clip(places, 0, len(filtered) - 1)], 0.0)
    return Response(matrix.astype(np.float32), period)
