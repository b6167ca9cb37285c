"""From key names and shapes alone to a config, and clear words where there is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dymn_cli.errors import ModelError
from dymn_cli.model.config import BLOCK_MASKS, ModelConfig
from dymn_cli.model.infer import infer_config
from dymn_cli.model.layout import state_shapes

STUDIED = [
    *(ModelConfig(width=width) for width in (0.4, 1.0, 2.0, 0.35, 1.25)),
    *(ModelConfig(family="mn", width=width) for width in (0.1, 0.2, 0.4, 0.5, 1.0, 2.0, 3.0, 4.0)),
    *(ModelConfig(dynamic_blocks=mask) for mask in BLOCK_MASKS.values()),
    *(ModelConfig(coordinate_attention=axes) for axes in ("time", "frequency", "none")),
    *(ModelConfig(kernels=kernels) for kernels in (1, 2, 6)),
    *(ModelConfig(mappings=mappings) for mappings in (1, 3)),
    *(ModelConfig(context_ratio=ratio) for ratio in (2, 8, 16)),
    *(ModelConfig(context_min=low) for low in (16, 64)),
    *(ModelConfig(context_max=high) for high in (64, 256)),
    ModelConfig(dy_conv=()),
    ModelConfig(dy_relu=()),
    ModelConfig(dy_conv=(), dy_relu=()),
    ModelConfig(dy_conv=(), coordinate_attention="none"),
    ModelConfig(dy_relu=(), coordinate_attention="none"),
    ModelConfig(dy_conv=(), dy_relu=(), coordinate_attention="none"),
    ModelConfig(dy_conv=("depthwise",)),
    ModelConfig(dy_relu=("expand", "depthwise")),
    ModelConfig(dy_relu=("project",)),
    ModelConfig(width=0.4, n_classes=50),
    ModelConfig(width=0.12, context_min=75, context_max=75, context_ratio=1),
]


@pytest.mark.parametrize("config", STUDIED)
def test_every_network_of_the_study_is_recognised(config: ModelConfig) -> None:
    found = infer_config(state_shapes(config))
    assert state_shapes(found) == state_shapes(config)
    for knob in ("family", "width", "n_classes", "coordinate_attention", "dynamic_blocks"):
        assert getattr(found, knob) == getattr(config, knob), knob
    if config.is_dynamic:
        for knob in ("dy_conv", "dy_relu"):
            assert getattr(found, knob) == getattr(config, knob), knob


@pytest.mark.parametrize("width", [0.4, 1.0, 2.0])
def test_the_published_sizes_are_found_exactly(width: float) -> None:
    assert infer_config(state_shapes(ModelConfig(width=width))) == ModelConfig(width=width)


@pytest.mark.parametrize(("knob", "value"), [("context_ratio", 8), ("context_min", 64), ("context_max", 256)])
def test_the_papers_context_values_are_preferred(knob: str, value: int) -> None:
    config = ModelConfig(**{knob: value})  # type: ignore[arg-type]
    assert infer_config(state_shapes(config)) == config


@given(data=st.data())
def test_whatever_is_found_has_exactly_the_tensors_of_the_file(
    configs: st.SearchStrategy[ModelConfig], data: st.DataObject
) -> None:
    config = data.draw(configs)
    shapes = {key: list(shape) for key, shape in state_shapes(config).items()}
    assert state_shapes(infer_config(shapes)) == state_shapes(config)


def test_update_counters_may_be_missing() -> None:
    shapes = {key: s for key, s in state_shapes(ModelConfig(width=0.4)).items() if s != ()}
    assert infer_config(shapes) == ModelConfig(width=0.4)


def small(**changes: tuple[int, ...] | None) -> dict[str, tuple[int, ...]]:
    """Shapes of DyMN-S with some changed, and those that are None left out; "__" stands for a dot."""
    renamed = {key.replace("__", "."): shape for key, shape in changes.items()}
    shapes = {**state_shapes(ModelConfig(width=0.4)), **renamed}
    return {key: shape for key, shape in shapes.items() if shape is not None}


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({}, "no DyMN or MN: 0 tensors"),
        ({"conv1.weight": (64, 3, 7, 7), "fc.weight": (1000, 512)}, "no DyMN or MN: 2 tensors"),
        ({"in_c.0.weight": (8, 1, 3, 3)}, "classifier.5.weight is missing"),
        (small(classifier__5__weight=()), r"classifier.5.weight has shape \(\)"),
        (small(classifier__5__weight=(0, 512)), "n_classes"),
        (small(classifier__2__weight=(13, 384)), "no width gives 13 units"),
        (small(layers__3__depth_norm__running_mean=(31,)), "layers.3.depth_norm.running_mean has shape"),
        (small(layers__3__exp_norm__running_mean=None), "layers.3.exp_norm.running_mean is missing"),
        (small(layers__3__context_gen__joint_conv__weight=(24, 16, 1, 1)), "no context ratio"),
        (small(layers__3__context_gen__joint_conv__weight=None), "joint_conv.weight is missing"),
        (small(layers__9__proj_conv__weight=(1, 1, 3, 2304)), "layers.9.proj_conv.weight has shape"),
        (small(layers__4__extra=(1,)), "layers.4.extra"),
    ],
)
def test_what_is_no_such_network_is_named(shapes: dict[str, tuple[int, ...]], words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        infer_config(shapes)
    assert caught.value.hint
    assert "\n" not in caught.value.message
