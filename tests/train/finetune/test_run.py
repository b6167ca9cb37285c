"""End-to-end fine-tuning: what is learned, from what, and that an interruption changes nothing."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import soundfile  # noqa: E402

from dymn_cli.datasets.dataset import Dataset  # noqa: E402
from dymn_cli.datasets.folds import Plan, plan_of  # noqa: E402
from dymn_cli.datasets.label_tables import LabelRow  # noqa: E402
from dymn_cli.errors import OutputError, UsageError  # noqa: E402
from dymn_cli.frontend import FrontEndConfig  # noqa: E402
from dymn_cli.frontend.torch_logmel import TorchLogMel  # noqa: E402
from dymn_cli.labels import Vocabulary  # noqa: E402
from dymn_cli.model.build import build  # noqa: E402
from dymn_cli.model.config import ModelConfig  # noqa: E402
from dymn_cli.store.header import ModelHeader  # noqa: E402
from dymn_cli.store.registry import weights_folder  # noqa: E402
from dymn_cli.store.weights import save_weights  # noqa: E402
from dymn_cli.tagging.tagger import Tagger  # noqa: E402
from dymn_cli.train.distill.teachers import LoadedModel, load_model  # noqa: E402
from dymn_cli.train.finetune.data import LabelledAudio, open_labelled  # noqa: E402
from dymn_cli.train.finetune.forecast import Pace, Training, forecast_of, windows_of  # noqa: E402
from dymn_cli.train.finetune.head_init import fit_head  # noqa: E402
from dymn_cli.train.finetune.recipe import PUBLISHED, FinetuneRecipe, default_recipe  # noqa: E402
from dymn_cli.train.finetune.result import Trained  # noqa: E402
from dymn_cli.train.finetune.run import FinetuneRun  # noqa: E402
from dymn_cli.train.finetune.task import FinetuneTask  # noqa: E402
from dymn_cli.train.inference import hidden_features, scores_of  # noqa: E402
from dymn_cli.train.loop import StepReport  # noqa: E402
from dymn_cli.train.losses import masked_loss  # noqa: E402
from dymn_cli.train.run import RunOptions  # noqa: E402
from dymn_cli.train.sampler import EpochSampler  # noqa: E402

RATE_HZ = 32_000
CPU = torch.device("cpu")
EACH = 4  # recordings of a kind
N = 3 * EACH
QUICK = FinetuneRecipe(epochs=2, batch=4, window_s=0.5, fit_head=False)
PLAIN = dataclasses.replace(QUICK, gain_db=0, roll_s=0, mix_waves=0, mixup=0, perturb_bands=False)


def tone(seed: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 0.3 * np.sin(2 * np.pi * rng.uniform(500, 2000) * np.arange(n) / RATE_HZ)


def noise(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, n)


def clicks(seed: int, n: int) -> np.ndarray:
    signal = np.zeros(n)
    signal[seed % 997 :: 1600 + 40 * (seed % 20)] = 0.9
    return signal


SOUNDS: Mapping[str, Callable[[int, int], np.ndarray]] = {"clicks": clicks, "noise": noise, "tone": tone}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Four recordings of about 0.7 s of each of three kinds."""
    folder = tmp_path_factory.mktemp("sounds")
    examples = []
    for label, (kind, make) in enumerate(SOUNDS.items()):
        for n in range(EACH):
            path = folder / f"{label}-{n}.wav"
            soundfile.write(path, make(100 * label + n, 20_000 + 500 * n), RATE_HZ, "FLOAT")
            examples.append(LabelRow(str(path), (kind,)))
    return Dataset("sounds", tuple(SOUNDS), ("", "", ""), tuple(examples), is_multilabel=False)


@pytest.fixture(scope="module")
def audio(recordings: Dataset, tmp_path_factory: pytest.TempPathFactory) -> LabelledAudio:
    found, skipped = open_labelled(recordings, tmp_path_factory.mktemp("cache"))
    assert skipped == []
    return found


@pytest.fixture(scope="module")
def tiny() -> LoadedModel:
    """A small network as an ImageNet model is: of no use for tags, and with the temperature of those."""
    config = ModelConfig(width=0.1, n_classes=7, temperature=30.0)
    network = build(config, generator=torch.Generator().manual_seed(5)).eval().requires_grad_(False)
    vocabulary = Vocabulary.from_names([f"object {n}" for n in range(7)])
    header = ModelHeader("tiny", config, FrontEndConfig(), vocabulary, "embeddings")
    return LoadedModel(header, "0" * 64, network)


