"""Thresholds do what they say, also after they were written and read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dymn_cli.errors import OutputError
from dymn_cli.evaluation.metrics import curve_of
from dymn_cli.evaluation.thresholds import NEVER, at_precision, best_f1, between, write_thresholds
from dymn_cli.tagging.thresholds import read_thresholds

SCORES = np.array([0.9, 0.8, 0.7, 0.4, 0.3, 0.1], np.float32)
TRUTH = np.array([True, True, False, True, False, False])


def test_the_best_f1_and_what_it_gives() -> None:
    best = best_f1(curve_of(SCORES, TRUTH))
    reported = best.value <= SCORES
    assert list(reported) == [True, True, True, True, False, False]
    assert (best.precision, best.recall) == (0.75, 1.0)
    assert best.f1 == pytest.approx(6 / 7)


def test_the_lowest_threshold_that_is_precise_enough() -> None:
    found = at_precision(curve_of(SCORES, TRUTH), 0.9)
    assert 0.7 < found.value <= 0.8
    assert (found.precision, found.recall) == (1.0, pytest.approx(2 / 3))
    assert at_precision(curve_of(SCORES, TRUTH), 0.75).recall == 1.0


def test_a_class_that_is_never_precise_enough_is_never_reported() -> None:
    found = at_precision(curve_of(SCORES, ~TRUTH), 0.9)
    assert (found.value, found.recall) == (NEVER, 0.0)


@given(st.floats(0, 1, width=32), st.floats(0, 1, width=32))
def test_a_threshold_separates_two_scores_in_single_precision(one: float, other: float) -> None:
    low, high = sorted((one, other))
    if low < high:
        value = between(low, high)
        assert np.float32(low) < np.float32(value) <= np.float32(high)


def test_thresholds_are_short() -> None:
    assert between(0.31, 0.52) == 0.4
    assert between(0.0, 0.003) == 0.002


def test_what_is_written_is_read_by_the_tagger(tmp_path: Path) -> None:
    path = str(tmp_path / "limits.csv")
    write_thresholds(path, [("/m/0bt9lr", "Dog", 0.25), ("", 'Baby cry, "loud"', 1e-7)])
    assert read_thresholds(path).pairs == (("/m/0bt9lr", 0.25), ('Baby cry, "loud"', 1e-7))
    with pytest.raises(OutputError, match="exists"):
        write_thresholds(path, [])
