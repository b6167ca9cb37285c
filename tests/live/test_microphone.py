"""Microphones, with a stand-in for sounddevice: what it calls, when, and how it fails."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from dymn_cli.errors import BackendUnavailableError, InputError
from dymn_cli.live import microphone, sources
from dymn_cli.live.microphone import InputDevice, input_devices, microphone_blocks
from dymn_cli.live.sources import Notice, Reconnecting, Sound

DEVICES = (
    {"name": "Loudspeaker", "max_input_channels": 0, "default_samplerate": 48_000.0},
    {"name": "Built-in", "max_input_channels": 1, "default_samplerate": 44_100.0},
    {"name": "USB array", "max_input_channels": 8, "default_samplerate": 16_000.0},
)
Callback = Callable[[np.ndarray, int, object, SimpleNamespace], None]


class PortAudioError(Exception):
    """As of sounddevice."""


class FakeSounddevice(ModuleType):
    """Devices whose n-th opening gives `scripts[n]` blocks, and then is gone.

    A negative number of blocks stops without a word, as a device whose cable is pulled.
    """

    PortAudioError = PortAudioError

    def __init__(self, *scripts: int) -> None:
        super().__init__("sounddevice")
        self.default = SimpleNamespace(device=(1, 0))
        self.scripts = list(scripts)
        self.opened: list[dict[str, object]] = []
        self.n_looks = 0
        self.overflows = False

    def query_devices(self, device: int | str | None = None, kind: str | None = None) -> object:
        if kind is None:
            return DEVICES
        if device is None:
            return DEVICES[1]
        matching = [d for n, d in enumerate(DEVICES) if device == n or str(device) in str(d["name"])]
        if not matching:
            raise ValueError(f"No input device matching {device!r}")
        return matching[0]

    def _terminate(self) -> None:
        self.n_looks += 1

    def _initialize(self) -> None:
        pass

    def InputStream(self, **options: object) -> FakeStream:  # noqa: N802 -- as of sounddevice
        if not self.scripts:
            raise PortAudioError("Error opening InputStream: Device unavailable\nmore")
        self.opened.append(options)
        return FakeStream(self.scripts.pop(0), self.overflows, **options)


class FakeStream:
    """Calls back from a thread of its own, faster than the clock."""

    def __init__(self, n_blocks: int, overflows: bool, **options: object) -> None:
        self.n_blocks, self.overflows, self.options = n_blocks, overflows, options
        self.thread = threading.Thread(target=self.play)

    def play(self) -> None:
        callback: Callback = self.options["callback"]  # type: ignore[assignment]
        block = np.zeros((self.options["blocksize"], self.options["channels"]), np.float32)  # type: ignore[call-overload]
        for n in range(abs(self.n_blocks)):
            block[:] = n / 100  # the same memory for each, as PortAudio does
            callback(block, len(block), None, SimpleNamespace(input_overflow=self.overflows))
        if self.n_blocks >= 0:
            self.options["finished_callback"]()  # type: ignore[operator]

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *reason: object) -> None:
        self.thread.join()


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType | None], None]:
    monkeypatch.setattr(microphone, "GONE_S", 0.2)
    monkeypatch.setattr(sources, "FIRST_WAIT_S", 0.01)

    def put(module: ModuleType | None) -> None:
        monkeypatch.setitem(sys.modules, "sounddevice", module)  # type: ignore[arg-type]

    return put


def test_devices_that_record_are_listed(install) -> None:
    install(FakeSounddevice())
    assert input_devices() == [
        InputDevice(1, "Built-in", 1, 44_100, True),
        InputDevice(2, "USB array", 8, 16_000, False),
    ]


@pytest.mark.parametrize(
    ("device", "channel", "rate_hz", "channels"),
    [(None, "mix", 44_100, 1), ("USB", "mix", 16_000, 2), ("2", "4", 16_000, 5)],
)
def test_a_device_is_opened_as_it_is(install, device, channel: str, rate_hz: int, channels: int) -> None:
    fake = FakeSounddevice(3)
    install(fake)
    blocks = microphone_blocks(device, channel, "mic")
    sounds = [next(blocks) for _ in range(3)]
    assert [sound.rate_hz for sound in sounds] == [rate_hz] * 3
    assert [sound.samples.shape for sound in sounds] == [(rate_hz // 10, channels)] * 3
    assert [float(sound.samples[0, 0]) for sound in sounds] == pytest.approx([0, 0.01, 0.02])
    with pytest.raises(InputError, match="mic: the device gives no sound any more"):
        next(blocks)


def test_a_device_that_falls_silent_is_gone(install) -> None:
    install(FakeSounddevice(-2))
    blocks = microphone_blocks(None, "mix", "mic")
    assert len([next(blocks), next(blocks)]) == 2
    begun = time.monotonic()
    with pytest.raises(InputError, match="no sound any more"):
        next(blocks)
    assert time.monotonic() - begun >= 0.2


def test_a_device_that_vanishes_is_opened_again(install) -> None:
    fake = FakeSounddevice(2, -3)
    install(fake)
    source = Reconnecting("mic", lambda: microphone_blocks(None, "mix", "mic"), give_up_s=0.5)
    items = []
    with pytest.raises(InputError, match=r"given up after 0.5 s"):
        for item in source.blocks():
            items.append(item)  # noqa: PERF402 -- what came before the error counts
    assert sum(isinstance(item, Sound) for item in items) == 5
    texts = [item.text for item in items if isinstance(item, Notice)]
    assert any("connected again" in text for text in texts)
    assert any("Device unavailable" in text for text in texts)
    assert fake.n_looks >= 3  # a device that comes back is a new one to PortAudio


def test_lost_sound_is_told_once(install) -> None:
    fake = FakeSounddevice(5)
    fake.overflows = True
    install(fake)
    items = []
    with pytest.raises(InputError):
        for item in microphone_blocks(None, "mix", "mic"):
            items.append(item)  # noqa: PERF402 -- what came before the error counts
    (notice,) = [item for item in items if isinstance(item, Notice)]
    assert "some sound was lost" in notice.text


def test_no_such_device(install) -> None:
    install(FakeSounddevice(1))
    with pytest.raises(InputError, match="mic:Theremin: No input device") as caught:
        next(microphone_blocks("Theremin", "mix", "mic:Theremin"))
    assert "--list-devices" in str(caught.value.hint)


def test_what_is_missing_is_named(install, monkeypatch: pytest.MonkeyPatch) -> None:
    install(None)
    with pytest.raises(BackendUnavailableError, match="needs sounddevice") as caught:
        input_devices()
    assert "dymn[live]" in str(caught.value.hint)

    class NoPortAudio:
        """As sounddevice, which looks for the library while it is imported."""

        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice")
    monkeypatch.setattr(sys, "meta_path", [NoPortAudio(), *sys.meta_path])
    with pytest.raises(BackendUnavailableError, match="needs PortAudio"):
        input_devices()
