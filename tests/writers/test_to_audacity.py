from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Callable

import pytest
from written import written

from dymn_cli.results import ClipResult, Event, SourceEvents
from dymn_cli.writers.base import WriterOptions
from dymn_cli.writers.to_audacity import AudacityLabels

Options = Callable[..., WriterOptions]

# As Audacity's manual describes the file: start, end, text; tabs between them; points as decimal marks.
LABEL = re.compile(r"(\d+\.\d{6})\t(\d+\.\d{6})\t([^\t]*)")


def audacity(options: WriterOptions, result: ClipResult | SourceEvents) -> str:
    return written(AudacityLabels(io.BytesIO(), options), result).decode("utf-8")


def test_a_line_an_event(found: SourceEvents, options: Options) -> None:
    text = audacity(options(), found)
    assert text == (
        "0.300000\t5400.000000\tSubway, metro, underground\n"
        "3723.000000\t3725.500000\tDog\n"
    )  # fmt: skip
    read = [LABEL.fullmatch(line) for line in text.splitlines()]
    assert [(float(m[1]), float(m[2]), m[3]) for m in read if m] == [
        (0.3, 5400.0, "Subway, metro, underground"),
        (3723.0, 3725.5, "Dog"),
    ]


def test_tags_of_a_clip_and_of_its_windows(clip: ClipResult, options: Options) -> None:
    assert audacity(options(), clip) == (
        "0.000000\t10.300000\tTrain\n"
        "0.000000\t10.300000\tSubway, metro, underground\n"
    )  # fmt: skip
    assert audacity(options(windows=True), clip) == (
        "0.000000\t10.000000\tTrain\n"
        "0.300000\t10.300000\tSubway, metro, underground\n"
    )  # fmt: skip


def test_each_channel_is_named(clip: ClipResult, options: Options) -> None:
    right = dataclasses.replace(clip, channel="1")
    assert "\tTrain (channel 1)\n" in audacity(options(channel="each"), right)
    assert "\tTrain\n" in audacity(options(channel="1"), right)


@pytest.mark.parametrize("label", ["a\tb", "a\nb", "a\r\nb", "a\u2028b", " a  b "])
def test_a_label_is_one_cell_of_one_line(label: str, found: SourceEvents, options: Options) -> None:
    (event, *_) = found.events
    named: tuple[Event, ...] = (dataclasses.replace(event, label=label),)
    lines = audacity(options(), dataclasses.replace(found, events=named)).split("\n")
    assert lines == ["0.300000\t5400.000000\ta b", ""]


def test_nothing_heard_is_an_empty_track(found: SourceEvents, options: Options) -> None:
    assert audacity(options(), dataclasses.replace(found, events=())) == ""
