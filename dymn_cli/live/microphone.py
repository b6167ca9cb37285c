"""Microphones and other devices that record, through sounddevice (PortAudio): extra `live`."""

from __future__ import annotations

import contextlib
import queue
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dymn_cli.errors import BackendUnavailableError, InputError, first_line
from dymn_cli.live.sources import BLOCK_S, Notice, Sound

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["InputDevice", "input_devices", "microphone_blocks"]

GONE_S = 3.0  # a device that is there gives sound all the time
MAX_WAITING_S = 60.0
TELL_LOST_S = 60.0


@dataclass(frozen=True, slots=True)
class InputDevice:
    """A device that records.

    Args:
        number: by which it can be chosen; it may change when devices come and go.
        name: a part of it chooses it, too.
        channels: how many it has.
        rate_hz: its own rate.
        is_default: whether it is taken unless another is asked for.
    """

    number: int
    name: str
    channels: int
    rate_hz: int
    is_default: bool


def input_devices() -> list[InputDevice]:
    """All devices that record.

    Raises:
        BackendUnavailableError: sounddevice or PortAudio is not installed.
        InputError: PortAudio fails.
    """
    library = _library()
    with _named_errors(library, "devices"):
        default = library.default.device[0]
        return [
            InputDevice(
                number,
                found["name"],
                found["max_input_channels"],
                round(found["default_samplerate"]),
                number == default,
            )
            for number, found in enumerate(library.query_devices())
            if found["max_input_channels"] > 0
        ]


def microphone_blocks(device: str | None, channel: str, name: str) -> Iterator[Sound | Notice]:
    """What a device records, at its own rate, until it is gone.

    Args:
        device: number or part of a name; None for the default.
        channel: "mix" takes two channels at most, a number as many as that needs.
        name: what errors call it.

    Raises:
        BackendUnavailableError: sounddevice or PortAudio is not installed.
        InputError: there is no such device, it cannot be opened, or is gone.
    """
    library = _library()
    with _named_errors(library, name):
        _look_again(library)
        chosen = int(device) if device is not None and device.isdecimal() else device
        found = library.query_devices(chosen, "input")
        rate_hz = round(found["default_samplerate"])
        wanted = int(channel) + 1 if channel.isdecimal() else 2
        recording = _Recording(rate_hz)
        stream = library.InputStream(
            device=chosen,
            samplerate=rate_hz,
            channels=min(wanted, found["max_input_channels"]),
            blocksize=round(BLOCK_S * rate_hz),
            dtype="float32",
            callback=recording.take,
            finished_callback=recording.end,
        )
        with stream:
            yield from recording.blocks(name)


class _Recording:
    """Hands over what the device's own thread records."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._waiting: queue.Queue[Sound | None] = queue.Queue(round(MAX_WAITING_S / BLOCK_S))
        self._has_lost = False

    def take(self, samples: NDArray[np.float32], n_frames: int, clock: object, status: Any) -> None:
        """A block is there: PortAudio's callback."""
        self._has_lost |= bool(status.input_overflow)
        try:
            self._waiting.put_nowait(Sound(samples.copy(), self._rate_hz))
        except queue.Full:
            self._has_lost = True

    def end(self) -> None:
        """The stream has stopped: PortAudio's callback."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)

    def blocks(self, name: str) -> Iterator[Sound | Notice]:
        """What comes, until nothing comes any more."""
        told = -TELL_LOST_S
        while True:
            try:
                sound = self._waiting.get(timeout=GONE_S)
            except queue.Empty:
                sound = None
            if sound is None:
                raise InputError(f"{name}: the device gives no sound any more")
            yield sound
            if self._has_lost and time.monotonic() - told >= TELL_LOST_S:
                told, self._has_lost = time.monotonic(), False
                yield Notice("some sound was lost: the machine is too busy to take it from the device")


def _library() -> Any:
    try:
        import sounddevice
    except ImportError as exc:
        raise BackendUnavailableError(
            "a microphone needs sounddevice", hint="pip install 'dymn[live]'"
        ) from exc
    except OSError as exc:
        raise BackendUnavailableError(
            "a microphone needs PortAudio, which is not installed",
            hint="apt install libportaudio2, or a pipe: arecord -t raw ... | dymn listen - --raw ...",
        ) from exc
    return sounddevice


def _look_again(library: Any) -> None:
    """Let PortAudio see what has been plugged in since it was loaded; there is no public name for it."""
    library._terminate()
    library._initialize()


@contextlib.contextmanager
def _named_errors(library: Any, name: str) -> Iterator[None]:
    try:
        yield
    except (library.PortAudioError, ValueError) as exc:  # ValueError: no such device, or several
        raise InputError(f"{name}: {first_line(exc)}", hint="dymn listen --list-devices") from exc
