"""A whole distillation in small: a tiny teacher, a tiny student, recordings of a second."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from dymn_cli.errors import InputError, OutputError, UsageError  # noqa: E402
from dymn_cli.frontend import FrontEndConfig  # noqa: E402
from dymn_cli.model.config import ModelConfig  # noqa: E402
from dymn_cli.store.weights import read_weights, save_weights  # noqa: E402
from dymn_cli.train.distill.data import DataOptions, Prepared, TeacherSet, load_teachers, prepare  # noqa: E402
from dymn_cli.train.distill.mixing import MixOptions  # noqa: E402
from dymn_cli.train.distill.recipe import Budget, Recipe, built_in  # noqa: E402
from dymn_cli.train.distill.run import DistillRun  # noqa: E402
from dymn_cli.train.distill.student import initial_student  # noqa: E402
from dymn_cli.train.distill.task import Batch, DistillTask  # noqa: E402
from dymn_cli.train.distill.teachers import load_model, matching_maps  # noqa: E402
from dymn_cli.train.distill.validation import ValidationSet  # noqa: E402
from dymn_cli.train.loop import StepReport  # noqa: E402
from dymn_cli.train.run import RunOptions  # noqa: E402
from dymn_cli.train.run_folder import claimed  # noqa: E402

CPU = torch.device("cpu")
GENTLE = MixOptions(
    p_clips=(1.0,),
    gain_db=(-3.0, 3.0),
    max_tilt_db=2.0,
    p_band_limit=0.0,
    max_shift_bands=0,
    max_speed=1.0,
    p_wide=0,
    p_join=0,
    p_reverse=0,
    p_equalizer=0,
    p_reverb=0,
    p_far=0,
    p_first_once=0,
    p_noise=0,
)
SMALL, FURTHER, PAPER = (built_in(name).for_student(0.1) for name in ("small", "small-further", "paper"))


def tiny(recipe: Recipe, **changes: object) -> Recipe:
    """The recipe in windows of half a second."""
    settings = {"batch": 4, "window_s": 0.5, **changes}
    stages = tuple(dataclasses.replace(stage, **settings) for stage in recipe.stages)
    return dataclasses.replace(recipe, stages=stages, measurements=1)


@dataclasses.dataclass
class World:
    """Where runs happen."""

    place: Path
    data: Path
    teachers: TeacherSet
    student: ModelConfig

    def prepared(self, recipe: Recipe, **changes: object) -> Prepared:
        options = DataOptions((str(self.data),), self.place / "cache", holdout=0.3)
        return prepare(
            dataclasses.replace(options, **changes),
            recipe,
            self.teachers,
            FrontEndConfig(),
            CPU,
            threads=1,
            tell=lambda line: None,
        )

    def run(
        self,
        prepared: Prepared,
        work: str,
        steps: tuple[int, ...] = (),
        *,
        hours: float | None = None,
        seed: int = 0,
        **changes: object,
    ) -> DistillRun:
        student = initial_student(
            self.student,
            "random",
            self.teachers.vocabulary,
            seed=seed,
            teacher=None,
            frames=prepared.context.recipe.has_frames,
        )
        options = RunOptions(self.place / work, "tiny", seed=seed, **changes)
        return DistillRun(prepared, student, Budget(hours, steps), options, lambda line: None)


@pytest.fixture
def world(tmp_path: Path, sources: Path, teacher: Path, teaching: ModuleType) -> World:
    return World(tmp_path, sources, load_teachers([str(teacher)], [], CPU), teaching.DYMN)


class Silent:
    def step(self, report: StepReport) -> None: ...

    def evaluated(self, report: StepReport, measures: Mapping[str, float]) -> None: ...


def weights(run: DistillRun) -> dict[str, np.ndarray]:
    return {key: value.numpy().copy() for key, value in run.network.state_dict().items()}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return all((value == other[key]).all() for key, value in one.items())


def stop_after(n: int) -> Callable[[], bool]:
    asked = iter(range(1, 10_000))
    return lambda: next(asked) >= n


# ------------------------------------------------------------------ smoke


@pytest.mark.slow
def test_the_loss_falls_and_the_agreement_rises(world: World) -> None:
    recipe = dataclasses.replace(SMALL, mixes=GENTLE, measurements=1)
    blocks, whole = recipe.stages
    recipe = dataclasses.replace(
        recipe,
        stages=(
            dataclasses.replace(blocks, batch=6, window_s=1.0, rate=1e-2),
            dataclasses.replace(whole, batch=6, window_s=1.0, rate=6e-3, ema_decay=0.9),
        ),
    )
    prepared = world.prepared(recipe)
    # Networks of random weights hear the length of a window: measured on windows like those it learns from.
    held_out = ValidationSet(prepared.context.corpus, prepared.context.held_out.indices, CPU, window_s=1.0)
    held_out.use_teacher(world.teachers.live)
    prepared = dataclasses.replace(prepared, context=dataclasses.replace(prepared.context, held_out=held_out))
    run = world.run(prepared, "work", (15, 35))
    for module in run.network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.1  # fifty steps are too few for the usual one
    before = held_out.agreement(run.network.eval(), FrontEndConfig())
    assert run.run(Silent()) == "finished"
    after = held_out.agreement(run.network.eval(), FrontEndConfig())
    assert after.kl < 0.85 * before.kl
    assert after.rank > before.rank
    log = [json.loads(line) for line in (world.place / "work" / "log.jsonl").read_text().splitlines()]
    for stage in (0, 1):
        losses = [line["loss"] for line in log if line["stage"] == stage and "held_out" not in line]
        assert losses[-1] < 0.95 * losses[0]
    assert log[-1]["held_out"]["kl"] == pytest.approx(after.kl, rel=1e-3)


# ------------------------------------------------------------------ resuming


@pytest.mark.slow
def test_interrupting_and_resuming_changes_nothing(world: World) -> None:
    prepared = world.prepared(tiny(SMALL))
    whole = world.run(prepared, "whole", (3, 4))
    assert whole.run(Silent()) == "finished"

    for n in (2, 1, 2):  # within the first stage, at its end, within the second
        part = world.run(prepared, "parts", (3, 4))
        assert part.run(Silent(), stop_after(n)) == "interrupted"
    last = world.run(prepared, "parts", (3, 4))
    assert last.run(Silent()) == "finished"
    assert same(weights(whole), weights(last))
    assert whole.save_student(world.place / "a.safetensors") == last.save_student(
        world.place / "b.safetensors"
    )

    def untimed(work: str) -> list[dict[str, object]]:
        lines = (world.place / work / "log.jsonl").read_text().splitlines()
        kept = ("stage", "step", "held_out")
        return [{key: json.loads(line).get(key) for key in kept} for line in lines]

    assert untimed("parts") == untimed("whole")


@pytest.mark.slow
def test_another_seed_gives_another_student(world: World) -> None:
    prepared = world.prepared(tiny(PAPER))
    runs = [world.run(prepared, f"w{n}", (2,), seed=seed) for n, seed in enumerate((0, 0, 1))]
    for run in runs:
        run.run(Silent())
    assert same(weights(runs[0]), weights(runs[1]))
    assert not same(weights(runs[0]), weights(runs[2]))


def test_a_run_with_other_settings_is_refused(world: World) -> None:
    prepared = world.prepared(tiny(PAPER))
    world.run(prepared, "work", (2,)).run(Silent())
    with pytest.raises(OutputError, match="differs in seed"):
        world.run(prepared, "work", (2,), seed=1)
    with pytest.raises(OutputError, match="differs in budget"):
        world.run(prepared, "work", (3,))
    other = world.prepared(tiny(PAPER, rate=1.0))
    with pytest.raises(OutputError, match="differs in recipe"):
        world.run(other, "work", (2,))
    assert world.run(other, "work", (2,), resume=False).run(Silent()) == "finished"


def test_one_run_at_a_time_has_the_folder(world: World) -> None:
    prepared = world.prepared(tiny(PAPER))
    run = world.run(prepared, "work", (2,))
    with claimed(world.place / "work"), pytest.raises(OutputError, match="another run is training there"):
        run.run(Silent())
    assert run.run(Silent()) == "finished"


@pytest.mark.slow
def test_hours_end_each_stage_by_the_clock_and_go_on_where_they_were(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes 0.1 s here: 2 s are 5 steps of the first stage and 15 of the second."""
    recipe = tiny(SMALL)
    prepared = world.prepared(recipe)
    ticks = itertools.count()
    monkeypatch.setattr("dymn_cli.train.loop.time.monotonic", lambda: 1000.0)
    steps: list[StepReport] = []

    class Watching(Silent):
        def step(self, report: StepReport) -> None:
            steps.append(report)
            now = 1000.0 + 0.1 * next(ticks)
            monkeypatch.setattr("dymn_cli.train.loop.time.monotonic", lambda: now)

    def run(seconds: float) -> DistillRun:
        return world.run(prepared, "work", hours=seconds / 3600)

    assert run(4.0).run(Watching(), stop_after(4)) == "interrupted"
    assert run(1.95).run(Watching(), stop_after(5)) == "interrupted"
    assert run(1.95).run(Watching()) == "finished"
    counts = Counter(report.stage for report in steps)
    # The first step of each call of the loop takes no time here, so there are some more.
    assert 5 <= counts[0] <= 5 + 4
    assert 15 <= counts[1] <= 15 + 3
    for stage in (0, 1):
        last = [report for report in steps if report.stage == stage][-1]
        assert last.done == 1
        assert last.rate < 0.15 * recipe.stages[stage].rate
    assert steps[-1].left_s == 0


