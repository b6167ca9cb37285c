"""Spectrograms for pictures: right in time, frequency and level, and no wider than asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from dymn_cli.errors import InputError
from dymn_cli.frontend.logmel import LogMel
from dymn_cli.plotting.spectrogram import Columns, read_spectrogram, read_stretch

RATE_HZ = 32_000


def noise(seconds: float) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(round(seconds * RATE_HZ))).astype(np.float32)


@pytest.mark.parametrize("seconds", [0.5, 9.99, 10.05, 31.4])
def test_chunks_leave_no_edge(seconds: float) -> None:
    samples = noise(seconds)
    found = read_spectrogram((samples, RATE_HZ), max_columns=10_000)
    whole = (LogMel()(samples)[0, 0] * 5 - 4.5) * 10 / np.log(10)
    assert found.levels.shape == whole.shape
    np.testing.assert_allclose(found.levels, whole, atol=1e-3)
    assert (found.start_s, found.column_s) == (0, 0.01)
    assert found.end_s == pytest.approx(seconds)


def test_a_stretch_is_cut_out_to_the_sample() -> None:
    samples = noise(5)
    blocks = list(read_stretch((samples, RATE_HZ), start_s=1.25, end_s=3.5))
    np.testing.assert_array_equal(np.concatenate(blocks), samples[40_000:112_000])
    found = read_spectrogram((samples, RATE_HZ), start_s=1.25, end_s=3.5)
    assert (found.start_s, found.end_s) == (1.25, 3.5)


@pytest.mark.parametrize(("start_s", "said"), [(5.0, "it ends at 5.0 s"), (4.95, "too short for a picture")])
def test_a_stretch_beyond_the_end_is_refused(start_s: float, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_spectrogram((noise(5), RATE_HZ), start_s=start_s)


def test_a_short_sound_in_a_long_recording_stays_visible(tmp_path: Path) -> None:
    samples = np.zeros(120 * RATE_HZ, np.float32)
    samples[100 * RATE_HZ : 100 * RATE_HZ + 1600] = 0.5 * np.sin(2 * np.pi * 4000 * np.arange(1600) / RATE_HZ)
    sf.write(tmp_path / "night.wav", samples, RATE_HZ)
    found = read_spectrogram(str(tmp_path / "night.wav"), max_columns=500)
    assert 500 <= found.levels.shape[1] < 1000
    loudest = found.levels.max(axis=0)
    column = int(loudest.argmax())
    assert column * found.column_s <= 100.05
    assert (column + 1) * found.column_s >= 100
    assert loudest[column] - np.median(loudest) > 60


@pytest.mark.parametrize("n", [1, 7, 8, 9, 1000, 1023])
@pytest.mark.parametrize("piece", [1, 3, 100])
def test_columns_are_joined_alike_however_they_come(n: int, piece: int) -> None:
    values = np.random.default_rng(n).random((2, n)).astype(np.float32)
    columns = Columns(4)
    for start in range(0, n, piece):
        columns.add(values[:, start : start + piece])
    found, joined = columns.result()
    width = int(joined)
    expected = [values[:, at : at + width].max(axis=1) for at in range(0, n, width)]
    np.testing.assert_array_equal(found, np.stack(expected, axis=1))
    assert found.shape[1] <= 9
