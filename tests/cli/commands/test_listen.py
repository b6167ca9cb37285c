from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from loopback import cut, status

RATE_HZ = 32_000
SIREN_S = (12.0, 16.667)
LATENCY_S = 1.5


@pytest.fixture(scope="module")
def street(repository: Path) -> np.ndarray:
    """Half a minute of faint noise with a siren in its middle."""
    siren, _ = sf.read(repository / "dymn_cli" / "demo" / "siren.flac", dtype="float32")
    samples = (0.001 * np.random.default_rng(0).standard_normal(30 * RATE_HZ)).astype(np.float32)
    begin = round(SIREN_S[0] * RATE_HZ)
    samples[begin : begin + len(siren)] += siren
    return samples


def wav(samples: np.ndarray) -> bytes:
    stream = io.BytesIO()
    sf.write(stream, samples, RATE_HZ, format="WAV", subtype="PCM_16")
    return stream.getvalue()


def raw(samples: np.ndarray) -> bytes:
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def test_one_sound_is_one_line(dymn, street: np.ndarray) -> None:
    ran = dymn("listen", "-", "-l", "Siren", input=wav(street))
    assert ran.returncode == 0, ran.err
    ((source, channel, start_s, end_s, label, score, clock),) = ran.rows
    assert (source, channel, label) == ("-", "mix", "Siren")
    assert float(start_s) == pytest.approx(SIREN_S[0], abs=1)
    assert float(end_s) == pytest.approx(SIREN_S[1], abs=1)
    assert float(score) > 0.3
    assert clock.endswith("Z")
    assert datetime.fromisoformat(clock).tzinfo is not None
    assert "heard 30.0 s, 30 windows, 1 event" in ran.err


def test_bare_samples_are_the_same_sound(dymn, street: np.ndarray) -> None:
    ran = dymn("listen", "-", "--raw", "s16le:32000:1", "-l", "Siren", "-f", "jsonl", input=raw(street))
    begin, end = map(json.loads, ran.out.splitlines())
    assert (begin["type"], end["type"]) == ("begin", "end")
    assert begin["number"] == end["number"] == 1
    assert end["schema"] == "dymn.live/1"
    assert (end["label"], end["mid"]) == ("Siren", "/m/03kmc9")
    assert end["end_s"] == pytest.approx(SIREN_S[1], abs=1)
    assert "end_s" not in begin


def test_clips_are_kept_with_what_came_before_and_handed_over(in_process, street: np.ndarray) -> None:
    seen = in_process.cwd / "seen.jsonl"
    script = f"import sys; open({str(seen)!r}, 'ab').write(sys.stdin.buffer.read())"
    command = f'{sys.executable} -c "{script}"'
    ran = in_process("listen", "-", "-l", "Siren", "--save", "clips", "--exec", command, input=wav(street))
    assert ran.returncode == 0, ran.err
    (row,) = ran.rows
    clip = in_process.cwd / row[-1]
    samples, rate_hz = sf.read(clip, dtype="float32")
    assert rate_hz == RATE_HZ
    start = round((float(row[2]) - 1.0) * RATE_HZ)
    around = range(start - 40, start + 40)  # the row is rounded to milliseconds
    assert min(np.abs(samples - street[at : at + len(samples)]).max() for at in around) < 1e-4
    assert len(samples) / RATE_HZ == pytest.approx(float(row[3]) - float(row[2]) + 1.5, abs=0.01)
    (listed,) = csv.DictReader((in_process.cwd / "clips/clips.csv").read_text("utf-8").splitlines())
    assert listed["file"] == clip.name
    handed = json.loads(seen.read_text())
    assert (handed["label"], handed["file"]) == ("Siren", row[-1])
    assert "1 clip, 1 handed over" in ran.err


def test_a_command_that_fails_is_told_and_stops_nothing(in_process, street: np.ndarray) -> None:
    ran = in_process("listen", "-", "-l", "Siren", "--exec", "sh -c 'exit 3'", input=wav(street))
    assert (ran.returncode, len(ran.rows)) == (0, 1)
    assert "--exec sh: exit code 3" in ran.err
    slow = in_process(
        "listen", "-", "-l", "Siren", "--exec", "sleep 50", "--exec-timeout", 0.3, input=wav(street)
    )
    assert slow.returncode == 0
    assert "ended after 0.3 s" in slow.err


