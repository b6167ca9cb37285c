"""The embeddings that `dymn search` and `dymn duplicates` work on: a file, or a folder whose index is kept.

    CACHE/search/KEY.npy, ...           as dymn embed --update --prune writes them, with its journal
    CACHE/search/KEY.stamps.json        size and time of change of each file that was tried
    CACHE/search/KEY.lock               held while the index is brought up to date

KEY is a hash of the folder, the model and the version. Where every stamp is as it was, nothing is done. The
stamps are written last: a process that is killed before goes on from its journal. What another user keeps is
read while it is up to date.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from dymn_cli._version import __version__
from dymn_cli.atomic import atomic_write
from dymn_cli.audio.discover import find
from dymn_cli.batch.journal import StaleJournalError, Stamp
from dymn_cli.cli.options.declare import arg, flag
from dymn_cli.cli.options.panels import BATCH
from dymn_cli.errors import InputError, OutputError, PartialFailure, os_error_text, os_errors_as

if TYPE_CHECKING:
    from dymn_cli.cli.options.groups import ModelOptions
    from dymn_cli.cli.terminal.messages import Messages
    from dymn_cli.report.locate import Recordings
    from dymn_cli.search import Index, Library

__all__ = ["LibraryName", "UseIndex", "index_of", "library_of", "recordings_of"]

ELSEWHERE = "DYMN_HOME=DIR keeps it elsewhere"

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
    n_real = len(os.path.join(os.path.realpath(path), ""))  # noqa: PTH118 - names may be bytes

    def opened() -> Library:
        # The index holds real paths; the user's names begin with the folder as it was typed.
        return open_library(str(out), lambda name: os.path.join(path, name[n_real:]))  # noqa: PTH118

    lock = FileLock(out.with_suffix(".lock"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            messages.note(f"index of {path}: waiting for another dymn")
            lock.acquire()
    except OSError as exc:
        if _embedded(out) is not None and _stamps_of(path) == _read_stamps(_stamps_path(out)):
            messages.note(f"index of {path}: {out}")
            return opened()
        where = f"{path}: its index in {out.parent} cannot be written"
        raise OutputError(os_error_text(where, exc), hint=ELSEWHERE) from exc
    with os_errors_as(OutputError, str(out), hint=ELSEWHERE):
        try:
            _refresh(path, out, model, messages)
            return opened()
        finally:
            lock.release()


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
        words += [name, str(Stamp.of(name))]
    key = hashlib.sha256(os.fsencode(chr(0).join(words))).hexdigest()[:16]
    return cache_folder() / "search" / f"{key}.npy"


def _refresh(folder: str, out: Path, model: ModelOptions, messages: Messages) -> None:
    """Embed what is new and changed as `dymn embed --update --prune` does; what fails is told there."""
    from dymn_cli.cli.batch_run.embeddings import EmbeddingAnalysis
    from dymn_cli.cli.batch_run.run import write_results
    from dymn_cli.cli.options.groups import InputOptions, ResultOptions, TimeOptions, UpdateOptions

    now, path = _stamps_of(folder), _stamps_path(out)
    embedded = _embedded(out)
    before = {} if embedded is None else _read_stamps(path)
    if now == before:
        messages.note(f"index of {folder}: {out}")
        return
    new = {name for name in now if before.get(name) != now[name]}
    messages.note(f"index of {folder}: {out} ({len(new)} of {len(now)} files to embed)")
    # What has failed before is tried again once it has changed.
    inputs = InputOptions(inputs=[name for name in now if name in new or name in (embedded or ())])
    output = ResultOptions(out=str(out), force=True)
    analysis = EmbeddingAnalysis(inputs, model, TimeOptions(), output)

    def write(*, resume: bool) -> None:
        batch = UpdateOptions(update=True, prune=True, resume=resume)
        with contextlib.suppress(PartialFailure):  # the rows that are there are good
            write_results(analysis, inputs, output, batch, messages, threads=model.threads)

    try:
        write(resume=True)
    except StaleJournalError:
        write(resume=False)
    with atomic_write(path) as file:
        stamps = {name: (stamp.size, stamp.mtime_ns) for name, stamp in now.items()}
        file.write(json.dumps({"schema": "dymn.stamps/1", "files": stamps}).encode())


def _stamps_of(folder: str) -> dict[str, Stamp]:
    """The stamps of the files in a folder, as they are now.

    Raises:
        InputError: there are none.
    """
    found = [one.name for one in find([os.path.realpath(folder)]) if one.problem is None]
    now = {name: stamp for name in found if (stamp := Stamp.of(name)) is not None}
    if not now:
        raise InputError(f"{folder}: no audio in this folder")
    return now


def _stamps_path(index: Path) -> Path:
    return index.with_suffix(".stamps.json")


def _embedded(path: Path) -> set[str] | None:
    """The files in an index that is kept; None where there is none, or it is damaged."""
    from dymn_cli.search import open_library

    try:
        library = open_library(str(path))
        return None if library.provenance is None else {place.source for place in library.places}
    except InputError:
        return None


def _read_stamps(path: Path) -> dict[str, Stamp]:
    try:
        document: Any = json.loads(path.read_bytes())
        return {str(name): Stamp(*stamp) for name, stamp in document["files"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
