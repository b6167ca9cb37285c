"""When recordings began, from their names and from what recorders write into them."""

from __future__ import annotations

import struct
from datetime import datetime
from pathlib import Path

import pytest

from dymn_cli.audio.clock import Clock
from dymn_cli.errors import UsageError


def began(name: str | Path, clock: str = "auto") -> str | None:
    start = Clock(clock).start_of(str(name))
    return None if start is None else start.isoformat()


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("20190522_020000.WAV", "2019-05-22T02:00:00"),  # AudioMoth
        ("20190522_020000T.WAV", "2019-05-22T02:00:00"),  # AudioMoth, by a trigger
        ("recordings/SMU01234_20190522_020000.wav", "2019-05-22T02:00:00"),  # Song Meter
        ("PREFIX_0+1_20150403$020000.wav", "2015-04-03T02:00:00"),  # Song Meter 3
        ("2019-05-22_02-00-00.flac", "2019-05-22T02:00:00"),
        ("2019-05-22 02.00.00 garden.mp3", "2019-05-22T02:00:00"),
        ("site_2019-05-22T020000Z.wav", "2019-05-22T02:00:00+00:00"),
        ("site_2019-05-22T020000+0930.wav", "2019-05-22T02:00:00+09:30"),
        ("20190522T020000-0330_rec.wav", "2019-05-22T02:00:00-03:30"),
        ("20190522_020000-20190522_030000.wav", "2019-05-22T02:00:00"),  # from when to when
        ("20190522_020000-0130.wav", "2019-05-22T02:00:00"),  # a number, without the T of ISO 8601
        ("2019-05-22T020000-0001.wav", "2019-05-22T02:00:00"),  # no offset of any zone
    ],
)
def test_names_tell_when_a_recording_began(name: str, start: str) -> None:
    assert began(name) == start


@pytest.mark.parametrize(
    "name",
    [
        "-",
        "clip.wav",
        "20190522.wav",  # a day is no time
        "20191322_020000.wav",  # nor is a thirteenth month
        "20190522_250000.wav",
        "120190522_0200001.wav",  # part of a longer number
        "20190522_030000_20190522_020000.wav",  # which of them?
        "20190522_020000/clip.wav",  # a folder may have many recordings
        "2019-0522_020000.wav",
    ],
)
def test_no_time_is_made_up(name: str) -> None:
    assert began(name) is None


@pytest.mark.parametrize(
    ("clock", "name", "start"),
    [
        ("%d.%m.%Y %Hh%M", "garden 22.05.2019 02h30.wav", "2019-05-22T02:30:00"),
        ("%Y%m%dT%H%M%S%z", "a_20190522T020000-0600.wav", "2019-05-22T02:00:00-06:00"),
        ("%Y-%m-%d/%H%M", "lake/2019-05-22/0230.wav", "2019-05-22T02:30:00"),
        ("%y%j_%I%p", "x_19142_02PM.wav", "2019-05-22T14:00:00"),
        ("%Y%m%d_%H", "99999999_99_20190522_02.wav", "2019-05-22T02:00:00"),
        ("%Y%m%d_%H", "clip.wav", None),
    ],
)
def test_a_pattern_is_found_in_the_name(clock: str, name: str, start: str | None) -> None:
    assert began(name, clock) == start


def test_a_start_is_that_of_the_one_recording() -> None:
    assert began("-", "2019-05-22T02:00:00+02:00") == "2019-05-22T02:00:00+02:00"
    Clock("2019-05-22T02:00").require_fit(["a.wav"])
    with pytest.raises(UsageError, match="when one recording began, and there are 2"):
        Clock("2019-05-22T02:00").require_fit(["a.wav", "b.wav"])


def test_a_pattern_that_no_name_matches_is_refused_with_an_example() -> None:
    Clock("%Y%m%d_%H").require_fit(["a.wav", "20190522_02.wav"])
    Clock("%Y%m%d_%H").require_fit([])
    with pytest.raises(UsageError, match=r"matches no name, for example a\.wav") as error:
        Clock("%Y%m%d_%H").require_fit(["x/a.wav", "b.wav"])
    assert error.value.hint == "%Y%m%d_%H%M%S matches 20190522_020000"


