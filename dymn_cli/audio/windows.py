"""Cut a 32 kHz signal into the windows that are tagged, in whole samples.

The rule: windows start at 0, hop, 2 hop, ...; the last one ends at the end of the source (it overlaps the
one before); a source shorter than a window is one window, filled up by the plan's `pad`. So nothing of a
longer source is ever tagged from a fraction of a window, and every sample is in some window.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from dymn_cli.audio.resample import RATE_HZ
from dymn_cli.errors import EmptyAudioError, UsageError
from dymn_cli.values import require_choice, require_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

__all__ = ["Pad", "SampleBuffer", "Window", "WindowPlan", "between", "require_audio", "windows"]

Pad = Literal["repeat", "zero", "none"]

MIN_WINDOW_S, MAX_WINDOW_S = 0.5, 60.0
MIN_HOP_S = 0.1
MIN_SAMPLES = RATE_HZ // 20  # 50 ms; the front end's reflection needs 514 samples


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """How a source is cut.

    Args:
        window_s: length of a window in seconds, 0.5 to 60; the models were trained on 10.
        hop_s: seconds from one start to the next, 0.1 to the window; None for the window, no overlap.
        pad: what a source shorter than a window is filled with: itself again, zeros, or nothing.

    Raises:
        UsageError: a value outside these ranges.
    """

    window_s: float = 10.0
    hop_s: float | None = None
    pad: Pad = "repeat"

    def __post_init__(self) -> None:
        require_number("a window of", self.window_s)
        if self.hop_s is not None:
            require_number("a hop of", self.hop_s)
        if not MIN_WINDOW_S <= self.window_s <= MAX_WINDOW_S:  # written so that NaN fails
            raise UsageError(
                f"a window of {self.window_s:g} s is not between {MIN_WINDOW_S:g} and {MAX_WINDOW_S:g} s"
            )
        if self.hop_s is not None and not MIN_HOP_S <= self.hop_s <= self.window_s:
            raise UsageError(
                f"a hop of {self.hop_s:g} s is not between {MIN_HOP_S:g} s and the window, "
                f"{self.window_s:g} s"
            )
        require_choice("padding", self.pad, Pad)

    @property
    def n_window(self) -> int:
        """Samples of a window at 32 kHz."""
        return round(self.window_s * RATE_HZ)

    @property
    def n_hop(self) -> int:
        """Samples from one start to the next at 32 kHz."""
        return self.n_window if self.hop_s is None else round(self.hop_s * RATE_HZ)


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A piece of a source, as the front end takes it.

    Args:
        start: position of its first sample, at 32 kHz.
        end: position after its last sample of real audio, at 32 kHz.
        samples: (n_window,) float32, or (end - start,) for a short source without padding; shared with
            overlapping windows, so not to be written to.
        padded: how a short source was filled up, "" where it was not.
    """

    start: int
    end: int
    samples: NDArray[np.float32]
    padded: Literal["", "repeat", "zero"] = ""

    @property
    def start_s(self) -> float:
        """Start in seconds."""
        return self.start / RATE_HZ

    @property
    def end_s(self) -> float:
        """End of the real audio in seconds."""
        return self.end / RATE_HZ


def windows(blocks: Iterable[NDArray[np.float32]], plan: WindowPlan) -> Iterator[Window]:
    """Cut a signal while it streams; no more is held than a window and the blocks at its two ends.

    Args:
        blocks: (n,) or (n, channels) float32 at 32 kHz, of any sizes; not written to, and not to be changed
            afterwards.
        plan: how to cut.

    Yields:
        Windows in order, each as soon as its samples are there.

    Raises:
        EmptyAudioError: the signal ends before 50 ms.
    """
    buffer = SampleBuffer()
    n_window, n_hop = plan.n_window, plan.n_hop
    start = 0
    for block in blocks:
        buffer.append(block)
        while buffer.end >= start + n_window:
            yield Window(start, start + n_window, buffer.cut(start, start + n_window))
            start += n_hop
        # Where the source ends here, its last window is the last n_window samples.
        buffer.discard_before(buffer.end - n_window)
    if buffer.end < n_window:
        yield _short(buffer, plan)
    elif start - n_hop + n_window < buffer.end:
        yield Window(buffer.end - n_window, buffer.end, buffer.cut(buffer.end - n_window, buffer.end))


def _short(buffer: SampleBuffer, plan: WindowPlan) -> Window:
    end = buffer.end
    require_audio(end)
    samples = buffer.cut(0, end)
    if plan.pad == "repeat":
        return Window(0, end, np.resize(samples, (plan.n_window, *samples.shape[1:])), "repeat")
    if plan.pad == "zero":
        return Window(
            0, end, np.pad(samples, [(0, plan.n_window - end)] + [(0, 0)] * (samples.ndim - 1)), "zero"
        )
    return Window(0, end, samples)


def between(
    blocks: Iterable[NDArray[np.float32]], first: int, last: int | None
) -> Iterator[NDArray[np.float32]]:
    """The samples of a signal from one position up to another, block by block; none of them is empty.

    Args:
        blocks: (n,) or (n, channels), of any sizes; no more of them are read than needed.
        first: position of the first sample.
        last: position after the last sample; None for the end of the signal.
    """
    end = 0
    for block in blocks:
        begin, end = end, end + len(block)
        part = block[max(first - begin, 0) : None if last is None else last - begin]
        if len(part):
            yield part
        if last is not None and end >= last:
            return


def require_audio(n_samples: int) -> None:
    """Refuse a source that is too short to analyse.

    Raises:
        EmptyAudioError: under 50 ms.
    """
    if n_samples < MIN_SAMPLES:
        raise EmptyAudioError(f"{n_samples / RATE_HZ * 1000:.1f} ms of audio, at least 50 ms are needed")


class SampleBuffer:
    """The end of a signal, as the blocks it came in; positions count from the signal's start."""

    def __init__(self) -> None:
        self._blocks: deque[NDArray[np.float32]] = deque()
        self._start = 0
        self.end = 0

    def append(self, block: NDArray[np.float32]) -> None:
        """Add a block at the end."""
        if not len(block):
            return
        self._blocks.append(block)
        self.end += len(block)

    def discard_before(self, position: int) -> None:
        """Drop the blocks that end at or before a position."""
        while self._blocks and self._start + len(self._blocks[0]) <= position:
            self._start += len(self._blocks.popleft())

    def cut(self, start: int, end: int) -> NDArray[np.float32]:
        """Samples of a range that is still there; a view where one block holds them all."""
        parts = []
        position = self._start
        for block in self._blocks:
            low, high = max(start - position, 0), min(end - position, len(block))
            if low < high:
                parts.append(block[low:high])
            position += len(block)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
