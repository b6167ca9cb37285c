from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from written import written

from dymn_cli.errors import UsageError
from dymn_cli.results import ClipResult, SourceEvents, WindowTags
from dymn_cli.writers.base import WriterOptions
from dymn_cli.writers.to_subtitles import SrtSubtitles, VttSubtitles

Options = Callable[..., WriterOptions]
Kind = type[SrtSubtitles] | type[VttSubtitles]

AWKWARD = "a < b && c --> d <i>\n\nnext"


def subtitles(kind: Kind, options: WriterOptions, result: ClipResult | SourceEvents) -> str:
    return written(kind(io.BytesIO(), options), result).decode("utf-8")


def relabelled(found: SourceEvents, label: str) -> SourceEvents:
    (event, *_) = found.events
    return dataclasses.replace(found, events=(dataclasses.replace(event, label=label),))


def test_srt(found: SourceEvents, options: Options) -> None:
    assert subtitles(SrtSubtitles, options(precision=2), found) == (
        "1\n"
        "00:00:00,300 --> 01:30:00,000\n"
        "Subway, metro, underground 0.60\n"
        "\n"
        "2\n"
        "01:02:03,000 --> 01:02:05,500\n"
        "Dog 0.75\n"
        "\n"
    )


def test_vtt(found: SourceEvents, options: Options) -> None:
    assert subtitles(VttSubtitles, options(precision=2), found) == (
        "WEBVTT\n"
        "\n"
        "00:00:00.300 --> 01:30:00.000\n"
        "Subway, metro, underground 0.60\n"
        "\n"
        "01:02:03.000 --> 01:02:05.500\n"
        "Dog 0.75\n"
    )


def test_tags_of_a_window_share_a_cue(clip: ClipResult, options: Options) -> None:
    silent = WindowTags(10.3, 20.3, ())
    windows = (WindowTags(0.0, 10.0, clip.tags), silent, WindowTags(20.3, 30.3, clip.tags[:1]))
    text = subtitles(SrtSubtitles, options(windows=True), dataclasses.replace(clip, windows=windows))
    assert text == (
        "1\n00:00:00,000 --> 00:00:10,000\nTrain 0.7471\nSubway, metro, underground 0.5991\n\n"
        "2\n00:00:20,300 --> 00:00:30,300\nTrain 0.7471\n\n"
    )


def test_srt_is_read_back_by_a_library(found: SourceEvents, options: Options) -> None:
    srt = pytest.importorskip("srt")
    cues = list(srt.parse(subtitles(SrtSubtitles, options(), found)))
    assert [(cue.start, cue.end) for cue in cues] == [
        (timedelta(seconds=0.3), timedelta(hours=1, minutes=30)),
        (timedelta(hours=1, minutes=2, seconds=3), timedelta(hours=1, minutes=2, seconds=5.5)),
    ]
    assert [cue.index for cue in cues] == [1, 2]
    assert cues[1].content == "Dog 0.7471"
    (odd,) = srt.parse(subtitles(SrtSubtitles, options(), relabelled(found, AWKWARD)))
    assert odd.content == "a < b && c -- > d <i> next 0.5991"


def test_vtt_is_read_back_by_a_library(found: SourceEvents, options: Options, tmp_path: Path) -> None:
    webvtt = pytest.importorskip("webvtt")
    path = tmp_path / "farm.vtt"
    path.write_text(subtitles(VttSubtitles, options(), found), encoding="utf-8")
    cues = list(webvtt.read(path))
    assert [(cue.start_in_seconds, cue.text) for cue in cues] == [
        (0, "Subway, metro, underground 0.5991"),
        (3723, "Dog 0.7471"),
    ]
    assert [(cue.start, cue.end) for cue in cues][1] == ("01:02:03.000", "01:02:05.500")


def test_vtt_is_escaped_as_the_specification_asks(found: SourceEvents, options: Options) -> None:
    lines = subtitles(VttSubtitles, options(), relabelled(found, AWKWARD + "\0")).splitlines()
    assert lines[3:] == ["a &lt; b &amp;&amp; c --&gt; d &lt;i&gt; next\ufffd 0.5991"]


@pytest.mark.parametrize("kind", [SrtSubtitles, VttSubtitles])
def test_a_long_recording_has_more_than_99_hours(kind: Kind, found: SourceEvents, options: Options) -> None:
    (event, *_) = found.events
    late = dataclasses.replace(event, start_s=360_000.0, end_s=360_000.0015)
    text = subtitles(kind, options(), dataclasses.replace(found, events=(late,)))
    assert f"100:00:00{kind.decimal}000 --> 100:00:00{kind.decimal}00" in text


@pytest.mark.parametrize("kind", [SrtSubtitles, VttSubtitles])
def test_there_is_one_line_of_time(kind: Kind, options: Options) -> None:
    with pytest.raises(UsageError, match="one line of time"):
        kind(io.BytesIO(), options(channel="each"))


def test_nothing_heard(found: SourceEvents, options: Options) -> None:
    silent = dataclasses.replace(found, events=())
    assert subtitles(SrtSubtitles, options(), silent) == ""
    assert subtitles(VttSubtitles, options(), silent) == "WEBVTT\n"
