from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Callable

import pytest
from rich.cells import cell_len
from rich.console import Console
from written import written

from dymn_cli.results import AudioInfo, ClipResult, Event, Failure, ModelInfo, SourceEvents, Tag, WindowTags
from dymn_cli.writers.base import WriterOptions
from dymn_cli.writers.to_table import TableEvents, TableTags

Options = Callable[..., WriterOptions]


class AsciiFile(io.StringIO):
    encoding = "ascii"


def console(width: int = 80, *, encoding: str = "utf-8", colour: bool = False) -> Console:
    file = AsciiFile() if encoding == "ascii" else io.StringIO()
    return Console(
        file=file,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        no_color=False,
    )


def table(options: WriterOptions, at: Console | None, *results: ClipResult) -> str:
    return written(TableTags(io.BytesIO(), options, at), *results).decode("utf-8")


def test_at_80_columns(clip: ClipResult, failure: Failure, options: Options) -> None:
    short = dataclasses.replace(
        clip,
        source="take [1] [/bold] :bell:.wav",
        channel="0",
        audio=AudioInfo(32_000, 1, 80_000, "WAV", "PCM_16"),
        duration_s=2.5,
        tags=(dataclasses.replace(clip.tags[0], score=1.0), dataclasses.replace(clip.tags[1], score=0.015)),
        warnings=("repeated from 2.5 s up to the window of 10 s",),
    )
    assert table(options(), console(), clip, short) == (
        "metro.wav                                 10.3 s · 44.1 kHz · stereo · dymn04_kd\n"
        "  Train                                ━━━━━━━━━━━━━━━━━━━━━━━━╸          0.7471\n"
        "  Subway, metro, underground           ━━━━━━━━━━━━━━━━━━━━               0.5991\n"
        "\n"
        "take [1] [/bold] :bell:.wav        2.5 s · 32 kHz · mono · channel 0 · dymn04_kd\n"
        "  Train                                ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━  1.0000\n"
        "  Subway, metro, underground           ╸                                  0.0150\n"
        "  note: repeated from 2.5 s up to the window of 10 s\n"
    )


def test_at_40_columns(clip: ClipResult, options: Options) -> None:
    assert table(options(precision=2), console(40), clip) == (
        "metro.wav\n"
        "  10.3 s · 44.1 kHz · stereo · dymn04_kd\n"
        "  Train                 ━━━━━━━╸    0.75\n"
        "  Subway, metro,        ━━━━━━      0.60\n"
        "  underground\n"
    )


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("width", [10, 16, 24, 29])
def test_no_score_is_cut_however_narrow(
    windows: bool, width: int, clip: ClipResult, options: Options
) -> None:
    clip = dataclasses.replace(clip, windows=(WindowTags(0, 10, clip.tags),))
    text = table(options(windows=windows), console(width), clip)
    assert "━" not in text
    assert text.split().count("0.7471") == text.split().count("0.5991") == 1, text


def test_without_unicode(clip: ClipResult, options: Options) -> None:
    named = dataclasses.replace(clip, source="müde 🦉.wav")
    assert table(options(), console(60, encoding="ascii"), named) == (
        "m\\xfcde \\U0001f989.wav\n"
        "  10.3 s | 44.1 kHz | stereo | dymn04_kd\n"
        "  Train                      =================        0.7471\n"
        "  Subway, metro,             ==============           0.5991\n"
        "  underground\n"
    )


def test_a_line_a_window(clip: ClipResult, options: Options) -> None:
    tags = (*clip.tags, Tag(3, 1, "Bird vocalization, bird call, bird song", "/m/020bb7", 0.25))
    windows = (
        WindowTags(0, 10, tags),
        WindowTags(592.5, 602.5, ()),
        WindowTags(3590, 3600.25, clip.tags[:1]),
    )
    long = dataclasses.replace(clip, duration_s=3600.25, windows=windows)
    assert table(options(windows=True), console(), long) == (
        "metro.wav                              1:00:00 h · 44.1 kHz · stereo · dymn04_kd\n"
        "   0:00 – 0:10        Train 0.7471   Subway, metro, underground 0.5991\n"
        "                      Bird vocalization, bird call, bird song 0.2500\n"
        "  59:50 – 1:00:00.25  Train 0.7471\n"
    )


def events_table(options: WriterOptions, at: Console | None, *results: SourceEvents) -> str:
    out = io.BytesIO()
    writer = TableEvents(out, options, at)
    for result in results:
        writer.write(result)
    return out.getvalue().decode("utf-8")


