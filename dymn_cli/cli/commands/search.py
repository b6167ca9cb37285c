"""`dymn search`: the recordings of a library that sound like some examples."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import arg, flag, opt
from dymn_cli.cli.options.groups import ModelOptions
from dymn_cli.cli.options.panels import OUTPUT
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.tables import choose_form, draw, grid, json_document, print_bytes
from dymn_cli.errors import OutputError, UsageError, os_error_text

if TYPE_CHECKING:
    from rich.table import Table

    from dymn_cli.search import Index, Match

__all__ = ["register"]

HELP = """Search a library for sounds like this one.

  dymn search lib.npy query.wav
  dymn search recordings/ query.wav --start 12 --end 15 -k 50
  dymn search lib.npy --like "drums/kick 03.wav" --not hat.wav

LIBRARY is what dymn embed wrote (npy, parquet, csv, jsonl), or a folder, whose index is made, kept in the
cache folder and brought up to date. Queries are files, folders or - for standard input: each is searched
for by itself, with the library's model and windows. Several --like are one query: their mean, less half of
that of --not.

similarity: 0 as two random recordings of the library, 1 the same. dymn_cli.search.similarity says how it is
computed, and what altered copies have.

Formats: table, tsv, csv, json, jsonl, m3u8. Exit code 1: nothing is similar enough (--min-similarity).
"""

QUERY = "What to look for"
FORMATS = ("table", "tsv", "csv", "json", "jsonl", "m3u8")
COLUMNS = ("query", "rank", "similarity", "source", "channel", "start_s", "end_s")


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """What is looked for."""

    like: Annotated[
        list[str], opt("--like", "NAME", "A recording of the library, or a file. Repeat for more.", QUERY)
    ] = field(default_factory=list)
    unlike: Annotated[list[str], opt("--not", "NAME", "Less of this. Repeat for more.", QUERY)] = field(
        default_factory=list
    )
    start: Annotated[float | None, opt("--start", "S", "Only from here in the query.", QUERY)] = None
    end: Annotated[float | None, opt("--end", "S", "Only up to here in the query.", QUERY)] = None
    top: Annotated[int, opt("-k --top", "N", "The N most similar.", QUERY)] = 20
    min_similarity: Annotated[
        float, opt("--min-similarity", "X", "Only similarities of X or more.", QUERY)
    ] = 0.0


@dataclass(frozen=True, slots=True)
class FoundOptions:
    """Where what is found goes."""

    format: Annotated[
        str | None,
        opt("-f --format", "FORMAT", "Default: by --out, a table on a terminal, else tsv.", OUTPUT),
    ] = None
    out: Annotated[str | None, opt("-o --out", "FILE", "Write to FILE; - is standard output.", OUTPUT)] = None
    force: Annotated[bool, flag("--force", "Replace FILE if it exists.", OUTPUT)] = False
    copy_to: Annotated[
        str | None, opt("--copy-to", "DIR", "Copy the recordings to DIR; nothing is replaced.", OUTPUT)
    ] = None


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "search", help=HELP)(search)


def search(
    library: Annotated[str, arg("LIBRARY", "Embeddings, or a folder.")],
    queries: Annotated[list[str] | None, arg("QUERY", "Files, folders, or -.")] = None,
    *,
    query: QueryOptions,
    found: FoundOptions,
    index: Annotated[
        str | None, opt("--index", "FILE.npy", "Keep the index of a folder here.", OUTPUT)
    ] = None,
    model: ModelOptions,
    messages: Messages,
) -> None:
    """Print what is most like each query."""
    from dymn_cli.cli.batch_run.library import library_of
    from dymn_cli.search import Index

    given = queries or []
    if given and (query.like or query.unlike):
        raise UsageError("queries and --like or --not", hint="give examples as --like NAME, all of them")
    if not given and not query.like:
        raise UsageError("nothing to look for", hint="give a recording, or --like NAME")
    if query.like and (query.start is not None or query.end is not None):
        raise UsageError("--start and --end are for a query, not for --like")
    form = _form(found)
    searched = Index(library_of(library, index, model, messages))
    answers = _answers(searched, given, query, model)
    answers = {
        name: [match for match in matches if match.similarity >= query.min_similarity]
        for name, matches in answers.items()
    }
    _write(answers, form, found, messages)
    if found.copy_to is not None:
        _copy(answers, Path(found.copy_to), messages)
    if not any(answers.values()):
        messages.note("nothing is similar enough")
        raise typer.Exit(1)


def _answers(
    index: Index, given: list[str], query: QueryOptions, model: ModelOptions
) -> dict[str, list[Match]]:
    from dymn_cli.audio.discover import find
    from dymn_cli.cli.batch_run.sources import open_source
    from dymn_cli.search.query import Embedder

    def embedder() -> Embedder:
        return Embedder(
            index.library,
            model=model.model[0] if model.model else None,
            backend=model.backend,
            device=model.device,
            threads=model.threads,
        )

    if query.like:
        examples = []
        for names in (query.like, query.unlike):
            rows: list[str | int] = []
            for name in names:
                known = index.rows_of(name)
                if not known and not os.path.exists(name):  # noqa: PTH110
                    raise UsageError(f"{name}: neither in {index.library.name} nor a file")
                rows += known or [name]
            examples.append(rows)
        if any(isinstance(one, str) for one in (*examples[0], *examples[1])):
            index.embedder = embedder()
        skip = [one for one in examples[0] if isinstance(one, int)]
        name = " + ".join(query.like) + "".join(f" - {one}" for one in query.unlike)
        return {name: index.search(*examples[0], unlike=examples[1], top=query.top, skip=skip)}
    embed = embedder()
    answers = {}
    for source in find(iter(given)):
        if source.problem is not None:
            raise source.problem
        vector = embed(open_source(source.name), name=source.name, start_s=query.start, end_s=query.end)
        answers[source.name] = index.search(vector, top=query.top)
    return answers


def _form(found: FoundOptions) -> str:
    suffix = Path(found.out or "").suffix[1:].lower()
    name = found.format or (suffix if suffix in FORMATS else None)
    if name is None and found.out not in (None, "-"):
        name = "tsv"
    return choose_form(name, FORMATS)


def _write(answers: dict[str, list[Match]], form: str, found: FoundOptions, messages: Messages) -> None:
    from dymn_cli.writers.target import is_stdout, open_target
    from dymn_cli.writers.to_csv import csv_line
    from dymn_cli.writers.to_tsv import tsv_line

    rows = [_cells(name, match) for name, matches in answers.items() for match in matches]
    if form == "table" and is_stdout(found.out):
        console = messages.stdout_console()
        draw(console, _table(rows, several=len(answers) > 1))
        return
    if form in ("csv", "tsv", "table"):
        line = csv_line if form == "csv" else tsv_line
        head = [line(COLUMNS)] if form == "csv" else []
        data = b"".join([*head, *(line(row) for row in rows)])
    elif form == "m3u8":
        base = os.getcwd() if is_stdout(found.out) else os.path.dirname(os.path.abspath(str(found.out)))  # noqa: PTH109, PTH100, PTH120
        data = _playlist([match for matches in answers.values() for match in matches], base)
    else:
        objects = [dict(zip(COLUMNS, map(_json_cell, row), strict=True)) for row in rows]
        if form == "json":
            data = json_document({"schema": "dymn.search/1", "matches": objects})
        else:
            import json

            data = b"".join(
                json.dumps({"schema": "dymn.search/1", **one}, ensure_ascii=False).encode() + b"\n"
                for one in objects
            )
    if is_stdout(found.out):
        print_bytes(data)
        return
    with open_target(found.out, force=found.force) as target:
        target.stream.write(data)


def _json_cell(cell: object) -> object:
    from dymn_cli.writers.spelling import readable

    return readable(cell) if isinstance(cell, str) else cell


def _cells(name: str, match: Match) -> tuple[object, ...]:
    place = match.place
    return (name, match.rank, match.similarity, place.source, place.channel, place.start_s, place.end_s)


def _playlist(matches: list[Match], base: str) -> bytes:
    """Extended M3U in UTF-8 (RFC 8216, 4.1): each recording once, relative to where the list lies."""
    from dymn_cli.writers.spelling import name_bytes

    lines = [b"#EXTM3U"]
    for source in dict.fromkeys(match.place.source for match in matches):
        path = os.path.relpath(source, base)
        lines.append(name_bytes(f"./{path}" if path.startswith("#") else path).replace(b"\n", b" "))
    return b"\n".join(lines) + b"\n"


def _table(rows: list[tuple[object, ...]], *, several: bool) -> Table:
    from dymn_cli.writers.spelling import visible

    query = [("query", {"style": "dim"})] if several else []
    table = grid(
        *query, ("similarity", {"justify": "right"}), ("start", {"justify": "right"}), ("source", {})
    )
    for name, _, similarity, source, _, start_s, _ in rows:
        first = [visible(str(name))] if several else []
        table.add_row(*first, f"{similarity:.3f}", f"{start_s:.2f}", visible(str(source)))
    return table


def _copy(answers: dict[str, list[Match]], folder: Path, messages: Messages) -> None:
    """Copy recordings under portable names, the most similar first; files that are there stay."""
    from dymn_cli.cutting.names import portable
    from dymn_cli.writers.spelling import counted

    n_copied = 0
    sources = dict.fromkeys(match.place.source for matches in answers.values() for match in matches)
    for number, source in enumerate(sources, start=1):
        path = Path(source)
        target = folder / f"{number:03d}_{portable(path.stem, 80)}{path.suffix}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as stream, target.open("xb") as file:
                shutil.copyfileobj(stream, file)
        except FileExistsError:
            messages.warning(f"{target}: exists, and is kept")
            continue
        except OSError as exc:
            raise OutputError(os_error_text(str(target), exc)) from exc
        n_copied += 1
    messages.note(f"{counted(n_copied, 'recording')} copied to {folder}")