class Notes:
    """Writes down what a run says."""

    def __init__(self) -> None:
        self.steps: list[StepReport] = []
        self.measured: list[Mapping[str, float]] = []
        self.lines: list[str] = []

    def step(self, report: StepReport) -> None:
        self.steps.append(report)

    def evaluated(self, report: StepReport, measures: Mapping[str, float]) -> None:
        self.measured.append(measures)


def start(
    audio: LabelledAudio,
    plan: Plan,
    base: LoadedModel,
    work: Path,
    recipe: FinetuneRecipe = QUICK,
    **options: Any,
) -> tuple[FinetuneRun, Notes]:
    notes = Notes()
    settings = RunOptions(work, "mine", **options)
    return FinetuneRun(audio, plan, base, recipe, settings, CPU, notes.lines.append), notes


def finished(
    audio: LabelledAudio,
    plan: Plan,
    base: LoadedModel,
    work: Path,
    recipe: FinetuneRecipe = QUICK,
    **options: Any,
) -> tuple[Trained, Notes]:
    run, notes = start(audio, plan, base, work, recipe, **options)
    assert run.run(notes) == "finished"
    return run.trained(), notes


# ---------------------------------------------------------------------- what is learned


@pytest.mark.slow
def test_classes_are_learned(audio: LabelledAudio, tmp_path: Path) -> None:
    base = load_model(str(weights_folder() / "dymn04_kd.safetensors"), CPU)
    recipe = FinetuneRecipe(epochs=18, batch=4, window_s=0.7, rate=2e-3, fit_head=False)
    plan = plan_of(audio.dataset, holdout=1 / 3)
    trained, notes = finished(audio, plan, base, tmp_path / "work", recipe)
    losses = [report.losses["loss"] for report in notes.steps]
    assert losses[0] == pytest.approx(3 * math.log(2), abs=0.1)  # a new head says nothing about any class
    assert losses[-1] < losses[0] - 0.2  # of the last fifty steps or so
    assert notes.measured[-1]["loss"] < 0.6 * losses[0]
    evaluation = trained.evaluate()
    assert evaluation.accuracy == 1
    assert evaluation.mean_average_precision > 0.9

    path = tmp_path / "mine.safetensors"
    save_weights(path, trained.header, trained.tensors)
    with Tagger(path, threads=1) as tagger:
        for n in plan.held_out(0)[:2]:
            scores = tagger.tag(audio.dataset.examples[n].source, top=0).scores
            np.testing.assert_allclose(scores, trained.held_out[n], atol=1e-3)


@pytest.mark.slow
def test_a_model_of_pictures_becomes_one_of_sounds(
    audio: LabelledAudio, tiny: LoadedModel, tmp_path: Path
) -> None:
    before = {key: value.clone() for key, value in tiny.network.state_dict().items()}
    trained, _ = finished(audio, plan_of(audio.dataset, folds=2), tiny, tmp_path)
    assert trained.header.purpose == "tags"
    assert trained.header.config.temperature == 1.0
    assert (trained.header.name, trained.header.vocabulary.names) == ("mine", tuple(SOUNDS))
    assert trained.tensors["classifier.5.weight"].shape[0] == 3
    assert np.isfinite(trained.held_out).all()
    moved = [key for key, value in trained.tensors.items() if not np.array_equal(value, before[key])]
    assert {"in_c.0.weight", "layers.7.depth_conv.weight", "out_c.1.running_mean"} <= set(moved)
    assert all(torch.equal(value, before[key]) for key, value in tiny.network.state_dict().items())


