"""`dymn info`: what a source says of itself and, when it is decoded, what is really there."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import flag, opt
from dymn_cli.cli.options.groups import FileOptions, ListOptions
from dymn_cli.cli.options.panels import INPUT, OUTPUT
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.streams import is_terminal
from dymn_cli.cli.terminal.tables import choose_form

__all__ = ["register"]

HELP = """Show format, rate, channels, duration and size of audio files.

  dymn info clip.wav
  dymn info recordings/ --decode -f jsonl

Reads headers only; --decode finds out what is really there. In a pipe, tab-separated: source, container,
codec, rate_hz, channels, duration_s, size_bytes; with --decode also decoded_s and warnings. What is not known
is empty. Formats: table, tsv, json, jsonl.
"""


@dataclass(frozen=True, slots=True)
class InfoOptions(ListOptions):
    """The form of the list."""

    format: Annotated[
        str | None,
        opt("-f --format", "table|tsv|json|jsonl", "Default: a table on a terminal, else tsv.", OUTPUT),
    ] = None


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "info", help=HELP)(info)


def info(
    inputs: FileOptions,
    *,
    decode: Annotated[bool, flag("--decode", "Decode everything and report what is there.", INPUT)] = False,
    listing: InfoOptions,
    messages: Messages,
) -> None:
    """Probe every source."""
    from dymn_cli.batch.job import Summary
    from dymn_cli.batch.run import Outcome
    from dymn_cli.cli.batch_run.sources import named_sources, parse_size, print_names
    from dymn_cli.cli.batch_run.watcher import Watcher, finish, save_failures
    from dymn_cli.cli.views.info import FORMS, printer, probe
    from dymn_cli.errors import InputError
    from dymn_cli.results import Failure

    form = choose_form(listing.format, FORMS)
    max_bytes = parse_size(inputs.max_input)
    listed, sources = named_sources(inputs, None, messages)
    if inputs.dry_run:
        print_names(sources, messages, null=inputs.null)
        return
    writer = printer(form, messages, decode=decode, header=listing.header)
    writer.begin()
    outcome, single = Outcome(), listed is not None and len(listed) == 1
    total = None if listed is None else len(listed)
    streams_to_terminal = form in ("tsv", "jsonl") and is_terminal(sys.stdout)
    with messages.progress(total, shared_with_results=streams_to_terminal) as tally:
        watcher = Watcher(messages, tally, single=single, notes_in_result=form == "table")
        try:
            for found in sources:
                try:
                    if found.problem is not None:
                        raise found.problem
                    probed = probe(found.name, decode=decode, most_bytes=max_bytes, strict=inputs.strict)
                except InputError as error:
                    failure = Failure.of(found.name, error)
                    outcome.failures.append(failure)
                    writer.fail(failure)
                    watcher.failed(failure)
                    outcome.stopped = inputs.fail_fast
                    if outcome.stopped:
                        break
                else:
                    outcome.n_done += 1
                    writer.write(probed)
                    watcher.done(found.name, Summary(probed.decoded_s or 0.0, probed.warnings))
        except KeyboardInterrupt:
            outcome.interrupted = True
    watcher.sum_up(outcome)
    writer.end()
    save_failures(outcome.failures, inputs.failures, None, messages)
    finish(outcome, alone=single)
