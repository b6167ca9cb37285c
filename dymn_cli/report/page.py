"""The page itself: one HTML file with its style, its script and its data, that loads nothing.

The overview is written by the template and needs no script; time lines and review read the data, which is
JSON in an inert block. A policy in the page forbids everything else: no script and no style but these two, no
connections, and audio only from beside the page or within it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dymn_cli._version import __version__
from dymn_cli.errors import with_hint
from dymn_cli.labels import Vocabulary
from dymn_cli.report.decisions import COLUMNS
from dymn_cli.report.gather import Sampling
from dymn_cli.report.locate import web_origin
from dymn_cli.report.model import Decision, HeatMap, LibraryMap, Point, Report, Sound, Source, Tile
from dymn_cli.writers.spelling import readable

__all__ = ["write_page"]

STATIC = Path(__file__).with_name("static")
SCRIPTS = ("state.js", "draw.js", "time_lines.js", "player.js", "review.js", "map.js", "main.js")
SHADES = 5
CHARACTERS = 80  # above the columns of a heat map


@dataclass(frozen=True, slots=True)
class _Columns:
    """The events of all sources, a list a column, and where each is."""

    columns: dict[str, list[Any]]
    labels: list[tuple[str, str]]
    numbers: dict[object, int]


def write_page(
    report: Report,
    sounds: Sequence[Sound],
    sampling: Sampling,
    *,
    title: str,
    made_by: str,
    notices: Iterable[str] = (),
    library_map: LibraryMap | None = None,
) -> bytes:
    """The whole page; equal arguments give equal bytes.

    Args:
        report: what is shown.
        sounds: of each of its sources.
        sampling: the order of the review.
        title: of the page.
        made_by: the model and how it was asked, in a line.
        notices: what else is worth knowing, a sentence each.
        library_map: where the recordings lie among each other; None for no map.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    style = _text("page.css")
    script = '\n"use strict";\n(() => {\n' + "".join(map(_text, SCRIPTS)) + "})();\n"
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    problems = list(_problems(report, sounds))
    lengths = [_length(source, sound) for source, sound in zip(report.sources, sounds, strict=True)]
    page = environment.from_string(_text("page.html")).render(
        title=readable(title),
        made_by=readable(made_by),
        version=__version__,
        policy=_policy(style, script, sorted({web_origin(sound.href) for sound in sounds} - {""})),
        style=Markup(style),  # ours, from the package
        script=Markup(script),  # likewise
        data=Markup(_json(_data(report, sounds, lengths, sampling, library_map))),  # has no "<" and no "&"
        overview=report.overview,
        library_map=library_map,
        length=_span(sum(filter(None, lengths))) if any(lengths) else "unknown",
        span=_span,
        shade=_shade,
        every=_every,
        notices=[readable(one) for one in (*notices, report.left_out) if one],
        problems=problems,
        n_problems=len(problems),
    )
    return page.encode("utf-8")


def _text(name: str) -> str:
    return STATIC.joinpath(name).read_text("utf-8")


