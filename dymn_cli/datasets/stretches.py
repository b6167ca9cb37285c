"""A review of events as a data set: each stretch that somebody judged is an example.

A stretch has the labels that were kept in it. Where a label was kept, those that nobody found there are
absent; where labels were only rejected, no more than these are known. A label that touches a stretch only in
passing, or that nobody decided about, is unknown.

The stretches are cut into files of their own, so that hours of a recording need not be decoded, and so that
whatever learns from files learns from stretches. A file has the modification time of its recording: what is
remembered about it stays valid when it is cut again.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dymn_cli.audio.encode import write_blocks
from dymn_cli.audio.excerpts import Excerpts
from dymn_cli.audio.locate import Locator
from dymn_cli.datasets.dataset import Dataset, assemble
from dymn_cli.datasets.label_tables import Judgement, LabelRow
from dymn_cli.errors import AudioNotFoundError, InputError, OutputError, os_errors_as
from dymn_cli.values import counted, with_first

if TYPE_CHECKING:
    from dymn_cli.datasets.dataset import Task

__all__ = ["rows_of_stretches", "stretches_dataset"]

MIN_SHARE = 0.5  # of the shorter one, from which two stretches are about the same sound
MIN_LENGTH_S = 0.05  # shorter audio is refused everywhere
TOLERANCE_S = 1.0  # that an event may end behind its recording: windows do
GROUPED_FROM = 5  # recordings, from which stretches of one stay together


def stretches_dataset(
    path: str, judged: Sequence[Judgement], folder: Path, *, audio: str | None = None, task: Task = "auto"
) -> Dataset:
    """Cut the stretches of a review, and make a data set of them.

    Args:
        path: of the review; its folder is where recordings are also looked for.
        judged: its rows.
        folder: for the stretches; it is made, and files in it are replaced.
        audio: where the recordings are: a folder, or the one recording.
        task: whether a stretch has one label or may have several.

    Raises:
        InputError: nothing can be learned from the review, or hardly any recording is there.
        OutputError: the stretches cannot be written.
    """
    rows = rows_of_stretches(judged)
    if not rows:
        raise InputError(f"{path}: no decided event is {MIN_LENGTH_S:g} s long or longer")
    roots = [audio] if audio is not None else [None, os.path.dirname(path) or "."]  # noqa: PTH120
    cutter = _StretchCutter(folder, [Locator(root) for root in roots])
    files: dict[str, str] = {}
    named = []
    for row in rows:
        file = cutter.cut(row)
        name = _name_of(row)
        named.append(LabelRow(name, row.labels, row.mids, row.absent, group=row.group))
        if file is not None:
            files[name] = file
    cutter.close()
    n_recordings = len({row.source for row in rows})
    notes = [f"each judged stretch counts as a recording: {len(rows)}, of {counted(n_recordings, 'file')}"]
    if n_recordings < GROUPED_FROM:
        notes.append("stretches of the same file are held out in turn: other recordings may be harder")
    data = assemble(path, named, files.get, task=task, notes=(*notes, *cutter.problems))
    if not cutter.late:
        return data
    late = f"stretches that end after their recording, and are cut there: {with_first(cutter.late)}"
    return dataclasses.replace(data, warnings=(*data.warnings, late))


def _name_of(row: LabelRow) -> str:
    return f"{row.source}, {row.start_s:.3f} - {row.end_s:.3f} s"


def rows_of_stretches(judged: Sequence[Judgement]) -> list[LabelRow]:
    """What is known of each stretch, in the order of the review.

    Stretches that overlap share a group; from five recordings on, all stretches of a recording do.
    """
    by_source: dict[str, list[Judgement]] = {}
    for one in judged:
        by_source.setdefault(one.source, []).append(one)
    decided = [one for one in judged if one.kept is not None]
    classes = tuple(dict.fromkeys(one.label for one in decided))
    anything_rejected = any(one.kept is False for one in decided)
    n_sources = len({one.source for one in decided})
    rows = []
    for source, all_of in by_source.items():
        stretches = dict.fromkeys(
            (one.start_s, one.end_s)
            for one in all_of
            if one.kept is not None and one.end_s - one.start_s >= MIN_LENGTH_S
        )
        groups = _overlapping(list(stretches))
        for start, end in stretches:
            near = [(one, _share(one, start, end)) for one in all_of]
            kept = {one.label: one.mid for one, share in near if one.kept and share >= MIN_SHARE}
            rejected = {one.label for one, share in near if one.kept is False and share >= MIN_SHARE}
            touching = {one.label for one, share in near if share > 0 and one.kept is not False}
            absent = rejected - kept.keys()
            if kept:
                absent |= set(classes) - kept.keys() - touching
            rows.append(
                LabelRow(
                    source,
                    tuple(kept),
                    tuple(kept.values()),
                    tuple(label for label in classes if label in absent) if anything_rejected else None,
                    start,
                    end,
                    group=source if n_sources >= GROUPED_FROM else f"{source} {groups[start, end]}",
                )
            )
    return rows


def _share(one: Judgement, start: float, end: float) -> float:
    """How much of the shorter one two stretches have in common."""
    common = min(one.end_s, end) - max(one.start_s, start)
    return max(common, 0.0) / max(min(one.end_s - one.start_s, end - start), 1e-9)


def _overlapping(stretches: list[tuple[float, float]]) -> dict[tuple[float, float], int]:
    """A number for each run of stretches that overlap."""
    numbers, number, until = {}, 0, float("-inf")
    for start, end in sorted(stretches):
        number += start >= until
        until = max(until, end)
        numbers[start, end] = number
    return numbers


def _write(audio: Excerpts, row: LabelRow, path: Path) -> None:
    rate = audio.info.rate_hz
    start, stop = round(row.start_s * rate), round(row.end_s * rate)
    if audio.info.n_frames is not None and start >= audio.info.n_frames:
        raise InputError(f"{row.source}: it ends before {row.start_s:g} s, where a decision is")
    write_blocks(
        path,
        audio.blocks(start, stop),
        rate,
        audio.info.channels,
        name=str(path),
        container="WAV",
        codec="PCM_32" if audio.is_integer else "FLOAT",
    )


@dataclass(slots=True)
class _Problem:
    text: str
    n: int = 1


class _StretchCutter:
    """Writes stretches; a recording that cannot be read costs its own."""

    def __init__(self, folder: Path, places: Sequence[Locator]) -> None:
        self._folder, self._places = folder, places
        self._open: tuple[str, Excerpts, int] | None = None
        self._failed: dict[str, _Problem] = {}
        self._n = 0
        self.late: list[str] = []  # stretches that end after their recording
        with os_errors_as(OutputError, folder):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def problems(self) -> list[str]:
        """Recordings without which the data set is made."""
        return [f"{one.text} (stretches left out: {one.n})" for one in self._failed.values()]

    def cut(self, row: LabelRow) -> str | None:
        """The file of a stretch; None where it cannot be had."""
        if row.source in self._failed:
            self._failed[row.source].n += 1
            return None
        self._n += 1
        path = self._folder / f"{self._n:06d}.wav"
        try:
            audio, modified_ns = self._excerpts(row.source)
            _write(audio, row, path)
            if row.end_s > (audio.info.duration_s or math.inf) + TOLERANCE_S:
                self.late.append(_name_of(row))
            os.utime(path, ns=(modified_ns, modified_ns))
        except InputError as exc:
            self._failed[row.source] = _Problem(exc.message)
            return None
        return str(path)

    def _excerpts(self, source: str) -> tuple[Excerpts, int]:
        if self._open is None or self._open[0] != source:
            if self._open is not None:
                self._open[1].close()
                self._open = None
            path = self._find(source)
            self._open = source, Excerpts(path, name=source), os.stat(path).st_mtime_ns  # noqa: PTH116
        return self._open[1:]

    def _find(self, source: str) -> str:
        for place in self._places[:-1]:
            try:
                return place.find(source)
            except AudioNotFoundError:
                continue
        return self._places[-1].find(source)

    def close(self) -> None:
        """Close the recording."""
        if self._open is not None:
            self._open[1].close()
            self._open = None
