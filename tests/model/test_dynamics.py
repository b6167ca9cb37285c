"""The dynamic parts depend on the input: what they choose is seen, and matters."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from dymn_cli.errors import UsageError  # noqa: E402
from dymn_cli.hear import load_model  # noqa: E402
from dymn_cli.model.backbone import Backbone  # noqa: E402
from dymn_cli.model.blocks import Context, ContextGeneration  # noqa: E402
from dymn_cli.model.build import build  # noqa: E402
from dymn_cli.model.config import BLOCK_MASKS, ModelConfig  # noqa: E402
from dymn_cli.model.dynamics import dynamics_of  # noqa: E402


def network(**knobs: object) -> Backbone:
    """A small network whose coefficients have something to say, unlike those of fresh weights."""
    config = ModelConfig(**{"width": 0.1, "n_classes": 5, **knobs})  # type: ignore[arg-type]
    made = build(config, generator=torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for key, value in made.named_parameters():
            if "residuals" in key or "coef_net" in key or "own_context" in key:
                value.normal_(0.0, 0.2, generator=generator)
        for module in made.modules():  # statistics of the clips, so that signals do not die out
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        made.train()(coloured())
    return made.eval()


def coloured() -> torch.Tensor:
    """Three log-mels (3, 1, 32, 40), each with a spectrum and a course of its own."""
    generator = torch.Generator().manual_seed(5)
    shapes = ((3, 1, 32, 40), (3, 1, 32, 1), (3, 1, 1, 40))
    return sum((torch.randn(shape, generator=generator) for shape in shapes), torch.zeros(()))


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    return coloured()


@pytest.mark.parametrize("sharing", ["shared", "per-component", "separate-sequences", "concatenated"])
def test_what_a_block_chooses_depends_on_the_clip(sharing: str, clips: torch.Tensor) -> None:
    blocks = dynamics_of(network(context_sharing=sharing), clips)
    assert [block.index for block in blocks] == list(range(15))
    for block in blocks:
        for shares in block.kernel_attention.values():
            assert shares.shape == (3, 4)
            torch.testing.assert_close(shares.sum(dim=1), torch.ones(3))
            assert (shares[0] - shares[2]).abs().max() > 1e-4
        assert (block.slopes["depthwise"][0] - block.slopes["depthwise"][2]).abs().max() > 1e-4
        assert block.frequency.shape[:2] == block.time.shape[:2] == block.slopes["depthwise"].shape[:2]
        assert (block.time.mean(dim=2)[0] - block.time.mean(dim=2)[2]).abs().max() > 1e-4
        assert 0 <= block.frequency.min() < block.frequency.max() <= 1


def test_a_clip_chooses_the_same_in_any_company(clips: torch.Tensor) -> None:
    model = network()
    alone, together = dynamics_of(model, clips[1:2])[14], dynamics_of(model, clips)[14]
    torch.testing.assert_close(
        alone.kernel_attention["project"][0], together.kernel_attention["project"][1], rtol=1e-4, atol=1e-5
    )


def test_a_trained_model_chooses_by_what_it_hears() -> None:
    model = load_model()
    time_s = torch.arange(32_000) / 32_000
    noise = 0.1 * torch.randn(32_000, generator=torch.Generator().manual_seed(0))
    audio = torch.stack([0.3 * torch.sin(2 * torch.pi * 440 * time_s), noise])
    blocks = dynamics_of(model.network, model.log_mel(audio))
    shares = torch.stack([block.kernel_attention["project"] for block in blocks])
    assert (shares[:, 0] - shares[:, 1]).abs().max() > 0.05
    last = blocks[14]
    assert (last.slopes["depthwise"][0] - last.slopes["depthwise"][1]).abs().max() > 0.05
    assert (last.frequency[0] - last.frequency[1]).abs().max() > 0.05


def test_contexts_of_other_clips_change_the_answer(clips: torch.Tensor) -> None:
    model = network()
    with torch.inference_mode():
        own, _ = model(clips)
        again, _ = model(clips)

        def shuffled(_module: torch.nn.Module, _inputs: object, context: Context) -> Context:
            return Context(*(part.roll(1, 0) for part in context))

        handles = [
            module.register_forward_hook(shuffled)
            for module in model.modules()
            if isinstance(module, ContextGeneration)
        ]
        others, _ = model(clips)
        for handle in handles:
            handle.remove()
    torch.testing.assert_close(own, again)
    assert ((own - others).abs().amax(dim=1) > 0.01 * own.abs().max()).all()


def test_only_what_is_dynamic_is_there(clips: torch.Tensor) -> None:
    model = network(
        dynamic_blocks=BLOCK_MASKS["last-5"],
        dy_conv=("project",),
        dy_relu=(),
        coordinate_attention="time",
    )
    model.train()
    blocks = dynamics_of(model, clips)
    assert model.training, "it goes back to the mode that it was in"
    assert [block.index for block in blocks] == [10, 11, 12, 13, 14]
    assert set(blocks[0].kernel_attention) == {"project"}
    assert blocks[0].slopes == {}
    assert blocks[0].frequency is None
    assert blocks[0].time is not None


def test_what_is_no_batch_of_log_mels_is_refused(clips: torch.Tensor) -> None:
    model = network()
    for wrong in (clips[0, 0], clips[0], clips.repeat(1, 2, 1, 1), clips[..., :0]):
        with pytest.raises(UsageError, match=r"not \(n, 1, n_mels, n_frames\)"):
            dynamics_of(model, wrong)
    for other in (clips.numpy(), clips.int()):
        with pytest.raises(UsageError, match="a tensor of floats"):
            dynamics_of(model, other)
    with pytest.raises(UsageError, match="NaN"):
        dynamics_of(model, clips * torch.nan)


def test_a_static_network_is_refused(clips: torch.Tensor) -> None:
    with pytest.raises(UsageError, match="no block of this network is dynamic"):
        dynamics_of(network(family="mn"), clips)
