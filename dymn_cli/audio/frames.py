"""Cut a 32 kHz signal into frames: short windows around moments that are a hop apart.

    signal    |‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾‾|
    centres   0     hop   2 hop ...    n hop          as long as they are within the signal
    samples   centre − window/2 ... centre + window/2, mirrored at both ends of the signal
    start, end        halfway to the centres before and after: frames follow each other without a gap

Each frame is a window of its own: it depends neither on the sizes of the blocks that come in nor, unless it
reaches over an end, on the length of the signal. Mirroring, a window of 160 ms and a hop of 50 ms are those
that the authors of MN chose for the HEAR benchmark (github.com/fschmid56/EfficientAT_HEAR).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.audio.resample import RATE_HZ
from dymn_cli.audio.windows import MAX_WINDOW_S, MIN_SAMPLES, SampleBuffer, require_audio
from dymn_cli.errors import UsageError
from dymn_cli.values import require_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

__all__ = ["FRAME_HOP_S", "FRAME_WINDOW_S", "Frame", "FramePlan", "frames"]

FRAME_WINDOW_S, FRAME_HOP_S = 0.16, 0.05

MIN_FRAME_S = MIN_SAMPLES / RATE_HZ
MIN_FRAME_HOP_S = 0.01  # one log-mel frame of the published models


@dataclass(frozen=True, slots=True)
class FramePlan:
    """How a source is cut into frames.

    Args:
        window_s: length of a frame in seconds, 0.05 to 60.
        hop_s: seconds from one centre to the next, 0.01 to the window.

    Raises:
        UsageError: a value outside these ranges.
    """

    window_s: float = FRAME_WINDOW_S
    hop_s: float = FRAME_HOP_S

    def __post_init__(self) -> None:
        require_number("a frame of", self.window_s)
        require_number("a hop of", self.hop_s)
        if not MIN_FRAME_S <= self.window_s <= MAX_WINDOW_S:  # written so that NaN fails
            raise UsageError(
                f"a frame of {self.window_s:g} s is not between {MIN_FRAME_S:g} and {MAX_WINDOW_S:g} s"
            )
        if not MIN_FRAME_HOP_S <= self.hop_s <= self.window_s:
            raise UsageError(
                f"a hop of {self.hop_s:g} s is not between {MIN_FRAME_HOP_S:g} s and the frame, "
                f"{self.window_s:g} s"
            )

    @property
    def n_window(self) -> int:
        """Samples of a frame at 32 kHz."""
        return round(self.window_s * RATE_HZ)

    @property
    def n_hop(self) -> int:
        """Samples from one centre to the next, at 32 kHz."""
        return round(self.hop_s * RATE_HZ)

    def n_frames(self, n_samples: int) -> int:
        """Frames of a signal: one at its start and one for each hop in it."""
        return n_samples // self.n_hop + 1


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A moment of a source and the samples around it.

    Args:
        start: position of its first sample, at 32 kHz; below 0 where it is mirrored at the start.
        start_s: start of the time that it stands for, in seconds.
        end_s: end of that time.
        samples: (n_window,) float32, or (n_window, channels); not to be written to.
    """

    start: int
    start_s: float
    end_s: float
    samples: NDArray[np.float32]


def frames(blocks: Iterable[NDArray[np.float32]], plan: FramePlan) -> Iterator[Frame]:
    """Cut a signal while it streams; no more is held than about a frame and the blocks at its two ends.

    Args:
        blocks: (n,) or (n, channels) float32 at 32 kHz, of any sizes; not written to, and not to be changed
            afterwards.
        plan: how to cut.

    Yields:
        Frames in order, each as soon as its samples are there.

    Raises:
        EmptyAudioError: the signal ends before 50 ms.
    """
    buffer = SampleBuffer()
    before = plan.n_window // 2
    # What must be there after a centre for its frame to be cut: its samples, those that are mirrored at the
    # start of the signal, and the next centre, which says that this frame is not the last.
    ahead = max(plan.n_window - before, before + 1, plan.n_hop)
    centre = 0
    for block in blocks:
        buffer.append(block)
        while buffer.end >= centre + ahead:
            yield _frame(buffer, centre, plan)
            centre += plan.n_hop
        # Where the source ends here, its last samples are mirrored.
        buffer.discard_before(min(centre - before, buffer.end - plan.n_window - 2))
    require_audio(buffer.end)
    while centre <= buffer.end:
        yield _frame(buffer, centre, plan, is_last=centre + plan.n_hop > buffer.end)
        centre += plan.n_hop


def _frame(buffer: SampleBuffer, centre: int, plan: FramePlan, *, is_last: bool = False) -> Frame:
    start, half_hop = centre - plan.n_window // 2, plan.n_hop / 2
    return Frame(
        start,
        max(centre - half_hop, 0) / RATE_HZ,
        (buffer.end if is_last else centre + half_hop) / RATE_HZ,
        _mirrored(buffer, start, start + plan.n_window),
    )


def _mirrored(buffer: SampleBuffer, start: int, end: int) -> NDArray[np.float32]:
    """Samples of a range that may reach over the ends of the signal, as if there were mirrors."""
    if start >= 0 and end <= buffer.end:
        return buffer.cut(start, end)
    period = 2 * (buffer.end - 1)
    there_and_back = np.arange(start, end) % period
    positions = np.minimum(there_and_back, period - there_and_back)
    first = int(positions.min())
    samples = buffer.cut(first, int(positions.max()) + 1)
    return np.take(samples, positions - first, axis=0)
