"""The rows of the paper's tables: counts at its digits, tensors of the modules, configs that come back."""

from __future__ import annotations

import pytest

from dymn_cli.errors import UsageError
from dymn_cli.model.config import ModelConfig
from dymn_cli.model.infer import infer_config
from dymn_cli.model.layout import state_shapes
from dymn_cli.model.study import systems, variant, variants

# The two published counts that ours miss; each row's note says why.
OURS = {"mn10-grn": (3.37, 540), "dymn10-no-shared-context": (12.15, 583)}
NAMES = [one.name for one in variants()]


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_the_published_ones_or_the_row_says_why_not(name: str) -> None:
    row = variant(name)
    counted = row.complexity
    parameters, macs = OURS.get(name, (row.parameters_m, row.macs_m))
    assert parameters is None or round(counted.parameters / 1e6, 2) == parameters
    assert macs is None or float(f"{counted.macs / 1e6:.3g}") == macs
    assert bool(row.note) == (name in OURS)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_comes_back_from_its_json_and_from_its_shapes(name: str) -> None:
    config = variant(name).config
    assert ModelConfig.from_json(config.to_json()) == config
    assert infer_config(state_shapes(config)) == config


def test_names_and_architectures_are_each_there_once() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert len({one.config for one in variants()}) == len(NAMES)


def test_tables_viii_and_xii_are_whole() -> None:
    tables = [one.table for one in variants()]
    assert (tables.count("II"), tables.count("VIII"), tables.count("XII")) == (8, 8, 3)


def test_a_note_has_our_figure() -> None:
    for name, (parameters, _) in OURS.items():
        assert f"{parameters} M" in variant(name).note


def test_other_systems_have_sources_and_stand_in_order() -> None:
    found = [one.mean_ap for one in systems()]
    assert found == sorted(found)
    assert all("arXiv" in one.source for one in systems())
    by_name = {one.name: one for one in systems()}
    assert by_name["PANNs CNN14"].parameters_m == 80.75
    assert by_name["PANNs CNN14"].macs_m == 42_220 / 2


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(UsageError, match="no variant 'mn10-magic'"):
        variant("mn10-magic")


@pytest.mark.parametrize("name", [one.name for one in variants() if one.table in ("VIII", "XII")])
def test_every_parameter_of_a_variant_is_trained(name: str) -> None:
    torch = pytest.importorskip("torch")
    import dataclasses

    from dymn_cli.model.build import build

    network = build(dataclasses.replace(variant(name).config, width=0.1, n_classes=3))
    assert {key: tuple(t.shape) for key, t in network.state_dict().items()} == state_shapes(network.config)
    with torch.no_grad():  # as after some steps: many begin at zero, and let nothing through
        for value in network.parameters():
            value.add_(0.1 * torch.randn_like(value))
    logits, _ = network(torch.randn(3, 1, 32, 40))
    logits.square().sum().backward()
    idle = [key for key, value in network.named_parameters() if value.grad is None]
    assert not idle
    silent = [key for key, value in network.named_parameters() if not value.grad.abs().max() > 0]
    assert len(silent) < 0.1 * len(list(network.parameters())), silent
