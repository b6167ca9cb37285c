"""Recordings with labels, decoded once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from dymn_cli.datasets.dataset import Dataset
from dymn_cli.datasets.label_tables import LabelRow
from dymn_cli.errors import InputError
from dymn_cli.train.finetune.data import open_labelled

RATE_HZ = 32_000


def ramp(n: int) -> np.ndarray:
    """Every sample says where it stands, to what 16 bits can tell."""
    return np.linspace(-0.5, 0.5, n)


def dataset(*paths: Path) -> Dataset:
    return Dataset(
        "some",
        ("a", "b"),
        ("", ""),
        tuple(LabelRow(str(path), ("ab"[n % 2],)) for n, path in enumerate(paths)),
        False,
    )


def test_a_long_recording_is_one_recording(tmp_path: Path) -> None:
    lengths = {"a.wav": 9_000, "long.wav": 130 * RATE_HZ, "z.wav": 40_000}
    for name, n in lengths.items():
        soundfile.write(tmp_path / name, ramp(n), RATE_HZ, "FLOAT")
    audio, skipped = open_labelled(dataset(*(tmp_path / name for name in lengths)), tmp_path / "cache")
    assert skipped == []
    assert audio.n_samples.tolist() == list(lengths.values())
    assert audio.longest_s == 130
    windows = list(audio.windows(1))
    assert [len(window) for window in windows] == [10 * RATE_HZ] * 13
    np.testing.assert_allclose(np.concatenate(windows), ramp(130 * RATE_HZ), atol=2e-5)
    (only,) = audio.windows(0)  # repeated, as `dymn tag` has it
    np.testing.assert_allclose(only, np.resize(ramp(9_000), 10 * RATE_HZ), atol=2e-5)


def test_an_excerpt_is_from_anywhere(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", ramp(3 * RATE_HZ), RATE_HZ, "FLOAT")
    soundfile.write(tmp_path / "b.wav", ramp(RATE_HZ), RATE_HZ, "FLOAT")
    audio, _ = open_labelled(dataset(tmp_path / "a.wav", tmp_path / "b.wav"), tmp_path / "cache")
    generator = np.random.default_rng(0)
    cuts = [audio.excerpt(0, RATE_HZ, generator) for _ in range(20)]
    assert {len(cut) for cut in cuts} == {RATE_HZ}
    assert np.std([cut[0] for cut in cuts]) > 0.1
    np.testing.assert_allclose(audio.excerpt(1, 2 * RATE_HZ, generator), np.tile(ramp(RATE_HZ), 2), atol=2e-5)


def test_what_cannot_be_decoded_costs_only_itself(tmp_path: Path) -> None:
    for name in ("a.wav", "c.wav"):
        soundfile.write(tmp_path / name, ramp(RATE_HZ), RATE_HZ)
    (tmp_path / "b.wav").write_bytes(b"RIFF")
    (tmp_path / "d.wav").touch()
    data = dataset(*(tmp_path / f"{name}.wav" for name in "abcd"))
    seen: list[tuple[int, float]] = []
    audio, skipped = open_labelled(
        data, tmp_path / "cache", done=lambda n_all, seconds: seen.append((n_all, seconds))
    )
    assert [path for path, _ in skipped] == [str(tmp_path / "b.wav"), str(tmp_path / "d.wav")]
    assert [example.source for example in audio.dataset.examples] == [
        str(tmp_path / "a.wav"),
        str(tmp_path / "c.wav"),
    ]
    assert sorted(seen) == [(4, 0.0), (4, 0.0), (4, 1.0), (4, 1.0)]
    with pytest.raises(InputError, match="none of 2 recordings can be decoded"):
        open_labelled(dataset(tmp_path / "b.wav", tmp_path / "d.wav"), tmp_path / "cache")


def test_what_is_decoded_once_is_remembered(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", ramp(RATE_HZ), RATE_HZ)
    data = dataset(tmp_path / "a.wav")
    first, _ = open_labelled(data, tmp_path / "cache")
    again, _ = open_labelled(
        data, tmp_path / "cache", done=lambda n_all, seconds: pytest.fail("decoded again")
    )
    assert again.fingerprint == first.fingerprint
    for one, other in zip(again.windows(0), first.windows(0), strict=True):
        np.testing.assert_array_equal(one, other)
    soundfile.write(tmp_path / "a.wav", ramp(RATE_HZ)[::-1], RATE_HZ)
    other, _ = open_labelled(data, tmp_path / "cache")
    assert other.fingerprint != first.fingerprint
