"""`dymn finetune`: a tagger for classes of one's own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import arg, flag, opt
from dymn_cli.cli.options.finetune import FinetuneOptions
from dymn_cli.cli.options.groups import BackendName, DeviceName, ListOptions, ModelName
from dymn_cli.cli.options.panels import OUTPUT as OUTPUT_PANEL
from dymn_cli.cli.options.training import RECIPE, WorkOptions, given
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.views.evaluation import Jobs
from dymn_cli.errors import BackendUnavailableError, InputError, UsageError
from dymn_cli.values import listed_labels, with_first

if TYPE_CHECKING:
    from dymn_cli.datasets.dataset import Dataset
    from dymn_cli.datasets.folds import Plan
    from dymn_cli.evaluation.evaluate import Evaluation
    from dymn_cli.train.finetune.data import LabelledAudio
    from dymn_cli.train.finetune.recipe import FinetuneRecipe
    from dymn_cli.train.finetune.result import Trained
    from dymn_cli.train.finetune.run import FinetuneRun

__all__ = ["register"]

HELP = """Train a tagger for your own classes.

  dymn finetune sounds/ -o my.safetensors
  dymn finetune decisions.csv --audio recordings/ --head-only -o my.safetensors
  dymn finetune ESC-50-master/ --dataset esc50 -o esc50.safetensors
  dymn tag -m my.safetensors clip.wav

DATA is a folder with a sub-folder per class (optionally below train, val and test), a table
file,label[;label...] with optional columns fold, split and group, the decisions that a report exports (each
judged stretch is an example), or, with --dataset, ESC-50, FSD50K, OpenMIC-2018 or TAU Urban Acoustic Scenes
2020 Mobile as their archives unpack. A recording may have several labels, or none; --task overrides what the
data look like.

With PyTorch (pip install 'dymn[train]') the whole network is trained, as in Section V of the paper: 80 epochs
at the published rates for the data sets named above; 20 epochs at 1e-4 in batches of 8 for your own, from a
head fitted to the embeddings. It says beforehand how long that takes. --show-recipe prints all settings,
--recipe reads them from a file, --set changes one. Repeat the command to continue an interrupted run: the
result is the same. With --head-only, or without PyTorch, only the last layer is trained, by logistic
regression on embeddings, in seconds to minutes; dymn remembers the embeddings.

Recordings are held out in turn, by the folds or the split of the data, else by folds that dymn makes, and the
figures are about them. The final model learns from all recordings, unless the data have a split or --holdout
is given. Early stopping and penalties are chosen on recordings held out for that alone.

