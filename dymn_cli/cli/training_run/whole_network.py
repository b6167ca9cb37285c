"""What `dymn finetune` does where PyTorch is installed: the whole network is trained."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dymn_cli.cli.batch_run.predict import MAX_TOLD
from dymn_cli.cli.options.finetune import TuningOptions
from dymn_cli.cli.terminal.progress import span
from dymn_cli.cli.training_run.session import Display, end_interrupted, stop_on_signal, training_device
from dymn_cli.errors import BackendUnavailableError, InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dymn_cli.cli.terminal.messages import Messages
    from dymn_cli.datasets.dataset import Dataset
    from dymn_cli.datasets.folds import Plan
    from dymn_cli.train.finetune.data import LabelledAudio
    from dymn_cli.train.finetune.recipe import TuningRecipe
    from dymn_cli.train.finetune.run import FinetuneRun

__all__ = ["train_whole", "why_not_whole"]

TOLD = {"map": "mAP {:.2f}", "accuracy": "{:.0%} right"}


def why_not_whole() -> str | None:
    """Why only a last layer can be trained here; None where PyTorch is installed."""
    # Threads that wait for each other by spinning are in the way of whatever else runs here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from dymn_cli.train import device  # noqa: F401 - the extra may be missing
    except BackendUnavailableError as exc:
        return exc.message
    return None


def train_whole(
    dataset: Dataset,
    layout: str | None,
    model: str,
    device: str,
    divide: Callable[[Dataset], Plan],
    options: TuningOptions,
    *,
    out: str,
    name: str,
    seed: int,
    messages: Messages,
) -> tuple[FinetuneRun, int]:
    """Train a network end to end, or go on training it.

    Args:
        dataset: recordings with labels.
        layout: the published data set that it is, or None.
        model: the one to begin with, by name or path.
        device: where it is trained.
        divide: makes the plan of what is held out.
        options: how.
        out: where the model will go.
        name: what it is called.
        seed: of all that is drawn.
        messages: what the run says.

    Returns:
        The finished run, and how many recordings could not be used.

    Raises:
        UsageError: options that make no sense.
        InputError: no recording can be decoded.
        ModelError: the model cannot be used, or training diverged.
        OutputError: the working folder cannot be written, or holds a run with other settings.
        KeyboardInterrupt: the run was interrupted, and can be continued.
    """
    from dymn_cli.train.device import set_threads
    from dymn_cli.train.distill.teachers import load_model
    from dymn_cli.train.finetune.run import FinetuneOptions, FinetuneRun

    minutes = options.checkpoint_every
    if options.threads is not None and options.threads < 1:
        raise UsageError(f"--threads {options.threads}: at least 1")
    if not minutes >= 0:
        raise UsageError(f"--checkpoint-every {minutes:g} is no time")
    divide(dataset)  # what is wrong with it is said before any work is done
    _recipe(options, layout, 0.0)
    threads = set_threads(options.threads)
    where = training_device(device, messages)
    base = load_model(model, where)
    audio, n_failed = _decode(dataset, options, threads, messages)
    recipe = _recipe(options, layout, audio.longest_s)
    plan = divide(audio.dataset)
    work = Path(options.work or f"{out}.train")
    run_options = FinetuneOptions(
        work, name, seed=seed, checkpoint_every_s=60 * minutes, resume=options.resume
    )
    run = FinetuneRun(audio, plan, base, recipe, run_options, where, messages.note)
    _say(run, recipe, base.header.name, plan, str(where), work, messages)
    with (
        stop_on_signal(messages) as request,
        Display(messages, run.stages, TOLD, measures_aloud=False, epochs=recipe.epochs) as display,
    ):
        ended = run.run(display, request)
    if ended == "interrupted":
        end_interrupted(messages, request)
    return run, n_failed + len(dataset.missing)


def _recipe(options: TuningOptions, layout: str | None, longest_s: float) -> TuningRecipe:
    """The recipe, with what the options say of it."""
    from dymn_cli.train.finetune.recipe import LONGEST_WINDOW_S, SHORTEST_WINDOW_S, usual_recipe

    window_s = min(max(longest_s, SHORTEST_WINDOW_S), LONGEST_WINDOW_S)
    changes: dict[str, Any] = {
        "epochs": options.epochs,
        "rate": options.rate,
        "batch": options.batch,
        "fit_head": options.fit_head,
        "window_s": round(window_s, 3) if options.window is None else options.window,
        "spec_augment": options.spec_augment,
        "patience": options.patience,
    }
    if not options.mixup:
        changes |= {"mixup": 0.0, "mix_waves": 0.0}
    given = {name: value for name, value in changes.items() if value is not None}
    return dataclasses.replace(usual_recipe(layout), **given)


def _decode(
    dataset: Dataset, options: TuningOptions, threads: int, messages: Messages
) -> tuple[LabelledAudio, int]:
    """The recordings, decoded, and how many cannot be."""
    from dymn_cli.datasets.audio_cache import CLIPS_FOLDER
    from dymn_cli.results import Failure
    from dymn_cli.store.local import cache_folder
    from dymn_cli.train.finetune.data import open_labelled

    folder = Path(options.cache) if options.cache else cache_folder() / CLIPS_FOLDER
    with messages.progress(len(dataset.examples), shared_with_results=False) as tally:
        audio, skipped = open_labelled(
            dataset, folder, threads=threads, done=lambda n_all, seconds: tally.advance("", seconds)
        )
    for number, (path, reason) in enumerate(skipped):
        if number < MAX_TOLD or messages.verbosity:
            messages.failure(Failure(path, "InputError", reason, None, InputError.exit_code))
    return audio, len(skipped)


def _say(
    run: FinetuneRun, recipe: TuningRecipe, base: str, plan: Plan, where: str, work: Path, messages: Messages
) -> None:
    """What is about to be done, aloud."""
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
