"""What is wrong with a source, in sentences; and one rate and number of channels for all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import soxr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["Adapter", "Damage", "seconds_text"]

MAX_TOLD = 3  # more gaps than this share one sentence
NEGLIGIBLE_S = 1e-4


def seconds_text(seconds: float) -> str:
    """A duration for reading: 3.2 ms, 10.20 s."""
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


class Damage:
    """What is wrong with a source: the gaps that could not be decoded, and everything else.

    Attributes:
        lost_s: seconds that are left out.
        remarks: sentences on how the source is read, which are no damage.
    """

    def __init__(self) -> None:
        self._notes: list[str] = []
        self._gaps: list[tuple[float, float]] = []
        self._n_gaps = 0
        self._told_s = 0.0
        self.lost_s = 0.0
        self.remarks: list[str] = []

    def note(self, text: str) -> None:
        """Add a sentence, unless it is there already."""
        if text not in self._notes:
            self._notes.append(text)

    def remark(self, text: str) -> None:
        """Add a sentence on how a source is read, which is no damage."""
        self.remarks.append(text)

    def gap(self, at_s: float, lost_s: float, *, is_silent: bool = False) -> None:
        """Add a part of the source that cannot be decoded.

        Args:
            at_s: where it starts in the source.
            lost_s: how long.
            is_silent: the decoder gives silence instead, so that what follows keeps its time.
        """
        if lost_s < NEGLIGIBLE_S:
            return
        self._n_gaps += 1
        self._told_s += lost_s
        self.lost_s += 0.0 if is_silent else lost_s
        if len(self._gaps) <= MAX_TOLD:
            self._gaps.append((at_s, lost_s))

    def sentences(self) -> list[str]:
        """All that is wrong so far, gaps first."""
        if self._n_gaps > MAX_TOLD:
            first_s = self._gaps[0][0]
            gaps = [
                f"{seconds_text(self._told_s)} of audio in {self._n_gaps:,} places could not be decoded, "
                f"the first at {first_s:.2f} s"
            ]
        else:
            gaps = [f"{seconds_text(s)} of audio at {at:.2f} s could not be decoded" for at, s in self._gaps]
        return gaps + self._notes


class Adapter:
    """Brings samples to the rate and the number of channels that a source starts with.

    Args:
        rate_hz: of the start.
        channels: of the start.
        damage: takes a note of the first change.
    """

    def __init__(self, rate_hz: int, channels: int, damage: Damage) -> None:
        self._rate_hz = rate_hz
        self._channels = channels
        self._damage = damage
        self._now = (rate_hz, channels)
        self._resampler: soxr.ResampleStream | None = None
        self._n_changes = 0

    def put(self, block: NDArray[np.float32], rate_hz: int, at_s: float) -> Iterator[NDArray[np.float32]]:
        """Convert (n, channels) samples; first comes what the filter still holds of the rate before."""
        if (rate_hz, block.shape[1]) != self._now:
            yield from self.flush()
            self._change(rate_hz, block.shape[1], at_s)
        block = self._remixed(block)
        if self._resampler is not None:
            block = self._resampler.resample_chunk(np.ascontiguousarray(block))
        if len(block):
            yield block

    def flush(self) -> Iterator[NDArray[np.float32]]:
        """What the filter still holds."""
        if self._resampler is not None:
            rest = self._resampler.resample_chunk(np.empty((0, self._channels), np.float32), last=True)
            self._resampler = None
            self._now = (0, 0)
            if len(rest):
                yield rest

    def _change(self, rate_hz: int, channels: int, at_s: float) -> None:
        old_rate, old_channels = self._now if self._now[0] else (0, 0)
        self._now = (rate_hz, channels)
        self._n_changes += 1
        if self._n_changes == 1:
            if rate_hz != old_rate:
                what = f"the rate changes from {old_rate:,} to {rate_hz:,} Hz"
            else:
                what = f"the number of channels changes from {old_channels} to {channels}"
            self._damage.note(f"{what} at {at_s:.2f} s: converted to those of the start")
        if rate_hz != self._rate_hz:
            self._resampler = soxr.ResampleStream(
                rate_hz, self._rate_hz, self._channels, dtype="float32", quality="HQ"
            )

    def _remixed(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        if block.shape[1] == self._channels:
            return block
        mean = block.mean(axis=1, keepdims=True, dtype=np.float32)
        return np.repeat(mean, self._channels, axis=1)
