"""The results of the library and the data between its stages: frozen dataclasses.

    AudioInfo ──▶ WindowScores (one a window, while streaming) ──▶ ClipResult   (one a source and channel)
                                                                ├▶ SourceEvents (one a source: its Events)
                                                                └▶ Failure      (a source that failed)

Arrays are NumPy float32; this module does not import NumPy.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from dymn_cli.errors import DymnError

__all__ = [
    "AudioInfo",
    "ClipResult",
    "Event",
    "Failure",
    "ModelInfo",
    "SourceEvents",
    "Tag",
    "WindowScores",
    "WindowTags",
]


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """The header of a source, before anything is decoded.

    Args:
        rate_hz: samples per second of the source.
        channels: number of channels.
        n_frames: samples per channel according to the header, or None if it does not say.
        container: short name of the file format ("WAV", "FLAC", "OGG", "MP3", "array", ...).
        codec: short name of the coding inside ("PCM_16", "VORBIS", ...).
    """

    rate_hz: int
    channels: int
    n_frames: int | None
    container: str
    codec: str

    @property
    def duration_s(self) -> float | None:
        """Seconds according to the header, or None if it does not say."""
        return None if self.n_frames is None else self.n_frames / self.rate_hz


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The model: name and SHA-256 of the weights, and the runtime.

    Args:
        name: of the model; for an ensemble, its members' names joined by "+".
        sha256: of its file; for an ensemble, of its members' hashes in lower-case hexadecimal, each followed
            by a line feed, in the order given.
        backend: "onnx" or "torch"; if the members of an ensemble differ, joined by "+".
        provider: the device, by the runtime's name; if the members differ, joined by "+".
        members: of an ensemble, in the order given; empty for a single model.
    """

    name: str
    sha256: str
    backend: str
    provider: str
    members: tuple[ModelInfo, ...] = ()

    @classmethod
    def of_ensemble(cls, members: Sequence[ModelInfo]) -> ModelInfo:
        """Describe an ensemble."""
        hashes = "".join(f"{member.sha256}\n" for member in members)
        return cls(
            "+".join(member.name for member in members),
            hashlib.sha256(hashes.encode()).hexdigest(),
            _common([member.backend for member in members]),
            _common([member.provider for member in members]),
            tuple(members),
        )


def _common(words: Sequence[str]) -> str:
    """The word that all members share, or all their words joined."""
    return words[0] if len(set(words)) == 1 else "+".join(words)


@dataclass(frozen=True, slots=True)
class Tag:
    """One label with its score; `rank` counts from 1, `index` is the place in the model's outputs."""

    rank: int
    index: int
    label: str
    mid: str
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class WindowScores:
    """The output of the model for one window.

    Args:
        start_s: where the window starts in the source, in seconds.
        end_s: where it ends; for a source shorter than the window, the end of the source.
        logits: (n_classes,) float32, before the sigmoid.
        scores: (n_classes,) float32 in [0, 1].
        embedding: (embedding_size,) float32.
        frame_logits: (n_steps, n_classes) float32, if requested: step n is centred on the moment
            `start_s` + n · `Tagger.step_s`, and no step lies beyond `end_s`.
        frame_scores: the same after the sigmoid, in [0, 1].
    """

    start_s: float
    end_s: float
    logits: NDArray[np.float32]
    scores: NDArray[np.float32]
    embedding: NDArray[np.float32]
    frame_logits: NDArray[np.float32] | None = None
    frame_scores: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class WindowTags:
    """The selected tags of one window."""

    start_s: float
    end_s: float
    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ClipResult:
    """The result for one channel of one source (usually "mix").

    Args:
        source: the name as it was given: a path, "-", or the caller's name for it.
        channel: "mix", or the channel's number from 0.
        audio: rate, channels and format of the source.
        duration_s: seconds that were decoded.
        tags: the selection, best first.
        scores: (n_classes,) float32 in [0, 1], aggregated over the windows, before any selection.
        embedding: (embedding_size,) float32, mean over the windows; (0,) for an ensemble, unless its members'
            embeddings are concatenated.
        n_windows: number of windows.
        windows: the tags of each window, if requested.
        warnings: one line each: repeated up to the window, truncated, ...
        model: the model that was used.
    """

    source: str
    channel: str
    audio: AudioInfo
    duration_s: float
    tags: tuple[Tag, ...]
    scores: NDArray[np.float32]
    embedding: NDArray[np.float32]
    n_windows: int
    windows: Sequence[WindowTags]
    warnings: tuple[str, ...]
    model: ModelInfo


@dataclass(frozen=True, slots=True)
class Event:
    """One sound with its start and end, merged from overlapping windows.

    Args:
        source: the name as it was given.
        channel: "mix", or the channel's number from 0.
        start_s: where it starts in the source, in seconds.
        end_s: where it ends.
        index: the label's place in the model's outputs.
        label: its name.
        mid: its AudioSet id, "" if it has none.
        score: the highest score on the time line between start and end, in [0, 1].
        mean_score: the mean score on the time line between start and end.
        n_windows: number of windows that overlap it.
    """

    source: str
    channel: str
    start_s: float
    end_s: float
    index: int
    label: str
    mid: str
    score: float
    mean_score: float
    n_windows: int


@dataclass(frozen=True, slots=True)
class SourceEvents:
    """All events of one source, of all its channels.

    Args:
        source: the name as it was given.
        audio: rate, channels and format of the source.
        duration_s: seconds that were decoded.
        events: ordered by start.
        warnings: one line each: repeated up to the window, truncated, ...
        model: the model that was used.
    """

    source: str
    audio: AudioInfo
    duration_s: float
    events: tuple[Event, ...]
    warnings: tuple[str, ...]
    model: ModelInfo


@dataclass(frozen=True, slots=True)
class Failure:
    """A source that failed: the class of the error, its message, hint and exit code."""

    source: str
    error: str
    message: str
    hint: str | None
    exit_code: int

    @classmethod
    def of(cls, source: str, error: DymnError) -> Failure:
        """Describe an error of a source."""
        return cls(source, type(error).__name__, error.message, error.hint, error.exit_code)