def test_scores_are_those_of_the_tagger(tiny: LoadedModel, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", noise(1, 13 * RATE_HZ) * np.linspace(0, 1, 13 * RATE_HZ), RATE_HZ)
    soundfile.write(tmp_path / "short.wav", tone(2, 9_000), RATE_HZ)
    examples = (LabelRow(str(tmp_path / "long.wav"), ("a",)), LabelRow(str(tmp_path / "short.wav"), ("b",)))
    dataset = Dataset("two", ("a", "b"), ("", ""), examples, is_multilabel=False)
    audio, _ = open_labelled(dataset, tmp_path / "cache")
    config = dataclasses.replace(tiny.header.config, temperature=1.0)
    tiny.network.set_temperature(1.0)
    scores = scores_of(tiny.network, TorchLogMel(), audio, [1, 0])
    header = dataclasses.replace(tiny.header, config=config, purpose="tags")
    tensors = {k: v.numpy() for k, v in tiny.network.state_dict().items() if not k.endswith("tracked")}
    save_weights(tmp_path / "tiny.safetensors", header, tensors)
    with Tagger(tmp_path / "tiny.safetensors", threads=1) as tagger:
        for example, row in zip(reversed(examples), scores, strict=True):
            np.testing.assert_allclose(row, tagger.tag(example.source, top=0).scores, atol=1e-4)


def test_a_head_that_fits_needs_no_training(audio: LabelledAudio, tmp_path: Path) -> None:
    base = load_model(str(weights_folder() / "dymn04_kd.safetensors"), CPU)
    network = copy.deepcopy(base.network)
    network.reset_head(3)
    hidden = hidden_features(network, TorchLogMel(), audio)
    assert hidden.values.shape == (N, network.config.head_channels)
    everything = np.arange(N)
    learned = everything[everything % EACH != 0]
    fit_head(network, hidden, audio, learned)
    scores = scores_of(network, TorchLogMel(), audio, everything)
    assert (scores.argmax(axis=1) == everything // EACH).all()
    others = dataclasses.replace(  # what is not learned from has no say
        audio,
        dataset=dataclasses.replace(
            audio.dataset,
            examples=tuple(
                dataclasses.replace(e, labels=(tuple(SOUNDS)[2],)) if n % EACH == 0 else e
                for n, e in enumerate(audio.dataset.examples)
            ),
        ),
    )
    first = network.classifier[-1].weight.clone()
    fit_head(network, hidden, others, learned)
    assert torch.equal(first, network.classifier[-1].weight)


# ---------------------------------------------------------------------- what it is learned from


def task(
    audio: LabelledAudio, base: LoadedModel, recipe: FinetuneRecipe = QUICK, stage: int = 0
) -> FinetuneTask:
    everything = np.arange(len(audio.dataset.examples))
    return FinetuneTask(
        audio,
        base.network,
        base.header.front_end,
        recipe,
        learned=everything,
        watched=everything[:0],
        stage=stage,
        seed=3,
    )


def test_each_recording_is_heard_once_an_epoch() -> None:
    order = EpochSampler(np.array([10, 11, 12, 13, 14, 15, 16]), batch=5, seed=0, purpose=0)
    heard = np.concatenate([order.of_step(step) for step in range(7)])
    epochs = [tuple(heard[first : first + 7]) for first in range(0, 35, 7)]
    assert all(sorted(epoch) == list(range(10, 17)) for epoch in epochs)
    assert len(set(epochs)) > 1
    assert order.of_step(4).tolist() == heard[20:25].tolist()  # whatever was asked before
    few = EpochSampler(np.array([1, 2]), batch=5, seed=0, purpose=0)  # a batch may be longer than an epoch
    assert sorted(np.concatenate([few.of_step(0), few.of_step(1)]).tolist()) == [1] * 5 + [2] * 5


def test_without_augmentation_a_batch_is_the_recordings(audio: LabelledAudio, tiny: LoadedModel) -> None:
    batch = task(audio, tiny, dataclasses.replace(PLAIN, window_s=1.0, batch=N)).batch(0)
    assert batch.samples.shape == (N, 32_000)
    assert (batch.partners, batch.limits_hz) == (None, None)
    for row, present in zip(batch.samples.numpy(), batch.present.numpy(), strict=True):
        example = next(
            n
            for n in range(N)
            if np.array_equal(np.resize(next(audio.windows(n)), 32_000), row)  # repeated: it is shorter
        )
        assert present.tolist() == audio.dataset.targets()[example].astype(float).tolist()


def test_a_roll_and_a_gain_change_no_label(audio: LabelledAudio, tiny: LoadedModel) -> None:
    plain = task(audio, tiny, PLAIN).batch(2)
    changed = task(audio, tiny, dataclasses.replace(PLAIN, gain_db=7.0, roll_s=0.125)).batch(2)
    assert changed.samples.shape == plain.samples.shape
    assert torch.equal(changed.present, plain.present)
    level = (changed.samples.square().mean(dim=1) / plain.samples.square().mean(dim=1)).log10() * 10
    assert level.abs().max() <= 7.001
    assert level.std() > 0.1
    rolled = task(audio, tiny, dataclasses.replace(PLAIN, roll_s=0.125)).batch(2)
    for one, other in zip(plain.samples, rolled.samples, strict=True):
        shifts = [s for s in range(-4000, 4001) if one[0] == other[s] and torch.equal(one.roll(s), other)]
        assert shifts


def test_mixes_have_the_labels_of_their_parts(audio: LabelledAudio, tiny: LoadedModel) -> None:
    mixed = task(audio, tiny, dataclasses.replace(PLAIN, mix_waves=0.5, mixup=0.3, batch=N))
    n_both = 0
    for step in range(8):
        batch = mixed.batch(step)
        assert batch.partners is not None and batch.share is not None
        torch.testing.assert_close(batch.present.sum(dim=1), torch.ones(N))
        torch.testing.assert_close(batch.known, torch.ones(N, 3))
        assert batch.share.min() >= 0.5
        n_both += int((batch.present > 0).sum())
    assert n_both > 8 * N * 1.4  # most are mixes of several classes
    waves = task(audio, tiny, dataclasses.replace(PLAIN, mix_waves=1.0, batch=N)).batch(0)
    assert waves.samples.mean(dim=1).abs().max() < 1e-6  # mixed signals have no mean


@pytest.mark.parametrize("batch", [16, 18])
def test_parts_of_a_batch_have_the_loss_of_the_whole(
    audio: LabelledAudio, tiny: LoadedModel, batch: int
) -> None:
    tuning = task(audio, tiny, dataclasses.replace(PLAIN, mixup=0.3, batch=batch, shards=4))
    assert tuning.shards == (4 if batch == 16 else 1)
    whole = tuning.batch(0)
    parts = tuning.parts(whole)
    network = build(tiny.header.config).eval()  # so that no normalisation looks at the other recordings
    network.reset_head(3)
    losses = [tuning.loss(part, 0, network).total for part in parts]
    torch.testing.assert_close(torch.stack(losses).mean(), tuning.loss(whole, 0, network).total)
    assert torch.equal(torch.cat([part.present for part in parts]), whole.present)


def test_a_step_is_the_same_whenever_it_is_made(audio: LabelledAudio, tiny: LoadedModel) -> None:
    one, other = task(audio, tiny), task(audio, tiny)
    one.batch(0)
    a, b = one.batch(5), other.batch(5)
    assert torch.equal(a.samples, b.samples)
    assert a.limits_hz == b.limits_hz
    assert a.limits_hz is not None and a.limits_hz != one.batch(6).limits_hz
    assert not torch.equal(a.samples, task(audio, tiny, stage=1).batch(5).samples)


def test_stripes_are_blanked_where_asked_for(audio: LabelledAudio, tiny: LoadedModel) -> None:
    seen = []
    network = build(tiny.header.config)
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network.reset_head(3)
    for blank in (False, True):
        base = LoadedModel(tiny.header, "", network)
        training = task(audio, base, dataclasses.replace(PLAIN, spec_augment=blank))
        training.loss(training.batch(0), 0, network)
    plain, striped = seen
    changed = (plain != striped).float().mean()
    assert 0.02 < changed < 0.5


# ---------------------------------------------------------------------- the loss


def test_what_is_not_known_counts_for_nothing() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.1, 3.0, -2.0]], requires_grad=True)
    present = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    known = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    loss = masked_loss(logits, present, known)
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, present, reduction="none")
    torch.testing.assert_close(loss, (plain * known).sum() / 2)
    loss.backward()
    assert ((logits.grad != 0) == (known != 0)).all()


