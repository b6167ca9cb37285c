from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray

from dymn_cli.report.model import Tile
from dymn_cli.report.spectrogram import N_BANDS, spectrogram

RATE_HZ = 32_000


def pixels(tile: Tile) -> NDArray[np.uint8]:
    """(64, n) shades out of a PNG, read as the standard says."""
    data = io.BytesIO(tile.png)
    assert data.read(8) == b"\x89PNG\r\n\x1a\n"
    chunks = {}
    while head := data.read(8):
        length, name = struct.unpack(">I4s", head)
        body = data.read(length)
        assert struct.unpack(">I", data.read(4))[0] == zlib.crc32(name + body)
        chunks[name] = body
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert (height, depth, colour) == (N_BANDS, 4, 0)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    return np.stack([rows[:, 1:] >> 4, rows[:, 1:] & 15], axis=2).reshape(height, -1)[:, :width]


def beeps(seconds: float, at: list[float], hz: float = 3000.0) -> NDArray[np.float32]:
    """Faint noise with beeps of a fifth of a second."""
    n = round(seconds * RATE_HZ)
    samples = 1e-4 * np.random.default_rng(0).standard_normal(n)
    for start in at:
        t = np.arange(RATE_HZ // 5)
        first = round(start * RATE_HZ)
        samples[first : first + len(t)] += 0.3 * np.sin(2 * np.pi * hz * t / RATE_HZ)
    return samples.astype(np.float32)


def blocks(samples: NDArray[np.float32], size: int = 70_001):
    return (samples[start : start + size] for start in range(0, len(samples), size))


def test_a_beep_stands_where_it_sounds() -> None:
    (tile,) = spectrogram(blocks(beeps(10, [4.0])), width=500, duration_s=10.0)
    assert (tile.start_s, tile.end_s) == (0.0, pytest.approx(10.0, abs=0.05))
    shades = pixels(tile)
    assert shades.shape == (N_BANDS, 500)
    bright = np.argwhere(shades >= 12)
    assert 198 <= bright[:, 1].min() <= bright[:, 1].max() <= 212
    row = np.bincount(bright[:, 0]).argmax()
    assert 20 <= row <= 40, "3 kHz lies in the middle, low frequencies at the bottom"
    (low,) = spectrogram(blocks(beeps(10, [4.0], hz=200)), width=500, duration_s=10.0)
    assert np.bincount(np.argwhere(pixels(low) >= 12)[:, 0]).argmax() > row


def test_short_sounds_survive_in_a_narrow_picture() -> None:
    (tile,) = spectrogram(blocks(beeps(120, [60.0])), width=60, duration_s=120.0)
    shades = pixels(tile)
    assert shades.shape[1] == 60
    assert abs(int(shades.max(axis=0).argmax()) - 30) <= 1


def test_the_width_is_kept_whatever_the_header_claims() -> None:
    samples = beeps(60, [50.0])
    for claimed in (None, 1.0, 60.0, 600.0):
        (tile,) = spectrogram(blocks(samples), width=200, duration_s=claimed)
        shades = pixels(tile)
        assert 10 <= shades.shape[1] < 400
        where = float(shades.max(axis=0).argmax()) / shades.shape[1] * tile.end_s
        assert where == pytest.approx(50.1, abs=3.1)


def test_the_size_of_blocks_changes_nothing() -> None:
    samples = beeps(25, [3, 21])
    one, other = (spectrogram(blocks(samples, n), width=300, duration_s=25.0) for n in (999_999, 12_345))
    assert one == other


def test_stretches_have_finer_pictures() -> None:
    samples = beeps(100, [40.0, 80.0])
    tiles = spectrogram(
        blocks(samples), width=100, duration_s=100.0, finer=[(38, 42), (79, 82)], finer_per_s=25
    )
    assert [(round(tile.start_s, 2), round(tile.end_s, 1)) for tile in tiles[1:]] == [(38, 42), (79, 82)]
    shades = pixels(tiles[1])
    assert shades.shape[1] == 100
    assert abs(int(shades.max(axis=0).argmax()) - 52) <= 3


def test_wide_pictures_are_cut_into_tiles() -> None:
    tiles = spectrogram(blocks(beeps(60, [30.0])), width=6000, duration_s=60.0)
    assert [pixels(tile).shape[1] for tile in tiles] == [4096, 1904]
    assert tiles[0].end_s == tiles[1].start_s


@pytest.mark.parametrize("n_samples", [0, 10, 1600])
def test_next_to_nothing(n_samples: int) -> None:
    tiles = spectrogram(blocks(np.zeros(n_samples, np.float32)), width=100, duration_s=None)
    assert all(not pixels(tile).any() for tile in tiles)


def test_memory_does_not_grow_with_the_recording() -> None:
    minute = beeps(60, [30.0])
    tracemalloc.start()
    try:
        spectrogram((minute for _ in range(15)), width=2000, duration_s=None)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20, "the samples alone are 110 MB"
    finally:
        tracemalloc.stop()
