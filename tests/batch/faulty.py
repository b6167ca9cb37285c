"""A model that answers at once, and sources that do harm: what a worker does is in the name of its source.

Importable by the workers, which are processes of their own.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dymn_cli.batch.job import Job
from dymn_cli.errors import CorruptAudioError, ModelError
from dymn_cli.labels import Vocabulary
from dymn_cli.results import AudioInfo, ModelInfo, WindowScores
from dymn_cli.tagging.tagger import ChannelWindow

SIZE = 384


class FaultyTagger:
    """Looks like a tagger as far as the batch engine does."""

    model = ModelInfo("none", "0" * 64, "none", "none")
    embedding_size = SIZE
    calibration_digest = None

    def __init__(self, note: str) -> None:
        self.vocabulary = Vocabulary.audioset()
        self._note = note

    def analyse(self, source: object, *, name: str) -> FaultyAnalysis:
        if self._note:
            with Path(self._note).open("a") as file:
                file.write(f"{os.getpid()} {name}\n")
        return FaultyAnalysis(name, len(self.vocabulary))

    def close(self) -> None:
        pass


class FaultyAnalysis:
    warnings = ()
    damage = ()
    is_live = False

    def __init__(self, name: str, n_labels: int) -> None:
        self.name = name
        self.n_labels = n_labels
        self.audio = AudioInfo(32_000, 1, None, "WAV", "PCM_16")
        self.duration_s = 10.0

    def __enter__(self) -> FaultyAnalysis:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def __iter__(self) -> Iterator[ChannelWindow]:
        what, _, number = Path(self.name).stem.partition("-")
        rng = np.random.default_rng(sum(self.name.encode()))
        n_windows = int(number) if what == "windows" else 1
        for n in range(n_windows):
            scores = rng.random(self.n_labels, np.float32)
            embedding = rng.random(SIZE, np.float32)
            yield ChannelWindow("mix", WindowScores(10.0 * n, 10.0 * n + 10, scores, scores, embedding))
        self._harm(what, number)

    def _harm(self, what: str, number: str) -> None:
        if what == "signal":
            os.kill(os.getpid(), getattr(signal, number))
        elif what == "exit":
            os._exit(int(number))
        elif what == "hang":
            time.sleep(3600)
        elif what == "slow":
            time.sleep(float(number))
        elif what == "bug":
            raise TypeError("a list is no dict")
        elif what == "memory":
            raise MemoryError
        elif what == "library":
            raise ImportError("_umath.so: failed to map segment from shared object")
        elif what == "model":
            raise ModelError("it answers with NaN")
        elif what == "corrupt":
            raise CorruptAudioError(f"{self.name}: damaged", hint="record it again")
        elif what == "stdout":
            os.write(1, b"from a library")
            sys.stdout.write("from a library")
            sys.stdout.flush()


class FaultyJob(Job):
    """Work with that model; what was begun, and by which process, is noted in the file `model`."""

    def open_tagger(self, threads: int | None = None) -> FaultyTagger:  # type: ignore[override]
        if self.device == "dies":
            os._exit(3)
        if self.device == "missing":
            raise ModelError("no such model", hint="look elsewhere")
        return FaultyTagger(self.model)