# ------------------------------------------------------------------ what a student is


def test_the_result_is_a_model_like_any_other(world: World) -> None:
    recipe = dataclasses.replace(tiny(PAPER), temperature=30.0)
    run = world.run(world.prepared(recipe), "work", (2,))
    run.run(Silent())
    run.save_student(world.place / "student.safetensors")
    found = read_weights(world.place / "student.safetensors")
    assert found.header.name == "tiny"
    assert found.header.config == dataclasses.replace(world.student, temperature=1.0)
    assert found.header.vocabulary.names == world.teachers.vocabulary.names
    snapshot = read_weights(world.place / "work" / "student.safetensors")
    assert all((found.tensors[key] == value).all() for key, value in snapshot.tensors.items())

    again = initial_student(
        None, str(world.place / "student.safetensors"), world.teachers.vocabulary, seed=9, teacher=None
    )
    assert again.began_as == found.sha256
    assert again.header.config == found.header.config
    state = again.network.state_dict()
    assert all(np.array_equal(state[key], value) for key, value in found.tensors.items())


def test_a_student_must_fit_its_weights_and_its_teachers(world: World, teacher: Path) -> None:
    vocabulary = world.teachers.vocabulary
    with pytest.raises(UsageError, match="not of the architecture"):
        initial_student(world.student, str(teacher), vocabulary, seed=0, teacher=None)
    with pytest.raises(UsageError, match="no student"):
        initial_student(None, "random", vocabulary, seed=0, teacher=None)
    with pytest.raises(UsageError, match="other classes"):
        initial_student(None, "dymn04_kd", vocabulary, seed=0, teacher=None)
    with pytest.raises(UsageError, match="no classifier to train"):
        initial_student(ModelConfig("fmn", 0.1), "random", vocabulary, seed=0, teacher=None)


