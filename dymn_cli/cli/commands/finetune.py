"""`dymn finetune`: a tagger for classes of one's own."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import flag, opt
from dymn_cli.cli.options.finetune import TuningOptions
from dymn_cli.cli.options.groups import BackendName, DeviceName, ListOptions, ModelName
from dymn_cli.cli.options.panels import OUTPUT as OUTPUT_PANEL
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.views.evaluation import Jobs
from dymn_cli.errors import BackendUnavailableError, UsageError

if TYPE_CHECKING:
    from dymn_cli.datasets.dataset import Dataset
    from dymn_cli.evaluation.evaluate import Evaluation
    from dymn_cli.train.finetune.result import Trained
    from dymn_cli.train.finetune.run import FinetuneRun

__all__ = ["register"]

HELP = """Train a tagger for your own classes.

  dymn finetune sounds/ -o my.safetensors
  dymn finetune labels.csv --audio recordings/ -o my.safetensors
  dymn finetune ESC-50-master/ --dataset esc50 -o esc50.safetensors
  dymn tag -m my.safetensors clip.wav

DATA is a folder with a sub-folder per class (above them, if you like, train, val and test); a table
file,label[;label...] with, if you like, columns fold, split and group; or, with --dataset, ESC-50, FSD50K,
OpenMIC-2018 or TAU Urban Acoustic Scenes 2020 Mobile as their archives unpack. Where recordings have
several labels, or none, the classes are told apart each by itself; --task says it otherwise.

The whole network is trained where PyTorch is installed (pip install 'dymn[train]'): Section V of the paper,
80 epochs with the published rates for the data sets named above; for your own, 20 epochs at 1e-4 in batches
of 8, from a head that fits what the model hears already. It says beforehand how long that will take.
Interrupted? The same command goes on where it stopped, and the result is the same. With --head-only, or
without PyTorch, only the last layer is trained, by logistic regression on embeddings of the model; that
takes seconds to minutes, and embeddings are remembered.

Recordings are held out in turn, by the folds or the split of the data or else by folds that are made; the
figures are about what was held out. The model itself then learns from all of them, unless they have a split
or --holdout says otherwise. What ends or tunes a training is held out for that alone. Each class is told
from all others by itself, so that a score says how sure the model is of it.