def test_tags_of_each_window(in_process, street: np.ndarray) -> None:
    ran = in_process("listen", "-", "--tags", "-k", 1, "--hop", 5, "--header", input=wav(street))
    header, *rows = ran.rows
    assert header == ["source", "channel", "start_s", "end_s", "rank", "label", "score", "clock"]
    assert [row[3] for row in rows] == ["5.0", "10.0", "15.0", "20.0", "25.0", "30.0"]
    assert [row[2] for row in rows] == ["0.0", "0.0", "5.0", "10.0", "15.0", "20.0"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["-"], 3, "no WAV stream"),
        (["-", "--raw", "s16:48000"], 2, "s16le:48000:1"),
        (["-", "--raw", "s16le:0:1"], 2, "the rate must be 1 to"),
        (["clip.wav"], 2, "dymn events"),
        (["mic", "--raw", "s16le:48000:1"], 2, "--raw is for a pipe"),
        (["-", "--reconnect", "-1"], 2, "no time in seconds"),
        (["ftp://example.org/x.mp3"], 2, "neither mic, an address"),
        (["http://127.0.0.1:1/radio"], 3, "http://127.0.0.1:1/radio: connection refused"),
        (["rtsp://me:secret@127.0.0.1:1/x?y=z"], 3, "rtsp://127.0.0.1:1/x: connection refused"),
        (["-", "-l", "Sirne"], 2, "Sirne"),
        (["-", "--hop", "20"], 2, "hop of 20"),
        (["-", "--exec", "no-such-program-here"], 2, "no-such-program-here"),
        (["-", "--tags", "--save", "x"], 2, "--save"),
        (["-", "-f", "csv"], 2, "jsonl"),
    ],
)
def test_what_cannot_be_is_one_line(in_process, arguments: list[str], code: int, text: str) -> None:
    ran = in_process("listen", *arguments, input=b"no sound at all, but some text")
    assert (ran.returncode, ran.out) == (code, ""), ran.err
    assert text in ran.err
    assert len([line for line in ran.err.splitlines() if "error:" in line]) == 1
    assert "heard" not in ran.err


def test_no_stream_is_opened_where_the_network_is_forbidden(in_process) -> None:
    ran = in_process("listen", "http://127.0.0.1:1/radio", env={"DYMN_OFFLINE": "1"})
    assert ran.returncode == 3
    assert "DYMN_OFFLINE is set" in ran.err


def test_a_recording_on_a_server(in_process, street: np.ndarray, web) -> None:
    pytest.importorskip("av")
    stream = io.BytesIO()
    sf.write(stream, street, RATE_HZ, format="FLAC")
    address = web.serve("street.flac", stream.getvalue())
    ran = in_process("listen", address, "-l", "Siren", "-f", "jsonl", env={"no_proxy": "127.0.0.1"})
    assert ran.returncode == 0, ran.err
    begin, end = map(json.loads, ran.out.splitlines())
    assert end["source"] == address
    assert (begin["type"], end["end_s"]) == ("begin", pytest.approx(SIREN_S[1], abs=1))


