"""`dymn eval`: evaluate a model or a finished result."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import flag, opt
from dymn_cli.cli.options.groups import ModelOptions, OutputOptions
from dymn_cli.cli.options.panels import OUTPUT as OUTPUT_PANEL
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.views.evaluation import Jobs
from dymn_cli.errors import AudioNotFoundError, UsageError
from dymn_cli.remote.uri import is_uri, named
from dymn_cli.values import listed_labels, with_first

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dymn_cli.evaluation.ground_truth import GroundTruth, LabelMap, Matched
    from dymn_cli.labels import Vocabulary

__all__ = ["register"]

HELP = """Evaluate a model or a finished result against ground truth.

  dymn eval recordings/ --truth truth.csv -m model.safetensors
  dymn eval tags.csv --truth truth.csv --plot eval.png
  dymn eval sounds/                        sub-folders are the classes
  dymn eval events.jsonl --truth marked.tsv

INPUT is audio, or a result of dymn tag with all scores (-k 0 or --layout matrix; --precision 9 where scores
are low): csv, tsv, jsonl or json. The truth is a folder with a sub-folder per class, or a table:
file,label[;label...], or one in the form of AudioSet, FSD50K, ESC-50, OpenMIC or TAU. Its labels are names,
ids or slugs of the model's labels; --map translates others.

Per class: average precision, ROC AUC, d', and the threshold with the best F1, or with --at-precision the
lowest one that is precise enough; --write-thresholds writes them for dymn tag --thresholds. Means are over
the classes that some recording has. Accuracy: how often the highest score is right. Formats: table (on a
terminal), tsv (in a pipe), csv, json; the columns of tsv are label, mid, n_positive, average_precision, auc,
d_prime (also inf or -inf), threshold, precision, recall, f1. dymn remembers the model's scores: to evaluate
it again takes no time.

