"""State dicts in and out: strict, with our own words where they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from dymn_cli.errors import ModelError  # noqa: E402
from dymn_cli.model.build import build, load_weights, restore  # noqa: E402
from dymn_cli.model.config import BLOCK_MASKS, ModelConfig  # noqa: E402
from dymn_cli.model.dymn import DyMN  # noqa: E402
from dymn_cli.model.mn import MN  # noqa: E402

SMALL = ModelConfig(width=0.2, n_classes=7)


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """A state dict of a small DyMN."""
    return build(SMALL, generator=torch.Generator().manual_seed(3)).state_dict()


def test_the_family_decides_the_class() -> None:
    assert isinstance(build(SMALL), DyMN)
    assert isinstance(build(ModelConfig(family="mn", width=0.2)), MN)


def test_what_is_saved_is_what_is_restored(weights: dict[str, Tensor]) -> None:
    model = restore(weights)
    assert not model.training
    assert model.config == SMALL
    assert all(torch.equal(tensor, weights[key]) for key, tensor in model.state_dict().items())


def test_weights_without_update_counters_load(weights: dict[str, Tensor]) -> None:
    bare = {key: tensor for key, tensor in weights.items() if tensor.ndim}
    assert len(bare) < len(weights)
    assert torch.equal(restore(bare).state_dict()["in_c.0.weight"], weights["in_c.0.weight"])


def test_half_precision_weights_load_into_a_float32_model(weights: dict[str, Tensor]) -> None:
    halves = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in weights.items()}
    assert restore(halves).state_dict()["in_c.0.weight"].dtype == torch.float32


def test_missing_unknown_and_misshapen_tensors_are_named_in_one_line(weights: dict[str, Tensor]) -> None:
    wrong = dict(weights)
    del wrong["layers.4.exp_conv.weight"]
    wrong["layers.4.exp_conv.module.weight"] = torch.zeros(24, 8, 1, 1)
    wrong["classifier.5.bias"] = torch.zeros(9)
    with pytest.raises(ModelError) as caught:
        load_weights(build(SMALL), wrong)
    message = caught.value.message
    assert "missing: layers.4.exp_conv.weight" in message
    assert "unknown: layers.4.exp_conv.module.weight" in message
    assert "classifier.5.bias (9,) instead of (7,)" in message
    assert "\n" not in message


def test_many_wrong_tensors_are_counted_not_listed(weights: dict[str, Tensor]) -> None:
    with pytest.raises(ModelError, match=r"and \d+ more") as caught:
        load_weights(build(ModelConfig(family="mn", width=0.2)), weights)
    assert len(caught.value.message) < 500


def test_a_refused_state_dict_leaves_the_model_as_it_was(weights: dict[str, Tensor]) -> None:
    model = build(SMALL)
    before = model.state_dict()["in_c.0.weight"].clone()
    with pytest.raises(ModelError):
        load_weights(model, {**weights, "surprise": torch.zeros(1)})
    assert torch.equal(model.state_dict()["in_c.0.weight"], before)


def test_unused_attention_convolutions_of_published_files_are_left_out(weights: dict[str, Tensor]) -> None:
    without = ModelConfig(width=0.2, n_classes=7, coordinate_attention="none")
    model = restore(weights, without)
    assert torch.equal(
        model.state_dict()["layers.14.proj_norm.weight"], weights["layers.14.proj_norm.weight"]
    )
    assert not any("conv_f" in key for key in model.state_dict())


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(width=0.2, n_classes=7, coordinate_attention="time"),
        ModelConfig(width=0.2, n_classes=7, dynamic_blocks=BLOCK_MASKS["none"]),
    ],
)
def test_attention_convolutions_are_not_dropped_where_attention_is_only_reduced(
    weights: dict[str, Tensor], config: ModelConfig
) -> None:
    with pytest.raises(ModelError, match="unknown"):
        restore(weights, config)


def test_an_unused_context_generation_is_left_out(weights: dict[str, Tensor]) -> None:
    plain = ModelConfig(width=0.2, n_classes=7, dy_conv=(), dy_relu=(), coordinate_attention="none")
    state = build(plain).state_dict()
    contexts = {key: tensor for key, tensor in weights.items() if ".context_gen." in key}
    assert contexts
    assert restore({**state, **contexts}, plain).config == plain


def test_the_same_generator_gives_the_same_network() -> None:
    first, second, other = (
        build(SMALL, generator=torch.Generator().manual_seed(seed)).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["layers.2.proj_conv.weight"], other["layers.2.proj_conv.weight"])


def test_initial_weights_follow_the_published_recipe() -> None:
    model = build(ModelConfig(), generator=torch.Generator().manual_seed(0))
    state = model.state_dict()
    # Each kernel has the spread of a convolution of its own: sqrt(2 / (outputs · k · k)).
    for key, fan_out in (("layers.13.exp_conv.weight", 960), ("layers.13.depth_conv.weight", 960 * 25)):
        for kernel in state[key][0, 0]:
            assert kernel.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
            assert abs(kernel.mean().item()) < 0.1 * (2 / fan_out) ** 0.5
    assert state["out_c.0.weight"].std().item() == pytest.approx((2 / 960) ** 0.5, rel=0.05)
    for key in ("classifier.2.weight", "layers.9.depth_act.coef_net.0.weight"):
        assert state[key].std().item() == pytest.approx(0.01, rel=0.05)
    assert not any(tensor.any() for key, tensor in state.items() if key.endswith("bias"))
    assert all((m.eps, m.momentum) == (1e-3, 0.01) for m in model.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize("name", ["dymn04_kd.pt", "mn04_as_mAP_432.pt"])
def test_real_checkpoints_are_recognised_and_load_strictly(shared: Path, name: str) -> None:
    tensors = torch.load(shared / "weights" / name, weights_only=True)
    model = restore(tensors)
    assert model.config == ModelConfig(family="dymn" if "dymn" in name else "mn", width=0.4)
    assert set(model.state_dict()) == set(tensors)
