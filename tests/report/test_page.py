from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from datetime import datetime
from typing import Any

import pytest

from dymn_cli.report.gather import Gathering, Sampling
from dymn_cli.report.model import Decision, LibraryMap, Point, Report, Sound, Span, Tile
from dymn_cli.report.page import write_page
from dymn_cli.results import Failure

DATA = re.compile(rb"<script type=\"application/json\" id=\"data\">(.*?)</script>", re.DOTALL)
NASTY = "</script><script>alert(1)</script>&amp;'\"\u2028.wav"


def data_of(page: bytes) -> dict[str, Any]:
    """What the script of the page reads."""
    found = DATA.search(page)
    assert found is not None
    return json.loads(found[1])


def page_of(report: Report, sounds: list[Sound] | None = None, **changes: str) -> bytes:
    given = sounds or [Sound("a.wav")] * len(report.sources)
    return write_page(report, given, Sampling(), **{"title": "T", "made_by": "M", **changes})


def gathered(*spans: Span, name: str = "a.wav", decisions: tuple[Decision, ...] = ()) -> Report:
    gathering = Gathering(Sampling(), decisions)
    gathering.add(name, spans, duration_s=90.0, rate_hz=48_000, channels=2, notes=["damaged: <b>"])
    return gathering.finish()


def test_whatever_names_hold_is_inert() -> None:
    report = gathered(Span(0, 1, NASTY, "", 0.5), name=NASTY)
    text = page_of(report, title=NASTY, made_by=NASTY).decode()
    assert len(re.findall(r"<script\b", text)) == len(re.findall(r"</script", text)) == 2
    assert "alert(1)</" not in text
    data = data_of(text.encode())
    assert (data["sources"][0]["n"], data["labels"]) == (NASTY, [[NASTY, ""]])
    assert html.unescape(re.search(r"<title>(.*?)</title>", text)[1]) == NASTY


def test_the_policy_lets_nothing_in_but_its_own_style_and_script() -> None:
    text = page_of(gathered()).decode()
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    for kind, tag in (("style-src", "style"), ("script-src", "script")):
        body = re.search(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert rules[kind] == f"'sha256-{digest}'"
    assert "http" not in policy
    assert not re.findall(r'\b(?:src|href)="(?!#)[^"]+"', text), "nothing is loaded"
    assert not re.findall(r'<[^>]+ (?:style|on[a-z]+)="', text), "the policy would refuse it"


def test_media_may_come_from_where_the_recordings_lie_and_from_nowhere_else() -> None:
    text = page_of(gathered(), [Sound("https://h.example:8443/a.wav?take=2")]).decode()
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])
    assert [rule for rule in policy.split("; ") if "http" in rule] == [
        "media-src 'self' file: data: https://h.example:8443"
    ]


def test_the_data_of_events() -> None:
    gathering = Gathering(Sampling())
    gathering.add(
        "20240522_235900.wav", [Span(1.23456, 2, "Owl", "/m/1", 0.123456), Span(0, 5, "Dog", "", None, "1")]
    )
    gathering.add("b.wav", [Span(3, 4, "Owl", "/m/1", 0.9)], duration_s=7.0)
    tile = Tile(0.0, 7.0, b"png")
    data = data_of(page_of(gathering.finish(), [Sound("x"), Sound("y", (tile,), 7.0)]))
    assert data["labels"] == [["Owl", "/m/1"], ["Dog", ""]], "the most frequent first"
    assert data["events"] == {
        "s": [0, 0, 1],
        "a": [0, 1.235, 3],
        "b": [5, 2, 4],
        "l": [1, 0, 0],
        "v": [None, 0.1235, 0.9],
        "c": ["1", "mix", "mix"],
    }
    first, second = data["sources"]
    assert (first["k"], first["d"]) == (datetime(2024, 5, 22, 23, 59).isoformat(), None)
    assert (second["k"], second["d"], second["t"]) == (
        None,
        7.0,
        [[0.0, 7.0, base64.b64encode(b"png").decode()]],
    )


def test_decisions_are_in_it_and_those_that_fit_nothing_too() -> None:
    span = Span(1, 2, "Owl", "/m/1", 0.5)
    fits = Decision(span.key("a.wav"), "relabel", "Dog", "/m/2", 0.5)
    other = Decision(("b.wav", "mix", 1500, 2000, "Owl"), "keep", "Owl")
    data = data_of(page_of(gathered(span, decisions=(fits, other))))
    assert data["decisions"] == [[0, "relabel", "Dog", "/m/2"]]
    assert data["carried"] == [["b.wav", "mix", "1.500", "2.000", "Owl", "", "", "keep", "Owl"]]


def test_the_overview_needs_no_script() -> None:
    gathering = Gathering(Sampling(limit=1))
    gathering.add("a.wav", [Span(0, 90, "Owl", "", 0.5), Span(4000, 4001, "Dog", "", 0.9)], duration_s=7300.0)
    gathering.fail(Failure("x.wav", "InputError", "x.wav: not audio", "try another", 3))
    text = page_of(gathering.finish(), [Sound("", problem="a.wav: no such file")]).decode()
    text = text[: text.index('<script type="application/json"')]
    for part in ("2 h 2 min", "1 min 30 s", ">Owl<", ">Dog<", "not audio; try another", "no such file"):
        assert part in text
    assert "The page holds 1 of 2 events" in text
    assert "Heat map: Time from the start" in text


def test_an_unknown_length_is_no_length() -> None:
    gathering = Gathering(Sampling())
    gathering.add("a.wav", [Span(0, 1, "Owl")])
    assert b"<dt>Audio</dt><dd>unknown</dd>" in page_of(gathering.finish(), [Sound("", problem="gone")])


def test_nothing_found_is_said() -> None:
    assert b"No event was found" in page_of(gathered())


@pytest.mark.parametrize("name", ["\udcff.wav", "caf\udce9.wav"])
def test_names_that_are_no_text(name: str) -> None:
    page = page_of(gathered(Span(0, 1, "Owl"), name=name), title=name)
    assert data_of(page)["sources"][0]["n"] == name
    assert "\ufffd" in page.decode()


def test_equal_input_gives_equal_bytes() -> None:
    report = gathered(Span(0, 1, "Owl", "", 0.5))
    assert page_of(report) == page_of(report)
    assert data_of(page_of(report))["id"] != data_of(page_of(gathered(Span(0, 1.5, "Owl", "", 0.5))))["id"]


def test_points_of_a_map_have_the_label_of_the_best_event_there() -> None:
    report = gathered(Span(0, 5, "Owl", "", 0.4), Span(4, 6, "Dog", "", 0.9))
    points = [Point(0, *times, 0.25, 1.0) for times in ((0.0, 4.0), (0.0, 90.0), (10.0, 20.0))]
    page = write_page(
        report, [Sound()], Sampling(), title="T", made_by="M", library_map=LibraryMap("PCA", tuple(points))
    )
    data = data_of(page)
    names = [None if label is None else data["labels"][label][0] for label in data["map"]["l"]]
    assert names == ["Owl", "Dog", None]
    assert (data["map"]["x"], data["map"]["y"], data["map"]["b"]) == ([0.25] * 3, [1.0] * 3, [4, 90, 20])
    assert b'<canvas id="map"' in page
    assert data_of(page_of(report))["map"] is None
    assert b'<canvas id="map"' not in page_of(report)
