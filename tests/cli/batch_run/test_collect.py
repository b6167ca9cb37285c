"""Results in memory, for commands that make something else of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dymn_cli.cli.options.events import EventSelect, EventTime
from dymn_cli.cli.options.groups import BatchOptions, InputOptions, ModelOptions
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.errors import InputError, PartialFailure


def collect(*names: str) -> Any:
    from dymn_cli.cli.batch_run.events import EventAnalysis
    from dymn_cli.cli.batch_run.run import collect_results

    inputs, model = InputOptions(list(names)), ModelOptions()
    analysis = EventAnalysis(inputs, model, EventTime(), EventSelect())
    return collect_results(analysis, inputs, BatchOptions(), Messages(), threads=1)


@pytest.mark.usefixtures("fake")
def test_events_of_all_inputs_come_in_order_and_a_failure_is_raised_at_the_end(
    dymn: Any, record: Callable[..., str], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    names = record("b.wav", (81, 12)), record("a.wav", (87, 12))
    (dymn.cwd / "bad.wav").write_text("no audio")
    collected = collect(names[0], "bad.wav", names[1])
    assert [found.source for found in collected.results] == list(names)
    assert all(found.events for found in collected.results)
    assert dict(collected.provenance.options)["method"] == "frames"
    assert b"bad.wav" in capfdbinary.readouterr().err
    assert sorted(path.name for path in dymn.cwd.iterdir()) == ["a.wav", "b.wav", "bad.wav"]
    with pytest.raises(PartialFailure, match="1 of 3"):
        collected.finish()


@pytest.mark.usefixtures("fake")
def test_nothing_to_hand_over_is_an_error_at_once(dymn: Any) -> None:
    (dymn.cwd / "bad.wav").write_text("no audio")
    with pytest.raises(InputError, match="not a known audio format"):
        collect("bad.wav")
