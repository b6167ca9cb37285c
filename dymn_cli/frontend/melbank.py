"""The numbers of the front end, and its mel filters.

rate      32,000 Hz mono          Nyquist 16,000 Hz
n_fft     1,024                   513 bins of 31.25 Hz
n_window    800 samples, 25 ms    Hann, centred in the 1,024
n_hop       320 samples, 10 ms    10 s = 320,000 samples = 1,000 frames
n_mels      128                   0 to 15,000 Hz, 27.2 mel apart

Frame-wise MobileNets (`FRAMEWISE`) have frames of 16 kHz sound, which the front end makes of its input.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dymn_cli.errors import UsageError

__all__ = ["FRAMEWISE", "RATE_HZ", "FrontEndConfig", "hann_window", "mel_bank"]

RATE_HZ = 32_000  # of the input
RATES_HZ = (RATE_HZ, RATE_HZ // 2)
LARGEST = 1e30  # float32, which the front end computes in, ends at 3e38
MEL_BREAK_HZ = 700.0  # below it the scale is close to linear, above it to logarithmic
MEL_FACTOR = 1127.0  # puts 1,000 Hz at 1,000 mel


@dataclass(frozen=True, slots=True)
class FrontEndConfig:
    """The numbers of a front end; the defaults are those of the published models.

    The published variants `hop_N` and `mels_N` differ in `n_hop` (N ms) and `n_mels` only.

    Args:
        rate_hz: samples per second that frames are cut from: 32,000 as in the input, or 16,000, which the
            front end makes of it (`dymn_cli.frontend.halving`).
        n_fft: samples of the Fourier transform.
        n_window: samples under the Hann window, which is centred in the transform.
        n_hop: samples from one frame to the next.
        n_mels: mel bands.
        fmin_hz: lower edge of the lowest band.
        fmax_hz: upper edge of the highest band.
        preemphasis: a in y[n] = x[n+1] − a·x[n].
        log_offset: added to the mel power before the logarithm.
        log_floor: what is below it counts as that much, after the offset.
        shift: added to the logarithm.
        scale: what the sum is divided by.

    Raises:
        UsageError: values that describe no front end.
    """

    rate_hz: int = 32_000
    n_fft: int = 1024
    n_window: int = 800
    n_hop: int = 320
    n_mels: int = 128
    fmin_hz: float = 0.0
    fmax_hz: float = 15_000.0
    preemphasis: float = 0.97
    log_offset: float = 1e-5
    shift: float = 4.5
    scale: float = 5.0
    log_floor: float = 0.0

    def __post_init__(self) -> None:
        def require(holds: bool, message: str) -> None:
            if not holds:
                raise UsageError(f"front-end config: {message}")

        for name in ("rate_hz", "n_fft", "n_window", "n_hop", "n_mels"):
            value = getattr(self, name)
            # type, not isinstance: true and false are integers, too.
            require(type(value) is int and value >= 1, f"{name} must be a whole number from 1")
        for name in ("fmin_hz", "fmax_hz", "preemphasis", "log_offset", "shift", "scale", "log_floor"):
            require(math.isfinite(getattr(self, name)), f"{name} must be a finite number")
            require(abs(getattr(self, name)) <= LARGEST, f"{name} is beyond ±{LARGEST:g}")
        require(self.rate_hz in RATES_HZ, f"rate_hz must be 32000 or 16000, not {self.rate_hz}")
        # Far beyond any model, and near enough that a damaged file cannot ask for gigabytes.
        require(self.n_fft <= 1 << 16, "n_fft is above 65,536")
        require(self.n_mels <= 512, "n_mels is above 512")
        require(self.n_hop * 1000 >= self.rate_hz, "n_hop is below 1 ms")
        require(self.n_fft % 2 == 0, "n_fft must be even")
        require(2 <= self.n_window <= self.n_fft, "n_window is not in 2 ... n_fft")
        require(0 <= self.fmin_hz < self.fmax_hz, "fmin_hz must be from 0 and below fmax_hz")
        require(self.fmax_hz <= self.rate_hz / 2, "fmax_hz is above half of rate_hz")
        require(0 <= self.preemphasis <= 1, "preemphasis is not in 0 ... 1")
        for name in ("log_offset", "log_floor"):
            require(getattr(self, name) >= 0, f"{name} must not be negative")
        positive = ("scale",) if self.log_floor >= 1 / LARGEST else ("log_offset", "scale")
        for name in positive:
            require(getattr(self, name) >= 1 / LARGEST, f"{name} must be positive, {1 / LARGEST:g} or more")

    @property
    def n_bins(self) -> int:
        """Bins of the real transform, 0 Hz and Nyquist included."""
        return self.n_fft // 2 + 1

    @property
    def halves(self) -> bool:
        """Whether frames are cut from half as many samples as there are in the input."""
        return self.rate_hz != RATE_HZ

    @property
    def input_hop(self) -> int:
        """Samples of the input from one frame to the next: 320 for 10 ms."""
        return self.n_hop * RATE_HZ // self.rate_hz

    @property
    def min_samples(self) -> int:
        """The shortest input: the reflection at its ends mirrors n_fft / 2 pre-emphasised samples."""
        return (self.n_fft // 2 + 2) * RATE_HZ // self.rate_hz

    def n_frames(self, n_samples: int) -> int:
        """Frames of an input: one every hop of the pre-emphasised signal, which is one sample shorter."""
        return 1 + (n_samples - 1) // self.input_hop

    def to_json(self) -> str:
        """As one line of JSON: goes into the metadata of a weights file.

        The floor is not mentioned where there is none: a file is what it always was.
        """
        fields = dataclasses.asdict(self)
        if not self.log_floor:
            del fields["log_floor"]
        return json.dumps(fields, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> FrontEndConfig:
        """Read what `to_json` wrote; fields that are missing take their defaults.

        Raises:
            UsageError: no JSON object, an unknown field, or values that describe no front end.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            unknown = set(fields) - {field.name for field in dataclasses.fields(cls)}
            if unknown:
                raise UsageError(f"front-end config: unknown field {', '.join(sorted(unknown))}")
            return cls(**fields)
        except (TypeError, ValueError) as exc:
            raise UsageError(f"front-end config: not readable: {exc}") from exc


