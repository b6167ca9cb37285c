"""The log-mel of a window in NumPy: fast on one core, and the same bits however the work is shared out.

     samples ──▶ pre-emphasis ──▶ frames ──▶ Hann, FFT ──▶ power ──▶ mel ──▶ ln, shift, scale
    (n_samples,)   reflected     (125, 1024)  (513, 125)  (bins, 125) (128, 125)  (128, n_frames)

Frames go through in chunks whose arrays stay in a core's caches. No matrix product is used: a BLAS may add
up the products of a column in another order depending on where the column stands, on the processor and on
the number of threads. Everything after the transform, which takes one frame at a time, is element by
element. So a frame has the same bits wherever it stands in a chunk, a window or a batch, and on any thread.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from dymn_cli.errors import EmptyAudioError, UsageError
from dymn_cli.frontend.halving import halved
from dymn_cli.frontend.melbank import RATE_HZ, FrontEndConfig, hann_window, mel_bank

__all__ = ["LogMel"]

CHUNK_FRAMES = 125  # 8 chunks for the 1,000 frames of 10 s; as fast as 167, in less memory


@dataclass(frozen=True, slots=True, eq=False)
class _MelSum:
    """The mel bank as sums of weighted bins in a fixed order: a band is its terms 0, 1, 2, ... added up.

    The terms lie in the order in which they are added: term 0 of all bands, then term 1 of those bands that
    have one, and so on. Higher bands are wider, so those that still have a term are always the last ones;
    where a band is narrower than one below it, it is filled up with terms of weight zero.
    """

    n_bands: int
    n_bins: int  # bins from here on are in no band
    bins: NDArray[np.intp]  # (n_terms,)
    weights: NDArray[np.float32]  # (n_terms, 1)
    later: tuple[tuple[int, slice], ...]  # of each further term: the first band that has it, and its rows

    @classmethod
    def of(cls, config: FrontEndConfig) -> _MelSum:
        bank = mel_bank(config)
        used = bank > 0
        first = used.argmax(axis=1)
        widths = np.maximum.accumulate(np.maximum(used.sum(axis=1), 1))
        bins, weights, later, n_terms = [], [], [], 0
        for term in range(widths[-1]):
            bands = np.arange(int(np.argmax(widths > term)), len(bank))
            of_term = np.minimum(first[bands] + term, config.n_bins - 1)
            bins.append(of_term)
            weights.append(bank[bands, of_term].astype(np.float32))
            if term:
                later.append((int(bands[0]), slice(n_terms, n_terms + len(bands))))
            n_terms += len(bands)
        all_bins = np.concatenate(bins)
        return cls(
            n_bands=len(bank),
            n_bins=int(all_bins.max()) + 1,
            bins=all_bins,
            weights=np.concatenate(weights)[:, np.newaxis],
            later=tuple(later),
        )

    def __call__(self, power: NDArray[np.float32], terms: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mel power (n_bands, n_frames), a view of `terms`.

        Args:
            power: (n_bins, n_frames).
            terms: (n_terms, n_frames), overwritten.
        """
        np.take(power, self.bins, axis=0, out=terms, mode="clip")  # "raise" would copy `out`
        np.multiply(terms, self.weights, out=terms)
        mel = terms[: self.n_bands]
        for band, rows in self.later:
            mel[band:] += terms[rows]
        return mel


class _Workspace:
    """A thread's arrays for one chunk.

    Frames are as long as the transform, with zeros after the Hann window that stay as they are: NumPy takes
    a third longer where it has to fill shorter ones up itself.
    """

    def __init__(self, config: FrontEndConfig, mel_sum: _MelSum) -> None:
        self.frames = np.zeros((CHUNK_FRAMES, config.n_fft), np.float32)
        self.spectrum = np.zeros((config.n_bins, CHUNK_FRAMES), np.complex64)
        self.power = np.zeros((mel_sum.n_bins, CHUNK_FRAMES), np.float32)
        self.terms = np.zeros((len(mel_sum.bins), CHUNK_FRAMES), np.float32)


