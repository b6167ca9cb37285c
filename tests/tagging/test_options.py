"""Every knob: what is accepted, and that nothing out of range is bent into it."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dymn_cli.audio.frames import FramePlan
from dymn_cli.audio.windows import WindowPlan
from dymn_cli.errors import UsageError
from dymn_cli.tagging.event_options import EventChanges
from dymn_cli.tagging.events import CUT, EventOptions
from dymn_cli.tagging.options import TagChanges, TagOptions


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


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"window_s": -3}, "a window of -3 s"),
        ({"window_s": "10"}, "'10' is not a number"),
        ({"window_s": None}, "None is not a number"),
        ({"window_s": math.nan}, "nan"),
        ({"hop_s": 20}, "a hop of 20 s"),
        ({"hop_s": "5"}, "'5'"),
        ({"pad": "bogus"}, "no padding 'bogus'"),
        ({"pad": None}, "no padding None"),
        ({"channel": True}, "no channel True"),
        ({"channel": -1}, "no channel '-1'"),
        ({"channel": 1.0}, "no channel 1.0"),
        ({"top": 2.5}, "top 2.5 is not a whole number"),
        ({"top": True}, "top True"),
        ({"windows": "no"}, "windows 'no' is neither True nor False"),
        ({"strict": 1}, "strict 1"),
        ({"min_score": "0.3"}, "'0.3'"),
        ({"labels": "Dog"}, "labels 'Dog' is not a tuple of names"),
        ({"labels": (72,)}, "(72,)"),
        ({"thresholds": {"Dog": 0.3}}, "{'Dog': 0.3}"),
        ({"thresholds": (("Dog", "0.3"),)}, "'0.3'"),
        ({"frames": 0.05}, "frames 0.05"),
    ],
)
def test_options_are_refused_when_they_are_made(bad: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        TagOptions(**bad)  # type: ignore[arg-type]
    assert said in caught.value.message
    assert "\n" not in caught.value.message


def test_lists_become_tuples() -> None:
    options = TagOptions(labels=["Dog"], thresholds=[["Cat", 0.5]])  # type: ignore[arg-type]
    assert options == TagOptions(labels=("Dog",), thresholds=(("Cat", 0.5),))
    assert hash(options) == hash(TagOptions(labels=("Dog",), thresholds=(("Cat", 0.5),)))
    assert EventOptions(labels=["Dog"]).labels == ("Dog",)  # type: ignore[arg-type]


def test_numbers_of_numpy_are_numbers() -> None:
    options = TagOptions(window_s=np.float32(5), top=np.int64(3), min_score=np.float64(0.2))  # type: ignore[arg-type]
    assert options.plan.n_window == 160_000
    assert TagOptions(channel=np.int64(1)) == TagOptions(channel=1) == TagOptions(channel="1")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: EventOptions(on="0.3"), "'0.3'"),  # type: ignore[arg-type]
        (lambda: EventOptions(off=math.nan), "nan"),
        (lambda: EventOptions(labels="Dog"), "'Dog'"),  # type: ignore[arg-type]
        (lambda: EventOptions(max_gap_s="1"), "'1'"),  # type: ignore[arg-type]
        (lambda: EventOptions(specific="no"), "specific 'no'"),  # type: ignore[arg-type]
        (lambda: EventOptions(thresholds=(("Dog",),)), "pairs"),  # type: ignore[arg-type]
        (lambda: WindowPlan(window_s="10"), "'10'"),  # type: ignore[arg-type]
        (lambda: WindowPlan(hop_s=[1]), "[1]"),  # type: ignore[arg-type]
        (lambda: FramePlan(window_s="0.1"), "'0.1'"),  # type: ignore[arg-type]
        (lambda: FramePlan(hop_s=None), "None"),  # type: ignore[arg-type]
    ],
)
def test_so_are_those_of_events_and_of_cutting(make: Callable[[], object], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert said in caught.value.message


def test_keyword_arguments_are_typed_by_the_fields_of_the_options() -> None:
    def fields(options: type) -> list[str]:
        return [field.name for field in dataclasses.fields(options)]

    assert list(TagChanges.__annotations__) == fields(TagOptions)
    assert list(EventChanges.__annotations__) == [*fields(EventOptions), *CUT]
    assert not TagChanges.__required_keys__ and not EventChanges.__required_keys__


TYPED = """import numpy as np
from dymn_cli import EventOptions, TagOptions, Tagger
from dymn_cli.model import DyMN, ModelConfig

tagger = Tagger()
tagger.tag("a.wav", top=3, labels=["Owl"], channel=0)
tagger.tag((np.zeros(8), np.int64(32_000)))
tagger.tag(([0.0, 1.0], 44_100))
tagger.events("a.wav", on=0.2, window_s=5.0)
Tagger(options=TagOptions(channel=0, labels=["Owl"]), device="cpu")
tagger.events("a.wav", EventOptions(labels=["Owl"])).events[0].label
tagger.tag("a.wav", windows=True).windows[-1].tags[0].label
DyMN(ModelConfig(width=0.4))
tagger.tag("a.wav", topp=3)
tagger.tag("a.wav", top="3")
tagger.events("a.wav", top=3)
TagOptions(topp=3)
EventOptions(window_s=3.0)
"""


@pytest.mark.slow
def test_type_checkers_know_the_keyword_arguments(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    program.write_text(TYPED)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", program]
    ran = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    errors = [line for line in ran.stdout.splitlines() if ": error: " in line]
    assert [line.split(":")[1] for line in errors] == ["14", "15", "16", "17", "18"], ran.stdout + ran.stderr
