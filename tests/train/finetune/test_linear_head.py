"""The linear head: learned on embeddings, and exactly what the network computes with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dymn_cli.datasets.dataset import Dataset
from dymn_cli.datasets.folds import plan_of
from dymn_cli.datasets.label_tables import LabelRow
from dymn_cli.errors import UsageError
from dymn_cli.evaluation.predictions import Embeddings
from dymn_cli.store.registry import weights_folder
from dymn_cli.store.weights import Weights, read_weights, save_weights
from dymn_cli.tagging.aggregate import sigmoid
from dymn_cli.tagging.tagger import Tagger
from dymn_cli.train.finetune.linear_head import PENALTIES, train_head, with_head
from dymn_cli.train.finetune.logistic import Linear

RATE_HZ = 32_000
OTHER = {"a": "b", "b": "c", "c": "a"}


@pytest.fixture(scope="module")
def weights() -> Weights:
    return read_weights(weights_folder() / "dymn04_kd.safetensors")


def clusters(n: int, *, noise: float = 0.8, windows: int = 1, seed: int = 0) -> tuple[Dataset, Embeddings]:
    """Recordings of three classes, whose embeddings lie around a point each."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(3, 384)) * 0.3
    labels = np.arange(n) % 3
    examples = tuple(LabelRow(f"{i}.wav", ("abc"[label],)) for i, label in enumerate(labels))
    values = np.repeat(centres[labels], windows, axis=0) + noise * rng.normal(size=(n * windows, 384))
    data = Dataset("clusters", ("a", "b", "c"), ("", "", ""), examples, is_multilabel=False)
    return data, Embeddings(values.astype(np.float32), np.arange(n + 1) * windows)


def test_windows_of_some_recordings() -> None:
    embeddings = Embeddings(np.arange(6, dtype=np.float32)[:, None], np.array([0, 1, 4, 6]))
    values, owner = embeddings.rows(np.array([2, 0]))
    assert (values[:, 0].tolist(), owner.tolist()) == ([4.0, 5.0, 0.0], [0, 0, 1])


