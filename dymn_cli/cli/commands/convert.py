"""`dymn convert`: a result in another format."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import arg, opt
from dymn_cli.cli.options.filters import AudioRoot, FilterOptions, FromFormat
from dymn_cli.cli.options.groups import ResultOptions, Scores
from dymn_cli.cli.options.panels import OUTPUT, SELECT
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.streams import is_terminal
from dymn_cli.errors import UsageError

__all__ = ["register"]

HELP = """Convert or filter a result without hearing it again.

  dymn convert events.jsonl events.csv
  dymn convert events.csv -f raven -l Owl -t 0.3 -o owls.txt
  dymn convert emb.npy emb.parquet

Reads what dymn tag, events and embed write: csv, tsv, json, jsonl, parquet, npy, raven, audacity,
kaleidoscope, sed, rttm, srt, vtt; and tables of other programs with columns such as file, start, end and
label. Writes what holds the same: events, tags, or embeddings. - is standard input, or standard output.
Where the new format needs the length of a recording, its header is read (--audio ROOT).
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "convert", help=HELP)(convert)


def convert(
    source: Annotated[str, arg("RESULT", "The result, also at a URI, or - for standard input.")],
    target: Annotated[str | None, arg("OUT", "The file to write; its suffix is its format.")] = None,
    *,
    filters: FilterOptions,
    top: Annotated[
        int, opt("-k --top", "N", "The N best tags of a window, or events of a recording; 0 for all.", SELECT)
    ] = 0,
    from_format: FromFormat = None,
    audio: AudioRoot = None,
    output: ResultOptions,
    scores: Scores = False,
    precision: Annotated[
        int | None, opt("--precision", "N", "Decimals of scores (default: as in RESULT).", OUTPUT)
    ] = None,
    messages: Messages,
) -> None:
    """Convert a result."""
    from dymn_cli.audio.locate import Locator
    from dymn_cli.convert import (
        OBJECTS,
        ROWS_AT_A_TIME,
        Conversion,
        choose_target,
        write_folder,
        write_result,
    )
    from dymn_cli.readers import Selection, open_result
    from dymn_cli.writers import BINARY
    from dymn_cli.writers.target import is_stdout

    out, out_dir = _one_place(source, target, output), output.out_dir
    to_stdout = out_dir is None and is_stdout(out)
    to_terminal = to_stdout and is_terminal(sys.stdout)
    selection = Selection(filters.selection(top=top))
    chosen = choose_target(output.format, out)
    chunk = None if top or chosen in OBJECTS else ROWS_AT_A_TIME
    with open_result(source, format_name=from_format, chunk=chunk) as result:
        if chosen is None and result.kind == "embeddings":
            chosen = "npy" if out_dir is not None else "jsonl"
        name = chosen or ("csv" if out_dir is not None else "table" if to_terminal else "tsv")
        if to_terminal and name in BINARY:
            raise UsageError(f"{name} cannot be shown in a terminal", hint=f"-o FILE.{name}")
        conversion = Conversion(
            result,
            name,
            selection,
            Locator(audio),
            header=output.header,
            precision=precision,
            csv_safe=output.csv_safe,
            scores=scores,
        )
        if out_dir is None:
            console = messages.stdout_console() if name == "table" and to_stdout else None
            write_result(conversion, out, force=output.force, console=console)
        else:
            with open_result(source, format_name=from_format) as again:
                write_folder(conversion, out_dir, again, force=output.force)
    selection.require_known()
    if losses := conversion.losses():
        messages.warning(losses)
    if not selection.n_kept and result.kind != "embeddings":
        messages.warning(selection.why_nothing("event" if result.kind == "events" else "tag"))


def _one_place(source: str, target: str | None, output: ResultOptions) -> str | None:
    """Where the result goes; None for standard output, or for a folder.

    Raises:
        UsageError: several places, or the result itself.
    """
    if output.out is not None and target is not None:
        raise UsageError(f"two places to write to: {target} and -o {output.out}", hint="give one of them")
    from dymn_cli.writers.target import input_guard

    out = target if output.out is None else output.out
    if out is not None and output.out_dir is not None:
        raise UsageError("--out and --out-dir are two places for the same results", hint="give one of them")
    if output.out_dir is not None and source == "-":
        raise UsageError("--out-dir reads the result twice, standard input comes once", hint="name a file")
    input_guard(out)(source)
    return out