Events: the truth has a start and an end for each event. It is a table with the columns filename, onset,
offset and event_label, Audacity label tracks (a folder, each named as its recording), a Raven selection
table, the decisions of a report (source, start_s, end_s, label, decision), or any result of dymn events.
INPUT is audio, or a result of dymn events. Per class: event-based F1 (onsets within 200 ms, offsets within
200 ms or a fifth of the length), intersection-based F1 (a half), and PSDS1 and PSDS2 as in DCASE. PSDS covers
all thresholds: from audio by the scores of frames; from a result by the scores of its events alone, so make
it with a low -t.
"""

TRUTH = "Ground truth"


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "eval", help=HELP)(evaluate_inputs)


def evaluate_inputs(
    *,
    context: typer.Context,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT", help="Files and folders, or results of tag or events.", show_default=False
        ),
    ],
    truth: Annotated[
        str | None,
        opt("--truth", "FILE|DIR", "Labels of the recordings (default: the sub-folders of INPUT).", TRUTH),
    ] = None,
    dataset: Annotated[
        str | None,
        opt("--dataset", "NAME", "INPUT is esc50, fsd50k, openmic or tau, as its archives unpack.", TRUTH),
    ] = None,
    part: Annotated[
        str | None,
        opt("--part", "NAME", "Only this part or fold of the data: train, val, test, 1, ...", TRUTH),
    ] = None,
    label_map: Annotated[
        str | None, opt("--map", "FILE.csv", "What labels of the truth mean: columns truth,label.", TRUTH)
    ] = None,
    ignore_unknown: Annotated[
        bool, flag("--ignore-unknown", "Leave out labels that are none of the model's.", TRUTH)
    ] = False,
    model: ModelOptions,
    jobs: Jobs = None,
    output: OutputOptions,
    at_precision: Annotated[
        float | None,
        opt("--at-precision", "P", "Thresholds that reach this precision, not the best F1.", OUTPUT_PANEL),
    ] = None,
    write_thresholds: Annotated[
        str | None,
        opt("--write-thresholds", "FILE.csv", "Write them for --thresholds of dymn tag.", OUTPUT_PANEL),
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
    messages: Messages,
) -> None:
    """Evaluate the inputs."""
    from dymn_cli.cli.batch_run import judge_events
    from dymn_cli.cli.options.requirements import typed_options
    from dymn_cli.cli.terminal.tables import write_listing
    from dymn_cli.cli.views import evaluation as evaluation_view
    from dymn_cli.cli.views.event_evaluation import write_event_evaluation

    form = evaluation_view.choose_output(output)
    if at_precision is not None and not 0 < at_precision <= 1:
        raise UsageError(f"--at-precision {at_precision:g} is not between 0 and 1")
    given = (*inputs, truth, label_map)
    for name in given:
        if name is not None and is_uri(name) and not Path(name).exists():
            raise UsageError(f"{named(name)}: dymn eval reads files, not URIs", hint="copy it here first")
    outs = {"--out": [output.out], "--write-thresholds": [write_thresholds], "--plot": [plot]}
    evaluation_view.check_outputs(outs, inputs=given, force=output.force)
    from dymn_cli.evaluation.evaluate import evaluate
    from dymn_cli.evaluation.ground_truth import read_label_map
    from dymn_cli.evaluation.thresholds import write_thresholds as write
    from dymn_cli.report.finished import are_results
    from dymn_cli.values import counted
    from dymn_cli.writers.target import is_stdout

    gone = next((name for name in inputs if not Path(name).exists()), None)
    if gone is not None:
        raise AudioNotFoundError(f"{gone}: no such file")
    mapping = read_label_map(label_map) if label_map is not None else {}
    about_audio = typed_options(context, [*(part.name for part in dataclasses.fields(ModelOptions)), "jobs"])
    if truth is not None and dataset is None and judge_events.are_events(truth):
        for option, value in (
            ("--part", part),
            ("--at-precision", at_precision),
            ("--write-thresholds", write_thresholds),
            ("--plot", plot),
        ):
            if value is not None:
                raise UsageError(f"{option} is about whole recordings, and {truth} is about events")
        events, n_failed = judge_events.evaluate_inputs(
            inputs,
            truth,
            mapping,
            ignore_unknown=ignore_unknown,
            model=model,
            about_audio=about_audio,
            messages=messages,
        )
        write_event_evaluation(events, output, form, messages)
        evaluation_view.end_with(n_failed, events.n_recordings)
        return
    if plot is not None:
        from dymn_cli.plotting.picture import check_picture

        check_picture(plot)
    ground_truth = _truth(inputs, truth, dataset, part)
    for note in ground_truth.notes:
        messages.note(note)
    if dataset is None and are_results(inputs):
        judge_events.require_audio(about_audio, inputs)
        scores, vocabulary, matched, n_failed = _of_results(
            inputs, ground_truth, mapping, ignore_unknown, messages
        )
    else:
        scores, vocabulary, matched, n_failed = _of_audio(
            inputs,
            ground_truth,
            mapping,
            ignore_unknown,
            messages,
            model,
            jobs,
            from_truth=dataset is not None,
        )
    for note in _notes(matched):
        messages.note(note)
    if matched.without_recording:
        messages.warning(f"recordings of the truth without scores: {with_first(matched.without_recording)}")
    evaluation = evaluate(
        scores,
        matched.truth,
        [(label.mid, label.name) for label in vocabulary],
        known=matched.known,
        precision=at_precision,
    )
    figures = evaluation_view.listing_of(evaluation, evaluation.document())
    evaluation_view.warn_of_thresholds(evaluation, messages)
    write_listing(figures, form, messages, output.out, header=output.header, force=output.force)
    if write_thresholds is not None:
        write(write_thresholds, evaluation.thresholds, force=output.force)
    if plot is not None:
        from dymn_cli.evaluation.plots import draw_evaluation

        draw_evaluation(evaluation, plot, title=Path(inputs[0]).name or inputs[0], force=output.force)
    if form != "table" or not is_stdout(output.out):
        size = f"{counted(evaluation.n_clips, 'recording')}, {counted(len(evaluation.classes), 'class')}"
        messages.note(f"{size}: {evaluation_view.figures(evaluation)}")
    evaluation_view.end_with(n_failed, evaluation.n_clips)


def _truth(inputs: list[str], truth: str | None, dataset: str | None, part: str | None) -> GroundTruth:
    """The ground truth that the options name.

    Raises:
        UsageError: they name none.
        InputError: it cannot be read.
    """
    from dymn_cli.datasets.published import read_layout
    from dymn_cli.evaluation.ground_truth import GroundTruth, read_ground_truth

    if dataset is not None:
        if truth is not None or len(inputs) > 1:
            raise UsageError("--dataset takes one folder, which has its own truth")
        data = read_layout(dataset, inputs[0])
        found = GroundTruth.of(data)
    elif truth is not None:
        found = read_ground_truth(truth)
    elif len(inputs) == 1 and Path(inputs[0]).is_dir():
        found = read_ground_truth(inputs[0])
    else:
        raise UsageError(
            "no ground truth", hint="--truth FILE.csv, or name a folder with a sub-folder per class"
        )
    if part is None:
        return found
    return found.only(part)


def _of_results(
    inputs: list[str], ground_truth: GroundTruth, mapping: LabelMap, ignore_unknown: bool, messages: Messages
) -> tuple[NDArray[np.float32], Vocabulary, Matched, int]:
    from dymn_cli.evaluation.ground_truth import match
    from dymn_cli.evaluation.score_files import read_scores

    table = read_scores(inputs)
    for note in table.notes:
        messages.warning(note)
    if table.failed:
        messages.warning(f"recordings without a result: {with_first(table.failed)}")
    matched = match(
        ground_truth, table.sources, table.vocabulary, mapping=mapping, ignore_unknown=ignore_unknown
    )
    return table.scores[matched.recordings], table.vocabulary, matched, len(table.failed)


def _of_audio(
    inputs: list[str],
    ground_truth: GroundTruth,
    mapping: LabelMap,
    ignore_unknown: bool,
    messages: Messages,
    model: ModelOptions,
    jobs: int | None,
    *,
    from_truth: bool,
) -> tuple[NDArray[np.float32], Vocabulary, Matched, int]:
    import numpy as np

    from dymn_cli.cli.batch_run.judge_events import recordings_in
    from dymn_cli.cli.batch_run.predict import predict
    from dymn_cli.evaluation.ground_truth import match
    from dymn_cli.evaluation.predictions import job_for

    if from_truth:
        names, n_failed = [row.source for row in ground_truth.rows], 0
    else:
        names, n_failed = recordings_in(inputs, messages)
    models = model.models
    job = job_for(
        models[0] if len(models) == 1 else models,
        model.backend,
        model.device,
        batch_size=model.batch_size,
        scores=True,
    )
    with job.open_tagger(1) as tagger:
        vocabulary = tagger.vocabulary
    # Labels are looked up first: a label that the model does not know is an error before any work.
    matched = match(ground_truth, names, vocabulary, mapping=mapping, ignore_unknown=ignore_unknown)
    wanted = [names[n] for n in matched.recordings]
    with predict(wanted, job, messages, jobs=jobs, threads=model.threads) as predictions:
        scores = predictions.scores()
        kept = np.array(predictions.done, np.intp)
    return scores, vocabulary, matched.only(kept), n_failed + len(predictions.failures)


def _notes(matched: Matched) -> list[str]:
    """How truth and recordings fit together."""
    notes = []
    if matched.without_truth:
        what = "recordings that are not in the truth, which are left out"
        notes.append(f"{what}: {with_first(matched.without_truth)}")
    if matched.ignored:
        notes.append(f"labels that are left out: {listed_labels(matched.ignored, 8)}")
    if matched.n_dropped:
        notes.append(f"recordings without another label, which are left out: {matched.n_dropped}")
    return notes
