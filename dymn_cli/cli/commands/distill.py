"""`dymn distill`: train a student to match its teachers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.distill import CorpusOptions, RecipeOptions, StudentFile, StudentOptions
from dymn_cli.cli.options.groups import ListOptions
from dymn_cli.cli.options.training import WorkOptions
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.tables import Listing, choose_form, grid, print_bytes, show
from dymn_cli.cli.training_run.session import open_device, train
from dymn_cli.errors import UsageError
from dymn_cli.values import nearest

if TYPE_CHECKING:
    import torch
    from rich.console import Console
    from rich.table import Table

    from dymn_cli.evaluation.agreement import Agreement
    from dymn_cli.frontend import FrontEndConfig
    from dymn_cli.model.config import ModelConfig
    from dymn_cli.store.header import ModelHeader
    from dymn_cli.train.distill.data import DataOptions, Prepared, TeacherSet
    from dymn_cli.train.distill.recipe import Budget, Recipe
    from dymn_cli.train.distill.teachers import LoadedModel
    from dymn_cli.train.distill.validation import ValidationSet

__all__ = ["register"]

HELP = """Train a student to match its teachers (the paper's pre-training).

  dymn distill recordings/ --teacher mn04_as -o student.safetensors --hours 2
  dymn distill audioset.h5 --teacher logits.npy --recipe paper -o student.safetensors
  dymn distill audioset.h5 --recipe labels --init dymn10_im -o student.safetensors
  dymn distill --recipe small --show-recipe > mine.toml

DATA is audio: files and folders, or AudioSet as HDF5 of MP3 bytes. Teachers are models (of
several, the mean of their logits) or files of logits with their index. Whole groups of recordings are held
out, and the student's agreement with the teacher is measured on them: KL divergence, top-1, top-5, rank
correlation.

Labels are learned beside the teacher's scores, those of all recordings or of a few (--labels FILE), and --set
label_weight=0.5 is their share. In mixes they count as far as the recording is heard. A label that is missing
says nothing; one that a review rejects (columns source,label,decision) lowers the teacher's score of it.

Recipe small is for hours of audio and a CPU: first each block learns by itself, then the whole network, on
mixes of the recordings that student and teacher both hear; it also learns which sound is heard when. With
--init MODEL, small means small-further: no training by block, and frozen batch statistics. Recipe paper is
Section IV of the paper, 200 epochs of 100,000 clips. Recipe labels is Section VI-A: no teacher, the labels of
AudioSet alone, measured by mAP. --init dymn10_im begins with the ImageNet model: its last layer is drawn
anew, and its Dy-Convs go on from temperature 30. --show-recipe prints all settings of a recipe, --recipe
reads them from a file, and --set changes one: --set batch=8, --set mixes.p_noise=0, --set stages.2.rate=1e-3.

Repeat the command to continue an interrupted run. With --steps the result is the same, bit for bit; with
--hours it depends on the speed of the machine. --evaluate without --out trains nothing and measures models on
what is held out; the teacher hears it at the level that it teaches at, or with --set mixes.teacher_level_db=0
as loud as it is.
In a pipe, tab-separated: model, clips, kl, top1, top5, rank; without a teacher: model, clips, map, loss.
Formats: table, tsv, json. Needs: pip install 'dymn[train]'.
"""

SCHEMA = "dymn.agreement/1"
COLUMNS = ("model", "clips", "kl", "top1", "top5", "rank")
FIT_SCHEMA = "dymn.label-fit/1"
FIT_COLUMNS = ("model", "clips", "map", "loss")
MEASURES = {
    "kl": "KL {:.3f}",
    "top1": "top-1 {:.3f}",
    "top5": "top-5 {:.3f}",
    "rank": "rank {:.3f}",
    "frames": "frames {:.3f}",
    "map": "mAP {:.3f}",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "distill", help=HELP)(distill)


def distill(
    *,
    data: CorpusOptions,
    models: StudentOptions,
    how: RecipeOptions,
    work: WorkOptions,
    target: StudentFile,
    listing: ListOptions,
    messages: Messages,
) -> None:
    """Train a student, or measure models."""
    choose_form(listing.format)
    if how.recipe == "small" and models.init != "random":
        how = dataclasses.replace(how, recipe="small-further")
    recipe = how.read_recipe()
    if how.show_recipe:
        from dymn_cli.train.distill.recipe import recipe_toml

        print_bytes(recipe_toml(recipe).encode())
        return
    if not data.data:
        raise UsageError("no data", hint="give files or folders of audio, or HDF5 files")
    work.check()
    if target.out is None:
        if not models.evaluate:
            raise UsageError(
                "no output file for the student", hint="-o student.safetensors, or --evaluate MODEL"
            )
        device, threads = open_device(models.device, work.threads, messages)
        _evaluate(data, models, recipe, how.seed, work, device, threads, listing, messages)
        return
    if models.evaluate:
        raise UsageError(
            "--evaluate trains nothing, and --out is for a student", hint="--compare MODEL does both"
        )
    if not target.out.endswith(".safetensors"):
        raise UsageError(
            f"{target.out}: a student is a .safetensors file", hint=f"-o {target.out}.safetensors"
        )
    from dymn_cli.writers import check_target

    check_target(target.out, force=target.force)
    device, threads = open_device(models.device, work.threads, messages)
    _train(data, models, recipe, how, work, target.out, device, threads, listing, messages)


# ---------------------------------------------------------------------- training


def _train(
    data: CorpusOptions,
    models: StudentOptions,
    recipe: Recipe,
    how: RecipeOptions,
    work: WorkOptions,
    out: str,
    device: torch.device,
    threads: int,
    listing: ListOptions,
    messages: Messages,
) -> None:
    from dymn_cli.train.distill.data import load_teachers
    from dymn_cli.train.distill.run import DistillRun
    from dymn_cli.train.distill.student import initial_student
    from dymn_cli.train.distill.teachers import LoadedModel

    teachers = load_teachers(models.teacher, models.teacher_index, device, required=recipe.needs_teacher)
    compared = _candidates(models.compare, teachers, device)  # a wrong one is an error now, not after hours
    student = initial_student(
        _config(models.student or ("dymn04" if models.init == "random" else None)),
        models.init,
        teachers.vocabulary,
        seed=how.seed,
        teacher=None if teachers.live is None else teachers.live.models[0],
        frames=recipe.has_frames,
        temperature=recipe.temperature,
    )
    recipe = _for_student(recipe, teachers, student.header, messages, must_have_blocks=bool(how.blockwise))
    budget = _budget(how, recipe)
    budget.steps_of(recipe.stages)  # a wrong number of steps is an error before any work
    prepared = _prepare(
        _data_options(data, work, how.seed),
        recipe,
        teachers,
        student.header.front_end,
        device,
        threads,
        messages,
    )
    options = work.run_options(out, Path(out).name.removesuffix(".safetensors"), how.seed)
    run = DistillRun(prepared, student, budget, options, messages.note)
    messages.note(f"checkpoint, log and split: {options.work}")
    train(run, messages, MEASURES, beside_bar=("loss", "kl"))
    sha256 = run.save_student(Path(out))
    messages.note(f"{out}: SHA-256 {sha256[:12]}…")
    held_out = prepared.context.held_out
    if held_out is None:
        return
    trained = LoadedModel(run.header, sha256, run.network.eval())
    candidates = {options.name: trained, **compared}
    if teachers.identity:
        _show(_measured(candidates, held_out), prepared, listing, messages)
    else:
        _show_fit(candidates, held_out, prepared, listing, messages)


def _for_student(
    recipe: Recipe, teachers: TeacherSet, header: ModelHeader, messages: Messages, *, must_have_blocks: bool
) -> Recipe:
    from dymn_cli.train.distill.student import can_train_blocks

    blocks = must_have_blocks or can_train_blocks(teachers.live, header)
    if not blocks and any(stage.mode == "blockwise" and stage.share for stage in recipe.stages):
        messages.note("no teacher has the student's channels: its blocks are not trained one by one")
    return recipe.for_student(header.config.width, blocks=blocks)


def _budget(how: RecipeOptions, recipe: Recipe) -> Budget:
    from dymn_cli.train.distill.recipe import Budget

    ways = {"--hours": how.hours, "--steps": how.steps, "--epochs": how.epochs or how.clips_per_epoch}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} both set the length of the run", hint="give one of them")
    if how.steps is not None:
        try:
            return Budget(steps=tuple(int(part) for part in how.steps.split(",")))
        except ValueError as exc:
            raise UsageError(f"--steps {how.steps!r} is not a number, nor one for each stage") from exc
    return Budget.of(recipe) if how.hours is None else Budget(hours=how.hours)


def _config(text: str | None) -> ModelConfig | None:
    """An architecture by name, published or of the study, as JSON, or in a file of JSON."""
    from dymn_cli.errors import InputError
    from dymn_cli.model.config import ARCHITECTURES, ModelConfig
    from dymn_cli.model.study import variants
    from dymn_cli.small_files import read_small_text

    if text is None:
        return None
    known = {**{one.name: one.config for one in variants()}, **ARCHITECTURES}
    if text in known:
        return known[text]
    if text.lstrip().startswith("{"):
        return ModelConfig.from_json(text)
    if text.endswith(".json"):
        return ModelConfig.from_json(read_small_text(text, InputError))
    raise UsageError(f"no architecture {text!r}", hint=f"{nearest(text, known)}; or a config as JSON")


# ---------------------------------------------------------------------- data and measures


def _prepare(
    options: DataOptions,
    recipe: Recipe,
    teachers: TeacherSet,
    front_end: FrontEndConfig,
    device: torch.device,
    threads: int,
    messages: Messages,
    *,
    needs_training: bool = True,
) -> Prepared:
    from dymn_cli.train.distill.data import prepare
    from dymn_cli.values import counted

    with messages.progress(None, shared_with_results=False) as tally:

        def decoded(n_all: int, seconds: float) -> None:
            tally.total = n_all
            tally.advance("", seconds)

        prepared = prepare(
            options,
            recipe,
            teachers,
            front_end,
            device,
            threads=threads,
            tell=messages.note,
            decoded=decoded,
            needs_training=needs_training,
        )
    if prepared.skipped:
        first = prepared.skipped[0][1]
        n_skipped = counted(len(prepared.skipped), "recording")
        messages.warning(f"{n_skipped} cannot be used; the first: {first}")
    held_out = prepared.context.held_out
    n_measured = 0 if held_out is None else len(held_out.indices)
    known = prepared.context.corpus.known
    with_labels = ""
    if known is not None:
        with_labels = f" ({int(known[prepared.training].any(axis=1).sum()):,} of them with labels)"
    n_groups, n_held_out = len(prepared.split.training), len(prepared.split.held_out)
    messages.note(
        f"{counted(len(prepared.training), 'clip')}{with_labels} of {counted(n_groups, 'group')} to learn"
        f" from, {counted(n_held_out, 'group')} held out, measured on {n_measured:,} of their clips"
    )
    return prepared


def _holdout(text: str) -> float | tuple[str, ...]:
    """A share, or names of groups."""
    try:
        return float(text)
    except ValueError:
        names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise UsageError(f"--holdout {text!r} is neither a share nor names of groups")
    return names


def _data_options(data: CorpusOptions, work: WorkOptions, seed: int) -> DataOptions:
    from dymn_cli.audio.discover import parse_extensions
    from dymn_cli.train.distill.data import DataOptions

    return DataOptions(
        names=tuple(data.data),
        cache=work.cache_folder,
        extensions=parse_extensions(data.ext),
        group_by=data.group_by,
        manifest=Path(data.manifest) if data.manifest else None,
        labels=Path(data.labels) if data.labels else None,
        holdout=_holdout(data.holdout),
        split=Path(data.split) if data.split else None,
        seed=seed,
        held_out_clips=data.held_out_clips,
    )


def _evaluate(
    data: CorpusOptions,
    models: StudentOptions,
    recipe: Recipe,
    seed: int,
    work: WorkOptions,
    device: torch.device,
    threads: int,
    listing: ListOptions,
    messages: Messages,
) -> None:
    from dymn_cli.train.distill.data import load_teachers
    from dymn_cli.train.distill.recipe import built_in

    teachers = load_teachers(models.teacher, models.teacher_index, device)
    candidates = _candidates([*models.evaluate, *models.compare], teachers, device)
    front_end = candidates[models.evaluate[0]].header.front_end
    shares_front_end = teachers.live is not None and set(teachers.live.front_ends) == {front_end}
    if recipe.mixes is not None and not shares_front_end:
        recipe = built_in("paper")  # samples are kept, not log-mels
    prepared = _prepare(
        _data_options(data, work, seed),
        recipe,
        teachers,
        front_end,
        device,
        threads,
        messages,
        needs_training=False,
    )
    held_out = prepared.context.held_out
    if held_out is None:
        raise UsageError("nothing is held out to measure on", hint="--holdout 0.1, or --split FILE")
    _show(_measured(candidates, held_out), prepared, listing, messages)


def _candidates(names: Sequence[str], teachers: TeacherSet, device: torch.device) -> dict[str, LoadedModel]:
    """The models to measure beside the student.

    Raises:
        UsageError: an unknown name, or one has other classes than the teachers.
        ModelError: one cannot be used.
    """
    from dymn_cli.train.distill.teachers import load_model

    candidates = {name: load_model(name, device) for name in names}
    for name, one in candidates.items():
        if one.header.vocabulary.names != teachers.vocabulary.names:
            raise UsageError(
                f"{name} has other classes than {'the teachers' if teachers.identity else 'AudioSet'}"
            )
    return candidates


def _measured(candidates: dict[str, LoadedModel], held_out: ValidationSet) -> dict[str, Agreement]:
    return {
        name: held_out.agreement(model.network, model.header.front_end) for name, model in candidates.items()
    }


def _show_fit(
    candidates: dict[str, LoadedModel],
    held_out: ValidationSet,
    prepared: Prepared,
    listing: ListOptions,
    messages: Messages,
) -> None:
    """Print how well models fit the labels of what is held out."""
    from dymn_cli.writers.spelling import readable

    found = {
        name: held_out.measures(model.network, model.header.front_end) for name, model in candidates.items()
    }
    n_clips = len(held_out.indices)
    rows = [
        (
            readable(name),
            str(n_clips),
            *(f"{one[key]:.4f}" if key in one else "" for key in FIT_COLUMNS[2:]),
        )
        for name, one in found.items()
    ]

    document = {
        "schema": FIT_SCHEMA,
        "held_out": list(prepared.split.held_out),
        "models": [{"model": readable(name), "clips": n_clips, **one} for name, one in found.items()],
    }
    table = _table(rows, ("clips", "mAP", "loss"))
    show(Listing(FIT_COLUMNS, rows, document, table), listing, messages)


def _table(rows: Sequence[Sequence[str]], names: Sequence[str]) -> Callable[[Console], Table]:
    """What draws rows: a model, and its figures under these names."""

    def draw(console: Console) -> Table:
        table = grid(("model", {}), *((name, {"justify": "right"}) for name in names))
        for row in rows:
            table.add_row(*row)
        return table

    return draw


def _show(found: dict[str, Agreement], prepared: Prepared, listing: ListOptions, messages: Messages) -> None:
    from dymn_cli.writers.spelling import readable

    rows = [
        (readable(name), str(one.n_clips), *(f"{v:.4f}" for v in (one.kl, one.top1, one.top5, one.rank)))
        for name, one in found.items()
    ]

    first = next(iter(found.values()))
    document = {
        "schema": SCHEMA,
        "held_out": list(prepared.split.held_out),
        "teacher_entropy": first.teacher_entropy,
        "models": [
            {"model": readable(name), "clips": one.n_clips, **one.measures()} for name, one in found.items()
        ],
    }
    table = _table(rows, ("clips", "KL", "top-1", "top-5", "rank"))
    show(Listing(COLUMNS, rows, document, table), listing, messages)
    messages.note(f"the teacher's entropy is {first.teacher_entropy:.2f} nats a clip, which KL compares to")
