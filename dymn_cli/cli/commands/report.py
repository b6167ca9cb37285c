"""`dymn report`: one page to look at, to listen to and to correct."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dymn_cli.cli.commands.events import EventSelect, EventTime, cut_options, event_options, event_provenance
from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import flag, opt
from dymn_cli.cli.options.groups import BatchOptions, InputOptions, ModelOptions, OutputOptions, TalkOptions
from dymn_cli.cli.options.panels import OUTPUT as OUTPUT_PANEL
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.errors import UsageError

if TYPE_CHECKING:
    from dymn_cli.batch.pool import ModelDescription
    from dymn_cli.batch.run import Outcome
    from dymn_cli.report.gather import Gathering, Sampling
    from dymn_cli.report.locate import AudioPlaces
    from dymn_cli.report.model import Report, Sound
    from dymn_cli.writers import Provenance

__all__ = ["register"]

HELP = """Make a page to look at, listen to and review what was found.

  dymn report recordings/ -o report.html
  dymn report events.csv --audio recordings/ -o report.html

INPUT is recordings, in which events are found as dymn events does, or finished results of dymn events or
dymn tag --windows, in any format that dymn convert reads.

The page is one file that needs no network: an overview, a time line with spectrogram and events of each
recording, and a review: keep an event, reject it, or give it another label, by key. It links to the
recordings, so keep them where they are beside it; --embed-audio copies short ones into it.

