"""`dymn cut`: the sounds of a result as files."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.cutting import CLIP_FORMAT_TEXT, CLIPS, ClipOptions
from dymn_cli.cli.options.declare import arg, flag, opt
from dymn_cli.cli.options.filters import AudioRoot, FilterOptions, FromFormat
from dymn_cli.cli.options.panels import OUTPUT, SELECT
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.views.clips import require_clips, tell
from dymn_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dymn_cli.cutting import Cutter
    from dymn_cli.readers import Result, Selection
    from dymn_cli.results import Event

__all__ = ["register"]

HELP = """Cut events out of their recordings, a file each.

  dymn cut events.csv -o clips/
  dymn cut events.csv -o owls/ -l Owl --best 10 --pad 1 --audio /data/recordings

RESULT is what dymn events (or tag --windows) wrote, or a table of another program that dymn convert reads.
Clips keep the rate, the channels and the samples of their recordings; opus and mp3, which have few rates,
get the next one, 48 kHz at most. clips.csv in the folder lists the clips: source, start_s, end_s, label,
score, file. An interrupted run goes on where it stopped; clips that are there are kept, unless their
recording has changed. A recording that is missing or damaged costs its own clips only: exit 6, and
clips.csv.failures.csv names it.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "cut", help=HELP)(cut)


def cut(
    source: Annotated[str, arg("RESULT", "The result, also at a URI, or - for standard input.")],
    out: Annotated[
        str | None, opt("-o --out", "DIR", "The folder for the clips.", OUTPUT, show_default=False)
    ] = None,
    *,
    filters: FilterOptions,
    min_length: Annotated[float, opt("--min-length", "S", "Leave out shorter events.", SELECT)] = 0.0,
    number: Annotated[
        int | None, opt("--best", "N", "At most N events of each label, chosen by --sample.", SELECT)
    ] = None,
    sample: Annotated[
        str,
        opt(
            "--sample", "NAME",
            "How --best chooses: highest, lowest, random, spread (evenly over the range of scores).", SELECT,
        ),
    ] = "highest",
    seed: Annotated[int, opt("--seed", "N", "Of --sample random and spread.", SELECT)] = 0,
    clips: ClipOptions,
    format: Annotated[  # noqa: A002 - the option's name
        str | None, opt("-f --format", "wav|flac|ogg|opus|mp3|...", CLIP_FORMAT_TEXT, CLIPS)
    ] = None,
    from_format: FromFormat = None,
    audio: AudioRoot = None,
    force: Annotated[bool, flag("--force", "Cut clips again that are there.", OUTPUT)] = False,
    dry_run: Annotated[bool, flag("--dry-run", "Print the table of clips and stop.", OUTPUT)] = False,
    messages: Messages,
) -> None:  # fmt: skip
    """Cut the events of a result."""
    from dymn_cli.audio.locate import Locator
    from dymn_cli.convert import ROWS_AT_A_TIME
    from dymn_cli.cutting import Cutter, choose
    from dymn_cli.readers import Selection, open_result
    from dymn_cli.remote.uri import named
    from dymn_cli.values import counted
    from dymn_cli.writers import ONE_SOURCE

    if out is None and not dry_run:
        raise UsageError("no folder for the clips", hint="-o clips/")
    if number is not None and number < 1:
        raise UsageError(f"--best {number} leaves nothing to cut")
    if number is None and sample not in ("highest", "confidence"):
        raise UsageError(f"--sample {sample} needs to know how many", hint="--best N")
    options = clips.options(format, min_length=min_length, force=force)
    selection = Selection(filters.selection())
    with open_result(source, format_name=from_format, chunk=ROWS_AT_A_TIME) as result:
        if result.kind == "embeddings":
            raise UsageError(f"{result.name} has embeddings, and no sounds to cut")
        if result.kind == "tags" and result.windows is False:
            messages.warning(
                f"{result.name} has tags of whole recordings: clips are as long", hint="dymn events"
            )
        recordings = Locator(audio, track=named(source) if result.format_name in ONE_SOURCE else None)
        with Cutter(out or "", options, recordings, dry_run=dry_run) as cutter:
            events = _wanted(result, selection, cutter)
            if number is not None:
                events = iter(choose(events, number, sample, seed=seed))
            try:
                for event in events:
                    cutter.write(event)
            except KeyboardInterrupt:
                if cutter.n_clips:
                    messages.note(
                        f"{counted(cutter.n_clips, 'finished clip')} kept; run the same command to continue"
                    )
                raise
            selection.require_known()
            summary = cutter.finish()
    if dry_run:
        _print_table(cutter)
    tell(summary, messages)
    require_clips(summary)
    if not (cutter.rows if dry_run else summary.n_clips):
        why = "all are too short" if selection.n_kept else selection.why_nothing()
        messages.warning(f"nothing to cut: {why}")
        raise typer.Exit(1)


def _wanted(result: Result, selection: Selection, cutter: Cutter) -> Iterator[Event]:
    from dymn_cli.cutting import events_of

    for item in result:
        for event in events_of(item):
            if selection.wants(event) and cutter.takes(event):
                yield event


def _print_table(cutter: Cutter) -> None:
    from dymn_cli.cutting.table import header_line, row_line
    from dymn_cli.writers.target import open_target

    with open_target("-") as target:
        target.stream.write(header_line())
        for row in cutter.rows:
            target.stream.write(row_line(row))
    sys.stdout.flush()
