"""What travels between the stages, and what the library gives back: frozen dataclasses.

    AudioInfo ──▶ WindowScores (one a window, while streaming) ──▶ ClipResult   (one a source and channel)
                                                                ├▶ SourceEvents (one a source: its Events)
                                                                └▶ Failure      (a source that gave none)

Arrays are NumPy float32; this module itself does not import NumPy.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy as np
    from numpy.typing import NDArray

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
    """What a source says of itself, before anything is decoded.

    Args:
        rate_hz: samples per second of the source.
        channels: number of channels.
        n_frames: samples per channel as the header claims them, or None where it does not know.
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
        """Seconds that the header claims, or None where it does not know."""
        return None if self.n_frames is None else self.n_frames / self.rate_hz


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Who answered: name and SHA-256 of the weights, and what ran them.

    Args:
        name: of the model; of an ensemble, its members' names joined by "+".
        sha256: of its file; of an ensemble, that of its members' hashes, in lower-case hexadecimal, each
            followed by a line feed, in the order given.
        backend: the runtime: "onnx" or "torch"; of an ensemble whose members have several, joined by "+".
        provider: where it runs, in the runtime's own words; likewise.
        members: of an ensemble, in the order given; empty for a single model.
    """

    name: str
    sha256: str
    backend: str
    provider: str
    members: tuple[ModelInfo, ...] = ()

    @classmethod
    def of_ensemble(cls, members: Sequence[ModelInfo]) -> ModelInfo:
        """What is said of several models that answer together."""
        hashes = "".join(f"{member.sha256}\n" for member in members)
        return cls(
            "+".join(member.name for member in members),
            hashlib.sha256(hashes.encode()).hexdigest(),
            _common([member.backend for member in members]),
            _common([member.provider for member in members]),
            tuple(members),
        )


def _common(words: Sequence[str]) -> str:
    """The word that all members share, or those of all of them in order."""
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
    """The model's answer for one window.

    Args:
        start_s: where the window starts in the source, in seconds.
        end_s: where it ends; for a source shorter than the window, the end of the source.
        logits: (n_classes,) float32, before the sigmoid.
        scores: (n_classes,) float32 in [0, 1].
        embedding: (embedding_size,) float32.
        frame_logits: (n_steps, n_classes) float32, where they were asked for: step n is centred on the moment
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
    """The tags of one window that the selection kept."""

    start_s: float
    end_s: float
    tags: tuple[Tag, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ClipResult:
    """All that is known of one channel of one source (the usual channel is "mix").

    Args:
        source: the name as it was given: a path, "-", or what the caller called it.
        channel: "mix", or the channel's number from 0.
        audio: rate, channels and format of the source.
        duration_s: seconds that were decoded.
        tags: the selection, best first.
        scores: (n_classes,) float32 in [0, 1], aggregated over the windows, before any selection.
        embedding: (embedding_size,) float32, mean over the windows; (0,) for an ensemble, unless its members'
            embeddings are concatenated.
        n_windows: how many windows the clip had.
        windows: the tags of each window, where they were asked for.
        warnings: one line each: repeated up to the window, truncated, ...
        model: who answered.
    """

    source: str
    channel: str
    audio: AudioInfo
    duration_s: float
    tags: tuple[Tag, ...]
    scores: NDArray[np.float32]
    embedding: NDArray[np.float32]
    n_windows: int
    windows: Collection[WindowTags]
    warnings: tuple[str, ...]
    model: ModelInfo


@dataclass(frozen=True, slots=True)
class Event:
    """One sound from when to when: what is left of overlapping windows once they are joined.

    Args:
        source: the name as it was given.
        channel: "mix", or the channel's number from 0.
        start_s: where it starts in the source, in seconds.
        end_s: where it ends.
        index: the label's place in the model's outputs.
        label: its name.
        mid: its AudioSet id, "" where it has none.
        score: the highest score on the time line between start and end, in [0, 1].
        mean_score: the mean score on the time line between start and end.
        n_windows: how many windows look at some of it.
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
    """All events of one source, those of all its channels.

    Args:
        source: the name as it was given.
        audio: rate, channels and format of the source.
        duration_s: seconds that were decoded.
        events: in the order of their starts.
        warnings: one line each: repeated up to the window, truncated, ...
        model: who answered.
    """

    source: str
    audio: AudioInfo
    duration_s: float
    events: Collection[Event]
    warnings: tuple[str, ...]
    model: ModelInfo


@dataclass(frozen=True, slots=True)
class Failure:
    """A source that gave no result: the class of the error, its one line, and what to do about it."""

    source: str
    error: str
    message: str
    hint: str | None
    exit_code: int