# ------------------------------------------------------------------ the parts of a stage


@pytest.mark.slow
def test_blocks_learn_apart_from_each_other(world: World) -> None:
    recipe = tiny(SMALL)
    prepared = world.prepared(recipe)
    run = world.run(prepared, "work", (2, 2))
    task = DistillTask(prepared.context, run.network.train(), recipe.stages[0], number=0, n_steps=2)
    parameters = list(run.network.stages[7].parameters())
    losses = task.loss(task.batch(0), 0, task.student)
    (gradient,) = torch.autograd.grad(losses.total, parameters[:1], retain_graph=True)
    with torch.no_grad():
        for value in run.network.stages[6].parameters():
            value.mul_(3.0)
    (again,) = torch.autograd.grad(task.loss(task.batch(0), 0, task.student).total, parameters[:1])
    assert torch.allclose(gradient, again, rtol=1e-3, atol=1e-5)


def test_a_random_student_begins_with_the_teachers_means_and_spreads(world: World) -> None:
    recipe = dataclasses.replace(tiny(SMALL), mixes=GENTLE)
    prepared = world.prepared(recipe)
    student = world.run(prepared, "work", (1, 1)).network.train()
    before = DistillTask(prepared.context, student, recipe.stages[0], number=0, n_steps=1)
    batch = before.batch(0)
    first = before.loss(batch, 0, student)
    before.fit_start()
    fitted = before.loss(batch, 0, student)
    assert fitted.parts["hints"] < first.parts["hints"]
    assert fitted.parts["kl"] < 0.8 * first.parts["kl"]
    scores, _, maps = before._teacher_targets(batch)
    for number in (3, 9):
        stage, x = student.stages[number], maps[number - 1]
        assert torch.allclose(stage(x).mean(dim=(0, 2, 3)), maps[number].mean(dim=(0, 2, 3)), atol=0.5)
    assert torch.sigmoid(student.classifier[-1].bias).mean().item() == pytest.approx(
        scores.mean().item(), rel=0.3
    )


