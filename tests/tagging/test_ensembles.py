"""Taggers of several models: one decoding, one log-mel for each front end, one answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds

from dymn_cli.errors import UsageError
from dymn_cli.frontend.logmel import LogMel
from dymn_cli.labels import Vocabulary
from dymn_cli.runtime.onnx import OnnxBackend
from dymn_cli.store.registry import resolve
from dymn_cli.store.weights import read_weights
from dymn_cli.tagging import tagger as tagger_module
from dymn_cli.tagging.events import EventOptions, events_of
from dymn_cli.tagging.options import TagOptions
from dymn_cli.tagging.tagger import Tagger

RATE = 32_000
SHORT = TagOptions(window_s=2.0, hop_s=1.0, windows=True)

SmallModel = Callable[..., Path]


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    return sounds.noise(9 * RATE // 2, seed=5)


@pytest.fixture(scope="module")
def models(small_model: SmallModel) -> list[Path]:
    """Three models, two of them with one front end."""
    return [
        small_model("a", 1),
        small_model("b", 2, architecture="mn04"),
        small_model("c", 3, n_hop=160, n_mels=64),
    ]


def logits_of(model: Any, sound: np.ndarray) -> np.ndarray:
    with (
        Tagger(model, threads=1, options=SHORT) as tagger,
        tagger.analyse((sound, RATE)) as analysis,
    ):
        return np.stack([row.window.logits for row in analysis])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_it_is_the_mean_of_the_logits_whatever_runs_at_once(
    models: list[Path], sound: np.ndarray, threads: int, batch_size: int
) -> None:
    alone = [logits_of(model, sound) for model in models]
    mean = np.mean(alone, axis=0, dtype=np.float64)
    with Tagger(models, threads=threads, batch_size=batch_size, options=SHORT) as tagger:
        result = tagger.tag((sound, RATE), top=0)
    scores = 1 / (1 + np.exp(-mean))
    np.testing.assert_allclose(result.scores, scores.max(axis=0), atol=1e-6)
    assert [tag.index for tag in result.tags] == np.argsort(-result.scores, kind="stable").tolist()
    assert result.embedding.shape == (0,)
    assert (result.model.name, len(result.model.members)) == ("a+b+c", 3)


def test_a_log_mel_is_computed_once_for_each_front_end(
    models: list[Path], sound: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[tuple[int, int]] = []
    plain = LogMel.__call__

    def count(self: LogMel, samples: Any) -> np.ndarray:
        computed.append((self.config.n_hop, len(samples)))
        return plain(self, samples)

    monkeypatch.setattr(LogMel, "__call__", count)
    with Tagger(models, options=TagOptions(window_s=2.0)) as tagger:
        assert tagger.tag((sound, RATE)).n_windows == 3
    assert sorted(computed) == [(160, 2 * RATE)] * 3 + [(320, 2 * RATE)] * 3


def test_embeddings_are_refused_unless_they_are_concatenated(models: list[Path], sound: np.ndarray) -> None:
    with Tagger(models[:2], options=SHORT) as tagger, pytest.raises(UsageError, match="no embedding"):
        tagger.embed((sound, RATE))
    alone = []
    for model in models[:2]:
        with Tagger(model, options=SHORT) as tagger:
            alone.append(tagger.embed((sound, RATE)))
    with Tagger(models[:2], concat=True, options=SHORT) as tagger:
        assert tagger.embedding_size == sum(map(len, alone))
        assert np.array_equal(tagger.embed((sound, RATE)), np.concatenate(alone))
        assert np.array_equal(tagger.tag((sound, RATE)).embedding, np.concatenate(alone))
    with Tagger(models[0], concat=True, options=SHORT) as tagger:  # of one model it is its own
        assert np.array_equal(tagger.embed((sound, RATE)), alone[0])


def test_events_are_those_of_the_ensemble(models: list[Path], sound: np.ndarray) -> None:
    with Tagger(models, options=TagOptions(window_s=2.0, hop_s=0.4)) as tagger:
        found = events_of(tagger, (sound, RATE), EventOptions(method="windows"))
        assert found.model.name == "a+b+c"
        assert found.events
        with pytest.raises(UsageError, match="steps of different length"):
            events_of(tagger, (sound, RATE))
    with Tagger(models[:2], options=TagOptions(window_s=2.0)) as tagger:
        found = events_of(tagger, (sound, RATE), EventOptions(on=0.01))
        assert (found.model.name, bool(found.events)) == ("a+b", True)


def test_models_that_do_not_go_together_are_refused(models: list[Path], small_model: SmallModel) -> None:
    birds = small_model("birds", vocabulary=Vocabulary.from_names(["wren", "robin"]))
    with pytest.raises(UsageError, match="a and birds do not have the same labels"):
        Tagger([models[0], birds])
    with pytest.raises(UsageError, match="the same model twice"):
        Tagger([models[0], models[1], models[0]])
    with pytest.raises(UsageError, match="at least one model"):
        Tagger([])


def test_a_model_without_sounds_embeds_and_does_not_tag(small_model: SmallModel, sound: np.ndarray) -> None:
    things = Vocabulary.from_names([f"thing {n}" for n in range(10)])
    path = small_model("mn01_im", vocabulary=things, purpose="embeddings")
    source = (sound, RATE)
    with Tagger(path, options=SHORT) as tagger:
        assert tagger.embed(source).shape == (tagger.embedding_size,)
        for refused in (
            lambda: tagger.tag(source),
            lambda: tagger.tag_channels(source),
            lambda: list(tagger.tag_many([source])),
            lambda: events_of(tagger, source),
        ):
            with pytest.raises(UsageError, match="mn01_im gives embeddings only"):
                refused()


def test_channels_stay_apart(models: list[Path], sound: np.ndarray) -> None:
    stereo = np.stack([sound, sound[::-1]], axis=1)
    with Tagger(models, options=SHORT) as tagger:
        each = tagger.tag_channels((stereo, RATE), channel="each")
        for channel, result in enumerate(each):
            alone = tagger.tag((np.ascontiguousarray(stereo[:, channel]), RATE))
            assert np.array_equal(result.scores, alone.scores)


# ---------------------------------------------------------------------- on a device


def test_on_a_device_all_is_computed_there_once(
    models: list[Path], monkeypatch: pytest.MonkeyPatch, sound: np.ndarray
) -> None:
    """What runs on a GPU, on this machine's CPU; random weights amplify what half precision rounds off."""
    pytest.importorskip("torch")
    from dymn_cli.runtime.torch import TorchGpuBackend

    source = (sound, 44_100)
    with Tagger(models, concat=True, options=SHORT) as tagger:
        expected = tagger.tag(source)
    calls: list[str] = []
    for name in ("log_mel", "resample", "run"):
        plain = getattr(TorchGpuBackend, name)

        def count(self: Any, *given: Any, name: str = name, plain: Any = plain, **named: Any) -> Any:
            calls.append(name)
            return plain(self, *given, **named)

        monkeypatch.setattr(TorchGpuBackend, name, count)
    monkeypatch.setattr(
        tagger_module,
        "open_backend",
        lambda name, **_: TorchGpuBackend(read_weights(Path(name)), device="cpu"),
    )
    with Tagger(models, concat=True, options=SHORT) as tagger:
        assert tagger.batch_size == 16
        result = tagger.tag(source)
    np.testing.assert_allclose(result.scores, expected.scores, atol=0.02)
    np.testing.assert_allclose(
        result.embedding, expected.embedding, rtol=0.02, atol=0.02 * np.abs(expected.embedding).max()
    )
    assert [(w.start_s, w.end_s) for w in result.windows] == [(w.start_s, w.end_s) for w in expected.windows]
    assert (result.duration_s, result.warnings) == (expected.duration_s, expected.warnings)
    assert sorted(calls) == ["log_mel"] * 2 + ["resample"] + ["run"] * 3


