"""The embeddings that `dymn search` and `dymn duplicates` work on: a file, or a folder whose index is kept.

    CACHE/search/KEY.npy, KEY.index.csv, KEY.meta.json     as dymn embed writes them
    CACHE/search/KEY.stamps.json                           size and time of change of each file it knows

KEY is a hash of the folder and the model. Only new and changed files are embedded; the rows of files that are
gone are left out. The matrix is replaced first and the stamps last: a process that is killed in between has
those files embedded again.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dymn_cli.atomic import atomic_write
from dymn_cli.audio.discover import find
from dymn_cli.errors import InputError, OutputError, PartialFailure, UsageError, os_error_text

if TYPE_CHECKING:
    from dymn_cli.cli.options.groups import ModelOptions
    from dymn_cli.cli.terminal.messages import Messages
    from dymn_cli.search import Library

__all__ = ["library_of"]

Stamps = dict[str, list[int]]
NPY = ".npy"


def library_of(path: str, kept: str | None, model: ModelOptions, messages: Messages) -> Library:
    """Open a file of embeddings, or bring the index of a folder up to date and open that.

    Args:
        path: of the file or folder.
        kept: where the index of a folder is kept, instead of the cache folder.
        model: makes the index of a folder.
        messages: says where it is.

    Raises:
        DymnError: it cannot be read or made.
    """
    from dymn_cli.search import open_library

    if not os.path.isdir(path):  # noqa: PTH112 - names may be bytes
        if kept is not None:
            raise UsageError("--index is for a folder, and the library is a file")
        return open_library(path)
    out = Path(kept) if kept is not None else _cached(path, model)
    if out.suffix != NPY:
        raise UsageError(f"--index {out}: an index is called {NPY}", hint=f"--index {out}{NPY}")
    _refresh(path, out, model, messages)
    return open_library(str(out))


def _cached(folder: str, model: ModelOptions) -> Path:
    from dymn_cli.store.registry import cache_folder

    words = "\0".join([os.path.realpath(folder), *model.models])
    return cache_folder() / "search" / f"{hashlib.sha256(os.fsencode(words)).hexdigest()[:16]}{NPY}"


def _refresh(folder: str, out: Path, model: ModelOptions, messages: Messages) -> None:
    found = [one.name for one in find([os.path.realpath(folder)]) if one.problem is None]
    now = {name: stamp for name in found if (stamp := _stamp(name)) is not None}
    stamps = out.with_suffix(".stamps.json")
    before = _read_stamps(stamps) if out.is_file() else {}
    if out.exists() and not stamps.exists():
        raise OutputError(f"{out}: the file exists and is no index of a folder", hint="choose another name")
    if not now:
        raise InputError(f"{folder}: no audio in this folder")
    if now == before:
        messages.note(f"index of {folder}: {out}")
        return
    kept = {name for name in now if before.get(name) == now[name]}
    new = [name for name, stamp in now.items() if before.get(name) != stamp]
    messages.note(f"index of {folder}: {out} ({len(new)} of {len(now)} files to embed)")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(f"{out.stem}.new{NPY}")
        if new and not _embed(new, part, model, messages, alone=not before):
            new = []
        _join(out if before else None, part if new else None, out, kept, found)
        with atomic_write(stamps) as file:
            file.write(json.dumps({"schema": "dymn.stamps/1", "files": now}).encode())
        for path in (part, part.with_suffix(".index.csv"), part.with_suffix(".meta.json")):
            path.unlink(missing_ok=True)
    except OSError as exc:
        raise OutputError(os_error_text(str(out), exc), hint="--index FILE.npy keeps it elsewhere") from exc


def _stamp(name: str) -> list[int] | None:
    try:
        status = os.stat(name)  # noqa: PTH116
    except OSError:
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
    from dymn_cli.cli.options.groups import BatchOptions, InputOptions, ResultOptions, TimeOptions

    inputs = InputOptions(inputs=names)
    output = ResultOptions(out=str(out), force=True)
    analysis = EmbeddingAnalysis(inputs, model, TimeOptions(), output)
    try:
        write_results(analysis, inputs, output, BatchOptions(), messages, threads=model.threads)
    except PartialFailure:
        return True  # said by the run; the rows that are there are good
    except InputError as error:
        if alone:
            raise
        messages.warning(error.message, error.hint)
        return False
    return True


def _join(old: Path | None, new: Path | None, out: Path, kept: set[str], order: list[str]) -> None:
    from dymn_cli.search import open_library
    from dymn_cli.writers import EmbeddingOptions, EmbeddingRow, open_embeddings

    parts = [(open_library(str(path)), is_old) for path, is_old in ((old, True), (new, False)) if path]
    rows: dict[str, list[tuple[int, int]]] = {}
    for number, (library, is_old) in enumerate(parts):
        for row, place in enumerate(library.places):
            if not is_old or place.source in kept:
                rows.setdefault(place.source, []).append((number, row))
    made = parts[-1][0].provenance
    if len(parts) == 2 and parts[0][0].provenance != made:
        raise InputError(
            f"{out}: made with another model or version", hint="delete it, or name another --index"
        )
    options = EmbeddingOptions(provenance=made, size=parts[0][0].matrix.shape[1])
    with open_embeddings(str(out), "npy", options, force=True) as writer:
        for name in order:
            writer.write(
                [
                    EmbeddingRow(*parts[number][0].places[row], parts[number][0].matrix[row])
                    for number, row in rows.get(name, ())
                ]
            )