def test_the_loss_of_a_mix_is_the_mix_of_the_losses() -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 6, generator=rng)
    truth, known = torch.tensor([1.0, 0, 1, 0, 1, 0]), torch.tensor([1.0, 1, 0, 0, 1, 1])
    others, of_others = torch.tensor([0.0, 1, 1, 0, 1, 0]), torch.tensor([1.0, 0, 1, 0, 1, 1])
    parts = [masked_loss(logits, (t * k)[None], k[None]) for t, k in ((truth, known), (others, of_others))]
    mixed = masked_loss(
        logits, (0.7 * truth * known + 0.3 * others * of_others)[None], (0.7 * known + 0.3 * of_others)[None]
    )
    torch.testing.assert_close(mixed, 0.7 * parts[0] + 0.3 * parts[1])


def test_partial_labels_reach_the_loss(audio: LabelledAudio, tiny: LoadedModel) -> None:
    examples = [
        dataclasses.replace(example, absent=(tuple(SOUNDS)[tuple(SOUNDS).index(example.labels[0]) - 2],))
        for example in audio.dataset.examples
    ]
    partly = dataclasses.replace(audio.dataset, examples=tuple(examples), is_multilabel=True)
    batch = task(dataclasses.replace(audio, dataset=partly), tiny, PLAIN).batch(0)
    assert batch.known.sum(dim=1).tolist() == [2.0] * 4
    assert (batch.present <= batch.known).all()


