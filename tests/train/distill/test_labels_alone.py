"""Learning from labels without a teacher, also from an ImageNet model; and students of the paper's study."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")

from dymn_cli.cli.app import run  # noqa: E402
from dymn_cli.errors import UsageError  # noqa: E402
from dymn_cli.frontend import FrontEndConfig  # noqa: E402
from dymn_cli.labels import Vocabulary  # noqa: E402
from dymn_cli.model.blocks import DyConv  # noqa: E402
from dymn_cli.model.build import build  # noqa: E402
from dymn_cli.model.config import ModelConfig  # noqa: E402
from dymn_cli.model.study import variant  # noqa: E402
from dymn_cli.store.header import ModelHeader  # noqa: E402
from dymn_cli.store.weights import read_weights, save_weights  # noqa: E402
from dymn_cli.train.distill.data import DataOptions, Prepared, load_teachers, prepare  # noqa: E402
from dymn_cli.train.distill.recipe import Recipe, built_in  # noqa: E402
from dymn_cli.train.distill.student import initial_student  # noqa: E402
from dymn_cli.train.distill.task import DistillTask  # noqa: E402

CPU = torch.device("cpu")
AUDIOSET = Vocabulary.audioset()
SHORT = ("--batch", "4", "--window", "0.5", "--threads", "1", "--measure", "1", "--holdout", "0.3")


def tiny(recipe: Recipe) -> Recipe:
    stages = tuple(dataclasses.replace(one, batch=4, window_s=0.5) for one in recipe.stages)
    return dataclasses.replace(recipe, stages=stages)


@pytest.fixture(scope="module")
def labels(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of labels for all recordings but those of source0."""
    names = [path.relative_to(sources).as_posix() for path in sorted(sources.rglob("*.wav"))]
    rows = [f"{name},{'Speech' if n % 2 else 'Music'}\n" for n, name in enumerate(names)]
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    path.write_text("file,label\n" + "".join(row for row in rows if not row.startswith("source0/")))
    return path


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small DyMN as the ImageNet models are: a thousand objects, and kernels shared at temperature 30."""
    config = ModelConfig(width=0.1, n_classes=1000, temperature=30.0)
    network = build(config, generator=torch.Generator().manual_seed(3))
    objects = Vocabulary.from_names(f"output {n}" for n in range(1000))
    path = tmp_path_factory.mktemp("imagenet") / "dymn01_im.safetensors"
    tensors = {k: v.numpy() for k, v in network.state_dict().items() if not k.endswith("tracked")}
    save_weights(path, ModelHeader("dymn01_im", config, FrontEndConfig(), objects, "embeddings"), tensors)
    return path


@pytest.fixture
def prepared(sources: Path, labels: Path, tmp_path: Path) -> Prepared:
    recipe = tiny(built_in("labels"))
    teachers = load_teachers([], [], CPU, required=recipe.needs_teacher)
    options = DataOptions((str(sources),), tmp_path / "cache", labels=labels, holdout=0.3)
    return prepare(options, recipe, teachers, FrontEndConfig(), CPU, threads=1, tell=lambda line: None)


def test_the_recipe_is_that_of_the_paper() -> None:
    recipe = built_in("labels").for_student(1.0)
    (stage,) = recipe.stages
    assert (stage.rate, stage.batch, recipe.label_weight, recipe.epochs) == (5e-4, 120, 1.0, 200)
    assert (recipe.gain_db, recipe.roll_s, recipe.mix_waves, recipe.mixup) == (7.0, 0.125, 0.5, 0.3)
    assert recipe.spec_augment
    assert recipe.perturb_bands
    assert not recipe.needs_teacher
    assert built_in("paper").needs_teacher
    assert built_in("small").needs_teacher


def test_runs_from_before_the_augmentation_of_samples_go_on() -> None:
    assert "gain_db" not in built_in("paper").to_dict()
    assert "gain_db" in built_in("labels").to_dict()


def test_a_batch_has_the_labels_of_its_mixes_and_no_scores(prepared: Prepared) -> None:
    recipe = prepared.context.recipe
    corpus = prepared.context.corpus
    assert {"source0"}.isdisjoint(corpus.groups[int(n)] for n in prepared.training), "it has no labels"
    network = build(ModelConfig(width=0.1), generator=torch.Generator().manual_seed(0))
    task = DistillTask(prepared.context, network, recipe.stages[0], number=0, n_steps=2)
    batch = task.batch(0)
    assert batch.scores is None
    torch.testing.assert_close(batch.labels.sum(dim=1), torch.ones(4))
    assert batch.labels[:, 2:].count_nonzero() == (batch.labels[:, 137] > 0).sum(), "Speech is 0, Music 137"
    assert batch.known.all()
    again = task.batch(0)
    assert (again.samples == batch.samples).all()

    plain = dataclasses.replace(recipe, gain_db=0.0, roll_s=0.0, mix_waves=0.0)
    context = dataclasses.replace(prepared.context, recipe=plain)
    unchanged = DistillTask(context, network, recipe.stages[0], number=0, n_steps=2).batch(0)
    assert not (unchanged.samples == batch.samples).all(dim=1).any()


def test_the_loss_is_that_of_the_labels_which_are_known(prepared: Prepared) -> None:
    recipe = dataclasses.replace(prepared.context.recipe, spec_augment=False)
    stage = dataclasses.replace(recipe.stages[0], dropout=False)
    network = build(ModelConfig(width=0.1), generator=torch.Generator().manual_seed(0))
    context = dataclasses.replace(prepared.context, recipe=recipe)
    task = DistillTask(context, network, stage, number=0, n_steps=2)
    batch = task.batch(0)
    every = task.loss(batch, 0, network)
    assert every.parts == {}
    without = task.loss(dataclasses.replace(batch, known=None), 0, network)
    torch.testing.assert_close(every.total, without.total)
    some = batch.known.clone()
    some[:, 1:] = False
    speech = task.loss(dataclasses.replace(batch, known=some), 0, network).total
    assert 0 < speech < 0.05 * every.total
    striped = DistillTask(prepared.context, network, stage, number=0, n_steps=2)
    assert striped.loss(batch, 0, network).total != every.total


@pytest.mark.parametrize("pretrained", [False, True])
def test_a_student_learns_from_labels_with_and_without_imagenet(
    pretrained: bool,
    sources: Path,
    labels: Path,
    imagenet: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "student.safetensors"
    start = ("--init", str(imagenet)) if pretrained else ("--student", '{"width": 0.1}')
    data = (str(sources), "--labels", str(labels), "--cache", str(tmp_path / "cache"))
    command = ["distill", *data, "--recipe", "labels", *SHORT, *start, "--steps", "2", "-f", "json"]
    assert run([*command, "-o", str(out)]) == 0
    printed = capfd.readouterr()
    assert "4 of 40 clips left out: no labels" in printed.err
    assert re.search(r"(\d+) clips \(\1 of them with labels\) of", printed.err)
    assert "held out: mAP" in printed.err
    document = json.loads(printed.out)
    assert document["schema"] == "dymn.label-fit/1"
    (model,) = document["models"]
    assert 0 < model["map"] <= 1
    assert model["loss"] > 0
    header = read_weights(out).header
    assert header.vocabulary.names == AUDIOSET.names
    assert (header.purpose, header.config.n_classes, header.config.temperature) == ("tags", 527, 1.0)


def test_audioset_as_hdf5_brings_its_labels(
    teaching: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    h5py = pytest.importorskip("h5py")
    target = np.zeros((8, 527), np.uint8)
    target[np.arange(8), np.arange(8) % 2] = 1
    with h5py.File(tmp_path / "audioset.h5", "w") as file:
        file["audio_name"] = np.array([f"Y{n:011d}.mp3" for n in range(8)], dtype="S")
        clips = file.create_dataset("mp3", (8,), dtype=h5py.vlen_dtype(np.uint8))
        for n in range(8):
            buffer = io.BytesIO()
            soundfile.write(buffer, teaching.sound(n, 1.0), 32_000, format="MP3")
            clips[n] = np.frombuffer(buffer.getvalue(), np.uint8)
        file["target"] = np.packbits(target, axis=1)
    out = ("-o", str(tmp_path / "student.safetensors"), "--student", '{"width": 0.1}', "--steps", "1")
    assert run(["distill", str(tmp_path / "audioset.h5"), "--recipe", "labels", *SHORT, *out]) == 0
    name, n_clips, mean_ap, loss = capfd.readouterr().out.split()
    assert (name, n_clips) == ("student", "3")
    assert 0 < float(mean_ap) <= 1
    assert float(loss) > 0


def test_an_imagenet_model_keeps_all_but_its_last_layer(imagenet: Path) -> None:
    found = read_weights(imagenet)
    student = initial_student(None, str(imagenet), AUDIOSET, seed=1, teacher=None, temperature=30.0)
    state = student.network.state_dict()
    changed = {
        key
        for key, value in found.tensors.items()
        if state[key].shape != value.shape or not np.array_equal(state[key], value)
    }
    assert changed == {"classifier.5.weight", "classifier.5.bias"}
    assert state["classifier.5.weight"].shape[0] == 527
    temperatures = {m.temperature for m in student.network.modules() if isinstance(m, DyConv)}
    assert temperatures == {30.0}, "the recipe goes on from there"
    other = initial_student(None, str(imagenet), AUDIOSET, seed=2, teacher=None, temperature=30.0)
    assert not torch.equal(state["classifier.5.weight"], other.network.state_dict()["classifier.5.weight"])


def test_a_recipe_that_begins_colder_than_the_model_is_refused(imagenet: Path) -> None:
    with pytest.raises(UsageError, match="trained at temperature 30, and this recipe begins at 1") as caught:
        initial_student(None, str(imagenet), AUDIOSET, seed=1, teacher=None, temperature=1.0)
    assert "labels" in caught.value.hint


def test_neither_teacher_nor_labels(sources: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = ("-o", str(tmp_path / "student.safetensors"), "--cache", str(tmp_path / "cache"))
    assert run(["distill", str(sources), "--recipe", "labels", *SHORT, *out]) == 2
    assert "no teacher, and no labels to learn instead" in capfd.readouterr().err
    assert run(["distill", str(sources), "--recipe", "paper", *SHORT, *out]) == 2
    assert "no teacher" in capfd.readouterr().err
    taught = ("--teacher", "dymn04_kd", "--recipe", "labels")
    assert run(["distill", str(sources), *taught, *SHORT, *out]) == 2
    assert "learns from labels alone, and there are none" in capfd.readouterr().err


def test_samples_are_augmented_only_where_there_are_samples() -> None:
    with pytest.raises(UsageError, match="gain_db, roll_s, mix_waves, spec_augment are for a recipe without"):
        dataclasses.replace(built_in("small"), gain_db=7.0)


# ------------------------------------------------------------------ students of the study


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "part"),
    [("mn10-ta", ".gates."), ("dymn10-no-shared-context", ".own_context."), ("dymn10-k-2", ".residuals.")],
)
def test_a_variant_of_each_table_learns_from_a_teacher_and_is_fine_tuned(
    name: str,
    part: str,
    sources: Path,
    teacher: Path,
    teaching: ModuleType,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    config = dataclasses.replace(variant(name).config, width=0.1)
    out, tuned = tmp_path / "student.safetensors", tmp_path / "tuned.safetensors"
    data = (str(sources), "--teacher", str(teacher), "--cache", str(tmp_path / "cache"))
    recipe = ("--recipe", "paper", *SHORT, "--student", config.to_json(), "--steps", "2")
    assert run(["distill", *data, *recipe, "-o", str(out)]) == 0
    found = read_weights(out)
    assert found.header.config == dataclasses.replace(config, n_classes=12)
    settings = ("--set", "epochs=1", "--set", "batch=4", "--set", "window_s=0.5", "--set", "shards=1")
    options = ("--holdout", "0.5", "--threads", "1", *settings, "--cache", str(tmp_path / "cache2"))
    few = teaching.write_recordings(tmp_path / "few", groups=2, each=3, seconds=0.6)
    assert run(["finetune", str(few), "-m", str(out), *options, "-o", str(tuned)]) == 0
    after = read_weights(tuned)
    assert after.header.config == dataclasses.replace(config, n_classes=2)
    own = [key for key in found.tensors if part in key]
    assert own
    assert any((after.tensors[key] != found.tensors[key]).any() for key in own)


def test_a_student_is_named_as_in_the_study(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, sources: Path
) -> None:
    command = ["distill", str(sources), "--student", "mn10-tb", "--recipe", "labels"]
    assert run([*command, "-o", str(tmp_path / "student.safetensors")]) == 2
    assert "nearest: mn10-ta" in capfd.readouterr().err
