"""From what the user names to the files to read: folders, lists of names, natural order.

Names are data: a name may hold spaces, brackets, line ends or bytes that are no UTF-8 (kept as
surrogate escapes, as `os.fsdecode` does). Names are held, a few hundred bytes each; audio never.

In a folder, files count whose suffix is one of an audio or video format; hidden files and folders are
skipped; each folder is entered once, so that loops of symbolic links end. A file that is named itself is
taken whatever it is called. A file that is reached twice (the same real path) is read once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from dymn_cli.errors import InputError, UsageError

__all__ = ["AUDIO_SUFFIXES", "Found", "find", "natural_key", "parse_extensions", "read_names", "share_of"]

AUDIO_SUFFIXES = frozenset(
    {"wav", "wave", "rf64", "bwf", "w64", "flac", "ogg", "oga", "opus", "mp3", "mp2", "mp1"}
    | {
        "aif",
        "aiff",
        "aifc",
        "caf",
        "au",
        "snd",
        "voc",
        "sd2",
        "m4a",
        "m4b",
        "aac",
        "mp4",
        "m4v",
        "mov",
        "mkv",
    }
    | {"mka", "webm", "wma", "wmv", "avi", "flv", "3gp", "amr", "ac3", "ts", "mts", "m2ts", "mpg", "mpeg"}
)

DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Found:
    """A source to read, or why a name that was given leads to none."""

    name: str
    problem: InputError | None = None


def find(
    names: Iterable[str], *, extensions: frozenset[str] | None = None, recurse: bool = True
) -> Iterator[Found]:
    """The sources that names lead to, in the order of the names, folders in natural order.

    Args:
        names: files, folders, or "-" for standard input.
        extensions: in folders, only these suffixes (lower case, without the dot); None for all known.
        recurse: also look into folders within folders.
    """
    seen: set[str] = set()
    for name in names:
        if name != "-" and os.path.isdir(name):  # noqa: PTH112 - names may be bytes that no Path holds
            found = False
            for path in _walk(name, extensions or AUDIO_SUFFIXES, recurse, set()):
                found = True
                if _is_new(path, seen):
                    yield Found(path)
            if not found:
                what = ", ".join(sorted(extensions)) if extensions else "audio"
                yield Found(
                    name,
                    InputError(
                        f"{name}: no {what} files in this folder", hint="other suffixes: --ext wav,flac"
                    ),
                )
        elif name == "-" or _is_new(name, seen):
            yield Found(name)


def _walk(folder: str, suffixes: frozenset[str], recurse: bool, entered: set[str]) -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in entered:
        return
    entered.add(real)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: natural_key(entry.name))
    except OSError:
        return  # a folder that cannot be listed holds nothing that could be read
    folders = []
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            folders.append(entry.path)
        elif os.path.splitext(entry.name)[1][1:].lower() in suffixes:  # noqa: PTH122
            yield entry.path
    if recurse:
        for path in folders:
            yield from _walk(path, suffixes, recurse, entered)


def _is_new(path: str, seen: set[str]) -> bool:
    real = os.path.realpath(path)
    if real in seen:
        return False
    seen.add(real)
    return True


def share_of(found: list[Found], index: int, count: int) -> list[Found]:
    """The index-th of count contiguous shares, from 1; their sizes differ by one at most."""
    return found[(index - 1) * len(found) // count : index * len(found) // count]


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts `take2` before `take10`, and orders the rest by code point."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in DIGITS.split(name) if part]


def parse_extensions(text: str | None) -> frozenset[str] | None:
    """From "wav,.FLAC" to {"wav", "flac"}.

    Raises:
        UsageError: there is no suffix in it.
    """
    if text is None:
        return None
    suffixes = frozenset(part.strip().lstrip(".").lower() for part in text.split(",")) - {""}
    if not suffixes:
        raise UsageError(f"--ext {text!r} names no suffix", hint="for example --ext wav,flac")
    return suffixes


def read_names(stream: BinaryIO, *, null: bool) -> Iterator[str]:
    """Names from a list as it streams: a line each (LF or CRLF), or up to a NUL byte; empty ones skipped."""
    end = b"\0" if null else b"\n"
    rest = b""
    while chunk := stream.read1(1 << 16) if hasattr(stream, "read1") else stream.read(1 << 16):
        *names, rest = (rest + chunk).split(end)
        yield from _decoded(names, null)
    yield from _decoded([rest], null)


def _decoded(names: list[bytes], null: bool) -> Iterator[str]:
    for name in names:
        clean = name if null else name.removesuffix(b"\r")
        if clean:
            yield os.fsdecode(clean)