# ---------------------------------------------------------------------- the run


def same(one: Trained, other: Trained) -> bool:
    return (
        all(np.array_equal(value, other.tensors[key]) for key, value in one.tensors.items())
        and np.array_equal(one.held_out, other.held_out, equal_nan=True)
        and json.dumps(one.log) == json.dumps(other.log)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [QUICK, dataclasses.replace(QUICK, patience=1), dataclasses.replace(QUICK, fit_head=True)],
    ids=["plain", "patience", "fitted"],
)
def test_an_interruption_changes_nothing(
    audio: LabelledAudio, tiny: LoadedModel, tmp_path: Path, recipe: FinetuneRecipe
) -> None:
    plan = plan_of(audio.dataset, folds=2)
    whole, notes = finished(audio, plan, tiny, tmp_path / "whole", recipe)
    n_done = 0
    for _ in range(100):
        run, parts = start(audio, plan, tiny, tmp_path / "parts", recipe)
        ended = run.run(parts, lambda: len(parts.steps) >= 5)  # noqa: B023 - called within the round
        n_done += len(parts.steps)
        if ended == "finished":
            break
    assert n_done == len(notes.steps)
    assert same(whole, run.trained())
    logs = [
        [
            {
                key: value
                for key, value in json.loads(line).items()
                if key not in ("elapsed_s", "clips_per_s", "loss")
            }
            for line in (tmp_path / name / "log.jsonl").read_text().splitlines()
        ]
        for name in ("whole", "parts")
    ]
    assert logs[0] == logs[1]
    assert sum("held_out" in line for line in logs[0]) >= 2


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_checkpoint(
    audio: LabelledAudio, tiny: LoadedModel, tmp_path: Path
) -> None:
    plan = plan_of(audio.dataset, folds=2)
    whole, _ = finished(audio, plan, tiny, tmp_path / "whole")

    class Killed(BaseException):
        pass

    class Killer(Notes):
        def step(self, report: StepReport) -> None:
            if (report.stage, report.step) == (1, 3):
                raise Killed

    run, _ = start(audio, plan, tiny, tmp_path / "parts", checkpoint_every_s=0.0)
    with pytest.raises(Killed):
        run.run(Killer())
    again, notes = finished(audio, plan, tiny, tmp_path / "parts")
    assert notes.lines[0] == "going on at fold 2/2, step 2"
    assert same(whole, again)


@pytest.mark.slow
def test_a_run_with_other_settings_is_refused(
    audio: LabelledAudio, tiny: LoadedModel, tmp_path: Path
) -> None:
    plan = plan_of(audio.dataset, folds=2)
    run, notes = start(audio, plan, tiny, tmp_path)
    run.run(notes, lambda: True)
    other = dataclasses.replace(QUICK, rate=5e-4)
    with pytest.raises(OutputError, match="holds a run that differs in recipe"):
        finished(audio, plan, tiny, tmp_path, other)
    with pytest.raises(OutputError, match="differs in seed"):
        finished(audio, plan, tiny, tmp_path, seed=1)
    with pytest.raises(OutputError, match="differs in folds"):
        finished(audio, plan_of(audio.dataset, folds=3), tiny, tmp_path)
    relabelled = [dataclasses.replace(e, labels=(next(iter(SOUNDS)),)) for e in audio.dataset.examples[:5]]
    dataset = dataclasses.replace(audio.dataset, examples=(*relabelled, *audio.dataset.examples[5:]))
    with pytest.raises(OutputError, match="differs in labels"):
        finished(dataclasses.replace(audio, dataset=dataset), plan, tiny, tmp_path)
    finished(audio, plan, tiny, tmp_path, other, resume=False)


