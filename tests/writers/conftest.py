"""Scripted results: what a model would have answered, with the names that real folders hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from dymn_cli.results import AudioInfo, ClipResult, Event, Failure, ModelInfo, SourceEvents, Tag, WindowTags
from dymn_cli.writers.base import EmbeddingOptions, EmbeddingRow, Provenance, WriterOptions

MODEL = ModelInfo("dymn04_kd", "ab" * 32, "onnx", "CPUExecutionProvider")

TRAIN = Tag(1, 325, "Train", "/m/07jdr", 0.747149)
SUBWAY = Tag(2, 330, "Subway, metro, underground", "/m/0195fx", 0.59906)
RAIL = Tag(3, 324, "Rail transport", "/m/06d_3", 0.00004)


@pytest.fixture
def provenance() -> Provenance:
    options = (("window_s", 10.0), ("hop_s", 10.0), ("pad", "repeat"), ("labels", ("Owl", "Train")))
    return Provenance("0.1.0", MODEL, options)


@pytest.fixture
def options(provenance: Provenance) -> Callable[..., WriterOptions]:
    return lambda **changes: WriterOptions(**{"provenance": provenance, **changes})


@pytest.fixture
def embedding_options(provenance: Provenance) -> Callable[..., EmbeddingOptions]:
    return lambda **changes: EmbeddingOptions(**{"provenance": provenance, "size": 3, **changes})


@pytest.fixture
def clip() -> ClipResult:
    """A stereo recording whose two windows overlap, because the last one ends at the end."""
    windows = (
        WindowTags(0.0, 10.0, (TRAIN,)),
        WindowTags(0.1 + 0.2, 10.3, (dataclasses.replace(SUBWAY, rank=1),)),
    )
    return ClipResult(
        source="metro.wav",
        channel="mix",
        audio=AudioInfo(44_100, 2, 454_230, "WAV", "PCM_24"),
        duration_s=10.300000000000001,
        tags=(TRAIN, SUBWAY),
        scores=np.zeros(527, np.float32),
        embedding=np.array([0.1, -2.5, 1e-7], np.float32),
        n_windows=2,
        windows=windows,
        warnings=(),
        model=MODEL,
    )


@pytest.fixture
def found() -> SourceEvents:
    """Two sounds that overlap, in an hour and a half of a farm."""
    tractor = Event("farm.flac", "mix", 0.1 + 0.2, 5400.0, 72, "Subway, metro, underground", "/m/0195fx",
                    0.599061, 0.4, 5396)  # fmt: skip
    dog = Event("farm.flac", "mix", 3723.0, 3725.5, 74, "Dog", "/m/0bt9lr", 0.747149, 0.61234, 7)
    audio = AudioInfo(22_050, 1, 5400 * 22_050, "FLAC", "PCM_16")
    return SourceEvents("farm.flac", audio, 5400.0, (tractor, dog), (), MODEL)


@pytest.fixture
def rail_tag() -> Tag:
    return RAIL


@pytest.fixture
def failure() -> Failure:
    return Failure("br\udcf6ken.wav", "CorruptAudioError", "br\udcf6ken.wav: cut short", "decode it again", 3)


@pytest.fixture
def rows(clip: ClipResult) -> list[EmbeddingRow]:
    """The clip, and the second window of another source."""
    other = EmbeddingRow("a,b.wav", "1", 0.1 + 0.2, 10.3, np.array([1, 2, 3], np.float32), ("müde",))
    return [EmbeddingRow.of_clip(clip), other]


AWKWARD_NAMES = {
    "comma": "a, b.wav",
    "quote": 'the "take".wav',
    "newline": "two\nlines.wav",
    "carriage return": "two\rlines.wav",
    "tab": "a\tb.wav",
    "backslash": r"C:\new\take.wav",
    "formula": "=1+2.wav",
    "brackets": "take [1] [/bold].wav",
    "emoji": "owl 🦉 :owl:.wav",
    "spaces": "  padded  .wav ",
    "not UTF-8": "na\udcefve.wav",
    "separator": "para\u2029graph\x0b.wav",
}


@pytest.fixture(params=AWKWARD_NAMES.values(), ids=AWKWARD_NAMES)
def awkward_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def awkward_names() -> list[str]:
    return list(AWKWARD_NAMES.values())
