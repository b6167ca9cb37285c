"""How both networks are used: features, head, temperature, other tasks, odd sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from dymn_cli.errors import UsageError  # noqa: E402
from dymn_cli.model.build import build  # noqa: E402
from dymn_cli.model.config import BLOCK_MASKS, ModelConfig  # noqa: E402

Fill = Callable[[nn.Module], nn.Module]

GOLDEN = json.loads((Path(__file__).parent / "golden" / "backbone_noise.json").read_text())
PUBLISHED = {
    "dymn04": ModelConfig(width=0.4),
    "dymn10": ModelConfig(),
    "dymn20": ModelConfig(width=2.0),
    "dymn10_replace_se": ModelConfig(dynamic_blocks=BLOCK_MASKS["replace-se"]),
    "mn04": ModelConfig(family="mn", width=0.4),
    "mn10": ModelConfig(family="mn"),
}
FAMILIES = [ModelConfig(width=0.2, n_classes=7), ModelConfig(family="mn", width=0.2, n_classes=7)]


@pytest.mark.parametrize("name", GOLDEN["answers"])
def test_answers_of_the_published_implementation(name: str, filled_weights: Fill, noise_mel: Tensor) -> None:
    model = filled_weights(build(PUBLISHED[name])).double().eval()
    with torch.no_grad():
        found = dict(zip(("logits", "embedding"), model(noise_mel.double()), strict=True))
    for what, answer in found.items():
        golden = GOLDEN["answers"][name][what]
        spread = answer.numpy()[:, :: GOLDEN["every"][what]]
        assert np.abs(spread - golden["values"]).max() < 1e-6 * golden["largest"]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "dymn20" else name for name in PUBLISHED]
)
def test_parity_with_the_published_implementation(name: str, shared: Path, filled_weights: Fill) -> None:
    model = filled_weights(build(PUBLISHED[name])).eval()
    # The other two amplify the rounding of float32 beyond any use of a tolerance.
    precisions = {torch.float64: 1e-6}
    if name in ("dymn04", "dymn10", "mn04", "mn10"):
        precisions[torch.float32] = 1e-4
    with np.load(shared / "golden" / "backbone.npz") as golden:
        for dtype, tolerance in precisions.items():
            model = model.to(dtype)
            for clip in ("metro", "noise"):
                with torch.no_grad():
                    found = model(torch.from_numpy(golden[f"{clip}/mel"]).to(dtype))
                for what, answer in zip(("logits", "embedding"), found, strict=True):
                    expected = golden[f"{name}/{clip}/{what}"]
                    error = np.abs(answer.double().numpy() - expected).max() / np.abs(expected).max()
                    assert error < tolerance, (clip, what, dtype)


@pytest.fixture(params=FAMILIES, ids=lambda config: config.family)
def network(request: pytest.FixtureRequest, filled_weights: Fill) -> nn.Module:
    """A small network of each family with lively weights, in evaluation mode and float64."""
    return filled_weights(build(request.param)).double().eval()


@pytest.fixture
def mels() -> Tensor:
    """Three log-mels of noise at different levels, (3, 1, 128, 93) float64."""
    noise = torch.randn(3, 1, 128, 93, generator=torch.Generator().manual_seed(2)).double()
    return noise * torch.tensor([0.2, 0.6, 1.8]).view(3, 1, 1, 1).double()


def test_a_batch_answers_as_its_samples_do_alone(network: nn.Module, mels: Tensor) -> None:
    logits, embedding = network(mels)
    for n in range(3):
        alone = network(mels[n : n + 1])
        torch.testing.assert_close(logits[n : n + 1], alone[0], rtol=0, atol=1e-9 * logits.abs().max().item())
        torch.testing.assert_close(embedding[n : n + 1], alone[1])
    assert not torch.allclose(logits[0], logits[1], rtol=0.01)


@pytest.mark.parametrize("n_frames", [1, 2, 31, 32, 33, 101])
@pytest.mark.parametrize("n_mels", [40, 128])
def test_any_number_of_frames_and_bands(network: nn.Module, n_frames: int, n_mels: int) -> None:
    features = network.forward_features(torch.ones(2, 1, n_mels, n_frames).double())
    assert features.shape == (2, network.config.embedding_size, -(-n_mels // 32), -(-n_frames // 32))
    logits, embedding = network.forward_head(features)
    assert logits.shape == (2, 7)
    torch.testing.assert_close(embedding, features.mean(dim=(2, 3)))


def test_feature_maps_are_those_of_the_stem_the_blocks_and_the_last_convolution(
    network: nn.Module, mels: Tensor
) -> None:
    maps = network.feature_maps(mels)
    config = network.config
    channels = [config.stem_channels, *(b.out_channels for b in config.blocks), config.embedding_size]
    assert [x.shape[1] for x in maps] == channels
    assert [x.shape[2] for x in maps] == [64, 64, *[32] * 2, *[16] * 3, *[8] * 6, *[4] * 4]
    torch.testing.assert_close(network.forward_head(maps[-1])[0], network(mels)[0], rtol=0, atol=0)
    # Kept while later stages run: none of them may work in place on what was handed out.
    torch.testing.assert_close(network.feature_maps(mels)[0], network.stages[0](mels), rtol=0, atol=0)


def test_evaluation_is_deterministic_and_leaves_no_trace(network: nn.Module, mels: Tensor) -> None:
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    first, second = network(mels)[0], network(mels)[0]
    assert torch.equal(first, second)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


def test_training_reaches_every_parameter(mels: Tensor) -> None:
    torch.manual_seed(0)
    for config in FAMILIES:
        model = build(config)
        model(mels.float())[0].square().sum().backward()
        idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert idle == []


def test_temperature_is_set_on_all_dynamic_convolutions_at_once(filled_weights: Fill, mels: Tensor) -> None:
    model = filled_weights(build(FAMILIES[0])).double().eval()
    sharp = model(mels)[0]
    model.set_temperature(30.0)
    even = model(mels)[0]
    assert not torch.allclose(sharp, even, rtol=0.01)
    state = dict(model.state_dict())
    average = build(ModelConfig(width=0.2, n_classes=7, kernels=1)).double().eval()
    for key, tensor in state.items():
        if key.endswith("_conv.weight") and tensor.ndim == 4 and tensor.shape[:2] == (1, 1):
            state[key] = tensor.mean(dim=2, keepdim=True)
        elif "residuals" in key:
            state[key] = tensor[:1]
    average.load_state_dict(state)
    model.set_temperature(1e12)
    torch.testing.assert_close(model(mels)[0], average(mels)[0], rtol=1e-6, atol=1e-6)


def test_the_config_gives_the_first_temperature(filled_weights: Fill, mels: Tensor) -> None:
    warm = filled_weights(build(ModelConfig(width=0.2, n_classes=7, temperature=30.0))).double().eval()
    set_later = filled_weights(build(FAMILIES[0])).double().eval()
    set_later.set_temperature(30.0)
    assert torch.equal(warm(mels)[0], set_later(mels)[0])


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_an_impossible_temperature_is_refused(temperature: float) -> None:
    with pytest.raises(UsageError, match="temperature"):
        build(FAMILIES[0]).set_temperature(temperature)


def test_a_new_head_keeps_the_backbone_and_the_embedding(network: nn.Module, mels: Tensor) -> None:
    logits, embedding = network(mels)
    network.reset_head(50, generator=torch.Generator().manual_seed(1))
    new_logits, same_embedding = network(mels)
    assert (logits.shape, new_logits.shape) == ((3, 7), (3, 50))
    assert torch.equal(embedding, same_embedding)
    assert network.config.n_classes == 50
    last = network.classifier[5]
    assert last.weight.dtype == torch.float64
    assert last.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert not last.bias.any()


def test_a_head_needs_a_class() -> None:
    with pytest.raises(UsageError, match="n_classes"):
        build(FAMILIES[0]).reset_head(0)


def test_dropout_acts_in_training_only(mels: Tensor) -> None:
    torch.manual_seed(0)
    model = build(ModelConfig(width=0.2, n_classes=7, dropout=0.5)).eval()
    features = model.forward_features(mels.float())
    assert torch.equal(model.forward_head(features)[0], model.forward_head(features)[0])
    model.train()
    assert not torch.equal(model.forward_head(features)[0], model.forward_head(features)[0])
