from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from dymn_cli.errors import InputError, ModelError, UnsafeWeightsError, UsageError, WeightsMissingError
from dymn_cli.train.distill.stored_logits import StoredLogits, clip_id, is_logits_file

NAMES = ["Y--4gqARaEJE.mp3", "Y--PJHxphWEs.mp3", "some.clip.wav"]


@pytest.fixture
def matrix() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 3, (3, 7)).astype(np.float16)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("audio/Y--4gqARaEJE.mp3", "--4gqARaEJE"),
        ("Y--4gqARaEJE", "--4gqARaEJE"),
        ("--4gqARaEJE.wav", "--4gqARaEJE"),
        ("Yellow.wav", "Yellow"),
        ("a\\b\\c.flac", "c"),
        ("12.5 seconds later", "12.5 seconds later"),
        (".hidden", ".hidden"),
    ],
)
def test_a_clip_is_known_by_its_id(name: str, wanted: str) -> None:
    assert clip_id(name) == wanted


def test_models_are_not_taken_for_logits() -> None:
    assert is_logits_file("passt.npy")
    assert is_logits_file("x/logits.HDF5")
    assert not is_logits_file("mn04_as")
    assert not is_logits_file("teacher.safetensors")


@pytest.mark.parametrize("index", ["pickle", "list", "csv", "txt"])
def test_a_matrix_and_its_index(tmp_path: Path, matrix: np.ndarray, index: str) -> None:
    np.save(tmp_path / "logits.npy", matrix)
    if index == "pickle":
        (tmp_path / "logits.pkl").write_bytes(pickle.dumps({name: n for n, name in enumerate(NAMES)}))
    elif index == "list":
        (tmp_path / "logits.index.pkl").write_bytes(pickle.dumps(NAMES))
    elif index == "csv":
        text = "row,source\n" + "".join(f"{n},{name}\n" for n, name in enumerate(NAMES))
        (tmp_path / "logits.index.csv").write_text(text)
    else:
        (tmp_path / "logits.txt").write_text("\n".join(NAMES) + "\n")
    stored = StoredLogits.open(str(tmp_path / "logits.npy"))
    assert stored.n_classes == 7
    rows = stored.rows_of(["--PJHxphWEs.wav", "nobody", "Y--4gqARaEJE.mp3", "some.clip.wav"])
    assert rows.tolist() == [1, -1, 0, 2]
    found = stored.logits(np.array([2, 0, 2]))
    assert found.dtype == np.float32
    assert (found == matrix[[2, 0, 2]].astype(np.float32)).all()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("logits.txt", "a.wav\n\nb.wav\nc.wav\n", "line 2: empty, and it is not clear"),
        ("logits.txt", "\na.wav\nb.wav\nc.wav", "line 1: empty"),
        ("logits.txt", "a.wav\nb.wav\n", "2 names for 3 rows of logits"),
        ("logits.txt", "a.wav\nb.wav\nc.wav\nd.wav\n", "4 names for 3 rows"),
        ("logits.txt", "a.wav\nb.wav\na.wav\n", "line 3: a.wav is also on line 1"),
        ("logits.csv", "source\na.wav\nb.wav\n", "2 names for 3 rows"),
        ("logits.csv", "row,source\n0,a.wav\n1,\n2,c.wav\n", "line 3: empty"),
        ("logits.csv", "row,source\n0,a.wav\n1,b.wav\n2,a.wav\n", "line 4: a.wav is also on line 2"),
    ],
)
def test_an_index_that_may_mean_other_rows_is_refused(
    tmp_path: Path, matrix: np.ndarray, name: str, text: str, said: str
) -> None:
    np.save(tmp_path / "logits.npy", matrix)
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        StoredLogits.open(str(tmp_path / "logits.npy"))


@pytest.mark.parametrize("text", ["a\nb\nc", "a\r\nb\r\nc\r\n", "\ufeffa\nb\nc\n\n\n"])
def test_ends_of_lines_are_no_names(tmp_path: Path, matrix: np.ndarray, text: str) -> None:
    np.save(tmp_path / "logits.npy", matrix)
    (tmp_path / "logits.txt").write_bytes(text.encode())
    assert StoredLogits.open(str(tmp_path / "logits.npy")).rows_of(["c", "a"]).tolist() == [2, 0]


