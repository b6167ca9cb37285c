"""Resampling to 32 kHz in PyTorch, where the network runs: soxr's own filter as a matrix.

    frame j of the input   rows x[j·M − R ... j·M + M + R), zeros outside the signal
    times the matrix       (M + 2R, L), see `dymn_cli.audio.resample.response`
    is frame j of output   L samples, y[j·L ... j·L + L)

with 32,000 / rate = L / M in lowest terms. The filter is measured from soxr, so that both give the same
signal: they differ by rounding (5e-7), and in the first few samples of a source, where soxr's filter starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TorchResampler"]


class TorchResampler:
    """Resamples signals of one rate.

    Args:
        matrix: (M + 2R, L) float32.
        period: M, samples of the input that become L of the output.
        device: where.
    """

    def __init__(self, matrix: NDArray[np.float32], period: int, device: torch.device) -> None:
        self._matrix = torch.from_numpy(matrix).to(device)
        self._period = period
        self._reach = (len(matrix) - period) // 2
        self._device = device

    def __call__(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Resample a signal as it streams: blocks of (n,) or (n, channels) float32."""
        n_in = n_out = 0
        rest: NDArray[np.float32] | None = None
        for block in blocks:
            if rest is None:
                rest = np.zeros((self._reach, *block.shape[1:]), np.float32)
            n_in += len(block)
            rest = np.concatenate([rest, block])
            out, rest = self._frames(rest)
            n_out += len(out)
            if len(out):
                yield out
        if rest is None:
            return
        end = np.zeros((self._reach + self._period, *rest.shape[1:]), np.float32)
        out, _ = self._frames(np.concatenate([rest, end]))
        n_left = int(n_in * self._matrix.shape[1] / self._period + 0.5) - n_out  # as soxr counts them
        if n_left:
            yield out[:n_left]

    def _frames(self, signal: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The output of all frames that a signal holds, and what is left for later ones."""
        size = len(self._matrix)
        n_frames = max((len(signal) - size) // self._period + 1, 0)
        if not n_frames:
            return signal[:0], signal
        used = signal[: (n_frames - 1) * self._period + size]
        with torch.inference_mode():
            x = torch.from_numpy(used).to(self._device)
            out = x.unfold(0, size, self._period) @ self._matrix  # (n_frames, [channels,] L)
            if signal.ndim > 1:
                out = out.transpose(1, 2)
            resampled: NDArray[np.float32] = out.reshape(-1, *signal.shape[1:]).cpu().numpy()
        return resampled, signal[n_frames * self._period :]
