"""Streams of a server on loopback, and what happens when they break off."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from quiet_server import QuietHandler, QuietServer

from dymn_cli.errors import InputError
from dymn_cli.live import sources
from dymn_cli.live.sources import Notice, Pause, Reconnecting, Sound

pytest.importorskip("av")

from dymn_cli.audio.network import stream_blocks

Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def mp3(seconds: float, rate_hz: int = 44_100, channels: int = 1) -> bytes:
    tone = 0.5 * np.sin(np.arange(round(seconds * rate_hz)) * 2 * np.pi * 440 / rate_hz)
    stream = io.BytesIO()
    sf.write(stream, np.tile(tone[:, np.newaxis], (1, channels)), rate_hz, format="MP3")
    return stream.getvalue()


@contextmanager
def radio(*answers: Answer) -> Iterator[str]:
    """The address of a server whose requests get these answers, one after the other, and then none."""
    left = list(answers)

    class Handler(QuietHandler, BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if left:
                left.pop(0)(self)

    server = QuietServer(Handler)
    with server.running():
        yield f"http://{server.host}/radio"


def sends(*data: bytes, length: int | None = None, stall_s: float = 0.0) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        if length is not None:
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        handler.wfile.write(b"".join(data))
        handler.wfile.flush()
        time.sleep(stall_s)

    return answer


def lengths(address: str, **options: float) -> dict[tuple[int, int], float]:
    """Seconds of sound of each rate and number of channels, until the connection breaks off or ends."""
    found: dict[tuple[int, int], float] = {}
    for rate_hz, samples in stream_blocks(address, "radio", **options):
        form = rate_hz, samples.shape[1]
        found[form] = found.get(form, 0.0) + len(samples) / rate_hz
    return found


def test_a_recording_on_a_server_ends_in_order() -> None:
    data = mp3(2)
    with radio(sends(data, length=len(data))) as address:
        assert lengths(address) == {(44_100, 1): pytest.approx(2, abs=0.1)}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda handler: handler.send_error(404), "radio: server returned 404 not found"),
        (sends(b"<html>closed for today</html>" * 100), "radio: cannot be reached, or sends no sound"),
        (sends(mp3(0.5), stall_s=1.5), "radio: no answer for 0.5 s"),
        (sends(mp3(0.5)), "radio: the connection broke off"),
        (sends(mp3(0.5), length=1_000_000), "radio: the connection broke off"),
    ],
)
def test_what_breaks_off_says_why(answer: Answer, text: str) -> None:
    with radio(answer) as address, pytest.raises(InputError, match=text):
        lengths(address, timeout_s=0.5)


def test_nobody_there_says_so() -> None:
    with radio() as address:
        pass
    with pytest.raises(InputError, match="radio: connection refused"):
        lengths(address)


def test_no_file_of_this_machine_is_opened(tmp_path: Path) -> None:
    (tmp_path / "own.mp3").write_bytes(mp3(2))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{tmp_path}/own.mp3\n#EXT-X-ENDLIST\n"
    with radio(sends(playlist.encode())) as address, pytest.raises(InputError):
        lengths(address)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "FIRST_WAIT_S", 0.05)
    monkeypatch.setattr(sources, "LONGEST_WAIT_S", 0.1)


def reconnecting(address: str, give_up_s: float) -> Reconnecting:
    def connect() -> Iterator[Sound]:
        for rate_hz, samples in stream_blocks(address, "radio", 20.0):
            yield Sound(samples, rate_hz)

    return Reconnecting("radio", connect, give_up_s=give_up_s)


@pytest.mark.usefixtures("no_waiting")
def test_a_stream_that_breaks_off_is_connected_again_and_its_rate_may_change() -> None:
    def unavailable(handler: BaseHTTPRequestHandler) -> None:
        handler.send_error(503)

    recording = mp3(2, 48_000, channels=2)
    answers = sends(mp3(1)), unavailable, unavailable, sends(recording, length=len(recording))
    with radio(*answers) as address:
        items = list(reconnecting(address, 10).blocks())
    heard = [item.rate_hz for item in items if isinstance(item, Sound)]
    assert heard[0] == 44_100
    assert heard[-1] == 48_000
    others = [item for item in items if not isinstance(item, Sound)]
    assert [type(item) for item in others] == [Pause, Notice, Notice, Notice, Notice]
    texts = [item.text for item in others if isinstance(item, Notice)]
    assert texts[0].startswith("the connection broke off; connecting again in")
    assert "server returned 5" in texts[1]
    assert texts[3].startswith("connected again after")


@pytest.mark.usefixtures("no_waiting")
def test_a_server_that_stays_away_is_given_up() -> None:
    with radio(sends(mp3(1))) as address:
        blocks = reconnecting(address, 0.3).blocks()
        assert isinstance(next(blocks), Sound)
        with pytest.raises(InputError, match=r"radio: .*; given up after 0.3 s"):
            list(blocks)


def test_the_first_connection_has_to_succeed() -> None:
    with radio() as address:
        pass
    with pytest.raises(InputError, match="connection refused"):
        list(reconnecting(address, 600).blocks())


def test_closing_ends_the_wait_for_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "FIRST_WAIT_S", 30.0)
    with radio(sends(mp3(1))) as address:
        source = reconnecting(address, 600)
        blocks = source.blocks()
        while not isinstance(next(blocks), Notice):
            pass
        source.close()
        begun = time.monotonic()
        assert list(blocks) == []
        assert time.monotonic() - begun < 20.0
