"""The way of one clip, stage by stage, each on its own and on one core.

    decode ──▶ resample ──▶ log-mel ──▶ model ──▶ write

Each stage gets what the one before it gives, held in memory, so that its time is its own. What a whole run
takes beyond the sum is the rest: cutting windows, travelling between processes, the journal, Python.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from dymn_cli.audio.decode import open_audio
from dymn_cli.audio.resample import BLOCK_VALUES, to_mono_32k
from dymn_cli.bench.clips import RATE_HZ
from dymn_cli.frontend.logmel import LogMel
from dymn_cli.writers import Provenance, WriterOptions, open_tags

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

    from dymn_cli.runtime.base import Backend
    from dymn_cli.tagging.tagger import Tagger

__all__ = ["COMMON_STAGES", "Stages"]

COMMON_STAGES = ("resample", "log-mel", "model", "write")
"""Those that have the same to do whatever the file was; decoding differs by format."""

Stage = Callable[[], object]
Item = TypeVar("Item")

BLOCK_FRAMES = BLOCK_VALUES // 2  # what the tagger decodes at once of a stereo file


class Stages:
    """The stages of some clips as things to call; use it in a `with` statement.

    Args:
        tagger: with one thread.
        backend: the model, loaded.
        clips: format → files of about one length.
        folder: for the results that are written.
        n_clips: how many clips one call does.
    """

    def __init__(
        self,
        tagger: Tagger,
        backend: Backend,
        clips: Mapping[str, Sequence[Path]],
        folder: Path,
        n_clips: int,
    ) -> None:
        self._opened = ExitStack()
        self._n_clips = n_clips
        first = next(iter(clips.values()))
        sounds = [_decoded(path) for path in first]
        signals = [np.concatenate(list(_resampled(sound))) for sound in sounds]
        log_mel = LogMel(backend.header.front_end)
        mels = [log_mel(signal) for signal in signals]
        results = [tagger.tag(path, name=path.name) for path in first]
        writing = WriterOptions(provenance=Provenance("", tagger.model))
        writer = self._opened.enter_context(open_tags(str(folder / "stages.csv"), "csv", writing, force=True))
        self._stages: dict[tuple[str, str], Stage] = {
            **{("decode", form): self._over(paths, _decode) for form, paths in clips.items()},
            ("resample", ""): self._over(sounds, lambda sound: [len(block) for block in _resampled(sound)]),
            ("log-mel", ""): self._over(signals, log_mel),
            ("model", ""): self._over(mels, backend.run),
            ("write", ""): self._over(results, writer.write),
        }

    @property
    def by_name(self) -> Mapping[tuple[str, str], Stage]:
        """(stage, format) → what does it for `n_clips` clips; the format is "" where it does not matter."""
        return self._stages

    def _over(self, items: Sequence[Item], work: Callable[[Item], object]) -> Stage:
        def call() -> None:
            for item in itertools.islice(itertools.cycle(items), self._n_clips):
                work(item)

        return call

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()


def _decode(path: Path) -> int:
    with open_audio(path) as reader:
        return sum(len(block) for block in reader.blocks(BLOCK_FRAMES))


def _decoded(path: Path) -> NDArray[np.float32]:
    with open_audio(path) as reader:
        return np.concatenate(list(reader.blocks(BLOCK_FRAMES)))


def _resampled(sound: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    with open_audio((sound, RATE_HZ)) as reader:
        yield from to_mono_32k(reader)
