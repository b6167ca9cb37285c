"""Find the recording that a name in a table means: tables and results spell the same file in different ways.

A table may say `64760`, `audio/dog.wav`, `/data/x/dog.wav` or the id of a video; a result may say
`FSD50K.dev_audio/64760.wav`, `/mnt/y/audio/dog.wav` or `Y-0RWZT-miFs.wav`. Two names mean the same recording
where one path ends with the other, their suffixes aside if one has none.

Where that matches nothing at all (the recordings have moved), the last part of the path decides, if it is
unique on either side.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from dymn_cli.errors import InputError

__all__ = ["match_names", "pair_names"]

VIDEO = re.compile(r"[A-Za-z0-9_-]{11}(?:[_.-].*)?")


def match_names(sources: Sequence[str], names: Sequence[str], *, videos: bool = False) -> list[int | None]:
    """The row of a table for each source, or None.

    Args:
        sources: names of files.
        names: of the rows.
        videos: the names are ids of videos, with which file names begin.
    """
    index = _NameIndex(names, videos=videos)
    rows = [index.find(source) for source in sources]
    if any(row is not None for row in rows):
        return rows
    last = Counter(_stem(_parts(name)[-1]) for name in names)
    others = Counter(_stem(_parts(source)[-1]) for source in sources)
    by_last = {stem: row for row, name in enumerate(names) if last[stem := _stem(_parts(name)[-1])] == 1}
    return [
        by_last.get(stem) if others[stem := _stem(_parts(source)[-1])] == 1 else None for source in sources
    ]


def pair_names(
    table: str, sources: Sequence[str], names: Sequence[str], *, videos: bool = False
) -> list[int | None]:
    """The row of a table for each source, or None, where at least one must match and no two the same row.

    Args:
        table: what errors call the table.
        sources: names of files.
        names: of the rows; at least one.
        videos: the names are ids of videos, with which file names begin.

    Raises:
        InputError: no source matches, or two match the same row.
    """
    rows = match_names(sources, names, videos=videos)
    source_of: dict[int, str] = {}
    for source, row in zip(sources, rows, strict=True):
        if row is not None and source_of.setdefault(row, source) != source:
            raise InputError(
                f"{table}: {names[row]} matches both {source_of[row]} and {source}",
                hint="give longer paths in the table",
            )
    if not source_of:
        raise InputError(
            f"{table}: no row matches a recording: the table has names like {names[0]},"
            f" the recordings like {sources[0] if sources else 'none'}"
        )
    return rows


class _NameIndex:
    """Finds the row of a table by the name of a file."""

    def __init__(self, names: Iterable[str], *, videos: bool = False) -> None:
        self._videos = videos
        self._paths = [_parts(name) for name in names]
        self._by_last: dict[str, list[int]] = {}
        for row, parts in enumerate(self._paths):
            for key in {parts[-1], _stem(parts[-1])}:
                self._by_last.setdefault(key, []).append(row)

    def find(self, name: str) -> int | None:
        """The row whose path has the longest end in common with this file's; None for none, or for a tie."""
        parts = _parts(name)
        rows = self._by_last.get(parts[-1]) or self._by_last.get(_stem(parts[-1])) or []
        if not rows and self._videos:
            rows = self._of_video(_stem(parts[-1]))
        scored = sorted((self._agreement(parts, row), row) for row in dict.fromkeys(rows))
        scored = [(length, row) for length, row in scored if length]
        if not scored or (len(scored) > 1 and scored[-1][0] == scored[-2][0]):
            return None
        return scored[-1][1]

    def _agreement(self, parts: tuple[str, ...], row: int) -> int:
        """How many parts agree from the end; 0 unless one path ends with the other."""
        own = self._paths[row]
        shorter = min(len(own), len(parts))
        if shorter > 1 and own[-shorter:-1] != parts[-shorter:-1]:
            return 0
        if own[-1] != parts[-1] and "." in own[-1] and _suffix(own[-1]) != _suffix(parts[-1]):
            # Another suffix: the same recording in another format, unless there is a better row.
            return shorter
        return shorter + 1

    def _of_video(self, stem: str) -> list[int]:
        """Rows of AudioSet: file names begin with a video's id, often after a Y and with times behind."""
        found = VIDEO.fullmatch(stem) or VIDEO.fullmatch(stem.removeprefix("Y"))
        beginnings = {stem[:11], stem[1:12]} if found else set()
        return [row for beginning in sorted(beginnings) for row in self._by_last.get(beginning, [])]


def _parts(name: str) -> tuple[str, ...]:
    plain = posixpath.normpath(name.replace("\\", "/"))
    parts = tuple(part for part in plain.split("/") if part not in ("", ".", ".."))
    return parts or ("",)


def _stem(last: str) -> str:
    return PurePath(last).stem if last else last


def _suffix(last: str) -> str:
    return PurePath(last).suffix.lower()
