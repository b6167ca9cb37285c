"""`dymn distill`: a student learns to say what its teachers say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.distill import CorpusOptions, PupilOptions, RecipeOptions, WorkOptions
from dymn_cli.cli.options.groups import ListOptions
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.tables import Listing, choose_form, grid, show
from dymn_cli.cli.training_run.session import Display, end_interrupted, stop_on_signal, training_device
from dymn_cli.errors import UsageError

if TYPE_CHECKING:
    import torch
    from rich.console import Console
    from rich.table import Table

    from dymn_cli.evaluation.agreement import Agreement
    from dymn_cli.frontend import FrontEndConfig
    from dymn_cli.model.config import ModelConfig
    from dymn_cli.store.header import ModelHeader
    from dymn_cli.train.distill.data import DataOptions, Prepared, TeacherSet
    from dymn_cli.train.distill.recipe import Recipe, Stage
    from dymn_cli.train.distill.run import Budget

__all__ = ["register"]

HELP = """Train a student to match its teachers (the paper's pre-training).

  dymn distill recordings/ --teacher mn04_as -o student.safetensors --hours 2
  dymn distill audioset.h5 --teacher logits.npy --recipe paper -o student.safetensors

DATA is audio, labels are not needed: files and folders, or AudioSet as HDF5 of MP3 bytes. Teachers are models
(several: the mean of their logits), or files of logits with their index. Whole groups of recordings are held
out; on them, the agreement with the teacher is measured: KL divergence, top-1, top-5, rank correlation.
Recipe small, for a CPU: block by block first, then the whole, on mixes of the recordings that the teacher
hears as well. Recipe paper: Section IV of the paper, 200 epochs of 100,000 clips unless told otherwise.
Recipe small also teaches the student what is heard when: it knows where in a mix each recording lies. A
student that --init names is trained further: no block by block, batch normalisation as it is.
Interrupted? The same command goes on where it stopped; with --steps the result is the same, bit for bit, with
--hours it depends on how fast the machine is.
With --evaluate and no --out nothing is trained: it measures models on what --split or --holdout holds out.
In a pipe, tab-separated: model, clips, kl, top1, top5, rank. Formats: table, tsv, json.
Needs: pip install 'dymn[train]'.
"""

SCHEMA = "dymn.agreement/1"
COLUMNS = ("model", "clips", "kl", "top1", "top5", "rank")
TOLD = {
    "kl": "KL {:.3f}",
    "top1": "top-1 {:.3f}",
    "top5": "top-5 {:.3f}",
    "rank": "rank {:.3f}",
    "frames": "frames {:.3f}",
}
DEFAULT_HOURS = 1.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "distill", help=HELP)(distill)


def distill(
    *,
    data: CorpusOptions,
    pupil: PupilOptions,
    how: RecipeOptions,
    run: WorkOptions,
    listing: ListOptions,
    messages: Messages,
) -> None:
    """Train a student, or measure models."""
    choose_form(listing.format)
    if not data.data:
        raise UsageError("no data", hint="give files or folders of audio, or HDF5 files")
    if run.out is None and not pupil.evaluate:
        raise UsageError("where shall the student go?", hint="-o student.safetensors, or --evaluate MODEL")
    if run.out is not None and pupil.evaluate:
        raise UsageError(
            "--evaluate trains nothing, and --out is for a student", hint="--compare MODEL does both"
        )
    for number in (run.threads, run.measure):
        if number is not None and number < 1:
            raise UsageError(f"{number} is not a number from 1 on", hint="--threads N, --measure N")
    if not run.checkpoint_every >= 0:
        raise UsageError(f"--checkpoint-every {run.checkpoint_every:g} is no time")
    if run.out is not None:
        if not run.out.endswith(".safetensors"):
            raise UsageError(f"{run.out}: a student is a .safetensors file", hint=f"-o {run.out}.safetensors")
        from dymn_cli.writers import check_target

        check_target(run.out, force=run.force)
    # Threads that wait for each other by spinning are in the way of whatever else runs here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from dymn_cli.train.device import set_threads  # says so where PyTorch is missing

    threads, device = set_threads(run.threads), training_device(pupil.device, messages)
    if run.out is None:
        _evaluate(data, pupil, how, run, device, threads, listing, messages)
    else:
        _train(data, pupil, how, run, run.out, device, threads, listing, messages)


# ---------------------------------------------------------------------- training


def _train(
    data: CorpusOptions,
    pupil: PupilOptions,
    how: RecipeOptions,
    run: WorkOptions,
    out: str,
    device: torch.device,
    threads: int,
    listing: ListOptions,
    messages: Messages,
) -> None:
    from dymn_cli.store.registry import resolve
    from dymn_cli.train.distill.data import load_teachers
    from dymn_cli.train.distill.run import DistillRun, RunOptions
    from dymn_cli.train.distill.student import initial_student

    for name in pupil.compare:
        resolve(name)  # a misspelt name is told now and not after hours
    teachers = load_teachers(pupil.teacher, pupil.teacher_index, device)
    first = None if teachers.live is None else teachers.live.models[0]
    config = _config(pupil.student or ("dymn04" if pupil.init == "random" else None))
    student, header, began_as = initial_student(
        config,
        pupil.init,
        teachers.vocabulary,
        seed=how.seed,
        teacher=first,
        frames=how.frame_weight != 0 if how.recipe == "small" else bool(how.frame_weight),
    )
    recipe = _recipe(how, teachers, header, messages, continues=pupil.init != "random")
    budget = _budget(how, recipe)
    prepared = _prepare(data, recipe, teachers, header.front_end, device, how.seed, run, threads, messages)
    work = Path(run.work or f"{out}.train")
    options = RunOptions(
        work=work,
        name=Path(out).name.removesuffix(".safetensors"),
        budget=budget,
        seed=how.seed,
        group_by=data.group_by,
        evaluations=run.measure,
        checkpoint_every_s=60 * run.checkpoint_every,
        resume=run.resume,
    )
    training = DistillRun(prepared, teachers, student, header, began_as, options, messages.note)
    messages.note(f"checkpoint, log and split: {work}")
    stages = tuple(stage.mode for stage in recipe.stages)
    with (
        stop_on_signal(messages) as request,
        Display(messages, stages, TOLD, beside_bar=("loss", "kl")) as display,
    ):
        ended = training.run(display, request)
    if ended == "interrupted":
        end_interrupted(messages, request)
    sha256 = training.save_student(Path(out))
    messages.note(f"{out}: SHA-256 {sha256[:12]}…")
    held_out = prepared.context.held_out
    if held_out is not None:
        student.eval()
        found = {options.name: held_out.agreement(student, header.front_end)}
        found |= _measured(pupil.compare, prepared)
        _show(found, prepared, listing, messages)


def _recipe(
    how: RecipeOptions, teachers: TeacherSet, header: ModelHeader, messages: Messages, *, continues: bool
) -> Recipe:
    import dataclasses

    from dymn_cli.train.distill.recipe import RECIPES, small
    from dymn_cli.train.distill.student import can_teach_blocks

    if how.recipe not in RECIPES:
        raise UsageError(f"no recipe {how.recipe!r}", hint=" or ".join(RECIPES))
    width = header.config.width
    recipe = RECIPES[how.recipe](width, continues=continues)
    stages: list[Stage] = list(recipe.stages)
    fits = can_teach_blocks(teachers.live, header.config, header.front_end)
    blocks = [stage for stage in stages if stage.mode == "blockwise"]
    wholes = [stage for stage in stages if stage.mode != "blockwise"]
    share = how.blockwise
    if share is not None and not 0 <= share < 1:
        raise UsageError(f"--blockwise {share:g} is not a share from 0 and below 1")
    if share is None and blocks and not fits:
        messages.note("no teacher has the student's channels: its blocks are not trained one by one")
        share = 0.0
    if share is not None:
        blocks = blocks or [stage for stage in small(width).stages if stage.mode == "blockwise"]
        rest = sum(stage.share for stage in wholes)
        blocks = [dataclasses.replace(stage, share=share) for stage in blocks] if share else []
        wholes = [dataclasses.replace(stage, share=stage.share / rest * (1 - share)) for stage in wholes]
    both = {"batch": how.batch, "window_s": how.window, "frames": how.frame_weight}
    changes = {name: value for name, value in both.items() if value is not None}
    given = {"rate": how.rate, "hints": how.hints, "settled": how.settled}
    own = {name: value for name, value in given.items() if value is not None}
    blocks = [dataclasses.replace(stage, **changes) for stage in blocks]  # type: ignore[arg-type]
    wholes = [dataclasses.replace(stage, **changes, **own) for stage in wholes]  # type: ignore[arg-type]
    recipe = dataclasses.replace(recipe, stages=(*blocks, *wholes))
    return recipe if how.label_share is None else dataclasses.replace(recipe, label_share=how.label_share)


def _budget(how: RecipeOptions, recipe: Recipe) -> Budget:
    from dymn_cli.train.distill.recipe import CLIPS_PER_EPOCH, EPOCHS
    from dymn_cli.train.distill.run import Budget

    ways = {
        "--hours": how.hours,
        "--steps": how.steps,
        "--epochs": how.epochs if how.epochs is not None else how.clips_per_epoch,
    }
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} both say how long the run is", hint="give one of them")
    if how.steps is not None:
        try:
            return Budget(steps=tuple(int(part) for part in how.steps.split(",")))
        except ValueError as exc:
            raise UsageError(f"--steps {how.steps!r} is not a number, nor one for each stage") from exc
    if how.hours is not None or (recipe.name == "small" and not given):
        return Budget(hours=DEFAULT_HOURS if how.hours is None else how.hours)
    epochs = EPOCHS if how.epochs is None else how.epochs
    n_clips = epochs * (CLIPS_PER_EPOCH if how.clips_per_epoch is None else how.clips_per_epoch)
    if not 1 <= n_clips < 1e15:
        raise UsageError(f"{epochs:g} epochs of {how.clips_per_epoch or CLIPS_PER_EPOCH} clips are no run")
    total = sum(stage.share for stage in recipe.stages)
    return Budget(steps=tuple(max(round(n_clips * s.share / total / s.batch), 1) for s in recipe.stages))


def _config(text: str | None) -> ModelConfig | None:
    """An architecture by name, as JSON, or in a file of JSON."""
    from difflib import get_close_matches

    from dymn_cli.errors import InputError
    from dymn_cli.model.config import ARCHITECTURES, ModelConfig
    from dymn_cli.small_files import read_small_text

    if text is None:
        return None
    if text in ARCHITECTURES:
        return ARCHITECTURES[text]
    if text.lstrip().startswith("{"):
        return ModelConfig.from_json(text)
    if text.endswith(".json"):
        return ModelConfig.from_json(read_small_text(text, InputError))
    near = get_close_matches(text, ARCHITECTURES, n=3, cutoff=0.0)
    raise UsageError(f"no architecture {text!r}", hint=f"nearest: {', '.join(near)}; or a config as JSON")


# ---------------------------------------------------------------------- data and measures


def _prepare(
    data: CorpusOptions,
    recipe: Recipe,
    teachers: TeacherSet,
    front_end: FrontEndConfig,
    device: torch.device,
    seed: int,
    run: WorkOptions,
    threads: int,
    messages: Messages,
    *,
    needs_training: bool = True,
) -> Prepared:
    from dymn_cli.train.distill.data import prepare

    options = _data_options(data, run.cache, seed)
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
            seed=seed,
            threads=threads,
            tell=messages.note,
            decoded=decoded,
            needs_training=needs_training,
        )
    from dymn_cli.writers.spelling import counted

    context = prepared.context
    if prepared.skipped:
        first = prepared.skipped[0][1]
        n_skipped = counted(len(prepared.skipped), "recording")
        messages.warning(f"{n_skipped} cannot be used; the first: {first}")
    held = 0 if context.held_out is None else len(context.held_out.indices)
    messages.note(
        f"{counted(len(prepared.training), 'clip')} of {counted(len(prepared.split.training), 'group')}"
        f" to learn from, {counted(len(prepared.split.held_out), 'group')} held out, measured on"
        f" {held:,} of their clips"
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


def _data_options(data: CorpusOptions, cache: str | None, seed: int) -> DataOptions:
    from dymn_cli.audio.discover import parse_extensions
    from dymn_cli.datasets.audio_cache import CLIPS_FOLDER
    from dymn_cli.store.local import cache_folder
    from dymn_cli.train.distill.data import DataOptions

    if data.held_out_clips < 0:
        raise UsageError("--held-out-clips cannot be negative", hint="0 for all")
    return DataOptions(
        names=tuple(data.data),
        cache=Path(cache) if cache else cache_folder() / CLIPS_FOLDER,
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
    pupil: PupilOptions,
    how: RecipeOptions,
    run: WorkOptions,
    device: torch.device,
    threads: int,
    listing: ListOptions,
    messages: Messages,
) -> None:
    from dymn_cli.train.distill.data import load_teachers
    from dymn_cli.train.distill.recipe import RECIPES
    from dymn_cli.train.distill.teachers import load_model

    teachers = load_teachers(pupil.teacher, pupil.teacher_index, device)
    first = load_model(pupil.evaluate[0], device)
    front_ends = {first.header.front_end, *(teachers.live.front_ends if teachers.live else ())}
    kind = "small" if teachers.live is not None and len(front_ends) == 1 else "paper"
    recipe = RECIPES[kind](first.header.config.width)
    prepared = _prepare(
        data,
        recipe,
        teachers,
        first.header.front_end,
        device,
        how.seed,
        run,
        threads,
        messages,
        needs_training=False,
    )
    if prepared.context.held_out is None:
        raise UsageError("nothing is held out to measure on", hint="--holdout 0.1, or --split FILE")
    _show(_measured([*pupil.evaluate, *pupil.compare], prepared), prepared, listing, messages)


def _measured(names: list[str], prepared: Prepared) -> dict[str, Agreement]:
    from dymn_cli.train.distill.teachers import load_model

    held_out = prepared.context.held_out
    assert held_out is not None
    found = {}
    for name in names:
        model = load_model(name, prepared.context.device)
        found[name] = held_out.agreement(model.network, model.header.front_end)
    return found


def _show(found: dict[str, Agreement], prepared: Prepared, listing: ListOptions, messages: Messages) -> None:
    from dymn_cli.writers.spelling import readable

    rows = [
        (readable(name), str(one.n_clips), *(f"{v:.4f}" for v in (one.kl, one.top1, one.top5, one.rank)))
        for name, one in found.items()
    ]

    def table(console: Console) -> Table:
        right = {"justify": "right"}
        drawn = grid(("model", {}), *((name, right) for name in ("clips", "KL", "top-1", "top-5", "rank")))
        for row in rows:
            drawn.add_row(*row)
        return drawn

    first = next(iter(found.values()))
    document = {
        "schema": SCHEMA,
        "held_out": list(prepared.split.held_out),
        "teacher_entropy": first.teacher_entropy,
        "models": [
            {"model": readable(name), "clips": one.n_clips, **one.measures()} for name, one in found.items()
        ],
    }
    show(Listing(COLUMNS, rows, document, table), listing, messages)
    messages.note(f"the teacher's entropy is {first.teacher_entropy:.2f} nats a clip, which KL compares to")
