"""Recordings are the same sound if they are so moment by moment, whatever was done to loudness and treble."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from dymn_cli.bench.retrieval import copy_of
from dymn_cli.errors import AudioNotFoundError
from dymn_cli.search import Place, SameSound
from dymn_cli.search.same_sound import SAME, picture, slid

RATE_HZ = 32_000


def burst(seed: int, seconds: float = 1.5) -> np.ndarray:
    """A hit that fades: noise of the same colour and envelope, whatever the seed."""
    n = round(seconds * RATE_HZ)
    noise = np.random.default_rng(seed).standard_normal(n)
    return (0.1 * noise * np.exp(-3 * np.arange(n) / n)).astype(np.float32)


def alike(one: np.ndarray, other: np.ndarray) -> float:
    first, second = picture(one), picture(other)
    assert first is not None and second is not None
    return slid(first, second)


@pytest.mark.parametrize("kind", ["mp3 32k", "trimmed", "+6 dB", "-6 dB"])
def test_a_copy_is_the_same(kind: str) -> None:
    assert alike(burst(0), copy_of(burst(0), kind)) > SAME + 0.05


def test_another_recording_of_the_same_kind_of_sound_is_not() -> None:
    assert max(alike(burst(0), burst(seed)) for seed in range(1, 20)) < SAME - 0.1


def test_it_does_not_matter_which_one_is_given_first() -> None:
    trimmed = copy_of(burst(0), "trimmed")
    assert alike(burst(0), trimmed) == pytest.approx(alike(trimmed, burst(0)))


def test_a_part_too_short_says_nothing() -> None:
    assert slid(*(np.ones((n, 24), np.float32) for n in (3, 200))) == 0.0


@pytest.mark.parametrize("hertz", [0, 300, 1000, 9000])
def test_what_is_even_or_too_short_has_no_picture(hertz: float) -> None:
    tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(2 * RATE_HZ) / RATE_HZ)
    assert picture(tone.astype(np.float32)) is None
    assert picture(burst(0, 0.1)) is None
    assert picture(np.zeros(0, np.float32)) is None


def test_rows_of_a_library_are_what_is_between_their_times(tmp_path: Path) -> None:
    sound, quiet = burst(0), 0.001 * burst(5, 2.0)
    sf.write(tmp_path / "alone.wav", sound, RATE_HZ)
    both = np.stack([quiet, np.concatenate([sound, quiet[len(sound) :]])], axis=1)
    sf.write(tmp_path / "second.wav", np.concatenate([both[::-1], both]), RATE_HZ)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")

    def path_of(name: str) -> str:
        if name == "gone.wav":
            raise AudioNotFoundError("gone.wav: not found")
        return str(tmp_path / name)

    same = SameSound(path_of)
    alone = Place("alone.wav", "mix", 0.0, 1.5)
    assert same(alone, Place("second.wav", "1", 2.0, 3.5))
    assert not same(alone, Place("second.wav", "0", 2.0, 3.5))
    assert not same(alone, Place("second.wav", "1", 0.0, 1.5))
    assert not same(alone, Place("gone.wav", "mix", 0.0, 1.5))
    assert not same(Place("broken.wav", "mix", 0.0, 1.5), Place("broken.wav", "mix", 0.0, 1.5))
