"""WAV of unknown length in a pipe: rows come while it goes on, and are those that a file gives."""

from __future__ import annotations

import io
import select
import signal
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

RATE_HZ = 44_100  # is resampled
COMMANDS = {
    "tags": ("tag", "-", "--windows", "-k", 2),
    "tags that overlap": ("tag", "-", "--windows", "-k", 2, "--hop", 2.5, "-f", "csv"),
    "events": ("events", "-", "-t", 0.1, "-l", "Siren", "-l", "Guitar"),
    "events of all labels": ("events", "-", "-t", 0.1, "-f", "csv"),
    "events by windows": ("events", "-", "--method", "windows", "-l", "Siren", "--hop", 2.5),
    "specific events": ("events", "-", "-t", 0.1, "--specific"),
    "both channels": ("tag", "-", "--windows", "-k", 1, "--channel", "each"),
    "an object": ("tag", "-", "--windows", "-k", 1, "-f", "jsonl"),
}


@pytest.fixture(scope="module")
def street(repository: Path) -> bytes:
    """47 s in stereo with sirens from 5 and from 25 s, as WAV that does not say how long it is."""
    siren, rate_hz = sf.read(repository / "dymn_cli" / "demo" / "siren.flac", dtype="float32")
    siren = np.repeat(siren, 2)[:: round(2 * rate_hz / RATE_HZ)]  # its pitch does not matter
    samples = (0.001 * np.random.default_rng(0).standard_normal((47 * RATE_HZ, 2))).astype(np.float32)
    for at_s, channel in ((5, 0), (25, 1)):
        samples[at_s * RATE_HZ : at_s * RATE_HZ + len(siren), channel] += siren
    stream = io.BytesIO()
    sf.write(stream, samples, RATE_HZ, format="WAV", subtype="PCM_16")
    data = bytearray(stream.getvalue())
    struct.pack_into("<I", data, data.index(b"data") + 4, 0xFFFF_FFFF)
    return bytes(data)


def head(street: bytes, seconds: float) -> int:
    """Bytes of its first seconds."""
    return street.index(b"data") + 8 + round(seconds * RATE_HZ) * 4


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_pipe_gives_the_bytes_of_a_file(in_process: Any, street: bytes, words: tuple[Any, ...]) -> None:
    (in_process.cwd / "street.wav").write_bytes(street)
    piped = in_process(*words, input=street)
    with (in_process.cwd / "street.wav").open("rb") as stream:
        read = in_process(*words, input=stream)
    assert (piped.returncode, read.returncode) == (0, 0), piped.err + read.err
    assert piped.stdout == read.stdout != b""


@pytest.mark.process
@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        (COMMANDS["tags"], 10.2),
        (COMMANDS["tags that overlap"], 10.2),
        (COMMANDS["events"], 27),
        (COMMANDS["events by windows"], 27),
    ],
)
def test_a_row_appears_while_the_pipe_is_open(
    dymn: Any, street: bytes, words: tuple[Any, ...], seconds: float
) -> None:
    whole = dymn(*words, input=street).stdout
    process = dymn.start(*words, "--no-header", stdin=-1, bufsize=0)
    process.stdin.write(street[: head(street, seconds)])
    assert select.select([process.stdout], [], [], 60)[0], "nothing comes"
    first = process.stdout.readline()
    process.stdin.write(street[head(street, seconds) :])
    process.stdin.close()
    rest = process.stdout.read()
    assert process.wait(60) == 0
    process.stdout.close()
    process.stderr.close()
    assert whole.endswith(first + rest)


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_while_nothing_comes(dymn: Any, street: bytes, number: int) -> None:
    process = dymn.start(*COMMANDS["tags"], stdin=-1, bufsize=0)
    process.stdin.write(street[: head(street, 12)])
    assert process.stdout.readline()
    process.send_signal(number)
    begun = time.monotonic()
    assert process.wait(20) == 128 + number
    assert time.monotonic() - begun < 5
    error = process.stderr.read().decode()
    assert "Traceback" not in error
    assert "Fatal" not in error
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()


def test_what_was_heard_before_a_pipe_grew_too_long_is_there(dymn: Any, street: bytes) -> None:
    ran = dymn(*COMMANDS["tags"], "--max-input", "4M", input=street)
    assert ran.returncode == 3
    assert [row[3] for row in ran.rows] == ["10.0", "10.0", "20.0", "20.0"]
    assert "has more than 4,000,000 bytes" in ran.err
