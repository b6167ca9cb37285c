"""`dymn search`: the recordings of a library that sound like some examples."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dymn_cli.cli.batch_run.library import LibraryName, UseIndex, index_of, library_of, recordings_of
from dymn_cli.cli.options.command import command
from dymn_cli.cli.options.declare import arg, flag, opt
from dymn_cli.cli.options.filters import AudioRoot
from dymn_cli.cli.options.groups import FileOptions, ModelOptions
from dymn_cli.cli.options.panels import OUTPUT
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.tables import choose_form
from dymn_cli.errors import InputError, OutputError, PartialFailure, UsageError
from dymn_cli.results import Failure
from dymn_cli.values import nearest

if TYPE_CHECKING:
    from dymn_cli.cli.views.search import Answers
    from dymn_cli.search import Index, Match
    from dymn_cli.search.query import Embedder

__all__ = ["register"]

HELP = """Search a library for sounds like this one.

  dymn search lib.npy query.wav
  dymn search recordings/ query.wav --start 12 --end 15 -k 50
  dymn search lib.npy --like "drums/kick 03.wav" --not hat.wav

LIBRARY is what dymn embed wrote (npy, parquet, csv, jsonl), or a folder: its index is made, kept in the cache
folder and brought up to date. Queries are files, folders or - for standard input, each searched for by itself
with the library's model and windows. Several --like are one query: their mean, less half of that of --not.

Similarity is 0 for two random recordings of the library and 1 for equal ones. Most altered copies have 0.8 or
more: dymn duplicates finds those.

