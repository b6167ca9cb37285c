from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sounds

from dymn_cli.errors import InputError

h5py = pytest.importorskip("h5py")

from dymn_cli.datasets.audioset_hdf5 import Hdf5Clips, PackedLabels, field_of  # noqa: E402
from dymn_cli.train.distill.stored_logits import StoredLogits  # noqa: E402

RATE_HZ = 32_000
N_CLASSES = 12


def mp3(seed: int) -> np.ndarray:
    data = sounds.encoded(sounds.sine(200 * (seed + 1), 1, level=0.3), RATE_HZ, "MP3")
    return np.frombuffer(data, np.uint8)


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


def packed_file(folder: Path, **changes: Any) -> str:
    """A file of one clip, with one of its fields made in another way."""
    path = folder / "clips.h5"
    plain = {
        "audio_name": np.array([b"Yabcdefghijk.mp3"]),
        "mp3": np.zeros((1, 10), np.uint8),
        "target": np.zeros((1, 66), np.uint8),
    }
    with h5py.File(path, "w") as file:
        for name, values in plain.items():
            if name in changes:
                changes[name](file, name)
            else:
                file[name] = values
    return str(path)


def external_link(file: h5py.File, name: str) -> None:
    file[name] = h5py.ExternalLink("other.h5", "/secret")


def soft_link(file: h5py.File, name: str) -> None:
    file[name] = h5py.SoftLink("/nowhere")


def external_values(file: h5py.File, name: str) -> None:
    file.create_dataset(name, (1, 66), "u1", external=[("/etc/hostname", 0, 66)])


def virtual(file: h5py.File, name: str) -> None:
    layout = h5py.VirtualLayout((1, 66), "u1")
    layout[0] = h5py.VirtualSource("/tmp/other.h5", "secret", (66,))
    file.create_virtual_dataset(name, layout)


def huge(file: h5py.File, name: str) -> None:
    file.create_dataset(name, (1 << 40, 66), "u1", chunks=(1 << 10, 66))


def huge_chunk(file: h5py.File, name: str) -> None:
    file.create_dataset(name, (1 << 16, 1 << 15), "u1", chunks=(1 << 16, 1 << 15), compression="gzip")


def group(file: h5py.File, name: str) -> None:
    file.create_group(name)


@pytest.mark.parametrize("field", ["audio_name", "mp3", "target"])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (external_link, "a link to another place"),
        (soft_link, "a link to another place"),
        (external_values, "values in other files"),
        (virtual, "values in other files"),
        (huge, "is larger than what the file holds"),
        (huge_chunk, "is larger than what the file holds"),
        (group, "is not a dataset"),
    ],
)
def test_values_that_are_not_in_the_file_are_refused(
    field: str, make: Any, said: str, tmp_path: Path
) -> None:
    path = packed_file(tmp_path, **{field: make})
    with pytest.raises(InputError, match=said) as caught:
        Hdf5Clips([path], 527)
    assert f"{path}: {field}" in caught.value.message


def test_what_deflate_makes_small_is_taken(tmp_path: Path) -> None:
    """Labels of a million clips nearly all of which are zeros."""

    def zeros(file: h5py.File, name: str) -> None:
        file.create_dataset(name, data=np.zeros((400_000, 66), np.uint8), compression="gzip")

    with h5py.File(packed_file(tmp_path, target=zeros)) as file:
        assert field_of(file, "target").shape == (400_000, 66)


@pytest.mark.parametrize("make", [external_values, virtual, huge])
def test_logits_that_are_not_in_the_file_are_refused(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "logits.h5"
    with h5py.File(path, "w") as file:
        file["names"] = np.array([b"a", b"b"])
        file["logits"] = np.zeros((2, 527), np.float32)
        make(file, "more")
    with pytest.raises(InputError, match=r"logits\.h5: /more"):
        StoredLogits.open(str(path))
