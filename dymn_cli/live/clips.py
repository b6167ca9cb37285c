"""Keeps the sound of events: the last minutes in memory, and each event's part of them as a file."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dymn_cli.audio.encode import at_held_rate, can_hold, write_blocks
from dymn_cli.cutting.cutter import CLIP_FORMATS, CODECS
from dymn_cli.cutting.names import label_part
from dymn_cli.cutting.table import TABLE_NAME, ClipRow, header_line, row_line
from dymn_cli.errors import OutputError, UsageError, os_error_text, os_errors_as
from dymn_cli.values import require_number
from dymn_cli.writers.target import open_target

if TYPE_CHECKING:
    from datetime import datetime

    from numpy.typing import NDArray

    from dymn_cli.live.sources import Sound
    from dymn_cli.results import Event

__all__ = ["ClipKeeper", "ClipKeeping"]

SLACK_S = 20.0  # an event is known this long after its sound, at most: a window, and what waits
MAX_LENGTH_S = 600.0
MAX_SAME_NAME = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipKeeping:
    """How clips are kept.

    Args:
        before_s: seconds before each event.
        after_s: seconds behind it, as far as they have been heard when the event is over.
        max_length_s: of a longer event, only its beginning is kept.
        format: one of `CLIP_FORMATS`.

    Raises:
        UsageError: a value outside its range.
    """

    before_s: float = 1.0
    after_s: float = 0.5
    max_length_s: float = 60.0
    format: str = "wav"

    def __post_init__(self) -> None:
        for what, value, least in (
            ("--pre-roll", self.before_s, 0.0),
            ("a post-roll of", self.after_s, 0.0),
            ("--max-length", self.max_length_s, 0.1),
        ):
            require_number(what, value)
            if not least <= value <= MAX_LENGTH_S:
                raise UsageError(f"{what} {value:g} is not between {least:g} and {MAX_LENGTH_S:g} s")
        if self.format not in CLIP_FORMATS:
            raise UsageError(f"no clips as {self.format!r}", hint=f"one of {', '.join(CLIP_FORMATS)}")


class _Heard(NamedTuple):
    start_s: float
    end_s: float
    sound: Sound


class ClipKeeper:
    """Holds the latest sound, as it came, and writes clips of it.

    Args:
        folder: where clips go, and their table; it is made if need be.
        options: how.

    Raises:
        OutputError: the folder cannot be made.
    """

    def __init__(self, folder: str, options: ClipKeeping) -> None:
        self._folder = Path(folder)
        self._options = options
        self._heard: deque[_Heard] = deque()
        self._most_s = options.before_s + options.max_length_s + options.after_s + SLACK_S
        self.n_clips = 0
        with os_errors_as(OutputError, folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._table = self._folder / TABLE_NAME
            with self._table.open("ab") as table:
                if not table.tell():
                    table.write(header_line())

    @property
    def max_length_s(self) -> float:
        """Seconds of an event that are kept."""
        return self._options.max_length_s

    def hear(self, sound: Sound, end_s: float) -> None:
        """Take sound in that ends so many seconds after listening began."""
        self._heard.append(_Heard(end_s - sound.length_s, end_s, sound))
        while self._heard and self._heard[0].end_s < end_s - self._most_s:
            self._heard.popleft()

    def save(self, event: Event, begins: datetime) -> str:
        """Write the clip of an event; begins is the clock time of its start.

        Returns:
            The path of the file; "" where its sound is no longer there.

        Raises:
            OutputError: it cannot be written.
        """
        options = self._options
        end_s = min(event.end_s, event.start_s + options.max_length_s) + options.after_s
        rate_hz, samples, start_s = self._cut(event.start_s - options.before_s, end_s)
        if not len(samples):
            return ""
        path, container = self._path(event, begins), CLIP_FORMATS[options.format]
        codec = CODECS.get(options.format) or ("PCM_16" if can_hold(container, "PCM_16") else None)
        row = ClipRow.of(event, path.name, (start_s, start_s + len(samples) / rate_hz))
        blocks, held_hz = at_held_rate([samples], rate_hz, samples.shape[1], codec)
        try:
            with open_target(str(path), durable=False, follow=False) as target:
                write_blocks(
                    target.stream.fileno(),
                    blocks,
                    held_hz,
                    samples.shape[1],
                    name=str(path),
                    container=container,
                    codec=codec,
                )
            with self._table.open("ab") as table:
                table.write(row_line(row))
        except UsageError as exc:
            raise OutputError(
                f"{path}: {exc.message}", hint="wav holds any sound: --clip-format wav"
            ) from exc
        except OSError as exc:
            raise OutputError(os_error_text(path, exc)) from exc
        self.n_clips += 1
        return str(path)

    def _cut(self, start_s: float, end_s: float) -> tuple[int, NDArray[np.float32], float]:
        """Rate, (n, channels) samples and start of what is there of a span: of one rate, in one piece."""
        parts: list[NDArray[np.float32]] = []
        rate_hz, first_s, last_s = 0, start_s, start_s
        for heard_s, until_s, sound in self._heard:
            if until_s <= start_s or heard_s >= end_s:
                continue
            if parts and (
                sound.rate_hz != rate_hz
                or sound.samples.shape[1] != parts[0].shape[1]
                or heard_s - last_s > 1 / rate_hz + 1e-3
            ):
                if last_s > start_s + self._options.before_s:
                    break  # the event is in what came before the drop-out
                parts.clear()
            low = max(0, round((start_s - heard_s) * sound.rate_hz))
            high = max(low, round((end_s - heard_s) * sound.rate_hz))
            if not parts:
                rate_hz, first_s = sound.rate_hz, heard_s + low / sound.rate_hz
            parts.append(sound.samples[low:high])
            last_s = until_s
        if not parts:
            return 1, np.empty((0, 1), np.float32), start_s
        return rate_hz, np.concatenate(parts), first_s

    def _path(self, event: Event, begins: datetime) -> Path:
        stem = f"{begins:%Y%m%d_%H%M%S}_{label_part(event.label)}"
        for number in range(1, MAX_SAME_NAME):
            again = "" if number == 1 else f"-{number}"
            path = self._folder / f"{stem}{again}.{self._options.format}"
            if not path.exists() and not path.is_symlink():
                return path
        raise OutputError(f"{self._folder / stem}: too many clips of one name")