FRAMEWISE = FrontEndConfig(
    rate_hz=16_000, n_fft=512, n_window=400, n_hop=160, fmax_hz=7_000.0, log_offset=0.0, log_floor=1e-7
)
"""The front end of the published frame-wise MobileNets (EfficientSED), in evaluation mode."""


def hann_window(config: FrontEndConfig) -> NDArray[np.float64]:
    """The window: (n_window,), symmetric, zero at both ends."""
    return np.hanning(config.n_window)


@functools.lru_cache(maxsize=16)
def mel_bank(config: FrontEndConfig) -> NDArray[np.float64]:
    """The mel filters as a matrix from power spectrum to mel power.

    Triangles of height 1, spaced evenly and linear in mel = 1127 ln(1 + f/700), as Kaldi has them
    (`mel-computations.cc`): not normalised by their width, and without the Nyquist bin. The lowest bands
    are narrower than a bin, so some of them hold none and stay at zero.

    Returns:
        (n_mels, n_fft / 2 + 1) float64, read-only because it is shared between callers.
    """
    low, high = _mel(np.array([config.fmin_hz, config.fmax_hz]))
    spacing = (high - low) / (config.n_mels + 1)
    left = (low + spacing * np.arange(config.n_mels))[:, np.newaxis]
    bins = _mel(np.linspace(0.0, config.rate_hz / 2, config.n_fft // 2, endpoint=False, dtype=np.float64))
    rising = (bins - left) / spacing
    bank = np.zeros((config.n_mels, config.n_bins))
    bank[:, :-1] = np.maximum(np.minimum(rising, 2.0 - rising), 0.0)
    bank.flags.writeable = False
    return bank


def _mel(frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    return MEL_FACTOR * np.log1p(frequency_hz / MEL_BREAK_HZ)