def test_a_stream_that_breaks_off_is_connected_again(in_process, street: np.ndarray, web) -> None:
    pytest.importorskip("av")
    stream = io.BytesIO()
    sf.write(stream, street, RATE_HZ, format="FLAC")
    data = stream.getvalue()
    address = web.serve("street.flac", data, cut(len(data) * 9 // 10), status(503))
    ran = in_process("listen", address, "-l", "Siren", "-f", "jsonl", env={"no_proxy": "127.0.0.1"})
    assert ran.returncode == 0, ran.err
    lines = list(map(json.loads, ran.out.splitlines()))
    assert [line["type"] for line in lines] == ["begin", "end", "dropout", "begin", "end"]
    assert lines[3]["start_s"] - lines[2]["at_s"] == pytest.approx(SIREN_S[0], abs=1)
    said = [line for line in ran.err.splitlines() if address in line]
    assert len(said) == 3, ran.err
    assert "the connection broke off; connecting again in 1 s" in said[0]
    assert "connecting again in 2 s" in said[1]
    assert "connected again after" in said[2]
    assert "1 drop-out" in ran.err


SOUNDDEVICE = """
import threading, types
import numpy, soundfile

class PortAudioError(Exception): pass
default = types.SimpleNamespace(device=(0, 0))
DEVICE = {"name": "A microphone", "max_input_channels": 1, "default_samplerate": 32000.0}
_terminate = _initialize = lambda: None
left = [soundfile.read("street.wav", dtype="float32", always_2d=True)[0]]

def query_devices(device=None, kind=None):
    return DEVICE if kind else [DEVICE]

class InputStream:
    def __init__(self, callback, finished_callback, blocksize, **options):
        if not left:
            raise PortAudioError("Device unavailable")
        def play():
            samples = left.pop()
            for at in range(0, len(samples), blocksize):
                callback(samples[at : at + blocksize], 0, None, types.SimpleNamespace(input_overflow=False))
            finished_callback()
        self.thread = threading.Thread(target=play)
    def __enter__(self):
        self.thread.start()
    def __exit__(self, *reason):
        self.thread.join()
"""


@pytest.fixture
def with_microphone(dymn, street: np.ndarray) -> dict[str, str]:
    """The environment of a run in which sounddevice records the street, and then the device is gone."""
    (dymn.cwd / "street.wav").write_bytes(wav(street))
    (dymn.cwd / "devices").mkdir()
    (dymn.cwd / "devices" / "sounddevice.py").write_text(SOUNDDEVICE)
    return {"PYTHONPATH": os.pathsep.join((str(dymn.cwd / "devices"), dymn.env["PYTHONPATH"]))}


def test_the_microphone_is_the_source_unless_another_is_named(dymn, with_microphone) -> None:
    ran = dymn("listen", "-l", "Siren", "--reconnect", 0, env=with_microphone)
    assert ran.returncode == 3, ran.err
    ((source, _, start_s, *_),) = ran.rows
    assert source == "mic"
    assert float(start_s) == pytest.approx(SIREN_S[0], abs=1)
    assert "mic: the device gives no sound any more; given up after 0 s" in ran.err


def test_microphones_are_listed(dymn, with_microphone) -> None:
    ran = dymn("listen", "--list-devices", env=with_microphone)
    assert (ran.returncode, ran.rows) == (0, [["0", "A microphone", "1", "32000", "default"]])


@pytest.mark.process
def test_a_table_on_a_terminal(dymn, street: np.ndarray) -> None:
    (dymn.cwd / "street.wav").write_bytes(wav(street[: 14 * RATE_HZ]))
    pty = pytest.importorskip("pty")
    with (dymn.cwd / "street.wav").open("rb") as stream:
        ours, theirs = pty.openpty()
        process = dymn.start("listen", "-", stdin=stream, stdout=theirs, stderr=subprocess.PIPE)
        os.close(theirs)
        text = b""
        try:
            while data := os.read(ours, 65536):
                text += data
        except OSError:  # its other end is closed
            pass
        os.close(ours)
        process.communicate()
    assert process.returncode == 0
    assert b"Siren" in text
    assert b"\xe2\x94\x81" in text


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(dymn, street: np.ndarray, number: int) -> None:
    """While nothing comes through the pipe: the event that is under way is told, and what was heard."""
    process = dymn.start(
        "listen", "-", "--raw", "s16le:32000:1", "-l", "Siren", "-f", "jsonl", "--save", "clips", stdin=-1
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    process.stdin.write(raw(street[9 * RATE_HZ : 15 * RATE_HZ]))
    process.stdin.flush()
    first = process.stdout.readline()
    assert json.loads(first)["type"] == "begin"
    process.send_signal(number)
    begun = time.monotonic()
    rest = process.stdout.read().splitlines()
    error = process.stderr.read().decode()
    assert process.wait(10) == 128 + number
    assert time.monotonic() - begun < 5
    (end,) = map(json.loads, rest)
    assert end["type"] == "end"
    assert (dymn.cwd / end["file"]).is_file()
    assert "1 event, 1 clip" in error
    assert "Traceback" not in error
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()


@pytest.mark.process
def test_a_sound_is_a_line_within_a_second_and_a_half(dymn, street: np.ndarray) -> None:
    """Paced as a microphone would: from the moment it sounds to the line that says so."""
    process = dymn.start(
        "listen", "-", "--raw", "s16le:32000:1", "-l", "Siren", "-f", "jsonl", "--progress", "never",
        stdin=-1,
    )  # fmt: skip
    samples = street[9 * RATE_HZ : 20 * RATE_HZ]
    assert process.stdin is not None and process.stdout is not None
    began: list[float] = []

    def feed() -> None:
        stream = process.stdin
        assert stream is not None
        start = time.monotonic() + 0.1
        began.append(start)
        for n in range(0, len(samples), 1600):
            time.sleep(max(0.0, start + (n + 1600) / RATE_HZ - time.monotonic()))
            stream.write(raw(samples[n : n + 1600]))
            stream.flush()
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)

    time.sleep(3)  # the model is loaded meanwhile
    feeder = threading.Thread(target=feed)
    feeder.start()
    lines = [(time.monotonic(), json.loads(line)) for line in process.stdout]
    feeder.join()
    process.stdin.close()
    assert process.wait(10) == 130
    error = process.stderr.read().decode() if process.stderr else ""
    assert "heard 11.0 s" in error
    assert "1 event" in error
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    (at, begin), (ended_at, end) = lines
    assert (begin["type"], end["type"]) == ("begin", "end")
    latency_s = at - (began[0] + SIREN_S[0] - 9)
    print(f"latency: {latency_s:.2f} s to begin, {ended_at - (began[0] + SIREN_S[1] - 9):.2f} s to end")
    assert 0 < latency_s < LATENCY_S
