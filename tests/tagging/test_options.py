"""Every knob: what is accepted, and that nothing out of range is bent into it."""

from __future__ import annotations

import dataclasses
import math

import pytest

from dymn_cli.errors import UsageError
from dymn_cli.tagging.options import TagOptions


def test_the_defaults_are_those_of_the_contract() -> None:
    options = TagOptions()
    assert (options.window_s, options.hop_s, options.pad) == (10.0, None, "repeat")
    assert (options.channel, options.aggregate) == ("mix", "max")
    assert (options.top, options.min_score, options.labels, options.thresholds) == (5, 0.0, (), ())
    assert options.windows is False


def test_options_are_frozen_and_named() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TagOptions().top = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        TagOptions(10.0)  # type: ignore[misc]


@pytest.mark.parametrize(
    "good",
    [
        {"top": 0},
        {"top": 10_000},
        {"min_score": 1},
        {"channel": "each"},
        {"channel": "0"},
        {"channel": "63"},
        {"aggregate": "mean"},
        {"thresholds": (("Speech", 0.0), ("Dog", 1.0))},
    ],
)
def test_values_at_their_limits(good: dict[str, object]) -> None:
    TagOptions(**good)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"top": -1}, "top -1"),
        ({"min_score": 1.01}, "1.01"),
        ({"min_score": -0.1}, "-0.1"),
        ({"min_score": math.nan}, "nan"),
        ({"min_score": math.inf}, "inf"),
        ({"thresholds": (("Speech", 2.0),)}, "2"),
        ({"channel": "left"}, "left"),
        ({"channel": "-1"}, "-1"),
        ({"channel": ""}, "''"),
        ({"channel": "²"}, "²"),
        ({"aggregate": "median"}, "median"),
    ],
)
def test_a_value_out_of_range_is_an_error_that_names_it(bad: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        TagOptions(**bad)  # type: ignore[arg-type]
    assert said in caught.value.message
