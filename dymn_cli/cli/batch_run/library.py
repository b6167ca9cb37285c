"""The embeddings that `dymn search` and `dymn duplicates` work on: a file, or a folder whose index is kept.

    CACHE/search/KEY.npy, KEY.index.csv, KEY.meta.json     as dymn embed writes them
    CACHE/search/KEY.stamps.json                           size and time of change of each file it knows
    CACHE/search/KEY.lock                                  held while the index is brought up to date

KEY is a hash of the folder, the model and the version. Only new and changed files are embedded; the rows of
files that are gone are left out. The matrix is replaced first and the stamps last: a process that is killed
in between has those files embedded again. An index that is damaged is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from dymn_cli._version import __version__
from dymn_cli.atomic import atomic_write
from dymn_cli.audio.discover import find
from dymn_cli.cli.options.declare import arg, flag
from dymn_cli.cli.options.panels import BATCH
from dymn_cli.errors import InputError, OutputError, PartialFailure, os_error_text

if TYPE_CHECKING:
    from dymn_cli.cli.options.groups import ModelOptions
    from dymn_cli.cli.terminal.messages import Messages
    from dymn_cli.report.locate import Recordings
    from dymn_cli.search import Index, Library

__all__ = ["LibraryName", "UseIndex", "index_of", "library_of", "recordings_of"]

Stamps = dict[str, list[int]]
NPY = ".npy"

LibraryName = Annotated[str, arg("LIBRARY", "Embeddings, or a folder of recordings.")]

UseIndex = Annotated[
    bool | None,
    flag(
        "--index/--no-index",
        "Search a graph of neighbours, built once and kept, instead of every row (default: above a million"
        " rows; extra: search).",
        BATCH,
        show_default=False,
    ),
]


def library_of(path: str, model: ModelOptions, messages: Messages) -> Library:
    """Open a file of embeddings, or bring the index of a folder up to date and open that.

    Args:
        path: of the file or folder.
        model: makes the index of a folder.
        messages: says where it is.

    Raises:
        DymnError: it cannot be read or made.
    """
    from filelock import FileLock, Timeout

    from dymn_cli.search import open_library

    if not os.path.isdir(path):  # noqa: PTH112 - names may be bytes
        return open_library(path)
    out = _kept_at(path, model)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out.with_suffix(".lock"))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            messages.note(f"index of {path}: waiting for another dymn")
            lock.acquire()
        try:
            _refresh(path, out, model, messages)
            return open_library(str(out))
        finally:
            lock.release()
    except OSError as exc:
        raise OutputError(os_error_text(str(out), exc), hint="DYMN_HOME=DIR keeps it elsewhere") from exc


def index_of(library: Library, use_index: bool | None, messages: Messages) -> Index:
    """Open a library for searching.

    Args:
        library: where.
        use_index: see `UseIndex`.
        messages: says where a graph is kept, and what to install.

    Raises:
        DymnError: embeddings that are not finite, or a graph that cannot be opened or built.
    """
    from dymn_cli.search import Index
    from dymn_cli.search.approximate import is_installed
    from dymn_cli.search.index import MAX_EXACT

    if use_index is None and len(library.matrix) > MAX_EXACT and not is_installed():
        messages.note("every row is compared; pip install 'dymn[search]' to search a graph instead")

    def building(path: Path) -> None:
        messages.note(f"building a graph of {len(library.matrix):,} rows, once: {path}")

    return Index(library, approximate=use_index, building=building)


def recordings_of(library: str, audio: str | None) -> Recordings:
    """Finds the recordings of a library: below `audio`, or where their names say, from here or beside it.

    Raises:
        AudioNotFoundError: there is no such root.
    """
    from dymn_cli.report.locate import Recordings

    return Recordings(audio, (os.path.dirname(library) or ".",))  # noqa: PTH120 - names may be bytes


def _kept_at(folder: str, model: ModelOptions) -> Path:
    from dymn_cli.store.registry import cache_folder

    words = [os.path.realpath(folder), __version__]
    for name in model.models:
        words += [name, *map(str, _stamp(name) or ())]
    return (
        cache_folder() / "search" / f"{hashlib.sha256(os.fsencode(chr(0).join(words))).hexdigest()[:16]}{NPY}"
    )


def _refresh(folder: str, out: Path, model: ModelOptions, messages: Messages) -> None:
    found = [one.name for one in find([os.path.realpath(folder)]) if one.problem is None]
    now = {name: stamp for name in found if (stamp := _stamp(name)) is not None}
    if not now:
        raise InputError(f"{folder}: no audio in this folder")
    stamps = out.with_suffix(".stamps.json")
    old = _open_kept(out)
    before = {} if old is None else _read_stamps(stamps)
    if now == before:
        messages.note(f"index of {folder}: {out}")
        return
    kept = {name for name in now if before.get(name) == now[name]}
    new = [name for name in now if name not in kept]
    messages.note(f"index of {folder}: {out} ({len(new)} of {len(now)} files to embed)")
    part = out.with_name(f"{out.stem}.new{NPY}")
    try:
        is_new = bool(new) and _embed(new, part, model, messages, alone=not kept)
        parts = [(old, kept)] if old is not None and kept else []
        if is_new:
            parts.append((_opened(part), set(new)))
        _join(parts, out, found)
        with atomic_write(stamps) as file:
            file.write(json.dumps({"schema": "dymn.stamps/1", "files": now}).encode())
    finally:
        for path in (part, part.with_suffix(".index.csv"), part.with_suffix(".meta.json")):
            path.unlink(missing_ok=True)


def _opened(path: Path) -> Library:
    from dymn_cli.search import open_library

    return open_library(str(path))


def _open_kept(path: Path) -> Library | None:
    """An index that is kept; None where there is none, or it is damaged."""
    try:
        library = _opened(path)
    except InputError:
        return None
    return library if library.provenance is not None else None


def _stamp(name: str) -> list[int] | None:
    try:
        status = os.stat(name)  # noqa: PTH116 - names may be bytes
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]


def _read_stamps(path: Path) -> Stamps:
    try:
        document: Any = json.loads(path.read_bytes())
        return {str(name): list(stamp) for name, stamp in document["files"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _embed(names: list[str], out: Path, model: ModelOptions, messages: Messages, *, alone: bool) -> bool:
    """Embed files as `dymn embed` does; those that fail are told there, and tried again once they change.

    Returns:
        Whether any did not; where there is nothing else (`alone`), that all failed is an error.
    """
    from dymn_cli.cli.batch_run.embeddings import EmbeddingAnalysis
    from dymn_cli.cli.batch_run.run import write_results
    from dymn_cli.cli.options.groups import InputOptions, ResultOptions, TimeOptions, UpdateOptions

    inputs = InputOptions(inputs=names)
    output = ResultOptions(out=str(out), force=True)
    analysis = EmbeddingAnalysis(inputs, model, TimeOptions(), output)
    try:
        write_results(analysis, inputs, output, UpdateOptions(), messages, threads=model.threads)
    except PartialFailure:
        return True  # said by the run; the rows that are there are good
    except InputError as error:
        if alone:
            raise
        messages.warning(error.message, error.hint)
        return False
    return True


def _join(parts: list[tuple[Library, set[str]]], out: Path, order: list[str]) -> None:
    """Write the rows of these files of each part, in the order of the files."""
    from dymn_cli.writers import EmbeddingOptions, EmbeddingRow, open_embeddings

    if not parts:
        raise InputError("no file could be embedded, and none of the index is left")
    rows: dict[str, list[tuple[Library, int]]] = {}
    for library, names in parts:
        for row, place in enumerate(library.places):
            if place.source in names:
                rows.setdefault(place.source, []).append((library, row))
    newest = parts[-1][0]
    options = EmbeddingOptions(provenance=newest.provenance, size=newest.matrix.shape[1])
    with open_embeddings(str(out), "npy", options, force=True) as writer:
        for name in order:
            writer.write(
                [
                    EmbeddingRow(*library.places[row], library.matrix[row])
                    for library, row in rows.get(name, ())
                ]
            )
