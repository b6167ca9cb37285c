"""From a checkpoint to a model: what its tensors show, what must be said, what the real ones answer."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from fuzzing.torchfile import checkpoint

from dymn_cli.errors import ModelError, UnsafeWeightsError, UsageError, WeightsMissingError
from dymn_cli.frontend.melbank import FRAMEWISE, FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.model.config import BLOCK_MASKS, ModelConfig
from dymn_cli.model.layout import is_optional, state_shapes
from dymn_cli.store.convert import convert
from dymn_cli.store.registry import DEFAULT_MODEL
from dymn_cli.store.weights import read_weights, save_weights

NAMES = Vocabulary.from_names(["rain", "wind", "sea"])
THREE = ModelConfig("mn", 0.1, n_classes=3)
DYNAMIC = ModelConfig("dymn", 0.1, n_classes=3)
FRAMES = ModelConfig("fmn", 0.1, n_classes=447)

Put = Callable[..., Path]


def state(config: ModelConfig) -> dict[str, np.ndarray]:
    """Small positive values for every tensor of a config."""
    rng = np.random.default_rng(5)
    return {
        key: np.array(9, np.int64) if is_optional(key) else rng.random(shape, np.float32)
        for key, shape in state_shapes(config).items()
    }


@pytest.fixture
def put(tmp_path: Path) -> Put:
    def write(tensors: Mapping[str, np.ndarray] | ModelConfig, name: str = "mine.pt") -> Path:
        path = tmp_path / name
        path.write_bytes(checkpoint(state(tensors) if isinstance(tensors, ModelConfig) else tensors))
        return path

    return write


@pytest.mark.parametrize(
    "config",
    [
        THREE,
        DYNAMIC,
        dataclasses.replace(DYNAMIC, dynamic_blocks=BLOCK_MASKS["replace-se"], width=0.2),
        dataclasses.replace(DYNAMIC, kernels=2, mappings=3, dy_relu=("depthwise", "project")),
    ],
    ids=["mn", "dymn", "replace-se", "other parts"],
)
def test_the_architecture_follows_from_the_tensors(config: ModelConfig, put: Put) -> None:
    header, tensors = convert(put(config), name="mine", labels=NAMES)
    assert header.name == "mine"
    assert state_shapes(header.config) == state_shapes(config)
    assert header.vocabulary.names == NAMES.names
    assert header.purpose == "tags"
    assert header.front_end == FrontEndConfig()
    assert header.config.temperature == 1
    expected = {key: values for key, values in state(config).items() if not is_optional(key)}
    assert tensors.keys() == expected.keys()
    for key, values in tensors.items():
        np.testing.assert_array_equal(values, expected[key])


def test_what_a_checkpoint_does_not_hold_is_given(put: Put) -> None:
    front_end = FrontEndConfig(n_hop=160, n_mels=64)
    header, _ = convert(put(DYNAMIC), name="x", labels=NAMES, temperature=30, front_end=front_end)
    assert header.config.temperature == 30.0
    assert header.front_end == front_end
    with pytest.raises(UsageError, match="temperature"):
        convert(put(DYNAMIC), name="x", labels=NAMES, temperature=-1)


@pytest.mark.parametrize(
    ("name", "n_hop", "n_mels", "temperature", "purpose"),
    [
        ("dymn04_as.pt", 320, 128, 1, "tags"),
        ("mn10_as_mAP_471.pt", 320, 128, 1, "tags"),
        ("mn10_as_hop_5_mAP_475.pt", 160, 128, 1, "tags"),
        ("mn10_as_hop_25.ckpt", 800, 128, 1, "tags"),
        ("mn10_as_mels_256_mAP_474.pth", 320, 256, 1, "tags"),
        ("dymn10_im.pt", 320, 128, 30, "embeddings"),
        ("my_hop_5.pt", 320, 128, 1, "tags"),
        ("mn10_im_or_not.pt", 320, 128, 30, "embeddings"),
        ("dymn10_immense.pt", 320, 128, 1, "tags"),
    ],
)
def test_published_names_say_what_their_files_do_not(
    name: str, n_hop: int, n_mels: int, temperature: float, purpose: str, put: Put
) -> None:
    """A front end that is not the model's would give wrong scores without a word."""
    header, _ = convert(put(THREE.with_classes(527), name), name="x", purpose=None)
    assert (header.front_end.n_hop, header.front_end.n_mels) == (n_hop, n_mels)
    assert (header.config.temperature, header.purpose) == (temperature, purpose)
    given, _ = convert(
        put(THREE.with_classes(527), name),
        name="x",
        purpose="embeddings",
        temperature=2,
        front_end=FrontEndConfig(n_mels=99),
    )
    assert (given.config.temperature, given.front_end.n_mels) == (2, 99)


