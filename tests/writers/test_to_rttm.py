from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Callable
from urllib.parse import unquote

from written import written

from dymn_cli.labels import Vocabulary
from dymn_cli.results import SourceEvents
from dymn_cli.writers.base import WriterOptions
from dymn_cli.writers.to_rttm import RttmEvents

Options = Callable[..., WriterOptions]


def rttm(options: WriterOptions, *results: SourceEvents) -> str:
    return written(RttmEvents(io.BytesIO(), options), *results).decode("utf-8", "surrogateescape")


def test_a_line_an_event(found: SourceEvents, options: Options) -> None:
    assert rttm(options(), found) == (
        "SPEAKER farm.flac 1 0.300 5399.700 <NA> <NA> subway-metro-underground 0.5991 <NA>\n"
        "SPEAKER farm.flac 1 3723.000 2.500 <NA> <NA> dog 0.7471 <NA>\n"
    )


def test_a_label_is_a_word_that_leads_back_to_it(found: SourceEvents, options: Options) -> None:
    for line in rttm(options(), found).splitlines():
        word = line.split()[7]
        assert Vocabulary.audioset().find(word).name in ("Subway, metro, underground", "Dog")


def test_a_name_is_one_field_and_can_be_read_back(
    found: SourceEvents, options: Options, awkward_name: str
) -> None:
    text = rttm(options(), dataclasses.replace(found, source=awkward_name))
    lines = re.split("\n", text)[:-1]
    assert [len(line.split()) for line in lines] == [10, 10]
    assert unquote(lines[0].split()[1], errors="surrogateescape") == awkward_name


def test_channels_count_from_1(found: SourceEvents, options: Options) -> None:
    second = tuple(dataclasses.replace(event, channel="1") for event in found.events)
    lines = rttm(options(channel="each"), dataclasses.replace(found, events=second)).splitlines()
    assert [line.split()[2] for line in lines] == ["2", "2"]
