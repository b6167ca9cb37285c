"""`dymn plot`: pictures that open, are the same twice, and errors that say what to do."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib")

CAT, HORSE, DUCK = 81, 87, 104  # as AudioSet numbers them
MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<?xml", "pdf": b"%PDF"}

Record = Callable[..., str]
Fake = Callable[..., Any]


@pytest.fixture
def night(record: Record) -> str:
    return record("night.wav", (CAT, 10), (HORSE, 8), (DUCK, 7))


@pytest.mark.parametrize("kind", MAGIC)
def test_a_picture_has_the_same_bytes_each_time(kind: str, fake: Fake, night: str) -> None:
    for name in ("a", "b"):
        ran = fake("plot", night, "-o", f"{name}.{kind}", "-t", 0.3)
        assert (ran.returncode, ran.out, ran.err) == (0, "", "")
    data = Path(f"a.{kind}").read_bytes()
    assert data.startswith(MAGIC[kind])
    assert data == Path(f"b.{kind}").read_bytes()
    assert not re.search(rb"20[2-9]\d-\d\d-\d\d", data)


def test_it_shows_the_events_that_are_asked_for(fake: Fake, night: str) -> None:
    from matplotlib.figure import Figure

    shown: list[str] = []
    original = Figure.savefig

    def spy(self: Figure, *args: Any, **settings: Any) -> None:
        shown.extend(text.get_text() for axes in self.axes for text in axes.get_yticklabels())
        shown.extend(
            text.get_text() for axes in self.axes if axes.get_legend() for text in axes.get_legend().texts
        )
        original(self, *args, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", spy)
        assert fake("plot", night, "-o", "a.png", "-l", "Cat", "-l", "Duck").returncode == 0
        assert {"Cat", "Duck"} < set(shown)
        assert "Horse" not in shown
        shown.clear()
        assert fake("plot", night, "-o", "b.png", "--end", 9, "-l", "Cat", "-l", "Duck").returncode == 0
        assert "Cat" in shown
        assert "Duck" not in shown
        shown.clear()
        assert fake("plot", night, "-o", "c.png", "--top", 3).returncode == 0
        assert {"Cat", "Horse", "Duck"} < set(shown)
        shown.clear()
        assert fake("events", night, "-o", "events.csv").returncode == 0
        ran = fake("plot", night, "-o", "d.png", "--events", "events.csv", "-l", "Horse")
        assert (ran.returncode, ran.err) == (0, "")
        assert "Horse" in shown
        assert "Cat" not in shown


def test_a_stretch_without_events_is_drawn_and_said(fake: Fake, night: str) -> None:
    ran = fake("plot", night, "-o", "a.png", "-l", "Siren")
    assert ran.returncode == 0
    assert "no event in this stretch" in ran.err
    assert Path("a.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ((), 2, "no name for the picture; -o picture.png"),
        (("-o", "a.bmp"), 2, "a.bmp: not a kind of picture; use a name ending in .png, .svg, .pdf"),
        (("-o", "a.png", "--start", 9, "--end", 8), 2, "no stretch from 9 s to 8 s"),
        (("-o", "a.png", "--start", 99), 3, "it ends at 25.0 s, before --start 99"),
        (("-o", "a.png", "--top", 0), 2, "--top 0 is not from 1 to 14 curves"),
        (("-o", "a.png", "--top", 3, "--events", "e.csv"), 2, "--top draws scores"),
        (("-o", "a.png", "--channel", "each"), 2, "a picture shows one channel"),
        (("-o", "a.png", "--dpi", 5), 2, "--dpi 5 is not from 20 to 1200"),
        (("-o", "a.png", "-l", "Katze"), 2, "unknown label 'Katze'"),
        (("-o", "a.png", "--events", "missing.csv"), 3, "missing.csv: no such file"),
        (("-o", "nowhere/a.png"), 5, "nowhere"),
    ],
)
def test_what_goes_wrong_is_said_in_a_line(
    options: tuple[object, ...], code: int, said: str, fake: Fake, night: str
) -> None:
    ran = fake("plot", night, *options)
    assert (ran.returncode, ran.out) == (code, "")
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert not Path("a.png").exists()


def test_a_result_of_other_recordings_or_of_tags_is_refused(fake: Fake, night: str, record: Record) -> None:
    other = record("day.wav", (CAT, 10))
    fake("events", other, "-o", "day.csv")
    ran = fake("plot", night, "-o", "a.png", "--events", "day.csv")
    assert (ran.returncode, ran.err) == (
        3,
        "dymn: error: day.csv: no recording is called night.wav; it has day.wav\n",
    )
    fake("tag", night, "-o", "tags.csv")
    ran = fake("plot", night, "-o", "a.png", "--events", "tags.csv")
    assert ran.returncode == 3
    assert "tags.csv: has tags, not events; dymn events makes them" in ran.err


def test_an_existing_picture_is_not_replaced_before_it_is_asked_for(fake: Fake, night: str) -> None:
    Path("a.png").write_bytes(b"mine")
    assert fake("plot", night, "-o", "a.png").returncode == 5
    assert Path("a.png").read_bytes() == b"mine"
    assert fake("plot", night, "-o", "a.png", "--force").returncode == 0


def test_without_matplotlib_it_says_how_to_get_it(
    fake: Fake, night: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ran = fake("plot", night, "-o", "a.png")
    assert ran.returncode == 4
    assert "pip install 'dymn[plot]'" in ran.err
