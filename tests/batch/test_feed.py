"""A model that is fed by decoders: the same results, in batches of one size, whoever the windows are of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from dymn_cli.batch.discover import Found
from dymn_cli.batch.feed import Decoding, Feeding
from dymn_cli.batch.journal import Journal
from dymn_cli.batch.pool import Pool
from dymn_cli.batch.run import Engine, InProcess, open_engine, run
from dymn_cli.batch.work import Reader, Work
from dymn_cli.errors import ModelError
from dymn_cli.runtime.base import Answer
from dymn_cli.tagging.events import EventOptions
from dymn_cli.tagging.options import TagOptions

BATCH = 5


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Recordings of one to eight windows, one that is too short for its window, and two that fail."""
    folder = tmp_path_factory.mktemp("feed")
    rng = np.random.default_rng(2)
    names = []
    for n, seconds in enumerate((1.0, 4.2, 0.4, 2.0, 1.5, 3.3)):
        path = folder / f"{n}.wav"
        sf.write(path, rng.normal(0, 0.1, (int(seconds * 16_000), 2)).astype(np.float32), 16_000)
        names.append(str(path))
    broken = folder / "broken.wav"
    broken.write_text("no audio")
    return [*names[:3], str(broken), *names[3:], str(folder / "gone.wav")]


class Quiet:
    def kept(self, *_: object) -> None: ...
    def done(self, *_: object) -> None: ...
    def failed(self, *_: object) -> None: ...
    def within(self, *_: object) -> None: ...


def results(engine: Engine, work: Work, files: list[str]) -> list[Any]:
    """All that is known of each source, in order."""
    found: list[Any] = []
    with Journal.temporary() as journal:
        facts = engine.facts
        reader = Reader(journal, work, facts.model, facts.vocabulary, facts.embedding_size)

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


@pytest.fixture
def feeding() -> Iterator[Any]:
    """Makes an engine for work, on this machine's CPU."""
    engines: list[Feeding] = []

    def make(work: Work) -> Feeding:
        tagger = work.open_tagger(1)
        engines.append(Feeding(work, tagger, Pool(Decoding.of(work, tagger), 2)))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@pytest.mark.parametrize("pad", ["repeat", "none"])
@pytest.mark.parametrize("channel", ["mix", "each"])
def test_results_are_those_of_a_model_that_decodes_itself(
    feeding: Any, files: list[str], pad: str, channel: str
) -> None:
    options = TagOptions(window_s=1.0, hop_s=0.5, windows=True, channel=channel, pad=pad)  # type: ignore[arg-type]
    work = Work(
        "dymn04_kd", "onnx", "cpu", BATCH, options,
        keep_scores=True, keep_window_embeddings=True, events=EventOptions(on=0.05),
    )  # fmt: skip
    expected = results(InProcess(work, work.open_tagger(1)), work, files)
    assert results(feeding(work), work, files) == expected
    assert len(expected) > 40


def test_all_batches_have_one_size_and_windows_of_several_sources(
    feeding: Any, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work("dymn04_kd", "onnx", "cpu", BATCH, TagOptions(window_s=1.0, hop_s=0.5))
    engine = feeding(work)
    backend, sizes = engine._tagger._backend, []
    answer = type(backend).run

    def spy(self: Any, mels: np.ndarray) -> Answer:
        sizes.append(len(mels))
        return answer(self, mels)

    monkeypatch.setattr(type(backend), "run", spy)
    results(engine, work, files)
    assert set(sizes) == {BATCH}
    # Where all decoders happen to wait for a source, what is there is asked for, full or not.
    n_windows, n_sources = 1 + 8 + 1 + 3 + 2 + 6, 6
    assert -(-n_windows // BATCH) <= len(sizes) < n_windows // BATCH + n_sources


def test_a_model_that_fails_ends_the_run(
    feeding: Any, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work("dymn04_kd", "onnx", "cpu", BATCH, TagOptions(window_s=1.0))
    engine = feeding(work)

    def fail(self: Any, mels: np.ndarray) -> Answer:
        raise ModelError("out of memory on the device")

    monkeypatch.setattr(type(engine._tagger._backend), "run", fail)
    with pytest.raises(ModelError, match="out of memory"):
        results(engine, work, files)


def test_a_device_that_is_no_cpu_is_fed(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class OnDevice(Work):
        def open_tagger(self, threads: int | None = None) -> Any:
            return Work("dymn04_kd", "onnx", "cpu", BATCH, self.options).open_tagger(threads)

    work = OnDevice("dymn04_kd", "torch", "cuda", None, TagOptions(window_s=1.0))
    engine = open_engine(work, files * 3, jobs=2, threads=None, limit_s=None)
    try:
        assert isinstance(engine, Feeding)
        assert len(results(engine, work, files)) > 10
    finally:
        engine.close()
    assert Path(files[0]).exists()
