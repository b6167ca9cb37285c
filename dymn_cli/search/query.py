"""The embedding of a query, made as those of the library were: same model, same windows, same channel."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from dymn_cli.audio.decode import open_audio
from dymn_cli.audio.frames import FramePlan
from dymn_cli.audio.windows import between
from dymn_cli.errors import EmptyAudioError, InputError, ModelError, UsageError
from dymn_cli.tagging.options import TagOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dymn_cli.audio.decode import Source
    from dymn_cli.search.matrix import Library

__all__ = ["Embedder"]

BLOCK_FRAMES = 1 << 16
SAME_AS_SILENCE = 1e-5


class Embedder:
    """Embeds recordings as those of a library were.

    Args:
        library: says how.
        model: name or path, where the library's own name of it does not lead to it.
        backend: "auto", "onnx" or "torch".
        device: what runs it.
        threads: windows at once.

    Raises:
        InputError: nothing says what made the library.
        ModelError: the model cannot be loaded, or is another one than the library's.
    """

    def __init__(
        self,
        library: Library,
        *,
        model: str | None = None,
        backend: str = "auto",
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        from dymn_cli.tagging.tagger import Tagger

        made = library.provenance
        if made is None:
            raise InputError(
                f"{library.name}: no model is named beside it, so nothing can be compared with it",
                hint="keep the .meta.json that dymn embed wrote, or use --like with names of the library",
            )
        names = tuple(member.name for member in made.model.members) or (made.model.name,)
        self._tagger = Tagger(
            (model,) if model is not None else names,
            backend=backend,
            device=device,
            threads=threads,
            concat=len(names) > 1,
            options=_options(dict(made.options)),
        )
        self._tagger.require_embedding()
        if self._tagger.model.sha256 != made.model.sha256:
            raise ModelError(
                f"{library.name} was made with {made.model.name} ({made.model.sha256[:12]}), and the model"
                f" here is {self._tagger.model.name} ({self._tagger.model.sha256[:12]})",
                hint="-m names the model that made it; or run dymn embed again",
            )
        self._silence: NDArray[np.float32] | None = None

    def __call__(
        self,
        source: Source,
        *,
        name: str | None = None,
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> NDArray[np.float32]:
        """The embedding (D,) of a recording, or of what is between two times of it.

        Raises:
            InputError: it cannot be read, has nothing there, or is silent.
            UsageError: the times are in no order.
        """
        called = name or (os.fsdecode(source) if isinstance(source, str | os.PathLike) else "the query")
        if start_s is not None or end_s is not None:
            source = _excerpt(source, called, start_s or 0.0, end_s)
        found = self._tagger.embed(source, name=called)
        if self._silence is None:
            silence = np.zeros(16_000, np.float32), 32_000
            self._silence = self._tagger.embed(silence, name="silence")
        if np.abs(found - self._silence).max() <= SAME_AS_SILENCE:
            raise EmptyAudioError(f"{called}: silent, so there is nothing to look for")
        return found


def _options(made: dict[str, Any]) -> TagOptions:
    channel = str(made.get("channel", "mix"))
    channel = "mix" if channel == "each" else channel
    strict = bool(made.get("strict", False))
    window_s, hop_s = float(made.get("window_s", 10.0)), float(made.get("hop_s", 10.0))
    if made.get("per") == "frame":
        return TagOptions(channel=channel, strict=strict, frames=FramePlan(window_s, hop_s))
    pad = made.get("pad", "repeat")
    return TagOptions(window_s=window_s, hop_s=hop_s, pad=pad, channel=channel, strict=strict)


def _excerpt(
    source: Source, name: str, start_s: float, end_s: float | None
) -> tuple[NDArray[np.float32], int]:
    """The samples between two times, decoded from the start, as times of results are meant."""
    if not start_s >= 0 or (end_s is not None and not end_s > start_s):
        until = "" if end_s is None else f" --end {end_s:g}"
        raise UsageError(f"--start {start_s:g}{until}: not two times in order")
    with open_audio(source, name=name) as reader:
        rate_hz = reader.info.rate_hz
        end = None if end_s is None else round(end_s * rate_hz)
        blocks = list(between(reader.blocks(BLOCK_FRAMES), round(start_s * rate_hz), end))
    if not blocks:
        raise EmptyAudioError(f"{name}: ends before {start_s:g} s")
    return np.concatenate(blocks), rate_hz