class LogMel:
    """The front end of the published models: 32 kHz mono samples to log-mel.

    A front end of 16 kHz halves them first (`dymn_cli.frontend.halving`); then, with the usual numbers,

    y[n] = x[n+1] − 0.97·x[n];  P[k, t] = |Σₙ w[n]·y[320·t + n − 400]·exp(−2πi·k·n/1024)|² with y mirrored
    at both ends;  mel = bank·P;  log-mel = (ln(mel + 1e-5) + 4.5) / 5.  With a floor, ln(max(mel, floor)).

    Any number of threads may call one instance at the same time.

    Args:
        config: the numbers above, where a model has others.
    """

    def __init__(self, config: FrontEndConfig | None = None) -> None:
        self.config = config or FrontEndConfig()
        self._window = hann_window(self.config).astype(np.float32)
        self._mel_sum = _MelSum.of(self.config)
        self._of_thread = threading.local()

    def __reduce__(self) -> tuple[type[LogMel], tuple[FrontEndConfig]]:
        """Travel to worker processes as the configuration alone."""
        return (LogMel, (self.config,))

    def n_frames(self, n_samples: int) -> int:
        """Frames of the log-mel of `n_samples` samples: 1,000 for 320,000."""
        return self.config.n_frames(n_samples)

    def __call__(self, samples: ArrayLike) -> NDArray[np.float32]:
        """Compute the log-mel of one window, or of several of one length.

        The samples are taken to be finite, as the decoder guarantees: a NaN gives NaN.

        Args:
            samples: (n_samples,) or (n_windows, n_samples) float32 in [-1, 1], mono at 32 kHz.

        Returns:
            (n_windows, 1, n_mels, n_frames) float32; n_windows is 1 for a one-dimensional input.

        Raises:
            EmptyAudioError: fewer samples than the reflection at the ends needs (`config.min_samples`).
            UsageError: not one or two dimensions.
        """
        windows = np.asarray(samples, dtype=np.float32)
        if windows.ndim not in (1, 2):
            raise UsageError(f"log-mel: {windows.ndim} dimensions; samples or windows of samples are needed")
        windows = np.atleast_2d(windows)
        n_windows, n_samples = windows.shape
        if n_samples < self.config.min_samples:
            raise EmptyAudioError(
                f"log-mel: {n_samples} samples at {RATE_HZ} Hz are too few, "
                f"{self.config.min_samples} are needed",
                hint="repeat or zero-pad the recording to a longer window",
            )
        out = np.empty((n_windows, 1, self.config.n_mels, self.n_frames(n_samples)), np.float32)
        for window, log_mel in zip(windows, out[:, 0], strict=True):
            self._fill(self._mirrored(halved(window) if self.config.halves else window), log_mel)
        return out

    def _mirrored(self, window: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pre-emphasise, and mirror at both ends as far as the Hann window of the outer frames reaches."""
        n_emphasised = len(window) - 1
        before = self.config.n_fft // 2 - (self.config.n_fft - self.config.n_window) // 2
        after = self.config.n_window - before
        mirrored = np.empty(before + n_emphasised + after, np.float32)
        emphasised = mirrored[before : before + n_emphasised]
        np.multiply(window[:-1], np.float32(-self.config.preemphasis), out=emphasised)
        emphasised += window[1:]
        mirrored[:before] = emphasised[before:0:-1]
        mirrored[before + n_emphasised :] = emphasised[-2 : -2 - after : -1]
        return mirrored

    def _fill(self, mirrored: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Fill `out`, (n_mels, n_frames), with the log-mel of a mirrored signal."""
        log_offset, shift = np.float32(self.config.log_offset), np.float32(self.config.shift)
        log_floor = np.float32(self.config.log_floor)
        scale = np.float32(1.0 / self.config.scale)
        work = self._workspace()
        frames = sliding_window_view(mirrored, self.config.n_window)[:: self.config.n_hop]
        # Real and imaginary parts side by side.
        parts = work.spectrum[: self._mel_sum.n_bins].view(np.float32)
        for start in range(0, len(frames), CHUNK_FRAMES):
            n = min(CHUNK_FRAMES, len(frames) - start)
            np.multiply(frames[start : start + n], self._window, out=work.frames[:n, : self.config.n_window])
            # The Hann window stands at the start of the transform instead of in its middle: a shift in
            # time changes phases, and the power has none.
            # NumPy's annotations know double precision only. It computes in it, too, as long as `norm` is
            # left alone, and rounds: four times as exact as single precision where bands are quiet.
            np.fft.rfft(work.frames[:n], out=work.spectrum.T[:n])  # type: ignore[arg-type]
            work.spectrum[:, n:] = 0.0
            np.square(parts, out=parts)
            np.add(parts[:, 0::2], parts[:, 1::2], out=work.power)
            mel = self._mel_sum(work.power, work.terms)
            if log_offset:
                mel += log_offset
            if log_floor:
                np.maximum(mel, log_floor, out=mel)
            np.log(mel, out=mel)
            mel += shift
            np.multiply(mel[:, :n], scale, out=out[:, start : start + n])

    def _workspace(self) -> _Workspace:
        work: _Workspace | None = getattr(self._of_thread, "work", None)
        if work is None:
            work = self._of_thread.work = _Workspace(self.config, self._mel_sum)
        return work