Beside my.safetensors: my.thresholds.csv (for dymn tag --thresholds) and my.log.json (settings, figures by
class and fold, confusions). On standard output, the figures by class, as dymn eval has them.
"""

DATA_PANEL, TRAINING_PANEL = "Data", "Training"
FEW = 5  # recordings of a class below which its figures say little


@dataclass(frozen=True, slots=True)
class DataOptions:
    """What is learned from, and how it is divided."""

    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A folder or a table of labels.", show_default=False)
    ]
    dataset: Annotated[
        str | None,
        opt(
            "--dataset", "NAME", "DATA is esc50, fsd50k, openmic or tau, as its archives unpack.", DATA_PANEL
        ),
    ] = None
    audio: Annotated[
        str | None,
        opt("--audio", "DIR", "Where the recordings of a table are (default: beside it).", DATA_PANEL),
    ] = None
    task: Annotated[
        str,
        opt(
            "--task",
            "auto|one|many",
            "One label a recording, or many (default: as the data are).",
            DATA_PANEL,
            show_default=False,
        ),
    ] = "auto"
    folds: Annotated[
        int | None,
        opt("--folds", "N", "Make N folds, whatever the data say (default: theirs, else 5).", DATA_PANEL),
    ] = None
    holdout: Annotated[
        float | None,
        opt("--holdout", "X", "Hold out about this share instead, also of the final model.", DATA_PANEL),
    ] = None
    seed: Annotated[
        int,
        opt("--seed", "N", "Of all that is drawn.", DATA_PANEL, min=0),
    ] = 0


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
        bool,
        flag("--head-only", "Train the last layer only, on remembered embeddings.", TRAINING_PANEL),
    ] = False,
    penalty: Annotated[
        float | None,
        opt(
            "--penalty", "X", "With --head-only: what squared weights cost (default: chosen).", TRAINING_PANEL
        ),
    ] = None,
    jobs: Jobs = None,
    tuning: TuningOptions,
    out: Annotated[
        str,
        opt("-o --out", "FILE", "The new model: a .safetensors file.", OUTPUT_PANEL, show_default=False),
    ],
    at_precision: Annotated[
        float | None,
        opt("--at-precision", "P", "Thresholds that reach this precision, not the best F1.", OUTPUT_PANEL),
    ] = None,
    plot: Annotated[
        str | None,
        opt(
            "--plot",
            "FILE.png",
            "A picture: classes, reliability, confusions; png, svg or pdf.",
            OUTPUT_PANEL,
        ),
    ] = None,
    force: Annotated[
        bool,
        flag("--force", "Replace files that exist.", OUTPUT_PANEL),
    ] = False,
    listing: ListOptions,
    messages: Messages,
) -> None:
    """Train a model and write it."""
    from dymn_cli.cli.terminal.tables import choose_form
    from dymn_cli.cli.views import evaluation as evaluation_view

    form = choose_form(listing.format)
    places = _Places.of(out)
    evaluation_view.check_outputs(out, places.log, places.thresholds, plot, force=force)
    if at_precision is not None and not 0 < at_precision <= 1:
        raise UsageError(f"--at-precision {at_precision:g} is no share between 0 and 1")
    if plot is not None:
        from dymn_cli.plotting.picture import check_picture

        check_picture(plot)
    head_only = _only_head(head_only, penalty, tuning, messages)
    dataset = _read(data)
    _say(dataset, messages)
    run = None
    base = _Base(model, backend, device)
    if head_only:
        trained, n_failed = _train_head(dataset, data, base, penalty, jobs, places, messages)
    else:
        run, n_failed = _train_whole(dataset, data, base, tuning, places, messages)
        trained = run.trained()
    evaluation = trained.evaluate(at_precision)
    document = _write(trained, evaluation, places, force=force)
    if run is not None:
        run.tidy()
    if plot is not None:
        from dymn_cli.evaluation.plots import draw_evaluation

        draw_evaluation(evaluation, plot, title=f"{trained.header.name}: {trained.plan.words}", force=force)
    evaluation_view.write_evaluation(evaluation, document, None, form, messages, header=listing.header)
    if form != "table":
        messages.note(f"{trained.plan.words}: {evaluation_view.figures(evaluation)}")
    thin = [one.label for one in evaluation.classes if one.n_positive < FEW] + list(evaluation.without)
    if thin:
        from dymn_cli.datasets.dataset import listed

        messages.note(f"too few recordings to say how well these are heard: {listed(thin, 6)}")
    messages.note(f"{out}: {len(dataset.classes)} classes; dymn tag -m {shlex.quote(out)} clip.wav")
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


def _only_head(head_only: bool, penalty: float | None, tuning: TuningOptions, messages: Messages) -> bool:
    """Whether only the last layer is trained: as asked for, or because there is no PyTorch.

    Raises:
        UsageError: options of the one way with the other.
        BackendUnavailableError: options of end-to-end training without PyTorch.
    """
    if head_only:
        if tuning.given:
            raise UsageError(f"{tuning.given[0]} is about end-to-end training", hint="not with --head-only")
        return True
    from dymn_cli.cli.training_run.whole_network import why_not_whole

    reason = why_not_whole()
    if reason is None:
        if penalty is not None:
            raise UsageError("--penalty is about the last layer alone", hint="add --head-only")
        return False
    remedy = "pip install 'dymn[train]'"
    if tuning.given:
        raise BackendUnavailableError(f"{tuning.given[0]}: {reason}", hint=f"{remedy}, or --head-only")
    messages.note(f"{reason}; only the last layer is trained, {remedy} for more")
    return True


def _read(data: DataOptions) -> Dataset:
    """The data set that the options name.

    Raises:
        InputError: it cannot be read, or makes no sense.
        UsageError: options that contradict each other.
    """
    from dymn_cli.datasets.dataset import read_folder, read_table
    from dymn_cli.datasets.published import read_layout

    task: Any = data.task  # checked there
    is_folder = os.path.isdir(data.data)  # noqa: PTH112 - names may be bytes that no Path holds
    if data.audio is not None and (data.dataset is not None or is_folder):
        raise UsageError("--audio is about the recordings of a table", hint="DATA is the table then")
    if data.dataset is not None:
        return read_layout(data.dataset, data.data, task=task)
    if is_folder:
        return read_folder(data.data, task=task)
    return read_table(data.data, audio=data.audio, task=task)


def _say(dataset: Dataset, messages: Messages) -> None:
    """What the data are, aloud: a wrong guess must not pass unseen."""
    kind = "several labels a recording (multi-label)" if dataset.is_multilabel else "one label a recording"
    messages.note(
        f"{dataset.name}: {len(dataset.examples)} recordings, {len(dataset.classes)} classes, {kind}"
    )
    for note in dataset.notes:
        messages.note(note)
    if dataset.missing:
        first = dataset.missing[0]
        messages.warning(
            f"recordings that have labels and are not there: {len(dataset.missing)}, the first is {first}"
        )


def _train_whole(
    dataset: Dataset,
    data: DataOptions,
    base: _Base,
    tuning: TuningOptions,
    places: _Places,
    messages: Messages,
) -> tuple[FinetuneRun, int]:
    """All of the network, and how many recordings could not be used."""
    from dymn_cli.cli.training_run.whole_network import train_whole
    from dymn_cli.datasets.folds import plan_of

    return train_whole(
        dataset,
        data.dataset,
        base.model,
        base.device,
        lambda some: plan_of(some, folds=data.folds, holdout=data.holdout, seed=data.seed),
        tuning,
        out=places.model,
        name=places.name,
        seed=data.seed,
        messages=messages,
    )


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
    from dymn_cli.datasets.folds import plan_of
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
    plan_of(dataset, folds=data.folds, holdout=data.holdout, seed=data.seed)  # said before any work is done
    work = job_for(base.model, base.backend, base.device, embeddings=True)
    with predict([example.path for example in dataset.examples], work, messages, jobs=jobs) as answers:
        embeddings = answers.embeddings()
        usable = dataset.only(answers.answered)
    plan = plan_of(usable, folds=data.folds, holdout=data.holdout, seed=data.seed)
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
    return trained, len(answers.failures) + len(dataset.missing)


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
        thresholds.stream.write(thresholds_csv(evaluation.thresholds))
        document = trained.document(evaluation, version=__version__, sha256=sha256)
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2)
        log.stream.write(f"{text}\n".encode())
    return document
