"""Clips that are written once, and a report without measuring."""

from __future__ import annotations

from pathlib import Path

import pytest

from dymn_cli.bench.clips import write_originals
from dymn_cli.bench.machine import Machine
from dymn_cli.bench.report import Figure, Report, Settings
from dymn_cli.bench.rounds import Spread
from dymn_cli.results import ModelInfo


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """The clips that the benchmark works on, in every format."""
    return write_originals(tmp_path_factory.mktemp("originals"))


@pytest.fixture
def report() -> Report:
    """A figure of each kind."""
    forms = ("wav", "mp3")
    figures = [
        Figure("start", "help", Spread(0.1, 0.09, 0.12), "s"),
        Figure("memory", "clip", Spread(129.4, 128.0, 131.0), "MB", "wav", at_most=400),
        *(
            Figure("stages", "decode", Spread(ms, ms, ms), "ms", form, 1)
            for form, ms in zip(forms, (2, 8), strict=True)
        ),
        Figure("stages", "resample", Spread(3.0, 3.0, 3.0), "ms", workers=1),
        Figure("stages", "log-mel", Spread(4.0, 4.0, 4.0), "ms", workers=1),
        Figure("stages", "model", Spread(10.0, 10.0, 10.0), "ms", workers=1),
        Figure("stages", "write", Spread(0.5, 0.5, 0.5), "ms", workers=1),
        *(Figure("stages", "rest", Spread(0.5, 0.4, 0.6), "ms", form, 1) for form in forms),
        *(Figure("speed", "clips", Spread(50.123, 48, 51), "1/s", form, 1) for form in forms),
        *(Figure("speed", "clips", Spread(97.0, 95, 99), "1/s", form, 2) for form in forms),
        *(Figure("speed", "gain", Spread(1.94, 1.9, 2.0), "x", form, 2, at_least=1.8) for form in forms),
        Figure("length", "10 min : clips", Spread(1.2, 1.1, 1.3), "x", "mp3", 2, at_most=1.15),
        Figure("baseline", "dymn : reference", Spread(6.0, 5.5, 6.5), "x", "wav", 2, at_least=4),
    ]
    return Report(
        version="1.2.3",
        model=ModelInfo("dymn04_kd", "ab" * 32, "onnx", "CPUExecutionProvider"),
        machine=Machine("A Processor [9]", 2, "Linux x86_64", "3.12.1", (("numpy", "2.4.0"),)),
        settings=Settings(rounds=3, n_clips=8, clip_s=10, rate_hz=44_100, channels=2, jobs=2),
        figures=tuple(figures),
        other_cores=0.04,
    )
