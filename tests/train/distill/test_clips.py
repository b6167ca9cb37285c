from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from dymn_cli.datasets.audio_cache import cut_or_repeat, open_cache
from dymn_cli.datasets.recordings import find_recordings
from dymn_cli.errors import InputError, UsageError
from dymn_cli.frontend import FrontEndConfig, LogMel
from dymn_cli.train.distill.clips import CachedCorpus, first_log_mel

FRONT_END = FrontEndConfig()


@pytest.fixture
def corpora(tmp_path: Path) -> tuple[CachedCorpus, CachedCorpus]:
    """Two recordings, as samples and as log-mels."""
    rng = np.random.default_rng(0)
    (tmp_path / "data" / "a").mkdir(parents=True)
    for name, seconds in (("a/short.wav", 0.5), ("long.wav", 3.0)):
        soundfile.write(tmp_path / "data" / name, rng.normal(0, 0.1, round(seconds * 32_000)), 32_000)
    recordings, _ = find_recordings([str(tmp_path / "data")])
    return tuple(
        CachedCorpus(open_cache(recordings, tmp_path / "cache", kind=kind, front_end=FRONT_END), recordings)
        for kind in ("samples", "log-mels")
    )


def test_both_caches_hear_the_same(corpora: tuple[CachedCorpus, CachedCorpus]) -> None:
    samples, mels = corpora
    assert samples.names == mels.names == ("long.wav", "a/short.wav")
    assert samples.groups == ("data", "a")
    for index in range(2):
        one, other = (corpus.log_mel(index, FRONT_END) for corpus in corpora)
        assert one.shape == other.shape
        assert np.abs(one - other.astype(np.float32)).max() < 5e-3


def test_the_first_window_is_cut_or_repeated_as_in_tagging(
    corpora: tuple[CachedCorpus, CachedCorpus],
) -> None:
    for index, start in ((0, slice(0, 64_000)), (1, slice(0, 16_000))):
        samples = corpora[0].samples(index)[start].astype(np.float32) / 32_768
        wanted = LogMel()(np.resize(samples, 64_000))[0]
        for corpus in corpora:
            found = first_log_mel(corpus, index, FRONT_END, 2.0)
            assert found.shape == (1, 128, 200)
            assert np.abs(found - wanted).max() < 1e-4


def test_a_later_minute_of_a_recording_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dymn_cli.datasets.audio_cache.PIECE_S", 1)
    rng = np.random.default_rng(1)
    (tmp_path / "data").mkdir()
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / "data" / name, rng.normal(0, 0.1, 80_000), 32_000)
    recordings, _ = find_recordings([str(tmp_path / "data")])
    kept, heard = (
        CachedCorpus(open_cache(recordings, tmp_path / "c", kind=kind, front_end=FRONT_END), recordings)
        for kind in ("samples", "log-mels")
    )
    assert kept.names == heard.names == ("a.wav",) * 3 + ("b.wav",) * 3
    for index in range(6):
        assert np.abs(kept.samples(index) / 32_768 - heard.samples(index)).max() < 1e-4
    (tmp_path / "data" / "b.wav").unlink()
    with pytest.raises(InputError, match="no such file"):
        heard.samples(4)


def test_log_mels_cannot_become_other_log_mels(corpora: tuple[CachedCorpus, CachedCorpus]) -> None:
    with pytest.raises(UsageError, match="another front end"):
        corpora[1].log_mel(0, FrontEndConfig(n_mels=64))


def test_samples_serve_any_front_end(corpora: tuple[CachedCorpus, CachedCorpus]) -> None:
    other = FrontEndConfig(n_mels=64)
    found = corpora[0].log_mel(1, other)
    wanted = LogMel(other)(corpora[0].samples(1).astype(np.float32) / 32_768)[0, 0].T
    assert np.allclose(found, wanted, atol=1e-5)


def test_windows_of_samples() -> None:
    samples = np.arange(10, dtype=np.int16)
    assert (cut_or_repeat(samples, 25) * 32_768).round().tolist() == [*range(10), *range(10), *range(5)]
    starts = {round(cut_or_repeat(samples, 4, np.random.default_rng(seed))[0] * 32_768) for seed in range(60)}
    assert starts == set(range(7))
    assert cut_or_repeat(np.ones(5, np.float32), 3).tolist() == [1, 1, 1]
