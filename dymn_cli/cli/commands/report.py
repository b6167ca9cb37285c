"""`dymn report`: one page to look at, to listen to and to correct."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import flag, opt
from dymn_cli.cli.options.events import EventSelect, EventTime
from dymn_cli.cli.options.filters import AudioRoot, FromFormat
from dymn_cli.cli.options.groups import BatchOptions, Force, InputOptions, ModelOptions
from dymn_cli.cli.options.panels import OUTPUT
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.errors import UsageError
from dymn_cli.remote.uri import is_uri, named
from dymn_cli.values import listed

if TYPE_CHECKING:
    from dymn_cli.cli.batch_run.events import EventAnalysis
    from dymn_cli.cli.batch_run.places import Places
    from dymn_cli.report.gather import Gathering, Sampling
    from dymn_cli.report.locate import Recordings
    from dymn_cli.report.model import Report, Sound

__all__ = ["register"]

HELP = """Make a page to look at, listen to and review what was found.

  dymn report recordings/ -o report.html
  dymn report events.csv --audio recordings/ -o report.html
  dymn report events.csv --map lib.npy

INPUT is recordings, in which events are found as dymn events does, or finished results of dymn events or
dymn tag --windows, in any format that dymn convert reads.

The page is one file that needs no network: an overview, a time line with spectrogram and events of each
recording, and a review: keep, reject or relabel an event by key. It links to the recordings, so keep them
where they are; --embed-audio copies short ones into it. Review exports a table that dymn eval --truth and
dymn finetune read; --review FILE goes on from it.
"""

PAGE_PANEL = "The page"
SUFFIXES = (".html", ".htm")


@dataclass(frozen=True, slots=True)
class PageOptions:
    """What the page holds."""

    out: Annotated[
        str,
        opt("-o --out", "FILE.html", "Write to FILE; - is stdout.", OUTPUT),
    ] = "report.html"
    force: Force = False
    title: Annotated[
        str | None,
        opt("--title", "TEXT", "Heading (default: what the inputs are called).", PAGE_PANEL),
    ] = None
    embed_audio: Annotated[
        bool,
        flag(
            "--embed-audio",
            "Copy recordings up to 60 s into it, as MP3; 1 h in all.",
            PAGE_PANEL,
        ),
    ] = False
    map: Annotated[
        str | None,
        opt(
            "--map",
            "LIBRARY",
            "Add a map of this folder, or this result of dymn embed.",
            PAGE_PANEL,
        ),
    ] = None
    limit: Annotated[
        int,
        opt(
            "--limit",
            "N",
            "At most N events in all, chosen by --sample; all of --review if more.",
            PAGE_PANEL,
        ),
    ] = 10_000
    review: Annotated[
        str | None,
        opt("--review", "FILE.csv", "Go on from decisions that a page has exported.", PAGE_PANEL),
    ] = None
    sample: Annotated[
        str,
        opt(
            "--sample",
            "NAME",
            "How --limit chooses, and the order of the review: highest, lowest, threshold (near --around),"
            " random, balanced (evenly over the labels).",
            PAGE_PANEL,
        ),
    ] = "highest"
    around: Annotated[
        float,
        opt("--around", "X", "Score that --sample threshold is about.", PAGE_PANEL),
    ] = 0.5
    seed: Annotated[int, opt("--seed", "N", "Of --sample random and balanced.", PAGE_PANEL)] = 0


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "report", help=HELP)(report)


def report(
    inputs: InputOptions,
    page: PageOptions,
    model: ModelOptions,
    time: EventTime,
    select: EventSelect,
    batch: BatchOptions,
    messages: Messages,
    *,
    from_format: FromFormat = None,
    audio: AudioRoot = None,
) -> None:
    """Make the page."""
    from dymn_cli.cli.batch_run.events import EventAnalysis
    from dymn_cli.cli.batch_run.places import Places
    from dymn_cli.cli.batch_run.sources import named_sources, print_names
    from dymn_cli.report.decisions import read_decisions
    from dymn_cli.report.finished import are_results, gather_results
    from dymn_cli.report.gather import Gathering, Sampling
    from dymn_cli.report.locate import Recordings
    from dymn_cli.writers.target import input_guard, is_stdout

    if not is_stdout(page.out) and not page.out.lower().endswith(SUFFIXES):
        raise UsageError(f"--out {page.out}: a page ends in .html", hint=f"-o {page.out}.html")
    sampling = Sampling(
        limit=page.limit,
        order=page.sample,  # type: ignore[arg-type]  # checked there
        threshold=page.around,
        seed=page.seed,
    )
    inputs = replace(inputs, inputs=[*map(named, inputs.inputs)])
    finished = from_format is not None or are_results(inputs.inputs)
    if finished and (select != EventSelect() or time != EventTime()):
        raise UsageError(
            "options of how events are found, and a finished result, in which they are found already",
            hint="dymn convert filters results",
        )
    if inputs.dry_run:
        print_names(named_sources(inputs, batch.shard, messages)[1], messages, null=inputs.null)
        return
    streams = [name for name in inputs.inputs if name == "-" or _is_pipe(name)]
    if streams and not finished:
        raise UsageError(
            f"a page cannot link to {'standard input' if streams[0] == '-' else f'{streams[0]}, a pipe'}",
            hint="give the name of a file; for a result: --from jsonl -",
        )
    places = Places(page.out, format_name="html", force=page.force)
    gathering = Gathering(sampling, () if page.review is None else read_decisions(page.review))
    beside = [str(Path(name).parent) for name in inputs.inputs if not is_uri(name)] if finished else ()
    recordings = Recordings(audio, beside, inputs.inputs if finished else ())
    making = _Making(inputs, page, model, batch, messages, sampling, gathering, recordings)
    if not finished:
        places.check(inputs.failures)
        _from_recordings(making, EventAnalysis(inputs, model, time, select), places, model.threads)
        return
    places.check(None)
    input_guard(page.out)(*inputs.inputs)
    found_by = gather_results(inputs.inputs, gathering, format_name=from_format)
    found = gathering.finish()
    if not found.overview.n_spans:
        messages.warning(
            f"{inputs.inputs[0]}: no events in this result", "the page shows its recordings only"
        )
    names = ["standard input" if name == "-" else name for name in inputs.inputs]
    made_by = f"From {listed(names, 3)}{f', found by {found_by}' if found_by else ''}"
    making.write(found, made_by, force=page.force)


def _is_pipe(name: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(name).st_mode)  # noqa: PTH116 - names may be bytes
    except (OSError, ValueError):
        return False


def _from_recordings(making: _Making, analysis: EventAnalysis, places: Places, threads: int | None) -> None:
    from dymn_cli.cli.batch_run.run import open_run
    from dymn_cli.report.model import Span

    inputs, gathering = making.inputs, making.gathering
    with open_run(analysis, inputs, making.batch, making.messages, places, threads=threads) as run:

        def take(name: str) -> None:
            for result in analysis.read(run.reader, name):
                gathering.add(
                    name,
                    (
                        Span(one.start_s, one.end_s, one.label, one.mid, one.score, one.channel)
                        for one in result.events
                    ),
                    duration_s=result.duration_s,
                    rate_hz=result.audio.rate_hz,
                    channels=result.audio.channels,
                    notes=run.reader.damage.get(name, ()),
                )

        outcome = run.go(take, gathering.fail, fail_fast=inputs.fail_fast)
        run.save_lists(outcome, inputs.failures)
        run.require_result(outcome)
        if outcome.n_results:
            on = dict(run.provenance.options)["on"]
            making.write(
                gathering.finish(),
                f"Found by {run.provenance.model.name}, from a score of {on:g}",
                force=run.force,
            )
        run.end(outcome)
    run.finish(outcome)


@dataclass(frozen=True, slots=True)
class _Making:
    """All that a page is made with."""

    inputs: InputOptions
    page: PageOptions
    model: ModelOptions
    batch: BatchOptions
    messages: Messages
    sampling: Sampling
    gathering: Gathering
    recordings: Recordings

    def write(self, found: Report, made_by: str, *, force: bool) -> None:
        """Hear the recordings, and write the page."""
        from dymn_cli.report.page import write_page
        from dymn_cli.values import counted
        from dymn_cli.writers.target import open_target

        page, messages = self.page, self.messages
        library_map = None
        if page.map is not None:
            from dymn_cli.cli.batch_run.library_map import map_of

            library_map = map_of(page.map, found, self.recordings, self.model, messages)
        sounds = self._sounds(found)
        notices = []
        if found.carried:
            text = f"{counted(len(found.carried), 'decision')} of {page.review} fit no event of this page"
            notices.append(f"{text}; they are kept and exported again.")
            messages.warning(text, "they are kept in it, and exported again")
        if found.left_out:
            messages.note(found.left_out)
        names = [Path(name).resolve().name or name for name in self.inputs.inputs if name != "-"]
        data = write_page(
            found,
            sounds,
            self.sampling,
            title=page.title or listed(names, 3) or "Sound events",
            made_by=made_by,
            notices=notices,
            library_map=library_map,
        )
        with open_target(page.out, force=force) as target:
            target.stream.write(data)

    def _sounds(self, found: Report) -> list[Sound]:
        """Pictures and links of all recordings, several at the same time."""
        from dymn_cli.cores import usable_cores
        from dymn_cli.report.sound import duration_of, hear_source, plan_pictures
        from dymn_cli.values import counted
        from dymn_cli.writers.target import is_stdout

        page, messages = self.page, self.messages
        durations = [
            duration_of(source.name, self.recordings) if source.duration_s is None else source.duration_s
            for source in found.sources
        ]
        plans = plan_pictures(found.sources, durations, embed=page.embed_audio)
        path = None if is_stdout(page.out) else Path(page.out)
        hear = partial(hear_source, recordings=self.recordings, page=path, channel=self.inputs.channel)
        sounds = []
        with (
            messages.progress(len(plans), shared_with_results=False) as tally,
            ThreadPoolExecutor(self.batch.jobs or usable_cores()) as pool,
        ):
            try:
                for source, sound in zip(found.sources, pool.map(hear, found.sources, plans), strict=True):
                    sounds.append(sound)
                    tally.advance(source.name, sound.duration_s or 0.0)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        without = [sound.problem for sound in sounds if sound.problem]
        if without:
            messages.warning(f"{counted(len(without), 'recording')} without sound in the page: {without[0]}")
        if page.embed_audio and (n_linked := sum(not plan.embeds for plan in plans)):
            were = "was" if n_linked == 1 else "were"
            messages.note(
                f"{counted(n_linked, 'recording')} {were} too long to be copied into the page: linked"
            )
        return sounds
