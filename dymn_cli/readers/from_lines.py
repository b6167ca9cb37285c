"""Formats without columns: Audacity's labels, RTTM, and subtitles."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

from dymn_cli.errors import InputError
from dymn_cli.readers.cells import Scores
from dymn_cli.readers.from_tables import Rows
from dymn_cli.readers.recognise import RTTM_TYPES
from dymn_cli.readers.rows import Row
from dymn_cli.readers.source import ResultFile
from dymn_cli.values import time_of

__all__ = ["audacity_rows", "rttm_rows", "subtitle_rows"]

CHANNEL = re.compile(r" \(channel (\d+)\)$")
TIMES = re.compile(r"\s*(?:(\d+):)?(\d\d):(\d\d)[.,](\d{3})\s+-->\s+(?:(\d+):)?(\d\d):(\d\d)[.,](\d{3})")
SCORED_LABEL = re.compile(r"(.*\S) (0\.\d+|1\.0+)")  # with decimals: "Type 1" is a name
LABEL_AND_SCORE = re.compile(r"(.*\S)\s+(\d(?:\.\d+)?)")
N_RTTM = (9, 10)


def audacity_rows(file: ResultFile, scores: Scores, track: str) -> Rows:
    """The labels of a track, all of the one recording, with scores where these stand behind them."""
    yield Row(track)
    for where, line in file.lines():
        cells = line.split("\t")
        if not line.strip() or cells[0] == "\\":
            continue  # the frequencies of the label before
        if len(cells) < 2:
            raise InputError(f"{where}: no label with begin and end")
        text = "\t".join(cells[2:])
        channel = CHANNEL.search(text)
        label, score = CHANNEL.sub("", text).strip(), ""
        if scored := SCORED_LABEL.fullmatch(label):
            label, score = scored.groups()
        times = time_of(cells[0], where), time_of(cells[1], where)
        if label:
            place = (track, channel[1] if channel else "mix", *times)
            yield Row(*place, label, score=scores.of(score, where)).checked(where)


def rttm_rows(file: ResultFile, scores: Scores, channel_of: Callable[[int], str]) -> Rows:
    """A line an event; lines about a whole recording are left out."""
    for where, line in file.lines():
        words = line.split()
        if not words or words[0].startswith(";"):
            continue
        if len(words) not in N_RTTM or words[0] not in RTTM_TYPES:
            raise InputError(f"{where}: not a line of RTTM: {len(words)} fields of 9 or 10")
        if words[3] == "<NA>":
            continue
        start_s = time_of(words[3], where)
        end_s = round(start_s + time_of(words[4], where), 6)
        score = scores.of("" if words[8] == "<NA>" else words[8], where)
        channel = channel_of(int(words[2]) - 1 if words[2].isdecimal() and int(words[2]) else 0)
        yield Row(_unquoted(words[1]), channel, start_s, end_s, _unquoted(words[7]), score=score).checked(
            where
        )


def _unquoted(text: str) -> str:
    """A field of RTTM with its blanks: `%20` is one."""
    raw = re.sub(
        rb"%([0-9A-Fa-f]{2})",
        lambda found: bytes([int(found[1], 16)]),
        text.encode("utf-8", "surrogateescape"),
    )
    return raw.decode("utf-8", "surrogateescape")


def subtitle_rows(file: ResultFile, scores: Scores, track: str) -> Rows:
    """SubRip and WebVTT: a line of text in a cue is a label, with its score behind it."""
    is_vtt = file.head.lstrip(b"\xef\xbb\xbf").startswith(b"WEBVTT")
    times: tuple[float, float] | None = None
    yield Row(track)
    for where, line in file.lines():
        if "-->" in line:
            found = TIMES.match(line)
            if found is None:
                raise InputError(f"{where}: not a line of times")
            parts = [int(part or 0) for part in found.groups()]
            times = _seconds(parts[:4]), _seconds(parts[4:])
        elif not line.strip():
            times = None
        elif times is not None:
            text = html.unescape(line) if is_vtt else line.replace("-- >", "-->")
            scored = LABEL_AND_SCORE.fullmatch(text.strip())
            label, score = scored.groups() if scored else (text.strip(), "")
            yield Row(track, "mix", *times, label, score=scores.of(score, where)).checked(where)


def _seconds(parts: list[int]) -> float:
    hours, minutes, seconds, milliseconds = parts
    return ((hours * 60 + minutes) * 60 + seconds) + milliseconds / 1000