def test_rates_that_only_soxr_knows_are_left_to_it(
    small_model: SmallModel, monkeypatch: pytest.MonkeyPatch, sound: np.ndarray
) -> None:
    pytest.importorskip("torch")
    from dymn_cli.runtime.torch import TorchGpuBackend

    path = small_model("a", 1)
    source = (sound, 33_333)
    with Tagger(path, options=SHORT) as tagger:
        expected = tagger.tag(source)
    monkeypatch.setattr(
        tagger_module, "open_backend", lambda *_, **__: TorchGpuBackend(read_weights(path), device="cpu")
    )
    with Tagger(path, options=SHORT) as tagger:
        np.testing.assert_allclose(tagger.tag(source).scores, expected.scores, atol=0.02)


@pytest.mark.parametrize("model", ["dymn04_kd", "mn04_as_mAP_432.pt"])
def test_real_models_agree_on_real_clips_within_2e_3(
    model: str, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from dymn_cli.runtime.torch import TorchGpuBackend

    found = resolve(str(shared / "weights" / model) if model.endswith(".pt") else model)
    weights = read_weights(found)
    weights = replace(weights, header=replace(weights.header, purpose="tags"))
    monkeypatch.setattr(tagger_module, "open_backend", lambda *_, **__: OnnxBackend(weights))
    on_cpu = Tagger(model)
    monkeypatch.setattr(
        tagger_module, "open_backend", lambda *_, **__: TorchGpuBackend(weights, device="cpu")
    )
    with on_cpu, Tagger(model) as on_device:
        for clip in sorted((shared / "audio").glob("*.wav")):
            difference = np.abs(on_cpu.tag(clip).scores - on_device.tag(clip).scores).max()
            assert difference < 2e-3, clip.name
