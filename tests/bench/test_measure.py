"""What is said before anything is measured."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dymn_cli.bench import measure
from dymn_cli.bench.measure import BenchOptions, run_bench


class PreparedError(Exception):
    """All is ready."""


@pytest.mark.parametrize(("cores", "is_told"), [(1.26, True), (0.05, False), (None, False)])
def test_a_busy_machine_is_told_before(
    cores: float | None, is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def figures() -> Any:
        raise PreparedError

    monkeypatch.setattr(measure, "OtherLoad", lambda: SimpleNamespace(cores=lambda: cores))
    monkeypatch.setattr(measure, "_Bench", lambda *arguments: SimpleNamespace(figures=figures))
    told: list[str] = []
    with pytest.raises(PreparedError):
        run_bench(BenchOptions(), told.append)
    assert any(line.startswith("other programs keep 1.3 of ") for line in told) is is_told
