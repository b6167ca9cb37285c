"""Where live sound comes from.

A source gives `Sound` while it lasts; `Pause` says that what follows is not joined to what came before, and
`Notice` what people should know.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Protocol

from dymn_cli.audio.piped import Pipe, open_piped_raw, open_piped_wav
from dymn_cli.errors import EmptyAudioError, InputError, UnsupportedAudioError, os_error_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dymn_cli.audio.piped import PipedWavDecoder

__all__ = ["GIVE_UP_S", "LiveSource", "Notice", "Pause", "PipeSource", "Reconnecting", "Sound"]

BLOCK_S = 0.1
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0  # before the next try to connect
GIVE_UP_S = 600.0


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
    """A drop-out: what comes next does not join on. People are told by a `Notice`.

    Args:
        reason: why.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Notice:
    """What people should know of a source.

    Args:
        text: a sentence without its name.
    """

    text: str


class LiveSource(Protocol):
    """Gives sound; `blocks` runs on a thread of its own."""

    name: str

    def blocks(self) -> Iterator[Sound | Pause | Notice]:
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

    Raises:
        UsageError: a form that there is not.
    """

    name = "-"

    def __init__(self, stream: BinaryIO, raw: str | None = None) -> None:
        self._pipe = Pipe(stream)
        self._decoder = None if raw is None else open_piped_raw(self._pipe, raw, self.name)

    def blocks(self) -> Iterator[Sound]:
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


class Reconnecting:
    """A stream or a device that is connected again when it breaks off: after 1 s, 2 s, 4 s, ... 30 s.

    Only the first connection has to succeed at once: what cannot be reached then is likely misspelt.

    Args:
        name: what messages call it.
        connect: opens it and gives its sound; ends in order at the end of a recording, and raises an
            `InputError` where it breaks off.
        give_up_s: seconds without a connection after which it is given up; 0 for at once.
    """

    def __init__(
        self, name: str, connect: Callable[[], Iterator[Sound | Notice]], *, give_up_s: float = GIVE_UP_S
    ) -> None:
        self.name = name
        self._connect, self._give_up_s = connect, give_up_s
        self._closed = threading.Event()

    def blocks(self) -> Iterator[Sound | Pause | Notice]:
        """Sound as it comes, and what happens to the connection."""
        was_heard, lost_at, wait_s = False, None, FIRST_WAIT_S
        while True:
            try:
                for sound in self._connect():
                    if self._closed.is_set():
                        return
                    if lost_at is not None:
                        yield Notice(f"connected again after {time.monotonic() - lost_at:.0f} s")
                    was_heard, lost_at, wait_s = True, None, FIRST_WAIT_S
                    yield sound
            except InputError as error:
                if not was_heard or self._closed.is_set():
                    raise
                reason = error.message.removeprefix(f"{self.name}: ")
                if lost_at is None:
                    lost_at = time.monotonic()
                    yield Pause(reason)
                left_s = lost_at + self._give_up_s - time.monotonic()
                if left_s <= 0:
                    raise InputError(
                        f"{self.name}: {reason}; given up after {self._give_up_s:g} s", hint=error.hint
                    ) from error
                wait_s = min(wait_s, left_s)
                yield Notice(f"{reason}; connecting again in {wait_s:.0f} s")
                if self._closed.wait(wait_s):
                    return
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            else:
                return

    def close(self) -> None:
        """Stop at the next block, or while waiting."""
        self._closed.set()
