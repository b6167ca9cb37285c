"""The clips of a training run, wherever they come from: as a training step reads them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dymn_cli.audio.resample import RATE_HZ
from dymn_cli.datasets.audio_cache import ClipCache, as_float, cut_or_repeat, decode_clip
from dymn_cli.errors import UsageError
from dymn_cli.frontend import FrontEndConfig, LogMel
from dymn_cli.train.sampler import LabelRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.datasets.audioset_hdf5 import Hdf5Clips
    from dymn_cli.datasets.recordings import Recording

__all__ = ["CachedCorpus", "Corpus", "Hdf5Corpus", "first_log_mel"]

AUDIOSET_S = 10


class Corpus(Protocol):
    """Clips by number."""

    @property
    def names(self) -> Sequence[str]:
        """Name of each clip; pieces of one recording share theirs."""
        ...

    @property
    def groups(self) -> Sequence[str]:
        """What each clip belongs to."""
        ...

    @property
    def labels(self) -> LabelRows | None:
        """Labels of each, where there are any."""
        ...

    @property
    def known(self) -> LabelRows | None:
        """Which of the labels are known, likewise; all of them where None."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes with the audio."""
        ...

    @property
    def labels_fingerprint(self) -> str:
        """Changes with the labels; empty where the audio brings them, or there are none."""
        ...

    def n_frames(self, index: int, front_end: FrontEndConfig) -> int:
        """Frames of a whole clip, told without decoding it."""
        ...

    def samples(self, index: int) -> NDArray[Any]:
        """(n,) samples of a whole clip at 32 kHz, float32 or int16.

        Raises:
            InputError: it is damaged.
        """
        ...

    def log_mel(self, index: int, front_end: FrontEndConfig) -> NDArray[Any]:
        """(n_frames, n_mels) of a whole clip.

        Raises:
            InputError: it is damaged.
            UsageError: only log-mels of another front end are kept.
        """
        ...


class CachedCorpus:
    """Recordings that were decoded to disk.

    Args:
        cache: what was decoded.
        recordings: what from; the cache knows them by number.
        labels: (n_recordings, n_classes) of 0 and 1, where there are any.
        known: (n_recordings, n_classes), which of them are known.
    """

    def __init__(
        self,
        cache: ClipCache,
        recordings: Sequence[Recording],
        labels: NDArray[np.uint8] | None = None,
        known: NDArray[np.uint8] | None = None,
    ) -> None:
        self.cache = cache
        number = np.array([clip.recording for clip in cache.clips], dtype=np.int64)
        self.labels = None if labels is None else labels[number]
        self.known = None if known is None else known[number]
        self._recordings = recordings
        self.names = tuple(recordings[clip.recording].name for clip in cache.clips)
        self.groups = tuple(recordings[clip.recording].group for clip in cache.clips)
        self.fingerprint = cache.fingerprint
        self.labels_fingerprint = ""
        if self.labels is not None:
            digest = hashlib.sha256(np.packbits(self.labels).tobytes())
            digest.update(b"" if self.known is None else np.packbits(self.known).tobytes())
            self.labels_fingerprint = digest.hexdigest()[:8]

    def n_frames(self, index: int, front_end: FrontEndConfig) -> int:
        """See `Corpus.n_frames`."""
        length = self.cache.clips[index].length
        return length if self.cache.kind == "log-mels" else front_end.n_frames(length)

    def samples(self, index: int) -> NDArray[Any]:
        """See `Corpus.samples`; decoded anew where log-mels are kept."""
        if self.cache.kind == "samples":
            return self._rows(index)
        clips = self.cache.clips
        recording = clips[index].recording
        number = next(
            n for n in range(index + 1) if n == index or clips[index - n - 1].recording != recording
        )
        return decode_clip(self._recordings[recording], number)

    def log_mel(self, index: int, front_end: FrontEndConfig) -> NDArray[Any]:
        """See `Corpus.log_mel`."""
        if self.cache.kind == "samples":
            return _log_mel(as_float(self._rows(index)), front_end)
        if front_end != self.cache.front_end:
            raise UsageError(
                "the kept log-mels are of another front end than a model's",
                hint="--recipe paper keeps samples, which fit every model",
            )
        return self._rows(index)

    def _rows(self, index: int) -> NDArray[Any]:
        return self.cache.window(index, 0, self.cache.clips[index].length)


class Hdf5Corpus:
    """AudioSet as HDF5 files of MP3 bytes; every clip is of a video, and a group, of its own."""

    def __init__(self, clips: Hdf5Clips, fingerprint: str) -> None:
        self._clips = clips
        self.names = clips.names
        self.groups = clips.names
        self.labels = clips.labels
        self.known = None
        self.fingerprint = fingerprint
        self.labels_fingerprint = ""

    def n_frames(self, index: int, front_end: FrontEndConfig) -> int:
        """Those of ten seconds, which nearly all clips of AudioSet have."""
        return front_end.n_frames(AUDIOSET_S * RATE_HZ)

    def samples(self, index: int) -> NDArray[Any]:
        """See `Corpus.samples`."""
        return self._clips.decode(index)

    def log_mel(self, index: int, front_end: FrontEndConfig) -> NDArray[Any]:
        """See `Corpus.log_mel`."""
        return _log_mel(self._clips.decode(index), front_end)


@functools.lru_cache(maxsize=8)
def _front_end(config: FrontEndConfig) -> LogMel:
    return LogMel(config)


def _log_mel(samples: NDArray[np.float32], front_end: FrontEndConfig) -> NDArray[np.float32]:
    frames: NDArray[np.float32] = _front_end(front_end)(samples)[0, 0].T
    return frames


def first_log_mel(
    corpus: Corpus, index: int, front_end: FrontEndConfig, window_s: float
) -> NDArray[np.float32]:
    """(1, n_mels, n_frames) of a clip's first window, as it is tagged: a shorter clip repeated.

    Raises:
        InputError: it is damaged.
    """
    samples = cut_or_repeat(corpus.samples(index), round(window_s * RATE_HZ))
    log_mel: NDArray[np.float32] = _front_end(front_end)(samples)[0]
    return log_mel
