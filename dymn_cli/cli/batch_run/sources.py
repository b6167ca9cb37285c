"""From the input options to sources: files, folders, lists of names, standard input."""

from __future__ import annotations

import atexit
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from dymn_cli.audio.discover import (
    Found,
    FoundList,
    SkippedFiles,
    find,
    parse_extensions,
    read_names,
    share_of,
)
from dymn_cli.cli.terminal.messages import Messages
from dymn_cli.cli.terminal.streams import is_terminal
from dymn_cli.errors import AudioNotFoundError, InputError, UsageError, os_error_text, os_errors_as
from dymn_cli.remote.reading import open_uri
from dymn_cli.remote.store import stat
from dymn_cli.remote.uri import is_uri, named
from dymn_cli.results import Failure
from dymn_cli.writers.target import is_stdout

if TYPE_CHECKING:
    from dymn_cli.audio.decode import Source
    from dymn_cli.cli.options.groups import FileOptions

__all__ = ["found_sources", "named_sources", "open_source", "parse_shard", "parse_size", "print_names"]

MANY = 1000  # URIs; more are not waited for
SIZE = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?) ?(?P<unit>[kKMGT]?)B?")


def found_sources(options: FileOptions, messages: Messages, *, without: str | None = None) -> Iterator[Found]:
    """The sources that the options name, in order; names in a list are read as they come.

    Args:
        options: which sources.
        messages: says, after the last one, which files of folders are left out.
        without: a folder that is passed over within others.

    Raises:
        UsageError: no input at all, standard input asked for twice or from a terminal, or a bad suffix list.
        OutputError: the file of failures cannot be written.
    """
    extensions = parse_extensions(options.ext)
    if options.null and options.files_from is None and not options.dry_run:
        raise UsageError("-0 needs --files-from", hint="give --files-from FILE or -")
    wants_stdin = [
        name for name in ("-" if "-" in options.inputs else None, options.files_from) if name == "-"
    ]
    if len(wants_stdin) > 1:
        raise UsageError("standard input cannot be both the audio and the list of names")
    if wants_stdin and sys.stdin is None:
        raise UsageError("standard input is closed", hint="give the name of a file")
    if wants_stdin and is_terminal(sys.stdin):
        hint = "pipe audio into dymn, or give the name of a file"
        if options.files_from == "-":
            hint = "pipe names into dymn, a line each, or name the file that has them"
        raise UsageError("standard input is a terminal", hint=hint)
    if not options.inputs and options.files_from is None:
        raise UsageError("no input", hint="give files, folders or - for standard input; dymn demo needs none")
    if options.failures is not None and not is_stdout(options.failures):
        from dymn_cli.writers import check_target
        from dymn_cli.writers.lists import FAILURES

        FAILURES.require_replaceable(options.failures)
        check_target(options.failures, force=True)
    return _found(options, extensions, messages, without)


def _found(
    options: FileOptions, extensions: frozenset[str] | None, messages: Messages, without: str | None
) -> Iterator[Found]:
    listing, n_listed = options.files_from, 0

    def names() -> Iterator[str]:
        nonlocal n_listed
        with nullcontext() if listing is None else _open_list(listing) as stream:
            yield from options.inputs
            if stream is not None:
                for name in read_names(stream, null=options.null):
                    n_listed += 1
                    yield name

    skipped = SkippedFiles()
    yield from find(names(), extensions=extensions, recurse=options.recurse, skipped=skipped, without=without)
    for text, hint in skipped.sentences():
        messages.warning(text, hint)
    if listing is not None and not n_listed:
        yield Found(listing, InputError(f"{listing}: no names in this list"))


@contextmanager
def _open_list(path: str) -> Iterator[BinaryIO]:
    with os_errors_as(InputError, path):
        if path == "-":
            yield _unlocked(sys.stdin.buffer)
        elif is_uri(path):
            with io.BufferedReader(cast("io.RawIOBase", open_uri(named(path)))) as stream:
                yield stream
        else:
            with Path(path).open("rb") as stream:
                yield stream


def _unlocked(stream: BinaryIO) -> BinaryIO:
    """What a thread may wait for while the program ends, which a buffer that is locked meanwhile forbids."""
    return getattr(stream, "raw", stream)


