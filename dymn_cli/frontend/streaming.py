"""The log-mel of a recording of any length, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.frontend.logmel import LogMel

__all__ = ["stream_log_mel"]

PIECE_FRAMES = 1000
MARGIN_FRAMES = 4  # at either side of a piece: there the transform would mirror it


def stream_log_mel(blocks: Iterable[NDArray[np.float32]], log_mel: LogMel) -> Iterator[NDArray[np.float32]]:
    """The log-mel of all blocks, (n_mels, n) at a time; pieces overlap, so that no seam is seen.

    Args:
        blocks: (n,) float32 at the rate of the front end.
        log_mel: the front end; what is too short for it gives nothing.
    """
    hop = log_mel.config.n_hop
    n_before = 0  # frames of the buffer that have been given already
    buffer = np.zeros(0, np.float32)
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        while len(buffer) >= (n_before + PIECE_FRAMES + MARGIN_FRAMES) * hop:
            n_frames = n_before + PIECE_FRAMES
            frames = log_mel(buffer[: (n_frames + MARGIN_FRAMES) * hop])[0, 0]
            yield frames[:, n_before:n_frames]
            buffer = buffer[(n_frames - MARGIN_FRAMES) * hop :]
            n_before = MARGIN_FRAMES
    if len(buffer) >= log_mel.config.min_samples:
        yield log_mel(buffer)[0, 0, :, n_before:]
