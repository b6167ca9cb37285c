"""`dymn demo`: what tagging does, on clips that ship."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import flag, opt
from dymn_cli.cli.options.groups import ModelName
from dymn_cli.cli.options.panels import OUTPUT as OUTPUT_PANEL
from dymn_cli.cli.options.panels import SELECT as SELECT_PANEL
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.streams import is_terminal
from dymn_cli.cli.terminal.tables import print_bytes, rendered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from dymn_cli.demo import DemoClip
    from dymn_cli.results import ClipResult
    from dymn_cli.tagging.tagger import Tagger
    from dymn_cli.writers import WriterOptions

__all__ = ["register"]

FORMATS = ("table", "tsv", "csv", "json", "jsonl")

HELP = """Tag the clips that ship with dymn.

  dymn demo
  dymn demo --path

Formats, as of dymn tag: table, tsv, csv, json, jsonl.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "demo", help=HELP)(demo)


def demo(
    *,
    path: Annotated[bool, flag("--path", "Print the paths of the clips.", OUTPUT_PANEL)] = False,
    form: Annotated[
        str | None, opt("-f --format", "FORMAT", "Default: a table on a terminal, else tsv.", OUTPUT_PANEL)
    ] = None,
    top: Annotated[int, opt("-k --top", "N", "At most N tags.", SELECT_PANEL)] = 3,
    model: ModelName = "dymn04_kd",
    messages: Messages,
) -> None:
    """Tag the clips, or say where they are."""
    if path:
        _print_paths()
        return
    from dymn_cli.demo import demo_clips
    from dymn_cli.tagging.options import TagOptions
    from dymn_cli.tagging.tagger import Tagger
    from dymn_cli.writers import choose_format

    default = "table" if is_terminal(sys.stdout) else "tsv"
    chosen = choose_format(form, None, default=default, formats=FORMATS)
    with Tagger(model, options=TagOptions(top=top)) as tagger:
        tagged = ((clip, tagger.tag(clip.path, name=clip.path.name)) for clip in demo_clips())
        if chosen == "table":
            _draw(tagged, _writing(tagger), messages.stdout_console())
        else:
            _write(tagged, chosen, _writing(tagger), messages)
    if is_terminal(sys.stdout):
        messages.note("next, a file of your own: dymn tag FILE; dymn demo --path prints where these are")


def _print_paths() -> None:
    from dymn_cli.demo import demo_clips
    from dymn_cli.writers.spelling import name_bytes

    print_bytes(b"".join(name_bytes(str(clip.path)) + b"\n" for clip in demo_clips()))


def _writing(tagger: Tagger) -> WriterOptions:
    from dymn_cli.batch.job import ModelDescription
    from dymn_cli.cli.batch_run.provenance import provenance_of
    from dymn_cli.writers import WriterOptions

    top = tagger.options.top or len(tagger.vocabulary)
    return WriterOptions(provenance=provenance_of(ModelDescription.of(tagger), tagger.options), top=top)


def _write(
    tagged: Iterator[tuple[DemoClip, ClipResult]], form: str, writing: WriterOptions, messages: Messages
) -> None:
    from dymn_cli.writers import open_tags

    with open_tags(None, form, writing) as writer:
        for clip, result in tagged:
            messages.note(f"{clip.path.name}: {clip.description}")
            writer.write(result)


def _draw(tagged: Iterator[tuple[DemoClip, ClipResult]], writing: WriterOptions, console: Console) -> None:
    """Print a block a clip: its heading, what it is, its tags; that it is short is no news."""
    from io import BytesIO

    from rich.padding import Padding
    from rich.text import Text

    from dymn_cli.writers.to_table import TableTags

    for n, (clip, result) in enumerate(tagged):
        stream = BytesIO()
        TableTags(stream, writing, console).write(dataclasses.replace(result, warnings=()))
        heading, _, tags = stream.getvalue().partition(b"\n")
        caption = rendered(console, Padding(Text(clip.description, "italic"), (0, 0, 0, 2)))
        print_bytes((b"\n" if n else b"") + heading + b"\n" + caption + tags, styled=True)
