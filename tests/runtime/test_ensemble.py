"""Several models that answer as one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dymn_cli.errors import UsageError
from dymn_cli.frontend.melbank import FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.model.config import ARCHITECTURES
from dymn_cli.results import ModelInfo
from dymn_cli.runtime.base import Answer
from dymn_cli.runtime.ensemble import Ensemble
from dymn_cli.store.header import ModelHeader


class Fixed:
    """Answers the mean of its input, times a factor, to every class."""

    def __init__(self, name: str, factor: float, header: ModelHeader) -> None:
        self.header = replace(header, name=name)
        self.info = ModelInfo(name, hashlib.sha256(name.encode()).hexdigest(), "onnx", "CPUExecutionProvider")
        self.factor = np.float32(factor)
        self.given: list[np.ndarray] = []
        self.on_cpu = self.has_frames = True

    def run(self, mels: np.ndarray, *, frames: bool = False) -> Answer:
        self.given.append(mels)
        level = mels.mean(axis=(1, 2, 3), dtype=np.float32)[:, None] * self.factor
        size = self.header.config.embedding_size
        logits = level.repeat(self.header.config.n_classes, axis=1)
        steps = np.repeat(logits[:, np.newaxis], self.header.config.n_steps(mels.shape[3]), axis=1)
        return Answer(logits, level.repeat(size, axis=1), steps if frames else None)


@pytest.fixture
def make() -> Callable[..., Fixed]:
    def make(name: str, factor: float = 1.0, architecture: str = "dymn04", **numbers: int) -> Fixed:
        config, front_end = ARCHITECTURES[architecture], FrontEndConfig(**numbers)
        return Fixed(name, factor, ModelHeader(name, config, front_end, Vocabulary.audioset()))

    return make


def mels(value: float, n: int = 2) -> np.ndarray:
    return np.full((n, 1, 128, 10), value, np.float32)


def test_one_model_is_left_as_it_is(make: Callable[..., Fixed]) -> None:
    member = make("a", 0.3)
    one = Ensemble([member])
    assert (one.info, one.embedding_size, one.on_cpu) == (member.info, 384, True)
    answer, own = one.run([mels(1.7)]), member.run(mels(1.7))
    assert np.array_equal(answer.logits, own.logits)
    assert np.array_equal(answer.embedding, own.embedding)


def test_logits_are_the_mean_and_there_is_no_embedding(make: Callable[..., Fixed]) -> None:
    both = Ensemble([make("a", 1.0), make("b", 2.0), make("c", 6.0, "mn10")])
    answer = both.run([mels(0.5)])
    assert (answer.logits.dtype, answer.logits.shape) == (np.float32, (2, 527))
    assert answer.logits == pytest.approx(0.5 * 3.0)
    assert (answer.embedding.shape, both.embedding_size) == ((2, 0), 0)
    with pytest.raises(UsageError, match="no embedding of its own") as caught:
        both.require_embedding()
    assert "--concat" in (caught.value.hint or "")


def test_frame_logits_are_the_mean_where_steps_are_equally_long(make: Callable[..., Fixed]) -> None:
    both = Ensemble([make("a", 1.0), make("b", 2.0), make("c", 6.0, "mn10", n_mels=64)])
    both.require_frames()
    assert both.step_s == 0.32
    answer = both.run([mels(0.5), mels(0.5)], frames=True)
    assert (answer.frame_logits.dtype, answer.frame_logits.shape) == (np.float32, (2, 1, 527))
    assert answer.frame_logits == pytest.approx(0.5 * 3.0)
    assert both.run([mels(0.5), mels(0.5)]).frame_logits is None


def test_models_of_other_steps_have_no_frames_together(make: Callable[..., Fixed]) -> None:
    both = Ensemble([make("a"), make("b", n_hop=160)])
    assert both.step_s is None
    with pytest.raises(UsageError, match=r"a 0\.32 s, b 0\.16 s"):
        both.require_frames()
    deaf = make("c")
    deaf.has_frames = False
    with pytest.raises(UsageError, match="exported without frames") as caught:
        Ensemble([make("a"), deaf]).require_frames()
    assert "--frames" in (caught.value.hint or "")


def test_embeddings_are_concatenated_in_the_order_given(make: Callable[..., Fixed]) -> None:
    both = Ensemble([make("a", 6.0, "mn10"), make("b", 2.0)], concat=True)
    both.require_embedding()
    embedding = both.run([mels(0.5)]).embedding
    assert (embedding.dtype, embedding.shape, both.embedding_size) == (np.float32, (2, 960 + 384), 1344)
    assert embedding[:, :960] == pytest.approx(3.0)
    assert embedding[:, 960:] == pytest.approx(1.0)


def test_members_share_the_log_mel_of_their_front_end(make: Callable[..., Fixed]) -> None:
    members = [make("a"), make("b", n_hop=160), make("c"), make("d", n_mels=64), make("e", n_hop=160)]
    several = Ensemble(members)
    assert [(config.n_hop, config.n_mels) for config in several.front_ends] == [
        (320, 128),
        (160, 128),
        (320, 64),
    ]
    batches = [mels(1.0), mels(2.0), mels(3.0)]
    several.run(batches)
    for member, expected in zip(members, (0, 1, 0, 2, 1), strict=True):
        assert member.given[0] is batches[expected]


def test_it_has_the_names_and_hashes_of_all(make: Callable[..., Fixed]) -> None:
    members = [make("a"), make("b"), make("c")]
    info = Ensemble(members).info
    assert (info.name, info.backend, info.provider) == ("a+b+c", "onnx", "CPUExecutionProvider")
    assert info.members == tuple(member.info for member in members)
    hashes = "".join(f"{member.info.sha256}\n" for member in members)
    assert info.sha256 == hashlib.sha256(hashes.encode()).hexdigest()
    assert Ensemble(members[::-1]).info.sha256 != info.sha256
    members[1].info = replace(members[1].info, backend="torch", provider="cpu")
    info = Ensemble(members).info
    assert info.backend == "onnx+torch+onnx"
    assert info.provider == "CPUExecutionProvider+cpu+CPUExecutionProvider"


def test_the_same_model_twice_is_refused(make: Callable[..., Fixed]) -> None:
    with pytest.raises(UsageError, match=r"the same model twice: a$"):
        Ensemble([make("a"), make("b"), make("a")])
    copy = make("copy-of-a")
    copy.info = replace(copy.info, sha256=make("a").info.sha256)
    with pytest.raises(UsageError, match=r"the same model twice: a and copy-of-a$"):
        Ensemble([make("a"), copy])


def test_models_of_other_labels_are_refused(make: Callable[..., Fixed]) -> None:
    other = make("other")
    names = [f"bird {n}" for n in range(527)]
    other.header = replace(other.header, vocabulary=Vocabulary.from_names(names))
    with pytest.raises(UsageError, match="a and other do not have the same labels"):
        Ensemble([make("a"), other])


def test_labels_are_the_same_whoever_read_them(make: Callable[..., Fixed]) -> None:
    other = make("other")
    other.header = replace(other.header, vocabulary=Vocabulary.from_names(Vocabulary.audioset().names))
    assert Ensemble([make("a"), other]).vocabulary is make("a").header.vocabulary


def test_no_model_is_no_ensemble() -> None:
    with pytest.raises(UsageError, match="at least one"):
        Ensemble([])


def test_a_model_without_sounds_does_not_tag_and_is_named(make: Callable[..., Fixed]) -> None:
    silent = make("dymn04_im")
    silent.header = replace(silent.header, purpose="embeddings")
    Ensemble([make("a")]).require_tags()
    for members in ([silent], [make("a"), silent]):
        with pytest.raises(UsageError, match="dymn04_im gives embeddings only") as caught:
            Ensemble(members).require_tags()
        assert "dymn embed" in (caught.value.hint or "")


def test_a_checkpoint_without_names_is_told_how_it_gets_them(make: Callable[..., Fixed]) -> None:
    mine = make("mine")
    mine.header = replace(mine.header, purpose="embeddings")
    with pytest.raises(UsageError, match="mine gives embeddings only") as caught:
        Ensemble([mine], names=["runs/mine.pt"]).require_tags()
    hint = caught.value.hint or ""
    assert "dymn models convert runs/mine.pt --labels classes.txt --name mine" in hint


def test_where_one_member_cannot_use_the_devices_log_mels_none_does(make: Callable[..., Fixed]) -> None:
    class OnDevice(Fixed):
        def log_mel(self, *_: object) -> None: ...
        def resample(self, *_: object) -> None: ...

    a, b = make("a"), make("b")
    device = OnDevice("c", 1.0, a.header)
    device.on_cpu = False
    assert Ensemble([device]).on_device is device
    assert Ensemble([device, OnDevice("d", 1.0, a.header)]).on_device is device
    assert Ensemble([device, b]).on_device is None
    assert not Ensemble([device, b]).on_cpu
    assert Ensemble([a, b]).on_device is None
