"""Log-mels of overlapping windows without computing a frame twice.

Where two windows of a recording are a multiple of the hop (10 ms) apart, their frames fall on the same
samples. They are equal but for those that reach over an edge of their window, where pre-emphasis, reflection
and, at 16 kHz, halving make them its own: frames 0, 1 and the last in the published front end. So a window
takes over what it shares with the one before and computes its edges and what is new. The result is the same,
bit for bit, as computing the window on its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dymn_cli.frontend.halving import REACH

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.frontend.logmel import LogMel

__all__ = ["SharedLogMel"]


class SharedLogMel:
    """Computes the log-mels of the windows of one signal, in order.

    Args:
        log_mel: what computes frames.
    """

    def __init__(self, log_mel: LogMel) -> None:
        self._log_mel = log_mel
        config = log_mel.config
        self._n_hop = config.input_hop
        self._reach = -(-config.n_window // 2)  # samples that a frame covers on each side
        if config.halves:
            self._reach = 2 * self._reach + REACH
        self._n_first = -(-self._reach // self._n_hop)  # frames that reach over the start of a window
        self._start = 0
        self._before: NDArray[np.float32] | None = None

    def __call__(self, start: int, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log-mel (1, 1, n_mels, n_frames) of the window that starts at a position of the signal.

        Args:
            start: of the window in the signal, in samples.
            samples: (n,) float32.
        """
        n_frames = self._log_mel.n_frames(len(samples))
        shift, rest = divmod(start - self._start, self._n_hop)
        before = self._before
        n_inner = (len(samples) - 1 - self._reach) // self._n_hop + 1  # frames that end within the window
        fits = before is not None and before.shape[-1] == n_frames and rest == 0
        if before is None or not fits or not 0 < shift < n_inner - 2 * self._n_first:
            mel = self._log_mel(samples)
        else:
            mel = self._continued(before, shift, n_inner, samples)
        self._start, self._before = start, mel
        return mel

    def _continued(
        self, before: NDArray[np.float32], shift: int, n_inner: int, samples: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        first, hop = self._n_first, self._n_hop
        new = n_inner - shift  # the first frame that the window before has not
        mel = np.empty_like(before)
        head = samples[: first * hop + 2 * self._reach]  # long enough that its end touches none of them
        mel[..., :first] = self._log_mel(head)[..., :first]
        mel[..., first:new] = before[..., first + shift : n_inner]
        mel[..., new:] = self._log_mel(samples[(new - first) * hop :])[..., first:]
        return mel
