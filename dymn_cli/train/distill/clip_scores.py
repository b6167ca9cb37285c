"""The teachers' scores of each single clip: computed once, and kept beside the decoded audio.

    FOLDER/scores-KEY.npy    float16 logits (n_windows, n_classes), the windows of all clips in a row

A clip is heard in windows of ten seconds, one after the other, of which the last ends with the clip; a
shorter clip is repeated, as it is when it is tagged. The key covers the data, the teachers and the front end.
Half precision costs a score at most a thousandth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from dymn_cli.atomic import atomic_write
from dymn_cli.audio.resample import RATE_HZ
from dymn_cli.errors import InputError, OutputError, os_errors_as
from dymn_cli.train.distill.levels import at_level
from dymn_cli.train.distill.validation import WINDOW_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.frontend import FrontEndConfig
    from dymn_cli.train.distill.clips import Corpus
    from dymn_cli.train.distill.teachers import LiveTeacher

__all__ = ["ClipScores", "score_clips"]

BATCH = 8
UNHEARD = -20.0  # logit of all classes of a damaged clip
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class ClipScores:
    """Logits of single clips.

    Args:
        logits: (n_windows, n_classes), those of all clips in a row.
        first: (n_clips + 1,) the first window of each clip, and the number of windows.
        n_frames: of a window.
    """

    logits: NDArray[np.float16]
    first: NDArray[np.int64]
    n_frames: int

    def windows(self, clip: int, frames: NDArray[np.int64]) -> NDArray[np.int64]:
        """The window that each of some frames of a clip is heard in; frames count from 0 at its start."""
        n = int(self.first[clip + 1] - self.first[clip])
        found: NDArray[np.int64] = self.first[clip] + np.minimum(frames // self.n_frames, n - 1)
        return found

    def scores(self, windows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, n_classes) scores in [0, 1] of windows."""
        logits = self.logits[windows].astype(np.float32)
        return np.asarray(1.0 / (1.0 + np.exp(-logits)), np.float32)

    def best_classes(self) -> NDArray[np.int64]:
        """(n_clips,) the class with the highest logit in any window of each clip."""
        highest = np.maximum.reduceat(self.logits, self.first[:-1], axis=0)
        best: NDArray[np.int64] = highest.argmax(axis=1).astype(np.int64)
        return best


def score_clips(
    corpus: Corpus,
    teacher: LiveTeacher,
    identity: Sequence[str],
    front_end: FrontEndConfig,
    folder: Path,
    device: torch.device,
    *,
    level_db: float = 0.0,
    done: Progress = lambda n_done, n_all: None,
) -> ClipScores:
    """The teachers' logits of all clips: from the folder, or computed now.

    Args:
        corpus: the clips.
        teacher: one or more models; of several, the mean of their logits counts.
        identity: of the teachers, for the key.
        front_end: of all of them.
        folder: where the logits are kept; made if need be.
        device: where models compute.
        level_db: each window is brought to this level before (see `levels.level_gain`); 0: it is not.
        done: called after each batch with the number of windows that are done, and of all.

    Raises:
        OutputError: the folder cannot be written.
    """
    n_frames = front_end.n_frames(round(WINDOW_S * RATE_HZ))
    lengths = [corpus.n_frames(index, front_end) for index in range(len(corpus.names))]
    counts = [max(-(-length // n_frames), 1) for length in lengths]
    first = np.cumsum([0, *counts], dtype=np.int64)
    shape = (int(first[-1]), len(teacher.vocabulary))
    known = "\n".join((corpus.fingerprint, *identity, front_end.to_json()))
    known += f"\n{level_db:g} dB" if level_db else ""
    path = folder / f"scores-{hashlib.sha256(known.encode()).hexdigest()[:16]}.npy"
    logits = _read(path, shape)
    if logits is None:
        logits = np.full(shape, UNHEARD, np.float16)
        n_done = 0
        for places, windows in _batches(corpus, front_end, n_frames, first, level_db):
            mel = torch.from_numpy(np.stack(windows)).to(device)
            logits[places] = teacher.predict({front_end: mel}).logits.cpu().numpy().clip(-60, 60)
            n_done += len(places)
            done(n_done, shape[0])
        _write(path, logits)
    return ClipScores(logits, first, n_frames)


def _batches(
    corpus: Corpus, front_end: FrontEndConfig, n_frames: int, first: NDArray[np.int64], level_db: float
) -> Iterator[tuple[list[int], list[NDArray[np.float32]]]]:
    """Windows of all clips that can be read, (1, n_mels, n_frames) each, some at a time, and their places."""
    places: list[int] = []
    windows: list[NDArray[np.float32]] = []
    for index in range(len(corpus.names)):
        try:
            rows = corpus.log_mel(index, front_end)
        except InputError:
            continue
        for place in range(int(first[index]), int(first[index + 1])):
            if len(rows) > n_frames:
                start = min((place - int(first[index])) * n_frames, len(rows) - n_frames)
                heard = rows[start : start + n_frames]
            else:
                heard = np.resize(rows, (n_frames, rows.shape[1]))
            if level_db:
                heard = at_level(heard, front_end, level_db)
            places.append(place)
            windows.append(np.asarray(heard, np.float32).T[np.newaxis])
            if len(places) == BATCH:
                yield places, windows
                places, windows = [], []
    if places:
        yield places, windows


def _read(path: Path, shape: tuple[int, int]) -> NDArray[np.float16] | None:
    """What is kept; None where there is nothing, or not what it should be."""
    try:
        with path.open("rb") as file:
            logits = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return logits if logits.shape == shape and logits.dtype == np.float16 else None


def _write(path: Path, logits: NDArray[np.float16]) -> None:
    with os_errors_as(OutputError, path, hint="--cache DIR puts what is kept elsewhere"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, durable=False) as file:
            np.lib.format.write_array(file, logits, allow_pickle=False)
