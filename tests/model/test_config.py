"""The knobs, Table I at a given width, and the JSON that travels with weights."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dymn_cli.errors import UsageError
from dymn_cli.model.config import (
    ARCHITECTURES,
    BLOCK_MASKS,
    ModelConfig,
    TemperatureSchedule,
    architecture_of,
    round8,
)


@pytest.mark.parametrize(
    ("channels", "rounded"),
    [
        (1, 8),
        (8.8, 8),  # 8 is 91 % of it
        (9, 16),  # 8 would be less than 90 % of it
        (11.9, 16),
        (25.6, 24),
        (28, 32),
        (73.6, 72),
        (1280, 1280),
    ],
)
def test_channels_are_rounded_to_eight_and_never_lose_a_tenth(channels: float, rounded: int) -> None:
    assert round8(channels) == rounded


@given(st.floats(1, 5000))
def test_rounding_keeps_at_least_nine_tenths(channels: float) -> None:
    assert round8(channels) % 8 == 0
    assert round8(channels) >= 0.9 * channels


def test_dymn_s_has_the_channels_of_the_published_checkpoint() -> None:
    config = ModelConfig(width=0.4)
    assert config.stem_channels == 8
    assert [block.out_channels for block in config.blocks] == [
        8,
        16,
        16,
        16,
        16,
        16,
        *[32] * 4,
        48,
        48,
        *[64] * 3,
    ]
    assert [block.expanded for block in config.blocks] == [
        *(8, 24, 32, 32, 48, 48),
        *(96, 80, 72, 72),
        *(192, 272, 272, 384, 384),
    ]
    assert (config.embedding_size, config.head_channels) == (384, 512)
    assert {block.context for block in config.blocks} == {16, 24, 48}


@pytest.mark.parametrize(("width", "embedding"), [(0.4, 384), (1.0, 960), (2.0, 1920)])
def test_embedding_sizes_of_s_m_and_l(width: float, embedding: int) -> None:
    assert ModelConfig(width=width).embedding_size == embedding


def test_consecutive_blocks_fit_at_any_width() -> None:
    for percent in range(5, 405, 5):
        config = ModelConfig(width=percent / 100)
        outputs = [config.stem_channels, *(block.out_channels for block in config.blocks)]
        assert outputs[:-1] == [block.in_channels for block in config.blocks]


def test_context_stays_within_its_bounds() -> None:
    medium = [block.context for block in ModelConfig().blocks]
    assert (min(medium), max(medium)) == (32, 128)
    assert medium[10] == 120  # 480 expanded channels by r = 4
    small = [block.context for block in ModelConfig(width=0.4).blocks]
    assert (min(small), max(small)) == (16, 48)


def test_static_blocks_have_no_context_and_only_mn_has_squeeze_and_excitation() -> None:
    mixed = ModelConfig(dynamic_blocks=BLOCK_MASKS["replace-se"]).blocks
    assert [bool(block.context) for block in mixed] == list(BLOCK_MASKS["replace-se"])
    assert not any(block.attention != "none" for block in mixed)
    excited = [block.index + 1 for block in ModelConfig(family="mn").blocks if block.squeeze]
    assert excited == [4, 5, 6, 11, 12, 13, 14, 15]


@pytest.mark.parametrize(("name", "count"), [("all", 15), ("none", 0), ("replace-se", 8), ("mid-5", 5)])
def test_masks_hold_as_many_dynamic_blocks_as_they_say(name: str, count: int) -> None:
    assert sum(BLOCK_MASKS[name]) == count


def test_first_mid_and_last_five_are_all_blocks_once() -> None:
    thirds = zip(BLOCK_MASKS["first-5"], BLOCK_MASKS["mid-5"], BLOCK_MASKS["last-5"], strict=True)
    assert all(sum(block) == 1 for block in thirds)


@pytest.mark.parametrize(
    ("knobs", "word"),
    [
        ({"family": "resnet"}, "family"),
        ({"width": 0}, "width"),
        ({"width": float("nan")}, "width"),
        ({"width": "1"}, "width '1' is not a number"),
        ({"temperature": None}, "temperature None is not a number"),
        ({"dropout": "0.2"}, "dropout '0.2' is not a number"),
        ({"dynamic_blocks": (True,) * 14}, "dynamic_blocks"),
        ({"dy_conv": ("middle",)}, "middle"),
        ({"dy_relu": "depthwise"}, "tuple of positions"),
        ({"coordinate_attention": "space"}, "space"),
        ({"kernels": 0}, "kernels"),
        ({"n_classes": 10.5}, "n_classes"),
        ({"context_min": 64, "context_max": 32}, "context_min"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_what_describes_no_network_is_refused_by_name(knobs: dict[str, object], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        ModelConfig(**knobs)  # type: ignore[arg-type]


def test_order_and_repetition_of_positions_do_not_matter() -> None:
    jumbled = ModelConfig(dy_conv=("project", "expand", "project"))
    assert jumbled == ModelConfig(dy_conv=("expand", "project"))


@given(data=st.data())
def test_json_brings_the_same_config_back(
    configs: st.SearchStrategy[ModelConfig], data: st.DataObject
) -> None:
    config = data.draw(configs)
    assert ModelConfig.from_json(config.to_json()) == config
    assert "\n" not in config.to_json()


def test_json_without_a_field_takes_its_default() -> None:
    assert ModelConfig.from_json('{"width": 0.4}') == ModelConfig(width=0.4)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[1, 2]",
        '"width"',
        '{"width": "wide"}',
        '{"depth": 3}',
        '{"kernels": null}',
        '{"width": 0}',
    ],
)
def test_json_that_is_no_config_is_one_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="model config"):
        ModelConfig.from_json(text)


def test_json_is_plain_for_other_readers() -> None:
    fields = json.loads(ModelConfig(width=0.4).to_json())
    assert fields["width"] == 0.4
    assert fields["dy_conv"] == ["expand", "depthwise", "project"]


def test_temperature_falls_in_a_straight_line_from_30_to_1_and_stays() -> None:
    schedule = TemperatureSchedule()
    assert [schedule.at(epoch) for epoch in (0, 15, 30, 31, 200)] == [30, 15.5, 1, 1, 1]
    steps = {round(schedule.at(n) - schedule.at(n + 1), 9) for n in range(30)}
    assert steps == {round(29 / 30, 9)}
    assert schedule.at(-1) == 30


def test_a_schedule_without_epochs_is_at_its_end() -> None:
    assert TemperatureSchedule(epochs=0).at(0) == 1


def test_an_architecture_is_known_whatever_its_classes_and_temperature() -> None:
    assert architecture_of(ModelConfig(width=0.4, n_classes=50, temperature=30.0, dropout=0.0)) == "dymn04"
    assert architecture_of(ModelConfig(family="mn", width=0.4)) == "mn04"
    assert architecture_of(ModelConfig(width=0.4, kernels=6)) is None
    assert [architecture_of(config) for config in ARCHITECTURES.values()] == list(ARCHITECTURES)


def test_config_counts_and_inference_need_no_torch() -> None:
    code = (
        "import sys; import dymn_cli.model.config, dymn_cli.model.complexity, dymn_cli.model.infer;"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
