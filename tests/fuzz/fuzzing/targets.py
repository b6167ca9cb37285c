"""What is done with a mutant, and what may come of it: one of our errors, or a result that holds together.

A target returns a word for what happened ("valid", "long", or the name of our error). All else that it
raises is a finding.
"""

from __future__ import annotations

import csv
import ctypes
import io
import random
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from dymn_cli.audio.decode import MAX_CHANNELS, MAX_RATE_HZ, MIN_RATE_HZ, AudioReader, open_audio
from dymn_cli.audio.resample import RATE_HZ, channels_32k, to_mono_32k
from dymn_cli.audio.windows import WindowPlan, windows
from dymn_cli.errors import DymnError, InputError, ModelError, UsageError

LONG_S = 60.0
LONGEST_MESSAGE = 2_000


class FindingError(AssertionError):
    """A result that contradicts itself."""


def holds(condition: object, what: str) -> None:
    """Like assert, with a name."""
    if not condition:
        raise FindingError(what)


class Pipe(io.RawIOBase):
    """Bytes that come once and cannot be sought."""

    def __init__(self, data: bytes) -> None:
        self._rest = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._rest.readinto(buffer)


def expect(
    kinds: type[DymnError] | tuple[type[DymnError], ...],
    run: Callable[[], str],
    *,
    longest: int = LONGEST_MESSAGE,
) -> str:
    """Run, and take errors of those kinds with a readable line for an answer."""
    try:
        return run()
    except kinds as error:
        holds(0 < len(error.message) < longest, f"message: {error.message[:200]!r}")
        holds("\n" not in error.message, f"more than a line: {error.message!r}")
        holds(error.hint is None or error.hint, "an empty hint")
        return type(error).__name__


# ---------------------------------------------------------------------- audio


def source_of(data: bytes, rng: random.Random, scratch: Path) -> Any:
    """The same bytes as a file, in memory, or from a pipe."""
    way = rng.random()
    if way < 0.6:
        path = scratch / "mutant"
        path.write_bytes(data)
        return path
    return io.BytesIO(data) if way < 0.85 else Pipe(data)


def audio(data: bytes, rng: random.Random, scratch: Path) -> str:
    """Open, decode, resample, cut."""
    source = source_of(data, rng, scratch)
    plan = rng.choice(
        (WindowPlan(), WindowPlan(0.5, 0.1), WindowPlan(2.0, 0.7, "zero"), WindowPlan(1.0, None, "none"))
    )
    channel = rng.choice(("mix", "mix", "mix", "0", "each"))

    def run() -> str:
        with open_audio(source, name="mutant") as reader:
            _check_info(reader)
            blocks = channels_32k(reader) if channel == "each" else to_mono_32k(reader, channel)
            shape = (reader.info.channels,) if channel == "each" else ()
            end = 0
            for window in windows(blocks, plan):
                expected = (plan.n_window, *shape)
                if window.end - window.start < plan.n_window and plan.pad == "none":
                    expected = (window.end - window.start, *shape)
                holds(window.samples.shape == expected, f"window {window.samples.shape}, not {expected}")
                holds(window.samples.dtype == np.float32, f"{window.samples.dtype} samples")
                holds(np.isfinite(window.samples).all(), "samples that are not finite")
                holds(0 <= window.start < window.end and window.end > end, "windows out of order")
                end = window.end
                if window.end_s > LONG_S:
                    return "long"
            holds(end, "no window and no error")
            holds(
                abs(reader.duration_s - end / RATE_HZ) < 1e-3,
                f"{reader.duration_s} s read, {end / RATE_HZ} s cut",
            )
            holds(all(warning and "\n" not in warning for warning in reader.warnings), "unreadable warnings")
        return "valid"

    return expect(InputError, run)


def _check_info(reader: AudioReader) -> None:
    info = reader.info
    holds(MIN_RATE_HZ <= info.rate_hz <= MAX_RATE_HZ, f"a rate of {info.rate_hz}")
    holds(1 <= info.channels <= MAX_CHANNELS, f"{info.channels} channels")
    holds(info.n_frames is None or info.n_frames >= 0, f"{info.n_frames} frames claimed")
    holds(info.container and info.codec, "no name of the format")


def taste(data: bytes, rng: random.Random, scratch: Path) -> str:
    """Two ways to the same bytes must give the same samples, or the same class of error."""
    path = scratch / "mutant"
    path.write_bytes(data)
    answers = []
    for source in (path, io.BytesIO(data)):
        n, total = 0, 0.0

        def run(source: Any = source) -> str:
            nonlocal n, total
            with open_audio(source, name="mutant") as reader:
                for block in reader.blocks(20_000):
                    n += len(block)
                    total += float(np.abs(block).sum(dtype=np.float64))
                    if reader.duration_s > LONG_S:
                        return "long"
            return "valid"

        answers.append((expect(InputError, run), n, total))
    holds(answers[0] == answers[1], f"by path {answers[0]}, from memory {answers[1]}")
    return answers[0][0]


