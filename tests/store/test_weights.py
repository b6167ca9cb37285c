"""Model files: whole, of known content, and nothing but numbers; else one line that says why not."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save

from dymn_cli.errors import ChecksumError, ModelError, OutputError, UnsafeWeightsError, WeightsMissingError
from dymn_cli.frontend.melbank import FrontEndConfig
from dymn_cli.labels import Vocabulary
from dymn_cli.model.config import ModelConfig
from dymn_cli.store import registry
from dymn_cli.store.header import ModelHeader
from dymn_cli.store.identity import identify
from dymn_cli.store.registry import DEFAULT_MODEL, model_spec
from dymn_cli.store.weights import read_weights, save_weights

NAMES = ("rain", "Kläffen, laut", "雨")


@pytest.fixture(scope="module")
def header() -> ModelHeader:
    config = ModelConfig(width=0.1, n_classes=3, kernels=2, temperature=30.0, dy_relu=())
    return ModelHeader("mine", config, FrontEndConfig(n_hop=160), Vocabulary.from_names(NAMES))


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"b.weight": (3, 2), "a.weight": (2, 1, 3, 3), "empty": (0,), "scalar": ()}
    return {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}


@pytest.fixture
def saved(tmp_path: Path, header: ModelHeader, tensors: dict[str, np.ndarray]) -> Path:
    path = tmp_path / "mine.safetensors"
    save_weights(path, header, tensors)
    return path


def file_of(
    metadata: dict[str, str] | None,
    *,
    dtype: str = "F32",
    shape: list[int],
    data: bytes,
    end: int | None = None,
) -> bytes:
    """A safetensors file with one tensor, written by hand so that it may lie."""
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data) if end is None else end]}
    fields = {"x": entry} if metadata is None else {"__metadata__": metadata, "x": entry}
    text = json.dumps(fields).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_what_is_saved_is_what_is_read(
    saved: Path, header: ModelHeader, tensors: dict[str, np.ndarray]
) -> None:
    weights = read_weights(saved)
    assert weights.header.name == "mine"
    assert weights.header.config == header.config
    assert weights.header.front_end == header.front_end
    assert weights.header.vocabulary.names == NAMES
    assert weights.tensors.keys() == tensors.keys()
    for key, tensor in tensors.items():
        assert (weights.tensors[key].dtype, weights.tensors[key].shape) == (np.float32, tensor.shape)
        np.testing.assert_array_equal(weights.tensors[key], tensor)


def test_other_readers_of_safetensors_read_it(saved: Path, tensors: dict[str, np.ndarray]) -> None:
    for key, tensor in load_file(saved).items():
        np.testing.assert_array_equal(tensor, tensors[key])


def test_the_hash_is_that_of_the_file(saved: Path) -> None:
    expected = hashlib.sha256(saved.read_bytes()).hexdigest()
    assert read_weights(saved).sha256 == identify(saved).sha256 == expected


def test_the_same_model_gives_the_same_bytes(
    saved: Path, tmp_path: Path, header: ModelHeader, tensors: dict[str, np.ndarray]
) -> None:
    again = tmp_path / "again.safetensors"
    backwards = {key: np.array(tensors[key], order="F") for key in reversed(tensors)}
    assert save_weights(again, header, backwards) == identify(saved).sha256
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.safetensors", "mine.safetensors"]


def test_audioset_labels_are_named_once_not_listed(header: ModelHeader) -> None:
    audioset = dataclasses.replace(
        header, config=header.config.with_classes(527), vocabulary=Vocabulary.audioset()
    )
    metadata = audioset.to_metadata()
    assert metadata["dymn.labels"] == "audioset"
    assert ModelHeader.from_metadata(metadata, "here") == audioset


def test_a_file_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, header: ModelHeader, tensors: dict[str, np.ndarray]
) -> None:
    with pytest.raises(OutputError):
        save_weights(tmp_path / "no" / "folder.safetensors", header, tensors)
    (tmp_path / "taken.safetensors").mkdir()
    with pytest.raises(OutputError):
        save_weights(tmp_path / "taken.safetensors", header, tensors)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.safetensors"]


def test_the_shipped_model_with_one_flipped_byte_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = model_spec(DEFAULT_MODEL)
    data = bytearray(spec.path.read_bytes())
    data[-1000] ^= 1
    (tmp_path / spec.file).write_bytes(data)
    monkeypatch.setattr(registry, "weights_folder", lambda: tmp_path)
    with pytest.raises(ChecksumError, match="SHA-256") as caught:
        read_weights(spec)
    assert "reinstall" in (caught.value.hint or "")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match=r"gone\.safetensors"):
        read_weights(tmp_path / "gone.safetensors")
    with pytest.raises(WeightsMissingError, match=r"gone\.safetensors"):
        identify(tmp_path / "gone.safetensors")
    with pytest.raises(WeightsMissingError):
        read_weights(tmp_path)


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "text": lambda _: b"version https://git-lfs.github.com/spec/v1\n",
    "pickle": lambda _: pickle.dumps({"a": 1}),
    "random": lambda _: np.random.default_rng(0).bytes(4096),
    "truncated": lambda data: data[:-1],
    "half a header": lambda data: data[:40],
    "longer than it says": lambda data: data + b"\0",
    "enormous header": lambda data: (2**62).to_bytes(8, "little") + data[8:],
    "enormous tensor": lambda _: file_of({}, shape=[2**40, 2**40], data=b"\0" * 8),
    "offsets past the end": lambda _: file_of({}, shape=[2], data=b"\0" * 4, end=8),
    "shape beyond its bytes": lambda _: file_of({}, shape=[3], data=b"\0" * 8),
    "negative size": lambda _: file_of({}, shape=[-2], data=b"\0" * 8),
    "unknown numbers": lambda _: file_of({}, dtype="object", shape=[1], data=b"\0" * 8),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_file_that_is_not_what_it_says_is_refused_in_one_line(damage: str, saved: Path) -> None:
    saved.write_bytes(DAMAGED[damage](saved.read_bytes()))
    with pytest.raises(UnsafeWeightsError, match="not a readable safetensors file") as caught:
        read_weights(saved)
    assert str(saved) in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "C64", "BOOL"])
def test_kinds_of_numbers_that_no_model_of_ours_has_are_named(
    dtype: str, header: ModelHeader, tmp_path: Path
) -> None:
    size = {"BF16": 2, "C64": 8}.get(dtype, 1)
    path = tmp_path / "x.safetensors"
    path.write_bytes(file_of(header.to_metadata(), dtype=dtype, shape=[1], data=b"\0" * size))
    with pytest.raises(ModelError, match=rf"x holds {dtype} numbers"):
        read_weights(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value: float, header: ModelHeader, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(file_of(header.to_metadata(), shape=[1], data=np.float32(value).tobytes()))
    with pytest.raises(ModelError, match="not finite"):
        read_weights(path)


def test_other_precisions_become_float32(header: ModelHeader, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    given = {"half": np.float16([1.5]), "double": np.float64([0.1]), "count": np.int64([7])}
    path.write_bytes(save(given, metadata=header.to_metadata()))
    tensors = read_weights(path).tensors
    assert {key: (value.dtype, value[0]) for key, value in tensors.items()} == {
        "half": (np.float32, 1.5),
        "double": (np.float32, np.float32(0.1)),
        "count": (np.float32, 7),
    }
    counters = {"n.num_batches_tracked": np.float16([np.inf])}
    path.write_bytes(save({**given, **counters}, metadata=header.to_metadata()))
    assert read_weights(path).tensors["half"] == 1.5
    path.write_bytes(save({"a.weight": np.int64([7])}, metadata=header.to_metadata()))
    with pytest.raises(ModelError, match=r"a\.weight holds whole numbers"):
        read_weights(path)
    path.write_bytes(save({"x": np.float64([1e300])}, metadata=header.to_metadata()))
    with pytest.raises(ModelError, match="not finite"):
        read_weights(path)


BAD_METADATA = {
    "none at all": (None, "not a dymn model"),
    "a foreign model": ({"format": "pt"}, "not a dymn model: its metadata lacks dymn.format"),
    "a newer format": ({"dymn.format": "2"}, "newer dymn"),
    "no config": ({"dymn.config": None}, "lacks dymn.config"),
    "config is not JSON": ({"dymn.config": "width 1"}, "not readable"),
    "config is a list": ({"dymn.config": "[1]"}, "not readable"),
    "unknown knob": ({"dymn.config": '{"turbo": true}'}, "turbo"),
    "impossible width": ({"dymn.config": '{"width": -1}'}, "width"),
    "front end without bands": ({"dymn.front_end": '{"n_mels": 0}'}, "n_mels"),
    "labels are no JSON": ({"dymn.labels": "rain, snow"}, "not readable"),
    "labels are one string": ({"dymn.labels": '"abc"'}, "not a list of names"),
    "labels are numbers": ({"dymn.labels": "[1, 2, 3]"}, "not a list of names"),
    "a label twice": ({"dymn.labels": '["a", "b", "a"]'}, "twice"),
    "labels without end": ({"dymn.labels": "[" * 100_000}, "not readable"),
    "too few labels": ({"dymn.labels": '["a", "b"]'}, "2 labels for 3 classes"),
    "a purpose unheard of": ({"dymn.purpose": "world peace"}, "no purpose 'world peace'"),
    "labels of AudioSet for three classes": ({"dymn.labels": "audioset"}, "527 labels for 3 classes"),
}


@pytest.mark.parametrize("case", BAD_METADATA)
def test_metadata_that_describe_no_model_say_what_is_wrong(
    case: str, header: ModelHeader, tmp_path: Path
) -> None:
    changes, message = BAD_METADATA[case]
    metadata = None
    if changes is not None:
        merged = {**header.to_metadata(), **changes} if "format" not in changes else changes
        metadata = {key: value for key, value in merged.items() if value is not None}
    path = tmp_path / "x.safetensors"
    path.write_bytes(file_of(metadata, shape=[1], data=b"\0" * 4))
    with pytest.raises(ModelError, match=message) as caught:
        read_weights(path)
    assert caught.value.message.startswith(str(path))
    assert "\n" not in caught.value.message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_gets_past_our_own_errors(data: st.DataObject, saved: Path) -> None:
    original = saved.read_bytes()
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = saved.with_name("damaged.safetensors")
    path.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        weights = read_weights(path)
    except ModelError as error:
        assert "\n" not in error.message
    else:
        assert all(np.isfinite(tensor).all() for tensor in weights.tensors.values())


@pytest.mark.parametrize(
    "shape",
    [
        [-1, 4],
        [1 << 62],
        [1 << 63],
        [1 << 64, 0],
        [0, 1 << 62],
        [0, 1 << 63],
        [1 << 32, 1 << 32],
        [1 << 40, 1 << 40, 1 << 40],
        [1] * 100,
        [0] * 70,
        [1.5],
        "4",
        None,
        [[4]],
    ],
    ids=lambda shape: str(shape)[:20],
)
@pytest.mark.parametrize("n_values", [0, 1])
def test_shapes_that_no_array_has_are_refused(
    shape: list[int], n_values: int, header: ModelHeader, tmp_path: Path
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(file_of(header.to_metadata(), shape=shape, data=b"\0" * 4 * n_values))
    with pytest.raises(UnsafeWeightsError) as caught:
        read_weights(path)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "offsets", [[0, 2], [0, 4], [2, 6], [-4, 0], [4, 0], [0, 1 << 63], [0, 1 << 64], [0], None]
)
def test_places_that_are_not_in_the_file_are_refused(
    offsets: object, header: ModelHeader, tmp_path: Path
) -> None:
    fields = {
        "__metadata__": header.to_metadata(),
        "x": {"dtype": "F32", "shape": [1], "data_offsets": offsets},
        "y": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},  # overlaps, where x is whole
    }
    text = json.dumps(fields).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(UnsafeWeightsError, match=r"x\.safetensors: not a readable safetensors file"):
        read_weights(path)


@pytest.mark.parametrize("name", ["x.safetensors", "x.pt", "x.onnx"])
def test_a_file_of_a_hundred_gigabytes_is_refused_unread(name: str, tmp_path: Path) -> None:
    from dymn_cli.store.registry import resolve

    path = tmp_path / name
    with path.open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(100 << 30)
    with pytest.raises(ModelError, match="larger than 4 GB"):
        resolve(str(path))
    if not name.endswith(".onnx"):
        with pytest.raises(ModelError, match="larger than"):
            read_weights(path)