Beside my.safetensors: my.thresholds.csv (for dymn tag --thresholds; 0.5 for a class that could not be judged)
and my.log.json (settings, figures by class and fold, confusions). On standard output: the figures by class,
as dymn eval prints them.
"""

MEASURES = {"map": "mAP {:.2f}", "accuracy": "{:.0%} right"}
DATA_PANEL = "Data"
FEW = 5  # recordings of a class, below which its figures mean little
UNJUDGED_THRESHOLD = 0.5  # of a class that is not judged: without any, it would be in every result


@dataclass(frozen=True, slots=True)
class DataOptions:
    """The data set, and how it is divided."""

    data: Annotated[str | None, arg("DATA", "A folder or a table of labels.")] = None
    dataset: Annotated[
        str | None, opt("--dataset", "NAME", "DATA is esc50, fsd50k, openmic or tau.", DATA_PANEL)
    ] = None
    audio: Annotated[
        str | None, opt("--audio", "DIR", "Recordings of a table (default: beside it).", DATA_PANEL)
    ] = None
    task: Annotated[
        str,
        opt(
            "--task",
            "auto|one|many",
            "Labels of a recording (default: as in the data).",
            DATA_PANEL,
            show_default=False,
        ),
    ] = "auto"
    folds: Annotated[
        int | None, opt("--folds", "N", "Make N folds (default: those of the data, else 5).", DATA_PANEL)
    ] = None
    holdout: Annotated[
        float | None, opt("--holdout", "X", "Hold out about this share instead of folds.", DATA_PANEL)
    ] = None
    seed: Annotated[int, opt("--seed", "N", "Of folds and training.", DATA_PANEL, min=0)] = 0

    def plan_of(self, dataset: Dataset) -> Plan:
        """What is held out when.

        Raises:
            UsageError: options that contradict each other or the data.
        """
        from dymn_cli.datasets.folds import plan_of

        return plan_of(dataset, folds=self.folds, holdout=self.holdout, seed=self.seed)


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "finetune", help=HELP)(finetune)


def finetune(
    data: DataOptions,
    *,
    model: ModelName = "dymn04_kd",
    backend: BackendName = "auto",
    device: DeviceName = "auto",
    head_only: Annotated[
        bool, flag("--head-only", "Train the last layer only, on remembered embeddings.", RECIPE)
    ] = False,
    penalty: Annotated[
        float | None,
        opt("--penalty", "X", "With --head-only: what squared weights cost (default: chosen).", RECIPE),
    ] = None,
    jobs: Jobs = None,
    how: FinetuneOptions,
    work: WorkOptions,
    out: Annotated[
        str | None,
        opt("-o --out", "FILE", "The new model: a .safetensors file.", OUTPUT_PANEL, show_default=False),
    ] = None,
    at_precision: Annotated[
        float | None, opt("--at-precision", "P", "Thresholds for this precision, not best F1.", OUTPUT_PANEL)
    ] = None,
    plot: Annotated[
        str | None, opt("--plot", "FILE.png", "A picture of the figures: png, svg or pdf.", OUTPUT_PANEL)
    ] = None,
    force: Annotated[bool, flag("--force", "Replace files that exist.", OUTPUT_PANEL)] = False,
    listing: ListOptions,
    messages: Messages,
) -> None:
    """Train a model and write it."""
    from dymn_cli.cli.terminal.tables import choose_form, print_bytes, write_listing
    from dymn_cli.cli.views import evaluation as evaluation_view
    from dymn_cli.values import counted

    form = choose_form(listing.format)
    recipe = how.read_recipe(data.dataset)
    if how.show_recipe:
        from dymn_cli.train.finetune.recipe import recipe_toml

        print_bytes(recipe_toml(recipe).encode())
        return
    if data.data is None:
        raise UsageError("no data", hint="give a folder with a sub-folder per class, or a table of labels")
    if out is None:
        raise UsageError("no output file for the model", hint="-o my.safetensors")
    work.check()
    places = _Places.of(out)
    outs: dict[str, list[str | None]] = {
        "--out": [out, places.log, places.thresholds],
        "--plot": [plot],
    }
    evaluation_view.check_outputs(outs, inputs=(data.data, model), force=force)
    if at_precision is not None and not 0 < at_precision <= 1:
        raise UsageError(f"--at-precision {at_precision:g} is not between 0 and 1")
    if plot is not None:
        from dymn_cli.plotting.picture import check_picture

        check_picture(plot)
    head_only = _only_head(head_only, penalty, given(how, work), messages)
    with contextlib.ExitStack() as stack:
        dataset = _read(data, data.data, out, stack)
        _say(dataset, messages)
        run = None
        base = _Base(model, backend, device)
        if head_only:
            trained, n_failed = _train_head(dataset, data, base, penalty, jobs, places, messages)
        else:
            run, n_failed = _train_whole(dataset, data, base, recipe, work, places, messages)
            trained = run.trained()
    evaluation = trained.evaluate(at_precision)
    document = _write(trained, evaluation, places, force=force)
    if run is not None:
        run.tidy()
    if plot is not None:
        from dymn_cli.evaluation.plots import draw_evaluation

        draw_evaluation(evaluation, plot, title=f"{trained.header.name}: {trained.plan.words}", force=force)
    figures = evaluation_view.listing_of(evaluation, document)
    evaluation_view.warn_of_thresholds(evaluation, messages)
    write_listing(figures, form, messages, header=listing.header)
    if form != "table":
        messages.note(f"{trained.plan.words}: {evaluation_view.figures(evaluation)}")
    thin = [one.label for one in evaluation.classes if one.n_positive < FEW] + list(evaluation.without)
    if thin:
        text = f"too few recordings to judge these classes: {listed_labels(thin, 6)}"
        if evaluation.without:
            text += f"; the threshold of {listed_labels(evaluation.without, 6)} is {UNJUDGED_THRESHOLD:g}"
        messages.note(text)
    messages.note(f"{out}: {counted(len(dataset.classes), 'class')}; dymn tag -m {shlex.quote(out)} clip.wav")
    evaluation_view.end_with(n_failed, len(trained.dataset.examples))


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the results go."""

    model: str
    thresholds: str
    log: str

    @classmethod
    def of(cls, out: str) -> _Places:
        """The model, and what lies beside it.

        Raises:
            UsageError: no name of a model.
        """
        stem, suffix = os.path.splitext(out)  # noqa: PTH122 - names may be bytes that no Path holds
        if suffix != ".safetensors" or not os.path.basename(stem):  # noqa: PTH119
            raise UsageError(f"--out {out!r}: a model is a .safetensors file", hint="-o my.safetensors")
        return cls(out, f"{stem}.thresholds.csv", f"{stem}.log.json")

    @property
    def name(self) -> str:
        """What the model is called."""
        from dymn_cli.writers.spelling import readable

        return readable(os.path.splitext(os.path.basename(self.model))[0])  # noqa: PTH119, PTH122