@pytest.mark.slow
def test_scores_that_are_gone_are_missed(audio: LabelledAudio, tiny: LoadedModel, tmp_path: Path) -> None:
    run, notes = start(audio, plan_of(audio.dataset, folds=2), tiny, tmp_path)
    assert run.run(notes) == "finished"
    (tmp_path / "held_out.1.npy").write_bytes(b"")
    with pytest.raises(OutputError, match="the scores of this fold are gone"):
        run.trained()
    run.tidy()
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["log.jsonl"]


@pytest.mark.slow
def test_scores_that_are_gone_are_missed_before_training_goes_on(
    audio: LabelledAudio, tiny: LoadedModel, tmp_path: Path
) -> None:
    plan = plan_of(audio.dataset, folds=2)
    run, notes = start(audio, plan, tiny, tmp_path)
    assert run.run(notes, lambda: notes.steps[-1].stage == 1) == "interrupted"
    (tmp_path / "held_out.0.npy").unlink()
    again, notes = start(audio, plan, tiny, tmp_path)
    with pytest.raises(OutputError, match="the scores of this fold are gone"):
        again.run(notes)
    assert notes.steps == []


@pytest.mark.slow
def test_what_ends_a_training_is_not_what_it_is_judged_on(
    audio: LabelledAudio, tiny: LoadedModel, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(QUICK, epochs=20, patience=1, rate=0.1)  # far too much: it soon goes wrong
    trained, _ = finished(audio, plan_of(audio.dataset, folds=2), tiny, tmp_path, recipe)
    *folds, final = trained.log["trainings"]
    assert all(done["n_learned"] < N / 2 for done in folds)  # some of each half are held out for that
    assert all(done["steps"] < done["n_steps"] for done in folds)
    assert all(done["best_step"] < done["steps"] for done in folds)
    epochs = max(round(20 * sum(done["best_step"] / done["n_steps"] for done in folds) / 2), 1)
    assert final["n_learned"] == N
    assert final["steps"] == pytest.approx(epochs / 20 * final["n_steps"], abs=1)
    assert np.isfinite(trained.held_out).all()


@pytest.mark.slow
def test_the_data_may_say_by_what_to_end(audio: LabelledAudio, tiny: LoadedModel, tmp_path: Path) -> None:
    splits = ["train", "train", "val", "test"]
    examples = [dataclasses.replace(e, split=splits[n % 4]) for n, e in enumerate(audio.dataset.examples)]
    data = dataclasses.replace(audio, dataset=dataclasses.replace(audio.dataset, examples=tuple(examples)))
    plan = plan_of(data.dataset)
    patient, notes = finished(data, plan, tiny, tmp_path / "a", dataclasses.replace(QUICK, patience=5))
    assert [done["n_learned"] for done in patient.log["trainings"]] == [6]
    assert len(notes.measured) == QUICK.epochs
    hasty, _ = finished(data, plan, tiny, tmp_path / "b")
    assert [done["n_learned"] for done in hasty.log["trainings"]] == [9]
    assert np.isfinite(hasty.held_out).all(axis=1).sum() == 3


@pytest.mark.slow
def test_it_is_said_how_long_all_trainings_will_take(
    audio: LabelledAudio, tiny: LoadedModel, tmp_path: Path
) -> None:
    run, notes = start(audio, plan_of(audio.dataset, folds=2), tiny, tmp_path)
    run.run(notes)
    assert len(notes.steps) == run.n_steps
    first = notes.steps[0]
    left = run.n_steps - 1
    assert first.left_s == pytest.approx(left * QUICK.batch / first.clips_per_s, rel=1e-6)
    assert run.stages == ("fold 1/2", "fold 2/2", "all")
    assert [line.partition(":")[0] for line in notes.lines] == ["fold 1/2", "fold 2/2"]


# ---------------------------------------------------------------------- the recipe


def test_the_schedule_is_the_one_of_the_paper() -> None:
    rates = FinetuneRecipe(rate=1.0).rates
    assert rates.at(10 / 80) == pytest.approx(1.0)
    assert rates.at(5 / 80) == pytest.approx(math.exp(-5 * 0.25))
    assert rates.at((10 + 32.5) / 80) == pytest.approx(0.505)
    assert rates.at(76 / 80) == pytest.approx(0.01)
    assert FinetuneRecipe(epochs=80, batch=16).n_steps(50) == 250
    assert FinetuneRecipe(epochs=1, batch=64).n_steps(2) == 1


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_data_sets_have_their_published_rates(name: str) -> None:
    recipe = default_recipe(name)
    assert (recipe.rate, recipe.batch) == PUBLISHED[name]
    assert (recipe.epochs, recipe.gain_db, recipe.roll_s, recipe.mixup) == (80, 7.0, 0.125, 0.3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": "20"}, "epochs '20' is not a whole number"),
        ({"gain_db": -1}, "gain_db -1 is not at least 0"),
        ({"roll_s": math.inf}, "roll_s inf is not a finite number"),
        ({"mix_waves": 1.5}, "mix_waves 1.5 is not at most 1"),
        ({"mixup": math.nan}, "mixup nan is not at least 0"),
        ({"shards": 0}, "shards 0 is not at least 1"),
        ({"epochs": 0}, "epochs 0 is not at least 1"),
        ({"batch": 1}, "batch 1 is not at least 2"),
        ({"rate": math.nan}, "rate nan is not more than 0"),
        ({"rate": -1.0}, "rate -1 is not more than 0"),
        ({"window_s": 0.1}, "window_s 0.1 is not at least 0.5"),
        ({"window_s": math.inf}, "window_s inf is not at most 60"),
        ({"patience": -1}, "patience -1 is not at least 0"),
        ({"fit_head": 1}, "fit_head 1 is neither true nor false"),
    ],
)
def test_a_recipe_that_makes_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FinetuneRecipe(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed -1"),
        ({"seed": 1.5}, "seed 1.5 is not a whole number"),
        ({"checkpoint_every_s": math.nan}, "nan"),
        ({"checkpoint_every_s": "60"}, "'60' is not a number"),
    ],
)
def test_a_run_that_makes_no_sense(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        RunOptions(tmp_path, "mine", **changes)


# ---------------------------------------------------------------------- how long it will take


def test_a_forecast_is_steps_times_their_seconds() -> None:
    pace = Pace(step_s=2.0, window_s=0.5)
    trainings = [Training(100, 10), Training(50, 0)]
    found = forecast_of(pace, trainings, n_windows=40, n_classes=3, embedding_size=384, n_folds=1)
    assert found.whole_s == 305
    assert 30 <= found.head_s < 31


def test_windows_are_counted_as_they_are_heard(audio: LabelledAudio) -> None:
    lengths = np.array([1, 320_000, 320_001, 960_000])
    assert windows_of(lengths).tolist() == [1, 1, 2, 3]
    assert windows_of(audio.n_samples).tolist() == [len(list(audio.windows(n))) for n in range(N)]


@pytest.mark.slow
def test_a_run_says_how_long_it_takes_and_is_not_changed_by_that(
    audio: LabelledAudio, tiny: LoadedModel, tmp_path: Path
) -> None:
    plan = plan_of(audio.dataset, folds=2)
    run, notes = start(audio, plan, tiny, tmp_path / "one")
    before = {key: value.clone() for key, value in run.network.state_dict().items()}
    forecast = run.forecast()
    assert forecast.head_s > 0
    assert 0 < forecast.whole_s < 600
    assert all(torch.equal(before[key], value) for key, value in run.network.state_dict().items())
    assert notes.steps == []
    assert run.run(notes) == "finished"
    other, others = start(audio, plan, tiny, tmp_path / "two")
    assert other.run(others) == "finished"
    for key, value in run.trained().tensors.items():
        np.testing.assert_array_equal(value, other.trained().tensors[key])


@pytest.mark.slow
def test_the_forecast_of_a_run_that_goes_on_is_about_what_is_left(
    audio: LabelledAudio, tiny: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FinetuneRun, "_pace", lambda self, n_steps: Pace(1.0, 0.0))
    plan = plan_of(audio.dataset, folds=2)
    run, notes = start(audio, plan, tiny, tmp_path)
    assert run.forecast().whole_s == run.n_steps
    assert run.run(notes, lambda: len(notes.steps) == 4) == "interrupted"
    assert start(audio, plan, tiny, tmp_path)[0].forecast().whole_s == run.n_steps - 4
