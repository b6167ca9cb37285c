"""What all decoders have in common: blocks of samples, as float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dymn_cli.audio.damage import Damage
from dymn_cli.results import AudioInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Decoder", "to_float32"]


class Decoder(Protocol):
    """What an AudioReader reads from: one for libsndfile, one for PyAV, one for arrays."""

    info: AudioInfo
    slack_s: float  # a header may be off by this much without a warning
    damage: Damage  # what is wrong with the part that was read

    def read(self, n_frames: int) -> NDArray[np.float32]:
        """The next (n, channels) float32 samples, n from 1 to `n_frames`; (0, channels) at the end."""

    def close(self) -> None:
        """Close what the decoder itself opened."""


def to_float32(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Samples as float32; integers are scaled so that their full range is [-1, 1)."""
    kind, n_bits = samples.dtype.kind, samples.dtype.itemsize * 8
    if kind == "f":
        # What float32 cannot hold becomes infinite or NaN; the reader deals with both.
        with np.errstate(over="ignore", invalid="ignore"):
            return samples.astype(np.float32, copy=False)
    middle = 2.0 ** (n_bits - 1) if kind == "u" else 0.0
    scaled: NDArray[Any] = samples.astype(np.float32 if n_bits <= 16 else np.float64)
    return ((scaled - middle) * 2.0 ** (1 - n_bits)).astype(np.float32, copy=False)
