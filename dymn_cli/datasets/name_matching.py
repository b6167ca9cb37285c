"""Which recording a name in a table means: tables and results spell the same file in different ways.

A table may say `64760`, `audio/dog.wav`, `/data/x/dog.wav` or the id of a video; a result may say
`FSD50K.dev_audio/64760.wav`, `/mnt/y/audio/dog.wav` or `Y-0RWZT-miFs.wav`. Two names mean the same recording
where one path ends with the other, their suffixes aside if one has none.

Where that fits nothing at all (the recordings have moved), the last part of the path decides, if it is the
name of one recording only on either side.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePath

__all__ = ["NameIndex", "match_names"]

VIDEO = re.compile(r"[A-Za-z0-9_-]{11}(?:[_.-].*)?")


def match_names(sources: Sequence[str], names: Sequence[str], *, videos: bool = False) -> list[int | None]:
    """For each source the row of a table that means it, or None.

    Args:
        sources: names of files.
        names: of the rows.
        videos: rows are ids of videos, which names of files begin with.
    """
    index = NameIndex(names, videos=videos)
    rows = [index.find(source) for source in sources]
    if any(row is not None for row in rows):
        return rows
    last = Counter(_stem(_parts(name)[-1]) for name in names)
    others = Counter(_stem(_parts(source)[-1]) for source in sources)
    by_last = {stem: row for row, name in enumerate(names) if last[stem := _stem(_parts(name)[-1])] == 1}
    return [
        by_last.get(stem) if others[stem := _stem(_parts(source)[-1])] == 1 else None for source in sources
    ]


class NameIndex:
    """Finds the row of a table by the name of a file.

    Args:
        names: of the rows, in order.
        videos: they are ids of videos, which names of files begin with.
    """

    def __init__(self, names: Iterable[str], *, videos: bool = False) -> None:
        self._videos = videos
        self._paths = [_parts(name) for name in names]
        self._by_last: dict[str, list[int]] = {}
        for row, parts in enumerate(self._paths):
            for key in {parts[-1], _stem(parts[-1])}:
                self._by_last.setdefault(key, []).append(row)

    def find(self, name: str) -> int | None:
        """The row that means this file: the one whose path agrees with it the longest, or None.

        None as well where several rows agree equally long: then it is not known which is meant.
        """
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
            # Other suffixes: the same recording in another format, unless a better row is there.
            return shorter
        return shorter + 1

    def _of_video(self, stem: str) -> list[int]:
        """Rows of AudioSet: its files are called by a video's id, often with Y before or times behind."""
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
