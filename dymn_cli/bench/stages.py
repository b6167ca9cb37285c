"""The stages of tagging a clip, each measured alone on one core.

    decode ──▶ resample ──▶ log-mel ──▶ model ──▶ write

Each stage takes the output of the one before from memory, so that its time is its own. What a whole run takes
beyond their sum is the rest: cutting windows, sending data between processes, the journal, Python.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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

    from numpy.typing import NDArray

    from dymn_cli.runtime.base import Backend
    from dymn_cli.tagging.tagger import Tagger

__all__ = ["COMMON_STAGES", "open_stages"]

COMMON_STAGES = ("resample", "log-mel", "model", "write")
"""The stages that do not depend on the format of the file; decoding does."""

Stage = Callable[[], object]
Item = TypeVar("Item")

BLOCK_FRAMES = BLOCK_VALUES // 2  # that the tagger decodes at once from a stereo file


@contextmanager
def open_stages(
    tagger: Tagger, backend: Backend, clips: Mapping[str, Sequence[Path]], folder: Path, n_clips: int
) -> Iterator[dict[tuple[str, str], Stage]]:
    """The stages of some clips, each as a function that takes `n_clips` clips through it.

    Args:
        tagger: with one thread.
        backend: the model, loaded.
        clips: files of about the same length, by format.
        folder: for the results that are written.
        n_clips: how many clips one call takes.

    Returns:
        The functions by stage and format; the format is "" where it does not matter.
    """

    def over(items: Sequence[Item], work: Callable[[Item], object]) -> Stage:
        def call() -> None:
            for item in itertools.islice(itertools.cycle(items), n_clips):
                work(item)

        return call

    first = next(iter(clips.values()))
    sounds = [_decoded(path) for path in first]
    signals = [np.concatenate(list(_resampled(sound))) for sound in sounds]
    log_mel = LogMel(backend.header.front_end)
    mels = [log_mel(signal) for signal in signals]
    results = [tagger.tag(path, name=path.name) for path in first]
    options = WriterOptions(provenance=Provenance("", tagger.model))
    with open_tags(str(folder / "stages.csv"), "csv", options, force=True) as writer:
        yield {
            **{("decode", form): over(paths, _decode) for form, paths in clips.items()},
            ("resample", ""): over(sounds, lambda sound: [len(block) for block in _resampled(sound)]),
            ("log-mel", ""): over(signals, log_mel),
            ("model", ""): over(mels, backend.run),
            ("write", ""): over(results, writer.write),
        }


def _decode(path: Path) -> int:
    with open_audio(path) as reader:
        return sum(len(block) for block in reader.blocks(BLOCK_FRAMES))


def _decoded(path: Path) -> NDArray[np.float32]:
    with open_audio(path) as reader:
        return np.concatenate(list(reader.blocks(BLOCK_FRAMES)))


def _resampled(sound: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    with open_audio((sound, RATE_HZ)) as reader:
        yield from to_mono_32k(reader)
