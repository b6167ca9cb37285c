"""Several `-m`: an ensemble, on every command that analyses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from checkpoints import state_dict

from dymn_cli.frontend.melbank import FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.model.config import ARCHITECTURES
from dymn_cli.store.header import ModelHeader, Purpose
from dymn_cli.store.weights import save_weights

SHORT = ("--window", 2)


@pytest.fixture
def models(dymn: Any) -> list[str]:
    """Files of three small models; the last has a front end of its own."""
    return [model(dymn, "a", 1), model(dymn, "b", 2), model(dymn, "c", 3, n_hop=640, n_mels=64)]


def model(
    dymn: Any,
    name: str,
    seed: int,
    *,
    vocabulary: Vocabulary | None = None,
    purpose: Purpose = "tags",
    **numbers: int,
) -> str:
    vocabulary = vocabulary or Vocabulary.audioset()
    config = ARCHITECTURES["mn01"].with_classes(len(vocabulary))
    header = ModelHeader(name, config, FrontEndConfig(**numbers), vocabulary, purpose)
    save_weights(dymn.cwd / f"{name}.safetensors", header, state_dict(config, seed))
    return f"./{name}.safetensors"


@pytest.fixture
def clip(record: Callable[..., str]) -> str:
    return record("clip.wav", (81, 3), (87, 2))


def asked(*names: str) -> list[str]:
    return [word for name in names for word in ("-m", name)]


def test_tags_are_those_of_the_mean_logits(in_process: Any, clip: str, models: list[str]) -> None:
    # The window of 2 s that is loudest for one model need not be so for all: one window, one mean.
    short = ("--window", 10)
    every = []
    for names in (*models, models):
        names = [names] if isinstance(names, str) else names
        ran = in_process("tag", clip, *asked(*names), *short, "-k", 0, "-f", "jsonl", "--precision", 9)
        tags = sorted(json.loads(ran.out)["tags"], key=lambda tag: tag["index"])
        every.append(np.array([tag["score"] for tag in tags]))
    logits = [np.log(scores / (1 - scores)) for scores in every]
    np.testing.assert_allclose(logits[3], np.mean(logits[:3], axis=0), atol=1e-4)


def test_machine_formats_name_all_of_them(dymn: Any, in_process: Any, clip: str, models: list[str]) -> None:
    ran = dymn("tag", clip, *asked(*models), *SHORT, "-f", "jsonl")
    found = json.loads(ran.out)["model"]
    hashes = [
        hashlib.sha256((dymn.cwd / name.removeprefix("./")).read_bytes()).hexdigest() for name in models
    ]
    assert (found["name"], found["backend"], found["provider"]) == ("a+b+c", "onnx", "CPUExecutionProvider")
    assert [(member["name"], member["sha256"]) for member in found["models"]] == list(
        zip("abc", hashes, strict=True)
    )
    assert found["sha256"] == hashlib.sha256("".join(f"{each}\n" for each in hashes).encode()).hexdigest()
    assert in_process("tag", clip, *asked(*models), *SHORT, "-o", "t.csv").returncode == 0
    assert json.loads((dymn.cwd / "t.csv.meta.json").read_bytes())["model"] == found
    single = json.loads(in_process("tag", clip, "-m", models[0], *SHORT, "-f", "jsonl").out)["model"]
    assert list(single) == ["name", "sha256", "backend", "provider"]


@pytest.mark.slow
def test_events_hear_all_of_them(in_process: Any, clip: str, models: list[str]) -> None:
    refused = in_process("events", clip, *asked(*models))  # one of them has steps of its own
    assert (refused.returncode, refused.out) == (2, "")
    assert "or use the method windows" in refused.err
    two = in_process("events", clip, *asked(*models[:2]), "-t", 0.01, "-f", "jsonl")
    assert json.loads(two.out)["events"]
    ran = in_process("events", clip, *asked(*models), "-t", 0.5, "-f", "jsonl", "--method", "windows")
    assert ran.returncode == 0
    document = json.loads(ran.out)
    assert (document["model"]["name"], bool(document["events"])) == ("a+b+c", True)


@pytest.mark.slow
def test_embeddings_are_refused_or_concatenated(in_process: Any, clip: str, models: list[str]) -> None:
    for words in (("embed", clip), ("embed", clip, "--per", "window"), ("tag", clip, "--embed", "e.npy")):
        ran = in_process(*words, *asked(*models), *SHORT)
        assert (ran.returncode, ran.err.count("\n")) == (2, 1)
        assert "an ensemble has no embedding of its own" in ran.err
        assert "--concat" in ran.err
        assert not (in_process.cwd / "e.npy").exists()
    alone = []
    for name in models:
        assert in_process("embed", clip, "-m", name, *SHORT, "-o", "one.npy", "--force").returncode == 0
        alone.append(np.load(in_process.cwd / "one.npy"))
    ran = in_process("embed", clip, *asked(*models), *SHORT, "--concat", "-o", "all.npy")
    assert ran.returncode == 0
    assert np.array_equal(np.load(in_process.cwd / "all.npy"), np.concatenate(alone, axis=1))
    ran = in_process("tag", clip, *asked(*models), *SHORT, "--concat", "--embed", "beside.npy", "-o", "t.csv")
    assert ran.returncode == 0
    assert np.array_equal(np.load(in_process.cwd / "beside.npy"), np.load(in_process.cwd / "all.npy"))


@pytest.mark.slow
def test_a_journal_is_that_of_all_models(in_process: Any, clip: str, models: list[str]) -> None:
    words = ("tag", clip, "gone.wav", *SHORT, "-o", "t.csv")  # one that fails keeps the journal
    assert in_process(*words, *asked(*models)).returncode == 6
    again = in_process(*words, *asked(*models))
    assert (again.returncode, "was there already" in again.err) == (6, True)
    for others in (models[:2], models[0:1], [models[1], models[0], models[2]]):
        ran = in_process(*words, *asked(*others))
        assert (ran.returncode, "other options" in ran.err or "model" in ran.err) == (5, True), ran.err


@pytest.mark.slow
def test_workers_answer_as_one_process_does(dymn: Any, clip: str, models: list[str]) -> None:
    """A time limit needs workers."""
    words = ("tag", clip, *asked(*models), *SHORT, "-f", "csv")
    assert dymn(*words, "--limit-per-file", 60, "-j", 2).stdout == dymn(*words).stdout


def test_what_does_not_go_together_is_refused(in_process: Any, clip: str, models: list[str]) -> None:
    birds = model(in_process, "birds", 4, vocabulary=Vocabulary.from_names(["wren", "robin"]))
    for words, said in (
        ((*asked(models[0], birds),), "a and birds do not have the same labels"),
        ((*asked(models[0], models[0]),), "the same model twice: a"),
        ((*asked(*models), "--concat"), "--concat is for embeddings"),
    ):
        ran = in_process("tag", clip, *words)
        assert (ran.returncode, ran.stdout, ran.err.count("\n")) == (2, b"", 1)
        assert said in ran.err


def test_a_model_without_sounds_embeds_and_neither_tags_nor_finds_events(in_process: Any, clip: str) -> None:
    things = Vocabulary.from_names([f"thing {n}" for n in range(10)])
    name = model(in_process, "mn01_im", 5, vocabulary=things, purpose="embeddings")
    for command in ("tag", "events"):
        ran = in_process(command, clip, "-m", name)
        assert (ran.returncode, ran.stdout, ran.err.count("\n")) == (2, b"", 1)
        assert "mn01_im gives embeddings only" in ran.err
        assert "dymn embed" in ran.err
    ran = in_process("embed", clip, "-m", name, *SHORT)
    assert (ran.returncode, ran.err) == (0, "")
    size = ARCHITECTURES["mn01"].embedding_size
    assert len(json.loads(ran.out)["embedding"]) == size


def test_the_environment_names_one_model_even_with_spaces(
    in_process: Any, clip: str, models: list[str]
) -> None:
    (in_process.cwd / "my models").mkdir()
    (in_process.cwd / "a.safetensors").rename(in_process.cwd / "my models" / "a b.safetensors")
    ran = in_process("tag", clip, *SHORT, "-f", "jsonl", env={"DYMN_MODEL": "my models/a b.safetensors"})
    assert json.loads(ran.out)["model"]["name"] == "a"
    ran = in_process("tag", clip, *SHORT, "-f", "jsonl", *asked(models[1]), env={"DYMN_MODEL": "none at all"})
    assert json.loads(ran.out)["model"]["name"] == "b"


def test_a_terminal_names_all_of_them(dymn: Any, clip: str, models: list[str]) -> None:
    ran = dymn.terminal("tag", clip, *asked(*models), *SHORT, streams="out", env={"NO_COLOR": "1"})
    assert ran.out.splitlines()[0].endswith("a+b+c")
