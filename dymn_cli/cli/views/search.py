"""What `dymn search` found: as a table, as rows, as JSON, as a playlist, and as copies of the recordings."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.tables import draw, grid, print_bytes
from dymn_cli.errors import InputError, OutputError, os_errors_as
from dymn_cli.results import Failure

if TYPE_CHECKING:
    from typing import BinaryIO

    from rich.table import Table

    from dymn_cli.report.locate import Recordings
    from dymn_cli.search import Index, Match

__all__ = ["MATCH_FORMATS", "Answers", "copy_recordings", "write_matches"]

MATCH_FORMATS = ("table", "tsv", "csv", "json", "jsonl", "m3u8")
COLUMNS = ("query", "rank", "similarity", "source", "channel", "start_s", "end_s")
MAX_STEM, MAX_SUFFIX = 80, 8

Answers = list["tuple[str, list[Match] | Failure]"]


def write_matches(
    answers: Answers,
    index: Index,
    form: str,
    out: str | None,
    recordings: Recordings,
    messages: Messages,
    *,
    force: bool,
) -> None:
    """Write what was found.

    Args:
        answers: a query and its matches, or why there are none.
        index: was searched.
        form: one of `MATCH_FORMATS`.
        out: a file; None or "-" for standard output.
        force: replace what exists.
        recordings: finds them, for links.
        messages: has the console.

    Raises:
        OutputError: it cannot be written.
    """
    from dymn_cli.writers.beside import meta_of, open_beside
    from dymn_cli.writers.meta import meta_document
    from dymn_cli.writers.target import is_stdout, open_target, together

    if form == "table" and is_stdout(out):
        draw(messages.stdout_console(), _table(_rows(answers), several=len(answers) > 1))
        return
    if form in ("json", "jsonl"):
        data = _json(answers, index, form)
    elif form == "m3u8":
        data = _playlist(answers, recordings, out, messages)
    else:
        data = _lines(answers, form)
    if is_stdout(out):
        print_bytes(data)
        return
    made_by = index.library.provenance
    main = open_target(out, force=force)
    has_meta = main.is_file and made_by is not None and form in ("csv", "tsv", "table")
    meta = [open_beside(meta_of(str(out)), str(out), force=force)] if has_meta else []
    with together(main, *meta):
        main.stream.write(data)
        if made_by is not None:
            for target in meta:
                target.stream.write(meta_document(made_by))


def _rows(answers: Answers) -> list[tuple[str, Match]]:
    return [
        (name, match) for name, matches in answers if not isinstance(matches, Failure) for match in matches
    ]


def _lines(answers: Answers, form: str) -> bytes:
    from dymn_cli.writers.to_csv import csv_line
    from dymn_cli.writers.to_tsv import tsv_line

    line = csv_line if form == "csv" else tsv_line
    head = [line(COLUMNS)] if form == "csv" else []
    return b"".join(
        [*head, *(line((name, match.rank, match.similarity, *match.place)) for name, match in _rows(answers))]
    )


def _json(answers: Answers, index: Index, form: str) -> bytes:
    from dymn_cli.writers.spelling import readable
    from dymn_cli.writers.to_json import (
        error_object,
        json_array,
        json_lines,
        provenance_fields,
        source_fields,
    )

    def document(name: str, answer: list[Match] | Failure) -> dict[str, Any]:
        if isinstance(answer, Failure):
            return error_object(answer)
        matches = [
            {
                "rank": match.rank,
                "similarity": match.similarity,
                **source_fields(match.place.source),
                "channel": match.place.channel,
                "start_s": match.place.start_s,
                "end_s": match.place.end_s,
            }
            for match in answer
        ]
        made_by = provenance_fields(index.library.provenance)
        return {"schema": "dymn.search/1", "query": readable(name), "matches": matches, **made_by}

    documents = (document(name, answer) for name, answer in answers)
    return json_array(documents) if form == "json" else json_lines(documents)


def _playlist(answers: Answers, recordings: Recordings, out: str | None, messages: Messages) -> bytes:
    """Extended M3U in UTF-8 (RFC 8216, 4.1): each recording once, relative to where the list lies.

    A line is a name, so one with a line end in it is left out.
    """
    from dymn_cli.writers.spelling import name_bytes, visible
    from dymn_cli.writers.target import is_stdout

    base = os.curdir if is_stdout(out) else os.path.dirname(os.path.realpath(str(out)))  # noqa: PTH120
    lines = [b"#EXTM3U"]
    for source in dict.fromkeys(match.place.source for _, match in _rows(answers)):
        try:
            path = recordings.path_of(source)
        except InputError:
            path = source
        path = os.path.relpath(path, base)
        if set("\r\n") & set(path):
            messages.warning(f"{visible(source)}: left out: m3u8 has no names with line ends")
            continue
        lines.append(name_bytes(f"./{path}" if path.startswith("#") else path))
    return b"\n".join(lines) + b"\n"


def _table(rows: list[tuple[str, Match]], *, several: bool) -> Table:
    from dymn_cli.writers.spelling import visible

    query = [("query", {"style": "dim"})] if several else []
    table = grid(
        *query, ("similarity", {"justify": "right"}), ("start", {"justify": "right"}), ("source", {})
    )
    for name, match in rows:
        first = [visible(name)] if several else []
        place = match.place
        table.add_row(*first, f"{match.similarity:.3f}", f"{place.start_s:.2f}", visible(place.source))
    return table


def copy_recordings(answers: Answers, folder: Path, recordings: Recordings, messages: Messages) -> int:
    """Copy recordings under portable names, the most similar first; files that are there stay.

    Returns:
        How many could not be read.

    Raises:
        OutputError: one cannot be written.
    """
    from dymn_cli.cutting.names import portable
    from dymn_cli.values import counted
    from dymn_cli.writers.target import open_target

    n_copied = n_missing = 0
    sources = dict.fromkeys(match.place.source for _, match in _rows(answers))
    with os_errors_as(OutputError, folder):
        folder.mkdir(parents=True, exist_ok=True)
    for number, source in enumerate(sources, start=1):
        stem, dot, suffix = os.path.basename(source).rpartition(".")  # noqa: PTH119 - names may be bytes
        name = portable(stem if dot else suffix, MAX_STEM)
        end = f".{portable(suffix, MAX_SUFFIX)}" if dot else ""
        target = folder / f"{number:03d}_{name}{end}"
        if os.path.lexists(target):
            messages.warning(f"{target}: exists, and is kept")
            continue
        try:
            stream = _open_regular(recordings.path_of(source))
        except InputError as error:
            messages.warning(error.message, error.hint)
            n_missing += 1
            continue
        with stream, open_target(str(target), follow=False) as file:
            shutil.copyfileobj(stream, file.stream)
        n_copied += 1
    messages.note(f"{counted(n_copied, 'recording')} copied to {folder}")
    return n_missing


def _open_regular(path: str) -> BinaryIO:
    """Open a file that is one: a named pipe would wait for ever."""
    with os_errors_as(InputError, path):
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - names may be bytes
            raise InputError(f"{path}: not a regular file")
        return open(path, "rb")  # noqa: PTH123 - likewise; the caller closes it
