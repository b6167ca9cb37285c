from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dymn_cli.errors import InputError

h5py = pytest.importorskip("h5py")

from dymn_cli.train.hdf5 import Hdf5Clips, PackedLabels  # noqa: E402

RATE_HZ = 32_000
N_CLASSES = 12


def mp3(seed: int) -> np.ndarray:
    t = np.arange(RATE_HZ) / RATE_HZ
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.3 * np.sin(2 * np.pi * 200 * (seed + 1) * t), RATE_HZ, format="MP3")
    return np.frombuffer(buffer.getvalue(), np.uint8)


def write(path: Path, names: list[str], *, target: bool = True, damaged: int = -1) -> np.ndarray:
    """An AudioSet-like file; returns its labels."""
    rng = np.random.default_rng(len(names))
    labels = (rng.random((len(names), N_CLASSES)) < 0.3).astype(np.uint8)
    with h5py.File(path, "w") as file:
        file["audio_name"] = np.array(names, dtype="S20")
        clips = file.create_dataset("mp3", (len(names),), dtype=h5py.vlen_dtype(np.uint8))
        for n in range(len(names)):
            clips[n] = np.zeros(50, np.uint8) if n == damaged else mp3(n)
        if target:
            file["target"] = np.packbits(labels, axis=1)
    return labels


def test_clips_of_several_files_are_one_after_the_other(tmp_path: Path) -> None:
    first = write(tmp_path / "a.h5", ["Yaaa.mp3", "Ybbb.mp3"])
    second = write(tmp_path / "b.h5", ["Yccc.mp3"])
    clips = Hdf5Clips([str(tmp_path / "a.h5"), str(tmp_path / "b.h5")], N_CLASSES)
    assert clips.names == ("Yaaa.mp3", "Ybbb.mp3", "Yccc.mp3")
    assert clips.labels is not None
    assert (clips.labels[np.array([2, 0])] == np.concatenate([second, first[:1]])).all()
    assert (clips.labels[1:3] == np.concatenate([first[1:], second])).all()
    for index, tone_hz in ((0, 200), (1, 400), (2, 200)):
        samples = clips.decode(index)
        assert samples.dtype == np.float32
        spectrum = np.abs(np.fft.rfft(samples[:RATE_HZ]))
        assert spectrum.argmax() * RATE_HZ / min(len(samples), RATE_HZ) == pytest.approx(tone_hz, abs=5)


def test_labels_may_be_missing(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", ["Yaaa.mp3"], target=False)
    assert Hdf5Clips([str(tmp_path / "a.h5")], N_CLASSES).labels is None


def test_a_damaged_clip_is_an_input_error(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", ["Yaaa.mp3", "Ybbb.mp3"], damaged=1)
    clips = Hdf5Clips([str(tmp_path / "a.h5")], N_CLASSES)
    with pytest.raises(InputError, match=r"Ybbb\.mp3"):
        clips.decode(1)


def test_labels_stay_packed() -> None:
    labels = (np.random.default_rng(0).random((5, 527)) < 0.1).astype(np.uint8)
    packed = PackedLabels(np.packbits(labels, axis=1), 527)
    assert len(packed) == 5
    assert (packed[np.array([4, 4, 1])] == labels[[4, 4, 1]]).all()


def test_what_is_no_hdf5_file(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"no")
    with pytest.raises(InputError, match="not a readable HDF5 file"):
        Hdf5Clips([str(tmp_path / "a.h5")], N_CLASSES)
    with pytest.raises(InputError, match="no such file"):
        Hdf5Clips([str(tmp_path / "b.h5")], N_CLASSES)


def test_a_missing_field_and_wrong_labels(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["audio_name"] = np.array(["a"], dtype="S2")
    with pytest.raises(InputError, match="no field 'mp3'"):
        Hdf5Clips([str(tmp_path / "a.h5")], N_CLASSES)
    write(tmp_path / "b.h5", ["Yaaa.mp3"])
    with pytest.raises(InputError, match="not labels of 527 classes"):
        Hdf5Clips([str(tmp_path / "b.h5")], 527)
