"""The rules of HEAR, restated: shapes, kinds, moments, and that no sound changes what another one gets."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dymn_cli import hear  # noqa: E402
from dymn_cli.audio.frames import FramePlan  # noqa: E402
from dymn_cli.errors import (  # noqa: E402
    BackendUnavailableError,
    EmptyAudioError,
    ModelError,
    UsageError,
    WeightsMissingError,
)
from dymn_cli.frontend.melbank import FrontEndConfig  # noqa: E402
from dymn_cli.labels import Vocabulary  # noqa: E402
from dymn_cli.model.build import build  # noqa: E402
from dymn_cli.model.config import ARCHITECTURES  # noqa: E402
from dymn_cli.store.header import ModelHeader  # noqa: E402
from dymn_cli.store.registry import model_spec  # noqa: E402
from dymn_cli.store.weights import save_weights  # noqa: E402
from dymn_cli.tagging.tagger import Tagger  # noqa: E402

RATE_HZ = 32_000
Sounds = Callable[..., "torch.Tensor"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small networks on many threads of a busy machine wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def dymn() -> hear.HearModel:
    """The model that comes with the package."""
    return hear.load_model()


@pytest.fixture(scope="module")
def mn_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small MN of ten classes, with a front end of its own."""
    config = ARCHITECTURES["mn04"].with_classes(10)
    network = build(config, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.fill_(2.0)  # or what it says of a sound would vanish on the way
    tensors = {key: value.numpy() for key, value in network.state_dict().items()}
    path = tmp_path_factory.mktemp("hear") / "mn.safetensors"
    labels = Vocabulary.from_names([f"class {n}" for n in range(10)])
    save_weights(path, ModelHeader("mn", config, FrontEndConfig(n_mels=64), labels), tensors)
    return path


@pytest.fixture(scope="module")
def mn(mn_file: Path) -> hear.HearModel:
    return hear.load_model(mn_file)


@pytest.fixture(params=["dymn", "mn"])
def model(request: pytest.FixtureRequest) -> hear.HearModel:
    """One of each family."""
    found: hear.HearModel = request.getfixturevalue(request.param)
    return found


def sounds(n_sounds: int, seconds: float, *, seed: int = 0) -> torch.Tensor:
    """A batch of noises of different colour."""
    rng = np.random.default_rng(seed)
    n = round(seconds * RATE_HZ)
    white = rng.uniform(-1, 1, (n_sounds, n + 1)).astype(np.float32)
    mix = np.linspace(0, 0.9, n_sounds, dtype=np.float32)[:, None]
    return torch.from_numpy(((1 - mix) * white[:, 1:] + mix * white[:, :-1]) * 0.5)


# ---------------------------------------------------------------------- what the model says of itself


def test_the_model_is_a_module_that_says_what_it_needs(model: hear.HearModel) -> None:
    assert isinstance(model, torch.nn.Module)
    assert model.sample_rate == RATE_HZ
    assert type(model.scene_embedding_size) is type(model.timestamp_embedding_size) is int
    assert model.scene_embedding_size == model.network.config.embedding_size
    assert not model.training
    assert model.to("cpu") is model


def test_a_model_is_a_name_a_path_or_nothing(dymn: hear.HearModel, tmp_path: Path) -> None:
    shutil.copy(model_spec("dymn04_kd").path, tmp_path / "own.safetensors")
    expected = hear.get_scene_embeddings(sounds(1, 0.5), dymn)
    for path in ("dymn04_kd", str(tmp_path / "own.safetensors"), tmp_path / "own.safetensors"):
        assert torch.equal(hear.get_scene_embeddings(sounds(1, 0.5), hear.load_model(path)), expected)


def test_models_that_cannot_be_used_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model is called 'dymn99'"):
        hear.load_model("dymn99")
    with pytest.raises(WeightsMissingError, match="no such file"):
        hear.load_model(tmp_path / "none.safetensors")
    with pytest.raises(UsageError, match="model must be a name or a path, not None"):
        hear.load_model(None)  # type: ignore[arg-type]
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(BackendUnavailableError, match="PyTorch cannot run an ONNX file"):
        hear.load_model(tmp_path / "m.onnx")
    (tmp_path / "bad.safetensors").write_bytes(b"no model")
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        hear.load_model(tmp_path / "bad.safetensors")


# ---------------------------------------------------------------------- scenes


@pytest.mark.parametrize("seconds", [0.001, 0.05, 2.74, 10.0])
def test_a_scene_embedding_for_each_sound_of_any_length(model: hear.HearModel, seconds: float) -> None:
    found = hear.get_scene_embeddings(sounds(3, seconds), model)
    assert found.shape == (3, model.scene_embedding_size)
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()
    assert not (found.requires_grad or found.is_inference())
    assert len({tuple(row) for row in found.tolist()}) == 3


@pytest.mark.parametrize("seconds", [0.7, 10.0, 13.7])
def test_scene_embeddings_are_those_of_the_tagger(dymn: hear.HearModel, seconds: float) -> None:
    audio = sounds(2, seconds)
    found = hear.get_scene_embeddings(audio, dymn)
    with Tagger(threads=1) as tagger:
        for sound, embedding in zip(audio, found, strict=True):
            assert embedding.numpy() == pytest.approx(tagger.embed((sound.numpy(), RATE_HZ)), abs=1e-4)


def test_an_mn_with_its_own_front_end_agrees_with_the_tagger(mn: hear.HearModel, mn_file: Path) -> None:
    audio = sounds(1, 1.5)
    with Tagger(mn_file, threads=1) as tagger:
        expected = tagger.embed((audio[0].numpy(), RATE_HZ))
    found = hear.get_scene_embeddings(audio, mn)[0].numpy()
    assert found == pytest.approx(expected, abs=1e-4 * float(np.abs(expected).max()))


# ---------------------------------------------------------------------- moments


@pytest.mark.parametrize("seconds", [0.01, 0.04, 0.16, 1.07, 1.98, 3.0])
def test_moments_are_regular_and_within_the_sound(model: hear.HearModel, seconds: float) -> None:
    embeddings, timestamps = hear.get_timestamp_embeddings(sounds(2, seconds), model)
    assert embeddings.dtype == timestamps.dtype == torch.float32
    assert embeddings.shape == (*timestamps.shape, model.timestamp_embedding_size)
    assert torch.isfinite(embeddings).all()
    assert not (embeddings.requires_grad or embeddings.is_inference())
    assert torch.equal(timestamps[0], timestamps[1])
    assert timestamps[0].tolist() == pytest.approx([50.0 * n for n in range(timestamps.shape[1])])
    assert 1000 * seconds - 50 < timestamps[0, -1] <= 1000 * seconds


def test_moments_do_not_drift_where_a_hop_is_no_whole_number_of_milliseconds(mn_file: Path) -> None:
    model = hear.load_model(mn_file, window_s=0.1, hop_s=1 / 30)  # 1,067 samples, not 33 ms
    _, timestamps = hear.get_timestamp_embeddings(sounds(1, 4), model)
    assert timestamps.shape == (1, 128_000 // 1_067 + 1)
    assert timestamps[0, -1] == 1_067 * 119 / 32


def test_a_sound_in_the_middle_is_heard_there(dymn: hear.HearModel) -> None:
    audio = torch.zeros(1, 3 * RATE_HZ)
    audio[0, RATE_HZ : 2 * RATE_HZ] = sounds(1, 1)[0]
    embeddings, timestamps = hear.get_timestamp_embeddings(audio, dymn)
    differs = (embeddings[0] - embeddings[0, 0]).abs().amax(dim=1) > 0.05
    heard = timestamps[0][differs]
    assert 900 <= heard.min() <= 1000
    assert 2000 <= heard.max() <= 2100


def test_timestamp_embeddings_are_the_frames_of_the_tagger(dymn: hear.HearModel) -> None:
    audio = sounds(1, 0.63)
    embeddings, timestamps = hear.get_timestamp_embeddings(audio, dymn)
    with (
        Tagger(threads=1) as tagger,
        tagger.analyse((audio[0].numpy(), RATE_HZ), frames=FramePlan()) as analysis,
    ):
        rows = [row.window for row in analysis]
    assert timestamps.shape == (1, len(rows))
    for window, embedding, at_ms in zip(rows, embeddings[0], timestamps[0], strict=True):
        assert window.start_s <= at_ms / 1000 <= window.end_s
        assert embedding.numpy() == pytest.approx(window.embedding, abs=1e-4)


# ---------------------------------------------------------------------- no sound changes another


def test_a_sound_gets_the_same_in_any_company(model: hear.HearModel) -> None:
    audio = sounds(5, 1.2)
    louder = torch.cat([audio[:2], torch.ones(1, audio.shape[1]), audio[4:]])
    scenes, (frames, _) = hear.get_scene_embeddings(audio, model), hear.get_timestamp_embeddings(audio, model)
    others = hear.get_scene_embeddings(louder, model), hear.get_timestamp_embeddings(louder, model)[0]
    alone = (
        hear.get_scene_embeddings(audio[1:2], model),
        hear.get_timestamp_embeddings(audio[1:2], model)[0],
    )
    assert torch.allclose(others[0][1], scenes[1], atol=1e-5)
    assert torch.allclose(others[1][1], frames[1], atol=1e-5)
    assert torch.allclose(alone[0][0], scenes[1], atol=1e-5)
    assert torch.allclose(alone[1][0], frames[1], atol=1e-5)
    assert torch.allclose(others[0][3], scenes[4], atol=1e-5)


def test_training_mode_changes_nothing_and_stays_as_it_is(mn_file: Path) -> None:
    model = hear.load_model(mn_file)
    audio = sounds(2, 0.3)
    expected = hear.get_timestamp_embeddings(audio, model)[0]
    model.train()
    model.log_mel.eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    assert torch.equal(hear.get_timestamp_embeddings(audio, model)[0], expected)
    assert (model.training, model.network.training, model.log_mel.training) == (True, True, False)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_embeddings_can_be_trained_upon(mn: hear.HearModel) -> None:
    found = hear.get_scene_embeddings(sounds(2, 0.3).requires_grad_(), mn)
    head = torch.nn.Linear(mn.scene_embedding_size, 2)
    head(found).sum().backward()
    assert head.weight.grad is not None
    assert all(parameter.grad is None for parameter in mn.parameters())


def test_audio_is_left_as_it_is_and_may_have_other_floats(mn: hear.HearModel) -> None:
    audio = sounds(2, 0.3)
    before = audio.clone()
    expected = hear.get_scene_embeddings(audio, mn)
    assert torch.equal(audio, before)
    found = hear.get_scene_embeddings(audio.double(), mn)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    backwards = audio.flip(0).T.contiguous().T  # strides of its own
    assert torch.equal(hear.get_scene_embeddings(backwards, mn).flip(0), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("features", [("embedding",), ("block5", "mel", "embedding")], ids=len)
def test_a_model_may_have_other_floats(mn_file: Path, dtype: torch.dtype, features: tuple[str, ...]) -> None:
    audio = sounds(2, 0.3)
    expected = hear.get_scene_embeddings(audio, hear.load_model(mn_file, features=features))
    found = hear.get_scene_embeddings(audio, hear.load_model(mn_file, features=features).to(dtype))
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()


def test_silence_is_a_sound(model: hear.HearModel) -> None:
    audio = torch.zeros(2, RATE_HZ)
    embeddings, _ = hear.get_timestamp_embeddings(audio, model)
    assert torch.isfinite(hear.get_scene_embeddings(audio, model)).all()
    assert torch.isfinite(embeddings).all()
    assert torch.allclose(embeddings, embeddings[:1, :1], atol=1e-5)


def test_no_more_than_a_batch_of_windows_is_held(mn: hear.HearModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hear, "CPU_BATCH", 8 * 5120)
    seen: list[tuple[int, ...]] = []

    def forward(samples: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(samples.shape))
        return samples[:, :1].repeat(1, mn.timestamp_embedding_size)

    monkeypatch.setattr(mn, "forward", forward)
    audio = torch.arange(3 * 2 * RATE_HZ).reshape(3, -1) / 2**24
    embeddings, _ = hear.get_timestamp_embeddings(audio, mn)
    assert set(seen) == {(8, 5120)}
    assert len(seen) == -(-3 * 41 // 8)
    # The first sample of each window says whose it is and where it starts.
    assert torch.equal(embeddings[:, 2:, 0], audio[:, 3200 - 2560 :: 1600][:, :39])


# ---------------------------------------------------------------------- what cannot be used


def test_a_batch_without_sounds_gives_none(mn: hear.HearModel) -> None:
    audio = torch.zeros(0, 3200)
    assert hear.get_scene_embeddings(audio, mn).shape == (0, mn.scene_embedding_size)
    embeddings, timestamps = hear.get_timestamp_embeddings(audio, mn)
    assert (embeddings.shape, timestamps.shape) == ((0, 3, mn.timestamp_embedding_size), (0, 3))


def test_what_is_no_batch_of_sounds_is_refused(mn: hear.HearModel) -> None:
    for function in (hear.get_scene_embeddings, hear.get_timestamp_embeddings):
        for audio in (torch.zeros(3200), torch.zeros(2, 1, 3200), torch.zeros(2, 3200).int()):
            with pytest.raises(UsageError, match="n_sounds, n_samples"):
                function(audio, mn)
        for given, said in (
            (torch.zeros(3200), r"not Tensor of torch.float32 with shape \(3200,\)"),
            (np.zeros((2, 3200), np.int16), r"not ndarray of int16 with shape \(2, 3200\)"),
            ([0.0], "not list"),
        ):
            with pytest.raises(UsageError, match=said):
                function(given, mn)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="NaN or infinity"):
            function(torch.full((1, 3200), torch.nan), mn)
        with pytest.raises(EmptyAudioError, match="no samples"):
            function(torch.zeros(2, 0), mn)
        with pytest.raises(UsageError, match="model must come from load_model, not NoneType"):
            function(torch.zeros(2, 3200), None)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- other features


def test_features_of_several_levels_in_the_order_asked_for(mn: hear.HearModel, mn_file: Path) -> None:
    levels = hear.load_model(mn_file, features=hear.LEVELS)
    blocks = [levels.network.config.blocks[n - 1].out_channels for n in (5, 11, 13, 15)]
    assert levels.scene_embedding_size == levels.timestamp_embedding_size == sum(blocks) + 64
    both = hear.load_model(mn_file, features=("logits", "embedding", *hear.LEVELS))
    audio = sounds(2, 0.5)
    scenes = hear.get_scene_embeddings(audio, both)
    size = mn.scene_embedding_size
    assert torch.allclose(scenes[:, 10 : 10 + size], hear.get_scene_embeddings(audio, mn), atol=1e-6)
    assert torch.allclose(scenes[:, 10 + size :], hear.get_scene_embeddings(audio, levels), atol=1e-6)
    with torch.no_grad():
        repeated = torch.from_numpy(np.resize(audio[0].numpy(), 10 * RATE_HZ))[None]
        mel = both.log_mel(repeated)
        assert torch.allclose(scenes[0, :10], both.network(mel)[0][0], atol=1e-5)
        assert torch.allclose(scenes[0, -64:], mel.mean(dim=(0, 1, 3)), atol=1e-5)


def test_no_such_feature(mn_file: Path) -> None:
    for features, said in ((("block16",), "no feature 'block16'"), ((), "needs a feature"), ("mell", "mell")):
        with pytest.raises(UsageError, match=said):
            hear.load_model(mn_file, features=features)
    with pytest.raises(UsageError, match="a hop of 1 s"):
        hear.load_model(mn_file, hop_s=1)


def test_without_torch_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from dymn_cli.errors import BackendUnavailableError\n"
        "try: import dymn_cli.hear\n"
        "except BackendUnavailableError as error: print(error.hint)"
    )
    root = Path(__file__).resolve().parents[1]
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert "pip install" in ran.stdout


def test_the_published_mn_gives_its_published_embedding(shared: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    state = torch.load(shared / "weights" / "mn04_as_mAP_432.pt", map_location="cpu", weights_only=True)
    from dymn_cli.model.build import restore

    model = hear.HearModel(restore(state), FrontEndConfig())
    samples, _ = soundfile.read(shared / "audio" / "speech.wav", dtype="float32")
    found = hear.get_scene_embeddings(torch.from_numpy(samples)[None], model)[0].numpy()
    golden = np.load(shared / "golden" / "published.npz")
    key = next(key for key in golden.files if "speech" in key and key.endswith("mn04_embedding"))
    assert found == pytest.approx(golden[key].reshape(-1), abs=5e-5)