def test_a_line_an_event(found: SourceEvents, options: Options) -> None:
    quiet = dataclasses.replace(found, source="quiet.wav", events=(), duration_s=60, warnings=("cut short",))
    assert events_table(options(precision=2), console(), found, quiet) == (
        "farm.flac                               1:30:00 h · 22.05 kHz · mono · dymn04_kd\n"
        "     0:00.300 – 1:30:00.000  Subway, metro, underground      ━━━━━━━━       0.60\n"
        "  1:02:03.000 – 1:02:05.500  Dog                             ━━━━━━━━━╸     0.75\n"
        "\n"
        "quiet.wav                                1:00 min · 22.05 kHz · mono · dymn04_kd\n"
        "  no event\n"
        "  note: cut short\n"
    )


@pytest.mark.parametrize("width", [24, 40, 59, 60, 80, 120])
def test_events_fit_any_width_and_lose_nothing(width: int, found: SourceEvents, options: Options) -> None:
    stereo: list[Event] = [dataclasses.replace(event, channel="1") for event in found.events]
    text = events_table(options(), console(width), dataclasses.replace(found, events=stereo))
    assert max(map(cell_len, text.splitlines())) <= min(width, 100)
    letters = iter(re.sub(r"[\s━╸]", "", text))
    for part in ("0:00.300–", "Subway,metro,underground", "1:02:0", "Dog", "0.7471"):
        assert all(char in letters for char in part), text


def test_an_empty_selection_says_so(clip: ClipResult, options: Options) -> None:
    assert table(options(), None, dataclasses.replace(clip, tags=())).endswith(
        "\n  no label passed the selection\n"
    )


def test_a_file_name_is_never_an_instruction_and_never_cut(
    awkward_name: str, clip: ClipResult, options: Options
) -> None:
    name = f"recordings/{'deep folder/' * 12}\x1b[2J{awkward_name}"
    heading = table(options(), console(40), dataclasses.replace(clip, source=name)).split("\n")[0]
    escapes = {"\x1b": r"\x1b", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\udcef": r"\xef"}
    escapes |= {"\u2029": r"\u2029", "\x0b": r"\x0b"}
    assert heading == "".join(escapes.get(char, char) for char in name).rstrip()


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("width", [24, 40, 41, 57, 80, 100, 120, 200])
def test_fits_any_width_and_loses_nothing(
    width: int, windows: bool, clip: ClipResult, options: Options
) -> None:
    label = "Bird vocalization, bird call, bird song"
    tags = (*clip.tags, Tag(3, 1, label, "/m/020bb7", 1.0))
    shown = dataclasses.replace(
        clip,
        source="a.wav",
        tags=tags,
        windows=(WindowTags(0, 10, tags),),
        warnings=("a rather long line " * 3,),
    )
    text = table(options(windows=windows), console(width), shown)
    assert max(map(cell_len, text.splitlines())) <= min(width, 100)
    words = re.sub(r"[\s━╸]", "", text)
    for part in ("10.3s", "44.1kHz", "stereo", "dymn04_kd", "0.7471", "0.5991", "1.0000"):
        assert part in words, text
    for letters in ("Subway,metro,underground", label.replace(" ", ""), "arather"):
        rest = iter(words)
        assert all(char in rest for char in letters), text


def test_wide_characters_keep_the_columns(clip: ClipResult, options: Options) -> None:
    named = dataclasses.replace(clip, source="フクロウ🦉.wav")
    heading, train, _ = table(options(), console(), named).splitlines()
    assert cell_len(heading) == cell_len(train) == 80


def test_colours_come_from_the_console(clip: ClipResult, options: Options) -> None:
    coloured = table(options(), console(colour=True), clip)
    assert "\x1b[1mTrain" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == table(options(), console(), clip)


def test_a_model_with_a_strange_name(clip: ClipResult, options: Options) -> None:
    strange = dataclasses.replace(clip, model=ModelInfo("[red]my\nmodel", "", "onnx", "CPU"))
    assert "[red]my\\nmodel" in table(options(), console(), strange)


def test_only_windows_with_tags_have_a_line(options: Callable[..., WriterOptions], clip: ClipResult) -> None:
    nothing = tuple(WindowTags(10.0 * n, 10.0 * n + 10, ()) for n in range(720))
    for windows, n_lines in ((nothing + clip.windows, 3), (nothing, 2)):
        stream = io.BytesIO()
        writer = TableTags(stream, options(windows=True))
        writer.write(dataclasses.replace(clip, windows=windows))
        assert len(stream.getvalue().splitlines()) == n_lines
    assert b"no label passed the selection" in stream.getvalue()