def test_the_student_is_measured_as_it_is_saved(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def temperature(network: nn.Module) -> float:
        return network.layers[3].depth_conv.temperature

    measured, measures = [], ValidationSet.measures

    def noted(held_out: ValidationSet, network: nn.Module, front_end: FrontEndConfig) -> dict[str, float]:
        measured.append(temperature(network))
        return measures(held_out, network, front_end)

    monkeypatch.setattr(ValidationSet, "measures", noted)
    recipe = dataclasses.replace(tiny(PAPER), temperature=30.0, temperature_share=1.0, measurements=2)
    run = world.run(world.prepared(recipe), "work", (2,))
    run.network.set_temperature(30.0)  # as one that begins with weights trained so
    run.run(Silent())
    run.save_student(world.place / "student.safetensors")
    saved = load_model(str(world.place / "student.safetensors"), CPU).network
    assert {*measured, temperature(run.network), temperature(saved)} == {1.0}


@pytest.mark.slow
def test_the_temperature_falls_over_the_run(world: World) -> None:
    recipe = dataclasses.replace(tiny(PAPER), temperature=30.0, temperature_share=0.5)
    prepared = world.prepared(recipe)
    run = world.run(prepared, "work", (8,))
    task = DistillTask(prepared.context, run.network, recipe.stages[0], number=0, n_steps=8)
    seen = []
    for step in (0, 2, 4, 7):
        task.loss(task.batch(step), step, task.student)
        seen.append(run.network.layers[3].depth_conv.temperature)
    assert seen == pytest.approx([30.0, 15.5, 1.0, 1.0])


@pytest.mark.slow
def test_a_teacher_of_another_width_gives_scores_but_no_blocks(world: World, teaching: ModuleType) -> None:
    path = teaching.write_teacher(
        world.place / "wide.safetensors", dataclasses.replace(teaching.MN, width=0.5)
    )
    world.teachers = load_teachers([str(path)], [], CPU)
    prepared = world.prepared(tiny(PAPER))
    assert world.run(prepared, "work", (1,)).run(Silent()) == "finished"
    with pytest.raises(UsageError, match="student's channels in every block"):
        world.run(world.prepared(tiny(SMALL)), "other", (1, 1))


@pytest.mark.slow
def test_an_ensemble_is_the_mean_of_its_logits(world: World, teacher: Path, teaching: ModuleType) -> None:
    second = teaching.write_teacher(world.place / "second.safetensors", seed=5)
    mel = torch.randn(2, 1, 128, 50, generator=torch.Generator().manual_seed(0))
    answers = []
    for names in ([teacher], [second], [teacher, second]):
        live = load_teachers([str(name) for name in names], [], CPU).live
        answers.append(live.predict({FrontEndConfig(): mel}).logits)
    assert torch.allclose((answers[0] + answers[1]) / 2, answers[2], atol=1e-5)


def test_maps_that_match() -> None:
    dymn, mn = ModelConfig(width=0.4), ModelConfig(family="mn", width=0.4)
    assert matching_maps(dymn, mn) == tuple(range(17))
    assert len(matching_maps(dymn, ModelConfig(family="mn", width=0.5))) < 17


def test_steps_are_shared_out_to_the_stages() -> None:
    assert Budget(steps=(1000,)).steps_of(SMALL.stages) == (250, 750)
    assert Budget(steps=(1,)).steps_of(SMALL.stages) == (1, 1)
    assert Budget(steps=(3, 4)).steps_of(SMALL.stages) == (3, 4)
    assert Budget.of(PAPER) == Budget(steps=(round(200 * 100_000 / 120),))
    assert Budget.of(SMALL) == Budget(hours=1.0)


# ------------------------------------------------------------------ frames


def test_frames_are_learned_and_go_with_the_student(world: World) -> None:
    recipe = dataclasses.replace(tiny(SMALL), mixes=GENTLE)
    prepared = world.prepared(recipe)
    run = world.run(prepared, "work", (2, 6))
    before = weights(run)
    assert run.run(Silent()) == "finished"
    assert {"strong_head.0.weight", "strong_head.2.bias"} < {
        key for key, value in weights(run).items() if (value != before[key]).any()
    }
    lines = [json.loads(line) for line in (world.place / "work" / "log.jsonl").read_text().splitlines()]
    assert all(line["frames"] > 0 for line in lines)
    assert all(line["held_out"]["frames"] > 0 for line in lines if "held_out" in line)
    run.save_student(world.place / "student.safetensors")
    assert read_weights(world.place / "student.safetensors").header.config.frame_head


def test_a_steps_target_is_what_the_teacher_says_of_the_clip_alone(world: World) -> None:
    recipe = dataclasses.replace(tiny(SMALL, window_s=1.0), mixes=GENTLE)
    prepared = world.prepared(recipe)
    task = DistillTask(
        prepared.context, world.run(prepared, "w", (1, 1)).network, recipe.stages[1], number=1, n_steps=1
    )
    batch = task.batch(0)
    assert batch.frames.shape == (4, 4, 12)
    alone = prepared.context.clip_scores
    known = alone.scores(np.arange(len(alone.logits)))
    for frames in batch.frames.numpy():  # one clip each, all the time
        assert (np.abs(known - frames[1]).max(axis=1) < 1e-6).any()
        assert (frames == frames[1]).all()
    parts = [part.frames for part in task.parts(batch)]
    assert torch.equal(torch.cat(parts), batch.frames)


def test_the_teacher_hears_mixes_at_its_own_level(world: World) -> None:
    mixes = dataclasses.replace(GENTLE, gain_db=(-20.0, -20.0), teacher_level_db=-10.0)
    recipe = dataclasses.replace(tiny(SMALL), mixes=mixes)
    prepared = world.prepared(recipe)
    network = world.run(prepared, "w", (1, 1)).network
    blocks, whole = (
        DistillTask(prepared.context, network, stage, number=n, n_steps=1)
        for n, stage in enumerate(recipe.stages)
    )
    batch = whole.batch(0)
    scores, mel, _ = whole._teacher_targets(batch)
    heard = prepared.teachers.live.models[0].network(batch.teacher_mels)[0]
    assert torch.allclose(scores, torch.sigmoid(heard))
    assert torch.equal(mel, batch.mels)
    assert whole._matching[0] > blocks._matching[0] == 0  # no hints where the level still shows
    assert torch.equal(blocks._teacher_targets(batch)[1], batch.teacher_mels)
    assert torch.equal(torch.cat([part.teacher_mels for part in whole.parts(batch)]), batch.teacher_mels)


@pytest.mark.slow
def test_a_student_gets_a_frame_head_and_loses_one_that_is_not_trained(world: World) -> None:
    run = world.run(world.prepared(tiny(PAPER)), "work", (1,))
    run.run(Silent())
    run.save_student(world.place / "plain.safetensors")
    vocabulary = world.teachers.vocabulary

    def begin(path: Path, *, frames: bool) -> tuple[torch.nn.Module, ModelConfig]:
        student = initial_student(None, str(path), vocabulary, seed=0, teacher=None, frames=frames)
        assert student.network.config == student.header.config
        return student.network, student.header.config

    given, config = begin(world.place / "plain.safetensors", frames=True)
    assert config.frame_head
    mel = torch.randn(2, 1, 128, 70, generator=torch.Generator().manual_seed(0))
    plain, config = begin(world.place / "plain.safetensors", frames=False)
    assert not config.frame_head
    features = plain.eval().forward_features(mel)
    assert torch.equal(given.eval().forward_frames(features), plain.forward_frames(features))
    header = dataclasses.replace(read_weights(world.place / "plain.safetensors").header, config=given.config)
    tensors = {k: v.numpy() for k, v in given.state_dict().items() if not k.endswith("tracked")}
    save_weights(world.place / "framed.safetensors", header, tensors)
    kept, _ = begin(world.place / "framed.safetensors", frames=True)
    assert same({k: v.numpy() for k, v in kept.state_dict().items() if not k.endswith("tracked")}, tensors)
    lost, config = begin(world.place / "framed.safetensors", frames=False)
    assert lost.strong_head is None
    assert not config.frame_head


@pytest.mark.slow
def test_a_trained_student_keeps_its_statistics_and_all_its_units(world: World) -> None:
    recipe = dataclasses.replace(tiny(FURTHER), fitted_start=False)
    assert [stage.mode for stage in recipe.stages] == ["end-to-end"]
    prepared = world.prepared(recipe)
    run = world.run(prepared, "work", (3,))
    before = weights(run)
    run.run(Silent())
    after = weights(run)
    assert all((after[key] == value).all() for key, value in before.items() if "running" in key)
    assert (after["in_c.1.weight"] != before["in_c.1.weight"]).any()

    student = run.network.train()
    task = DistillTask(prepared.context, student, recipe.stages[0], number=0, n_steps=3)
    batch = task.batch(0)
    losses = {task.loss(batch, 0, student).total.item() for _ in range(3)}
    assert len(losses) == 1  # no dropout


def test_frames_need_mixes() -> None:
    with pytest.raises(UsageError, match="frame_weight needs"):
        tiny(PAPER, frame_weight=0.5)


@pytest.mark.slow
def test_rare_sounds_and_named_groups(world: World) -> None:
    prepared = world.prepared(tiny(SMALL), holdout=("source3", "source7"))
    assert prepared.split.held_out == ("source3", "source7")
    context = prepared.context
    assert {context.corpus.groups[int(n)] for n in context.held_out.indices} == {"source3", "source7"}
    drawn = np.bincount(context.sampler.draw(np.random.default_rng(0), 100_000), minlength=40)
    assert not drawn[[context.corpus.groups.index(f"source{n}") for n in (3, 7)]].any()
    best = context.clip_scores.best_classes()
    counts = np.bincount(best[prepared.training])
    for a, b in itertools.combinations(prepared.training, 2):
        if context.corpus.groups[a] == context.corpus.groups[b]:
            wanted = np.sqrt(counts[best[b]] / counts[best[a]])
            assert drawn[a] / drawn[b] == pytest.approx(wanted, rel=0.15)


# ------------------------------------------------------------------ offline


def test_stored_logits_teach_as_in_the_paper(world: World, tmp_path: Path, sources: Path) -> None:
    names = [path.relative_to(sources).as_posix() for path in sorted(sources.rglob("*.wav"))]
    matrix = np.random.default_rng(0).normal(-3, 2, (len(names), 527)).astype(np.float16)
    np.save(tmp_path / "logits.npy", matrix)
    (tmp_path / "logits.index.csv").write_text(
        "name,row\n" + "".join(f"{name},{n}\n" for n, name in enumerate(names[:-6]))
    )
    world.teachers = load_teachers([str(tmp_path / "logits.npy")], [], CPU)
    world.student = dataclasses.replace(world.student, n_classes=527)
    recipe = dataclasses.replace(tiny(PAPER), mixup=0.0)
    prepared = world.prepared(recipe)
    known_clips = {*prepared.training, *prepared.context.held_out.indices}
    assert len(known_clips) == len(names) - 6
    run = world.run(prepared, "work", (2,))
    task = DistillTask(prepared.context, run.network, recipe.stages[0], number=0, n_steps=2)
    known = torch.sigmoid(torch.from_numpy(matrix.astype(np.float32)))
    for row in task.batch(0).scores:
        assert (known - row).abs().amax(dim=1).min() < 1e-6
    assert run.run(Silent()) == "finished"
    with pytest.raises(UsageError, match="logits of mixes"):
        world.prepared(tiny(SMALL))


@pytest.mark.slow
def test_mixup_mixes_stored_scores_with_the_sounds(world: World, tmp_path: Path, sources: Path) -> None:
    names = [path.relative_to(sources).as_posix() for path in sorted(sources.rglob("*.wav"))]
    matrix = np.where(np.arange(len(names))[:, None] % 2, 20.0, -20.0) * np.ones((1, 527))
    np.save(tmp_path / "logits.npy", matrix.astype(np.float32))
    (tmp_path / "logits.index.csv").write_text(
        "name,row\n" + "".join(f"{name},{n}\n" for n, name in enumerate(names))
    )
    world.teachers = load_teachers([str(tmp_path / "logits.npy")], [], CPU)
    recipe = tiny(PAPER)
    prepared = world.prepared(recipe)
    task = DistillTask(prepared.context, None, recipe.stages[0], number=0, n_steps=2)
    batch = task.batch(0)
    kept = torch.from_numpy(batch.share)
    first = batch.scores[:, 0]
    assert all(min(abs(s - v) for v in (0, 1, k, 1 - k)) < 1e-4 for s, k in zip(first, kept, strict=True))


@pytest.mark.slow
def test_labels_of_files_count_where_they_are_known(world: World, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(
        "file,label\nsource0/take0.wav,class 3;class 4\nsource1/take1.wav,class 5\n"
    )
    recipe = tiny(PAPER)
    prepared = world.prepared(recipe, labels=tmp_path / "labels.csv", holdout=0.0)
    corpus = prepared.context.corpus
    at = corpus.names.index("source0/take0.wav")
    assert np.flatnonzero(corpus.labels[at]).tolist() == [3, 4]
    assert corpus.known.sum() == 2 * 12
    without = world.prepared(recipe, holdout=0.0).context.corpus
    assert corpus.fingerprint == without.fingerprint
    assert corpus.labels_fingerprint
    assert not without.labels_fingerprint
    run = world.run(prepared, "work", (1,))
    task = DistillTask(prepared.context, run.network, recipe.stages[0], number=0, n_steps=1)
    batch = next(batch for batch in map(task.batch, range(30)) if not batch.known.any())
    torch.manual_seed(0)
    unknown = task.loss(batch, 0, task.student).total.item()
    torch.manual_seed(0)
    without = task.loss(dataclasses.replace(batch, labels=None), 0, task.student).total.item()
    assert unknown == pytest.approx(without, rel=1e-5)
    (tmp_path / "labels.csv").write_text("file,label\nsource0/take0.wav,no such class\n")
    with pytest.raises(UsageError, match="no such class"):
        world.prepared(recipe, labels=tmp_path / "labels.csv")


MIXES = dataclasses.replace(tiny(SMALL), label_weight=0.5)


def run_on_mixes(world: World, table: Path, rows: str) -> tuple[DistillRun, DistillTask]:
    """A run, and the task of its second stage, with the labels of a table that has a row for each clip."""
    head, row = rows.splitlines()
    filled = [row.format(source=source, take=take) for source in range(4) for take in range(4)]
    table.write_text("\n".join([head, *filled]) + "\n")
    run = world.run(world.prepared(MIXES, labels=table, holdout=0.0), "work", (1, 1))
    return run, DistillTask(run.context, run.network, MIXES.stages[1], number=1, n_steps=1)


def gradients_of_biases(
    run: DistillRun, task: DistillTask, batch: Batch
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of the biases of the classes, (n_classes,): with the labels of a batch, and without."""
    bias, found = run.network.classifier[-1].bias, []
    for one in (batch, dataclasses.replace(batch, labels=None)):
        bias.grad = None
        task.loss(one, 0, task.student).total.backward()
        found.append(bias.grad.clone())
    return found[0], found[1]


@pytest.mark.slow
def test_labels_raise_the_targets_of_mixes(world: World, tmp_path: Path) -> None:
    run, task = run_on_mixes(
        world, tmp_path / "labels.csv", "file,label\nsource{source}/take{take}.wav,class {source}"
    )
    batch = next(batch for batch in map(task.batch, range(30)) if (batch.labels == 1).any())
    named = batch.labels == 1
    assert not named[:, 4:].any()
    heard = batch.frames.amax(dim=1)
    assert (heard[named] >= 0.5 - 1e-3).all()
    best = run.network.classifier[-1]
    with torch.no_grad():
        best.weight.zero_()
        best.bias.zero_()
    labelled, plain = gradients_of_biases(run, task, batch)
    raised = labelled < plain - 1e-6  # towards more of the class
    assert raised[: named.shape[1]].tolist() == (batch.labels > 0).any(dim=0).tolist()
    other = world.run(world.prepared(MIXES, holdout=0.0), "work", (1, 1))
    assert other.fingerprint["data"] != run.fingerprint["data"]


@pytest.mark.slow
def test_rejected_labels_lower_the_targets_of_mixes(world: World, tmp_path: Path) -> None:
    run, task = run_on_mixes(
        world,
        tmp_path / "review.csv",
        "source,label,decision\nsource{source}/take{take}.wav,class 5,reject",
    )
    batch = next(batch for batch in map(task.batch, range(30)) if (batch.labels[:, 5] < 0).any())
    assert batch.labels.unique().tolist() in ([-1, 0], [-1])
    labelled, plain = gradients_of_biases(run, task, batch)
    lowered = labelled > plain + 1e-7  # towards less of the class
    assert lowered.nonzero().flatten().tolist() == [5]


@pytest.mark.slow
def test_audioset_as_hdf5_teaches_with_its_labels(world: World, tmp_path: Path, teaching: ModuleType) -> None:
    h5py = pytest.importorskip("h5py")
    names = [f"Y{n:011d}.mp3" for n in range(8)]
    labels = (np.random.default_rng(0).random((8, 12)) < 0.3).astype(np.uint8)
    with h5py.File(tmp_path / "audioset.h5", "w") as file:
        file["audio_name"] = np.array(names, dtype="S")
        clips = file.create_dataset("mp3", (8,), dtype=h5py.vlen_dtype(np.uint8))
        for n in range(8):
            buffer = io.BytesIO()
            soundfile.write(buffer, teaching.sound(n, 1.0), 32_000, format="MP3")
            clips[n] = np.frombuffer(b"damaged" if n == 3 else buffer.getvalue(), np.uint8)
        file["target"] = np.packbits(labels, axis=1)
    recipe = dataclasses.replace(tiny(PAPER), mixup=0.0)
    prepared = world.prepared(recipe, names=(str(tmp_path / "audioset.h5"),), holdout=0.25)
    assert 3 not in prepared.context.held_out.indices
    run = world.run(prepared, "work", (3,))
    task = DistillTask(prepared.context, run.network, recipe.stages[0], number=0, n_steps=3)
    batch = task.batch(0)
    known = {tuple(row) for n, row in enumerate(labels.tolist()) if n != 3}
    assert {tuple(row) for row in batch.labels.int().tolist()} <= known
    with_labels = task.loss(batch, 0, task.student).total
    without = task.loss(dataclasses.replace(batch, labels=None), 0, task.student).total
    assert with_labels != without
    assert run.run(Silent()) == "finished"


# ------------------------------------------------------------------ data that does not serve


def test_data_without_groups_to_hold_out(world: World) -> None:
    with pytest.raises(UsageError, match="one group"):
        world.prepared(SMALL, names=(str(world.data / "source0"),))
    prepared = world.prepared(SMALL, names=(str(world.data / "source0"),), group_by="file")
    assert len(prepared.split.held_out) == 1


def test_a_column_of_groups_needs_a_manifest(world: World) -> None:
    with pytest.raises(UsageError, match="--group-by 'origin' is a column"):
        world.prepared(SMALL, group_by="origin")


def test_files_of_both_kinds_are_not_mixed(world: World) -> None:
    with pytest.raises(UsageError, match="cannot be mixed"):
        world.prepared(SMALL, names=(str(world.data), "audioset.h5"))


def test_no_teacher_and_mixed_teachers(tmp_path: Path, teacher: Path) -> None:
    with pytest.raises(UsageError, match="no teacher"):
        load_teachers([], [], CPU)
    with pytest.raises(UsageError, match="cannot teach together"):
        load_teachers([str(teacher), "logits.npy"], [], CPU)


def test_logits_of_other_clips(world: World, tmp_path: Path) -> None:
    np.save(tmp_path / "logits.npy", np.zeros((1, 527), np.float32))
    (tmp_path / "logits.txt").write_text("someone else.wav\n")
    world.teachers = load_teachers([str(tmp_path / "logits.npy")], [], CPU)
    with pytest.raises(InputError, match="logits of none of the 40 clips"):
        world.prepared(tiny(PAPER))


@pytest.mark.parametrize("budget", [{}, {"hours": 1.0, "steps": (1,)}, {"hours": 0.0}, {"steps": (0,)}])
def test_a_budget_is_hours_or_steps(budget: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Budget(**budget)


@pytest.mark.slow
def test_batch_normalisation_settles_at_the_end(world: World) -> None:
    recipe = tiny(SMALL)
    stage = dataclasses.replace(recipe.stages[1], frozen_norm_share=0.5)
    recipe = dataclasses.replace(recipe, stages=(stage,))
    prepared = world.prepared(recipe)
    student = world.run(prepared, "work", (4,)).network.train()
    task = DistillTask(prepared.context, student, stage, number=0, n_steps=4)
    norms = [module for module in student.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    changed = []
    for step in range(4):
        before = [norm.running_var.clone() for norm in norms]
        task.loss(task.batch(step), step, student).total.backward()
        changed.append(
            any(not torch.equal(a, norm.running_var) for a, norm in zip(before, norms, strict=True))
        )
        assert all(norm.weight.grad is not None for norm in norms)
    assert changed == [True, True, False, False]