@dataclass(frozen=True, slots=True)
class _Base:
    """The model that training starts from, and what runs it."""

    model: str
    backend: str
    device: str


def _only_head(head_only: bool, penalty: float | None, others: list[str], messages: Messages) -> bool:
    """Whether only the last layer is trained: as asked for, or because there is no PyTorch.

    Raises:
        UsageError: options of the one way with the other.
        BackendUnavailableError: options of end-to-end training without PyTorch.
    """
    if head_only:
        if others:
            raise UsageError(f"{others[0]} is about end-to-end training", hint="not with --head-only")
        return True
    from dymn_cli.cli.training_run.session import load_torch

    try:
        load_torch()
    except BackendUnavailableError as exc:
        remedy = "pip install 'dymn[train]'"
        if others:
            raise BackendUnavailableError(
                f"{others[0]}: {exc.message}", hint=f"{remedy}, or --head-only"
            ) from exc
        messages.note(f"{exc.message}; only the last layer is trained, {remedy} for more")
        return True
    if penalty is not None:
        raise UsageError("--penalty is about the last layer alone", hint="add --head-only")
    return False


def _read(data: DataOptions, place: str, out: str, stack: contextlib.ExitStack) -> Dataset:
    """The data set that the options name; the stack removes what is made for it.

    Raises:
        InputError: it cannot be read, or makes no sense.
        UsageError: options that contradict each other.
    """
    from dymn_cli.datasets.dataset import read_folder, read_table
    from dymn_cli.datasets.label_tables import read_judgements
    from dymn_cli.datasets.published import read_layout

    task: Any = data.task  # checked there
    is_folder = os.path.isdir(place)  # noqa: PTH112 - names may be bytes that no Path holds
    if data.audio is not None and (data.dataset is not None or is_folder):
        raise UsageError("--audio is about the recordings of a table", hint="DATA is the table then")
    if data.dataset is not None:
        return read_layout(data.dataset, place, task=task)
    if is_folder:
        return read_folder(place, task=task)
    if (judged := read_judgements(place)) is not None:
        from dymn_cli.datasets.stretches import stretches_dataset
        from dymn_cli.train.run_folder import claimed

        folder = _folder_of_stretches(out)
        stack.enter_context(claimed(folder, hint="wait for it, or give another output"))
        stretches = folder / "audio"  # the lock outlives them: another run may come while they are removed
        stack.callback(shutil.rmtree, stretches, ignore_errors=True)
        return stretches_dataset(place, judged, stretches, audio=data.audio, task=task)
    return read_table(place, audio=data.audio, task=task)


def _folder_of_stretches(out: str) -> Path:
    """Where the stretches of a review are during training: the same for each run to an output."""
    from dymn_cli.store.local import cache_folder

    digest = hashlib.sha256(os.fsencode(os.path.abspath(out))).hexdigest()[:16]  # noqa: PTH100
    return cache_folder() / "stretches" / digest


def _say(dataset: Dataset, messages: Messages) -> None:
    """Describe the data: a wrong guess must not pass unseen."""
    from dymn_cli.values import counted

    kind = "several labels a recording (multi-label)" if dataset.is_multilabel else "one label a recording"
    size = f"{counted(len(dataset.examples), 'recording')}, {counted(len(dataset.classes), 'class')}"
    messages.note(f"{dataset.name}: {size}, {kind}")
    for note in dataset.notes:
        messages.note(note)
    for warning in dataset.warnings:
        messages.warning(warning)
    if dataset.missing:
        messages.warning(f"recordings that have labels and are not there: {with_first(dataset.missing)}")


def _train_whole(
    dataset: Dataset,
    data: DataOptions,
    base: _Base,
    recipe: FinetuneRecipe,
    work: WorkOptions,
    places: _Places,
    messages: Messages,
) -> tuple[FinetuneRun, int]:
    """The finished training of the whole network, and how many recordings could not be used."""
    from dymn_cli.cli.training_run.session import open_device, train
    from dymn_cli.train.distill.teachers import load_model
    from dymn_cli.train.finetune.run import FinetuneRun

    data.plan_of(dataset)  # errors of the data come before any work
    device, threads = open_device(base.device, work.threads, messages)
    model = load_model(base.model, device)
    model.header.config.require_trainable(base.model)
    audio, n_failed = _decode(dataset, work.cache_folder, threads, messages)
    recipe = recipe.for_recordings(audio.longest_s)
    plan = data.plan_of(audio.dataset)
    options = work.run_options(places.model, places.name, data.seed)
    run = FinetuneRun(audio, plan, model, recipe, options, device, messages.note)
    _say_what_follows(run, recipe, model.header.name, plan, str(device), options.work, messages)
    train(run, messages, MEASURES, measures_aloud=False, epochs=recipe.epochs)
    return run, n_failed + len(dataset.missing)