def published(state: Mapping[str, np.ndarray], network: str, heads: str) -> dict[str, np.ndarray]:
    """The state dict of an FMN as EfficientSED publishes it: heads beside the network, two of them."""
    weak = {key.replace("strong", "weak"): values + 1 for key, values in state.items() if "strong" in key}
    return {f"{heads if '_head' in key else network}{key}": v for key, v in {**state, **weak}.items()}


@pytest.mark.parametrize(
    ("network", "heads"),
    [("net.model.", "net."), ("model.model.", "model."), ("model.fmn.", ""), ("", "")],
)
def test_an_fmn_is_found_with_the_head_beside_it(network: str, heads: str, put: Put) -> None:
    header, tensors = convert(put(published(state(FRAMES), network, heads)), name="x")
    assert header.config == FRAMES
    assert header.front_end == FRAMEWISE
    assert header.step_s == pytest.approx(0.04)
    assert header.vocabulary.names == Vocabulary.audioset_strong().names
    assert header.vocabulary.find("Dog").mid == "/m/0bt9lr"
    expected = {key: values for key, values in state(FRAMES).items() if not is_optional(key)}
    assert tensors.keys() == expected.keys()
    np.testing.assert_array_equal(tensors["strong_head.weight"], expected["strong_head.weight"])


def test_an_fmn_keeps_its_labels_and_front_end_in_a_file(put: Put, tmp_path: Path) -> None:
    header, tensors = convert(put(published(state(FRAMES), "net.model.", "net.")), name="x")
    save_weights(tmp_path / "x.safetensors", header, tensors)
    assert header.to_metadata()["dymn.labels"] == "audioset-strong"
    assert read_weights(tmp_path / "x.safetensors").header == header
    other, _ = convert(put(FRAMES.with_classes(3)), name="x", labels=NAMES, n_mels=64)
    assert other.front_end == dataclasses.replace(FRAMEWISE, n_mels=64)
    assert other.vocabulary.names == NAMES.names


def test_an_fmn_whose_frames_were_never_trained_is_refused(put: Put) -> None:
    """Those trained on AudioSet Weak hold a frame head as it was drawn: its scores mean nothing."""
    both = published(state(FRAMES), "net.model.", "net.")
    with pytest.raises(ModelError, match="frame head has learned nothing"):
        convert(put(both, "fmn04_weak.pt"), name="x")
    other = {key: values[:3] if key.startswith("net.weak_head") else values for key, values in both.items()}
    with pytest.raises(ModelError, match="frame head has learned nothing"):
        convert(put(other), name="x")


def test_an_fmn_with_a_sequence_model_is_refused(put: Put) -> None:
    more = published(state(FRAMES), "net.model.", "net.") | {"net.seq_model.0.weight": np.ones(3, np.float32)}
    with pytest.raises(ModelError, match="sequence model"):
        convert(put(more, "fmn04+tf-104_strong.pt"), name="x")


def test_527_classes_are_those_of_audioset(put: Put) -> None:
    header, _ = convert(put(THREE.with_classes(527)), name="x")
    assert header.vocabulary.names == Vocabulary.audioset().names


def test_other_classes_need_names_to_tag(put: Put) -> None:
    path = put(THREE)
    with pytest.raises(ModelError, match=r"mine\.pt has 3 classes, but no names for them") as caught:
        convert(path, name="x")
    assert "--labels" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="has 3 classes, but there are 2 labels"):
        convert(path, name="x", labels=Vocabulary.from_names(["a", "b"]))
    with pytest.raises(UsageError, match="has 3 classes, but there are 527 labels"):
        convert(path, name="x", labels=Vocabulary.audioset())


def test_to_embed_they_need_none(put: Put) -> None:
    for purpose in ("embeddings", None):
        header, _ = convert(put(THREE), name="x", purpose=purpose)
        assert header.purpose == "embeddings"
        assert len(header.vocabulary) == 3
        assert header.config.n_classes == 3


