"""Changes to a batch that leave its labels true: on samples, and on log-mels.

What is random comes from a NumPy generator that the caller makes for the step; so a step is the same however
often it is computed. Strengths are those of the published runs where these have them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "apply_gain",
    "band_limits",
    "mix_scores",
    "mix_spectrograms",
    "mix_waveforms",
    "mixing_partners",
    "roll",
    "spec_augment",
]

FMIN_RANGE_HZ = 10
FMAX_HZ = 15_000.0
FMAX_RANGE_HZ = 2_000.0
MAX_BANDS, MAX_FRAMES = 3 / 8, 1 / 5  # widest stripes that are blanked, as shares of the log-mel


def roll(samples: Tensor, generator: np.random.Generator, *, most: int) -> Tensor:
    """Shift each signal (n, n_samples) in a circle by up to `most` samples either way (±125 ms: 4,000)."""
    shifts = generator.integers(-most, most + 1, len(samples))
    return torch.stack([row.roll(int(shift)) for row, shift in zip(samples, shifts, strict=True)])


def apply_gain(samples: Tensor, generator: np.random.Generator, *, most_db: float) -> Tensor:
    """Make each signal (n, n_samples) louder or softer by up to `most_db`."""
    gains = 10 ** (generator.uniform(-most_db, most_db, len(samples)) / 20)
    return samples * torch.as_tensor(gains, dtype=samples.dtype, device=samples.device)[:, None]


def band_limits(generator: np.random.Generator) -> tuple[float, float]:
    """Edges of the mel bank for a step: fmin in whole Hz from 0 to below 10, fmax 15,000 ± 1,000 Hz."""
    fmin_hz = float(generator.integers(0, FMIN_RANGE_HZ))
    return fmin_hz, float(FMAX_HZ + generator.uniform(-FMAX_RANGE_HZ / 2, FMAX_RANGE_HZ / 2))


def mixing_partners(
    generator: np.random.Generator,
    n: int,
    *,
    alpha: float,
    beta: float | None = None,
    rate: float = 1.0,
    parts: int = 1,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The partner that each of n items is mixed with, and the share it keeps of itself, at least a half.

    Args:
        generator: draws both.
        n: items in the batch.
        alpha: shares are max(c, 1 − c) with c from Beta(alpha, beta).
        beta: `alpha` where None.
        rate: share of the items that are mixed at all; the others keep all of themselves.
        parts: equal parts of the batch; each item's partner is of its part.
    """
    size = n // parts
    partners = np.concatenate([first + generator.permutation(size) for first in range(0, n, size)])
    share = generator.beta(alpha, alpha if beta is None else beta, n)
    share = np.maximum(share, 1 - share)
    share[generator.random(n) >= rate] = 1.0
    return partners, share.astype(np.float32)


def mix_spectrograms(mels: Tensor, partners: NDArray[np.int64], share: NDArray[np.float32]) -> Tensor:
    """Mixup of log-mels (n, 1, n_mels, n_frames), as logarithms (Zhang et al. 2018)."""
    keep = torch.from_numpy(share).to(mels.device)[:, None, None, None]
    return keep * mels + (1 - keep) * mels[torch.from_numpy(partners).to(mels.device)]


def mix_waveforms(samples: Tensor, partners: NDArray[np.int64], share: NDArray[np.float32]) -> Tensor:
    """Mixup of signals (n, n_samples), each without its mean; the mix has none either."""
    centred = samples - samples.mean(dim=1, keepdim=True)
    keep = torch.from_numpy(share).to(samples.device)[:, None]
    mixed = keep * centred + (1 - keep) * centred[torch.from_numpy(partners).to(samples.device)]
    return mixed - mixed.mean(dim=1, keepdim=True)


def mix_scores(scores: Tensor, partners: NDArray[np.int64], share: NDArray[np.float32]) -> Tensor:
    """Targets of a mix: labels or scores (n, n_classes) in the shares of the mix."""
    keep = torch.from_numpy(share).to(scores.device)[:, None]
    return keep * scores + (1 - keep) * scores[torch.from_numpy(partners).to(scores.device)]


def spec_augment(
    mels: Tensor,
    generator: np.random.Generator,
    *,
    most_bands: int | None = None,
    most_frames: int | None = None,
) -> Tensor:
    """Blank a stripe of bands and one of frames in each log-mel (Park et al. 2019), by its own mean.

    Args:
        mels: (n, 1, n_mels, n_frames).
        generator: draws where and how wide.
        most_bands: widest stripe of bands, 0 for none; 3/8 of them where None.
        most_frames: widest stripe of frames, 0 for none; a fifth of them where None.
    """
    masked = mels.clone()
    n, _, n_mels, n_frames = mels.shape
    most_bands = round(MAX_BANDS * n_mels) if most_bands is None else most_bands
    most_frames = round(MAX_FRAMES * n_frames) if most_frames is None else most_frames
    means = mels.mean(dim=(1, 2, 3))
    for number in range(n):
        for most, size, axis in ((most_bands, n_mels, 1), (most_frames, n_frames, 2)):
            width = int(generator.integers(0, min(most, size) + 1))
            first = int(generator.integers(0, size - width + 1))
            masked[number].narrow(axis, first, width).fill_(means[number])
    return masked