def _decode(dataset: Dataset, folder: Path, threads: int, messages: Messages) -> tuple[LabelledAudio, int]:
    """The recordings, decoded, and how many cannot be."""
    from dymn_cli.cli.batch_run.watcher import MAX_FAILURES_TOLD
    from dymn_cli.results import Failure
    from dymn_cli.train.finetune.data import open_labelled

    with messages.progress(len(dataset.examples), shared_with_results=False) as tally:
        audio, skipped = open_labelled(
            dataset, folder, threads=threads, done=lambda n_all, seconds: tally.advance("", seconds)
        )
    for number, (path, reason) in enumerate(skipped):
        if number < MAX_FAILURES_TOLD or messages.verbosity:
            messages.failure(Failure(path, "InputError", reason, None, InputError.exit_code))
    return audio, len(skipped)


def _say_what_follows(
    run: FinetuneRun,
    recipe: FinetuneRecipe,
    base: str,
    plan: Plan,
    where: str,
    work: Path,
    messages: Messages,
) -> None:
    """Describe the run."""
    from dymn_cli.cli.terminal.progress import span

    how_often = f"{len(run.stages)} trainings: {plan.words}, then all" if plan.n_folds > 1 else plan.words
    messages.note(how_often)
    messages.note(
        f"{base}, end to end: {recipe.epochs} epochs in batches of {recipe.batch}, {recipe.window_s:g} s of a"
        f" recording, peak rate {recipe.rate:g}; {run.n_steps:,} steps on {where}"
    )
    messages.note(f"checkpoint and log: {work}")
    if not messages.quiet:  # to know it takes some seconds
        forecast = run.forecast()
        whole = f"about {span(forecast.whole_s)} to go{' at most' if recipe.patience else ''}"
        messages.note(f"{whole}; --head-only would take about {span(forecast.head_s)}")


def _train_head(
    dataset: Dataset,
    data: DataOptions,
    base: _Base,
    penalty: float | None,
    jobs: int | None,
    places: _Places,
    messages: Messages,
) -> tuple[Trained, int]:
    """A linear head on remembered embeddings, and how many recordings could not be used."""
    from dymn_cli.cli.batch_run.predict import predict
    from dymn_cli.cli.views import evaluation as evaluation_view
    from dymn_cli.evaluation.predictions import job_for
    from dymn_cli.store.registry import resolve
    from dymn_cli.store.weights import read_weights
    from dymn_cli.train.finetune.linear_head import train_head

    found = resolve(base.model)
    if isinstance(found, Path) and found.suffix == ".onnx":
        raise UsageError(
            f"{base.model}: an ONNX file has no head to replace", hint="give the model it was exported from"
        )
    weights = read_weights(found)
    weights.header.config.require_trainable(base.model)
    data.plan_of(dataset)  # errors of the data come before any work
    job = job_for(base.model, base.backend, base.device, embeddings=True)
    with predict([example.source for example in dataset.examples], job, messages, jobs=jobs) as predictions:
        embeddings = predictions.embeddings()
        usable = dataset.only(predictions.done)
    plan = data.plan_of(usable)
    trained = train_head(
        usable,
        embeddings,
        weights,
        plan,
        name=places.name,
        penalty=penalty,
        seed=data.seed,
        step=evaluation_view.Ticker(messages, "fits"),
    )
    return trained, len(predictions.failures) + len(dataset.missing)


def _write(trained: Trained, evaluation: Evaluation, places: _Places, *, force: bool) -> dict[str, Any]:
    """Write the model and what lies beside it: all of it, or nothing.

    Raises:
        OutputError: a file cannot be written.
    """
    import json

    from dymn_cli import __version__
    from dymn_cli.evaluation.thresholds import thresholds_csv
    from dymn_cli.store.weights import write_weights
    from dymn_cli.writers.target import open_target, together

    model, thresholds, log = (
        open_target(path, force=force) for path in (places.model, places.thresholds, places.log)
    )
    with together(model, thresholds, log):
        sha256 = write_weights(model.stream, trained.header, trained.tensors)
        thresholds.stream.write(thresholds_csv(_thresholds(trained.dataset, evaluation)))
        document = trained.document(evaluation, version=__version__, sha256=sha256)
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2)
        log.stream.write(f"{text}\n".encode())
    return document


def _thresholds(dataset: Dataset, evaluation: Evaluation) -> list[tuple[str, str, float]]:
    """(mid, label, threshold) of every class."""
    chosen = {label: value for _, label, value in evaluation.thresholds}
    return [
        (mid, label, chosen.get(label, UNJUDGED_THRESHOLD))
        for mid, label in zip(dataset.mids, dataset.classes, strict=True)
    ]