def test_convolutions_of_a_switched_off_attention_are_dropped(put: Put) -> None:
    """Published files of such variants still hold them; only a given config tells."""
    off = dataclasses.replace(DYNAMIC, coordinate_attention="none")
    path = put(DYNAMIC)
    header, tensors = convert(
        path, name="x", labels=NAMES, config=dataclasses.replace(off, n_classes=7, temperature=5.0)
    )
    assert header.config == dataclasses.replace(off, temperature=5.0)
    assert tensors.keys() == {key for key in state_shapes(off) if not is_optional(key)}
    plain = dataclasses.replace(off, dy_conv=(), dy_relu=())
    values = {**state(plain), **{k: v for k, v in state(DYNAMIC).items() if ".context_gen." in k}}
    _, tensors = convert(put(values), name="x", labels=NAMES, config=plain)
    assert tensors.keys() == {key for key in state_shapes(plain) if not is_optional(key)}
    header, _ = convert(path, name="x", labels=NAMES)
    assert header.config.coordinate_attention == "both"


def without(key: str, config: ModelConfig = THREE) -> dict[str, np.ndarray]:
    return {name: values for name, values in state(config).items() if name != key}


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"embed.weight": np.ones((3, 4), np.float32)}, "are no DyMN or MN: 1 tensors"),
        (without("classifier.5.weight"), "classifier.5.weight is missing"),
        (without("classifier.5.bias"), "classifier.5.bias is missing"),
        (without("features.4.block.2.1.running_var"), r"features\.4\.block\.2\.1\.running_var is missing"),
        ({**state(THREE), "extra.weight": np.ones(3, np.float32)}, r"no such network has: extra\.weight"),
        (
            {**state(THREE), "classifier.5.bias": np.ones(4, np.float32)},
            r"classifier\.5\.bias has shape \(4,\)",
        ),
        (
            {**state(THREE), "features.0.0.weight": np.ones((8, 3, 3, 3), np.float32)},
            r"\(8, 3, 3, 3\) instead of",
        ),
    ],
)
def test_other_networks_are_refused_with_what_is_wrong(
    tensors: dict[str, np.ndarray], told: str, put: Put
) -> None:
    path = put(tensors)
    with pytest.raises(ModelError, match=told) as caught:
        convert(path, name="x", labels=NAMES)
    assert caught.value.message.startswith(str(path))
    assert "\n" not in caught.value.message
    with pytest.raises(ModelError):
        convert(path, name="x", labels=NAMES, config=THREE)


def test_a_config_that_is_not_that_of_the_file_is_refused(put: Put) -> None:
    with pytest.raises(ModelError, match="do not fit together"):
        convert(put(THREE), name="x", labels=NAMES, config=DYNAMIC)
    with pytest.raises(ModelError, match="do not fit together"):
        convert(put(THREE), name="x", labels=NAMES, config=dataclasses.replace(THREE, width=0.5))


# ---------------------------------------------------------------------- as models


def test_a_checkpoint_is_read_as_a_model_by_its_path(put: Put) -> None:
    path = put(THREE.with_classes(527), "kitchen.PT")
    weights = read_weights(path)
    assert weights.header.name == "kitchen"
    assert weights.header.purpose == "tags"
    assert len(weights.sha256) == 64
    assert weights.tensors.keys() == convert(path, name="x")[1].keys()
    assert read_weights(put(THREE)).header.purpose == "embeddings"


def test_errors_of_a_path_are_those_of_checkpoints(put: Put, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError):
        read_weights(tmp_path / "gone.pt")
    (tmp_path / "page.pt").write_text("<!doctype html>")
    with pytest.raises(UnsafeWeightsError, match="web page"):
        read_weights(tmp_path / "page.pt")
    with pytest.raises(ModelError, match="no DyMN or MN"):
        read_weights(put({"x": np.ones(3, np.float32)}))


def test_the_purpose_survives_the_file(put: Put, tmp_path: Path) -> None:
    header, tensors = convert(put(THREE), name="x", purpose="embeddings")
    save_weights(tmp_path / "x.safetensors", header, tensors)
    assert read_weights(tmp_path / "x.safetensors").header.purpose == "embeddings"
    assert "dymn.purpose" not in convert(put(THREE), name="x", labels=NAMES)[0].to_metadata()


FIRST_STUDENT = "5233c9050c31a37f16860199d365ab12a4d847612583f008ce16781fc0be4ce0"  # what shipped at first


