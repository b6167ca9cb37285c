"""Fair rounds, and ratios that a busy minute does not spoil."""

from __future__ import annotations

from functools import partial
from itertools import count

import pytest

from dymn_cli.bench.load import OtherLoad
from dymn_cli.bench.rounds import Spread, interleaved, ratio


class Scripted(OtherLoad):
    """Finds others as busy as it is told, measurement by measurement."""

    def __init__(self, *cores: float | None) -> None:
        self._cores = iter(cores)

    def __call__(self) -> Scripted:
        return self

    def cores(self) -> float | None:
        return next(self._cores)


def test_rounds_go_forth_and_back() -> None:
    calls: list[str] = []
    quiet = Scripted(*[0.0] * 9)
    laps = interleaved({name: partial(calls.append, name) for name in "abc"}, 3, watch=quiet)
    assert "".join(calls) == "abccbaabc"
    assert {name: len(rounds) for name, rounds in laps.items()} == {"a": 3, "b": 3, "c": 3}
    assert all(lap.seconds >= 0 for rounds in laps.values() for lap in rounds)


def test_what_was_disturbed_is_done_again_at_once() -> None:
    numbers = count()
    laps = interleaved({"a": partial(next, numbers)}, 2, watch=Scripted(0.9, 0.0, 0.0))
    assert [(lap.value, lap.other_cores) for lap in laps["a"]] == [(1, 0.0), (2, 0.0)]


def test_where_it_is_never_quiet_the_least_disturbed_counts() -> None:
    numbers = count()
    laps = interleaved({"a": partial(next, numbers)}, 2, watch=Scripted(0.9, 0.4, 1.5, 2.0, 2.0, 1.8))
    assert [lap.value for lap in laps["a"]] == [1, 5]


def test_where_others_cannot_be_seen_every_lap_counts() -> None:
    numbers = count()
    laps = interleaved({"a": partial(next, numbers)}, 3, watch=Scripted(None, None, None))
    assert [lap.value for lap in laps["a"]] == [0, 1, 2]


def test_a_ratio_is_taken_within_a_round() -> None:
    """In the second round the machine was ten times as slow: for both alike."""
    slow, fast = [2.0, 20.0, 2.2], [1.0, 10.0, 1.0]
    assert ratio(slow, fast) == Spread(2.0, 2.0, 2.2)
    assert ratio(slow, fast, 0.5) == Spread(1.0, 1.0, 1.1)


def test_rates_turn_extremes_around() -> None:
    rate = Spread.of([0.5, 0.2, 0.25]).inverse(10)
    assert (rate.median, rate.low, rate.high) == (40.0, 20.0, 50.0)


def test_units_are_scaled_alike() -> None:
    assert Spread(0.002, 0.001, 0.004).scaled(1000) == pytest.approx(Spread(2.0, 1.0, 4.0))
