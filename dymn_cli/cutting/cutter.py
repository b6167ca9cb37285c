"""One event after the other, as a file: from one open recording at a time, straight to disk.

A clip appears when it is whole. What is there already is kept, unless its recording is newer. A recording
that is missing or damaged costs its own clips only.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dymn_cli.atomic import remove_parts
from dymn_cli.audio.encode import at_held_rate, can_hold, write_blocks
from dymn_cli.audio.excerpts import Excerpts
from dymn_cli.cutting.names import clip_name, folders_of, label_part
from dymn_cli.cutting.table import TABLE_NAME, ClipRow, ClipTable, claimed
from dymn_cli.errors import (
    DymnError,
    InputError,
    OutputError,
    UnsupportedAudioError,
    UsageError,
    os_error_text,
)
from dymn_cli.results import Failure
from dymn_cli.values import counted, require_choice, require_number
from dymn_cli.writers.beside import failures_of
from dymn_cli.writers.lists import write_failures
from dymn_cli.writers.spelling import seconds
from dymn_cli.writers.target import open_target

if TYPE_CHECKING:
    from typing import Self

    from dymn_cli.audio.locate import Locator
    from dymn_cli.results import AudioInfo, Event

__all__ = ["CLIP_FORMATS", "CutOptions", "CutSummary", "Cutter"]

CLIP_FORMATS = {
    "wav": "WAV", "flac": "FLAC", "ogg": "OGG", "opus": "OGG", "mp3": "MP3", "aiff": "AIFF", "caf": "CAF",
    "w64": "W64",
}  # fmt: skip
"""Formats of clips, by suffix, and what libsndfile calls them."""

CODECS = {"ogg": "VORBIS", "opus": "OPUS", "mp3": "MPEG_LAYER_III"}
LOSSLESS = {"PCM_S8": "PCM_16", "PCM_U8": "PCM_16", "PCM_32": "PCM_24", "FLOAT": "PCM_24", "DOUBLE": "PCM_24"}
KEPT_CODECS = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")
RF64_FROM = (1 << 32) - (1 << 20)
Layout = Literal["flat", "label", "mirror"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOptions:
    """How clips are cut.

    Args:
        pad_s: seconds before and after each event.
        min_length_s: shorter events are left out.
        max_length_s: of a longer event, only its beginning is cut; None for all of it.
        format: one of `CLIP_FORMATS`; None for FLAC of a FLAC recording, else WAV.
        layout: all clips in one folder ("flat"), in one for each label ("label"), or in folders as those of
            the recordings ("mirror").
        force: replace files that are there.

    Raises:
        UsageError: a value outside its range.
    """

    pad_s: float = 0.0
    min_length_s: float = 0.0
    max_length_s: float | None = None
    format: str | None = None
    layout: Layout = "flat"
    force: bool = False

    def __post_init__(self) -> None:
        for what, value in (
            ("--pad", self.pad_s),
            ("--min-length", self.min_length_s),
            ("--max-length", 1.0 if self.max_length_s is None else self.max_length_s),
        ):
            require_number(what, value)
            if not 0 <= value < float("inf"):
                raise UsageError(f"{what} {value:g} is not a length in seconds")
        if self.max_length_s is not None and self.max_length_s < max(self.min_length_s, 1e-3):
            raise UsageError(f"--max-length {self.max_length_s:g} leaves nothing to cut")
        require_choice("layout", self.layout, Layout)
        if self.format is not None and self.format not in CLIP_FORMATS:
            raise UsageError(f"no clips as {self.format!r}", hint=f"one of {', '.join(CLIP_FORMATS)}")


@dataclass(frozen=True, slots=True)
class CutSummary:
    """What a run has done.

    Args:
        n_cut: clips that were written.
        n_kept: clips that were there already.
        n_short: events shorter than the least length.
        failures: recordings that gave no clip, or not all, one each.
        table: the file that lists the clips.
        n_outdated: clips from before their recordings changed, which belong to no event of this run.
    """

    n_cut: int
    n_kept: int
    n_short: int
    failures: tuple[Failure, ...]
    table: str
    n_outdated: int = 0

    @property
    def n_clips(self) -> int:
        """All clips that are there now, of those that were asked for."""
        return self.n_cut + self.n_kept


class Cutter:
    """Cuts events as they come; use it as a context manager.

    Args:
        folder: where clips go; it is made if need be.
        options: how.
        recordings: finds the files of recordings.
        dry_run: write nothing; `rows` says what would be.

    Attributes:
        rows: what `dry_run` would cut.

    """

    def __init__(
        self, folder: str, options: CutOptions, recordings: Locator, *, dry_run: bool = False
    ) -> None:
        self._folder = Path(folder)
        self._options = options
        self._recordings = recordings
        self._dry_run = dry_run
        self.rows: list[ClipRow] = []
        self._order: dict[str, int] = {}
        self._failures: dict[str, Failure] = {}
        self._open: tuple[str, Excerpts] | None = None
        self._made: set[Path] = set()
        self._changed: set[str] = set()
        self._n_cut = self._n_kept = self._n_short = self._n_outdated = 0
        self._planned: dict[str, ClipRow] = {}
        self._table: ClipTable | None = None
        self._claim = ExitStack()

    def _begin(self) -> ClipTable:
        """The table of this folder; both are made with the first clip."""
        if self._table is None:
            self._make(self._folder)
            self._table = ClipTable(self._folder)
        return self._table

    def takes(self, event: Event) -> bool:
        """Whether an event is long enough; one that is not is counted."""
        is_short = event.end_s - event.start_s < self._options.min_length_s
        self._n_short += is_short
        return not is_short

    def expect(self, source: str) -> None:
        """Take note of a recording, which may have no event."""
        self._order.setdefault(source, len(self._order))

    def write(self, event: Event) -> None:
        """Cut an event; those of a recording are best given together, by start.

        A recording that cannot be read is noted, and its other events are passed over.

        Raises:
            OutputError: a clip cannot be written, another file has its name, the folder another table, or
                another run is cutting into it.
        """
        self.expect(event.source)
        if not self.takes(event):
            return
        if event.source in self._failures:
            return
        try:
            audio = self._excerpts(event.source)
            self._cut(event, audio)
        except InputError as exc:
            self._fail(event.source, exc)

    def _excerpts(self, source: str) -> Excerpts:
        if self._open is None or self._open[0] != source:
            self._close_recording()
            self._open = source, Excerpts(self._recordings.find(source), name=source)
        return self._open[1]

    def _cut(self, event: Event, audio: Excerpts) -> None:
        options, info = self._options, audio.info
        start_s, end_s = seconds(event.start_s), seconds(event.end_s)  # as results have them
        if options.max_length_s is not None:
            end_s = min(end_s, start_s + options.max_length_s)
        start = max(0, round((start_s - options.pad_s) * info.rate_hz))
        stop = round((end_s + options.pad_s) * info.rate_hz)
        if info.n_frames is not None:
            if start >= info.n_frames:
                raise InputError(
                    f"{event.source}: it ends at {info.n_frames / info.rate_hz:.3f} s, and an event starts at"
                    f" {event.start_s:.3f} s",
                    hint="is it the recording that was analysed?",
                )
            stop = min(stop, info.n_frames)
        if stop <= start:
            self._n_short += 1
            return
        table = None if self._dry_run else self._begin()
        row = self._row(event, audio, start / info.rate_hz, stop / info.rate_hz)
        if self._planned.setdefault(row.file.casefold(), row) is not row:
            return  # the same event twice
        path = self._folder / row.file
        if table is None:
            self.rows.append(row)
            return
        known = table.rows.get(row.file.casefold())
        if os.path.lexists(path):
            if known is None and not options.force:
                raise OutputError(
                    f"{path}: the file exists, and {table.path.name} does not name it",
                    hint="--force replaces it, or choose another folder",
                )
            has_other_row, is_outdated = known not in (None, row), self._is_outdated(path, event.source)
            if has_other_row or is_outdated:
                self._changed.add(event.source)
            if not (is_outdated or options.force):
                if has_other_row:  # another score
                    table.add(row)
                self._n_kept += 1
                return
        try:
            self._make(path.parent)
            if known is None:
                table.add(row)
            self._write(path, audio, start, stop, replace=known is not None or options.force)
            if known not in (None, row):  # only now: a killed run cuts it again
                table.add(row)
        except OutputError as exc:
            whole = f"{counted(self.n_clips, 'finished clip')} kept; run the command again to continue"
            raise OutputError(exc.message, hint=f"{exc.hint}; {whole}" if exc.hint else whole) from exc
        self._n_cut += 1

    def _row(self, event: Event, audio: Excerpts, start_s: float, end_s: float) -> ClipRow:
        """The row of a clip, under the first name that no other clip has."""
        suffix = self._options.format or ("flac" if audio.info.container == "FLAC" else "wav")
        folders = {
            "flat": [],
            "label": [label_part(event.label)],
            "mirror": folders_of(event.source),
        }[self._options.layout]
        for distinct in (False, True):
            name = clip_name(
                event.source, start_s, end_s, event.label, event.channel, suffix, distinct=distinct
            )
            row = ClipRow.of(event, "/".join((*folders, name)), (start_s, end_s))
            key = row.file.casefold()
            other = self._planned.get(key) or (self._table and self._table.rows.get(key))
            if not other or other.is_about == row.is_about:
                break
        return row

    def _is_outdated(self, path: Path, source: str) -> bool:
        """Whether the recording has changed since the clip was cut."""
        with suppress(OSError, InputError):  # also at a URI, which has no time
            status = Path(self._recordings.find(source)).stat()
            # The second time tells of an older recording that was moved here.
            return path.lstat().st_mtime_ns < max(status.st_mtime_ns, status.st_ctime_ns)
        return False

    def _write(self, path: Path, audio: Excerpts, start: int, stop: int, *, replace: bool) -> None:
        info = audio.info
        container, codec = _container_and_codec(path.suffix[1:], info, stop - start)
        blocks, rate_hz = at_held_rate(audio.blocks(start, stop), info.rate_hz, info.channels, codec)
        with open_target(str(path), force=replace, durable=False, follow=False) as target:
            try:
                write_blocks(
                    target.stream.fileno(),
                    blocks,
                    rate_hz,
                    info.channels,
                    name=str(path),
                    container=container,
                    codec=codec,
                )
            except UsageError as exc:
                raise UnsupportedAudioError(
                    f"{audio.name}: {path.suffix} does not hold {info.rate_hz} Hz, {info.channels} channels",
                    hint="wav does: --format wav",
                ) from exc

    def _make(self, folder: Path) -> None:
        """Make a folder of clips, once, and remove what a killed run left unfinished in it.

        The first is that of all clips, and no other run can have it until this one ends.
        """
        if folder in self._made:
            return
        inner = folder.relative_to(self._folder)
        for part in (inner, *inner.parents[:-1]):
            if (self._folder / part).is_symlink() and part != Path():
                raise OutputError(f"{self._folder / part}: a symbolic link", hint="choose another folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as exc:
            raise OutputError(f"{folder}: a file, not a folder", hint="choose another folder") from exc
        except OSError as exc:
            raise OutputError(os_error_text(folder, exc)) from exc
        if folder == self._folder:
            self._claim.enter_context(claimed(folder))
        remove_parts(folder)
        self._made.add(folder)

    def _fail(self, source: str, error: DymnError) -> None:
        self._close_recording()
        self._failures[source] = Failure.of(source, error)

    def _close_recording(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    @property
    def folder(self) -> str:
        """Where clips go."""
        return str(self._folder)

    @property
    def n_clips(self) -> int:
        """Clips that are whole by now, of those that were asked for."""
        return self._n_cut + self._n_kept

    def finish(self) -> CutSummary:
        """Complete the table, and list what failed beside it.

        Raises:
            OutputError: they cannot be written.
        """
        self._close_recording()
        failures = tuple(self._failures.values())
        has_clips = bool(self._order) and (self._folder / TABLE_NAME).exists()
        if (failures or has_clips) and not self._dry_run:
            self._begin()
        if self._table is not None:
            self._n_outdated = self._count_outdated(self._table)
            self._table.close(self._order)
            listed = failures_of(str(self._table.path))
            if failures:
                write_failures(listed, failures, force=True)
            else:
                Path(listed).unlink(missing_ok=True)
        return self.summary

    def _count_outdated(self, table: ClipTable) -> int:
        """How many clips belong to no event any more, of recordings that were read and have changed."""
        return sum(
            row.source in self._changed or self._is_outdated(self._folder / row.file, row.source)
            for name, row in table.rows.items()
            if name not in self._planned
            and row.source in self._order
            and row.source not in self._failures
            and os.path.lexists(self._folder / row.file)
        )

    @property
    def summary(self) -> CutSummary:
        """What has been done so far."""
        table = "" if self._table is None else str(self._table.path)
        failures = tuple(self._failures.values())
        return CutSummary(self._n_cut, self._n_kept, self._n_short, failures, table, self._n_outdated)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._claim:
            self._close_recording()
            if self._table is not None:
                self._table.close()


def _container_and_codec(suffix: str, info: AudioInfo, n_frames: int) -> tuple[str, str]:
    """The format of a clip: that of its recording as far as the file can hold it.

    Args:
        suffix: of the clip.
        info: of the recording.
        n_frames: of the clip.
    """
    container = CLIP_FORMATS[suffix]
    codec = CODECS.get(suffix) or info.codec
    if suffix not in CODECS and not (codec.startswith(KEPT_CODECS) and can_hold(container, codec)):
        codec = LOSSLESS.get(codec, "PCM_16")
    if container == "WAV" and n_frames * info.channels * 8 > RF64_FROM:
        container = "RF64"
    return container, codec
