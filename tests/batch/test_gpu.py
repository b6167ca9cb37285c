"""A model that is fed by decoders: the same results, in batches of one size, whoever the windows are of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import sounds
from checkpoints import state_dict

from dymn_cli.audio.discover import Found
from dymn_cli.audio.frames import FramePlan
from dymn_cli.batch.gpu import Decoding, GpuEngine
from dymn_cli.batch.job import Job, Reader
from dymn_cli.batch.journal import Journal
from dymn_cli.batch.pool import Pool
from dymn_cli.batch.run import Engine, InProcess, open_engine, run
from dymn_cli.errors import ModelError, UsageError
from dymn_cli.frontend.melbank import FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.model.config import ARCHITECTURES
from dymn_cli.runtime.base import Answer
from dymn_cli.store.header import ModelHeader
from dymn_cli.store.weights import read_weights, save_weights
from dymn_cli.tagging import tagger as tagger_module
from dymn_cli.tagging.events import EventOptions
from dymn_cli.tagging.options import TagOptions

BATCH = 5


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Recordings of one to eight windows, one that is too short for its window, and two that fail."""
    folder = tmp_path_factory.mktemp("feed")
    names = []
    for n, seconds in enumerate((1.0, 4.2, 0.4, 2.0, 1.5, 3.3)):
        path = folder / f"{n}.wav"
        sf.write(path, sounds.noise((int(seconds * 16_000), 2), seed=n), 16_000)
        names.append(str(path))
    broken = folder / "broken.wav"
    broken.write_text("no audio")
    return [*names[:3], str(broken), *names[3:], str(folder / "gone.wav")]


class Quiet:
    def kept(self, *_: object) -> None: ...
    def done(self, *_: object) -> None: ...
    def failed(self, *_: object) -> None: ...
    def within(self, *_: object) -> None: ...


def results(engine: Engine, job: Job, files: list[str]) -> list[Any]:
    """All that is known of each source, in order."""
    found: list[Any] = []
    with Journal.temporary() as journal:
        description = engine.description
        reader = Reader(journal, job, description)

        def write(name: str) -> None:
            for clip in reader.clips(name):
                found.append((name, clip.channel, clip.tags, clip.duration_s, clip.warnings, clip.audio))
                found.append((clip.scores.tobytes(), list(clip.windows), clip.n_windows))
            for rows in reader.embedding_rows(name):
                found.extend((row.channel, row.start_s, row.embedding.tobytes()) for row in rows)
            found.append(reader.events(name).events)

        def fail(failure: Any) -> None:
            found.append((failure.source, failure.error, failure.message))

        run(map(Found, files), engine, journal, write=write, fail=fail, watcher=Quiet())
    return found


@pytest.fixture(scope="module")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Files of three small models, two of them with one front end."""
    paths = []
    for name, seed, numbers in (("a", 1, {}), ("b", 2, {"n_hop": 800, "n_mels": 64}), ("c", 3, {})):
        header = ModelHeader(name, ARCHITECTURES["mn01"], FrontEndConfig(**numbers), Vocabulary.audioset())
        paths.append(tmp_path_factory.mktemp("models") / f"{name}.safetensors")
        save_weights(paths[-1], header, state_dict(header.config, seed))
    return tuple(map(str, paths))


@pytest.fixture
def feeding() -> Iterator[Any]:
    """Makes an engine for work, on this machine's CPU."""
    engines: list[GpuEngine] = []

    def make(job: Job) -> GpuEngine:
        tagger = job.open_tagger(1)
        engines.append(GpuEngine(job, tagger, Pool(Decoding.of(job, tagger), 2)))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@pytest.mark.parametrize(
    ("channel", "pad"),
    [
        ("each", "none"),
        pytest.param("each", "repeat", marks=pytest.mark.slow),
        pytest.param("mix", "none", marks=pytest.mark.slow),
        ("mix", "repeat"),
    ],
)
def test_results_are_those_of_a_model_that_decodes_itself(
    feeding: Any, files: list[str], pad: str, channel: str
) -> None:
    options = TagOptions(window_s=1.0, hop_s=0.5, windows=True, channel=channel, pad=pad, frame_scores=True)  # type: ignore[arg-type]
    job = Job(
        "dymn04_kd", "onnx", "cpu", BATCH, options,
        keep_scores=True, keep_window_embeddings=True, events=EventOptions(on=0.05),
    )  # fmt: skip
    expected = results(InProcess(job, job.open_tagger(1)), job, files)
    assert results(feeding(job), job, files) == expected
    assert len(expected) > 40


def test_frames_are_those_of_a_model_that_decodes_itself(feeding: Any, files: list[str]) -> None:
    options = TagOptions(frames=FramePlan(0.2, 0.1))
    job = Job("dymn04_kd", "onnx", "cpu", BATCH, options, keep_scores=True, keep_window_embeddings=True)
    few = files[:3]
    expected = results(InProcess(job, job.open_tagger(1)), job, few)
    assert results(feeding(job), job, few) == expected
    assert len(expected) > 11 + 43 + 5


