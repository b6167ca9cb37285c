"""Synthetic recordings, as arrays and as files in the forms that the wild has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import sounds

RATE = 44_100


@pytest.fixture(scope="session")
def chirp_44k1_stereo() -> np.ndarray:
    """2.5 s at 44.1 kHz: a chirp on the left, a tone with noise on the right; int16 values as float32."""
    left = sounds.sweep(200, 1500, 2.5, RATE)
    right = sounds.sine(440, 2.5, RATE, level=0.3) + sounds.noise(len(left))
    return (np.round(np.stack([left, right], axis=1) * 32768) / 32768).astype(np.float32)


@pytest.fixture
def chirp_wav(tmp_path: Path, chirp_44k1_stereo: np.ndarray) -> Path:
    """The chirp as 16-bit WAV."""
    path = tmp_path / "chirp.wav"
    soundfile.write(path, chirp_44k1_stereo, RATE, subtype="PCM_16")
    return path
