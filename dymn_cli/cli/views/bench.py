"""The figures of a benchmark as tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from dymn_cli.bench.rounds import Spread
from dymn_cli.cli.terminal.tables import grid
from dymn_cli.values import counted

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from dymn_cli.bench.report import Figure, Report

__all__ = ["bench_tables"]

RIGHT: Mapping[str, Any] = {"justify": "right"}
STAGES = ("decode", "resample", "log-mel", "model", "write", "rest")


def bench_tables(report: Report) -> Group:
    """All parts of a report that it has figures for."""
    parts: list[RenderableType] = [_head(report)]
    stages = list(report.of("stages"))
    if stages:
        parts += [_title("A clip of 10 s on one core, in ms"), _stages(stages)]
    speed = list(report.of("speed"))
    if speed:
        parts += [_title("End to end"), _speed(speed)]
    titles = {
        "baseline": "Against the reference way in PyTorch",
        "length": "An hour of audio, in short and in long files",
        "start": "A process from start to end",
        "memory": "Most memory held",
    }
    for part, title in titles.items():
        figures = list(report.of(part))
        if figures:
            parts += [_title(title), _lines(figures)]
    return Group(*parts)


def _head(report: Report) -> Text:
    machine, settings, model = report.machine, report.settings, report.model
    libraries = ", ".join(f"{name} {version}" for name, version in machine.libraries)
    clips = f"{settings.clip_s} s, {settings.rate_hz / 1000:g} kHz, {settings.channels} channels"
    rounds = "1 round" if settings.rounds == 1 else f"{settings.rounds} rounds, medians (lowest to highest)"
    return Text(
        f"{machine.cpu}, {counted(machine.cores, 'core')}, {machine.system}\n"
        f"dymn {report.version}, {model.name} on {model.backend}, Python {machine.python}, {libraries}\n"
        f"Clips of {clips}; {rounds}"
    )


def _title(text: str) -> Text:
    return Text(f"\n{text}", "bold")


def _stages(figures: Sequence[Figure]) -> Table:
    """A column for each format; what is the same for all stands in each, so that columns add up."""
    forms = [figure.form for figure in figures if figure.what == "decode"]
    table = grid(("", {}), *((form, RIGHT) for form in forms))
    found = {(figure.what, figure.form): figure.value.median for figure in figures}
    columns = {
        form: {what: found.get((what, form), found.get((what, ""), 0.0)) for what in STAGES} for form in forms
    }
    totals = {form: sum(column.values()) for form, column in columns.items()}
    for what in STAGES:
        cells = (_with_share(columns[form][what], totals[form]) for form in forms)
        table.add_row(what, *cells)
    table.add_row("end to end", *(_number(totals[form], "ms") + "     " for form in forms), style="bold")
    return table


def _with_share(value: float, total: float) -> str:
    return f"{_number(value, 'ms')} {value / total:4.0%}"


def _speed(figures: Sequence[Figure]) -> Table:
    forms = list(dict.fromkeys(figure.form for figure in figures))
    goal = any(figure.goal for figure in figures)
    table = grid(("", {}), *((form, RIGHT) for form in forms), *((("goal", {}),) if goal else ()))
    names = {"clips": "clips a second", "realtime": "× real time", "gain": "against 1 worker"}
    for what, workers in dict.fromkeys((figure.what, figure.workers) for figure in figures):
        line = [figure for figure in figures if (figure.what, figure.workers) == (what, workers)]
        cells = [_number(figure.value.median, figure.unit) for figure in line]
        table.add_row(f"{names[what]}, {_workers(workers)}", *cells, *([line[0].goal] if goal else []))
    return table


def _workers(number: int | None) -> str:
    return f"{number} worker{'' if number == 1 else 's'}"


def _lines(figures: Sequence[Figure]) -> Table:
    table = grid(("", {}), ("", {}), ("", RIGHT), ("", {}), ("", {"style": "dim"}), ("", {}), heading=False)
    for figure in figures:
        table.add_row(
            figure.what,
            figure.form,
            _number(figure.value.median, figure.unit),
            "×" if figure.unit == "x" else figure.unit,
            " ".join(_spread(figure.value, figure.unit)),
            _verdict(figure),
        )
    return table


def _spread(value: Spread, unit: str) -> Iterator[str]:
    if value.low < value.high:
        yield f"({_number(value.low, unit)} to {_number(value.high, unit)})"


def _verdict(figure: Figure) -> Text:
    if figure.reached is None:
        return Text()
    return Text(f"goal {figure.goal}", "green" if figure.reached else "yellow")


def _number(value: float, unit: str) -> str:
    if unit == "MB" or value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
