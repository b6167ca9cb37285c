"""Recordings with labels, decoded once: excerpts for training, and windows for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dymn_cli.audio.resample import RATE_HZ
from dymn_cli.audio.windows import WindowPlan, windows
from dymn_cli.datasets.audio_cache import FULL_SCALE, PIECE_S, ClipCache, Decoded, cut_or_repeat, open_cache
from dymn_cli.datasets.recordings import Recording
from dymn_cli.frontend import FrontEndConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.datasets.dataset import Dataset

__all__ = ["LabelledAudio", "open_labelled"]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledAudio:
    """The samples of a data set.

    Args:
        dataset: recordings and labels; those that could be decoded.
        cache: the samples, int16 at 32 kHz, on disk.
        numbers: (n_examples,) of the recordings in the cache.
        n_samples: (n_examples,) how long each is.
    """

    dataset: Dataset
    cache: ClipCache
    numbers: tuple[int, ...]
    n_samples: NDArray[np.int64]

    @property
    def fingerprint(self) -> str:
        """Changes with the recordings."""
        return self.cache.fingerprint

    @property
    def longest_s(self) -> float:
        """Seconds of the longest recording."""
        return float(self.n_samples.max() / RATE_HZ)

    def excerpt(self, example: int, n_samples: int, generator: np.random.Generator) -> NDArray[np.float32]:
        """(n_samples,) of a recording: from anywhere in a longer one; a shorter one repeated."""
        return cut_or_repeat(self._of(example), n_samples, generator)

    def windows(self, example: int) -> Iterator[NDArray[np.float32]]:
        """(n_window,) each: a recording as `dymn tag` cuts it."""
        samples, size = self._of(example), PIECE_S * RATE_HZ
        blocks = (
            samples[first : first + size].astype(np.float32) / np.float32(FULL_SCALE)
            for first in range(0, len(samples), size)
        )
        return (window.samples for window in windows(blocks, WindowPlan()))

    def _of(self, example: int) -> NDArray[Any]:
        return self.cache.recording(self.numbers[example], int(self.n_samples[example]))


def open_labelled(
    dataset: Dataset, folder: Path, *, threads: int = 2, done: Decoded = lambda n_all, seconds: None
) -> tuple[LabelledAudio, list[tuple[str, str]]]:
    """Decode the recordings of a data set, or find them decoded.

    Args:
        dataset: what to decode.
        folder: where decoded audio lies (see `dymn_cli.datasets.audio_cache`).
        threads: that decode.
        done: called after each recording with the number of all, and the seconds of this one.

    Returns:
        The recordings that could be decoded; the paths of the others, each with the reason.

    Raises:
        InputError: not one of them can be decoded.
        OutputError: there is no place for what is decoded.
    """
    recordings = [Recording(example.source, example.source, "") for example in dataset.examples]
    cache = open_cache(
        recordings, folder, kind="samples", front_end=FrontEndConfig(), threads=threads, done=done
    )
    n_samples: dict[int, int] = {}
    for clip in cache.clips:
        n_samples[clip.recording] = clip.start + clip.length
    skipped = [(recordings[number].path, reason) for number, reason in cache.skipped]
    numbers = tuple(n_samples)
    lengths = np.array(list(n_samples.values()), np.int64)
    return LabelledAudio(dataset.only(numbers), cache, numbers, lengths), skipped