Review exports a table that dymn eval --truth and dymn finetune read; --review FILE goes on from it.
"""

PAGE_PANEL = "The page"
SUFFIXES = (".html", ".htm")


@dataclass(frozen=True, slots=True)
class PageOptions:
    """What the page holds."""

    out: Annotated[
        str,
        opt("-o --out", "FILE.html", "Write to FILE; - for standard output.", OUTPUT_PANEL),
    ] = "report.html"
    force: Annotated[bool, flag("--force", "Replace FILE if it exists.", OUTPUT_PANEL)] = False
    title: Annotated[
        str | None,
        opt("--title", "TEXT", "Heading of the page (default: what the inputs are called).", PAGE_PANEL),
    ] = None
    audio: Annotated[
        str | None,
        opt("--audio", "DIR", "Where the recordings of a finished result are now.", PAGE_PANEL),
    ] = None
    format: Annotated[
        str | None,
        opt(
            "--from",
            "FORMAT",
            "The format of a finished result (default: by what it begins with).",
            PAGE_PANEL,
        ),
    ] = None
    embed_audio: Annotated[
        bool,
        flag(
            "--embed-audio",
            "Copy recordings of up to a minute into the page, as MP3; an hour in all.",
            PAGE_PANEL,
        ),
    ] = False
    limit: Annotated[
        int,
        opt("--limit", "N", "At most N events; the page says what is left out.", PAGE_PANEL),
    ] = 10_000
    review: Annotated[
        str | None,
        opt("--review", "FILE.csv", "Go on from decisions that a page has exported.", PAGE_PANEL),
    ] = None
    sample: Annotated[
        str,
        opt(
            "--sample",
            "highest|lowest|threshold|random|balanced",
            "Which events come first in the review, and are kept by --limit; balanced: random, by label.",
            PAGE_PANEL,
        ),
    ] = "highest"
    around: Annotated[
        float,
        opt("--around", "X", "The score that --sample threshold is about.", PAGE_PANEL),
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
    talking: TalkOptions,
) -> None:
    """Make the page."""
    from dymn_cli.cli.batch_run.places import Places, require_writable
    from dymn_cli.cli.batch_run.run import dry_run
    from dymn_cli.report.decisions import read_decisions
    from dymn_cli.report.finished import are_results
    from dymn_cli.report.gather import Gathering, Sampling
    from dymn_cli.report.locate import AudioPlaces
    from dymn_cli.writers.target import is_stdout

    talk = Messages.of(talking)
    if not is_stdout(page.out) and not page.out.lower().endswith(SUFFIXES):
        raise UsageError(f"--out {page.out}: a page is called .html", hint=f"-o {page.out}.html")
    sampling = Sampling(
        limit=page.limit,
        order=page.sample,  # type: ignore[arg-type]  # checked there
        threshold=page.around,
        seed=page.seed,
    )
    finished = page.format is not None or are_results(inputs.inputs)
    if inputs.dry_run:
        dry_run(inputs, batch, talk)
        return
    if "-" in inputs.inputs:
        raise UsageError("a page cannot link to standard input", hint="give the name of a file")
    output = OutputOptions(out=page.out, force=page.force)
    gathering = Gathering(sampling, read_decisions(page.review) if page.review is not None else ())
    if finished:
        if select != EventSelect() or time != EventTime():
            raise UsageError(
                "options of how events are found, and a finished result, in which they are found already",
                hint="dymn convert filters results",
            )
        require_writable(output, Places(None if is_stdout(page.out) else page.out))
        _from_results(inputs, page, gathering, sampling, talk, batch)
        return
    require_writable(output, failures=inputs.failures)
    places = AudioPlaces(page.audio)
    _from_recordings(inputs, page, model, time, select, output, batch, gathering, sampling, places, talk)


def _from_results(
    inputs: InputOptions,
    page: PageOptions,
    gathering: Gathering,
    sampling: Sampling,
    talk: Messages,
    batch: BatchOptions,
) -> None:
    from dymn_cli.report.finished import gather_results
    from dymn_cli.report.locate import AudioPlaces

    places = AudioPlaces(page.audio, [str(Path(name).parent) for name in inputs.inputs])
    model = gather_results(inputs.inputs, gathering, format_name=page.format)
    found = gathering.finish()
    if not found.overview.n_spans:
        talk.warning(f"{inputs.inputs[0]}: no events in this result", "the page shows its recordings only")
    sounds = _sounds(found, page, places, inputs.channel, batch, talk)
    made_by = f"From {_listed(inputs.inputs)}{f', found by {model}' if model else ''}"
    _write(found, sounds, sampling, page, inputs.inputs, made_by, talk, force=page.force)


def _from_recordings(
    inputs: InputOptions,
    page: PageOptions,
    model: ModelOptions,
    time: EventTime,
    select: EventSelect,
    output: OutputOptions,
    batch: BatchOptions,
    gathering: Gathering,
    sampling: Sampling,
    places: AudioPlaces,
    talk: Messages,
) -> None:
    from dymn_cli.cli.batch_run.places import Places
    from dymn_cli.cli.batch_run.provenance import work_of
    from dymn_cli.cli.batch_run.run import finish, open_run, save_lists
    from dymn_cli.report.model import Span
    from dymn_cli.tagging.thresholds import read_thresholds

    thresholds = read_thresholds(select.thresholds)
    wanted = event_options(select, thresholds)
    cut = cut_options(inputs, time, wanted)

    def describe(facts: ModelDescription) -> Provenance:
        thresholds.require_known(facts.vocabulary)
        return event_provenance(facts, cut, wanted)

    with open_run(
        work_of(model, cut, events=wanted),
        inputs,
        output,
        batch,
        talk,
        threads=model.threads,
        describe=describe,
    ) as run:

        def take(name: str) -> None:
            result = run.reader.events(name)
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

        outcome: Outcome = run.go(
            take,
            gathering.fail,
            fail_fast=inputs.fail_fast,
            results_on_terminal=False,
            notes_in_result=True,
        )
        save_lists(outcome, run, inputs, Places(output.out))
        run.require_result(outcome)
        if outcome.n_results:
            found = gathering.finish()
            sounds = _sounds(found, page, places, inputs.channel, batch, talk)
            made_by = f"Found by {run.provenance.model.name}, from a score of {wanted.on_score:g}"
            _write(found, sounds, sampling, page, inputs.inputs, made_by, talk, force=run.force)
        run.end(outcome)
    finish(outcome, alone=run.total == 1)


def _sounds(
    found: Report, page: PageOptions, places: AudioPlaces, channel: str, batch: BatchOptions, talk: Messages
) -> list[Sound]:
    """Pictures and links of all recordings, several at the same time."""
    from dymn_cli.report.sound import duration_of, hear_source, plan_pictures
    from dymn_cli.tagging.tagger import usable_cores
    from dymn_cli.writers.spelling import counted
    from dymn_cli.writers.target import is_stdout

    durations = [
        duration_of(source.name, places) if source.duration_s is None else source.duration_s
        for source in found.sources
    ]
    plans = plan_pictures(found.sources, durations, embed=page.embed_audio)
    path = None if is_stdout(page.out) else Path(page.out)
    hear = partial(hear_source, places=places, page=path, channel=channel)
    sounds = []
    with (
        talk.progress(len(plans), shared_with_results=False) as tally,
        ThreadPoolExecutor(batch.jobs or usable_cores()) as pool,
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
        talk.warning(f"{counted(len(without), 'recording')} without sound in the page: {without[0]}")
    if page.embed_audio and (n_linked := sum(not plan.embeds for plan in plans)):
        talk.note(f"{counted(n_linked, 'recording')} too long to be copied into the page: linked instead")
    return sounds


def _write(
    found: Report,
    sounds: Sequence[Sound],
    sampling: Sampling,
    page: PageOptions,
    inputs: Sequence[str],
    made_by: str,
    talk: Messages,
    *,
    force: bool,
) -> None:
    from dymn_cli.report.page import write_page
    from dymn_cli.writers.spelling import counted
    from dymn_cli.writers.target import open_target

    notices = []
    if found.carried:
        text = f"{counted(len(found.carried), 'decision')} of {page.review} fit no event of this page"
        notices.append(f"{text}; they are kept and exported again.")
        talk.warning(text, "they are kept in it, and exported again")
    if found.left_out:
        talk.note(found.left_out)
    data = write_page(
        found,
        sounds,
        sampling,
        title=page.title or _listed([Path(name).name or name for name in inputs]) or "Sound events",
        made_by=made_by,
        notices=notices,
    )
    with open_target(page.out, force=force) as target:
        target.stream.write(data)


def _listed(names: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    more = f" and {len(names) - 2} more" if len(names) > 3 else ""
    return ", ".join(names[:2] if more else names) + more