@pytest.mark.parametrize("pad", ["repeat", pytest.param("none", marks=pytest.mark.slow)])
def test_an_ensemble_is_fed_a_log_mel_for_each_front_end(
    feeding: Any, files: list[str], small_models: tuple[str, ...], pad: str
) -> None:
    options = TagOptions(window_s=1.0, hop_s=0.5, windows=True, channel="each", pad=pad)  # type: ignore[arg-type]
    job = Job(
        small_models, "onnx", "cpu", BATCH, options,
        keep_scores=True, keep_window_embeddings=True, concat=True,
    )  # fmt: skip
    expected = results(InProcess(job, job.open_tagger(1)), job, files)
    assert results(feeding(job), job, files) == expected
    assert len(expected) > 40


def test_an_ensemble_in_workers_answers_as_here(files: list[str], small_models: tuple[str, ...]) -> None:
    job = Job(small_models, "onnx", "cpu", None, TagOptions(window_s=1.0), keep_scores=True)
    expected = results(InProcess(job, job.open_tagger(1)), job, files)
    with contextlib.closing(Pool(job, 2)) as pool:
        assert pool.description.model.name == "a+b+c"
        assert results(pool, job, files) == expected


def test_work_that_a_model_cannot_do_is_refused_before_it_begins(small_models: tuple[str, ...]) -> None:
    for keep in ({"keep_embedding": True}, {"keep_window_embeddings": True}):
        with pytest.raises(UsageError, match="no embedding of its own"):
            Pool(Job(small_models, "onnx", "cpu", None, TagOptions(), **keep), 1)


def test_where_the_device_computes_log_mels_it_is_fed_samples(
    feeding: Any, files: list[str], small_models: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from dymn_cli.runtime.torch import TorchGpuBackend

    job = Job(small_models, "onnx", "cpu", BATCH, TagOptions(window_s=1.0, hop_s=0.5), keep_scores=True)
    expected = results(InProcess(job, job.open_tagger(1)), job, files)
    heard: list[tuple[int, ...]] = []
    plain = TorchGpuBackend.log_mel

    def spy(self: Any, config: FrontEndConfig, samples: np.ndarray) -> Any:
        heard.append(samples.shape)
        return plain(self, config, samples)

    monkeypatch.setattr(TorchGpuBackend, "log_mel", spy)
    monkeypatch.setattr(
        tagger_module,
        "open_backend",
        lambda name, **_: TorchGpuBackend(read_weights(Path(name)), device="cpu"),
    )
    found = results(feeding(job), job, files)
    assert set(heard) == {(BATCH, 32_000)}
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        if one and isinstance(one[0], bytes):
            scores, wanted = (np.frombuffer(each[0], np.float32) for each in (one, other))
            np.testing.assert_allclose(scores, wanted, atol=0.02)


def test_all_batches_have_one_size_and_windows_of_several_sources(
    feeding: Any, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = TagOptions(window_s=1.0, hop_s=0.5, frame_scores=True)
    job = Job("dymn04_kd", "onnx", "cpu", BATCH, options)
    engine = feeding(job)
    (backend,), sizes = engine._tagger._models.members, []
    answer = type(backend).run

    def spy(self: Any, mels: np.ndarray, *, frames: bool) -> Answer:
        sizes.append(len(mels))
        assert frames
        return answer(self, mels, frames=frames)

    monkeypatch.setattr(type(backend), "run", spy)
    results(engine, job, files)
    assert set(sizes) == {BATCH}
    # Where all decoders happen to wait for a source, what is there is asked for, full or not.
    n_windows, n_sources = 1 + 8 + 1 + 3 + 2 + 6, 6
    assert -(-n_windows // BATCH) <= len(sizes) < n_windows // BATCH + n_sources


def test_a_model_that_fails_ends_the_run(
    feeding: Any, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job("dymn04_kd", "onnx", "cpu", BATCH, TagOptions(window_s=1.0))
    engine = feeding(job)

    def fail(self: Any, mels: np.ndarray, *, frames: bool) -> Answer:
        raise ModelError("out of memory on the device")

    monkeypatch.setattr(type(engine._tagger._models.members[0]), "run", fail)
    with pytest.raises(ModelError, match="out of memory"):
        results(engine, job, files)


def test_a_device_that_is_no_cpu_is_fed(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class OnDevice(Job):
        def open_tagger(self, threads: int | None = None) -> Any:
            return Job("dymn04_kd", "onnx", "cpu", BATCH, self.options).open_tagger(threads)

    job = OnDevice("dymn04_kd", "torch", "cuda", None, TagOptions(window_s=1.0))
    engine = open_engine(job, files * 3, jobs=2, threads=None, limit_s=None)
    try:
        assert isinstance(engine, GpuEngine)
        assert len(results(engine, job, files)) > 10
    finally:
        engine.close()
    assert Path(files[0]).exists()