def test_the_network_computes_exactly_what_the_head_says(tmp_path: Path, weights: Weights) -> None:
    rng = np.random.default_rng(0)
    linear = Linear(rng.normal(size=(3, 384)), rng.normal(size=3))
    header, tensors = with_head(weights, linear, ("dog", "Subway, metro", "x"), "mine")
    save_weights(tmp_path / "mine.safetensors", header, tensors)
    t = np.arange(RATE_HZ) / RATE_HZ
    sound = (0.3 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    with Tagger(tmp_path / "mine.safetensors", threads=1) as tagger:
        result = tagger.tag((sound, RATE_HZ), top=0)
    assert tagger.vocabulary.names == ("dog", "Subway, metro", "x")
    with Tagger(weights_folder() / "dymn04_kd.safetensors", threads=1) as tagger:
        embedding = tagger.embed((sound, RATE_HZ))
    np.testing.assert_allclose(result.embedding, embedding, atol=1e-6)
    expected = linear.logits(embedding[None])[0]
    np.testing.assert_allclose(result.scores, sigmoid(expected.astype(np.float32)), atol=1e-5)


def test_the_lowest_embedding_passes_the_hard_swish_unchanged(weights: Weights) -> None:
    _, tensors = with_head(weights, Linear(np.ones((2, 384)), np.zeros(2)), ("a", "b"), "mine")
    lowest = np.full(384, -0.375, np.float32)  # no hard swish is lower, nor a mean of them
    hidden = tensors["classifier.2.weight"] @ lowest + tensors["classifier.2.bias"]
    assert (hidden >= 3).all()


def test_classes_that_lie_apart_are_learned_and_judged_on_what_was_held_out(weights: Weights) -> None:
    data, embeddings = clusters(60)
    trained = train_head(data, embeddings, weights, plan_of(data), name="mine")
    assert np.isfinite(trained.held_out).all()
    judged = trained.evaluate()
    assert judged.accuracy > 0.9
    assert judged.n_clips == 60
    assert trained.header.name == "mine"
    assert trained.log["penalty"] in PENALTIES
    assert len(trained.log["penalty_by_fold"]) == 5


def test_labels_by_lot_are_not_learned(weights: Weights) -> None:
    data, embeddings = clusters(60)
    rng = np.random.default_rng(3)
    shuffled = embeddings.values[rng.permutation(60)]
    trained = train_head(data, Embeddings(shuffled, embeddings.start), weights, plan_of(data), name="mine")
    assert trained.evaluate().mean_auc < 0.7
    assert trained.log["penalty"] > 1  # where there is nothing to learn, weights are held down


def test_the_same_data_give_the_same_model(weights: Weights) -> None:
    data, embeddings = clusters(30)
    one, other = (train_head(data, embeddings, weights, plan_of(data), name="mine") for _ in range(2))
    np.testing.assert_array_equal(one.tensors["classifier.5.weight"], other.tensors["classifier.5.weight"])
    np.testing.assert_array_equal(one.held_out, other.held_out)


def test_a_recording_is_as_loud_as_its_loudest_window(weights: Weights) -> None:
    data, embeddings = clusters(30, windows=3)
    trained = train_head(data, embeddings, weights, plan_of(data), name="mine", penalty=0.1)
    assert trained.log["penalty"] == 0.1
    assert trained.log["n_windows"] == 90
    outer, bias = trained.tensors["classifier.5.weight"], trained.tensors["classifier.5.bias"]
    hidden = np.pad(embeddings.values, ((0, 0), (0, outer.shape[1] - 384))) + 4.0
    by_window = sigmoid((hidden @ outer.T + bias).astype(np.float32)).reshape(30, 3, 3)
    final = by_window.max(axis=1)
    assert (final.argmax(axis=1) == np.arange(30) % 3).mean() > 0.9


def test_a_split_is_never_learned_from(weights: Weights) -> None:
    data, embeddings = clusters(60)
    parts = ["test" if n % 4 == 0 else "val" if n % 4 == 1 else "train" for n in range(60)]
    examples = tuple(replace(e, split=part) for e, part in zip(data.examples, parts, strict=True))
    split = Dataset("split", data.classes, data.mids, examples, is_multilabel=False)
    trained = train_head(split, embeddings, weights, plan_of(split), name="mine")
    held = np.isfinite(trained.held_out).all(axis=1)
    assert list(np.flatnonzero(held)) == [n for n in range(60) if n % 4 == 0]
    spoilt = embeddings.values.copy()
    spoilt[held] = 0
    again = train_head(split, Embeddings(spoilt, embeddings.start), weights, plan_of(split), name="mine")
    np.testing.assert_array_equal(
        trained.tensors["classifier.5.weight"], again.tensors["classifier.5.weight"]
    )


def test_figures_of_a_fold_do_not_depend_on_its_labels(weights: Weights) -> None:
    data, embeddings = clusters(45)
    plan = plan_of(data, folds=3)
    one = train_head(data, embeddings, weights, plan, name="mine")
    wrong = tuple(
        replace(e, labels=(OTHER[e.labels[0]],)) if plan.part[n] == 0 else e
        for n, e in enumerate(data.examples)
    )
    other = train_head(
        Dataset("wrong", data.classes, data.mids, wrong, is_multilabel=False),
        embeddings,
        weights,
        plan,
        name="mine",
    )
    np.testing.assert_array_equal(one.held_out[plan.part == 0], other.held_out[plan.part == 0])


@pytest.mark.parametrize("folds", [2, 3])
def test_few_folds_will_do(weights: Weights, folds: int) -> None:
    data, embeddings = clusters(24)
    steps: list[tuple[int, int]] = []
    trained = train_head(
        data,
        embeddings,
        weights,
        plan_of(data, folds=folds),
        name="m",
        step=lambda done, of: steps.append((done, of)),
    )
    assert np.isfinite(trained.held_out).all()
    assert steps[-1][0] == steps[-1][1]


def test_partly_known_labels_are_enough(weights: Weights) -> None:
    data, embeddings = clusters(60)
    examples = tuple(replace(e, absent=(OTHER[e.labels[0]],)) for e in data.examples)
    partial = Dataset("partial", data.classes, data.mids, examples, is_multilabel=True)
    judged = train_head(partial, embeddings, weights, plan_of(partial), name="mine").evaluate()
    assert judged.mean_auc > 0.9
    assert judged.classes[0].n_known == 40


def test_a_class_that_is_never_learned_while_it_is_judged_has_no_figures(weights: Weights) -> None:
    data, embeddings = clusters(30)
    examples = (*data.examples[:-1], LabelRow("lone.wav", ("d",)))
    lone = Dataset("lone", (*data.classes, "d"), ("",) * 4, examples, is_multilabel=False)
    trained = train_head(lone, embeddings, weights, plan_of(lone), name="mine")
    judged = trained.evaluate()
    assert "d" in judged.without
    document = trained.document(judged, version="1", sha256="0" * 64)
    assert document["data"]["classes"] == {"a": 10, "b": 10, "c": 9, "d": 1}
    assert len(document["folds"]) == 5


def test_a_penalty_is_more_than_nothing(weights: Weights) -> None:
    data, embeddings = clusters(12)
    with pytest.raises(UsageError, match="a penalty of 0 is not more than 0"):
        train_head(data, embeddings, weights, plan_of(data), name="mine", penalty=0)