def _policy(style: str, script: str, origins: Sequence[str]) -> str:
    """Content Security Policy, level 3: only these two texts, and media from where the recordings lie."""
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src {_hash(style)}",
            f"script-src {_hash(script)}",
            "img-src data:",
            " ".join(("media-src 'self' file: data:", *origins)),
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _json(data: object) -> str:
    """JSON that is inert in HTML whatever it holds: no tag and no entity can begin in it."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


# ---------------------------------------------------------------------- data of the script


def _data(
    report: Report,
    sounds: Sequence[Sound],
    lengths: Sequence[float | None],
    sampling: Sampling,
    library_map: LibraryMap | None,
) -> dict[str, Any]:
    events = _events(report)
    known = Vocabulary.audioset().labels
    decisions = [(events.numbers[one.key], one.verdict, one.label, one.mid) for one in report.decisions]
    identity = (
        [source.name for source in report.sources], events.columns, events.labels, decisions,
    )  # fmt: skip
    return {
        "id": hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16],
        "sources": [
            _source(source, sound, length)
            for source, sound, length in zip(report.sources, sounds, lengths, strict=True)
        ],
        "labels": events.labels,
        "events": events.columns,
        "decisions": decisions,
        "carried": [_row(one) for one in report.carried],
        "columns": COLUMNS,
        "vocabulary": [(label.name, label.mid) for label in known],
        "order": sampling.order,
        "threshold": sampling.threshold,
        "seed": sampling.seed,
        "map": None if library_map is None else _points(library_map, report, events.labels),
    }


def _points(
    library_map: LibraryMap, report: Report, labels: Sequence[tuple[str, str]]
) -> dict[str, list[Any]]:
    """The points of a map, a list a column; the label of each is that of the best event there, or null."""
    numbers = {name: n for n, (name, _) in enumerate(labels)}
    points = library_map.points
    return {
        "s": [one.source for one in points],
        "a": [round(one.start_s, 3) for one in points],
        "b": [round(one.end_s, 3) for one in points],
        "x": [round(one.x, 4) for one in points],
        "y": [round(one.y, 4) for one in points],
        "l": [_best_label(one, report.sources[one.source], numbers) for one in points],
    }


def _best_label(point: Point, source: Source, numbers: Mapping[str, int]) -> int | None:
    there = [span for span in source.spans if span.start_s < point.end_s and span.end_s > point.start_s]
    best = max(there, key=lambda span: (span.score or 0.0, span.end_s - span.start_s), default=None)
    return None if best is None else numbers[best.label]


def _events(report: Report) -> _Columns:
    spans = [(n, span) for n, source in enumerate(report.sources) for span in source.spans]
    by_count = {one.label: n for n, one in enumerate(report.overview.labels)}
    names = {span.label: span.mid for _, span in spans}
    labels = sorted(names, key=lambda name: (by_count.get(name, len(by_count)), name))
    places = {name: n for n, name in enumerate(labels)}
    columns: dict[str, list[Any]] = {
        "s": [n for n, _ in spans],
        "a": [round(span.start_s, 3) for _, span in spans],
        "b": [round(span.end_s, 3) for _, span in spans],
        "l": [places[span.label] for _, span in spans],
        "v": [None if span.score is None else round(span.score, 4) for _, span in spans],
    }
    if any(span.channel != "mix" for _, span in spans):
        columns["c"] = [span.channel for _, span in spans]
    numbers: dict[object, int] = {span.key(report.sources[n].name): e for e, (n, span) in enumerate(spans)}
    return _Columns(columns, [(name, names[name]) for name in labels], numbers)


def _source(source: Source, sound: Sound, length: float | None) -> dict[str, Any]:
    return {
        "n": source.name,
        "d": None if length is None else round(length, 3),
        "r": source.rate_hz,
        "c": source.channels,
        "k": None if source.clock is None else source.clock.isoformat(),
        "o": [readable(note) for note in source.notes],
        "f": source.n_found,
        "h": sound.href,
        "p": readable(sound.problem),
        "t": [_tile(tile) for tile in sound.tiles],
    }


def _tile(tile: Tile) -> tuple[float, float, str]:
    return round(tile.start_s, 3), round(tile.end_s, 3), base64.b64encode(tile.png).decode()


def _row(one: Decision) -> list[str]:
    """A decision as the page exports it."""
    source, channel, start, end, found = one.key
    score = "" if one.score is None else f"{one.score:.4f}"
    times = (f"{start / 1000:.3f}", f"{end / 1000:.3f}")
    decided = "reject" if one.verdict == "reject" else "keep"
    return [source, channel, *times, one.label, one.mid, score, decided, found]


def _length(source: Source, sound: Sound) -> float | None:
    return source.duration_s if source.duration_s is not None else sound.duration_s


# ---------------------------------------------------------------------- words of the overview


def _problems(report: Report, sounds: Sequence[Sound]) -> Iterable[tuple[str, str]]:
    for failure in report.failures:
        text = with_hint(failure.message, failure.hint)
        yield readable(failure.source), readable(text.removeprefix(f"{failure.source}: "))
    for source, sound in zip(report.sources, sounds, strict=True):
        for text in (*source.notes, *((sound.problem,) if sound.problem else ())):
            yield readable(source.name), readable(text.removeprefix(f"{source.name}: "))


def _span(seconds: float) -> str:
    """A length of time in the two units that say most of it."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        whole = round(seconds)
        return f"{whole // 60} min {whole % 60} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def _every(heat_map: HeatMap) -> int:
    """Every which column has room for its name."""
    n_characters = sum(len(name) + 1 for name in heat_map.columns)
    return -(-n_characters // CHARACTERS)


def _shade(count: int, heat_map: HeatMap) -> int:
    """0 for none, else by its share of the highest count of the map, on a scale of square roots."""
    most = max(max(counts) for _, counts in heat_map.rows)
    return 0 if not count else max(1, min(SHADES, round(SHADES * (count / most) ** 0.5)))
