"""The tables of a benchmark."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from dymn_cli.bench.machine import Machine
from dymn_cli.bench.report import Figure, Report, Settings
from dymn_cli.bench.rounds import Spread
from dymn_cli.cli.views.bench import bench_tables
from dymn_cli.results import ModelInfo


def exactly(value: float) -> Spread:
    return Spread(value, value, value)


def drawn(*figures: Figure) -> list[str]:
    report = Report(
        version="1.2.3",
        model=ModelInfo("dymn04_kd", "ab" * 32, "onnx", "CPUExecutionProvider"),
        machine=Machine("A Processor [9]", 2, "Linux x86_64", "3.12.1", (("numpy", "2.4.0"),)),
        settings=Settings(rounds=3, n_clips=8, clip_s=10, rate_hz=44_100, channels=2, jobs=2),
        figures=figures,
        other_cores=None,
    )
    out = io.StringIO()
    Console(file=out, width=110, markup=False, highlight=False).print(bench_tables(report))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_head_says_what_was_measured_on():
    lines = drawn()
    assert lines[0] == "A Processor [9], 2 cores, Linux x86_64"
    assert "dymn04_kd on onnx" in lines[1]
    assert lines[2] == "Clips of 10 s, 44.1 kHz, 2 channels; 3 rounds, medians (lowest to highest)"


def test_stages_add_up_to_the_whole_and_show_their_share():
    common = {"resample": 3.0, "log-mel": 4.0, "model": 10.0, "write": 0.5}
    lines = drawn(
        *(
            Figure("stages", "decode", exactly(ms), "ms", form, 1)
            for form, ms in (("wav", 2.0), ("mp3", 8.0))
        ),
        *(Figure("stages", what, exactly(ms), "ms", workers=1) for what, ms in common.items()),
        *(Figure("stages", "rest", exactly(0.5), "ms", form, 1) for form in ("wav", "mp3")),
    )
    rows = {line.split()[0]: line.split()[1:] for line in lines if line and line[0].islower()}
    assert rows["decode"] == ["2.00", "10%", "8.00", "31%"]
    assert rows["model"] == ["10.0", "50%", "10.0", "38%"]
    assert rows["end"] == ["to", "end", "20.0", "26.0"]


@pytest.mark.parametrize(("value", "goal"), [(1.94, "goal >= 1.8"), (1.5, "goal >= 1.8")])
def test_goals_stand_beside_what_was_reached(value, goal):
    (line,) = (
        line
        for line in drawn(Figure("baseline", "dymn : reference", Spread(value, 1.2, 2.0), "x", "wav", 2, 1.8))
        if line.startswith("dymn :")
    )
    assert line.split("  ")[-1].strip() == goal
    assert f"{value:.2f}" in line
    assert "(1.20 to 2.00)" in line


def test_speed_has_a_line_for_each_number_of_workers():
    lines = drawn(
        Figure("speed", "clips", exactly(50.0), "1/s", "wav", 1),
        Figure("speed", "clips", exactly(98.0), "1/s", "wav", 2),
        Figure("speed", "realtime", exactly(980.0), "x", "wav", 2),
        Figure("speed", "gain", exactly(1.96), "x", "wav", 2, at_least=1.8),
    )
    text = "\n".join(lines)
    assert "clips a second, 1 worker" in text
    assert "clips a second, 2 workers" in text
    assert "× real time, 2 workers" in text
    assert ">= 1.8" in text