@pytest.mark.parametrize(
    ("clock", "said"),
    [
        ("now", "is no time"),
        ("2019-05-22", "is no time"),
        ("2019-05-32T10:00", "is no time"),
        ("%Y%m%d", "leaves the day or the hour open"),
        ("%H%M%S", "leaves the day or the hour open"),
        ("%Y%m%d_%Q", "no directive %Q"),
        ("%Y%m%d_%H%", "no directive %"),
    ],
)
def test_what_is_no_clock_is_refused(clock: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Clock(clock)


def wav(path: Path, *chunks: tuple[bytes, bytes], behind: bool = False, large: bool = False) -> Path:
    """A hundredth of a second of silence at 48 kHz with chunks before or behind the samples."""
    fmt = (b"fmt ", struct.pack("<HHIIHH", 1, 1, 48_000, 96_000, 2, 16))
    data = (b"data", bytes(960))
    every = [fmt, data, *chunks] if behind else [fmt, *chunks, data]
    if large:
        every.insert(0, (b"ds64", struct.pack("<QQQI", 0, 960, 480, 0)))
    body = b"".join(
        name
        + struct.pack("<I", 0xFFFF_FFFF if large and name == b"data" else len(content))
        + content
        + bytes(len(content) % 2)
        for name, content in every
    )
    path.write_bytes((b"RF64" if large else b"RIFF") + struct.pack("<I", 4 + len(body)) + b"WAVE" + body)
    return path


def bext(day: str, time: str, samples: int = 0) -> tuple[bytes, bytes]:
    return b"bext", b"\0" * 320 + (day + time).encode() + struct.pack("<Q", samples) + bytes(256)


GUANO = b"GUANO|Version: 1.0\nNote: Timestamp: 1999-01-01T00:00\nTimestamp: 2019-05-22T02:00:00.250-06:00\n"
AUDIOMOTH = b"INFOICMT\x80\0\0\0Recorded at 19:20:00 12/05/2023 (UTC%b) by AudioMoth 24F319055FDF2F5B at"
IXML = (
    b"<BWFXML><BEXT><BWF_ORIGINATION_DATE>2019-05-22</BWF_ORIGINATION_DATE>"
    b"<BWF_ORIGINATION_TIME>02:00:00</BWF_ORIGINATION_TIME>"
    b"<BWF_TIME_REFERENCE_LOW>345624000</BWF_TIME_REFERENCE_LOW>"
    b"<BWF_TIME_REFERENCE_HIGH>0</BWF_TIME_REFERENCE_HIGH></BEXT></BWFXML>"
)
TWO_O_CLOCK = 2 * 3600 * 48_000


@pytest.mark.parametrize(
    ("chunk", "start"),
    [
        ((b"guan", GUANO), "2019-05-22T02:00:00.250000-06:00"),
        ((b"guan", b"GUANO|Version: 1.0\r\nTimestamp: 2017-01-31 22:06:17\r\n"), "2017-01-31T22:06:17"),
        ((b"LIST", AUDIOMOTH % b""), "2023-05-12T19:20:00+00:00"),
        ((b"LIST", AUDIOMOTH % b"-3:30"), "2023-05-12T19:20:00-03:30"),
        (bext("2019-05-22", "02:00:00"), "2019-05-22T02:00:00"),
        (bext("2019:05:22", "02-00-00", TWO_O_CLOCK + 24_000), "2019-05-22T02:00:00.500000"),
        (bext("2019-05-22", "02:00:00", 3600 * 48_000), "2019-05-22T02:00:00"),  # a time code of its own
        ((b"iXML", IXML), "2019-05-22T02:00:00.500000"),
        (bext("0000-00-00", "00:00:00"), None),
        (bext("\0" * 10, "\0" * 8), None),
        ((b"bext", b"cut short"), None),
        ((b"guan", b"Timestamp: 2019-05-22\n"), None),
        ((b"guan", b"\xff\xfe Timestamp"), None),
        ((b"iXML", b"<BWF_ORIGINATION_DATE>yesterday"), None),
    ],
)
@pytest.mark.parametrize("place", ["before", "behind", "behind, RF64"])
def test_metadata_tell_when_a_recording_began(
    chunk: tuple[bytes, bytes], start: str | None, place: str, tmp_path: Path
) -> None:
    path = wav(tmp_path / "clip.wav", chunk, behind=place != "before", large=place.endswith("RF64"))
    assert began(path) == start


def test_what_a_recorder_states_goes_before_the_name_and_that_before_an_origination(tmp_path: Path) -> None:
    stated = wav(tmp_path / "20200101_000000.wav", (b"guan", GUANO))
    assert began(stated) == "2019-05-22T02:00:00.250000-06:00"
    made = wav(tmp_path / "20200101_000001.wav", bext("2019-05-22", "02:00:00"))
    assert began(made) == "2020-01-01T00:00:01"
    assert began(stated, "%Y%m%d_%H%M%S") == "2020-01-01T00:00:00"


@pytest.mark.parametrize(
    "data", [b"", b"RIFF", b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEguan\xff\xff\xff\xff", b"fLaC"]
)
def test_files_that_are_no_wav_or_damaged_tell_nothing(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    path.write_bytes(data)
    assert began(path) is None
    assert began(tmp_path / "missing.wav") is None
    assert began("nul\0byte.wav") is None


def test_a_start_has_no_zone_unless_one_is_stated() -> None:
    start = Clock("auto").start_of("20190522_020000.wav")
    assert start == datetime(2019, 5, 22, 2)
    assert start is not None and start.tzinfo is None


def test_a_start_is_that_of_one_recording_only() -> None:
    clock = Clock("2019-05-22T02:00:00")
    assert clock.start_of("a.wav") == datetime(2019, 5, 22, 2)
    assert clock.start_of("b.wav") is None, "names that come from a pipe are not counted beforehand"
    assert clock.start_of("a.wav") == datetime(2019, 5, 22, 2)