def test_names_that_only_a_folder_tells_apart_need_their_folder() -> None:
    stored = StoredLogits(np.zeros((2, 3), np.float32), {"a/take1.wav": 0, "b/take1.wav": 1}, "x")
    assert stored.rows_of(["b/take1.wav", "c/take1.wav", "take1.wav"]).tolist() == [1, -1, -1]
    stored = StoredLogits(np.zeros((1, 3), np.float32), {"take1.wav": 0}, "x")
    assert stored.rows_of(["a/take1.wav", "b/take1.wav"]).tolist() == [-1, -1]
    assert stored.rows_of(["a/take1.wav", "a/take1.wav"]).tolist() == [0, 0]  # two pieces of one recording


def test_hdf5_with_names(tmp_path: Path, matrix: np.ndarray) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "logits.h5", "w") as file:
        file["deep/logits"] = matrix
        file["deep/names"] = np.array(NAMES, dtype="S")
    stored = StoredLogits.open(str(tmp_path / "logits.h5"))
    rows = stored.rows_of(NAMES[::-1])
    assert (stored.logits(rows) == matrix[::-1].astype(np.float32)).all()


def test_hdf5_without_a_matrix(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "logits.h5", "w") as file:
        file["names"] = np.array(NAMES, dtype="S")
    with pytest.raises(ModelError, match="not one matrix of logits"):
        StoredLogits.open(str(tmp_path / "logits.h5"))


def test_nothing_in_an_index_is_executed(tmp_path: Path, matrix: np.ndarray) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path(tmp_path / "touched").touch, ())

    np.save(tmp_path / "logits.npy", matrix)
    (tmp_path / "logits.pkl").write_bytes(pickle.dumps({"a": Evil()}))
    with pytest.raises(UnsafeWeightsError):
        StoredLogits.open(str(tmp_path / "logits.npy"))
    assert not (tmp_path / "touched").exists()


def test_an_array_of_objects_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "logits.npy", np.array([{"a": 1}], dtype=object))
    (tmp_path / "logits.txt").write_text("a\n")
    with pytest.raises(UnsafeWeightsError, match=r"not a plain \.npy array of numbers$"):
        StoredLogits.open(str(tmp_path / "logits.npy"))


def test_logits_that_do_not_serve(tmp_path: Path, matrix: np.ndarray) -> None:
    with pytest.raises(WeightsMissingError):
        StoredLogits.open(str(tmp_path / "none.npy"))
    np.save(tmp_path / "logits.npy", matrix)
    with pytest.raises(UsageError, match="no index says which clip has which row"):
        StoredLogits.open(str(tmp_path / "logits.npy"))
    with pytest.raises(ModelError, match="has row 9"):
        StoredLogits(matrix, {"a": 9}, "x")
    with pytest.raises(ModelError, match="not a matrix of floats"):
        StoredLogits(np.zeros((3, 2), int), {"a": 0}, "x")
    matrix[1, 1] = np.nan
    with pytest.raises(ModelError, match="not finite"):
        StoredLogits(matrix, {"a": 0}, "x")


def test_what_is_no_plain_array_is_refused(tmp_path: Path, matrix: np.ndarray) -> None:
    (tmp_path / "logits.txt").write_text("\n".join(NAMES))
    path = tmp_path / "logits.npy"
    np.savez(tmp_path / "archive", matrix)
    path.write_bytes((tmp_path / "archive.npz").read_bytes())
    with pytest.raises(UnsafeWeightsError, match=r"logits\.npy: not a plain \.npy array"):
        StoredLogits.open(str(path))
    for data in (b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00\xff\xff", b"\x93NUMPY\x09\x00\x00\x00"):
        path.write_bytes(data)
        with pytest.raises(UnsafeWeightsError, match="not a plain"):
            StoredLogits.open(str(path))
    shape = "(" + "9" * 30 + ", 7)"
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(UnsafeWeightsError, match="not a plain"):
        StoredLogits.open(str(path))
    for name in ("zero.npy", "folder.npy"):
        (tmp_path / name).symlink_to("/dev/zero" if name == "zero.npy" else tmp_path)
        with pytest.raises(UnsafeWeightsError, match="not a file"):
            StoredLogits.open(str(tmp_path / name))
