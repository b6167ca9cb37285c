"""`dymn watch`: analyse what comes into folders."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import arg, flag, opt
from dymn_cli.cli.options.events import EventSelect, EventTime
from dymn_cli.cli.options.groups import (
    Channel,
    Descendants,
    Exclude,
    ExecOptions,
    InputOptions,
    Label,
    MinScores,
    ModelOptions,
    OutputOptions,
    Precision,
    Recurse,
    ResultOptions,
    SelectOptions,
    Strict,
    TimeOptions,
    WorkOptions,
)
from dymn_cli.cli.options.panels import INPUT, SELECT
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.errors import UsageError
from dymn_cli.values import require_choice

if TYPE_CHECKING:
    from dymn_cli.cli.batch_run.analysis import Analysis

__all__ = ["register"]

HELP = """Tag files as they come into folders, until Ctrl-C.

  dymn watch recordings/ -o tags.csv
  dymn watch recordings/ --find events -l Siren -o sirens.jsonl --exec 'notify-me --siren'

What is there already is tagged first. A file is taken once it has not changed for --settle seconds and no
program has it open for writing. Its lines are appended to tags.csv at once; without -o they go to standard
output. Formats: csv and tsv (a line per tag or event), jsonl (a line per file).

tags.csv.journal holds what is done: after a stop, a kill or a power cut, the same command makes tags.csv
whole and catches up with what came meanwhile. The file in hand is analysed from its start. A file that
changes is analysed again; its old lines go when the watch ends or starts. A file that is moved counts as new;
lines of missing files stay. dymn tag recordings/ -o tags.csv --update --prune drops them, and puts the rest
in the order of a run that begins anew.

--exec runs a command for each result, one at a time, with the result as JSON on its standard input and
without a shell. What it prints goes to standard error.
"""


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """Which folders, and when their files are complete."""

    folders: Annotated[list[str], arg("DIR", "Folders to watch.")] = field(default_factory=list)
    ext: Annotated[str | None, opt("--ext", "wav,flac,...", "Only files with these suffixes.", INPUT)] = None
    recurse: Recurse = True
    settle: Annotated[
        float, opt("--settle", "S", "A file is complete when it has not changed for S seconds.", INPUT)
    ] = 2.0
    poll: Annotated[
        float | None,
        opt("--poll", "S", "Look every S seconds: for network folders, which tell of no changes.", INPUT),
    ] = None
    channel: Channel = "mix"
    strict: Strict = False


@dataclass(frozen=True, slots=True)
class WatchSelect:
    """What is looked for, and which of it is kept."""

    find: Annotated[str, opt("--find", "tags|events", "As dymn tag does, or dymn events.", SELECT)] = "tags"
    top: Annotated[int | None, opt("-k --top", "N", "The N best tags; 0 for all (default: 5).", SELECT)] = (
        None
    )
    score: Annotated[
        float | None,
        opt("-t --min-score", "X", "Only scores of X or more; events reach it somewhere.", SELECT),
    ] = None
    label: Label = field(default_factory=list)
    exclude: Exclude = field(default_factory=list)
    descendants: Descendants = False
    specific: Annotated[bool, flag("--specific", "Of Animal, Dog and Bark keep only Bark.", SELECT)] = False
    thresholds: MinScores = None


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "watch", help=HELP)(watch)


def watch(
    inputs: FolderOptions,
    model: ModelOptions,
    time: TimeOptions,
    select: WatchSelect,
    output: OutputOptions,
    hook: ExecOptions,
    work: WorkOptions,
    messages: Messages,
    *,
    precision: Precision = 4,
) -> None:
    """Analyse what comes."""
    from dymn_cli.audio.discover import find, parse_extensions
    from dymn_cli.cli.batch_run.places import Places
    from dymn_cli.cli.batch_run.watch import LINE_FORMATS, watch_folders
    from dymn_cli.watching.folders import Folders
    from dymn_cli.watching.settling import Settling
    from dymn_cli.writers.target import input_guard

    if not inputs.folders:
        raise UsageError("no folder to watch", hint="dymn watch recordings/ -o tags.csv")
    if not inputs.settle >= 0:
        raise UsageError(f"--settle must not be below 0 s, but is {inputs.settle:g}")
    if inputs.poll is not None and not inputs.poll > 0:
        raise UsageError(f"--poll must be more than 0 s, not {inputs.poll:g}")
    analysis = _analysis_of(inputs, model, time, select, output, precision)
    places = Places.choose(_results(output), analysis.formats)
    if places.format_name not in LINE_FORMATS and not places.to_terminal:
        raise UsageError(
            f"{places.format_name} cannot be written line by line", hint=f"-f {', '.join(LINE_FORMATS)}"
        )
    extensions = parse_extensions(inputs.ext)
    if places.force:
        guard = input_guard(places.out)
        for found in find(inputs.folders, extensions=extensions, recurse=inputs.recurse):
            guard(found.name)
    folders = Folders(
        inputs.folders,
        extensions=extensions,
        recurse=inputs.recurse,
        poll_s=inputs.poll,
        warn=messages.warning,
    )
    settling = Settling(inputs.settle)
    watch_folders(analysis, folders, settling, places, work, hook, messages, threads=model.threads)


def _results(output: OutputOptions) -> ResultOptions:
    return ResultOptions(format=output.format, out=output.out, force=output.force, header=output.header)


def _analysis_of(
    inputs: FolderOptions,
    model: ModelOptions,
    time: TimeOptions,
    select: WatchSelect,
    output: OutputOptions,
    precision: int,
) -> Analysis[Any]:
    """What is found out, with the same meaning as in `dymn tag` and `dymn events`."""
    from dymn_cli.cli.batch_run.events import EventAnalysis
    from dymn_cli.cli.batch_run.tags import TagAnalysis

    sources = InputOptions(
        inputs=inputs.folders,
        ext=inputs.ext,
        recurse=inputs.recurse,
        channel=inputs.channel,
        strict=inputs.strict,
    )
    labels: dict[str, Any] = {
        "label": select.label,
        "exclude": select.exclude,
        "descendants": select.descendants,
        "specific": select.specific,
        "thresholds": select.thresholds,
    }
    require_choice("--find", select.find, ("tags", "events"))
    if select.find == "events":
        if select.top is not None:
            raise UsageError("--top is for tags", hint="-t or -l find fewer events")
        cut = EventTime(time.window, time.hop, time.pad)
        wanted = EventSelect(on=select.score, **labels)
        return EventAnalysis(sources, model, cut, wanted, _results(output), precision=precision)
    top = 5 if select.top is None else select.top
    kept = SelectOptions(top=top, min_score=select.score or 0.0, **labels)
    return TagAnalysis(sources, model, time, kept, _results(output), precision=precision)
