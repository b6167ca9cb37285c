"""Where live sound comes from.

A source gives `Sound` while it lasts; `Pause` says that what follows is not joined to what came before.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Protocol

from dymn_cli.audio.piped import Pipe, open_piped_raw, open_piped_wav
from dymn_cli.errors import EmptyAudioError, InputError, UnsupportedAudioError, os_error_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from dymn_cli.audio.piped import PipedWavDecoder

__all__ = ["LiveSource", "Pause", "PipeSource", "Sound"]

BLOCK_S = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """Some samples.

    Args:
        samples: (n, channels) float32.
        rate_hz: of them.
        arrived: when they came, by `time.monotonic`.
    """

    samples: NDArray[np.float32]
    rate_hz: int
    arrived: float = field(default_factory=time.monotonic)

    @property
    def length_s(self) -> float:
        """Seconds."""
        return len(self.samples) / self.rate_hz


@dataclass(frozen=True, slots=True)
class Pause:
    """A drop-out: what comes next does not join on.

    Args:
        reason: for people, or "" where it has been told.
    """

    reason: str = ""


class LiveSource(Protocol):
    """Gives sound; `blocks` runs on a thread of its own."""

    name: str

    def blocks(self) -> Iterator[Sound | Pause]:
        """Sound as it comes, to the end of the source.

        Raises:
            InputError: it cannot be read, or is no sound.
        """
        ...

    def close(self) -> None:
        """Let go of it; `blocks` may be waiting on another thread."""
        ...


class PipeSource:
    """A pipe: WAV, whatever length its header claims, or bare samples.

    Args:
        stream: unbuffered, so that a read gives what is there.
        raw: the form of bare samples, such as `s16le:48000:1`; None for WAV.
        name: what errors call it.

    Raises:
        UsageError: a form that there is not.
    """

    def __init__(self, stream: BinaryIO, raw: str | None = None, name: str = "-") -> None:
        self.name = name
        self._pipe = Pipe(stream)
        self._decoder = None if raw is None else open_piped_raw(self._pipe, raw, name)

    def blocks(self) -> Iterator[Sound | Pause]:
        """Sound in blocks of a tenth of a second."""
        decoder = self._decoder or self._open()
        rate_hz = decoder.info.rate_hz
        while len(samples := decoder.read(max(1, round(BLOCK_S * rate_hz)))):
            yield Sound(samples, rate_hz)

    def _open(self) -> PipedWavDecoder:
        try:
            head = self._pipe.peek(1)
            decoder = open_piped_wav(self._pipe, self.name, with_size=True) if head else None
        except (OSError, ValueError) as exc:
            raise InputError(os_error_text(f"{self.name}: cannot be read", exc)) from exc
        if not head:
            raise EmptyAudioError(f"{self.name}: nothing came through the pipe")
        if decoder is None:
            raise UnsupportedAudioError(
                f"{self.name}: no WAV stream of plain samples",
                hint="ffmpeg -i INPUT -f wav - | dymn listen -, or --raw s16le:48000:1 for bare samples",
            )
        return decoder

    def close(self) -> None:
        """Nothing to close: the pipe belongs to the caller."""