Formats: table, tsv, csv, json, jsonl, m3u8. Exit code 1: nothing is similar enough (--min-similarity).
"""

QUERY = "What to look for"
MAX_COMPARED = 10_000  # rows whose names are compared with one that there is not; a second for 100,000


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
    library: LibraryName,
    queries: Annotated[list[str] | None, arg("QUERY", "Files, folders, or -.")] = None,
    *,
    query: QueryOptions,
    found: FoundOptions,
    use_index: UseIndex = None,
    audio: AudioRoot = None,
    model: ModelOptions,
    messages: Messages,
) -> None:
    """Print what is most like each query."""
    from dymn_cli.cli.views.search import copy_recordings, write_matches
    from dymn_cli.writers.target import input_guard, is_stdout

    given = queries or []
    if given and (query.like or query.unlike):
        raise UsageError("queries and --like or --not", hint="give all examples as --like NAME")
    if not given and not query.like:
        raise UsageError("nothing to look for", hint="give a recording, or --like NAME")
    if query.like and (query.start is not None or query.end is not None):
        raise UsageError("--start and --end are for a query, not for --like")
    if query.top < 1:
        raise UsageError(f"-k {query.top} leaves nothing to find", hint="-k 1 or more")
    if library == "-" and "-" in given:
        raise UsageError("standard input cannot be both the library and a query")
    form = _form(found)
    _check_places(found)
    input_guard(found.out)(library, *given, *query.like, *query.unlike)
    recordings = recordings_of(library, audio)
    index = index_of(library_of(library, model, messages), use_index, messages)
    found_by = (
        _like(index, library, query, model) if query.like else _each(index, given, query, model, messages)
    )
    answers: Answers = [
        (name, answer if isinstance(answer, Failure) else _similar(answer, query.min_similarity))
        for name, answer in found_by
    ]
    n_missing = 0
    if is_stdout(found.out) or not all(isinstance(answer, Failure) for _, answer in answers):
        write_matches(answers, index, form, found.out, recordings, messages, force=found.force)
        if found.copy_to is not None:
            n_missing = copy_recordings(answers, Path(found.copy_to), recordings, messages)
    _end(answers, n_missing, messages)


def _similar(matches: list[Match], least: float) -> list[Match]:
    return [match for match in matches if match.similarity >= least]


def _form(found: FoundOptions) -> str:
    from dymn_cli.cli.views.search import MATCH_FORMATS

    suffix = Path(found.out or "").suffix[1:].lower()
    name = found.format or (suffix if suffix in MATCH_FORMATS else None)
    if name is None and found.out not in (None, "-"):
        name = "tsv"
    return choose_form(name, MATCH_FORMATS)


def _check_places(found: FoundOptions) -> None:
    """Say before any work is done that nothing could be written."""
    from dymn_cli.writers.beside import is_left_over, meta_of
    from dymn_cli.writers.target import check_target, is_stdout

    if found.out is not None and not is_stdout(found.out):
        check_target(found.out, force=found.force)
        meta = meta_of(found.out)
        check_target(meta, force=found.force or is_left_over(meta, found.out))
    if found.copy_to is not None and os.path.lexists(found.copy_to) and not Path(found.copy_to).is_dir():
        raise OutputError(f"--copy-to {found.copy_to}: not a folder")


def _end(answers: Answers, n_missing: int, messages: Messages) -> None:
    """End with the exit code of the contract."""
    from dymn_cli.batch.run import Outcome
    from dymn_cli.cli.batch_run.watcher import finish

    failures = [answer for _, answer in answers if isinstance(answer, Failure)]
    outcome = Outcome(n_done=len(answers) - len(failures), failures=failures)
    finish(outcome, alone=len(answers) == 1)
    if n_missing:
        raise PartialFailure(f"recordings not copied: {n_missing}", hint="--audio ROOT says where they are")
    if not any(answer for _, answer in answers):
        messages.note("nothing is similar enough")
        raise typer.Exit(1)


# ---------------------------------------------------------------------- answers


def _embedder(index: Index, model: ModelOptions) -> Embedder:
    from dymn_cli.search.query import Embedder

    return Embedder(
        index.library,
        model=model.model[0] if model.model else None,
        backend=model.backend,
        device=model.device,
        threads=model.threads,
    )


def _like(index: Index, library: str, query: QueryOptions, model: ModelOptions) -> Answers:
    examples: list[list[str | int]] = []
    for names in (query.like, query.unlike):
        rows: list[str | int] = []
        for name in names:
            known = index.rows_of(name)
            if not known and not os.path.exists(name):  # noqa: PTH110 - names may be bytes
                near = {Path(place.source).name for place in index.library.places[:MAX_COMPARED]}
                raise UsageError(
                    f"{name}: neither in {library} nor a file", hint=nearest(Path(name).name, near)
                )
            rows += known or [name]
        examples.append(rows)
    like, unlike = examples
    if any(isinstance(one, str) for one in (*like, *unlike)):
        index.embedder = _embedder(index, model)
    skip = [one for one in like if isinstance(one, int)]
    name = " + ".join(query.like) + "".join(f" - {one}" for one in query.unlike)
    return [(name, index.search(*like, unlike=unlike, top=query.top, skip=skip))]


def _each(
    index: Index, given: list[str], query: QueryOptions, model: ModelOptions, messages: Messages
) -> Answers:
    import numpy as np

    from dymn_cli.cli.batch_run.sources import found_sources, open_source

    embed = _embedder(index, model)
    sources = list(found_sources(FileOptions(inputs=given), messages))
    names, vectors, failures = [], [], {}
    with messages.progress(len(sources), shared_with_results=True) as tally:
        for n, source in enumerate(sources):
            name = source.name
            try:
                if source.problem is not None:
                    raise source.problem
                vector = embed(open_source(name), name=name, start_s=query.start, end_s=query.end)
            except InputError as error:
                failures[n] = Failure.of(name, error)
                if len(sources) > 1:
                    messages.failure(failures[n])
            else:
                vectors.append(vector)
            names.append(name)
            tally.advance(name, 0.0, failed=n in failures)
    found = iter(index.search_each(np.stack(vectors), top=query.top) if vectors else ())
    return [(name, failures[n] if n in failures else next(found)) for n, name in enumerate(names)]