def parse_size(text: str | None) -> int | None:
    """From "20G" to 20,000,000,000 bytes: k, M, G and T are powers of 1000.

    Raises:
        UsageError: it is no size.
    """
    if text is None:
        return None
    found = SIZE.fullmatch(text.strip())
    if found is None or not float(found["number"]):
        raise UsageError(f"--max-input {text!r} is not a size", hint="for example 500M or 20G")
    return int(float(found["number"]) * 1000 ** " KMGT".index(found["unit"].upper() or " "))


def open_source(name: str, *, most_bytes: int | None = None) -> Source:
    """What is to be read: a seekable copy of standard input for "-", else the path itself."""
    if name != "-":
        return name
    from dymn_cli.batch.job import standard_input

    copy = standard_input(most_bytes=most_bytes)
    atexit.register(copy.close)  # there is one standard input: its copy may live as long as the program
    return copy


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """From "2/8" to (2, 8): the second of eight shares.

    Raises:
        UsageError: not of that form, or no such share.
    """
    if text is None:
        return None
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise UsageError(f"--shard {text!r}", hint="I/N: share I of N, counted from 1; for example 3/16")
    return int(index), int(count)


def named_sources(
    options: FileOptions,
    shard: str | None,
    messages: Messages,
    *,
    at_once: bool = False,
    without: str | None = None,
) -> tuple[Sequence[Found] | None, Iterator[Found]]:
    """The sources as a list where they can be listed beforehand, and to iterate over.

    A list of names that comes through a pipe, and very many URIs, are worked on as they come, unless all must
    be known.

    Args:
        options: which sources.
        shard: "I/N", or None for all.
        messages: says which files of folders are left out.
        at_once: all must be known.
        without: see `found_sources`.

    Raises:
        UsageError: no input, or no such share.
    """
    share = parse_shard(shard)
    sources = found_sources(options, messages, without=without)
    listing = options.files_from
    comes_through_pipe = listing is not None and not is_uri(listing) and not Path(listing).is_file()
    if comes_through_pipe and not (at_once or share):
        return None, sources
    if any(map(is_uri, (listing, *options.inputs))) and not (at_once or share):
        first = list(islice(sources, MANY))
        return (first, iter(first)) if len(first) < MANY else (None, chain(first, sources))
    listed: Sequence[Found] = FoundList(sources)
    if share is not None:
        listed = share_of(listed, *share)
    return listed, iter(listed)


def print_names(sources: Iterator[Found], messages: Messages, *, null: bool) -> None:
    """Print the names of the inputs as the bytes that they are, a line each.

    Args:
        sources: the inputs.
        messages: says which names lead to nothing.
        null: end each with a NUL byte instead, as names may hold line feeds.

    Raises:
        InputError, PartialFailure: names that lead to nothing, after all others are printed; as for a run.
        OutputError: standard output takes no more.
    """
    from dymn_cli.batch.run import Outcome
    from dymn_cli.cli.batch_run.watcher import finish
    from dymn_cli.writers.spelling import name_bytes
    from dymn_cli.writers.target import open_target

    outcome = Outcome()
    with open_target(None) as target:
        for found in sources:
            problem = found.problem or _why_not_there(found)
            if problem is None:
                target.stream.write(name_bytes(found.name) + (b"\0" if null else b"\n"))
                outcome.n_done += 1
            else:
                outcome.failures.append(Failure.of(found.name, problem))
    alone = outcome.n_done + len(outcome.failures) == 1
    if not alone:
        for failure in outcome.failures:
            messages.failure(failure)
    finish(outcome, alone=alone)


def _why_not_there(found: Found) -> InputError | None:
    """Why nothing can be read by that name, as far as is known without reading."""
    name = found.name
    if is_uri(name):
        try:
            found.stat or stat(name)
        except InputError as error:
            return error
        return None
    if name == "-" or os.access(name, os.R_OK):
        return None
    try:
        os.stat(name)  # noqa: PTH116 - names may be bytes that no Path holds
    except FileNotFoundError:
        return AudioNotFoundError(f"{name}: no such file")
    except PermissionError:
        pass  # its folder may not be searched
    except OSError as exc:
        return AudioNotFoundError(os_error_text(name, exc))
    return AudioNotFoundError(f"{name}: no permission to read it")
