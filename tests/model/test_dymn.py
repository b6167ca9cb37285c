"""DyMN: which blocks and which of their parts are dynamic."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from dymn_cli.errors import UsageError  # noqa: E402
from dymn_cli.model.blocks import DyConv, DynamicInvertedResidual, DyReLUB, InvertedResidual  # noqa: E402
from dymn_cli.model.config import BLOCK_MASKS, ModelConfig  # noqa: E402
from dymn_cli.model.dymn import DyMN  # noqa: E402


def roles(model: DyMN, kind: type) -> set[str]:
    """Names within a block at which a module of a kind sits."""
    return {name.split(".")[-1] for name, module in model.named_modules() if isinstance(module, kind)}


@pytest.mark.parametrize("mask", BLOCK_MASKS)
def test_blocks_are_dynamic_where_the_mask_says(mask: str) -> None:
    model = DyMN(ModelConfig(width=0.2, dynamic_blocks=BLOCK_MASKS[mask]))
    kinds = [DynamicInvertedResidual if dynamic else InvertedResidual for dynamic in BLOCK_MASKS[mask]]
    assert [type(block) for block in model.layers] == kinds


def test_the_default_has_three_dynamic_convolutions_and_one_dy_relu_a_block() -> None:
    model = DyMN(ModelConfig(width=0.4))
    assert roles(model, DyConv) == {"exp_conv", "depth_conv", "proj_conv"}
    assert roles(model, DyReLUB) == {"depth_act"}


def test_positions_choose_what_is_dynamic() -> None:
    model = DyMN(ModelConfig(width=0.2, dy_conv=("depthwise",), dy_relu=("expand", "project")))
    assert roles(model, DyConv) == {"depth_conv"}
    assert roles(model, DyReLUB) == {"exp_act", "proj_act"}
    assert model(torch.zeros(1, 1, 128, 40))[0].shape == (1, 527)


def test_every_component_can_be_switched_off() -> None:
    model = DyMN(ModelConfig(width=0.2, dy_conv=(), dy_relu=(), coordinate_attention="none"))
    assert not any("context_gen" in key for key in model.state_dict())
    assert model(torch.zeros(1, 1, 128, 40))[1].shape == (1, 192)


def test_a_dymn_without_dynamic_components_is_the_static_network_without_excitation() -> None:
    """The same weights under other names give the same answer."""
    generator = torch.Generator().manual_seed(4)
    off = ModelConfig(width=0.4, dy_conv=(), dy_relu=(), coordinate_attention="none")
    off_model = DyMN(off, generator=generator).eval()
    static = DyMN(ModelConfig(width=0.4, dynamic_blocks=BLOCK_MASKS["none"])).eval()
    static.load_state_dict(dict(zip(static.state_dict(), off_model.state_dict().values(), strict=True)))
    mel = torch.randn(2, 1, 128, 65, generator=generator)
    torch.testing.assert_close(static(mel)[0], off_model(mel)[0])


def test_a_config_of_the_other_family_is_refused() -> None:
    with pytest.raises(UsageError, match="'mn'"):
        DyMN(ModelConfig(family="mn"))
