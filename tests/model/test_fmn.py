"""FMN: the blocks of MN with steps of 40 ms, against what the published implementation answers.

`golden/framewise_noise.json` comes from a run of the public repository theMoro/EfficientSED (commit 7bef42e)
in float64 and evaluation mode: its `FrameMNWrapper` of width 0.4 and 0.6, and the linear `strong_head` of its
`PredictionsWrapper`. To make it again, give both the weights of `filled_weights` (by the keys without the
prefix `model.fmn.`), feed `noise_mel`, and keep what `every` says of the (2, 110, 447) frame logits and of
the mean over steps.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from dymn_cli.errors import ModelError, UsageError  # noqa: E402
from dymn_cli.model.build import build, restore  # noqa: E402
from dymn_cli.model.complexity import complexity  # noqa: E402
from dymn_cli.model.config import ARCHITECTURES, ModelConfig, architecture_of  # noqa: E402
from dymn_cli.model.fmn import FMN  # noqa: E402
from dymn_cli.model.infer import infer_config  # noqa: E402
from dymn_cli.model.layout import state_shapes  # noqa: E402

Fill = Callable[[nn.Module], nn.Module]

GOLDEN = json.loads((Path(__file__).parent / "golden" / "framewise_noise.json").read_text())
NAMES = [name for name in ARCHITECTURES if name.startswith("fmn")]
SMALL = ModelConfig("fmn", 0.2, n_classes=7)


@pytest.mark.parametrize("name", GOLDEN["answers"])
def test_answers_of_the_published_implementation(name: str, filled_weights: Fill, noise_mel: Tensor) -> None:
    model = filled_weights(build(ARCHITECTURES[name])).double().eval()
    with torch.no_grad():
        features = model.forward_features(noise_mel.double())
        frames, embedding = model.forward_frames(features).numpy(), model.forward_head(features)[1].numpy()
    steps, classes = GOLDEN["every"]["frame_logits"]
    (units,) = GOLDEN["every"]["embedding"]
    found = {"frame_logits": frames[:, ::steps, ::classes], "embedding": embedding[:, ::units]}
    for what, values in found.items():
        golden = GOLDEN["answers"][name][what]
        assert np.abs(values - golden["values"]).max() < 1e-6 * golden["largest"]


def test_ten_seconds_are_250_steps_of_one_frequency() -> None:
    config = ARCHITECTURES["fmn04"]
    model = build(config).eval()
    with torch.no_grad():
        features = model.forward_features(torch.zeros(1, 1, 128, 1000))
    assert features.shape == (1, config.embedding_size, 1, 250)
    assert (config.step_frames, config.n_steps(1000), config.n_steps(437)) == (4, 250, 110)


def test_a_clip_scores_as_its_best_step_does(filled_weights: Fill, noise_mel: Tensor) -> None:
    model = filled_weights(build(SMALL)).eval()
    with torch.no_grad():
        logits, embedding = model(noise_mel)
        features = model.forward_features(noise_mel)
        frames = model.forward_frames(features)
    assert frames.shape == (2, 110, 7)
    assert torch.equal(logits, frames.max(dim=1).values)
    assert not torch.equal(frames[:, 0], frames[:, 50])
    torch.testing.assert_close(embedding, features[:, :, 0].mean(dim=2))


@pytest.mark.parametrize("name", NAMES)
def test_its_tensors_tell_the_architecture(name: str) -> None:
    config = ARCHITECTURES[name]
    shapes = state_shapes(config)
    assert infer_config(shapes) == config
    assert architecture_of(config) == architecture_of(config.with_classes(12)) == name
    with torch.device("meta"):
        assert {key: tuple(tensor.shape) for key, tensor in build(config).state_dict().items()} == shapes


def test_its_cost_is_that_of_its_modules() -> None:
    cost = complexity(SMALL)
    assert cost.parameters == sum(value.numel() for value in build(SMALL).parameters())
    shorter = complexity(SMALL, n_frames=500)
    head = {row.name: row.macs for row in cost.rows}["strong_head"]
    assert head == 250 * SMALL.embedding_size * 7
    assert {row.name: row.macs for row in shorter.rows}["strong_head"] == head // 2


def test_the_head_that_was_never_trained_is_left_out(filled_weights: Fill) -> None:
    state = filled_weights(build(SMALL)).state_dict()
    weak = {"weak_head.weight": torch.ones(7, SMALL.embedding_size), "weak_head.bias": torch.ones(7)}
    model = restore({**state, **weak})
    assert isinstance(model, FMN) and model.config == SMALL
    assert not any(key.startswith("weak_head") for key in model.state_dict())
    with pytest.raises(ModelError, match="strange"):
        restore({**state, "strange.weight": torch.ones(7)})


def test_the_head_can_be_drawn_for_other_classes() -> None:
    model = build(SMALL)
    model.reset_head(3, generator=torch.Generator().manual_seed(1))
    assert model.config.n_classes == 3
    assert model(torch.zeros(1, 1, 128, 100))[0].shape == (1, 3)
    with pytest.raises(UsageError, match="nothing but its steps"):
        model.add_frame_head()


def test_a_config_that_is_no_such_network_is_refused() -> None:
    with pytest.raises(UsageError, match="frame_head"):
        dataclasses.replace(SMALL, frame_head=True)
    with pytest.raises(UsageError, match="static_attention"):
        dataclasses.replace(SMALL, static_attention="coordinate")
    with pytest.raises(UsageError, match="family"):
        FMN(ModelConfig("mn", 0.2))
    with pytest.raises(UsageError, match="no classifier to train"):
        SMALL.require_trainable("fmn04_strong")
    assert ModelConfig.from_json(SMALL.to_json()) == SMALL
