"""Objects of a server on loopback as files: which bytes it is asked for, and what its faults become."""

from __future__ import annotations

import base64
import io
import random
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from stores import Objects

from dymn_cli.audio.decode import open_audio
from dymn_cli.errors import AudioNotFoundError, InputError
from dymn_cli.remote import store, web
from dymn_cli.remote.reading import FIRST, open_uri
from dymn_cli.remote.uri import named

pytest.importorskip("fsspec", reason="the extra `remote`")
pytest.importorskip("aiohttp", reason="the driver for the web")

RATE_HZ = 48_000
DATA = random.Random(1).randbytes(3_000_000)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "WAITS_S", (0.0, 0.0, 0.0))


def wave(seconds: float, form: str = "WAV") -> bytes:
    samples = 0.1 * np.sin(np.arange(int(seconds * RATE_HZ)) * 0.05)
    file = io.BytesIO()
    soundfile.write(file, samples, RATE_HZ, format=form)
    return file.getvalue()


def endless_rf64(n_bytes: int) -> tuple[int, object]:
    """An RF64 of stereo noise that is nowhere as a whole."""
    second = np.random.default_rng(0).integers(-3000, 3000, 2 * RATE_HZ, np.int16).tobytes()
    fmt = struct.pack("<HHIIHH", 1, 2, RATE_HZ, 4 * RATE_HZ, 4, 16)
    head = b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<IQQQI", 28, n_bytes + 72, n_bytes, n_bytes // 4, 0)
    head += b"fmt " + struct.pack("<I", 16) + fmt + b"data\xff\xff\xff\xff"

    def read(start: int, end: int) -> bytes:
        front, at = head[start:end], max(0, start - len(head)) % len(second)
        n_rest = end - start - len(front)
        return front + (second[at:] + second * (n_rest // len(second) + 1))[:n_rest]

    return len(head) + n_bytes, read


# ---------------------------------------------------------------------- which bytes


@pytest.mark.parametrize("gives_ranges", [True, False])
def test_the_same_bytes_as_of_a_file(objects: Objects, gives_ranges: bool) -> None:
    address = objects.put("x.bin", DATA, gives_ranges=gives_ranges)
    with open_uri(address) as file:
        assert file.seekable() == gives_ranges
        if gives_ranges:
            for position, n_bytes in [
                (2_999_000, 5000),
                (0, 44),
                (1_500_000, 300_000),
                (12, 1),
                (0, 3_000_000),
            ]:
                file.seek(position)
                assert file.read(n_bytes) == DATA[position : position + n_bytes]
            assert file.seek(0, io.SEEK_END) == len(DATA)
            assert file.read(1) == b""
            assert file.seek(len(DATA) + 5) == len(DATA) + 5
            assert file.read(1) == b""
            with pytest.raises(OSError, match="before the start"):
                file.seek(-1)
        else:
            assert file.read() == DATA


def test_a_steady_reader_is_given_larger_pieces_ahead(objects: Objects) -> None:
    data = random.Random(2).randbytes(24 << 20)
    with open_uri(objects.put("x.bin", data)) as file:
        assert b"".join(iter(lambda: file.read(1 << 16), b"")) == data
    gets = [wanted for method, _, wanted in objects.asked if method == "GET"]
    assert len(gets) < 14, "the pieces grow"
    assert objects.n_sent < len(data) + FIRST, "nothing is fetched twice"


def test_of_ten_gigabytes_a_header_costs_next_to_nothing(objects: Objects) -> None:
    address = objects.put("night.wav", endless_rf64(10 << 30))
    with open_audio(address) as reader:
        assert reader.info.n_frames == (10 << 30) // 4
    assert objects.n_sent < 2 << 20


def test_of_ten_gigabytes_the_first_seconds_cost_a_few_megabytes(objects: Objects) -> None:
    address = objects.put("night.wav", endless_rf64(10 << 30))
    with open_audio(address) as reader:
        n_frames = 0
        for block in reader.blocks(1 << 16):
            n_frames += len(block)
            if n_frames > 10 * RATE_HZ:  # 1.9 MB
                break
    assert objects.n_sent < 12 << 20


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
@pytest.mark.parametrize("gives_ranges", [True, False])
def test_audio_is_what_it_is_as_a_file(
    objects: Objects, tmp_path: Path, form: str, gives_ranges: bool
) -> None:
    data = wave(8, form)
    (tmp_path / "x").write_bytes(data)
    address = objects.put(f"x.{form.lower()}", data, gives_ranges=gives_ranges)
    with open_audio(address) as remote, open_audio(tmp_path / "x") as local:
        assert remote.name == address
        assert remote.info == local.info
        for one, other in zip(remote.blocks(1 << 14), local.blocks(1 << 14), strict=True):
            np.testing.assert_array_equal(one, other)
        assert remote.warnings == local.warnings == []
    if gives_ranges:
        assert objects.n_sent < 2 * len(data) + FIRST


# ---------------------------------------------------------------------- faults


def test_a_busy_server_is_asked_again(objects: Objects) -> None:
    address = objects.put("x.bin", DATA, statuses=[503, 500, 429])
    with open_uri(address) as file:
        assert file.read() == DATA


def test_an_answer_that_breaks_off_is_asked_for_again(objects: Objects) -> None:
    address = objects.put("x.bin", DATA, breaks_off=3)
    with open_uri(address) as file:
        assert file.read() == DATA


def test_a_server_that_sends_other_ranges_is_read_from_the_beginning(objects: Objects) -> None:
    address = objects.put("x.bin", DATA, shift=1000)
    with open_uri(address) as file:
        assert not file.seekable()
        assert file.read() == DATA


def test_a_server_that_begins_to_send_other_ranges_fails_the_file(objects: Objects) -> None:
    address = objects.put("x.bin", DATA)
    with open_uri(address) as file:
        file.read(1000)
        objects["x.bin"].shift = 1000
        with pytest.raises(InputError, match=r"the server sent bytes from \d+ on, not from \d+ on"):
            file.read()


def test_a_server_that_falls_silent_is_given_up(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "TIMEOUT_S", 0.3)
    web._own_settings.cache_clear()
    address, woken = objects.put("x.bin", DATA), threading.Event()
    objects["x.bin"].stalls = woken
    try:
        with pytest.raises(InputError) as caught, open_uri(address) as file:
            file.read()
    finally:
        woken.set()
        web._own_settings.cache_clear()
    assert caught.value.message == f"{address}: cannot be read: nothing came for 0.3 s"


def test_a_stream_that_breaks_off_is_one_line(objects: Objects) -> None:
    address = objects.put("x.bin", DATA, gives_ranges=False)
    objects["x.bin"].breaks_off = 99
    with pytest.raises(InputError) as caught, open_uri(address) as file:
        file.read()
    assert caught.value.message == f"{address}: cannot be read: the connection broke off"


@pytest.mark.parametrize(
    ("location", "said"),
    [("x.bin", "its redirects do not end"), ("file:///etc/hosts", "it redirects to an address that is not")],
)
def test_redirects_that_lead_nowhere_are_followed_once(objects: Objects, location: str, said: str) -> None:
    address = objects.put("x.bin", DATA, location=location)
    with pytest.raises(InputError, match=said):
        open_uri(address)
    assert len(objects.asked) < 40, "it is not asked for again and again"


def test_a_server_that_stays_busy_is_one_line(objects: Objects) -> None:
    address = objects.put("x.wav", wave(1), statuses=[503] * 99)
    with pytest.raises(InputError) as caught, open_audio(address) as reader:
        list(reader.blocks(1000))
    assert caught.value.message == f"{address}: the server answered with status 503"


def test_a_server_that_fails_in_the_middle_fails_the_file(objects: Objects) -> None:
    address = objects.put("x.wav", wave(60))
    with open_audio(address) as reader:
        blocks = reader.blocks(1 << 14)
        next(blocks)
        objects["x.wav"].statuses = [503] * 99
        with pytest.raises(InputError, match="status 503"):
            list(blocks)


def test_an_object_that_changes_meanwhile_is_an_error(objects: Objects) -> None:
    address = objects.put("x.wav", wave(60))
    with open_audio(address) as reader:
        blocks = reader.blocks(1 << 14)
        next(blocks)
        objects["x.wav"].etag, objects["x.wav"].statuses = '"two"', [500] * 2
        with pytest.raises(InputError, match="it has changed while it was read"):
            list(blocks)


def test_what_is_not_there_is_not_found(objects: Objects) -> None:
    address = objects.put("x.wav", b"").replace("x.wav", "y.wav")
    with pytest.raises(AudioNotFoundError) as caught:
        open_audio(address)
    assert caught.value.message == f"{address}: no such file"
    assert len(objects.asked) < 4, "it is not asked for again and again"


def test_a_server_that_is_not_there_is_one_line() -> None:
    address = "http://127.0.0.1:9/x.wav"
    with pytest.raises(InputError, match="Connect call failed") as caught:
        open_audio(address)
    assert caught.value.message.startswith(f"{address}: cannot be read: ")
    assert "\n" not in caught.value.message


# ---------------------------------------------------------------------- credentials


def test_credentials_open_a_file_and_are_nowhere_else(objects: Objects) -> None:
    login = f"Basic {base64.b64encode(b'me:pass').decode()}"
    objects.put("x.wav", wave(1), login=login)
    address = named(f"http://me:pass@{objects.host}/x.wav?Signature=a%2Fb%3D")
    assert address == f"http://{objects.host}/x.wav"
    with open_audio(address) as reader:
        assert reader.name == address
        list(reader.blocks(1000))
    assert {path for _, path, _ in objects.asked} == {"/x.wav?Signature=a%2Fb%3D"}, "spelt as it was signed"
    wrong = named(f"http://me:wrong@{objects.host}/x.wav")
    with pytest.raises(InputError) as caught:
        open_audio(wrong)
    assert caught.value.message == f"{wrong}: no permission to read it"
    assert "wrong" not in f"{caught.value}{caught.value.hint}"


def test_credentials_that_python_code_gives_are_in_no_result(objects: Objects) -> None:
    address = f"http://{objects.host}/x.wav?sig=abcd"
    objects.put("x.wav", wave(1))
    objects.put("none.wav", b"")
    with open_audio(address) as reader:
        assert reader.name == f"http://{objects.host}/x.wav"
    assert objects.asked[-1][1].endswith("?sig=abcd")
    with pytest.raises(InputError) as caught:
        open_audio(address.replace("x.wav", "none.wav"))
    assert "abcd" not in caught.value.message


def test_a_web_folder_is_listed_by_its_page(objects: Objects) -> None:
    from dymn_cli.audio.discover import find

    for name in ("in/b.wav", "in/a.wav", "in/deep/c.wav", "in/notes.txt", "out/d.wav"):
        address = objects.put(name, wave(0.1))
    top = address.removesuffix("out/d.wav")
    assert [found.name for found in find([f"{top}in/"])] == [
        f"{top}in/{name}" for name in ("a.wav", "b.wav", "deep/c.wav")
    ]
