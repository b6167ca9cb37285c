from __future__ import annotations

import math

import pytest

from dymn_cli.errors import UsageError
from dymn_cli.train.schedule import DISTILLATION, FINE_TUNING, RateSchedule, peak_rate


@pytest.mark.parametrize(
    ("epoch", "share"),
    [
        (0, math.exp(-5 * (1 - 0.5 / 8) ** 2)),  # never read before half an epoch
        (4, math.exp(-5 * 0.25)),
        (8, 1.0),
        (80, 1.0),
        (80 + 95 / 2, 1 - 0.99 / 2),
        (175, 0.01),
        (200, 0.01),
    ],
)
def test_distillation_follows_the_paper(epoch: float, share: float) -> None:
    assert DISTILLATION.at(epoch) == pytest.approx(share)


def test_fine_tuning_ramps_down_right_after_its_warm_up() -> None:
    assert FINE_TUNING.at(10) == 1.0
    assert FINE_TUNING.at(42.5) == pytest.approx(0.505)
    assert FINE_TUNING.at(75) == pytest.approx(0.01)


@pytest.mark.parametrize("shape", ["distillation", "fine-tuning", "cosine"])
def test_a_rate_rises_to_its_peak_and_falls_again(shape: str) -> None:
    rates = [RateSchedule(shape, 2e-3).at(n / 200) for n in range(201)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(2e-3, rel=0.01)
    assert 0 < rates[0] < 2e-4
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 2.1e-5


def test_peaks_of_the_paper() -> None:
    assert [peak_rate(width) for width in (0.4, 1.0, 2.0)] == [2e-3, 1e-3, 5e-4]


@pytest.mark.parametrize("peak", [0.0, -1.0, math.nan, math.inf])
def test_a_peak_is_a_positive_number(peak: float) -> None:
    with pytest.raises(UsageError, match="learning rate"):
        RateSchedule("cosine", peak)


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(UsageError, match="no schedule"):
        RateSchedule("square", 1.0)
