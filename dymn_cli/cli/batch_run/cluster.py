"""`--engine ray`: the run of an analysis on a cluster, into a Parquet data set."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dymn_cli.batch.run import Outcome
from dymn_cli.cli.batch_run.fingerprint import fingerprint_of
from dymn_cli.cli.batch_run.sources import named_sources
from dymn_cli.cli.batch_run.watcher import Watcher, finish, save_failures
from dymn_cli.cli.signals import catch_signals
from dymn_cli.cores import usable_cores
from dymn_cli.errors import UsageError
from dymn_cli.remote.uri import is_uri
from dymn_cli.scale.cluster import connected
from dymn_cli.scale.engine import Actors, ClusterRun, Stage, Table, describe
from dymn_cli.scale.output import FAILURES, ResultSet
from dymn_cli.tagging.selection import Selection
from dymn_cli.values import counted, require_choice
from dymn_cli.writers.target import is_stdout

if TYPE_CHECKING:
    from dymn_cli.batch.job import Job
    from dymn_cli.cli.batch_run.analysis import Analysis
    from dymn_cli.cli.options.groups import FileOptions, ResultOptions, UpdateOptions
    from dymn_cli.cli.terminal.messages import Messages

T = TypeVar("T")

__all__ = ["write_dataset"]


def _require_engine(batch: UpdateOptions) -> None:
    """See that there is such an engine, and that its options are asked for with it.

    Raises:
        UsageError: otherwise.
    """
    require_choice("--engine", batch.engine, ("local", "ray"))
    if batch.engine == "local" and batch.ray_address is not None:
        raise UsageError("--ray-address needs --engine ray")


def write_dataset(
    analysis: Analysis[T],
    inputs: FileOptions,
    output: ResultOptions,
    batch: UpdateOptions,
    messages: Messages,
    *,
    threads: int | None,
) -> None:
    """Analyse all inputs on a cluster and write the data set; arguments as of `run.write_results`.

    Raises:
        DymnError: nothing was done, or not everything.
        KeyboardInterrupt: the run was interrupted.
    """
    _require_engine(batch)
    out = _place(analysis, inputs, output, batch)
    job = _for_all_nodes(analysis.job)
    listed, sources = named_sources(inputs, batch.shard, messages)
    names = None if listed is None else [found.name for found in listed]
    if "-" in (inputs.inputs if names is None else names):
        raise UsageError(
            "standard input is on this machine only", hint="save it to a file that all nodes see"
        )
    if analysis.clock is not None and names is not None:
        analysis.clock.require_fit(names)
    results = ResultSet(out)
    with connected(
        batch.ray_address, cpus=batch.jobs or usable_cores(), verbose=messages.verbosity > 1
    ) as cluster:
        catch_signals()  # Ray has put its own way to end in their place
        actors = Actors.for_device(
            job.device,
            cluster,
            most=batch.jobs,
            limit_s=batch.limit_per_file,
            **({} if threads is None else {"cpus": threads}),
        )
        model = describe(job, actors)
        provenance = analysis.describe(model)
        Selection(job.options, model.vocabulary)  # an unknown label is said before any work is done
        clock = None if analysis.clock is None else analysis.clock.start_of
        table = Table(analysis.rows, analysis.writing(model, provenance, clock))
        table.check()
        results.begin(fingerprint_of(job, provenance), resume=batch.resume, force=output.force)
        contents = results.contents()
        place = out if is_uri(out) else os.path.abspath(out)  # noqa: PTH100 - for all nodes
        stage = Stage(job, table, place, model.model.sha256, actors.cpus, actors.limit_s, actors.stretch_s)
        total = None if listed is None else len(listed)
        with messages.progress(total, shared_with_results=False) as tally:
            watcher = Watcher(messages, tally, single=total == 1, few_failures=True)
            run = ClusterRun(stage, actors, cluster, contents, watcher)
            outcome = run.go(sources, fail_fast=inputs.fail_fast)
        watcher.sum_up(outcome)
    _end(results, outcome, inputs, messages, csv_safe=output.csv_safe)
    finish(outcome, alone=total == 1)


def _for_all_nodes(job: Job) -> Job:
    """The job with models that can be found from any folder."""
    models = (job.model,) if isinstance(job.model, str) else job.model
    return dataclasses.replace(
        job, model=tuple(str(Path(name).absolute()) if Path(name).is_file() else name for name in models)
    )


def _end(
    results: ResultSet, outcome: Outcome, inputs: FileOptions, messages: Messages, *, csv_safe: bool
) -> None:
    if outcome.interrupted:
        messages.note("what is done is kept; run the same command to continue")
        return
    found = results.finish(outcome.failures, is_complete=not outcome.stopped)
    save_failures(outcome.failures, inputs.failures, None, messages, csv_safe=csv_safe)
    if found.failures:
        messages.note(f"{counted(len(found.failures), 'failure')} in {results.path(FAILURES)}")


def _place(analysis: Analysis[T], inputs: FileOptions, output: ResultOptions, batch: UpdateOptions) -> str:
    """The data set; options that do not go with one are refused.

    Raises:
        UsageError: there is one.
    """
    if output.out_dir is not None or output.out is None or is_stdout(output.out):
        raise UsageError(
            "--engine ray writes a folder of Parquet files", hint="-o FOLDER, or -o s3://BUCKET/FOLDER"
        )
    if output.format not in (None, "parquet"):
        raise UsageError(f"--engine ray writes parquet, not {output.format}", hint="leave out -f")
    given = {
        "--embed": (analysis.embed is not None, "dymn embed --engine ray writes them"),
        "--update": (batch.update, "without it, the same command adds what is new"),
        "--prune": (batch.prune, "it is for one machine"),
        "--max-input": (inputs.max_input is not None, "it is for standard input"),
        "--cut": (analysis.cut_folder is not None, "dymn cut cuts finished events"),
    }
    for option, (is_given, hint) in given.items():
        if is_given:
            raise UsageError(f"{option} and --engine ray exclude each other", hint=hint)
    return output.out
