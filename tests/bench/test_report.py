"""The document: its fields, its goals, and what it does not give away."""

from __future__ import annotations

import json
import math
import platform

import pytest

from dymn_cli.bench.machine import this_machine
from dymn_cli.bench.measure import BenchOptions
from dymn_cli.bench.report import COLUMNS, Figure, Report
from dymn_cli.bench.rounds import Spread
from dymn_cli.errors import UsageError


def test_document_has_the_fields_of_its_schema(report: Report) -> None:
    document = json.loads(json.dumps(report.to_json()))
    assert document["schema"] == "dymn.bench/1"
    assert list(document) == [
        "schema",
        "dymn",
        "model",
        "machine",
        "settings",
        "other_load_cores",
        "figures",
    ]
    assert document["machine"] == {
        "cpu": "A Processor [9]",
        "cores": 2,
        "system": "Linux x86_64",
        "python": "3.12.1",
        "libraries": {"numpy": "2.4.0"},
    }
    assert document["settings"] == {
        "rounds": 3,
        "clips": 8,
        "clip_s": 10,
        "rate_hz": 44100,
        "channels": 2,
        "jobs": 2,
    }
    gain = next(figure for figure in document["figures"] if figure["what"] == "gain")
    assert gain == {
        "part": "speed",
        "what": "gain",
        "format": "wav",
        "workers": 2,
        "median": 1.94,
        "low": 1.9,
        "high": 2.0,
        "unit": "x",
        "at_least": 1.8,
        "at_most": None,
        "reached": True,
    }


def test_rows_fit_their_columns(report: Report) -> None:
    assert all(len(figure.cells) == len(COLUMNS) for figure in report.figures)
    clips = next(figure for figure in report.figures if figure.what == "clips")
    assert clips.cells == ("speed", "clips", "wav", 1, 50.12, 48.0, 51.0, "1/s", None, None)


@pytest.mark.parametrize(
    ("value", "at_least", "at_most", "goal", "reached"),
    [
        (1.8, 1.8, None, ">= 1.8", True),
        (1.79, 1.8, None, ">= 1.8", False),
        (400.0, None, 400.0, "<= 400", True),
        (401.0, None, 400.0, "<= 400", False),
        (5.0, None, None, "", None),
    ],
)
def test_goals(
    value: float, at_least: float | None, at_most: float | None, goal: str, reached: bool | None
) -> None:
    figure = Figure("a", "b", Spread.of([value]), "x", at_least=at_least, at_most=at_most)
    assert figure.goal == goal
    assert figure.reached is reached


def test_machine_is_described_without_its_name() -> None:
    machine = this_machine()
    assert machine.cores >= 1
    assert machine.cpu
    assert dict(machine.libraries)["onnxruntime"].split(".")[0].isdecimal()
    host = platform.node()
    assert not host or host not in repr(machine)


@pytest.mark.parametrize(
    "values",
    [
        {"jobs": 0},
        {"rounds": 0},
        {"seconds": 0.0},
        {"seconds": math.nan},
        {"long_h": -1.0},
        {"long_h": math.inf},
    ],
)
def test_options_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="--"):
        BenchOptions(**values)  # type: ignore[arg-type]