def test_a_checkpoint_becomes_the_same_file_byte_for_byte(shared: Path, tmp_path: Path) -> None:
    header, tensors = convert(shared / "weights" / "dymn04_kd.pt", name=DEFAULT_MODEL)
    assert save_weights(tmp_path / "x.safetensors", header, tensors) == FIRST_STUDENT


ANSWERS = """
import json, sys
import pickle
sys.modules["torch"] = None  # to import it fails
pickle.load = pickle.loads = pickle.Unpickler = None  # to call them fails
from pathlib import Path
from dymn_cli import Tagger
from dymn_cli.store.convert import convert
from dymn_cli.store.weights import save_weights

shared, target = map(Path, sys.argv[1:])
save_weights(target, *convert(shared / "weights" / "mn04_as_mAP_432.pt", name="mn04_as"))
answers = {}
for model in (target, shared / "weights" / "mn04_as_mAP_432.pt"):
    with Tagger(model) as tagger:
        for clip in (shared / "audio").glob("*.wav"):
            scores = tagger.tag(clip).scores
            answers.setdefault(clip.stem, []).append(dict(zip(tagger.vocabulary.names, map(float, scores))))
print(json.dumps(answers))
"""


def test_the_published_model_answers_as_published_without_torch(shared: Path, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", ANSWERS, str(shared), str(tmp_path / "mn04_as.safetensors")],
        capture_output=True,
        text=True,
        check=True,
    )
    answers = json.loads(ran.stdout)
    golden = json.loads((shared / "golden" / "mn04_as_top10.json").read_text())
    assert answers.keys() == golden.keys()
    for clip, best in golden.items():
        for scores in answers[clip]:
            assert sorted(scores, key=scores.get, reverse=True)[:10] == [label for label, _ in best]
            for label, score in best:
                assert scores[label] == pytest.approx(score, abs=5e-4)


# ---------------------------------------------------------------------- frame heads


HEADED = dataclasses.replace(DYNAMIC, frame_head=True)


def test_a_frame_head_is_found_and_kept(put: Put, tmp_path: Path) -> None:
    header, tensors = convert(put(HEADED), name="mine", labels=NAMES)
    assert header.config.frame_head
    assert {key for key in tensors if "strong" in key} == {
        f"strong_head.{n}.{part}" for n in (0, 2) for part in ("weight", "bias")
    }
    save_weights(tmp_path / "m.safetensors", header, tensors)
    assert read_weights(tmp_path / "m.safetensors").header.config == header.config == HEADED
    known = convert(put(HEADED), name="mine", labels=NAMES, config=HEADED)[0]
    assert known.config == HEADED


def test_a_bare_state_dict_in_half_precision_is_taken_and_its_head_renamed(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "trial.safetensors"
    halves = {
        key.replace("strong_head.", "strong."): values.astype(np.float16)
        for key, values in state(HEADED).items()
        if not is_optional(key)
    }
    save_file(halves, path)
    header, tensors = convert(path, name="trial", labels=NAMES)
    assert header.config == HEADED
    assert {values.dtype for values in tensors.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(
        tensors["strong_head.2.weight"], halves["strong.2.weight"].astype(np.float32)
    )


def test_a_model_of_ours_needs_no_conversion(put: Put, tmp_path: Path) -> None:
    header, tensors = convert(put(THREE), name="mine", labels=NAMES)
    save_weights(tmp_path / "m.safetensors", header, tensors)
    with pytest.raises(ModelError, match="already") as caught:
        convert(tmp_path / "m.safetensors", name="again")
    assert "models import" in (caught.value.hint or "")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "m.safetensors").read_bytes()[:200])
    with pytest.raises(UnsafeWeightsError, match="not a readable safetensors file"):
        convert(tmp_path / "cut.safetensors", name="again")
    with pytest.raises(WeightsMissingError):
        convert(tmp_path / "gone.safetensors", name="again")


def test_the_trial_of_the_maintainers_is_taken(shared: Path) -> None:
    path = shared / "weights" / "dymn04_frames.safetensors"
    if not path.is_file():
        pytest.skip("the trial is not in this folder")
    header, tensors = convert(path, name="trial")
    assert (header.config, header.step_s) == (ModelConfig(width=0.4, frame_head=True), 0.32)
    assert tensors["strong_head.0.weight"].shape == (512, 384)
