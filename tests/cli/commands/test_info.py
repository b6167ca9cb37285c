"""`dymn info` on the real process."""

from __future__ import annotations

import base64
import json
import math
import os
import struct
import wave
from pathlib import Path

import pytest


def write_wav(path: Path | bytes, *, seconds: float = 1.0, rate_hz: int = 8000, channels: int = 1) -> int:
    """A tone of 16 bits; returns the size of the file."""
    n_frames = round(seconds * rate_hz)
    tone = [round(9000 * math.sin(0.3 * n)) for n in range(n_frames)]
    with open(path, "wb") as file, wave.open(file) as out:  # noqa: PTH123 - the name may be bytes
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(rate_hz)
        out.writeframes(b"".join(struct.pack("<h", value) * channels for value in tone))
    return os.stat(path).st_size  # noqa: PTH116


@pytest.fixture
def tone(dymn):
    """One second of stereo at 8 kHz in the folder where the program runs."""
    write_wav(dymn.cwd / "tone.wav", channels=2)
    return "tone.wav"


@pytest.fixture
def truncated(dymn):
    """A WAV file whose header claims 2 s, of which 0.5 s are there."""
    path = dymn.cwd / "truncated.wav"
    write_wav(path, seconds=2.0)
    path.write_bytes(path.read_bytes()[: 44 + 8000])
    return "truncated.wav"


def test_a_row_a_file(dymn, tone):
    ran = dymn("info", tone)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.rows == [["tone.wav", "WAV", "PCM_16", "8000", "2", "1.0", str(44 + 8000 * 4)]]


def test_a_header_names_the_columns(in_process, tone):
    plain = in_process("info", tone, "--header").rows
    assert plain[0] == ["source", "container", "codec", "rate_hz", "channels", "duration_s", "size_bytes"]
    decoded = in_process("info", tone, "--header", "--decode").rows
    assert decoded[0] == [*plain[0], "decoded_s", "warnings"]
    assert decoded[1] == [*plain[1], "1.0", ""]


def test_headers_are_believed_unless_everything_is_decoded(in_process, truncated):
    assert in_process("info", truncated).rows[0][5] == "2.0"
    ran = in_process("info", truncated, "--decode")
    assert ran.rows[0][5] == "2.0"
    assert ran.rows[0][7] == "0.5"
    assert "2.00 s" in ran.rows[0][8]
    assert ran.returncode == 0
    assert b"truncated" in ran.stderr


def test_standard_input_is_a_source(dymn, tone):
    data = (dymn.cwd / tone).read_bytes()
    rows = dymn("info", "-", "--decode", input=data).rows
    assert rows == [["-", "WAV", "PCM_16", "8000", "2", "1.0", str(len(data)), "1.0", ""]]


def test_standard_input_that_is_a_terminal_is_a_usage_error(dymn):
    ran = dymn.terminal("info", "-", streams="in")
    assert ran.returncode == 2
    assert len(ran.err.splitlines()) == 1


def test_a_pipe_has_no_size(dymn, tone):
    ran = dymn.shell("dymn info <(cat tone.wav)")
    assert ran.returncode == 0
    assert ran.rows[0][1:] == ["WAV", "PCM_16", "8000", "2", "1.0", ""]


def test_a_folder_with_a_broken_file_is_told_to_the_end(in_process, tone):
    (in_process.cwd / "text.wav").write_text("no audio\n")
    write_wav(in_process.cwd / "z.wav")
    ran = in_process("info", ".")
    assert ran.returncode == 6
    assert [Path(row[0]).name for row in ran.rows] == ["tone.wav", "z.wav"]
    assert b"text.wav" in ran.stderr


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_json_has_an_object_for_every_input(in_process, tone, form):
    (in_process.cwd / "text.wav").write_text("no audio\n")
    ran = in_process("info", tone, "text.wav", "--decode", "-f", form)
    assert ran.returncode == 6
    objects = (
        json.loads(ran.stdout) if form == "json" else [json.loads(line) for line in ran.out.splitlines()]
    )
    good, bad = objects
    assert good == {
        "schema": "dymn.info/1",
        "source": "tone.wav",
        "container": "WAV",
        "codec": "PCM_16",
        "rate_hz": 8000,
        "channels": 2,
        "duration_s": 1.0,
        "size_bytes": 32044,
        "decoded_s": 1.0,
        "warnings": [],
    }
    assert (bad["schema"], bad["source"], bad["exit_code"]) == ("dymn.error/1", "text.wav", 3)


def test_nothing_that_can_be_read_is_exit_code_3(in_process):
    ran = in_process("info", "missing.wav")
    assert (ran.returncode, ran.stdout) == (3, b"")
    assert ran.err == "dymn: error: missing.wav: no such file\n"
    assert in_process("info", "missing.wav", "-f", "json").out.startswith("[\n  {")


def test_no_input_is_a_usage_error(in_process):
    ran = in_process("info")
    assert (ran.returncode, ran.stdout) == (2, b"")


def test_names_survive_whatever_they_hold(dymn):
    odd = b"tab\there [1] caf\xe9.wav"
    write_wav(os.fsencode(dymn.cwd) + b"/" + odd)
    assert dymn("info", odd).stdout.startswith(rb"tab\there [1] caf" + b"\xe9.wav\tWAV\t")
    document = json.loads(dymn("info", odd, "-f", "jsonl").stdout)
    assert base64.b64decode(document["source_b64"]) == odd
    assert "[1] caf�.wav" in document["source"]


def test_a_list_of_names(dymn, tone):
    write_wav(dymn.cwd / "with space.wav")
    ran = dymn("info", "--files-from", "-", "-0", input=b"tone.wav\0with space.wav\0")
    assert [row[0] for row in ran.rows] == ["tone.wav", "with space.wav"]


def test_a_terminal_gets_aligned_columns_and_whole_names(dymn, tone, truncated):
    long = f"{'a-long-name-' * 6}end.wav"
    write_wav(dymn.cwd / long, seconds=61.0)
    ran = dymn.terminal("info", tone, truncated, long, "--decode", columns=80, env={"NO_COLOR": "1"})
    assert ran.returncode == 0
    heading, *lines = ran.out.splitlines()
    assert heading.split() == ["name", "format", "rate", "channels", "duration", "size"]
    assert lines[0].split() == ["tone.wav", "WAV", "PCM_16", "8", "kHz", "stereo", "1.0", "s", "32.0", "kB"]
    assert lines[1].startswith("truncated.wav ")
    assert "0.50 s" in lines[1]
    assert lines[2].startswith("  note: truncated or damaged")
    assert lines[3] == long
    assert lines[4].split() == ["WAV", "PCM_16", "8", "kHz", "mono", "1:01", "min", "976", "kB"]
    for n in (0, 1, 4):
        assert len(lines[n]) == len(heading) <= 80
        assert lines[n].index("WAV") == heading.index("format")


def test_only_the_inputs_are_listed_by_a_dry_run(in_process, tone):
    assert in_process("info", ".", "--dry-run").out == "./tone.wav\n"


def test_the_clips_that_ship_are_what_they_are(in_process):
    paths = in_process("demo", "--path").out.splitlines()
    rows = in_process("info", *paths, "--decode").rows
    assert {tuple(row[1:5]) for row in rows} == {("FLAC", "PCM_16", "32000", "1")}
    assert all(row[5] == row[7] for row in rows)
