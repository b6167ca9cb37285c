from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from dymn_cli.train.ema import Average  # noqa: E402


def test_the_average_follows_the_weights_slowly() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    average = Average(model, decay=0.9)
    average.updates = 1000  # past the beginning
    torch.nn.init.ones_(model.weight)
    average.update(model)
    assert average.state["weight"].item() == pytest.approx(0.1)
    assert model.weight.item() == 1.0


def test_it_forgets_a_random_beginning() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 100.0)
    average = Average(model, decay=0.999)
    torch.nn.init.zeros_(model.weight)
    for _ in range(60):
        average.update(model)
    assert abs(average.state["weight"].item()) < 0.1


def test_running_statistics_are_averaged_and_counters_copied() -> None:
    model = torch.nn.BatchNorm2d(1)
    average = Average(model, decay=0.5)
    average.updates = 1000
    model(torch.ones(2, 1, 2, 2))
    average.update(model)
    assert average.state["num_batches_tracked"].item() == 1
    assert average.state["running_mean"].item() == pytest.approx(model.running_mean.item() / 2)
