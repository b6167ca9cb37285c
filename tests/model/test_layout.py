"""The walk through an architecture without torch, held to the torch modules and the published names."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from dymn_cli.model.build import build  # noqa: E402
from dymn_cli.model.config import ModelConfig  # noqa: E402
from dymn_cli.model.layout import is_optional, state_shapes  # noqa: E402


@settings(max_examples=settings.default.max_examples // 2, deadline=None)
@given(data=st.data())
def test_keys_and_shapes_are_those_of_the_torch_modules(
    configs: st.SearchStrategy[ModelConfig], data: st.DataObject
) -> None:
    config = data.draw(configs)
    with torch.device("meta"):
        model = build(config)
    assert state_shapes(config) == {key: tuple(t.shape) for key, t in model.state_dict().items()}


def test_published_names_and_shapes_of_a_dynamic_block() -> None:
    shapes = state_shapes(ModelConfig(width=0.4))
    assert {
        key: shape for key, shape in shapes.items() if key.startswith("layers.1.") and "norm" not in key
    } == {
        "layers.1.exp_conv.weight": (1, 1, 4, 24 * 8),
        "layers.1.exp_conv.residuals.0.weight": (4, 16),
        "layers.1.exp_conv.residuals.0.bias": (4,),
        "layers.1.depth_conv.weight": (1, 1, 4, 24 * 9),
        "layers.1.depth_conv.residuals.0.weight": (4, 16),
        "layers.1.depth_conv.residuals.0.bias": (4,),
        "layers.1.depth_act.lambdas": (4,),
        "layers.1.depth_act.init_v": (4,),
        "layers.1.depth_act.coef_net.0.weight": (2 * 2 * 24, 16),
        "layers.1.depth_act.coef_net.0.bias": (2 * 2 * 24,),
        "layers.1.proj_conv.weight": (1, 1, 4, 16 * 24),
        "layers.1.proj_conv.residuals.0.weight": (4, 16),
        "layers.1.proj_conv.residuals.0.bias": (4,),
        "layers.1.context_gen.joint_conv.weight": (16, 8, 1, 1),
        "layers.1.context_gen.conv_f.weight": (24, 16, 1, 1),
        "layers.1.context_gen.conv_f.bias": (24,),
        "layers.1.context_gen.conv_t.weight": (24, 16, 1, 1),
        "layers.1.context_gen.conv_t.bias": (24,),
    }


def test_published_names_of_switched_off_components_and_of_mn() -> None:
    plain = state_shapes(ModelConfig(dy_conv=(), dy_relu=()))
    assert plain["layers.3.depth_conv.module.weight"] == (72, 1, 5, 5)
    assert not any("_act." in key for key in plain)
    mn = state_shapes(ModelConfig(family="mn", width=0.4))
    assert mn["features.4.block.2.conc_se_layers.0.fc1.weight"] == (8, 32)
    assert mn["features.1.block.1.0.weight"] == (8, 8, 1, 1)
    assert mn["features.16.0.weight"] == (384, 64, 1, 1)


def test_only_the_update_counters_are_optional() -> None:
    shapes = state_shapes(ModelConfig(width=0.4))
    optional = {key for key in shapes if is_optional(key)}
    assert optional == {key for key, shape in shapes.items() if shape == ()}
