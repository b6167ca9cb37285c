"""Scores for each step of time: a head of their own, or the classifier in its place."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from dymn_cli.errors import ModelError, UsageError  # noqa: E402
from dymn_cli.model.build import build, load_weights, restore  # noqa: E402
from dymn_cli.model.config import ModelConfig, architecture_of  # noqa: E402
from dymn_cli.model.infer import infer_config  # noqa: E402

Fill = Callable[[nn.Module], nn.Module]

FAMILIES = [ModelConfig(width=0.2, n_classes=7), ModelConfig(family="mn", width=0.2, n_classes=7)]
HEADED = [ModelConfig(width=0.2, n_classes=7, frame_head=True), ModelConfig("mn", 0.2, 7, frame_head=True)]


@pytest.mark.parametrize("config", FAMILIES, ids=["dymn", "mn"])
def test_without_a_head_the_classifier_scores_each_step(
    config: ModelConfig, filled_weights: Fill, noise_mel: Tensor
) -> None:
    model = filled_weights(build(config)).double().eval()
    assert model.strong_head is None
    with torch.no_grad():
        features = model.forward_features(noise_mel.double())
        frames = model.forward_frames(features)
        assert frames.shape == (2, 14, 7) == (2, config.n_steps(437), 7)
        for step in range(14):
            alone, _ = model.forward_head(features[..., step : step + 1])
            torch.testing.assert_close(frames[:, step], alone)


@pytest.mark.parametrize("config", FAMILIES, ids=["dymn", "mn"])
def test_a_head_made_of_the_classifier_changes_no_frame(
    config: ModelConfig, filled_weights: Fill, noise_mel: Tensor
) -> None:
    model = filled_weights(build(config)).double().eval()
    with torch.no_grad():
        features = model.forward_features(noise_mel.double())
        before = model.forward_frames(features)
        model.add_frame_head()
        torch.testing.assert_close(model.forward_frames(features), before)
    assert model.config.frame_head and not config.frame_head
    assert model.strong_head[0].weight.dtype == torch.float64
    assert not model.strong_head.training
    # Copies: training one leaves the other alone.
    with torch.no_grad():
        model.strong_head[2].bias += 1
        torch.testing.assert_close(model.forward_frames(features), before + 1)
        assert not model.classifier[5].bias.equal(model.strong_head[2].bias)


def test_a_drawn_head_starts_small_and_repeats() -> None:
    def drawn() -> nn.Sequential:
        model = build(FAMILIES[0], generator=torch.Generator().manual_seed(0))
        model.add_frame_head(from_classifier=False, generator=torch.Generator().manual_seed(3))
        return model.strong_head

    one, other = drawn(), drawn()
    assert one[0].weight.equal(other[0].weight)
    assert one[0].weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert not one[2].bias.any()


@pytest.mark.parametrize("config", HEADED, ids=["dymn", "mn"])
def test_a_state_dict_with_the_head_is_recognised_and_restored(
    config: ModelConfig, filled_weights: Fill, noise_mel: Tensor
) -> None:
    model = filled_weights(build(config)).eval()
    state = model.state_dict()
    assert {key for key in state if "strong" in key} == {
        f"strong_head.{n}.{part}" for n in (0, 2) for part in ("weight", "bias")
    }
    assert infer_config({key: tuple(tensor.shape) for key, tensor in state.items()}) == config
    copy = restore(state)
    with torch.no_grad():
        features = model.forward_features(noise_mel)
        assert copy.forward_frames(features).equal(model.forward_frames(features))
        assert not model.forward_frames(features)[:, 0].allclose(model.forward_head(features[..., :1])[0])


def test_half_a_head_is_no_head() -> None:
    state = build(HEADED[0]).state_dict()
    half = {key: tensor for key, tensor in state.items() if key != "strong_head.2.bias"}
    with pytest.raises(ModelError, match=r"strong_head\.2\.bias is missing"):
        restore(half)
    rest = {key: tensor for key, tensor in state.items() if not key.startswith("strong_head.0")}
    with pytest.raises(ModelError, match=r"no such network has: strong_head\.2"):
        restore(rest)
    with pytest.raises(ModelError, match=r"unknown: strong_head\.0\.weight"):
        load_weights(build(FAMILIES[0]), state)


def test_another_task_drops_the_head() -> None:
    model = build(HEADED[0])
    model.reset_head(3)
    assert model.strong_head is None
    assert model.config == ModelConfig(width=0.2, n_classes=3)
    assert not any("strong" in key for key in model.state_dict())


def test_the_config_travels_as_json_and_keeps_its_architecture() -> None:
    config = ModelConfig(width=0.4, frame_head=True)
    assert ModelConfig.from_json(config.to_json()) == config
    assert ModelConfig.from_json("{}").frame_head is False
    assert architecture_of(config) == "dymn04"
    with pytest.raises(UsageError, match="frame_head"):
        ModelConfig.from_json('{"frame_head": 1}')