def whole_of(data: bytes, _rng: random.Random, _scratch: Path) -> str:
    """The whole of the file that the text names, however long: time grows with it, memory must not."""
    path = Path(data.decode())

    def run() -> str:
        with open_audio(path, name="mutant") as reader:
            n = sum(1 for _ in windows(to_mono_32k(reader), WindowPlan()))
            holds(n == max(1, -(-reader.duration_s // 10)), f"{n} windows of {reader.duration_s} s")
            return f"{reader.duration_s:.2f} s"

    return expect(InputError, run)


class FakeBackend:
    """Answers at once, with values that depend on all of the log-mel: NaN in, NaN out."""

    def __init__(self) -> None:
        from dymn_cli.frontend.melbank import FrontEndConfig
        from dymn_cli.labels import Vocabulary
        from dymn_cli.model.config import ModelConfig
        from dymn_cli.results import ModelInfo
        from dymn_cli.store.header import ModelHeader

        self.header = ModelHeader("fake", ModelConfig(width=0.4), FrontEndConfig(), Vocabulary.audioset())
        self.info = ModelInfo("fake", "0" * 64, "fake", "CPU")
        self.on_cpu = self.has_frames = True

    def run(self, mels: np.ndarray, *, frames: bool = False) -> Any:
        from dymn_cli.runtime.base import Answer

        mean = mels.mean(axis=(1, 3))
        n_classes, n_embedding = self.header.config.n_classes, self.header.config.embedding_size
        logits, embedding = (np.resize(mean.T, (n, len(mean))).T.copy() for n in (n_classes, n_embedding))
        n_steps = self.header.config.n_steps(mels.shape[3])
        steps = np.repeat(logits[:, np.newaxis], n_steps, axis=1) if frames else None
        return Answer(logits, embedding, steps)


_taggers: dict[str, Any] = {}


def _tagger(kind: str) -> Any:
    if kind not in _taggers:
        from dymn_cli.tagging import tagger

        real = tagger.open_backend
        try:
            if kind == "fake":
                tagger.open_backend = lambda *_args, **_kwargs: FakeBackend()
            _taggers[kind] = tagger.Tagger(threads=1 if kind == "fake" else 2)
        finally:
            tagger.open_backend = real
    return _taggers[kind]


def tagger(data: bytes, rng: random.Random, scratch: Path) -> str:
    """The whole way to tags; one in ten with the real model."""
    model = _tagger("real" if rng.random() < 0.1 else "fake")
    source = source_of(data, rng, scratch)
    changes = {"window_s": rng.choice((10.0, 1.0)), "channel": rng.choice(("mix", "mix", "each", "1"))}

    def run() -> str:
        with model.analyse(source, name="mutant", **changes) as analysis:
            answers = list(islice(analysis, 8))
        holds(answers, "no window and no error")
        for _, window in answers:
            for values, size in ((window.logits, 527), (window.scores, 527), (window.embedding, 384)):
                holds(
                    values.shape == (size,) and values.dtype == np.float32, f"{values.dtype} {values.shape}"
                )
                holds(np.isfinite(values).all(), "an answer that is not finite")
            holds(window.scores.min() >= 0 and window.scores.max() <= 1, "scores outside 0 to 1")
        return "long" if len(answers) == 8 else "valid"

    return expect(InputError, run)


ARRAY_TYPES = (
    "f2",
    "f4",
    "f8",
    "i1",
    "u1",
    "i2",
    "i4",
    "u2",
    "u4",
    "i8",
    "u8",
    "c8",
    "?",
    "O",
    "S3",
    ">f4",
    ">i2",
    "M8[s]",
)
SHAPES = (
    (0,),
    (1,),
    (4_000,),
    (8_000, 2),
    (2, 8_000),
    (100, 64),
    (100, 65),
    (3_000, 0),
    (0, 2),
    (),
    (5, 5, 5),
    (9_000, 1),
)
RATES = (
    0,
    1,
    999,
    1_000,
    8_000,
    32_000,
    44_100,
    768_000,
    768_001,
    10_000_000,
    -1,
    1 << 70,
    16_000.0,
    0.5,
    float("nan"),
    "8000",
    None,
)


def array(_data: bytes, rng: random.Random, _scratch: Path) -> str:
    """Arrays as sources: any type, shape, memory order, rate and values."""
    shape = rng.choice(SHAPES)
    raw = np.frombuffer(rng.randbytes(16 * max(1, int(np.prod(shape)))), np.uint8)
    dtype = np.dtype(rng.choice(ARRAY_TYPES))
    n = int(np.prod(shape))
    if dtype.hasobject:
        samples = np.array([rng.choice((0, 1.5, None, "x")) for _ in range(n)], object).reshape(shape)
    elif rng.random() < 0.5 and dtype.kind == "f":
        samples = np.resize(np.linspace(-1, 1, 777), n).astype(dtype).reshape(shape)
        if n and rng.random() < 0.5:
            samples.reshape(-1)[rng.randrange(n)] = rng.choice((np.nan, np.inf, 6e4))
    else:
        samples = np.resize(raw, n * dtype.itemsize).view(dtype).reshape(shape)
    if samples.ndim and rng.random() < 0.3:
        samples = samples[::-1].T if rng.random() < 0.5 else np.asfortranarray(samples)
    rate: Any = rng.choice((*RATES, 8_000, 8_000, 44_100))

    def run() -> str:
        with open_audio((samples, rate)) as reader:
            _check_info(reader)
            found = list(windows(to_mono_32k(reader), WindowPlan()))
        holds(found and all(np.isfinite(window.samples).all() for window in found), "not finite")
        return "valid"

    return expect((InputError, UsageError), run)


# ---------------------------------------------------------------------- models and tables


def _opens(path: Path) -> str:
    from dymn_cli.tagging.tagger import Tagger

    with Tagger(path, backend="auto" if path.suffix == ".onnx" else MODEL_BACKEND, threads=1) as model:
        result = model.tag((np.linspace(-1, 1, 32_000, dtype=np.float32), 32_000))
        holds(result.scores.shape == (len(model.vocabulary),), f"scores {result.scores.shape}")
        holds(result.embedding.shape == (model.embedding_size,), f"embedding {result.embedding.shape}")
        holds(np.isfinite(result.scores).all() and np.isfinite(result.embedding).all(), "not finite")
    return "valid"


MODEL_BACKEND = "onnx"


def safetensors(data: bytes, _rng: random.Random, scratch: Path) -> str:
    """Read a weights file and, where it can be read, run it."""
    path = scratch / "mutant.safetensors"
    path.write_bytes(data)
    return expect(ModelError, lambda: _opens(path))


def checkpoint(data: bytes, _rng: random.Random, scratch: Path) -> str:
    """Read a PyTorch checkpoint and, where it can be read, make a model of it."""
    from dymn_cli.model.layout import is_optional, state_shapes
    from dymn_cli.store.convert import convert

    path = scratch / "mutant.pt"
    path.write_bytes(data)

    def run() -> str:
        header, tensors = convert(path, name="mutant", purpose=None)
        shapes = {key: s for key, s in state_shapes(header.config).items() if not is_optional(key)}
        holds({key: tensor.shape for key, tensor in tensors.items()} == shapes, "other tensors")
        for tensor in tensors.values():
            holds(tensor.dtype == np.float32 and tensor.flags.c_contiguous, f"{tensor.dtype} numbers")
            holds(np.isfinite(tensor).all(), "not finite")
        return "valid"

    return expect(ModelError, run)


def onnx(data: bytes, _rng: random.Random, scratch: Path) -> str:
    """Load an ONNX file and, where it loads, run it."""
    path = scratch / "mutant.onnx"
    path.write_bytes(data)
    return expect(ModelError, lambda: _opens(path))


def thresholds(data: bytes, _rng: random.Random, scratch: Path) -> str:
    """Read a CSV file of thresholds and look its labels up."""
    from dymn_cli.labels import Vocabulary
    from dymn_cli.tagging.options import TagOptions
    from dymn_cli.tagging.selection import Selection
    from dymn_cli.tagging.thresholds import read_thresholds

    path = scratch / "mutant.csv"
    path.write_bytes(data)

    def run() -> str:
        pairs = read_thresholds(str(path)).pairs
        holds(all(isinstance(label, str) and 0 <= score <= 1 for label, score in pairs), "pairs")
        Selection(TagOptions(thresholds=pairs[:20]), Vocabulary.audioset())
        return "valid"

    return expect(UsageError, run, longest=4 * csv.field_size_limit())  # it quotes a field


def names(data: bytes, rng: random.Random, scratch: Path) -> str:
    """Read a list of names and look for them."""
    from dymn_cli.audio.discover import find, read_names

    def run() -> str:
        listed = list(read_names(io.BytesIO(data), null=rng.random() < 0.5))
        holds(all(listed) and all(isinstance(name, str) for name in listed), "an empty name")
        harmless = [str(scratch) + "/" + name if name.startswith("/") else name for name in listed[:500]]
        for found in find(name for name in harmless if name.strip("./~")):
            holds(found.name, "an empty name found")
        return "valid"

    return expect((InputError, UsageError), run)


# ---------------------------------------------------------------------- proof that a finding is found


_planted: list[bool] = []


def misbehave(data: bytes, _rng: random.Random, _scratch: Path) -> str:
    """Do what the text says: the harness must notice each."""
    match data.decode():
        case "crash":
            ctypes.string_at(0)
        case "hang":
            time.sleep(3_600)
        case "allocate":
            return str(len(np.ones(160 << 17)))
        case "plant":
            _planted.append(True)
        case "step on it" if _planted:
            ctypes.string_at(0)
        case "complain":
            sys.stderr.write("oh no\n")
            sys.stderr.flush()
        case "print":
            print("on stdout")
        case "print in C":
            ctypes.CDLL(None).puts(b"on stdout")
        case "raise":
            raise ZeroDivisionError("not ours")
        case "wrong":
            holds(False, "a result that is none")
        case "exit":
            raise SystemExit(0)
    return "valid"


TARGETS: dict[str, Callable[[bytes, random.Random, Path], str]] = {
    function.__name__: function
    for function in (
        *(audio, taste, whole_of, tagger, array, safetensors, checkpoint, onnx, thresholds, names),
        misbehave,
    )
}
