"""`dymn bench`: how fast it is here, stage by stage and end to end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import flag, opt
from dymn_cli.cli.options.groups import ListOptions, ModelName
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.tables import Listing, choose_form, show

if TYPE_CHECKING:
    from rich.console import Console, Group

    from dymn_cli.bench.report import Report

__all__ = ["register"]

HELP = """Benchmark dymn on this machine.

  dymn bench
  dymn bench --baseline -f json > bench.json

Measures each stage, the speed end to end with one worker and with several, start-up, memory, and what an hour
costs in one long file. Everything is measured in rounds, one thing after the other in each; a figure is the
median of the rounds, a ratio the median of their ratios. Takes about a minute on a quiet machine; --baseline
half as long again, --long as long as the hours need. Close other programs: they slow it down, and runs that
they disturb are repeated, so that it may take several times as long. It says at the beginning and at the end
how busy they keep the machine.
In a pipe, tab-separated: part, what, format, workers, value, low, high, unit, goal, reached.
Formats: table, tsv, json.
"""

MEASURE = "What to measure"
BUSY_CORES = 0.1


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "bench", help=HELP)(bench)


def bench(
    *,
    model: ModelName = "dymn04_kd",
    jobs: Annotated[
        int | None,
        opt(
            "-j --jobs",
            "N",
            "Workers to compare with one (default: one a core).",
            MEASURE,
            envvar="DYMN_JOBS",
        ),
    ] = None,
    rounds: Annotated[int, opt("--rounds", "N", "Rounds of measurement.", MEASURE)] = 5,
    seconds: Annotated[float, opt("--seconds", "S", "Rough time for all rounds together.", MEASURE)] = 40.0,
    baseline: Annotated[
        bool, flag("--baseline", "Compare with the usual way to run such models in PyTorch.", MEASURE)
    ] = False,
    long: Annotated[
        float,
        opt(
            "--long",
            "H",
            "Also a recording of H hours; 24 takes minutes and 1.5 GB of temporary space.",
            MEASURE,
        ),
    ] = 0.0,
    listing: ListOptions,
    messages: Messages,
) -> None:
    """Measure, and print the figures."""
    from dymn_cli.bench.measure import BenchOptions, run_bench
    from dymn_cli.bench.report import COLUMNS

    choose_form(listing.format)
    options = BenchOptions(
        model=model, jobs=jobs, rounds=rounds, seconds=seconds, baseline=baseline, long_h=long
    )
    report = run_bench(options, messages.note)

    def table(console: Console) -> Group:
        from dymn_cli.cli.views.bench import bench_tables

        return bench_tables(report)

    rows = (figure.cells for figure in report.figures)
    show(Listing(COLUMNS, rows, report.to_json(), table), listing, messages)
    _tell_load(report, messages)


def _tell_load(report: Report, messages: Messages) -> None:
    if report.other_cores is not None and report.other_cores > BUSY_CORES:
        messages.warning(
            f"other programs kept {report.other_cores:.1f} of {report.machine.cores} cores busy",
            hint="close them for better figures",
        )
